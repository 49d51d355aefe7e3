/**
 * The messages of OTLP 1.x as data, with the names that its JSON form uses (lowerCamelCase). Only JSON needs names; the
 * decoders read field numbers. https://github.com/open-telemetry/opentelemetry-proto
 */
export interface Message {
  readonly [name: string]: Field
}

export interface Field {
  readonly number: number
  readonly type: Scalar | (() => Message)
  readonly repeated?: true
}

/** `id`: bytes that are hexadecimal in JSON, not base64. `enum`: a number, or its name in the definition. */
export type Scalar =
  | 'string'
  | 'bytes'
  | 'id'
  | 'bool'
  | 'enum'
  | 'uint32'
  | 'int64'
  | 'uint64'
  | 'sint32'
  | 'fixed32'
  | 'fixed64'
  | 'sfixed64'
  | 'double'

const one = (number: number, type: Field['type']): Field => ({ number, type })
const many = (number: number, type: Field['type']): Field => ({ number, type, repeated: true })

const anyValue: Message = {
  stringValue: one(1, 'string'),
  boolValue: one(2, 'bool'),
  intValue: one(3, 'int64'),
  doubleValue: one(4, 'double'),
  arrayValue: one(5, () => arrayValue),
  kvlistValue: one(6, () => keyValueList),
  bytesValue: one(7, 'bytes'),
}
const keyValue: Message = { key: one(1, 'string'), value: one(2, () => anyValue) }
const arrayValue: Message = { values: many(1, () => anyValue) }
const keyValueList: Message = { values: many(1, () => keyValue) }

const resource: Message = { attributes: many(1, () => keyValue), droppedAttributesCount: one(2, 'uint32') }
const scope: Message = {
  name: one(1, 'string'),
  version: one(2, 'string'),
  attributes: many(3, () => keyValue),
  droppedAttributesCount: one(4, 'uint32'),
}

const logRecord: Message = {
  timeUnixNano: one(1, 'fixed64'),
  severityNumber: one(2, 'enum'),
  severityText: one(3, 'string'),
  body: one(5, () => anyValue),
  attributes: many(6, () => keyValue),
  droppedAttributesCount: one(7, 'uint32'),
  flags: one(8, 'fixed32'),
  traceId: one(9, 'id'),
  spanId: one(10, 'id'),
  observedTimeUnixNano: one(11, 'fixed64'),
  eventName: one(12, 'string'),
}

const exemplar: Message = {
  timeUnixNano: one(2, 'fixed64'),
  asDouble: one(3, 'double'),
  spanId: one(4, 'id'),
  traceId: one(5, 'id'),
  asInt: one(6, 'sfixed64'),
  filteredAttributes: many(7, () => keyValue),
}
const numberDataPoint: Message = {
  startTimeUnixNano: one(2, 'fixed64'),
  timeUnixNano: one(3, 'fixed64'),
  asDouble: one(4, 'double'),
  exemplars: many(5, () => exemplar),
  asInt: one(6, 'sfixed64'),
  attributes: many(7, () => keyValue),
  flags: one(8, 'uint32'),
}
const histogramDataPoint: Message = {
  startTimeUnixNano: one(2, 'fixed64'),
  timeUnixNano: one(3, 'fixed64'),
  count: one(4, 'fixed64'),
  sum: one(5, 'double'),
  bucketCounts: many(6, 'fixed64'),
  explicitBounds: many(7, 'double'),
  exemplars: many(8, () => exemplar),
  attributes: many(9, () => keyValue),
  flags: one(10, 'uint32'),
  min: one(11, 'double'),
  max: one(12, 'double'),
}
const buckets: Message = { offset: one(1, 'sint32'), bucketCounts: many(2, 'uint64') }
const exponentialDataPoint: Message = {
  attributes: many(1, () => keyValue),
  startTimeUnixNano: one(2, 'fixed64'),
  timeUnixNano: one(3, 'fixed64'),
  count: one(4, 'fixed64'),
  sum: one(5, 'double'),
  scale: one(6, 'sint32'),
  zeroCount: one(7, 'fixed64'),
  positive: one(8, () => buckets),
  negative: one(9, () => buckets),
  flags: one(10, 'uint32'),
  exemplars: many(11, () => exemplar),
  min: one(12, 'double'),
  max: one(13, 'double'),
  zeroThreshold: one(14, 'double'),
}
const valueAtQuantile: Message = { quantile: one(1, 'double'), value: one(2, 'double') }
const summaryDataPoint: Message = {
  startTimeUnixNano: one(2, 'fixed64'),
  timeUnixNano: one(3, 'fixed64'),
  count: one(4, 'fixed64'),
  sum: one(5, 'double'),
  quantileValues: many(6, () => valueAtQuantile),
  attributes: many(7, () => keyValue),
  flags: one(8, 'uint32'),
}
const aggregationTemporality = one(2, 'enum')
const gauge: Message = { dataPoints: many(1, () => numberDataPoint) }
const sum: Message = { dataPoints: many(1, () => numberDataPoint), aggregationTemporality, isMonotonic: one(3, 'bool') }
const histogram: Message = { dataPoints: many(1, () => histogramDataPoint), aggregationTemporality }
const exponentialHistogram: Message = { dataPoints: many(1, () => exponentialDataPoint), aggregationTemporality }
const summary: Message = { dataPoints: many(1, () => summaryDataPoint) }
const metric: Message = {
  name: one(1, 'string'),
  description: one(2, 'string'),
  unit: one(3, 'string'),
  gauge: one(5, () => gauge),
  sum: one(7, () => sum),
  histogram: one(9, () => histogram),
  exponentialHistogram: one(10, () => exponentialHistogram),
  summary: one(11, () => summary),
  metadata: many(12, () => keyValue),
}

