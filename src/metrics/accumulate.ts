import type {
  Distribution,
  ExplicitBuckets,
  ExponentialBuckets,
  Observations,
  QuantileSummary,
} from './distribution.ts'

/**
 * A cumulative histogram as it is stored: base-2 exponential buckets of some scale, and beside them what its source
 * really told, where that is coarser.
 *
 * An explicit bucket (a, b] with n observations is n observations in the exponential bucket that b is in. That is not to
 * say that they are as near to b as this: `bounds` and `boundCounts` say what is known. Observations above the last
 * bound stand in the bucket after it.
 */
export interface HistogramState {
  startMs: number
  scale: number
  count: number
  /** NaN when not known; so `min` and `max`. */
  sum: number
  min: number
  max: number
  zeroThreshold: number
  zeroCount: number
  positive: Map<number, number>
  negative: Map<number, number>
  bounds: readonly number[]
  boundCounts: Float64Array
  quantiles: readonly number[]
  quantileValues: readonly number[]
}

/** Of observations and explicit bounds; exponential histograms that are finer are lowered to it, coarser ones stay as they are. */
export const SCALE_MAX = 6
/** Prometheus' coarsest schema; OTLP's go down to −10. */
const SCALE_MIN = -10
/** Buckets of one histogram: beyond that its scale is lowered. Of explicit bounds: refused. */
export const BUCKETS_MAX = 1024
export const BOUNDS_MAX = 512
/** Counts above are not exact in a Float64. */
const COUNT_MAX = Number.MAX_SAFE_INTEGER

/**
 * The bucket (2^((i−1)/2^scale), 2^(i/2^scale)] of a value > 0. The logarithm may be wrong by a hair where the value is an
 * edge: the edges on both sides decide.
 */
export function bucketOfValue(value: number, scale: number): number {
  const perOctave = 2 ** scale
  let index = Math.ceil(Math.log2(value) * perOctave)
  if (2 ** ((index - 1) / perOctave) >= value) index--
  else if (2 ** (index / perOctave) < value) index++
  return index || 0
}

export function emptyHistogram(startMs: number): HistogramState {
  return {
    startMs,
    scale: SCALE_MAX,
    count: 0,
    sum: 0,
    min: Number.NaN,
    max: Number.NaN,
    zeroThreshold: 0,
    zeroCount: 0,
    positive: new Map(),
    negative: new Map(),
    bounds: [],
    boundCounts: new Float64Array(0),
    quantiles: [],
    quantileValues: [],
  }
}

/** Whether a distribution is one: counts that are numbers ≥ 0, bounds that ascend, quantiles within 0 … 1, sizes within limits. */
export function isValid(distribution: Distribution): boolean {
  if (distribution.kind === 'values') {
    const { values, weight = 1 } = distribution
    return weight >= 1 && weight < COUNT_MAX && every(values, Number.isFinite)
  }
  const { count, sum, min, max } = distribution
  if (count !== undefined && !isCount(count)) return false
  // Sums may be NaN or infinite: a histogram of such observations has such a sum.
  if (![sum, min, max].every((value) => value === undefined || typeof value === 'number')) return false
  switch (distribution.kind) {
    case 'explicit': {
      const { bounds, counts } = distribution
      return areBuckets(bounds, counts)
    }
    case 'exponential': {
      const { scale, zeroCount, zeroThreshold = 0, positive, negative } = distribution
      if (!Number.isInteger(scale) || scale < SCALE_MIN || scale > 20) return false
      if (!isCount(zeroCount) || !(zeroThreshold >= 0)) return false
      const { classic, temporality } = distribution
      if (classic !== undefined && (temporality === 'delta' || !areBuckets(classic.bounds, classic.counts)))
        return false
      return [positive, negative].every(
        (run) =>
          run === undefined ||
          (Number.isInteger(run.offset) &&
            Math.abs(run.offset) <= 2 ** 31 - 2 ** 17 &&
            run.counts.length <= RUN_MAX &&
            every(run.counts, isCount)),
      )
    }
    case 'summary':
      return (
        distribution.quantiles.length <= BOUNDS_MAX &&
        distribution.quantiles.every(
          ([q, value], k) =>
            q >= 0 && q <= 1 && typeof value === 'number' && q > (distribution.quantiles[k - 1]?.[0] ?? -1),
        )
      )
  }
}

function areBuckets(bounds: readonly number[], counts: ArrayLike<number>): boolean {
  if (bounds.length > BOUNDS_MAX || counts.length !== bounds.length + 1 || !every(counts, isCount)) return false
  return bounds.every((bound, k) => Number.isFinite(bound) && (k === 0 || bound > bounds[k - 1]!))
}

/** Of one exponential histogram as it is sent. */
const RUN_MAX = 65_536
const isCount = (value: number): boolean => value >= 0 && value <= COUNT_MAX

function every(values: ArrayLike<number>, is: (value: number) => boolean): boolean {
  for (let k = 0; k < values.length; k++) if (!is(values[k]!)) return false
  return true
}

/** Adds a valid distribution. False when it cannot be added to what is there: other bounds, another kind. */
export function add(state: HistogramState, distribution: Distribution): boolean {
  const fresh = state.count === 0 && state.bounds.length === 0
  switch (distribution.kind) {
    case 'values':
      if (state.bounds.length > 0) return false
      addObservations(state, distribution)
      return true
    case 'explicit':
      if (!fresh && !sameBounds(state.bounds, distribution.bounds)) return false
      addExplicit(state, distribution)
      break
    case 'exponential':
      if (state.bounds.length > 0) return false
      addExponential(state, distribution)
      // Beside native buckets the classic ones stand as they came. Of cumulative histograms alone: those are set, not added to.
      if (distribution.classic !== undefined) {
        state.bounds = distribution.classic.bounds
        state.boundCounts = Float64Array.from(distribution.classic.counts)
      }
      break
    case 'summary':
      addSummary(state, distribution)
  }
  const { count, sum, min, max } = distribution
  const own = countOf(distribution)
  state.count += count ?? own
  state.sum += sum ?? Number.NaN
  state.min = fresh ? (min ?? Number.NaN) : Math.min(state.min, min ?? Number.NaN)
  state.max = fresh ? (max ?? Number.NaN) : Math.max(state.max, max ?? Number.NaN)
  return true
}

