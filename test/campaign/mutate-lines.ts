import { createLineMutationRun } from '../support/line-mutation.ts'
import { runMutationCampaign } from '../support/mutation-campaign.ts'

/**
 * Damaged lines of access logs, text and JSON: no crash, no hang, no other line read wrongly, memory flat.
 *
 *     node test/campaign/mutate-lines.ts [--seed 1] [--count 1000000]
 */
await runMutationCampaign({ name: 'mutate-lines', url: import.meta.url, createRun: createLineMutationRun })
