import { ProtobufWriter } from '../../lib/protobuf-writer.ts'
import type { Bucket, OutHistogram, OutLabel, OutMetadata, OutSample, OutSeries } from './series.ts'

/**
 * Requests of remote write, before Snappy: `prometheus.WriteRequest` (1.0) and `io.prometheus.write.v2.Request` (2.0).
 * Numbers of fields are those of prompb/{remote,types}.proto and prompb/io/prometheus/write/v2/types.proto.
 */

/** Prometheus's marker that a series has ended. */
const STALE_HIGH = 0x7ff00000
const STALE_LOW = 0x00000002

const TYPES: Readonly<Record<string, number>> = {
  counter: 1,
  gauge: 2,
  histogram: 3,
  gaugehistogram: 4,
  summary: 5,
  info: 6,
  stateset: 7,
}

const series = new ProtobufWriter()
const inner = new ProtobufWriter()
const innermost = new ProtobufWriter()

/** `metadata`: of families, which 1.0 tells beside the series, now and then. */
export function encodeV1(all: readonly OutSeries[], metadata: readonly OutMetadata[] = []): Uint8Array {
  const out = new ProtobufWriter(16 * 1024)
  for (const { labels, samples, histograms, exemplars } of all) {
    series.reset()
    for (const [name, value] of labels) {
      inner.reset()
      inner.string(1, name)
      inner.string(2, value)
      series.message(1, inner)
    }
    for (const sample of samples) {
      writeSample(inner, sample, false)
      series.message(2, inner)
    }
    for (const exemplar of exemplars) {
      inner.reset()
      for (const [name, value] of exemplar.labels) {
        innermost.reset()
        innermost.string(1, name)
        innermost.string(2, value)
        inner.message(1, innermost)
      }
      inner.double(2, exemplar.value)
      inner.uint(3, exemplar.timeMs)
      series.message(3, inner)
    }
    for (const histogram of histograms) {
      writeHistogram(inner, histogram, false)
      series.message(4, inner)
    }
    out.message(1, series)
  }
  for (const { family, type, help, unit } of metadata) {
    inner.reset()
    inner.uint(1, TYPES[type] ?? 0)
    inner.string(2, family)
    inner.string(4, help)
    inner.string(5, unit)
    out.message(3, inner)
  }
  return out.view()
}

export function encodeV2(all: readonly OutSeries[]): Uint8Array {
  const out = new ProtobufWriter(16 * 1024)
  const places = new Map<string, number>([['', 0]])
  const place = (text: string): number => {
    let at = places.get(text)
    if (at === undefined) {
      at = places.size
      places.set(text, at)
    }
    return at
  }
  // Every text is known before the table is written, which stands first.
  const placesOf = (labels: readonly OutLabel[]) => labels.flatMap(([name, value]) => [place(name), place(value)])
  const references = all.map(({ labels, metadata, exemplars }) => ({
    labels: placesOf(labels),
    exemplars: exemplars.map((exemplar) => placesOf(exemplar.labels)),
    help: place(metadata.help),
    unit: place(metadata.unit),
  }))
  for (const text of places.keys()) out.string(4, text)
  all.forEach(({ metadata, samples, histograms, exemplars }, k) => {
    const { labels, help, unit, exemplars: exemplarLabels } = references[k]!
    series.reset()
    inner.reset()
    for (const at of labels) inner.varint(at)
    series.message(1, inner)
    for (const sample of samples) {
      writeSample(inner, sample, true)
      series.message(2, inner)
    }
    for (const histogram of histograms) {
      writeHistogram(inner, histogram, true)
      series.message(3, inner)
    }
    exemplars.forEach(({ value, timeMs }, n) => {
      inner.reset()
      innermost.reset()
      for (const at of exemplarLabels[n]!) innermost.varint(at)
      inner.message(1, innermost)
      inner.double(2, value)
      inner.uint(3, timeMs)
      series.message(4, inner)
    })
    inner.reset()
    inner.uint(1, TYPES[metadata.type] ?? 0)
    inner.uint(3, help)
    inner.uint(4, unit)
    series.message(5, inner)
    out.message(5, series)
  })
  return out.view()
}

function writeSample(out: ProtobufWriter, { value, timeMs, startMs, stale }: OutSample, version2: boolean): void {
  out.reset()
  if (stale) out.doubleOf(1, STALE_HIGH, STALE_LOW)
  else out.double(1, value)
  out.uint(2, timeMs)
  if (version2 && startMs > 0) out.uint(3, startMs)
}

function writeHistogram(out: ProtobufWriter, histogram: OutHistogram, version2: boolean): void {
  out.reset()
  const { count, sum, scale, zeroThreshold, zeroCount, timeMs, startMs, stale } = histogram
  // Whole numbers are told as such, with differences; what a sampling sender counted may be none.
  const whole = [count, zeroCount, ...[...histogram.positive, ...histogram.negative].map(([, n]) => n)].every(
    Number.isSafeInteger,
  )
  if (whole) out.uint(1, count)
  else out.double(2, count)
  if (stale) out.doubleOf(3, STALE_HIGH, STALE_LOW)
  else out.double(3, sum)
  out.sint(4, scale)
  out.double(5, zeroThreshold)
  if (whole) out.uint(6, zeroCount)
  else out.double(7, zeroCount)
  writeSide(out, histogram.negative, whole, { span: 8, delta: 9, count: 10 })
  writeSide(out, histogram.positive, whole, { span: 11, delta: 12, count: 13 })
  out.uint(15, timeMs)
  if (version2 && startMs > 0) out.uint(17, startMs)
}

function writeSide(
  out: ProtobufWriter,
  buckets: readonly Bucket[],
  whole: boolean,
  field: { readonly span: number; readonly delta: number; readonly count: number },
): void {
  if (buckets.length === 0) return
  let expected = 0
  for (let k = 0; k < buckets.length; ) {
    const [index] = buckets[k]!
    let length = 1
    while (buckets[k + length]?.[0] === index + length) length++
    innermost.reset()
    innermost.sint(1, index - expected)
    innermost.uint(2, length)
    out.message(field.span, innermost)
    expected = index + length
    k += length
  }
  innermost.reset()
  let before = 0
  for (const [, count] of buckets) {
    if (whole) innermost.zigzag(count - before)
    else innermost.rawDouble(count)
    before = count
  }
  out.message(whole ? field.delta : field.count, innermost)
}
