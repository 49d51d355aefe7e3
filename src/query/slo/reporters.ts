/**
 * Both sidecars of a connection report the same request, so metrics with Istio's labels have it twice. These pieces of
 * PromQL take, for each destination service, the reports of the first kind that there is: `view=auto` of the API. (Istio's
 * labels have gateways among the sources.)
 */
const REPORTERS = ['destination', 'waypoint', 'source', 'unknown'] as const

/** The label that tells services apart. */
export const SERVICE_LABEL = 'destination_service'

/**
 * `expr` of each kind of report, which has to keep the service's label. A kind counts where no better one reports the
 * service at all, by `metric`: not merely where that one has nothing of what is asked.
 */
export function onceEach(metric: string, expr: (reporter: string) => string): string {
  const kinds = REPORTERS.map((reporter, k) => {
    const own = expr(`reporter="${reporter}"`)
    if (k === 0) return own
    const better = REPORTERS.slice(0, k).join('|')
    return `${own} unless on (${SERVICE_LABEL}) ${metric}{reporter=~"${better}"}`
  })
  return `(${kinds.join(' or ')})`
}
