import { BUCKET_MAX, bucketOf, lowerEdge, representative, SCALE, upperEdge, ZERO_BUCKET } from './buckets.ts'

export {
  BUCKET_CODES,
  BUCKET_MAX,
  bucketOf,
  codeOf,
  lowerEdge,
  RELATIVE_ERROR_MAX,
  representative,
  SCALE,
  upperEdge,
  ZERO_BUCKET,
} from './buckets.ts'

/** A figure and the interval that surely holds the true one. */
export interface Bounded {
  readonly value: number
  readonly low: number
  readonly high: number
}

/** What is stored of a histogram: its non-empty buckets and the exact figures beside them. */
export interface HistogramParts {
  /** Bucket indexes of scale 6, `ZERO_BUCKET` for 0 ns; any order, repeats are added. */
  readonly buckets: ArrayLike<number>
  readonly counts: ArrayLike<number | bigint>
  /** Exact, in ns. `min` and `max` are ignored when all counts are 0. */
  readonly sum: bigint
  readonly min: number
  readonly max: number
}

/**
 * A distribution of durations in whole ns: base-2 exponential buckets, with exact count, sum, minimum and maximum.
 * Merging is adding, so any grouping and any order give the same histogram; lowering the scale merges whole buckets.
 *
 * The counts are one array over the buckets in use, lowest to highest: a few hundred numbers in practice, 4 096 at most.
 */
export class Histogram {
  /** Buckets per doubling are 2^scale. */
  readonly scale: number
  #zeros = 0
  #first = 0
  #counts = new Float64Array(0)
  #count = 0
  // The sum is a number while that is exact, and moves over to the bigint before it is not.
  #sum = 0
  #sumCarried = 0n
  #min = Number.POSITIVE_INFINITY
  #max = Number.NEGATIVE_INFINITY

  constructor(scale: number = SCALE) {
    if (!Number.isInteger(scale) || scale > SCALE || scale < -4) throw new RangeError(`scale ${scale} is not in −4 … 6`)
    this.scale = scale
  }

  static from(parts: HistogramParts): Histogram {
    const histogram = new Histogram()
    for (let k = 0; k < parts.buckets.length; k++) histogram.#add(parts.buckets[k]!, Number(parts.counts[k]!))
    histogram.#sumCarried = parts.sum
    if (histogram.#count > 0) {
      histogram.#min = parts.min
      histogram.#max = parts.max
    }
    return histogram
  }

  get count(): number {
    return this.#count
  }

  /** Exact, in ns. */
  get sum(): bigint {
    return this.#sumCarried + BigInt(this.#sum)
  }

  /** NaN when empty. */
  get min(): number {
    return this.#count === 0 ? Number.NaN : this.#min
  }

  /** NaN when empty. */
  get max(): number {
    return this.#count === 0 ? Number.NaN : this.#max
  }

  /** NaN when empty. */
  get mean(): number {
    return this.#count === 0 ? Number.NaN : Number(this.sum) / this.#count
  }

