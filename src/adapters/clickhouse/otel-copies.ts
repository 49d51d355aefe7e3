import { SCALE, ZERO_BUCKET } from '../../model/buckets.ts'
import { POINTS } from '../../model/phases.ts'
import { VERSION } from '../../version.ts'
import { type Copy, type CopyColumn, SEGMENT_OF } from './copies.ts'
import { quoteText } from './ddl.ts'
import { OTEL_TABLES, SEGMENT_COLUMN } from './otel-ddl.ts'

/**
 * Our rows as OpenTelemetry's, in the exporter's tables.
 *
 *   requests    ─► otel_traces   a server span for each, its points in time as events
 *               ─► otel_logs     an access log record with the ids of that span
 *   spans       ─► otel_traces   as they came
 *   latency_1m  ─► otel_metrics_exp_histogram, otel_metrics_sum   deltas of a minute: what a segment has of it
 *
 * Ids: the trace is the one of the request's headers, else its request id, which all proxies of its way have. The span's
 * id is a hash of the row, so a row that is copied twice is the same span; its parent is the span id of the headers.
 */
export interface OtelOptions {
  readonly database: string
  readonly logs: boolean
  readonly traces: boolean
  readonly metrics: boolean
}

export function otelCopies(options: OtelOptions): Copy[] {
  const { database } = options
  const copy = (name: string, from: Copy['from'], table: string, values: Values, where = ''): Copy => ({
    name: `otel/${name}`,
    from,
    into: { database, table },
    columns: columnsOf({ ...values, [SEGMENT_COLUMN]: from === 'latency_1m' ? SEGMENT_OF : 'segment' }),
    where,
    segmentColumn: SEGMENT_COLUMN,
  })
  return [
    ...(options.traces
      ? [
          copy('requests', 'requests', OTEL_TABLES.traces, SPAN_OF_REQUEST, COUNTED),
          copy('spans', 'spans', OTEL_TABLES.traces, SPAN),
        ]
      : []),
    ...(options.logs ? [copy('logs', 'requests', OTEL_TABLES.logs, LOG_OF_REQUEST, COUNTED)] : []),
    ...(options.metrics
      ? [
          copy('durations', 'latency_1m', OTEL_TABLES.expHistogram, DURATIONS),
          ...SUMS.map((sum) => copy(sum.name, 'latency_1m', OTEL_TABLES.sum, sumOf(sum))),
        ]
      : []),
  ]
}

type Values = Readonly<Record<string, string>>

const columnsOf = (values: Values): CopyColumn[] => Object.entries(values).map(([name, sql]) => ({ name, sql }))

/** Of the ways that a proxy logs by, the best one alone. */
const COUNTED = 'NOT secondary'
const ZERO_UUID = "toUUID('00000000-0000-0000-0000-000000000000')"
const SCOPE = { ScopeName: "'sidecast'", ScopeVersion: quoteText(VERSION) }

/** `{ 'http.route': 'route' }` as a map of what is not empty. */
const mapOf = (values: Values): string =>
  `mapFilter((k, v) -> v != '', map(${Object.entries(values)
    .map(([name, sql]) => `${quoteText(name)}, toString(${sql})`)
    .join(', ')}))`

const orEmpty = (condition: string, sql: string) => `if(${condition}, toString(${sql}), '')`

const hexUuid = (uuid: string) => `replaceAll(toString(${uuid}), '-', '')`
const TRACE_ID = `multiIf(trace_uuid != ${ZERO_UUID}, ${hexUuid('trace_uuid')},
  request_uuid != ${ZERO_UUID}, ${hexUuid('request_uuid')},
  request_text != '', lower(hex(sipHash128(request_text))),
  stream_uuid != ${ZERO_UUID}, ${hexUuid('stream_uuid')},
  lower(hex(sipHash128(node_id, toUnixTimestamp64Nano(end_time), duration_ns))))`
const SPAN_ID =
  "lower(leftPad(hex(sipHash64(node_id, toUnixTimestamp64Nano(end_time), duration_ns, stream_id, request_id, path)), 16, '0'))"