const event: Message = {
  timeUnixNano: one(1, 'fixed64'),
  name: one(2, 'string'),
  attributes: many(3, () => keyValue),
  droppedAttributesCount: one(4, 'uint32'),
}
const link: Message = {
  traceId: one(1, 'id'),
  spanId: one(2, 'id'),
  traceState: one(3, 'string'),
  attributes: many(4, () => keyValue),
  droppedAttributesCount: one(5, 'uint32'),
  flags: one(6, 'fixed32'),
}
const spanStatus: Message = { message: one(2, 'string'), code: one(3, 'enum') }
const span: Message = {
  traceId: one(1, 'id'),
  spanId: one(2, 'id'),
  traceState: one(3, 'string'),
  parentSpanId: one(4, 'id'),
  name: one(5, 'string'),
  kind: one(6, 'enum'),
  startTimeUnixNano: one(7, 'fixed64'),
  endTimeUnixNano: one(8, 'fixed64'),
  attributes: many(9, () => keyValue),
  droppedAttributesCount: one(10, 'uint32'),
  events: many(11, () => event),
  droppedEventsCount: one(12, 'uint32'),
  links: many(13, () => link),
  droppedLinksCount: one(14, 'uint32'),
  status: one(15, () => spanStatus),
  flags: one(16, 'fixed32'),
}

const group = (items: string, item: () => Message, scopes: string): Message => {
  const inScope: Message = { scope: one(1, () => scope), [items]: many(2, item), schemaUrl: one(3, 'string') }
  return { resource: one(1, () => resource), [scopes]: many(2, () => inScope), schemaUrl: one(3, 'string') }
}
const resourceLogs = group('logRecords', () => logRecord, 'scopeLogs')
const resourceMetrics = group('metrics', () => metric, 'scopeMetrics')
const resourceSpans = group('spans', () => span, 'scopeSpans')

/** The request of each service. */
export const REQUESTS = {
  logs: { resourceLogs: many(1, () => resourceLogs) },
  metrics: { resourceMetrics: many(1, () => resourceMetrics) },
  traces: { resourceSpans: many(1, () => resourceSpans) },
} as const satisfies Record<string, Message>

export type Signal = keyof typeof REQUESTS
export const SIGNALS: readonly Signal[] = ['logs', 'metrics', 'traces']

/** Enumerations by name; most senders send numbers, as OTLP asks. */
export const ENUM_NAMES: ReadonlyMap<string, number> = new Map([
  ['AGGREGATION_TEMPORALITY_UNSPECIFIED', 0],
  ['AGGREGATION_TEMPORALITY_DELTA', 1],
  ['AGGREGATION_TEMPORALITY_CUMULATIVE', 2],
  ['SPAN_KIND_UNSPECIFIED', 0],
  ['SPAN_KIND_INTERNAL', 1],
  ['SPAN_KIND_SERVER', 2],
  ['SPAN_KIND_CLIENT', 3],
  ['SPAN_KIND_PRODUCER', 4],
  ['SPAN_KIND_CONSUMER', 5],
  ['STATUS_CODE_UNSET', 0],
  ['STATUS_CODE_OK', 1],
  ['STATUS_CODE_ERROR', 2],
  ['SEVERITY_NUMBER_UNSPECIFIED', 0],
  ...['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'].flatMap((name, level) =>
    [0, 1, 2, 3].map((step): [string, number] => [
      `SEVERITY_NUMBER_${name}${step === 0 ? '' : step + 1}`,
      4 * level + step + 1,
    ]),
  ),
])
