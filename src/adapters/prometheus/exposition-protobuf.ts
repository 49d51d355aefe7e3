import { ProtobufWriter } from '../../lib/protobuf-writer.ts'
import {
  CHUNK_BYTES,
  type CounterFamily,
  type Exemplar,
  FAMILIES,
  type HistogramFamily,
  type Registry,
  seriesByFamily,
} from './families.ts'
import type { Labels } from './labels.ts'
import { SCHEMA_MAX } from './native.ts'
import { HISTOGRAMS } from './series.ts'

/**
 * Delimited `io.prometheus.client.MetricFamily` messages (github.com/prometheus/client_model, `metrics.proto`) with
 * classic buckets for all histograms and native ones for the duration. `null` between two parts: other work may run.
 *
 * The length of a family stands before it, so a family is held until it is complete; one above `FAMILY_BYTES_MAX` is sent
 * as several messages of the same name, which a reader adds up like one.
 */
export function* writeProtobuf(registry: Registry): Generator<Uint8Array | null> {
  const { table } = registry
  const { requests, tcp } = seriesByFamily(table)
  const metric = new ProtobufWriter()
  const labels = createLabelBytes(registry)
  for (const family of FAMILIES) {
    const all = family.tcp ? tcp : requests
    if (all.length === 0) continue
    const head = familyHead(family)
    let message = head
    let next = CHUNK_BYTES
    for (const series of all) {
      metric.reset()
      metric.bytes(labels(series))
      if (family.type === 'counter') writeCounter(metric, registry, family, series)
      else writeHistogram(metric, registry, family, series)
      message.message(METRIC, metric)
      if (message.length >= FAMILY_BYTES_MAX) {
        yield delimited(message)
        message = familyHead(family)
        next = CHUNK_BYTES
      } else if (message.length >= next) {
        next += CHUNK_BYTES
        yield null
      }
    }
    yield delimited(message)
  }
}

const FAMILY_BYTES_MAX = 8 * 1024 * 1024

// Field numbers of MetricFamily, Metric, Counter, Histogram, Bucket, BucketSpan, Exemplar, LabelPair, Timestamp.
const METRIC = 4
const COUNTER = 3
const HISTOGRAM = 7
const TYPE_COUNTER = 0
const TYPE_HISTOGRAM = 4
/** Prometheus's default: smaller values are in the zero bucket. 2^−128. */
const ZERO_THRESHOLD = 2 ** -128

function familyHead(family: CounterFamily | HistogramFamily): ProtobufWriter {
  const out = new ProtobufWriter()
  out.string(1, family.name)
  out.string(2, family.help)
  out.uint(3, family.type === 'counter' ? TYPE_COUNTER : TYPE_HISTOGRAM)
  if (family.unit !== undefined) out.string(5, family.unit)
  return out
}

function delimited(message: ProtobufWriter): Uint8Array {
  const out = new ProtobufWriter()
  out.varint(message.length)
  out.bytes(message.view())
  return out.view()
}

const inner = new ProtobufWriter()
const innermost = new ProtobufWriter()
const deepest = new ProtobufWriter()

function writeCounter(out: ProtobufWriter, { table }: Registry, family: CounterFamily, series: number): void {
  inner.reset()
  inner.double(1, family.value(table, series))
  writeTimestamp(inner, 3, table.created[series]! / 1000)
  out.message(COUNTER, inner)
}

function writeHistogram(out: ProtobufWriter, registry: Registry, family: HistogramFamily, series: number): void {
  const { table, bounds, exemplars } = registry
  inner.reset()
  const count = table.counts[series]!
  inner.uint(1, count)
  inner.double(2, table.sums[series * HISTOGRAMS + family.histogram]! / family.scale)
  let cumulative = 0
  for (let k = 0; k <= bounds.length; k++) {
    cumulative += table.bucket(series, family.histogram, k)
    innermost.reset()
    innermost.uint(1, cumulative)
    innermost.double(2, bounds[k] ?? Number.POSITIVE_INFINITY)
    const exemplar = family.native ? exemplars.get(series * (bounds.length + 1) + k) : undefined
    if (exemplar !== undefined) writeExemplar(innermost, exemplar)
    inner.message(3, innermost)
  }
  if (family.native) writeNative(inner, registry, series, count)
  writeTimestamp(inner, 15, table.created[series]! / 1000)
  out.message(HISTOGRAM, inner)
}

/** Schema, zero bucket, spans of consecutive buckets and the differences of their counts. */
function writeNative(out: ProtobufWriter, { cells }: Registry, series: number, count: number): void {
  const spans: { offset: number; length: number }[] = []
  innermost.reset()
  let expected = 0
  let before = 0
  let seen = 0
  cells.each(series, (index, inBucket) => {
    const span = spans.at(-1)
    if (span !== undefined && index === expected) span.length++
    else spans.push({ offset: index - expected, length: 1 })
    expected = index + 1
    innermost.zigzag(inBucket - before)
    before = inBucket
    seen += inBucket
  })
  out.sint(5, SCHEMA_MAX - cells.shifts[series]!)
  out.double(6, ZERO_THRESHOLD)
  out.uint(7, count - seen)
  for (const span of spans) {
    deepest.reset()
    deepest.sint(1, span.offset)
    deepest.uint(2, span.length)
    out.message(12, deepest)
  }
  if (spans.length > 0) out.message(13, innermost)
}

function writeExemplar(out: ProtobufWriter, exemplar: Exemplar): void {
  const message = new ProtobufWriter(128)
  deepest.reset()
  deepest.string(1, 'trace_id')
  deepest.string(2, exemplar.traceId)
  message.message(1, deepest)
  message.double(2, exemplar.value)
  writeTimestamp(message, 3, exemplar.time)
  out.message(3, message)
}

function writeTimestamp(out: ProtobufWriter, field: number, seconds: number): void {
  const whole = Math.floor(seconds)
  deepest.reset()
  deepest.uint(1, whole)
  deepest.uint(2, Math.round((seconds - whole) * 1e9))
  out.message(field, deepest)
}

/** `Metric.label` fields of a series. Series come sorted by identity, so the long part is made once for each. */
function createLabelBytes({ table }: Registry): (series: number) => Uint8Array {
  const identity = new ProtobufWriter()
  const all = new ProtobufWriter()
  let lastWho = Number.NaN
  return (series) => {
    const who = table.whoOfSeries(series)
    if (who !== lastWho) {
      identity.reset()
      writeLabels(identity, table.identityLabelsOf(who))
      lastWho = who
    }
    all.reset()
    all.bytes(identity.view())
    writeLabels(all, table.answerLabelsOf(series))
    return all.view()
  }
}

function writeLabels(out: ProtobufWriter, labels: Labels): void {
  for (const [name, value] of labels) {
    deepest.reset()
    deepest.string(1, name)
    deepest.string(2, value)
    out.message(1, deepest)
  }
}
