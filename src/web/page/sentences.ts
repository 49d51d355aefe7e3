import type { Coverage, LatencyPoint, ServiceRow } from './api.ts'
import { boundsText, count, duration, percent } from './format.ts'
import { largestPhase, type PhaseTimes } from './phases.ts'

/** Sentences that stand for a picture: titles, texts for those who do not see the chart, and states in words. */

/** The answer of the view, as its title. */
export function headline(options: {
  readonly subject: string
  readonly p99: { readonly value: number; readonly low: number; readonly high: number } | null
  readonly n: number
  /** Means of `set`. */
  readonly phases: PhaseTimes | null
  readonly set?: 'all' | 'slowest'
  readonly errorRatio: number | null
}): string {
  const { subject, p99, n, phases, errorRatio } = options
  if (n === 0 || p99 === null) return `${subject}: no requests in this window`
  const bounds = boundsText(p99)
  const largest = phases === null ? null : largestPhase(phases)
  const time = options.set === 'slowest' ? 'the time of the slowest 1 %' : 'the time'
  return [
    `${subject}: p99 ${duration(p99)}${bounds === '' ? '' : ` (${bounds})`}, n ${count(n)}.`,
    errorRatio === null ? '' : `${percent(errorRatio, n)} failed.`,
    largest === null ? '' : `${percent(largest.share, 1_000)} of ${time} is ${largest.phase}.`,
  ]
    .filter((part) => part !== '')
    .join(' ')
}

/** What a latency chart shows, for those who do not see it. */
export function chartSentence(
  points: readonly LatencyPoint[],
  quantile: string,
  time: (iso: string) => string,
): string {
  const known = points.flatMap((point) => {
    const value = point.quantiles[quantile]
    return value === undefined ? [] : [{ time: point.time, value: value.value }]
  })
  const [first, last] = [known[0], known.at(-1)]
  const name = `p${Number(quantile) * 100}`
  if (first === undefined || last === undefined) return `No ${name} in this window`
  const top = known.reduce((best, each) => (each.value > best.value ? each : best))
  const direction = last.value > first.value * 1.1 ? 'rose' : last.value < first.value / 1.1 ? 'fell' : 'stayed level'
  const ends =
    direction === 'stayed level'
      ? `${name} stayed near ${duration(last.value)}`
      : `${name} ${direction} from ${duration(first.value)} to ${duration(last.value)}`
  return `${ends} between ${time(first.time)} and ${time(last.time)}, highest ${duration(top.value)} at ${time(top.time)}`
}

/** What is known of the requests that were not seen. Unknown is never 0. */
export function lossSentence(coverage: Coverage): string {
  if (!coverage.known || coverage.lost === null || coverage.served === null) return 'loss not known'
  const unseen = coverage.filtered ?? 0
  const lost = `${percent(coverage.served > 0 ? coverage.lost / coverage.served : 0, coverage.served)} lost`
  return unseen > 0 ? `${lost}, ${count(unseen)} not logged by the mesh` : lost
}

/** A word and a shape for how a service does; colour only repeats them. */
export function health(row: ServiceRow): {
  readonly state: 'ok' | 'worse' | 'failing' | 'idle'
  readonly text: string
} {
  if (row.n === 0) return { state: 'idle', text: '○ idle' }
  const failed = row.error_ratio ?? 0
  if (failed >= 0.05) return { state: 'failing', text: '■ failing' }
  return failed >= 0.005 ? { state: 'worse', text: '▲ errors' } : { state: 'ok', text: '● ok' }
}

/** How many requests a quantile needs before it has an upper end at 95 %: the order-statistic interval. */
export function enoughFor(quantile: number, n: number): boolean {
  // The largest of n is below the quantile with probability qⁿ; the upper end exists when that is at most 2.5 %.
  return quantile ** n <= 0.025
}
