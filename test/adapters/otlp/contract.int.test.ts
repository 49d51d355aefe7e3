import { openOtlp } from '../../../src/adapters/otlp/open.ts'
import { otlpConfig } from '../../support/otlp-config.ts'
import { spansOf } from '../../support/otlp-proto.ts'
import { type OtlpTarget, startOtlpTarget } from '../../support/otlp-target.ts'
import { sinkContract } from '../../support/sink-contract.ts'

/** Requests are told apart by the ids of their server spans, so that one that came twice counts once. */
const distinct = (accepted: OtlpTarget['accepted']): number =>
  new Set(
    accepted
      .filter(({ signal }) => signal === 'traces')
      .flatMap(({ bytes }) => spansOf(bytes))
      .filter(({ kind }) => kind === 2)
      .map(({ traceId, spanId }) => `${traceId} ${spanId}`),
  ).size

sinkContract('otlp', {
  start: () => startOtlpTarget({ count: distinct }),
  open: (shared, target: OtlpTarget) =>
    openOtlp(
      otlpConfig({
        endpoint: target.address,
        timeout: '5s',
        traces: { sample: 1 },
        logs: { sample: 1 },
        metrics: { interval: '100ms' },
        selfTraces: { enabled: false },
      }),
      shared,
    ),
})
