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

  /**
   * Observations in buckets of scale 6, `codes[k] & mask` + `offset` each, which `count` has already: from `from` up to and
   * without `to`, in ascending order. `bytesMax`: for this histogram.
   */
  add(cells: Cells, from: number, to: number, bytesMax: number): void {
    const { words, counts, mask, offset } = cells
    const lowest = (words[from]! & mask) + offset
    const highest = (words[to - 1]! & mask) + offset
    // Room for all of them first: then each is one addition.
    while (!this.#reserve(shifted(lowest, this.shift), shifted(highest, this.shift), bytesMax)) this.#lower()
    const own = this.#counts
    const { shift } = this
    const first = this.#first - offset
    let held = 0
    if (shift === 0) {
      for (let k = from; k < to; k++) {
        own[(words[k]! & mask) - first]! += counts[k]!
        held += counts[k]!
      }
    } else {
      for (let k = from; k < to; k++) {
        own[shifted((words[k]! & mask) + offset, shift) - this.#first]! += counts[k]!
        held += counts[k]!
      }
    }
    this.#held += held
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
    const own = this.#counts
    const perOctave = 2 ** this.schema
    let k = 0
    for (let at = 0; at < own.length; at++) {
      const count = own[at]!
      if (count === 0) continue
      const edge = 2 ** ((this.#first + at) / perOctave)
      while (k < bounds.length && edge > bounds[k]! * (1 + 1e-12)) k++
      counts[k]! += count
    }
    return counts
  }

  /** False: it would need too much, and can do with less at a lower schema. */
  #reserve(low: number, high: number, bytesMax: number): boolean {
    const empty = this.#counts.length === 0
    const last = this.#first + this.#counts.length - 1
    if (!empty && low >= this.#first && high <= last) return true
    const from = empty ? low : Math.min(low, this.#first)
    const to = empty ? high : Math.max(high, last)
    const width = to - from + 1
    if (HEAD_BYTES + 8 * width > bytesMax && this.schema > SCHEMA_MIN && width > 1) return false
    // A little more than is needed, on the side where it grew.
    const room = empty ? 2 : Math.min(Math.ceil(width / 4) + 4, 64)
    const start = empty || from < this.#first ? from - room : from
    const end = empty || to > last ? to + room : to
    const counts = new Float64Array(end - start + 1)
    counts.set(this.#counts, empty ? 0 : this.#first - start)
    this.#counts = counts
    this.#first = start
    return true
  }

  #lower(): void {
    const before = this.#counts
    const first = this.#first
    this.shift++
    if (before.length === 0) return
    const start = halved(first)
    const counts = new Float64Array(halved(first + before.length - 1) - start + 1)
    before.forEach((count, k) => {
      counts[halved(first + k) - start]! += count
    })
    this.#counts = counts
    this.#first = start
  }
}

/** Where `add` reads from: a bucket in the lowest bits of each word, and how often. */
export interface Cells {
  readonly words: Uint32Array
  readonly counts: Uint32Array
  readonly mask: number
  readonly offset: number
}

const SCHEMA = 6
const SCHEMA_MIN = -4
/** Of the objects, as measured. */
const HEAD_BYTES = 300

/** ⌈index / 2^shift⌉. */
const shifted = (index: number, shift: number): number => (index + (1 << shift) - 1) >> shift
const halved = (index: number): number => (index + 1) >> 1
