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
import { OWN_FAMILIES, type OwnFamily } from './own-families.ts'
import type { PhaseHistogram } from './phase-histogram.ts'
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
  const byFamily = seriesByFamily(table)
  const metric = new ProtobufWriter()
  const labels = createLabelBytes(registry)
  for (const family of FAMILIES) {
    const all = byFamily[family.of]
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
  yield* writeOwn(registry)
}

const FAMILY_BYTES_MAX = 8 * 1024 * 1024

// Field numbers of MetricFamily, Metric, Counter, Histogram, Bucket, BucketSpan, Exemplar, LabelPair, Timestamp.
const METRIC = 4
const COUNTER = 3
const HISTOGRAM = 7
const GAUGE = 2
const TYPES = { counter: 0, gauge: 1, histogram: 4 } as const
/** Prometheus's default: smaller values are in the zero bucket. 2^−128. */
const ZERO_THRESHOLD = 2 ** -128

/** Families beside Istio's. */
function* writeOwn(registry: Registry): Generator<Uint8Array | null> {
  const metric = new ProtobufWriter()
  for (const family of OWN_FAMILIES) {
    let message = familyHead(family)
    let next = CHUNK_BYTES
    const headLength = message.length
    for (const { labels, more, value, histogram, createdMs } of family.series(registry)) {
      metric.reset()
      writeLabels(metric, labels)
      writeLabels(metric, more)
      inner.reset()
      if (histogram !== null) writePhase(inner, histogram, registry.phaseBounds, createdMs)
      else {
        inner.double(1, value)
        if (createdMs > 0) writeTimestamp(inner, 3, createdMs / 1000)
      }
      metric.message(family.type === 'gauge' ? GAUGE : histogram === null ? COUNTER : HISTOGRAM, inner)
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
    if (message.length > headLength) yield delimited(message)
  }
}

function writePhase(
  out: ProtobufWriter,
  histogram: PhaseHistogram,
  bounds: readonly number[],
  createdMs: number,
): void {
  out.uint(1, histogram.count)
  out.double(2, histogram.sum / 1e9)
  let cumulative = 0
  histogram.classic(bounds).forEach((count, k) => {
    cumulative += count
    innermost.reset()
    innermost.uint(1, cumulative)
    innermost.double(2, bounds[k] ?? Number.POSITIVE_INFINITY)
    out.message(3, innermost)
  })
  writeBuckets(out, {
    schema: histogram.schema,
    zeros: histogram.zeros,
    each: (visit) => {
      for (const [index, count] of histogram.buckets()) visit(index, count)
    },
  })
  writeTimestamp(out, 15, createdMs / 1000)
}

function familyHead(family: Pick<OwnFamily, 'name' | 'help' | 'type'> & { readonly unit?: string }): ProtobufWriter {
  const out = new ProtobufWriter()
  out.string(1, family.name)
  out.string(2, family.help)
  out.uint(3, TYPES[family.type])
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

function writeNative(out: ProtobufWriter, { cells }: Registry, series: number, count: number): void {
  let seen = 0
  cells.each(series, (_index, inBucket) => {
    seen += inBucket
  })
  writeBuckets(out, {
    schema: SCHEMA_MAX - cells.shifts[series]!,
    zeros: count - seen,
    each: (visit) => cells.each(series, visit),
  })
}

interface NativeBuckets {
  readonly schema: number
  readonly zeros: number
  /** Non-empty buckets, ascending. */
  each(visit: (index: number, count: number) => void): void
}

/** Schema, zero bucket, spans of consecutive buckets and the differences of their counts. */
function writeBuckets(out: ProtobufWriter, { schema, zeros, each }: NativeBuckets): void {
  const spans: { offset: number; length: number }[] = []
  innermost.reset()
  let expected = 0
  let before = 0
  each((index, inBucket) => {
    const span = spans.at(-1)
    if (span !== undefined && index === expected) span.length++
    else spans.push({ offset: index - expected, length: 1 })
    expected = index + 1
    innermost.zigzag(inBucket - before)
    before = inBucket
  })
  out.sint(5, schema)
  out.double(6, ZERO_THRESHOLD)
  out.uint(7, zeros)
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
