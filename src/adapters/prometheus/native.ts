import { radixSort } from '../../lib/radix-sort.ts'
import { createEdges } from '../../model/edges.ts'

/**
 * Prometheus native histograms of durations in ms, from exact values: schema 8, bucket i holds
 * (2^((i−1)/256), 2^(i/256)] ms (github.com/prometheus/client_model, `Histogram`). Prometheus interpolates inside
 * buckets, so they are computed from values and not from coarser ones: 0.27 % wide here.
 */
export const SCHEMA_MAX = 8
const MS = 1e6
const PER_OCTAVE = 1 << SCHEMA_MAX
const OCTAVE = createEdges({ scale: SCHEMA_MAX, unit: MS }).octave

/** Codes are index + 5103, 14 bits: 1 ns is index −5102. The last code takes everything above it, 557 years. */
export const CODE_BITS = 14
const CODES = 1 << CODE_BITS
const CODE_MASK = CODES - 1
export const INDEX_OFFSET = 5103
const CODE_OF_ONE = OCTAVE.first + INDEX_OFFSET - PER_OCTAVE * OCTAVE.exponent
const BELOW = OCTAVE.below
const CELL_BITS = OCTAVE.cellBits
const FRACTION_31 = OCTAVE.fraction31
const FRACTION_52 = OCTAVE.fraction52
const double = new Float64Array(1)
const words = new Uint32Array(double.buffer)

/** Code of the schema-8 bucket of `ns` ≥ 1, a whole number. Exact for every integer that a double holds. */
export function nativeCodeOf(ns: number): number {
  if (ns < 4294967296) {
    const zeros = Math.clz32(ns)
    const mantissa = (ns << zeros) & 0x7fffffff
    const below = BELOW[mantissa >>> (31 - CELL_BITS)]!
    return CODE_OF_ONE + ((31 - zeros) << SCHEMA_MAX) + below + (mantissa > FRACTION_31[below]! ? 1 : 0)
  }
  double[0] = ns
  const high = words[1]!
  const mantissa = (high & 0xfffff) * 4294967296 + words[0]!
  const below = BELOW[(high >>> (20 - CELL_BITS)) & ((1 << CELL_BITS) - 1)]!
  const code = CODE_OF_ONE + (((high >>> 20) - 1023) << SCHEMA_MAX) + below + (mantissa > FRACTION_52[below]! ? 1 : 0)
  return code < CODES ? code : CODES - 1
}

/** Index in schema 8 of a duration in ns. */
export function nativeIndexOf(ns: number): number {
  return nativeCodeOf(ns) - INDEX_OFFSET
}

/** Series that fit a word beside the code. */
export const NATIVE_SERIES_MAX = 2 ** (32 - CODE_BITS)

export interface NativeCellsOptions {
  /** Buckets of all series together: 24 bytes each. Past it the series with most buckets lose resolution. */
  readonly cellsMax: number
  /** Buckets of one series; past it the series loses resolution by half. */
  readonly cellsPerSeriesMax: number
  /** Observations held before they are counted. */
  readonly logMax: number
}

/**
 * Buckets of the native histograms of all series: observations are appended to a log, one word (series, code) each, and
 * counted into sorted cells when the log is full or somebody reads. The schema of a series only ever goes down.
 */
export class NativeCells {
  /** Written by the owner: `log[logged++] = series << CODE_BITS | code`; call `count` when `logged` is `logMax`. */
  readonly log: Uint32Array
  logged = 0
  readonly logMax: number
  /** By how much the schema of a series is below 8. */
  shifts = new Uint8Array(1024)
  #words = new Uint32Array(0)
  #counts = new Float64Array(0)
  #length = 0
  #spareWords = new Uint32Array(0)
  #spareCounts = new Float64Array(0)
  readonly #sorted: Uint32Array
  readonly #cellsMax: number
  readonly #cellsPerSeriesMax: number

  constructor(options: NativeCellsOptions) {
    this.logMax = options.logMax
    this.log = new Uint32Array(options.logMax)
    this.#sorted = new Uint32Array(options.logMax)
    this.#cellsMax = options.cellsMax
    this.#cellsPerSeriesMax = options.cellsPerSeriesMax
  }

  get length(): number {
    return this.#length
  }

  /** Makes sure that series 0 … `series` − 1 have a schema. */
  reserve(series: number): void {
    if (series <= this.shifts.length) return
    const shifts = new Uint8Array(Math.max(series, this.shifts.length * 2))
    shifts.set(this.shifts)
    this.shifts = shifts
  }

