import type { ProtobufReader } from '../../lib/protobuf-reader.ts'
import type { BucketRun, Distribution } from '../../metrics/distribution.ts'
import type { WrittenHistogram } from './series.ts'

/** Bits of Prometheus's marker that a series has ended: a NaN that arithmetic does not make. */
export const STALE_HIGH = 0x7ff00000
export const STALE_LOW = 0x00000002

/** Schemas with exponential buckets, and the one with bounds of its own. */
const SCHEMA_MIN = -4
const SCHEMA_MAX = 8
const SCHEMA_CUSTOM = -53
/** Buckets of one histogram, holes between spans included. */
const RUN_MAX = 65_536
const NOTHING: BucketRun = { offset: 0, counts: [] }

interface Spans {
  readonly offsets: number[]
  readonly lengths: number[]
}

interface Side {
  readonly spans: Spans
  /** Differences between buckets next to each other, of whole numbers. */
  readonly deltas: number[]
  /** Counts themselves, of floats. */
  readonly counts: number[]
}

/**
 * `Histogram` of `prometheus.WriteRequest` and of `io.prometheus.write.v2.Request`, which differ in two fields that only the
 * second has: bounds of its own (16) and the start (17).
 */
export function readHistogram(reader: ProtobufReader, end: number): WrittenHistogram {
  let count = 0
  let sum = 0
  let schema = 0
  let zeroThreshold = 0
  let zeroCount = 0
  let timeMs = 0
  let startMs = 0
  let stale = false
  const negative = emptySide()
  const positive = emptySide()
  const bounds: number[] = []
  while (reader.next(end)) {
    switch (reader.field) {
      case 1:
        count = reader.uint(end)
        break
      case 2:
        count = reader.double(end)
        break
      case 3:
        stale = reader.doubleIs(STALE_HIGH, STALE_LOW, end)
        sum = reader.double(end)
        break
      case 4:
        schema = reader.sint(end)
        break
      case 5:
        zeroThreshold = reader.double(end)
        break
      case 6:
        zeroCount = reader.uint(end)
        break
      case 7:
        zeroCount = reader.double(end)
        break
      case 8:
        readSpan(reader, end, negative.spans)
        break
      case 9:
        readNumbers(reader, end, negative.deltas, 'sint')
        break
      case 10:
        readNumbers(reader, end, negative.counts, 'double')
        break
      case 11:
        readSpan(reader, end, positive.spans)
        break
      case 12:
        readNumbers(reader, end, positive.deltas, 'sint')
        break
      case 13:
        readNumbers(reader, end, positive.counts, 'double')
        break
      case 15:
        timeMs = reader.int(end)
        break
      case 16:
        readNumbers(reader, end, bounds, 'double')
        break
      case 17:
        startMs = reader.int(end)
        break
      default:
        reader.skip(end)
    }
  }
  if (stale) return { distribution: null, timeMs, stale }
  const figures = { temporality: 'cumulative' as const, count, sum, ...(startMs > 0 ? { startMs } : {}) }
  const below = runOf(negative)
  const above = runOf(positive)
  const refused = (reason: string): WrittenHistogram => ({ distribution: null, reason, timeMs, stale })
  if (below === null || above === null) return refused('the spans of a histogram do not fit its buckets')
  let distribution: Distribution
  if (schema === SCHEMA_CUSTOM) {
    const counts = new Float64Array(bounds.length + 1)
    for (let k = 0; k < above.counts.length; k++) {
      const index = above.offset + k
      if (index < 0 || index > bounds.length) return refused('a bucket of a histogram has no bound')
      counts[index] = above.counts[k]!
    }
    distribution = { kind: 'explicit', bounds, counts, ...figures }
  } else if (Number.isInteger(schema) && schema >= SCHEMA_MIN && schema <= SCHEMA_MAX) {
    const runs = below.counts.length > 0 ? { positive: above, negative: below } : { positive: above }
    distribution = { kind: 'exponential', scale: schema, zeroCount, zeroThreshold, ...runs, ...figures }
  } else return refused(`a histogram has the schema ${schema}, which is not known`)
  return { distribution, timeMs, stale }
}

const emptySide = (): Side => ({ spans: { offsets: [], lengths: [] }, deltas: [], counts: [] })

/** BucketSpan { offset 1 sint32, length 2 }. */
function readSpan(reader: ProtobufReader, limit: number, spans: Spans): void {
  const end = reader.length(limit)
  let offset = 0
  let length = 0
  while (reader.next(end)) {
    if (reader.field === 1) offset = reader.sint(end)
    else if (reader.field === 2) length = reader.uint(end)
    else reader.skip(end)
  }
  spans.offsets.push(offset)
  spans.lengths.push(length)
}

/** Repeated numbers, packed or not. */
function readNumbers(reader: ProtobufReader, limit: number, into: number[], kind: 'sint' | 'double'): void {
  const end = reader.wireType === 2 ? reader.length(limit) : limit
  if (reader.wireType !== 2) {
    into.push(reader[kind](end))
    return
  }
  while (reader.at < end) into.push(reader[kind](end))
}

/** Null: counts and spans differ in number, a count is negative, or the run is too wide. */
function runOf({ spans: { offsets, lengths }, deltas, counts: floats }: Side): BucketRun | null {
  let width = 0
  let buckets = 0
  for (let k = 0; k < offsets.length; k++) {
    if (k > 0 && offsets[k]! < 0) return null
    width += lengths[k]! + (k > 0 ? offsets[k]! : 0)
    buckets += lengths[k]!
    if (width > RUN_MAX) return null
  }
  if (floats.length > 0 && deltas.length > 0) return null
  if (buckets !== floats.length + deltas.length) return null
  if (width === 0) return NOTHING
  const counts = new Float64Array(width)
  let at = 0
  let next = 0
  let last = 0
  for (let k = 0; k < offsets.length; k++) {
    if (k > 0) at += offsets[k]!
    for (let n = lengths[k]!; n > 0; n--) {
      last = floats.length > 0 ? floats[next++]! : last + deltas[next++]!
      if (!(last >= 0)) return null
      counts[at++] = last
    }
  }
  return { offset: offsets[0]!, counts }
}
