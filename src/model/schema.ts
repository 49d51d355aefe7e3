import { CUT_SQL, PHASE_SQL, PHASES, PHASES_KNOWN_SQL, POINTS } from './phases.ts'

/**
 * The one table of columns. The ClickHouse DDL, the Native encoders, the JSON of the API and `docs/schema.md` are
 * derived from it; nothing else lists columns.
 *
 * A column is stored, or it is an expression (`expr`) that the engine computes when it is read. `internal` columns are
 * the stored halves of a public expression (`request_uuid`, `request_text` → `request_id`) and are not part of the API.
 */

export const ROW_TABLES = ['requests', 'attempts', 'progress', 'connections'] as const
export type RowTable = (typeof ROW_TABLES)[number]
/** Stats and spans; their columns are in `side-columns.ts`. */
export const METRIC_TABLES = ['series', 'samples', 'histograms', 'exemplars'] as const
export type MetricTable = (typeof METRIC_TABLES)[number]
export const SIDE_TABLES = [...METRIC_TABLES, 'spans'] as const
export type SideTable = (typeof SIDE_TABLES)[number]
/** What arrives. All other tables can be computed from these. */
export const SOURCE_TABLES = [...ROW_TABLES, ...SIDE_TABLES] as const
export type SourceTable = (typeof SOURCE_TABLES)[number]
export const ROLLUP_TABLES = ['latency_1m', 'latency_1h', 'latency_1d'] as const
export type RollupTable = (typeof ROLLUP_TABLES)[number]
export const TABLES = [...ROW_TABLES, ...ROLLUP_TABLES, ...SIDE_TABLES] as const
export type Table = (typeof TABLES)[number]
/** Tables that a segment has blocks of: the store makes coarser rollups itself. */
export const SEGMENT_TABLES = [...SOURCE_TABLES, 'latency_1m'] as const
export type SegmentTableName = (typeof SEGMENT_TABLES)[number]

export type Unit = 'ns' | 'bytes' | 'count' | 'time'

export interface Column {
  readonly name: string
  /** ClickHouse type. */
  readonly type: string
  readonly group: string
  readonly unit?: Unit
  readonly meaning: string
  /** Where an ALS entry has it; absent when ALS has no such field. */
  readonly als?: string
  /** ClickHouse codec of a stored column. */
  readonly codec?: string
  /** SQL over other columns: computed on read, never stored. */
  readonly expr?: string
  readonly internal?: true
}

const lc = (name: string, group: string, meaning: string, als?: string): Column => ({
  name,
  type: 'LowCardinality(String)',
  group,
  meaning,
  ...(als === undefined ? {} : { als }),
})
const bytes = (name: string, group: string, meaning: string, als: string): Column => ({
  name,
  type: 'UInt64',
  group,
  unit: 'bytes',
  meaning,
  als,
  codec: 'T64, ZSTD(1)',
})
const port = (name: string, meaning: string, als: string): Column => ({
  name,
  type: 'UInt16',
  group: 'who',
  meaning,
  als,
  codec: 'ZSTD(1)',
  internal: true,
})
const HOST_AND_PORT = (address: string, port: string): string =>
  `if(${port} = 0, toString(${address}), concat(if(position(${address}, ':') > 0 AND NOT startsWith(${address}, 'envoy://') AND NOT startsWith(${address}, '/'), concat('[', ${address}, ']'), toString(${address})), ':', toString(${port})))`
const address = (name: string, stem: string, meaning: string, als: string): Column[] => [
  { ...lc(`${stem}_address`, 'who', `${meaning}: address alone`, als), internal: true, codec: 'ZSTD(1)' },
  port(`${stem}_port`, `${meaning}: port alone, 0 when it has none`, als),
  {
    name,
    type: 'String',
    group: 'who',
    meaning: `${meaning}, as \`ip:port\`, a path, or \`envoy://listener/endpoint\``,
    als,
    expr: HOST_AND_PORT(`${stem}_address`, `${stem}_port`),
  },
]
const ID_CODEC = 'NONE'
/** An id that is a canonical lower-case UUID is kept as 16 bytes; any other text in a column of its own. */
const uuidOrText = (stem: string, group: string, meaning: string, als: string): Column[] => [
  {
    name: `${stem}_uuid`,
    type: 'UUID',
    group,
    meaning: `${meaning}, when canonical UUID`,
    als,
    codec: ID_CODEC,
    internal: true,
  },
  { name: `${stem}_text`, type: 'String', group, meaning: `${meaning}, when anything else`, als, internal: true },
]
const ZERO_UUID = "toUUID('00000000-0000-0000-0000-000000000000')"

