import { onceEach, SERVICE_LABELS } from '../src/query/slo/reporters.ts'

/** Pieces of PromQL that the queries are made of. Each request counts once: see `onceEach`. */

/** Matchers beside the reporter; or several selections that do not overlap, and add up. */
type Matchers = readonly string[]
const ONE: readonly Matchers[] = [[]]

/** Per second, by service and labels, each request once. */
export function ratePerSecond(
  metric: string,
  matchers: Matchers,
  by: readonly string[] = [],
  selections = ONE,
): string {
  const labels = [...new Set([...SERVICE_LABELS, ...by])].join(', ')
  const presence = metric.startsWith('istio_') ? ISTIO.requests : OURS.requests
  return onceEach(presence, (reporter) => {
    const rates = selections.map(
      (more) => `rate(${metric}{${[reporter, ...matchers, ...more].join(', ')}}[$__rate_interval])`,
    )
    return `sum by (${labels}) (${rates.join(' or ')})`
  })
}

/** The same, added up over services. */
export function totalPerSecond(
  metric: string,
  matchers: Matchers,
  by: readonly string[] = [],
  selections = ONE,
): string {
  const labels = by.length === 0 ? '' : ` by (${by.join(', ')})`
  return `sum${labels} (${ratePerSecond(metric, matchers, by, selections)})`
}

/** A quantile of a classic histogram, over everything or by labels. */
export function quantile(
  q: number,
  histogram: string,
  matchers: readonly string[],
  by: readonly string[] = [],
): string {
  return `histogram_quantile(${q}, ${totalPerSecond(`${histogram}_bucket`, matchers, [...by, 'le'])})`
}

/** Part of a whole by the labels that both have; 0 where there is a whole and no part. */
export function share(part: string, whole: string): string {
  return `(${part} or 0 * ${whole}) / (${whole} > 0)`
}

export const ISTIO = {
  requests: 'istio_requests_total',
  duration: 'istio_request_duration_milliseconds',
  requestBytes: 'istio_request_bytes',
  responseBytes: 'istio_response_bytes',
} as const

export const OURS = {
  requests: 'sidecast_requests_total',
  phase: 'sidecast_request_phase_seconds',
  attempts: 'sidecast_request_attempts_total',
  flags: 'sidecast_response_flags_total',
} as const
