import type { Identity, NativeBlock } from '../model/batch.ts'
import { ZERO_BUCKET } from '../model/buckets.ts'
import { writeVarint } from '../model/heap.ts'
import { blockHeader, bytesOf, columnHeader, LOW_CARDINALITY_PREFIX, lowCardinality } from '../model/native.ts'
import { ROLLUP_COLUMNS } from '../model/rollup-columns.ts'
import {
  CLASSES,
  FLAGS,
  OUTCOMES,
  OVERFLOW,
  ROLLUP_KEYS,
  ROLLUP_METRICS,
  type RollupKey,
  type RollupMetric,
} from '../model/schema.ts'
import { COUNTERS, KEY, METRICS, REQUEST_BYTES, RESPONSE_BYTES, type RollupGroups, SUMS } from './rollup-groups.ts'
import { CODE_BITS, CODE_MASK, GROUP_MASK, METRIC_SHIFT, type Runs } from './rollup-log.ts'

/** What a block is made of. All of it is per segment; nothing of it is kept by the block. */
export interface RollupParts {
  readonly groups: RollupGroups
  /** Non-zero values; the bucket of 0 ns follows from the counters. */
  readonly runs: Runs
  /** Texts behind the numbers of a key. */
  readonly identities: readonly Identity[]
  readonly routes: readonly string[]
  readonly methods: readonly string[]
}

/** Third number of a key: method, class and outcome. */
export function packRest(method: number, responseClass: number, outcome: number): number {
  return (method << 6) | (responseClass << 3) | outcome
}

/** Every number of a key of the row that takes what the bound on keys does not let in, but its minute. */
export const OVERFLOW_ID = -1

const MINUTES_PER_DAY = 1440

/** One Native block of `latency_1m`, a row for each group, in fresh memory. */
export function rollupBlock(parts: RollupParts): NativeBlock {
  const { groups, runs } = parts
  const rows = groups.length
  const out: Uint8Array[] = [blockHeader(ROLLUP_COLUMNS.length, rows)]
  const minutes = new Uint32Array(rows)
  const days = new Map<number, number>()
  for (let g = 0; g < rows; g++) {
    const minute = groups.keys[g * KEY + 3]!
    minutes[g] = minute * 60
    const day = Math.floor(minute / MINUTES_PER_DAY)
    days.set(day, (days.get(day) ?? 0) + 1)
  }

  /** Types of count columns that are narrower in this block than `nativeType`; the engine widens them on insert. */
  const countTypes = new Map<string, string>()
  const columns = new Map<string, Uint8Array[]>([['minute', [bytesOf(minutes, rows)]]])
  for (const key of ROLLUP_KEYS) columns.set(key, keyColumn(parts, key))
  columns.set('n', [counter(groups, 0)])
  columns.set('phases_n', [counter(groups, 1)])
  columns.set('attempts', [counter(groups, 2)])
  columns.set('request_bytes', [sumColumn(groups, REQUEST_BYTES)])
  columns.set('response_bytes', [sumColumn(groups, RESPONSE_BYTES)])
  const flags = flagColumns(groups)
  columns.set('flagsMap.flag', flags.keys)
  columns.set('flagsMap.count', flags.counts)
  let at = 0
  ROLLUP_METRICS.forEach((metric: RollupMetric, m) => {
    columns.set(`${metric}_sum`, [sumColumn(groups, m)])
    columns.set(`${metric}_min`, [extremeColumn(groups.mins, m, rows)])
    columns.set(`${metric}_max`, [extremeColumn(groups.maxs, m, rows)])
    let end = at
    while (end < runs.length && runs.words[end]! >>> METRIC_SHIFT === m) end++
    const histogram = histogramColumns(groups, runs, m, at, end)
    columns.set(`${metric}Map.bucket`, histogram.keys)
    columns.set(`${metric}Map.count`, histogram.counts)
    countTypes.set(`${metric}Map.count`, histogram.countType)
    at = end
  })
  for (const column of ROLLUP_COLUMNS) {
    const data = columns.get(column.name)
    if (data === undefined) throw new Error(`rollup column ${column.name} is not made`)
    out.push(columnHeader(column.name, countTypes.get(column.name) ?? column.nativeType), ...data)
  }
  return { buffers: out, rows, days, nodes: new Map() }
}

