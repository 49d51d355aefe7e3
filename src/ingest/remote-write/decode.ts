import { MalformedProtobuf, ProtobufReader } from '../../lib/protobuf-reader.ts'
import type { Exemplar, Label } from '../../metrics/store.ts'
import { readHistogram, STALE_HIGH, STALE_LOW } from './histogram.ts'
import {
  type Metadata,
  TYPES,
  type WriteVisitor,
  type WrittenHistogram,
  type WrittenSample,
  type WrittenSeries,
} from './series.ts'

/**
 * Requests of remote write, unpacked (prometheus.io/docs/specs/prw/remote_write_spec and …_spec_2_0).
 * Throws `MalformedProtobuf` when the bytes are none; series before that have been visited.
 */
export function decodeWriteRequest(bytes: Buffer, visitor: WriteVisitor): void {
  const reader = new ProtobufReader(bytes)
  while (reader.next(bytes.length)) {
    if (reader.field === 1) readSeriesV1(reader, reader.length(bytes.length), visitor)
    else if (reader.field === 3) readMetadataV1(reader, reader.length(bytes.length), visitor)
    else reader.skip(bytes.length)
  }
}

/** Texts of one request; far more than any sender has in one. */
const SYMBOLS_MAX = 1_000_000

/** Texts come once, as a table that everything else refers to; the table may stand behind what refers to it. */
export function decodeWriteRequestV2(bytes: Buffer, visitor: WriteVisitor): void {
  const { length: end } = bytes
  const reader = new ProtobufReader(bytes)
  const symbols: string[] = []
  while (reader.next(end)) {
    if (reader.field !== 4) {
      reader.skip(end)
      continue
    }
    if (symbols.length >= SYMBOLS_MAX) throw new MalformedProtobuf(`there are more than ${SYMBOLS_MAX} symbols`)
    symbols.push(reader.text(end))
  }
  if (symbols.length > 0 && symbols[0] !== '') throw new MalformedProtobuf('the first symbol is not empty')
  reader.at = 0
  while (reader.next(end)) {
    if (reader.field === 5) readSeriesV2(reader, reader.length(end), symbols, visitor)
    else reader.skip(end)
  }
}

// ---- 1.0: TimeSeries: labels 1, samples 2, exemplars 3, histograms 4

function readSeriesV1(reader: ProtobufReader, end: number, visitor: WriteVisitor): void {
  const labels: Label[] = []
  const samples: WrittenSample[] = []
  const histograms: WrittenHistogram[] = []
  const exemplars: Exemplar[] = []
  while (reader.next(end)) {
    if (reader.field === 1) labels.push(readLabelV1(reader, reader.length(end)))
    else if (reader.field === 2) samples.push(readSample(reader, reader.length(end)))
    else if (reader.field === 4) histograms.push(readHistogram(reader, reader.length(end)))
    else if (reader.field === 3) addExemplar(exemplars, readExemplar(reader, reader.length(end), null), visitor)
    else reader.skip(end)
  }
  visit({ labels, samples, histograms, exemplars }, visitor)
}

/** Label: name 1, value 2. */
function readLabelV1(reader: ProtobufReader, end: number): Label {
  let name = ''
  let value = ''
  while (reader.next(end)) {
    if (reader.field === 1) name = reader.text(end)
    else if (reader.field === 2) value = reader.text(end)
    else reader.skip(end)
  }
  return [name, value]
}

/** Exemplar: labels 1, value 2, timestamp 3; labels are messages, and of 2.0 pairs of places in the table. A text: why not. */
function readExemplar(reader: ProtobufReader, end: number, symbols: readonly string[] | null): Exemplar | string {
  const labels: Label[] = []
  let value = 0
  let timeMs = 0
  let problem = ''
  while (reader.next(end)) {
    if (reader.field === 2) value = reader.double(end)
    else if (reader.field === 3) timeMs = reader.int(end)
    else if (reader.field !== 1) reader.skip(end)
    else if (symbols === null) labels.push(readLabelV1(reader, reader.length(end)))
    else problem = readLabelsV2(reader, end, symbols, labels) || problem
  }
  if (problem !== '') return problem
  const names = new Set(labels.map(([name]) => name))
  if (names.has('') || names.size < labels.length)
    return 'the labels of an exemplar have no names, or the same one twice'
  return { labels, value, timeMs }
}

function addExemplar(exemplars: Exemplar[], exemplar: Exemplar | string, visitor: WriteVisitor): void {
  if (typeof exemplar === 'string') visitor.invalidExemplar(exemplar)
  else exemplars.push(exemplar)
}

/** Sample: value 1, timestamp 2 and, of 2.0, start_timestamp 3. */
function readSample(reader: ProtobufReader, end: number): WrittenSample {
  let value = 0
  let timeMs = 0
  let startMs = 0
  let stale = false
  while (reader.next(end)) {
    if (reader.field === 1) {
      stale = reader.doubleIs(STALE_HIGH, STALE_LOW, end)
      value = reader.double(end)
    } else if (reader.field === 2) timeMs = reader.int(end)
    else if (reader.field === 3) startMs = reader.int(end)
    else reader.skip(end)
  }
  return { value, timeMs, startMs, stale }
}