/** Whose proxy it is: of a sidecar in front of the caller, the caller. */
const BY_CLIENT = "reporter = 'source'"
const side = (name: string) => `if(${BY_CLIENT}, source_${name}, destination_${name})`
const SERVICE = `if(${side('service')} != '', ${side('service')}, ${side('workload')})`

const RESOURCE = mapOf({
  'service.name': SERVICE,
  'service.namespace': side('namespace'),
  'service.version': side('version'),
  'k8s.deployment.name': side('workload'),
  'service.instance.id': 'node_id',
  'cloud.region': 'region',
  'cloud.availability_zone': 'zone',
})

const HTTP = {
  'http.request.method': 'method',
  'http.route': 'route',
  'http.response.status_code': "ifNull(toString(response_code), '')",
  'rpc.grpc.status_code': "ifNull(toString(grpc_status), '')",
  'url.scheme': 'scheme',
  'url.path': "splitByChar('?', path)[1]",
  'server.address': 'authority',
  'client.address': 'downstream_remote',
  'user_agent.original': 'user_agent',
  'network.protocol.name': 'lower(protocol)',
  'upstream.cluster': 'upstream_cluster',
  'upstream.address': 'upstream_host',
  'peer.service': `if(${BY_CLIENT}, destination_service, source_service)`,
  'sidecast.reporter': 'reporter',
  'sidecast.outcome': 'outcome',
  'sidecast.class': 'class',
  'sidecast.response_code_details': 'response_code_details',
  'sidecast.request_id': 'request_id',
  'sidecast.attempts': orEmpty('attempts > 1', 'attempts'),
}
const REQUEST_ATTRIBUTES = mapOf(HTTP)

const POINT_TIMES = `arrayFilter(p -> p.2 IS NOT NULL, [${POINTS.map((point) => `tuple(${quoteText(point.slice(2))}, ${point})`).join(', ')}])`
const FAILED = "class = 'server_error'"

const SPAN_OF_REQUEST: Values = {
  Timestamp: 'time',
  TraceId: TRACE_ID,
  SpanId: SPAN_ID,
  ParentSpanId: 'span_id',
  SpanName: "trimBoth(concat(method, ' ', if(route != '', route, authority)))",
  SpanKind: `if(${BY_CLIENT}, 'Client', 'Server')`,
  ServiceName: SERVICE,
  ResourceAttributes: RESOURCE,
  ...SCOPE,
  SpanAttributes: REQUEST_ATTRIBUTES,
  Duration: 'duration_ns',
  StatusCode: `if(${FAILED}, 'Error', 'Unset')`,
  StatusMessage: `if(${FAILED}, response_code_details, '')`,
  'Events.Timestamp': `arrayMap(p -> fromUnixTimestamp64Nano(toUnixTimestamp64Nano(time) + toInt64(assumeNotNull(p.2))), ${POINT_TIMES})`,
  'Events.Name': `arrayMap(p -> p.1, ${POINT_TIMES})`,
  'Events.Attributes': `arrayMap(p -> CAST(map(), 'Map(LowCardinality(String), String)'), ${POINT_TIMES})`,
}

const LOG_OF_REQUEST: Values = {
  Timestamp: 'end_time',
  TraceId: TRACE_ID,
  SpanId: SPAN_ID,
  TraceFlags: 'trace_flags',
  SeverityText: "multiIf(class = 'server_error', 'ERROR', class IN ('client_error', 'aborted'), 'WARN', 'INFO')",
  SeverityNumber: "multiIf(class = 'server_error', 17, class IN ('client_error', 'aborted'), 13, 9)",
  ServiceName: SERVICE,
  Body: "trimBoth(concat(method, ' ', authority, path, ' ', ifNull(toString(response_code), '-'), ' ', toString(round(duration_ns / 1e6, 3)), 'ms'))",
  ResourceAttributes: RESOURCE,
  ...SCOPE,
  LogAttributes: REQUEST_ATTRIBUTES,
}