/** A LowCardinality(String) column: the distinct texts, and for every group which. */
function keyColumn(parts: RollupParts, key: RollupKey): Uint8Array[] {
  const { groups } = parts
  const codes = new Map<string, number>()
  const codeOf = (text: string): number => {
    let code = codes.get(text)
    if (code === undefined) {
      code = codes.size
      codes.set(text, code)
    }
    return code
  }
  const overflow = codeOf(OVERFLOW)
  const part = KEY_PARTS[key]
  const byId = part.texts(parts).map(codeOf)
  const indexes = codes.size <= 256 ? new Uint8Array(groups.length) : new Uint16Array(groups.length)
  for (let g = 0; g < groups.length; g++) {
    const id = groups.keys[g * KEY + part.at]!
    indexes[g] = id === OVERFLOW_ID ? overflow : byId[(id >>> part.shift) & part.mask]!
  }
  const out: Uint8Array[] = [LOW_CARDINALITY_PREFIX]
  lowCardinality(out, keyList([...codes.keys()]), codes.size, indexes, groups.length)
  return out
}

interface KeyPart {
  /** Which of the numbers of a key, and which bits of it. */
  readonly at: number
  readonly shift: number
  readonly mask: number
  /** Texts of those numbers. */
  texts(parts: RollupParts): readonly string[]
}
const ofIdentity = (text: (identity: Identity) => string): KeyPart => ({
  at: 0,
  shift: 0,
  mask: -1,
  texts: (parts) => parts.identities.map(text),
})
const KEY_PARTS: Readonly<Record<RollupKey, KeyPart>> = {
  mesh: ofIdentity((identity) => identity.mesh),
  reporter: ofIdentity((identity) => identity.reporter),
  source_workload: ofIdentity((identity) => identity.source.workload),
  source_namespace: ofIdentity((identity) => identity.source.namespace),
  destination_service: ofIdentity((identity) => identity.destination.service),
  destination_namespace: ofIdentity((identity) => identity.destination.namespace),
  destination_workload: ofIdentity((identity) => identity.destination.workload),
  destination_version: ofIdentity((identity) => identity.destination.version),
  route: { at: 1, shift: 0, mask: -1, texts: (parts) => parts.routes },
  method: { at: 2, shift: 6, mask: -1, texts: (parts) => parts.methods },
  class: { at: 2, shift: 3, mask: 7, texts: () => CLASSES },
  outcome: { at: 2, shift: 0, mask: 7, texts: () => OUTCOMES },
}

function keyList(texts: readonly string[]): Uint8Array {
  const bytes = Buffer.allocUnsafe(texts.reduce((sum, text) => sum + 3 * text.length + 5, 0))
  let at = 0
  for (const text of texts) {
    at = writeVarint(bytes, at, Buffer.byteLength(text))
    at += bytes.write(text, at)
  }
  return bytes.subarray(0, at)
}

/** Arrays of a column pair: ends of each row's array, then all elements. */
interface ArrayColumns {
  readonly keys: Uint8Array[]
  readonly counts: Uint8Array[]
}

