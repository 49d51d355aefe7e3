import type { LatencyPoint } from './api.ts'
import { boundsText, count, type DurationUnit, duration } from './format.ts'
import { enoughFor } from './sentences.ts'
import { clock, type Zone } from './time.ts'

/** The latency chart without the drawing: the places of its points, and what it says in words. */
export const QUANTILES = ['0.5', '0.9', '0.99'] as const

export interface ChartUpdate {
  readonly points: readonly LatencyPoint[]
  readonly fromMs: number
  readonly toMs: number
  readonly stepMs: number
  readonly throughMs: number | null
  readonly zone: Zone
  readonly precisionNs: number
}

/** Above this ratio of the largest to the smallest value the axis is logarithmic. */
const LOG_RATIO = 30

/** What the cursor is on, with value, bound and n. */
export function readoutText(time: number, point: LatencyPoint | undefined, update: ChartUpdate | undefined): string {
  const zone = update?.zone ?? 'utc'
  if (point === undefined) return `${clock(time, zone)}   no requests`
  const values = QUANTILES.flatMap((quantile) => {
    const value = point.quantiles[quantile]
    if (value === undefined) return []
    const bounds = boundsText(value)
    const text = duration(value, { precisionNs: update?.precisionNs ?? 1 })
    return [`p${Number(quantile) * 100} ${text}${bounds === '' ? '' : ` (${bounds})`}`]
  })
  const incomplete = update?.throughMs != null && time + update.stepMs > update.throughMs
  return [clock(time, zone), ...values, `n ${count(point.n)}`, incomplete ? 'not complete' : '']
    .filter((part) => part !== '')
    .join('   ')
}

export interface Grid {
  readonly times: number[]
  readonly byTime: Map<number, LatencyPoint>
  /** Seconds, then value, low and high of each quantile. */
  readonly data: [number[], ...(number | null)[][]]
  /** All that is drawn, for the unit of the axis. */
  readonly values: number[]
  /** Whether the axis is logarithmic. */
  readonly log: boolean
}

/** One place per step of the window, so that steps without requests are gaps; and one for any point between them. */
export function gridOf(update: ChartUpdate): Grid {
  const { fromMs, toMs, stepMs } = update
  const byTime = new Map(update.points.map((point) => [Date.parse(point.time), point]))
  const places = new Set(byTime.keys())
  for (let time = Math.floor(fromMs / stepMs) * stepMs; time < toMs; time += stepMs) places.add(time)
  const times = [...places].sort((a, b) => a - b)
  const values: number[] = []
  const columns = QUANTILES.flatMap((quantile) => {
    const of = (side: 'value' | 'low' | 'high') =>
      times.map((time) => {
        const value = byTime.get(time)?.quantiles[quantile]?.[side] ?? null
        if (value !== null && value > 0) values.push(value)
        return value
      })
    return [of('value'), of('low'), of('high')]
  })
  return {
    times,
    byTime,
    data: [times.map((time) => time / 1000), ...columns],
    values,
    log: values.reduce((a, b) => Math.max(a, b), 0) / values.reduce((a, b) => Math.min(a, b), Infinity) > LOG_RATIO,
  }
}

export function noteText({ points, stepMs }: ChartUpdate, log: boolean): string {
  const n = points.reduce((sum, point) => sum + point.n, 0)
  const few = points.some((point) => !enoughFor(0.99, point.n))
  return [
    `Each point is ${stepMs >= 60_000 ? `${stepMs / 60_000} min` : `${stepMs / 1000} s`}${points.length > 0 ? `, about ${count(n / points.length)} requests` : ''}.`,
    log ? 'Log axis.' : '',
    few ? 'Hollow points: too few requests for that percentile (p99 needs 368).' : '',
  ]
    .filter((part) => part !== '')
    .join(' ')
}

export function axisValue(ms: number, unit: DurationUnit): string {
  // On a log axis only powers of ten and their doubles and fives have room for a name.
  return ms === 0
    ? '0'
    : duration(ms, { unit: ms < 1 && unit === 'ms' ? 'µs' : ms >= 1_000 && unit === 'ms' ? 's' : unit }).replace(
        /\.0+(?=\D|$)|(\.\d*?)0+(?=\D|$)/,
        '$1',
      )
}