const SPAN: Values = {
  Timestamp: 'time',
  TraceId: 'trace_id',
  SpanId: 'span_id',
  ParentSpanId: 'parent_span_id',
  SpanName: 'name',
  SpanKind: "if(kind = '', 'Unspecified', concat(upper(substring(kind, 1, 1)), substring(kind, 2)))",
  ServiceName: 'service',
  ResourceAttributes: 'resource',
  ScopeName: 'scope',
  SpanAttributes: 'attributes',
  Duration: 'duration_ns',
  StatusCode: "multiIf(status = 'error', 'Error', status = 'ok', 'Ok', 'Unset')",
  StatusMessage: 'status_message',
}

/** Of OTLP's enum AggregationTemporality. */
const DELTA = '1'
/** Rollups know no service of the caller. */
const ROLLUP_SERVICE = `multiIf(${BY_CLIENT}, source_workload, destination_service != '', destination_service, destination_workload)`
const POINT: Values = {
  ResourceAttributes: mapOf({
    'service.name': ROLLUP_SERVICE,
    'service.namespace': side('namespace'),
    'k8s.deployment.name': side('workload'),
  }),
  ...SCOPE,
  ServiceName: ROLLUP_SERVICE,
  Attributes: mapOf({
    'http.request.method': 'method',
    'http.route': 'route',
    'peer.service': `if(${BY_CLIENT}, destination_service, source_workload)`,
    'sidecast.reporter': 'reporter',
    'sidecast.class': 'class',
    'sidecast.outcome': 'outcome',
  }),
  StartTimeUnix: 'toDateTime64(minute, 9)',
  TimeUnix: 'toDateTime64(minute, 9) + toIntervalMinute(1)',
  AggregationTemporality: DELTA,
}

const BUCKETS = `arrayFilter(b -> b != ${ZERO_BUCKET}, \`totalMap.bucket\`)`
const COUNT_OF = (bucket: string) => `toUInt64(\`totalMap.count\`[indexOf(\`totalMap.bucket\`, ${bucket})])`

/** Our bucket i is (2^((i−1)/64), 2^(i/64)] seconds, theirs of index i (2^(i/64), 2^((i+1)/64)]. */
const DURATIONS: Values = {
  ...POINT,
  MetricName: `if(${BY_CLIENT}, 'http.client.request.duration', 'http.server.request.duration')`,
  MetricDescription: "'Duration of requests, as the proxy saw them'",
  MetricUnit: "'s'",
  Count: 'n',
  Sum: 'total_sum / 1e9',
  Min: 'total_min / 1e9',
  Max: 'total_max / 1e9',
  Scale: String(SCALE),
  ZeroCount: COUNT_OF(`toInt16(${ZERO_BUCKET})`),
  PositiveOffset: `if(empty(${BUCKETS}), 0, arrayMin(${BUCKETS}) - 1)`,
  PositiveBucketCounts: `if(empty(${BUCKETS}), [], arrayMap(k -> ${COUNT_OF(`toInt16(toInt32(k) + arrayMin(${BUCKETS}))`)},
    range(toUInt32(arrayMax(${BUCKETS}) - arrayMin(${BUCKETS}) + 1))))`,
}

const SUMS = [
  { name: 'sidecast.requests', sql: 'n', unit: '{request}', about: 'Finished requests' },
  { name: 'sidecast.attempts', sql: 'attempts', unit: '{attempt}', about: 'Attempts at the upstream' },
  { name: 'sidecast.request.bytes', sql: 'request_bytes', unit: 'By', about: 'Bytes from clients' },
  { name: 'sidecast.response.bytes', sql: 'response_bytes', unit: 'By', about: 'Bytes to clients' },
] as const

const sumOf = ({ name, sql, unit, about }: (typeof SUMS)[number]): Values => ({
  ...POINT,
  MetricName: quoteText(name),
  MetricDescription: quoteText(about),
  MetricUnit: quoteText(unit),
  Value: `toFloat64(${sql})`,
  IsMonotonic: 'true',
})
