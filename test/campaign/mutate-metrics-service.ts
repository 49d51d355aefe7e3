import { runMutationCampaign } from '../support/mutation-campaign.ts'
import { createMetricsMutationRun } from '../support/stats-mutation.ts'

/**
 * Damaged messages of Envoy's metrics service: no crash, no hang, nothing wrong beside the damage, memory flat.
 *
 *     node test/campaign/mutate-metrics-service.ts [--seed 1] [--count 1000000]
 */
await runMutationCampaign({ name: 'mutate-metrics-service', url: import.meta.url, createRun: createMetricsMutationRun })