/** Histograms of one metric, from its runs (`from` to `to`), in order of group. Zeros go first, as they sort. */
function histogramColumns(
  groups: RollupGroups,
  runs: Runs,
  metric: number,
  from: number,
  to: number,
): ArrayColumns & { readonly countType: string } {
  const { length, counters } = groups
  const ends = new Uint32Array(2 * length)
  const buckets = new Int16Array(to - from + length)
  const counts = new Uint32Array(to - from + length)
  let end = 0
  let at = from
  let largest = 0
  for (let g = 0; g < length; g++) {
    const observations = counters[g * COUNTERS + (metric === 0 ? 0 : 1)]!
    // The place of the zero bucket is taken, and given back when there are none.
    const first = end++
    let sum = 0
    while (at < to && ((runs.words[at]! >>> CODE_BITS) & GROUP_MASK) === g) {
      buckets[end] = (runs.words[at]! & CODE_MASK) + ZERO_BUCKET
      const count = runs.counts[at++]!
      counts[end++] = count
      sum += count
      if (count > largest) largest = count
    }
    if (sum < observations) {
      buckets[first] = ZERO_BUCKET
      counts[first] = observations - sum
      if (counts[first]! > largest) largest = counts[first]!
    } else {
      buckets.copyWithin(first, first + 1, end)
      counts.copyWithin(first, first + 1, end)
      end--
    }
    ends[2 * g] = end
  }
  const offsets = bytesOf(ends, 2 * length)
  // Most counts are 1: one byte each is half of the block.
  const narrow = largest < 256 ? new Uint8Array(end) : largest < 65_536 ? new Uint16Array(end) : counts
  if (narrow !== counts) for (let k = 0; k < end; k++) narrow[k] = counts[k]!
  return {
    keys: [offsets, bytesOf(buckets, end)],
    counts: [offsets, bytesOf(narrow, end)],
    countType: `Array(UInt${8 * narrow.BYTES_PER_ELEMENT})`,
  }
}

function flagColumns(groups: RollupGroups): ArrayColumns {
  const ends = new Uint32Array(2 * groups.length)
  const flags: number[] = []
  const counts: number[] = []
  for (let g = 0; g < groups.length; g++) {
    if (groups.flagRows[g]! > 0) {
      for (let bit = 0; bit < FLAGS.length; bit++) {
        const count = groups.flagCount(g, bit)
        if (count === 0) continue
        flags.push(bit)
        counts.push(count)
      }
    }
    ends[2 * g] = flags.length
  }
  const offsets = bytesOf(ends, 2 * groups.length)
  return {
    keys: [offsets, Uint8Array.from(flags)],
    counts: [offsets, bytesOf(Uint32Array.from(counts), counts.length)],
  }
}

function counter(groups: RollupGroups, k: number): Uint8Array {
  const words = new Uint32Array(2 * groups.length)
  for (let g = 0; g < groups.length; g++) put(words, g, groups.counters[g * COUNTERS + k]!)
  return bytesOf(words, words.length)
}

function sumColumn(groups: RollupGroups, k: number): Uint8Array {
  const words = new Uint32Array(2 * groups.length)
  for (let g = 0; g < groups.length; g++) {
    const carried = groups.carriedSum(g, k)
    if (carried === undefined) put(words, g, groups.sums[g * SUMS + k]!)
    else putBig(words, g, carried)
  }
  return bytesOf(words, words.length)
}

function extremeColumn(values: Float64Array, metric: number, rows: number): Uint8Array {
  const words = new Uint32Array(2 * rows)
  for (let g = 0; g < rows; g++) put(words, g, values[g * METRICS + metric]!)
  return bytesOf(words, words.length)
}

/** A UInt64; what is too large (infinity: no minimum) becomes the largest. */
function put(words: Uint32Array, at: number, value: number): void {
  if (value >= 2 ** 64) {
    words[2 * at] = 0xffff_ffff
    words[2 * at + 1] = 0xffff_ffff
    return
  }
  words[2 * at] = value % 4294967296
  words[2 * at + 1] = value / 4294967296
}

/** Modulo 2^64, as the engine adds. */
function putBig(words: Uint32Array, at: number, value: bigint): void {
  words[2 * at] = Number(value & 0xffff_ffffn)
  words[2 * at + 1] = Number((value >> 32n) & 0xffff_ffffn)
}
