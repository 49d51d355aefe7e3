import { radixSort } from '../lib/radix-sort.ts'
import { BUCKET_CODES, ZERO_BUCKET } from '../model/buckets.ts'
import type { NativeBlockColumns } from '../model/native-read.ts'
import { FLAGS, OVERFLOW, ROLLUP_KEYS, ROLLUP_METRICS, type RollupKey, type RollupMetric } from '../model/schema.ts'
import type { Aggregate } from './interval-delivery.ts'
import { rollupsOfRows } from './rollup-of-rows.ts'
import type { Segment } from './segment.ts'
import { readTable } from './segment-reader.ts'

/**
 * What the requests of an interval add up to, from the `latency_1m` blocks of its segments, which are deltas: each has
 * what its own segment brought. Segments without rollups (`recovered`) are rolled up from their rows, by the same code.
 *
 *   segment ─► latency_1m block ─► group of each row (the keys asked for) ─► counters, sums, extremes
 *                                                                        └─► cells: (group, metric, bucket) → count
 *
 * Bounded: groups past `keysMax` go to one group whose keys are all `overflow`, so that totals stay exact; a full table of
 * cells makes the aggregate `full`, and its interval is sent in more than one part.
 */
export interface RollupAggregate extends Aggregate {
  readonly keys: readonly RollupKey[]
  /** Requests in it, and those of them that went to the overflow group. */
  readonly requests: number
  readonly overflowRequests: number
  readonly size: number
  /** Adds the rows of one `latency_1m` block. */
  addBlock(block: NativeBlockColumns): void
  /** Every group that has requests, in the order in which they came. Read one before going on to the next. */
  groups(): Generator<RollupGroup>
}

export interface RollupGroup {
  /** Texts of the keys that were asked for, in their order. */
  readonly values: readonly string[]
  readonly overflow: boolean
  /** Start of the minute, Unix seconds, when minutes are kept apart; else null. */
  readonly minute: number | null
  /** Requests; those with phases; attempts at the upstream. */
  readonly n: number
  readonly phasesN: number
  readonly attempts: number
  /** Bytes on the wire of the downstream connection. */
  readonly requestBytes: number
  readonly responseBytes: number
  /** Requests by response flag: bit (index into `FLAGS`) and count, those that occurred. */
  readonly flags: readonly (readonly [bit: number, count: number])[]
  /** Of the whole duration, or of one phase, in ns. */
  histogram(metric: RollupMetric): RollupHistogram
}

export interface RollupHistogram {
  /** Observations: `n`, or `phasesN`. */
  readonly n: number
  /** ns. Exact up to 2^53 (104 days); above, as exact as a double is. */
  readonly sum: number
  /** ns; both 0 when there are none. */
  readonly min: number
  readonly max: number
  /** Buckets of `model/buckets.ts` (scale 6, in seconds; `ZERO_BUCKET` holds 0 ns), ascending, with their counts. */
  readonly buckets: Int16Array
  readonly counts: Float64Array
}

export interface RollupAggregateOptions {
  /** Keys to keep; groups that differ in the others alone become one. Default: all. */
  readonly keys?: readonly RollupKey[]
  /** Keeps minutes of the end of the request apart. Default: false. */
  readonly minutes?: boolean
  readonly keysMax?: number
  readonly cellsMax?: number
  /** Leaves out groups for which this is false, by the texts of all keys. */
  readonly where?: (value: (key: RollupKey) => string) => boolean
}

/** 20 000 groups of ten numbers and extremes have 5 MB; a million cells 24 MB. */
const KEYS_MAX = 20_000
const CELLS_MAX = 1 << 20

/** Groups that fit a cell's word: 17 bits, beside 3 of the metric and 12 of the bucket. */
const GROUPS_MAX = 1 << 17
const GROUP_SHIFT = 15
const METRIC_SHIFT = 12
const CODE_MASK = BUCKET_CODES - 1
const METRICS = ROLLUP_METRICS.length
/** n, phases_n, attempts, bytes of requests and responses; then sums of the metrics. */
const FIGURES = 5
const FIGURE_NAMES = ['n', 'phases_n', 'attempts', 'request_bytes', 'response_bytes'] as const

export function createRollupAggregate(options: RollupAggregateOptions = {}): RollupAggregate {
  return new Groups(options)
}

class Groups implements RollupAggregate {
  readonly keys: readonly RollupKey[]
  requests = 0
  overflowRequests = 0
  readonly #minutes: boolean
  readonly #keysMax: number
  readonly #cellsMax: number
  readonly #where: RollupAggregateOptions['where']
  readonly #ids = new Map<string, number>()
  readonly #values: (readonly string[])[] = []
  readonly #minuteOf: number[] = []
  #figures = new Float64Array(64 * (FIGURES + METRICS))
  #mins = new Float64Array(64 * METRICS)
  #maxs = new Float64Array(64 * METRICS)
  readonly #flags: (Map<number, number> | undefined)[] = []
  #overflows = 0
  readonly #cells: Cells

