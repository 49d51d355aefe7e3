import { PHASES, type Phase, type PhaseSeries, type RequestRow } from './api.ts'
import { percent } from './format.ts'

/** What each phase means, and who owns it: the client, the proxy, or the service behind it. */
export const PHASE_TEXT: Readonly<Record<Phase, { readonly owner: Owner; readonly meaning: string }>> = {
  client_send: { owner: 'client', meaning: 'the client sends its request' },
  proxy_request: { owner: 'proxy', meaning: 'filters, routing, waiting for a connection, earlier attempts' },
  upstream_send: { owner: 'service', meaning: 'the request goes on to the service' },
  upstream_wait: { owner: 'service', meaning: 'the service thinks; time-outs' },
  proxy_response: { owner: 'proxy', meaning: 'filters on the way back' },
  upstream_receive: { owner: 'service', meaning: 'the service sends its answer' },
  client_receive: { owner: 'client', meaning: 'the client receives its answer' },
}
export type Owner = 'client' | 'proxy' | 'service'

/** Time of each phase, in ms. Only means over one set of requests, or one request, may stand side by side in a strip. */
export type PhaseTimes = Readonly<Record<Phase, number>>

export function phaseMeans(series: PhaseSeries): PhaseTimes | null {
  const times = {} as Record<Phase, number>
  for (const phase of PHASES) {
    const { mean } = series[phase]
    if (mean === null) return null
    times[phase] = mean
  }
  return times
}

export function phasesOf(row: RequestRow): PhaseTimes | null {
  const times = {} as Record<Phase, number>
  for (const phase of PHASES) {
    const ns = row[`phase_${phase}_ns`]
    if (ns === null || ns === undefined) return null
    times[phase] = ns / 1e6
  }
  return times
}

export function totalOf(times: PhaseTimes): number {
  return PHASES.reduce((sum, phase) => sum + times[phase], 0)
}

/** The phase that takes most of the time. */
export function largestPhase(times: PhaseTimes): { readonly phase: Phase; readonly share: number } | null {
  const total = totalOf(times)
  if (total <= 0) return null
  const phase = PHASES.reduce((best, each) => (times[each] > times[best] ? each : best))
  return { phase, share: times[phase] / total }
}

/** `upstream_wait 71 %, proxy_request 20 %, …`, the parts worth a word. */
export function phaseSentence(times: PhaseTimes): string {
  const total = totalOf(times)
  if (total <= 0) return 'no time was spent'
  return PHASES.map((phase) => ({ phase, share: times[phase] / total }))
    .filter(({ share }) => share >= 0.005)
    .sort((a, b) => b.share - a.share)
    .map(({ phase, share }) => `${phase} ${percent(share, 1_000)}`)
    .join(', ')
}

/** Equal strips have equal keys: shares in thousandths. */
export function stripKey(times: PhaseTimes | null): string {
  if (times === null) return 'none'
  const total = totalOf(times)
  return PHASES.map((phase) => Math.round((times[phase] / (total || 1)) * 1_000)).join()
}
