import { runMutationCampaign } from '../support/mutation-campaign.ts'
import { createStatsdMutationRun } from '../support/stats-mutation.ts'

/**
 * Damaged StatsD, DogStatsD and Graphite lines: no crash, no hang, nothing wrong beside the damage, memory flat.
 *
 *     node test/campaign/mutate-statsd.ts [--seed 1] [--count 1000000]
 */
await runMutationCampaign({ name: 'mutate-statsd', url: import.meta.url, createRun: createStatsdMutationRun })