  constructor(options: RollupAggregateOptions) {
    const { keys = ROLLUP_KEYS, minutes = false, keysMax = KEYS_MAX, cellsMax = CELLS_MAX, where } = options
    this.keys = keys
    this.#minutes = minutes
    // Each minute may have an overflow group beside them; half of the numbers are kept for those.
    this.#keysMax = Math.min(keysMax, GROUPS_MAX / 2)
    this.#cellsMax = cellsMax
    this.#where = where
    this.#cells = new Cells()
  }

  get size(): number {
    return this.#values.length
  }

  get full(): boolean {
    return this.#cells.size >= this.#cellsMax || this.#overflows >= GROUPS_MAX / 4
  }

  async add(segment: Segment, signal: AbortSignal): Promise<void> {
    const requests = segment.tables.find(({ table }) => table === 'requests')
    const rollups = segment.tables.find(({ table }) => table === 'latency_1m')
    if (rollups !== undefined && segment.recovered !== true) {
      for await (const block of readTable(rollups, { signal })) this.addBlock(block)
    } else if (requests !== undefined) {
      for await (const block of rollupsOfRows(requests, signal)) this.addBlock(block)
    }
  }

  addBlock(block: NativeBlockColumns): void {
    const all = ROLLUP_KEYS.map((key) => block.dictionary(key))
    const kept = this.keys.map((key) => all[ROLLUP_KEYS.indexOf(key)]!)
    const minutes = block.numbers('minute')
    const figures = FIGURE_NAMES.map((name) => block.numbers(name))
    const flags = { bits: block.arrays('flagsMap.flag'), counts: block.arrays('flagsMap.count').values }
    const metrics = ROLLUP_METRICS.map((metric) => ({
      sums: block.numbers(`${metric}_sum`),
      mins: block.numbers(`${metric}_min`),
      maxs: block.numbers(`${metric}_max`),
      buckets: block.arrays(`${metric}Map.bucket`),
      counts: block.arrays(`${metric}Map.count`).values,
    }))
    for (let row = 0; row < block.rows; row++) {
      const keep = this.#where?.((key) => {
        const { codes, texts } = all[ROLLUP_KEYS.indexOf(key)]!
        return texts[codes[row]!]!
      })
      if (keep === false) continue
      const n = figures[0]![row]!
      const group = this.#group(
        kept.map(({ codes, texts }) => texts[codes[row]!]!),
        this.#minutes ? minutes[row]! : 0,
        n,
      )
      this.requests += n
      const at = group * (FIGURES + METRICS)
      for (let k = 0; k < FIGURES; k++) this.#figures[at + k]! += figures[k]![row]!
      for (let k = row === 0 ? 0 : flags.bits.ends[row - 1]!; k < flags.bits.ends[row]!; k++) {
        this.#flags[group] ??= new Map()
        const bit = flags.bits.values[k]!
        this.#flags[group].set(bit, (this.#flags[group].get(bit) ?? 0) + flags.counts[k]!)
      }
      for (let m = 0; m < METRICS; m++) {
        const { sums, mins, maxs, buckets, counts } = metrics[m]!
        if ((m === 0 ? n : figures[1]![row]!) === 0) continue
        this.#figures[at + FIGURES + m]! += sums[row]!
        const extreme = group * METRICS + m
        this.#mins[extreme] = Math.min(this.#mins[extreme]!, mins[row]!)
        this.#maxs[extreme] = Math.max(this.#maxs[extreme]!, maxs[row]!)
        const word = ((group << GROUP_SHIFT) | (m << METRIC_SHIFT)) >>> 0
        for (let k = row === 0 ? 0 : buckets.ends[row - 1]!; k < buckets.ends[row]!; k++) {
          this.#cells.add((word | (buckets.values[k]! - ZERO_BUCKET)) >>> 0, counts[k]!)
        }
      }
    }
  }

  *groups(): Generator<RollupGroup> {
    const { words, counts } = this.#cells.sorted()
    let at = 0
    for (let group = 0; group < this.#values.length; group++) {
      const ends = new Array<number>(METRICS + 1)
      ends[0] = at
      for (let m = 0; m < METRICS; m++) {
        while (at < words.length && words[at]! >>> METRIC_SHIFT === group * METRICS + m) at++
        ends[m + 1] = at
      }
      yield this.#view(group, ends, words, counts)
    }
  }

  #view(group: number, ends: readonly number[], words: Uint32Array, counts: Float64Array): RollupGroup {
    const figure = (k: number): number => this.#figures[group * (FIGURES + METRICS) + k]!
    return {
      values: this.#values[group]!,
      overflow: this.#values[group] === this.#overflowValues,
      minute: this.#minutes ? this.#minuteOf[group]! : null,
      n: figure(0),
      phasesN: figure(1),
      attempts: figure(2),
      requestBytes: figure(3),
      responseBytes: figure(4),
      flags: [...(this.#flags[group] ?? [])].sort(([a], [b]) => a - b),
      histogram: (metric) => {
        const m = ROLLUP_METRICS.indexOf(metric)
        const n = figure(m === 0 ? 0 : 1)
        const from = ends[m]!
        const buckets = Int16Array.from(words.subarray(from, ends[m + 1]!), (word) => (word & CODE_MASK) + ZERO_BUCKET)
        return {
          n,
          sum: figure(FIGURES + m),
          min: n === 0 ? 0 : this.#mins[group * METRICS + m]!,
          max: this.#maxs[group * METRICS + m]!,
          buckets,
          counts: counts.slice(from, ends[m + 1]!),
        }
      },
    }
  }

  get #overflowValues(): readonly string[] {
    this.#overflowTexts ??= this.keys.map(() => OVERFLOW)
    return this.#overflowTexts
  }
  #overflowTexts: readonly string[] | null = null

  #group(values: readonly string[], minute: number, n: number): number {
    const id = `${minute}\0${values.join('\0')}`
    const known = this.#ids.get(id)
    if (known !== undefined) return known
    if (this.#ids.size - this.#overflows < this.#keysMax) return this.#create(id, values, minute)
    this.overflowRequests += n
    // Texts of keys come from outside: a control character in front keeps this one apart.
    const overflow = `\u0001${minute}`
    const group = this.#ids.get(overflow)
    if (group !== undefined) return group
    this.#overflows++
    return this.#create(overflow, this.#overflowValues, minute)
  }

  #create(id: string, values: readonly string[], minute: number): number {
    const group = this.#values.push(values) - 1
    if (group >= GROUPS_MAX) throw new Error('more groups than a cell can name')
    this.#ids.set(id, group)
    this.#minuteOf.push(minute)
    if ((group + 1) * METRICS > this.#mins.length) {
      this.#figures = grown(this.#figures)
      this.#mins = grown(this.#mins)
      this.#maxs = grown(this.#maxs)
    }
    this.#mins.fill(Number.POSITIVE_INFINITY, group * METRICS, (group + 1) * METRICS)
    return group
  }
}

