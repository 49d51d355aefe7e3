/**
 * A distribution of durations for the page: native buckets, and classic ones as a view of them. Buckets come from rollups:
 * scale 6, bucket i is (2^((i−1)/64), 2^(i/64)] seconds, which is Prometheus's schema 6 in seconds as it stands.
 *
 * Counts are one array from the lowest bucket to the highest. Where memory is short the schema goes down, never up.
 */
export class PhaseHistogram {
  /** Observations, those of zero included. */
  count = 0
  /** ns. */
  sum = 0
  /** By how much the schema is below 6. */
  shift = 0
  #first = 0
  #counts = new Float64Array(0)
  #held = 0

  get schema(): number {
    return SCHEMA - this.shift
  }

  /** Observations of nothing at all. */
  get zeros(): number {
    return this.count - this.#held
  }

  get bytes(): number {
    return HEAD_BYTES + 8 * this.#counts.length
  }

  /** `times` observations in a bucket of scale 6, which `count` has already. `bytesMax`: for this histogram. */
  add(bucket: number, times: number, bytesMax: number): void {
    let index = shifted(bucket, this.shift)
    while (!this.#covers(index)) {
      if (this.#grow(index, bytesMax)) break
      this.#lower()
      index = shifted(bucket, this.shift)
    }
    this.#counts[index - this.#first]! += times
    this.#held += times
  }

  /** Buckets that are not empty, ascending, at `schema`. */
  *buckets(): Generator<readonly [index: number, count: number]> {
    for (let k = 0; k < this.#counts.length; k++) if (this.#counts[k]! > 0) yield [this.#first + k, this.#counts[k]!]
  }

  /**
   * Observations in each classic bucket alone, the last one up to +Inf. A value counts as the upper edge of its native
   * bucket: it may stand one classic bucket too high when it is within 1.1 % below a bound.
   */
  classic(bounds: readonly number[]): Float64Array {
    const counts = new Float64Array(bounds.length + 1)
    counts[0] = this.zeros
    let k = 0
    for (const [index, count] of this.buckets()) {
      const edge = 2 ** (index / 2 ** this.schema)
      while (k < bounds.length && edge > bounds[k]! * (1 + 1e-12)) k++
      counts[k]! += count
    }
    return counts
  }

  #covers(index: number): boolean {
    return index >= this.#first && index < this.#first + this.#counts.length
  }

  /** False: it would need too much, and can do with less at a lower schema. */
  #grow(index: number, bytesMax: number): boolean {
    const empty = this.#counts.length === 0
    const from = empty ? index : Math.min(index, this.#first)
    const to = empty ? index + 1 : Math.max(index + 1, this.#first + this.#counts.length)
    const width = to - from
    if (HEAD_BYTES + 8 * width > bytesMax && this.schema > SCHEMA_MIN && !empty) return false
    // A little more than is needed, on the side where it grew.
    const room = Math.min(Math.ceil(width / 4) + 4, 64)
    const start = from < this.#first || empty ? from - (empty ? 2 : room) : from
    const end = to > this.#first + this.#counts.length || empty ? to + (empty ? 2 : room) : to
    const counts = new Float64Array(end - start)
    if (!empty) counts.set(this.#counts, this.#first - start)
    this.#counts = counts
    this.#first = start
    return true
  }

  #lower(): void {
    const before = this.#counts
    const first = this.#first
    this.shift++
    const start = halved(first)
    const counts = new Float64Array(halved(first + before.length - 1) - start + 1)
    before.forEach((count, k) => {
      counts[halved(first + k) - start]! += count
    })
    this.#counts = counts
    this.#first = start
  }
}

const SCHEMA = 6
const SCHEMA_MIN = -4
/** Of the objects, as measured. */
const HEAD_BYTES = 300

/** ⌈index / 2^shift⌉. */
const shifted = (index: number, shift: number): number => (index + (1 << shift) - 1) >> shift
const halved = (index: number): number => (index + 1) >> 1