/** MetricMetadata: type 1, metric_family_name 2, help 4, unit 5. */
function readMetadataV1(reader: ProtobufReader, end: number, visitor: WriteVisitor): void {
  let type = 0
  let family = ''
  let help = ''
  let unit = ''
  while (reader.next(end)) {
    if (reader.field === 1) type = reader.uint(end)
    else if (reader.field === 2) family = reader.text(end)
    else if (reader.field === 4) help = reader.text(end)
    else if (reader.field === 5) unit = reader.text(end)
    else reader.skip(end)
  }
  visitor.metadata(family, { type: TYPES[type] ?? 'unknown', help, unit })
}

// ---- 2.0: TimeSeries: labels_refs 1, samples 2, histograms 3, exemplars 4, metadata 5; before the final specification the
//      start stood here, as created_timestamp 6, and not with each sample

function readSeriesV2(reader: ProtobufReader, end: number, symbols: readonly string[], visitor: WriteVisitor): void {
  const labels: Label[] = []
  const samples: WrittenSample[] = []
  const histograms: WrittenHistogram[] = []
  let metadata: Metadata | undefined
  const exemplars: Exemplar[] = []
  let startMs = 0
  let problem = ''
  while (reader.next(end)) {
    if (reader.field === 1) problem = readLabelsV2(reader, end, symbols, labels) || problem
    else if (reader.field === 2) samples.push(readSample(reader, reader.length(end)))
    else if (reader.field === 3) histograms.push(readHistogram(reader, reader.length(end)))
    else if (reader.field === 5) metadata = readMetadataV2(reader, reader.length(end), symbols)
    else if (reader.field === 6) startMs = reader.int(end)
    else if (reader.field === 4) addExemplar(exemplars, readExemplar(reader, reader.length(end), symbols), visitor)
    else reader.skip(end)
  }
  if (problem !== '') {
    visitor.invalid(problem, samples.length, histograms.length)
    return
  }
  const started =
    startMs > 0 ? samples.map((sample) => (sample.startMs > 0 ? sample : { ...sample, startMs })) : samples
  visit({ labels, samples: started, histograms, exemplars, ...(metadata === undefined ? {} : { metadata }) }, visitor)
}

/** Pairs of places in the table, packed or not. '' when all is well. */
function readLabelsV2(reader: ProtobufReader, limit: number, symbols: readonly string[], labels: Label[]): string {
  if (reader.wireType !== 2) throw new MalformedProtobuf('references to labels are not packed')
  const end = reader.length(limit)
  while (reader.at < end) {
    const name = symbols[reader.uint(end)]
    if (reader.at >= end) return 'there is a label name without a value'
    const value = symbols[reader.uint(end)]
    if (name === undefined || value === undefined) {
      reader.at = end
      return 'a label refers to a symbol that is not there'
    }
    labels.push([name, value])
  }
  return ''
}

/** Metadata: type 1, help_ref 3, unit_ref 4. */
function readMetadataV2(reader: ProtobufReader, end: number, symbols: readonly string[]): Metadata {
  let type = 0
  let help = ''
  let unit = ''
  while (reader.next(end)) {
    if (reader.field === 1) type = reader.uint(end)
    else if (reader.field === 3) help = symbols[reader.uint(end)] ?? ''
    else if (reader.field === 4) unit = symbols[reader.uint(end)] ?? ''
    else reader.skip(end)
  }
  return { type: TYPES[type] ?? 'unknown', help, unit }
}

function visit(series: WrittenSeries, visitor: WriteVisitor): void {
  const { labels, samples, histograms } = series
  const problem = problemOf(labels)
  if (problem === '') visitor.series(series)
  else visitor.invalid(problem, samples.length, histograms.length)
}

/** As Prometheus's own limits, which are off by default: a series with more is a mistake. */
const LABELS_MAX = 128
const NAME_LENGTH_MAX = 1024
const VALUE_LENGTH_MAX = 16_384

function problemOf(labels: readonly Label[]): string {
  if (labels.length > LABELS_MAX) return `a series has more than ${LABELS_MAX} labels`
  const names = new Set<string>()
  for (const [name, value] of labels) {
    if (name === '') return 'a label has no name'
    if (name.length > NAME_LENGTH_MAX) return `the name of a label is longer than ${NAME_LENGTH_MAX}`
    if (value.length > VALUE_LENGTH_MAX) return `the value of ${name.slice(0, 64)} is longer than ${VALUE_LENGTH_MAX}`
    if (names.has(name)) return `the label ${name.slice(0, 64)} comes twice`
    names.add(name)
  }
  return names.has('__name__') ? '' : 'a series has no __name__'
}
