import protobuf from 'protobufjs'

/**
 * Readers of Prometheus expositions for tests, strict where a scraper is: text 0.0.4, OpenMetrics 1.0 and delimited
 * protobuf. They throw on anything the specifications do not allow.
 */
type Labels = Readonly<Record<string, string>>

export interface Sample {
  readonly name: string
  /** Without `le`. */
  readonly labels: Labels
  /** Text of the labels, without `le`. */
  readonly series: string
  readonly le?: number
  readonly value: number
  readonly exemplar?: { readonly labels: Labels; readonly value: number; readonly time: number }
}
export interface TextFamily {
  readonly name: string
  readonly type: string
  readonly unit: string
  readonly samples: readonly Sample[]
}

const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  counter: ['_total', '_created'],
  histogram: ['_bucket', '_sum', '_count', '_created'],
  gauge: [''],
}

export function readText(text: string, openMetrics: boolean): Map<string, TextFamily> {
  if (!text.endsWith('\n')) throw new Error('the last line does not end')
  const lines = text.slice(0, -1).split('\n')
  if (openMetrics && lines.pop() !== '# EOF') throw new Error('OpenMetrics ends with # EOF')
  const families = new Map<string, TextFamily & { samples: Sample[] }>()
  const seen = new Set<string>()
  const known = new Map<string, Labels>()
  let family: (TextFamily & { samples: Sample[]; type: string; unit: string }) | undefined
  const open = (name: string): NonNullable<typeof family> => {
    if (family?.name === name) return family
    if (families.has(name)) throw new Error(`family ${name} is not in one piece`)
    family = { name, type: '', unit: '', samples: [] }
    families.set(name, family)
    return family
  }
  for (const line of lines) {
    const head = /^# (TYPE|HELP|UNIT) (\S+) (.*)$/.exec(line)
    if (head !== null) {
      const current = open(head[2]!)
      if (current.samples.length > 0) throw new Error(`metadata after samples: ${line}`)
      if (head[1] === 'TYPE') current.type = head[3]!
      if (head[1] === 'UNIT') {
        if (!openMetrics || !current.name.endsWith(`_${head[3]}`)) throw new Error(`unit ${line}`)
        current.unit = head[3]!
      }
      continue
    }
    if (line.startsWith('#') || line === '') throw new Error(`line ${JSON.stringify(line)}`)
    const sample = readSample(line, openMetrics, known)
    if (family === undefined || !belongs(sample.name, family, openMetrics))
      throw new Error(`${sample.name} has no TYPE`)
    const identity = `${sample.name}{${sample.series}} ${sample.le}`
    if (seen.has(identity)) throw new Error(`twice: ${identity}`)
    seen.add(identity)
    family.samples.push(sample)
  }
  for (const { type, samples, name } of families.values()) if (type === 'histogram') checkHistogram(name, samples)
  return families
}

function belongs(sample: string, family: TextFamily, openMetrics: boolean): boolean {
  if (!openMetrics && family.type === 'counter') return sample === family.name
  const suffixes = SUFFIXES[family.type] ?? []
  return suffixes.some((suffix) => (openMetrics || suffix !== '_created') && sample === family.name + suffix)
}

const ALL_LABELS = /\{((?:[A-Za-z_][A-Za-z0-9_]*="(?:[^"\\\n]|\\["\\n])*"(?:,|(?=\})))*)\}/y
const LABEL = /([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"/g

function readSample(line: string, openMetrics: boolean, known: Map<string, Labels>): Sample {
  const open = line.indexOf('{')
  const name = line.slice(0, open)
  if (!/^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(name)) throw new Error(`name in ${line}`)
  const { text, end } = labelText(line, open)
  const rest = /^ (\S+)(?: # (\{.*) (\S+) (\S+))?$/.exec(line.slice(end))
  if (rest === null) throw new Error(`after the labels: ${line.slice(end)}`)
  const le = /,?le="([^"]*)"/.exec(text)
  const series = le === null ? text : text.slice(0, le.index) + text.slice(le.index + le[0].length)
  const labels = known.get(series) ?? readLabels(series)
  known.set(series, labels)
  const sample = {
    name,
    labels,
    series,
    ...(le === null ? {} : { le: readNumber(le[1]!) }),
    value: readNumber(rest[1]!),
  }
  if (rest[2] === undefined) return sample
  if (!openMetrics || !/_(bucket|total)$/.test(name)) throw new Error(`an exemplar is not allowed: ${line}`)
  const exemplar = labelText(rest[2], 0)
  if (exemplar.end !== rest[2].length) throw new Error(`exemplar labels ${rest[2]}`)
  const exemplarLabels = readLabels(exemplar.text)
  if ([...Object.entries(exemplarLabels).flat().join('')].length > 128) throw new Error('exemplar labels are too long')
  return { ...sample, exemplar: { labels: exemplarLabels, value: readNumber(rest[3]!), time: readNumber(rest[4]!) } }
}

function labelText(text: string, open: number): { text: string; end: number } {
  ALL_LABELS.lastIndex = open
  const match = ALL_LABELS.exec(text)
  if (match === null) throw new Error(`labels of ${text}`)
  return { text: match[1]!, end: ALL_LABELS.lastIndex }
}

function readLabels(text: string): Labels {
  const labels: Record<string, string> = {}
  for (const [, name, value] of text.matchAll(LABEL)) {
    if (name! in labels) throw new Error(`label ${name} twice`)
    labels[name!] = value!.replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c))
  }
  return labels
}

