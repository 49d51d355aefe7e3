/**
 * Both sidecars of a connection report the same request, so metrics with Istio's labels have it twice. These pieces of
 * PromQL take, for each destination service, the reports of the first kind that there is: `view=auto` of the API. (Istio's
 * labels have gateways among the sources.)
 */
const REPORTERS = ['destination', 'waypoint', 'source', 'unknown'] as const

/**
 * The labels that tell services apart. Not `destination_service`, the host: without mutual TLS the destination's own log
 * does not hold it.
 */
export const SERVICE_LABELS = ['destination_service_name', 'destination_service_namespace'] as const
const ON_SERVICE = `on (${SERVICE_LABELS.join(', ')})`

/**
 * `expr` of each kind of report, which has to keep the service's labels. A kind counts where no better one reports the
 * service at all, by `metric`: not merely where that one has nothing of what is asked.
 */
export function onceEach(metric: string, expr: (reporter: string) => string): string {
  const kinds = REPORTERS.map((reporter, k) => {
    const own = expr(`reporter="${reporter}"`)
    if (k === 0) return own
    const better = REPORTERS.slice(0, k).join('|')
    return `${own} unless ${ON_SERVICE} ${metric}{reporter=~"${better}"}`
  })
  return `(${kinds.join(' or ')})`
}
