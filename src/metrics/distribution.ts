/**
 * A distribution as it arrives. Whatever its form, it is stored as one base-2 exponential histogram with the precision that it
 * truly has: buckets of the source stay whole, and their bounds are kept beside them.
 *
 * Values are in the unit of the series. `delta`: what happened since the last one; `cumulative`: since `startMs`.
 */
export type Distribution = ExplicitBuckets | ExponentialBuckets | QuantileSummary | Observations

interface Figures {
  readonly temporality: 'delta' | 'cumulative'
  /** Observations; when absent, the sum of the buckets. */
  readonly count?: number
  readonly sum?: number
  readonly min?: number
  readonly max?: number
  /** When it was empty; ms. */
  readonly startMs?: number
}

/** Prometheus classic, OTLP explicit, Envoy's histograms. */
export interface ExplicitBuckets extends Figures {
  readonly kind: 'explicit'
  /** Upper bounds (inclusive), ascending, without +Inf. Pass the same array again where you can: it is compared by reference first. */
  readonly bounds: readonly number[]
  /** Observations of each bucket alone (not those below it as well): bounds.length + 1, the last one up to +Inf. See `ofCumulative`. */
  readonly counts: ArrayLike<number>
}

/** OTLP exponential, Prometheus native. */
export interface ExponentialBuckets extends Figures {
  readonly kind: 'exponential'
  /** Buckets per doubling are 2^scale. */
  readonly scale: number
  /** Observations with |value| ≤ `zeroThreshold`. */
  readonly zeroCount: number
  readonly zeroThreshold?: number
  readonly positive: BucketRun
  readonly negative?: BucketRun
  /** The same observations in buckets of other bounds, where the source has both; as in `ExplicitBuckets`. */
  readonly classic?: { readonly bounds: readonly number[]; readonly counts: ArrayLike<number> }
}

/** Buckets next to each other. Bucket i is (2^((i−1)/2^scale), 2^(i/2^scale)], as in Prometheus; the `offset` of OTLP is one less. */
export interface BucketRun {
  readonly offset: number
  readonly counts: ArrayLike<number>
}

/** Prometheus summary, Envoy's summaries: what is known is the value at some ranks. */
export interface QuantileSummary extends Figures {
  readonly kind: 'summary'
  /** Quantile 0 … 1 and its value, NaN when there were no observations; by quantile, ascending. */
  readonly quantiles: readonly (readonly [quantile: number, value: number])[]
}

/** Single observations: StatsD timers, histograms and distributions. Always a delta. */
export interface Observations {
  readonly kind: 'values'
  readonly values: ArrayLike<number>
  /** What each stands for: 1 / sample rate. 1 when absent. */
  readonly weight?: number
}

/** Counts of each bucket alone from counts of `le` buckets (with +Inf last). A decrease, which is not valid, counts as 0. */
export function ofCumulative(counts: ArrayLike<number>): Float64Array {
  const alone = new Float64Array(counts.length)
  let below = 0
  for (let k = 0; k < counts.length; k++) {
    alone[k] = Math.max(0, counts[k]! - below)
    below = Math.max(below, counts[k]!)
  }
  return alone
}
