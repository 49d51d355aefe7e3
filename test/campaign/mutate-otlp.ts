import { runMutationCampaign } from '../support/mutation-campaign.ts'
import { createOtlpMutationRun } from '../support/otlp-mutation.ts'

/**
 * Decodes damaged OTLP requests of all three kinds, in protobuf and JSON: no crash, no hang, nothing wrong beside the
 * damage or after it, memory flat. A third of the count is logs, one metrics, one traces.
 *
 *     node test/campaign/mutate-otlp.ts [--seed 1] [--count 1000000]
 */
await runMutationCampaign({ name: 'mutate-otlp', url: import.meta.url, createRun: createOtlpMutationRun })