  /** Counts what is in the log. */
  count(): void {
    if (this.logged === 0) return
    radixSort(this.log, this.#sorted, this.logged)
    this.#merge(this.#sorted, this.logged)
    this.logged = 0
    this.#keepBounds()
  }

  /** Non-empty buckets of a series in ascending order: `visit(index at its schema, count)`. Call `count` first. */
  each(series: number, visit: (index: number, count: number) => void): void {
    const end = (series + 1) * CODES
    for (let k = this.#find(series * CODES); k < this.#length && this.#words[k]! < end; k++) {
      visit((this.#words[k]! & CODE_MASK) - INDEX_OFFSET, this.#counts[k]!)
    }
  }

  /** Forgets series. */
  remove(gone: ReadonlySet<number>): void {
    this.count()
    let to = 0
    for (let k = 0; k < this.#length; k++) {
      const word = this.#words[k]!
      if (gone.has(word >>> CODE_BITS)) continue
      this.#words[to] = word
      this.#counts[to++] = this.#counts[k]!
    }
    this.#length = to
    for (const series of gone) this.shifts[series] = 0
  }

  #find(word: number): number {
    let low = 0
    let high = this.#length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#words[middle]! < word) low = middle + 1
      else high = middle
    }
    return low
  }

  /** Merges `n` sorted schema-8 words into the cells, each at the schema of its series. */
  #merge(sorted: Uint32Array, n: number): void {
    const { shifts } = this
    const words = this.#words
    const counts = this.#counts
    const length = this.#length
    if (this.#spareWords.length < length + n) {
      const room = Math.max(length + n, Math.min(2 * this.#spareWords.length, this.#cellsMax + this.logMax))
      this.#spareWords = new Uint32Array(room)
      this.#spareCounts = new Float64Array(room)
    }
    const intoWords = this.#spareWords
    const intoCounts = this.#spareCounts
    let at = -1
    let last = -1
    let c = 0
    for (let i = 0; i < n; i++) {
      const word = shifted(sorted[i]!, shifts)
      if (word === last) {
        intoCounts[at]!++
        continue
      }
      while (c < length && words[c]! < word) {
        intoWords[++at] = words[c]!
        intoCounts[at] = counts[c++]!
      }
      intoWords[++at] = word
      intoCounts[at] = 1
      if (c < length && words[c] === word) intoCounts[at]! += counts[c++]!
      last = word
    }
    while (c < length) {
      intoWords[++at] = words[c]!
      intoCounts[at] = counts[c++]!
    }
    this.#spareWords = words
    this.#spareCounts = counts
    this.#words = intoWords
    this.#counts = intoCounts
    this.#length = at + 1
  }

  /** Lowers schemas until both bounds hold, or every series is at schema −4, where it has 5 buckets at most. */
  #keepBounds(): void {
    // Well below the bound, so that the next few logs do not come here again.
    const target = this.#length > this.#cellsMax ? 0.75 * this.#cellsMax : this.#cellsMax
    for (let perSeriesMax = this.#cellsPerSeriesMax; ; perSeriesMax >>= 1) {
      for (let wide = this.#seriesAbove(perSeriesMax); wide.size > 0; wide = this.#seriesAbove(perSeriesMax)) {
        this.#lower(wide)
      }
      if (this.#length <= target || perSeriesMax === 0) return
    }
  }

  #seriesAbove(cells: number): Set<number> {
    const above = new Set<number>()
    for (let k = 0; k < this.#length; ) {
      const series = this.#words[k]! >>> CODE_BITS
      const first = k
      while (k < this.#length && this.#words[k]! >>> CODE_BITS === series) k++
      if (k - first > cells && this.shifts[series]! < SCHEMA_MAX + 4) above.add(series)
    }
    return above
  }

  #lower(which: ReadonlySet<number>): void {
    for (const series of which) this.shifts[series]!++
    let to = -1
    let last = -1
    for (let k = 0; k < this.#length; k++) {
      const before = this.#words[k]!
      const word = which.has(before >>> CODE_BITS) ? halved(before) : before
      if (word === last) this.#counts[to]! += this.#counts[k]!
      else {
        this.#words[++to] = word
        this.#counts[to] = this.#counts[k]!
        last = word
      }
    }
    this.#length = to + 1
  }
}

/** ⌈index / 2^shift⌉ of the word's index. */
function shifted(word: number, shifts: Uint8Array): number {
  const shift = shifts[word >>> CODE_BITS]!
  if (shift === 0) return word
  const index = ((word & CODE_MASK) - INDEX_OFFSET + (1 << shift) - 1) >> shift
  return ((word & ~CODE_MASK) >>> 0) + index + INDEX_OFFSET
}

function halved(word: number): number {
  const index = ((word & CODE_MASK) - INDEX_OFFSET + 1) >> 1
  return ((word & ~CODE_MASK) >>> 0) + index + INDEX_OFFSET
}