  /** Adds `times` observations of `ns`, a whole number ≥ 0. */
  record(ns: number, times = 1): void {
    this.#add(this.#indexOf(bucketOf(ns)), times)
    const total = ns * times
    if (this.#sum + total > Number.MAX_SAFE_INTEGER) {
      this.#sumCarried += BigInt(this.#sum) + BigInt(ns) * BigInt(times)
      this.#sum = 0
    } else this.#sum += total
    if (ns < this.#min) this.#min = ns
    if (ns > this.#max) this.#max = ns
  }

  /** Adds all of `other`, which may have a higher scale but not a lower one. */
  merge(other: Histogram): void {
    if (other.scale < this.scale) throw new RangeError(`cannot add scale ${other.scale} to scale ${this.scale}`)
    const from = other.scale === this.scale ? other : other.downscale(this.scale)
    this.#zeros += from.#zeros
    this.#count += from.#zeros
    for (let k = 0; k < from.#counts.length; k++) {
      if (from.#counts[k]! > 0) this.#add(from.#first + k, from.#counts[k]!)
    }
    this.#sumCarried += from.sum
    this.#min = Math.min(this.#min, from.#min)
    this.#max = Math.max(this.#max, from.#max)
  }

  /** The same observations at a lower scale; exact, because a bucket of the lower scale is a union of whole buckets. */
  downscale(scale: number): Histogram {
    const lower = new Histogram(scale)
    if (scale > this.scale) throw new RangeError(`scale ${this.scale} cannot be raised to ${scale}`)
    lower.#zeros = this.#zeros
    lower.#count = this.#zeros
    const shift = this.scale - scale
    for (let k = 0; k < this.#counts.length; k++) {
      if (this.#counts[k]! > 0) lower.#add(shiftBucket(this.#first + k, shift), this.#counts[k]!)
    }
    lower.#sumCarried = this.sum
    lower.#min = this.#min
    lower.#max = this.#max
    return lower
  }

  /** Non-empty buckets in ascending order, zero apart: index at this histogram's scale, and count. */
  *buckets(): Generator<readonly [index: number, count: number]> {
    for (let k = 0; k < this.#counts.length; k++) {
      if (this.#counts[k]! > 0) yield [this.#first + k, this.#counts[k]!]
    }
  }

  /** Observations of exactly 0 ns. */
  get zeros(): number {
    return this.#zeros
  }

  /**
   * The q-quantile: the value of rank ⌈q·n⌉ in ascending order, rank 1 for q = 0. The true value is inside [low, high], and
   * |value − true| ≤ 0.5415 % of true at scale 6. NaN when empty.
   */
  quantile(q: number): Bounded {
    if (this.#count === 0) return { value: Number.NaN, low: Number.NaN, high: Number.NaN }
    return this.atRank(rankOf(q, this.#count))
  }

  /** The value of one rank, 1 … count, in ascending order. */
  atRank(rank: number): Bounded {
    if (rank <= 1) return exactly(this.#min)
    if (rank >= this.#count) return exactly(this.#max)
    if (rank <= this.#zeros) return exactly(0)
    let seen = this.#zeros
    for (let k = 0; k < this.#counts.length; k++) {
      seen += this.#counts[k]!
      if (seen < rank) continue
      const { low, high } = this.#range(this.#first + k)
      return { value: representative(low, high), low, high }
    }
    throw new Error(`rank ${rank} is above the count ${this.#count}`)
  }

  /** How many observations are ≤ `ns`; low = high when `ns` is the upper edge of a bucket, or outside [min, max]. */
  cdf(ns: number): Bounded {
    if (this.#count === 0 || ns < this.#min) return exactly(0)
    if (ns >= this.#max) return exactly(this.#count)
    const bucket = this.#indexOf(bucketOf(Math.floor(ns)))
    let below = this.#zeros
    for (let k = 0; k < this.#counts.length && this.#first + k < bucket; k++) below += this.#counts[k]!
    const inside = this.#counts[bucket - this.#first] ?? 0
    if (inside === 0 || ns < 1) return exactly(below)
    const { low, high } = this.#range(bucket)
    if (ns >= high) return exactly(below + inside)
    if (ns < low) return exactly(below)
    // At least the minimum is ≤ ns, and at least the maximum is not, when they lie in this bucket.
    const least = below + (low === this.#min ? 1 : 0)
    const most = below + inside - (high === this.#max ? 1 : 0)
    const value = below + (inside * (ns - low + 1)) / (high - low + 1)
    return { value: Math.min(Math.max(value, least), most), low: least, high: most }
  }

  /** Lowest and highest ns that observations of a bucket can have. */
  #range(index: number): { low: number; high: number } {
    const shift = SCALE - this.scale
    const width = 1 << shift
    const top = index * width
    const high = top >= BUCKET_MAX ? Number.POSITIVE_INFINITY : upperEdge(top)
    return { low: Math.max(lowerEdge(top - width + 1) + 1, this.#min), high: Math.min(high, this.#max) }
  }

  #indexOf(bucket: number): number {
    return bucket === ZERO_BUCKET ? bucket : shiftBucket(bucket, SCALE - this.scale)
  }

  #add(index: number, times: number): void {
    this.#count += times
    if (index === ZERO_BUCKET) {
      this.#zeros += times
      return
    }
    if (this.#counts.length === 0) {
      this.#first = index
      this.#counts = new Float64Array(1)
    } else if (index < this.#first || index >= this.#first + this.#counts.length) this.#grow(index)
    this.#counts[index - this.#first]! += times
  }

  /** Makes room for a bucket; by half again as much as there is, towards that side, so that growing is rare. */
  #grow(index: number): void {
    const spare = this.#counts.length >> 1
    const last = this.#first + this.#counts.length - 1
    const first = index < this.#first ? Math.max(index - spare, ZERO_BUCKET + 1) : this.#first
    const end = index > last ? Math.min(index + spare, BUCKET_MAX) : last
    const counts = new Float64Array(end - first + 1)
    counts.set(this.#counts, this.#first - first)
    this.#first = first
    this.#counts = counts
  }
}

/**
 * The rank ⌈q·n⌉ of a quantile, at least 1 and at most n, for q as it is written: 0.07 means 7/100, and rank 7 of 100,
 * though the double nearest to 0.07, times 100, is above 7.
 */
export function rankOf(q: number, n: number): number {
  if (!(q >= 0 && q <= 1)) throw new RangeError(`quantile ${q} is not in 0 … 1`)
  if (q === 0 || n <= 1) return Math.min(1, n)
  const [mantissa, exponent] = q.toExponential().split('e') as [string, string]
  const digits = mantissa.replace('.', '')
  const denominator = 10n ** BigInt(digits.length - 1 - Number(exponent))
  return Number((BigInt(digits) * BigInt(n) + denominator - 1n) / denominator)
}

/** ⌈index / 2^shift⌉: the bucket of a scale lower by `shift` that holds a bucket. */
function shiftBucket(index: number, shift: number): number {
  return (index + (1 << shift) - 1) >> shift
}

function exactly(value: number): Bounded {
  return { value, low: value, high: value }
}