function readNumber(text: string): number {
  if (text === '+Inf') return Number.POSITIVE_INFINITY
  if (!/^-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?$/.test(text)) throw new Error(`number ${text}`)
  return Number(text)
}

/** Buckets ascend and are cumulative, the last one is +Inf and equals the count; exemplars lie in their bucket. */
function checkHistogram(name: string, samples: readonly Sample[]): void {
  const buckets = new Map<string, { le: number; value: number }[]>()
  for (const sample of samples) {
    if (!sample.name.endsWith('_bucket')) continue
    const list = buckets.get(sample.series) ?? []
    buckets.set(sample.series, list)
    const le = sample.le!
    const last = list.at(-1)
    if (last !== undefined && (last.le >= le || last.value > sample.value)) throw new Error(`${name}: bucket ${le}`)
    const { exemplar } = sample
    if (exemplar !== undefined && (exemplar.value > le || exemplar.value <= (last?.le ?? -1))) {
      throw new Error(`${name}: exemplar ${exemplar.value} in bucket ${le}`)
    }
    list.push({ le, value: sample.value })
  }
  for (const sample of samples) {
    if (!sample.name.endsWith('_count')) continue
    const last = buckets.get(sample.series)?.at(-1)
    if (last?.le !== Number.POSITIVE_INFINITY || last.value !== sample.value) throw new Error(`${name}: +Inf bucket`)
  }
}

/** github.com/prometheus/client_model, `io/prometheus/client/metrics.proto`, the parts that counters and histograms use. */
const METRIC_FAMILY = protobuf
  .parse(
    `
  syntax = "proto3";
  package io.prometheus.client;
  message Timestamp { int64 seconds = 1; int32 nanos = 2; }
  message LabelPair { string name = 1; string value = 2; }
  enum MetricType { COUNTER = 0; GAUGE = 1; SUMMARY = 2; UNTYPED = 3; HISTOGRAM = 4; GAUGE_HISTOGRAM = 5; }
  message Counter { double value = 1; Exemplar exemplar = 2; Timestamp start_timestamp = 3; }
  message Histogram {
    uint64 sample_count = 1; double sample_sum = 2; repeated Bucket bucket = 3; double sample_count_float = 4;
    sint32 schema = 5; double zero_threshold = 6; uint64 zero_count = 7; double zero_count_float = 8;
    repeated BucketSpan negative_span = 9; repeated sint64 negative_delta = 10; repeated double negative_count = 11;
    repeated BucketSpan positive_span = 12; repeated sint64 positive_delta = 13; repeated double positive_count = 14;
    Timestamp start_timestamp = 15; repeated Exemplar exemplars = 16;
  }
  message Bucket { uint64 cumulative_count = 1; double upper_bound = 2; Exemplar exemplar = 3; double cumulative_count_float = 4; }
  message BucketSpan { sint32 offset = 1; uint32 length = 2; }
  message Exemplar { repeated LabelPair label = 1; double value = 2; Timestamp timestamp = 3; }
  message Metric { repeated LabelPair label = 1; Counter counter = 3; int64 timestamp_ms = 6; Histogram histogram = 7; }
  message MetricFamily { string name = 1; string help = 2; MetricType type = 3; repeated Metric metric = 4; string unit = 5; }
`,
    { keepCase: true },
  )
  .root.lookupType('io.prometheus.client.MetricFamily')

interface ProtobufTimestamp {
  readonly seconds: number
  readonly nanos: number
}
export interface ProtobufExemplar {
  readonly label: readonly { readonly name: string; readonly value: string }[]
  readonly value: number
  readonly timestamp: ProtobufTimestamp
}
export interface ProtobufHistogram {
  readonly sample_count: number
  readonly sample_sum: number
  readonly bucket: readonly { cumulative_count: number; upper_bound: number; exemplar: ProtobufExemplar | null }[]
  readonly schema: number
  readonly zero_threshold: number
  readonly zero_count: number
  readonly positive_span: readonly { readonly offset: number; readonly length: number }[]
  readonly positive_delta: readonly number[]
  readonly start_timestamp: ProtobufTimestamp | null
}
export interface ProtobufFamily {
  readonly name: string
  readonly help: string
  readonly type: string
  readonly unit: string
  readonly metric: readonly {
    readonly label: readonly { readonly name: string; readonly value: string }[]
    readonly counter: { readonly value: number; readonly start_timestamp: ProtobufTimestamp } | null
    readonly histogram: ProtobufHistogram | null
  }[]
}

export function readProtobuf(bytes: Uint8Array): ProtobufFamily[] {
  const reader = protobuf.Reader.create(bytes)
  const families: ProtobufFamily[] = []
  while (reader.pos < reader.len) {
    const message = METRIC_FAMILY.decodeDelimited(reader)
    families.push(
      METRIC_FAMILY.toObject(message, { longs: Number, enums: String, defaults: true, arrays: true }) as ProtobufFamily,
    )
  }
  return families
}

/** Buckets of a native histogram by index, from its spans and deltas. */
export function nativeBuckets(histogram: ProtobufHistogram): Map<number, number> {
  const buckets = new Map<number, number>()
  let index = 0
  let count = 0
  let k = 0
  for (const [s, span] of histogram.positive_span.entries()) {
    if (s > 0 && span.offset <= 0) throw new Error('spans touch or overlap')
    index += span.offset
    for (let n = 0; n < span.length; n++) {
      count += histogram.positive_delta[k++]!
      buckets.set(index++, count)
    }
  }
  if (k !== histogram.positive_delta.length) throw new Error('spans and deltas differ in length')
  return buckets
}
