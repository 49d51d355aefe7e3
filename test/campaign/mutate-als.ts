import { createMutationRun } from '../support/als-mutation.ts'
import { runMutationCampaign } from '../support/mutation-campaign.ts'

/**
 * Decodes damaged access log messages: no crash, no hang, no row wrong that precedes the damage, memory flat.
 *
 *     node test/campaign/mutate-als.ts [--seed 1] [--count 1000000]
 */
await runMutationCampaign({ name: 'mutate-als', url: import.meta.url, createRun: createMutationRun })