const peer = (side: 'source' | 'destination'): Column[] => [
  lc(`${side}_workload`, 'who', `Workload of the ${side}`),
  lc(`${side}_namespace`, 'who', `Namespace of the ${side}`),
  lc(`${side}_service`, 'who', `Service of the ${side}; plain Envoys: cluster, route, authority, else (none)`),
  lc(`${side}_version`, 'who', `Version (canonical revision) of the ${side}`),
  lc(`${side}_principal`, 'who', `Principal of the ${side} (SPIFFE id)`),
]

const C = 'common_properties.'
const Q = 'request.'
const A = 'response.'
const T = 'common_properties.tls_properties.'

/** Columns of the four row tables: requests, attempts, progress, connections. */
export const ROW_COLUMNS: readonly Column[] = [
  // identity
  {
    name: 'end_time',
    type: "DateTime64(9, 'UTC')",
    group: 'identity',
    unit: 'time',
    meaning: 'When it ended: start + duration. The time that counts',
    als: `${C}start_time + ${C}duration`,
    codec: 'Delta(8), ZSTD(1)',
  },
  {
    name: 'time',
    type: "DateTime64(9, 'UTC')",
    group: 'identity',
    unit: 'time',
    meaning: 'When it started',
    als: `${C}start_time`,
    expr: `fromUnixTimestamp64Nano(toUnixTimestamp64Nano(end_time) - toInt64(duration_ns), 'UTC')`,
  },
  {
    name: 'received',
    type: "DateTime64(3, 'UTC')",
    group: 'identity',
    unit: 'time',
    meaning: 'When it arrived here',
    codec: 'T64, ZSTD(1)',
  },
  {
    name: 'in_future',
    type: 'Bool',
    group: 'identity',
    meaning: 'Whether it ended more than 5 min after it arrived: the clock of the proxy is wrong',
    expr: 'end_time > received + toIntervalMinute(5)',
  },
  lc('segment', 'identity', 'Journal segment that brought the row'),
  lc('source', 'identity', 'Receiver it came by: als, otlp, json, text, kafka'),
  {
    name: 'secondary',
    type: 'Bool',
    group: 'identity',
    meaning: 'Whether its proxy logs in a better way too, which counts instead; questions that name `source` see both',
  },
  lc('kind', 'identity', 'http, tcp or udp'),
  lc('entry_type', 'identity', 'AccessLogType', `${C}access_log_type`),
  lc('node_id', 'identity', 'Node id of the proxy', 'identifier.node.id'),
  lc('node_cluster', 'identity', 'Service cluster of the proxy', 'identifier.node.cluster'),
  lc('mesh', 'identity', 'Mesh or cluster id', 'identifier.node.metadata MESH_ID, CLUSTER_ID'),
  lc('region', 'identity', 'Region of the proxy', 'identifier.node.locality.region'),
  lc('zone', 'identity', 'Zone of the proxy', 'identifier.node.locality.zone'),
  lc('sub_zone', 'identity', 'Sub-zone of the proxy', 'identifier.node.locality.sub_zone'),
  lc('envoy_version', 'identity', 'Version of the proxy', 'identifier.node.user_agent_build_version'),
  lc('log_name', 'identity', 'Name of the access log', 'identifier.log_name'),
  ...uuidOrText('request', 'identity', 'Request id', `${Q}request_id`),
  {
    name: 'request_id',
    type: 'String',
    group: 'identity',
    meaning: 'x-request-id',
    als: `${Q}request_id`,
    expr: `if(request_text != '' OR request_uuid = ${ZERO_UUID}, request_text, toString(request_uuid))`,
  },
  ...uuidOrText('stream', 'identity', 'Stream id', `${C}stream_id`),
  {
    name: 'stream_is_request',
    type: 'UInt8',
    group: 'identity',
    meaning: '1 when the stream id equals the request id, which is then stored once',
    als: `${C}stream_id`,
    internal: true,
  },
  {
    name: 'stream_id',
    type: 'String',
    group: 'identity',
    meaning: 'Unique id of the stream; TCP: of the connection',
    als: `${C}stream_id`,
    expr: `multiIf(stream_is_request = 1, request_id, stream_text != '' OR stream_uuid = ${ZERO_UUID}, stream_text, toString(stream_uuid))`,
  },
  {
    name: 'trace_uuid',
    type: 'UUID',
    group: 'identity',
    meaning: 'Trace id as 16 bytes; zero when there is none',
    als: `${Q}request_headers traceparent, x-b3-traceid`,
    codec: ID_CODEC,
    internal: true,
  },
  {
    name: 'trace_id',
    type: 'String',
    group: 'identity',
    meaning: 'Trace id, 32 hex digits',
    als: `${Q}request_headers traceparent, x-b3-traceid`,
    expr: `if(trace_uuid = ${ZERO_UUID}, '', replaceAll(toString(trace_uuid), '-', ''))`,
  },
  {
    name: 'span_number',
    type: 'UInt64',
    group: 'identity',
    meaning: 'Span id as a number; 0 when there is none',
    als: `${Q}request_headers traceparent, x-b3-spanid`,
    codec: ID_CODEC,
    internal: true,
  },
  {
    name: 'span_id',
    type: 'String',
    group: 'identity',
    meaning: 'Span id, 16 hex digits',
    als: `${Q}request_headers traceparent, x-b3-spanid`,
    expr: `if(span_number = 0, '', lower(leftPad(hex(span_number), 16, '0')))`,
  },
  {
    name: 'trace_flags',
    type: 'UInt8',
    group: 'identity',
    meaning: 'Flags of traceparent: bit 0 is sampled',
    als: `${Q}request_headers traceparent`,
  },
  {
    name: 'sample_rate',
    type: 'Float64',
    group: 'identity',
    meaning: 'Sample rate of the log; Envoy never sets it',
    als: `${C}sample_rate`,
  },
  // who
  lc('reporter', 'who', 'Which side wrote the row: source, destination, gateway, waypoint, unknown'),
  ...peer('source'),
  ...peer('destination'),
  lc('listener', 'who', 'Listener name; ALS does not carry it'),
  lc('route', 'who', 'Route name', `${C}route_name`),
  lc('upstream_cluster', 'who', 'Upstream cluster', `${C}upstream_cluster`),
  ...address('upstream_host', 'upstream_remote', 'Host the proxy chose', `${C}upstream_remote_address`),
  ...address('upstream_local', 'upstream_local', 'Our end towards the upstream', `${C}upstream_local_address`),
  ...address(
    'downstream_remote',
    'downstream_remote',
    'Client, possibly from X-Forwarded-For',
    `${C}downstream_remote_address`,
  ),
  ...address('downstream_direct', 'downstream_direct', 'Physical peer', `${C}downstream_direct_remote_address`),
  ...address('downstream_local', 'downstream_local', 'Address the client connected to', `${C}downstream_local_address`),
  // request
  lc('protocol', 'request', 'HTTP/1.0, HTTP/1.1, HTTP/2, HTTP/3', 'protocol_version'),
  lc('method', 'request', 'Method; empty for one that ALS has no name for', `${Q}request_method`),
  lc('scheme', 'request', 'Scheme', `${Q}scheme`),
  lc('authority', 'request', 'Host or :authority', `${Q}authority`),
  {
    name: 'path',
    type: 'String',
    group: 'request',
    meaning: 'Path; values of the query are redacted',
    als: `${Q}path`,
    codec: 'ZSTD(1)',
  },
  {
    name: 'original_path',
    type: 'String',
    group: 'request',
    meaning: "Client's path, where a rewrite changed it; values of the query are redacted",
    als: `${Q}original_path`,
    codec: 'ZSTD(1)',
  },
  lc('path_template', 'request', 'Template of the path, where a source knows it'),
  lc('user_agent', 'request', 'User agent', `${Q}user_agent`),
  lc('referer', 'request', 'Referer; values of the query are redacted', `${Q}referer`),
  lc('forwarded_for', 'request', 'X-Forwarded-For', `${Q}forwarded_for`),
  { name: 'port', type: 'UInt16', group: 'request', meaning: 'Port; Envoy never sets it', als: `${Q}port` },
  bytes('request_headers_bytes', 'request', 'Request headers', `${Q}request_headers_bytes`),
  bytes('request_body_bytes', 'request', 'Request body; TCP: received from the client', `${Q}request_body_bytes`),
  bytes('downstream_wire_received', 'request', 'On the wire from the client', `${C}downstream_wire_bytes_received`),
  bytes('upstream_wire_sent', 'request', 'On the wire to the upstream, all attempts', `${C}upstream_wire_bytes_sent`),
  bytes('upstream_header_sent', 'request', 'Header bytes to the upstream', `${Q}upstream_header_bytes_sent`),
  bytes('downstream_header_received', 'request', 'Header bytes of the client', `${Q}downstream_header_bytes_received`),
  // answer
  {
    name: 'response_code',
    type: 'Nullable(UInt16)',
    group: 'answer',
    meaning: 'HTTP status; NULL when nothing was sent to the client',
    als: `${A}response_code`,
  },
  {
    name: 'grpc_status',
    type: 'Nullable(UInt8)',
    group: 'answer',
    meaning: 'gRPC status from trailers or headers',
    als: `${A}response_trailers, response_headers grpc-status`,
  },
  lc('response_code_details', 'answer', 'Why this code', `${A}response_code_details`),
  {
    name: 'response_flags',
    type: 'UInt64',
    group: 'answer',
    meaning: 'Envoy response flags as a bit set; the API prints the short names',
    als: `${C}response_flags`,
    codec: 'T64, LZ4',
  },
  lc('flags_text', 'answer', 'Flags that have no bit, joined with commas'),
  {
    name: 'unauthorized_reason',
    type: 'UInt8',
    group: 'answer',
    meaning: 'Reason of UAEX: 0 unspecified, 1 external service',
    als: `${C}response_flags.unauthorized_details.reason`,
  },
  lc('outcome', 'answer', 'Who made the answer: upstream, proxy, client, unfinished, unknown'),
  lc('class', 'answer', 'success, client_error, server_error, aborted, unknown'),
  {
    name: 'attempts',
    type: 'UInt32',
    group: 'answer',
    unit: 'count',
    meaning: 'Attempts at the upstream; 0 when none was made',
    als: `${C}upstream_request_attempt_count`,
  },
  lc(
    'connection_termination_details',
    'answer',
    'Why Envoy closed the connection',
    `${C}connection_termination_details`,
  ),
  lc('upstream_transport_failure', 'answer', 'Upstream TLS failure', `${C}upstream_transport_failure_reason`),
  lc('downstream_transport_failure', 'answer', 'Downstream TLS failure', `${C}downstream_transport_failure_reason`),
  {
    name: 'intermediate',
    type: 'UInt8',
    group: 'answer',
    meaning: '1 when the stream was not complete',
    als: `${C}intermediate_log_entry`,
  },
  bytes('response_headers_bytes', 'answer', 'Response headers', `${A}response_headers_bytes`),
  bytes('response_body_bytes', 'answer', 'Response body; TCP: sent to the client', `${A}response_body_bytes`),
  bytes('downstream_wire_sent', 'answer', 'On the wire to the client', `${C}downstream_wire_bytes_sent`),
  bytes('upstream_wire_received', 'answer', 'On the wire from the upstream', `${C}upstream_wire_bytes_received`),
  bytes('upstream_header_received', 'answer', 'Header bytes of the upstream', `${A}upstream_header_bytes_received`),
  bytes('downstream_header_sent', 'answer', 'Header bytes to the client', `${A}downstream_header_bytes_sent`),
  // time
  {
    name: 'duration_ns',
    type: 'UInt64',
    group: 'time',
    unit: 'ns',
    meaning: 'Whole duration; the last known point where the source has none',
    als: `${C}duration`,
    codec: 'T64, ZSTD(1)',
  },
  ...POINTS.map(
    (point, k): Column => ({
      name: point,
      type: 'Nullable(UInt64)',
      group: 'time',
      unit: 'ns',
      meaning: [
        'Request complete from the client',
        'First request byte to the upstream',
        'Last request byte to the upstream',
        'First response byte from the upstream',
        'Last response byte from the upstream',
        'First response byte to the client',
        'Last response byte to the client',
      ][k]!,
      als: `${C}${['time_to_last_rx_byte', 'time_to_first_upstream_tx_byte', 'time_to_last_upstream_tx_byte', 'time_to_first_upstream_rx_byte', 'time_to_last_upstream_rx_byte', 'time_to_first_downstream_tx_byte', 'time_to_last_downstream_tx_byte'][k]}`,
      codec: 'T64, ZSTD(1)',
    }),
  ),
  {
    name: 'phases_known',
    type: 'Bool',
    group: 'time',
    meaning: 'Whether the row has points, and so phases',
    expr: PHASES_KNOWN_SQL,
  },
  ...Object.entries(CUT_SQL).map(
    ([name, expr]): Column => ({
      name,
      type: 'UInt64',
      group: 'time',
      unit: 'ns',
      meaning: `End of phase ${name.slice(4)}`,
      expr,
      internal: true,
    }),
  ),
  ...PHASES.map(
    (phase): Column => ({
      name: `phase_${phase}_ns`,
      type: 'Nullable(UInt64)',
      group: 'time',
      unit: 'ns',
      meaning: `Time in ${phase}`,
      expr: PHASE_SQL[phase],
    }),
  ),
  {
    name: 'precision_ns',
    type: 'UInt32',
    group: 'time',
    unit: 'ns',
    meaning: 'Resolution of the source: 1 for ALS, 1 000 000 for sources in ms',
  },
  // tls
  lc('tls_version', 'tls', 'TLS version of the downstream connection', `${T}tls_version`),
  {
    name: 'tls_cipher',
    type: 'UInt16',
    group: 'tls',
    meaning: 'Cipher suite, IANA number; 0 when there is none',
    als: `${T}tls_cipher_suite`,
  },
  lc('sni', 'tls', 'Server name the client asked for', `${T}tls_sni_hostname`),
  lc('ja3', 'tls', 'JA3 fingerprint', `${T}ja3_fingerprint`),
  lc('tls_session', 'tls', 'TLS session id', `${T}tls_session_id`),
  lc('peer_san', 'tls', 'URI SANs of the client, joined with commas', `${T}peer_certificate_properties`),
  lc('peer_subject', 'tls', 'Subject of the client certificate', `${T}peer_certificate_properties`),
  lc('peer_issuer', 'tls', 'Issuer of the client certificate', `${T}peer_certificate_properties`),
  lc('local_san', 'tls', 'URI SANs of our certificate, joined with commas', `${T}local_certificate_properties`),
  lc('local_subject', 'tls', 'Subject of our certificate', `${T}local_certificate_properties`),
  lc('local_issuer', 'tls', 'Issuer of our certificate', `${T}local_certificate_properties`),
  // extra
  ...(
    [
      ['request_headers', 'Logged request headers', `${Q}request_headers`],
      ['response_headers', 'Logged response headers', `${A}response_headers`],
      ['response_trailers', 'Logged response trailers', `${A}response_trailers`],
      ['custom_tags', 'Custom tags', `${C}custom_tags`],
    ] as const
  ).map(
    ([name, meaning, als]): Column => ({
      name,
      type: 'Map(LowCardinality(String), String)',
      group: 'extra',
      meaning,
      als,
    }),
  ),
  {
    name: 'filter_state',
    type: 'Map(LowCardinality(String), LowCardinality(String))',
    group: 'extra',
    meaning: 'Filter state objects as JSON text',
    als: `${C}filter_state_objects`,
  },
  {
    name: 'metadata',
    type: 'String',
    group: 'extra',
    meaning: 'Dynamic metadata as JSON text; empty when there is none',
    als: `${C}metadata`,
    codec: 'ZSTD(1)',
  },
]