/** Counts by word: open addressing over typed arrays that double when three quarters full. 24 B a cell at most. */
class Cells {
  size = 0
  #words = new Uint32Array(1024)
  #counts = new Float64Array(1024)

  add(word: number, count: number): void {
    if (count === 0) return
    if (this.size * 4 >= this.#words.length * 3) this.#grow()
    const mask = this.#words.length - 1
    let at = (Math.imul(word, 0x9e3779b1) >>> 8) & mask
    while (this.#counts[at] !== 0 && this.#words[at] !== word) at = (at + 1) & mask
    if (this.#counts[at] === 0) {
      this.#words[at] = word
      this.size++
    }
    this.#counts[at]! += count
  }

  /** All of them, by word. */
  sorted(): { readonly words: Uint32Array; readonly counts: Float64Array } {
    const used = new Uint32Array(this.size)
    for (let at = 0, k = 0; at < this.#words.length; at++) if (this.#counts[at] !== 0) used[k++] = this.#words[at]!
    const words = new Uint32Array(this.size)
    radixSort(used, words, this.size)
    return { words, counts: Float64Array.from(words, (word) => this.#countOf(word)) }
  }

  #countOf(word: number): number {
    const mask = this.#words.length - 1
    let at = (Math.imul(word, 0x9e3779b1) >>> 8) & mask
    while (this.#words[at] !== word || this.#counts[at] === 0) at = (at + 1) & mask
    return this.#counts[at]!
  }

  #grow(): void {
    const words = this.#words
    const counts = this.#counts
    this.#words = new Uint32Array(2 * words.length)
    this.#counts = new Float64Array(2 * words.length)
    this.size = 0
    for (let at = 0; at < words.length; at++) if (counts[at] !== 0) this.add(words[at]!, counts[at]!)
  }
}

function grown(array: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(2 * array.length)
  larger.set(array)
  return larger
}

/** Short names of flags of a group. */
export const flagName = (bit: number): string => FLAGS[bit] ?? `bit${bit}`