/** Observations in the buckets. */
function countOf(distribution: Exclude<Distribution, Observations>): number {
  if (distribution.kind === 'summary') return 0
  if (distribution.kind === 'explicit') return total(distribution.counts)
  const { zeroCount, positive, negative } = distribution
  return zeroCount + total(positive.counts) + (negative === undefined ? 0 : total(negative.counts))
}

function total(counts: ArrayLike<number>): number {
  let sum = 0
  for (let k = 0; k < counts.length; k++) sum += counts[k]!
  return sum
}

function addObservations(state: HistogramState, { values, weight = 1 }: Observations): void {
  for (let k = 0; k < values.length; k++) {
    const value = values[k]!
    if (Math.abs(value) <= state.zeroThreshold) state.zeroCount += weight
    else if (value > 0) increase(state.positive, bucketOfValue(value, state.scale), weight)
    else increase(state.negative, bucketOfValue(-value, state.scale), weight)
    state.min = state.count === 0 ? value : Math.min(state.min, value)
    state.max = state.count === 0 ? value : Math.max(state.max, value)
    state.count += weight
    state.sum += value * weight
  }
  limit(state)
}

function addExplicit(state: HistogramState, { bounds, counts }: ExplicitBuckets): void {
  if (!sameBounds(state.bounds, bounds)) {
    state.bounds = bounds
    state.boundCounts = new Float64Array(bounds.length + 1)
    state.scale = SCALE_MAX
  }
  const buckets = bucketsOf(bounds)
  for (let k = 0; k < counts.length; k++) {
    const count = counts[k]!
    if (count === 0) continue
    state.boundCounts[k]! += count
    const above = k === bounds.length
    const bound = above ? bounds[k - 1] : bounds[k]!
    // Without bounds nothing is known but the count.
    if (bound === undefined) continue
    if (bound > 0) increase(state.positive, above ? buckets[k - 1]! + 1 : buckets[k]!, count)
    else if (bound === 0 && !above) state.zeroCount += count
    else if (above) increase(state.positive, 0, count)
    else increase(state.negative, bucketOfValue(-bound, state.scale), count)
  }
}

/** Buckets of bounds > 0 at the finest scale, which histograms of explicit bounds always have. Senders have few sets of bounds. */
const bucketsByBounds = new WeakMap<readonly number[], Int32Array>()

function bucketsOf(bounds: readonly number[]): Int32Array {
  let buckets = bucketsByBounds.get(bounds)
  if (buckets === undefined) {
    buckets = Int32Array.from(bounds, (bound) => (bound > 0 ? bucketOfValue(bound, SCALE_MAX) : 0))
    bucketsByBounds.set(bounds, buckets)
  }
  return buckets
}

function addExponential(state: HistogramState, distribution: ExponentialBuckets): void {
  const { zeroThreshold = 0, zeroCount, positive, negative } = distribution
  if (distribution.scale < state.scale) lower(state, distribution.scale)
  const shift = distribution.scale - state.scale
  addRun(state.positive, positive, shift)
  if (negative !== undefined) addRun(state.negative, negative, shift)
  state.zeroCount += zeroCount
  if (zeroThreshold > state.zeroThreshold) {
    state.zeroThreshold = zeroThreshold
    // What the wider zero bucket takes in is no longer told apart.
    for (const buckets of [state.positive, state.negative]) {
      for (const [index, count] of buckets) {
        if (2 ** (index / 2 ** state.scale) > zeroThreshold) continue
        state.zeroCount += count
        buckets.delete(index)
      }
    }
  }
  limit(state)
}

function addRun(into: Map<number, number>, { offset, counts }: ExponentialBuckets['positive'], shift: number): void {
  for (let k = 0; k < counts.length; k++) {
    if (counts[k] !== 0) increase(into, shifted(offset + k, shift), counts[k]!)
  }
}

function addSummary(state: HistogramState, { quantiles }: QuantileSummary): void {
  state.quantiles = quantiles.map(([quantile]) => quantile)
  state.quantileValues = quantiles.map(([, value]) => value)
}

function increase(buckets: Map<number, number>, index: number, by: number): void {
  buckets.set(index, (buckets.get(index) ?? 0) + by)
}

/** ⌈index / 2^shift⌉: the bucket of a scale lower by `shift` that holds a bucket. */
const shifted = (index: number, shift: number): number => Math.ceil(index / 2 ** shift)

function limit(state: HistogramState): void {
  while (state.positive.size + state.negative.size > BUCKETS_MAX && state.scale > SCALE_MIN)
    lower(state, state.scale - 1)
}

/** Exact: a bucket of a lower scale is a union of whole buckets. */
function lower(state: HistogramState, scale: number): void {
  const shift = state.scale - scale
  for (const side of ['positive', 'negative'] as const) {
    const before = state[side]
    state[side] = new Map()
    for (const [index, count] of before) increase(state[side], shifted(index, shift), count)
  }
  state.scale = scale
}

function sameBounds(a: readonly number[], b: readonly number[]): boolean {
  return a === b || (a.length === b.length && a.every((bound, k) => bound === b[k]))
}
