import { runMutationCampaign } from '../support/mutation-campaign.ts'
import { createPresetMutationRun } from '../support/preset-mutation.ts'

/**
 * Damaged lines of every preset, in every envelope: no crash, no hang, no other line read wrongly, memory flat.
 *
 *     node test/campaign/mutate-presets.ts [--seed 1] [--count 1000000]
 */
await runMutationCampaign({ name: 'mutate-presets', url: import.meta.url, createRun: createPresetMutationRun })
