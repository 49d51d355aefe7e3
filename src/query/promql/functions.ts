import type { Sample } from './read.ts'

/** Functions over the samples of one series in (from, to]. Null: no value. */
export type RangeFunction = (samples: readonly Sample[], fromMs: number, toMs: number) => number | null

/**
 * How much a counter rose within its samples. It fell to 0 where a value is less than the one before, or where it says
 * that it began later than that.
 */
function rise(samples: readonly Sample[]): number {
  let sum = samples.at(-1)!.value - samples[0]!.value
  for (let k = 1; k < samples.length; k++) if (isReset(samples, k)) sum += samples[k - 1]!.value
  return sum
}

function isReset(samples: readonly Sample[], k: number): boolean {
  return samples[k]!.value < samples[k - 1]!.value || samples[k]!.startMs > samples[k - 1]!.ms
}

/**
 * Prometheus' extrapolation to the edges of the window: by the gap itself where it is about as short as those between
 * samples, else by half of one; a counter not below zero.
 */
function extrapolated(samples: readonly Sample[], fromMs: number, toMs: number, counter: boolean): number | null {
  if (samples.length < 2) return null
  const [first, last] = [samples[0]!, samples.at(-1)!]
  const rose = counter ? rise(samples) : last.value - first.value
  const sampledMs = last.ms - first.ms
  const gapMs = sampledMs / (samples.length - 1)
  let startMs = first.ms - fromMs
  let endMs = toMs - last.ms
  if (startMs >= gapMs * 1.1) startMs = gapMs / 2
  if (counter && rose > 0 && first.value >= 0) startMs = Math.min(startMs, sampledMs * (first.value / rose))
  if (endMs >= gapMs * 1.1) endMs = gapMs / 2
  return (rose * (sampledMs + startMs + endMs)) / sampledMs
}

const values = (samples: readonly Sample[]): number[] => samples.map(({ value }) => value)
const over =
  (fold: (values: readonly number[]) => number): RangeFunction =>
  (samples) =>
    samples.length === 0 ? null : fold(values(samples))
const total = (all: readonly number[]): number => all.reduce((sum, value) => sum + value, 0)

export const RANGE_FUNCTIONS: Readonly<Record<string, RangeFunction>> = {
  increase: (samples, fromMs, toMs) => extrapolated(samples, fromMs, toMs, true),
  rate: (samples, fromMs, toMs) => {
    const rose = extrapolated(samples, fromMs, toMs, true)
    return rose === null ? null : rose / ((toMs - fromMs) / 1000)
  },
  delta: (samples, fromMs, toMs) => extrapolated(samples, fromMs, toMs, false),
  irate: (samples) => {
    if (samples.length < 2) return null
    const [before, last] = [samples.at(-2)!, samples.at(-1)!]
    const rose = isReset(samples, samples.length - 1) ? last.value : last.value - before.value
    return rose / ((last.ms - before.ms) / 1000)
  },
  resets: (samples) => (samples.length === 0 ? null : samples.filter((_, k) => k > 0 && isReset(samples, k)).length),
  changes: over((all) => all.filter((value, k) => k > 0 && !Object.is(value, all[k - 1])).length),
  sum_over_time: over(total),
  avg_over_time: over((all) => total(all) / all.length),
  min_over_time: over((all) => extreme(all, (a, b) => a < b)),
  max_over_time: over((all) => extreme(all, (a, b) => a > b)),
  count_over_time: over((all) => all.length),
  last_over_time: over((all) => all.at(-1)!),
}

/** NaN only when there is nothing else. */
export function extreme(all: readonly number[], better: (a: number, b: number) => boolean): number {
  let best = Number.NaN
  for (const value of all) if (Number.isNaN(best) || better(value, best)) best = value
  return best
}

/** The quantile of classic buckets: cumulative counts by their upper bounds, as Prometheus interpolates them. */
export function bucketQuantile(q: number, buckets: { le: number; count: number }[]): number {
  if (Number.isNaN(q)) return Number.NaN
  if (q < 0) return Number.NEGATIVE_INFINITY
  if (q > 1) return Number.POSITIVE_INFINITY
  const sorted: { le: number; count: number }[] = []
  for (const { le, count } of buckets.sort((a, b) => a.le - b.le)) {
    const last = sorted.at(-1)
    if (last !== undefined && last.le === le) last.count += count
    else sorted.push({ le, count: Math.max(count, 0) })
  }
  for (let k = 1; k < sorted.length; k++) sorted[k]!.count = Math.max(sorted[k]!.count, sorted[k - 1]!.count)
  const top = sorted.at(-1)
  if (top === undefined || sorted.length < 2 || top.le !== Number.POSITIVE_INFINITY || top.count === 0)
    return Number.NaN
  const rank = q * top.count
  const at = sorted.findIndex(({ count }) => count >= rank)
  if (at === sorted.length - 1 || at < 0) return sorted.at(-2)!.le
  const { le, count } = sorted[at]!
  if (at === 0 && le <= 0) return le
  const start = at === 0 ? 0 : sorted[at - 1]!.le
  const below = at === 0 ? 0 : sorted[at - 1]!.count
  return start + (le - start) * ((rank - below) / (count - below))
}