export const STORED_ROW_COLUMNS: readonly Column[] = ROW_COLUMNS.filter((column) => column.expr === undefined)
export const PUBLIC_ROW_COLUMNS: readonly Column[] = ROW_COLUMNS.filter((column) => column.internal !== true)

/** What a rollup row is keyed by, beside its minute or hour. All are LowCardinality(String). */
export const ROLLUP_KEYS = [
  'mesh',
  'reporter',
  'source_workload',
  'source_namespace',
  'destination_service',
  'destination_namespace',
  'destination_workload',
  'destination_version',
  'route',
  'method',
  'class',
  'outcome',
] as const
export type RollupKey = (typeof ROLLUP_KEYS)[number]

/** What a rollup has a histogram of: the whole duration and the seven phases. */
export const ROLLUP_METRICS = ['total', ...PHASES] as const
export type RollupMetric = (typeof ROLLUP_METRICS)[number]

/** Value of every text key of the row that takes what the bound on keys does not let in. */
export const OVERFLOW = 'overflow'

export const OUTCOMES = ['unknown', 'upstream', 'proxy', 'client', 'unfinished'] as const
export type RequestOutcome = (typeof OUTCOMES)[number]
export const CLASSES = ['unknown', 'success', 'client_error', 'server_error', 'aborted'] as const
export type ResponseClass = (typeof CLASSES)[number]

/**
 * Envoy's short names of the response flags, by bit. Bits 0 to 27 are fields 1 to 28 of ALS `ResponseFlags`; DO and UDO
 * have no ALS field and are read from `response_code_details`.
 */
export const FLAGS = [
  'LH',
  'UH',
  'UT',
  'LR',
  'UR',
  'UF',
  'UC',
  'UO',
  'NR',
  'DI',
  'FI',
  'RL',
  'UAEX',
  'RLSE',
  'DC',
  'URX',
  'SI',
  'IH',
  'DPE',
  'UMSDR',
  'RFCF',
  'NFCF',
  'DT',
  'UPE',
  'NC',
  'OM',
  'DF',
  'DR',
  'DO',
  'UDO',
] as const
export type Flag = (typeof FLAGS)[number]
