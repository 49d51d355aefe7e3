import type { AccessEntry, PartyField } from '../../entry/entry.ts'
import { TimeOfAnyForm } from './any-time.ts'
import type { Filling } from './filling.ts'
import { type FormatError, isFormatError } from './grammar.ts'
import { compileString, Group, type JsonField, JsonParser } from './json.ts'
import { durationField, type Target } from './targets.ts'
import type { FormatParser } from './text.ts'

/**
 * JSON lines whose format nobody gave, read by the names of their keys. Names are those that Istio and Envoy's examples
 * use for the operators, and OpenTelemetry's conventions for HTTP; those of a configuration go before them. Objects
 * within a line are joined with points: `{"http":{"method":…}}` is `http.method`. What no name is known for becomes a
 * custom tag.
 */
export interface FieldMapOptions {
  readonly name?: string
  /** Key (or path with points) → an operator, `%DURATION%`, or one of `FIELD_NAMES`. */
  readonly fields?: Readonly<Record<string, string>>
  /** Without the names that are known anyway. */
  readonly only?: boolean
}

/** Different keys remembered; those that a hostile sender makes up are worked out anew. */
const RESOLVED_MAX = 4096
const PATH_MAX = 256

export function compileFieldMap(options: FieldMapOptions = {}): FormatParser | FormatError {
  const known = new Map<string, JsonField>()
  const own = new Map<string, JsonField>()
  if (options.only !== true) {
    for (const [name, meaning] of Object.entries(KNOWN)) known.set(fold(name), fieldOf(name, meaning) as JsonField)
  }
  for (const [name, meaning] of Object.entries(options.fields ?? {})) {
    const field = fieldOf(name, meaning)
    if (isFormatError(field)) return field
    own.set(name, field)
  }
  const resolved = new Map<string, JsonField | undefined>()
  const resolve = (path: string): JsonField | undefined => {
    if (resolved.has(path)) return resolved.get(path)
    const field = own.get(path) ?? known.get(fold(path))
    if (path.length > PATH_MAX) return field
    if (resolved.size >= RESOLVED_MAX) resolved.clear()
    // A copy of its own: a part of a line would keep the line.
    resolved.set(Buffer.from(path).toString(), field)
    return field
  }
  return new JsonParser(options.name ?? 'json-fields', new Group(own), { resolve })
}

function fieldOf(name: string, meaning: string): JsonField | FormatError {
  if (meaning.includes('%')) return compileString(meaning, {}, name)
  const target = Object.hasOwn(TARGETS, meaning) ? TARGETS[meaning] : undefined
  if (target === undefined) {
    const names = FIELD_NAMES.join(', ')
    return { error: `${name}: ${JSON.stringify(meaning)} is neither an operator nor one of ${names}` }
  }
  return { kind: 'value', target, operator: meaning }
}

/** Case and `-`, `_`, `.` do not tell names apart: `userAgent`, `user_agent` and `user.agent` are the same. */
function fold(name: string): string {
  return name.length > 128 ? name : name.toLowerCase().replace(/[-_. :]/g, '')
}

/** Names of the operators' values, in Istio's JSON and in Envoy's examples, and what OpenTelemetry calls them. */
const KNOWN: Readonly<Record<string, string>> = {
  start_time: 'time',
  timestamp: 'time',
  '@timestamp': 'time',
  time: 'time',
  end_time: 'end_time',
  emit_time: 'end_time',
  method: '%REQ(:METHOD)%',
  request_method: '%REQ(:METHOD)%',
  ':method': '%REQ(:METHOD)%',
  'http.method': '%REQ(:METHOD)%',
  'http.request.method': '%REQ(:METHOD)%',
  path: '%REQ(:PATH)%',
  ':path': '%REQ(:PATH)%',
  request_path: '%REQ(:PATH)%',
  uri: '%REQ(:PATH)%',
  'x-envoy-origin-path': '%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%',
  'x-envoy-original-path': '%REQ(X-ENVOY-ORIGINAL-PATH)%',
  original_path: '%REQ(X-ENVOY-ORIGINAL-PATH)%',
  'http.target': '%REQ(:PATH)%',
  'url.path': '%REQ(:PATH)%',
  'http.route': 'path_template',
  path_template: 'path_template',
  protocol: 'protocol',
  'http.protocol': 'protocol',
  'network.protocol.version': 'protocol',
  'http.flavor': 'protocol',
  authority: '%REQ(:AUTHORITY)%',
  ':authority': '%REQ(:AUTHORITY)%',
  host: '%REQ(:AUTHORITY)%',
  'http.host': '%REQ(:AUTHORITY)%',
  'server.address': '%REQ(:AUTHORITY)%',
  scheme: '%REQ(:SCHEME)%',
  'http.scheme': '%REQ(:SCHEME)%',
  'url.scheme': '%REQ(:SCHEME)%',
  response_code: '%RESPONSE_CODE%',
  status: '%RESPONSE_CODE%',
  status_code: '%RESPONSE_CODE%',
  'http.status_code': '%RESPONSE_CODE%',
  'http.response.status_code': '%RESPONSE_CODE%',
  response_flags: '%RESPONSE_FLAGS%',
  response_flags_long: '%RESPONSE_FLAGS_LONG%',
  response_code_details: '%RESPONSE_CODE_DETAILS%',
  connection_termination_details: '%CONNECTION_TERMINATION_DETAILS%',
  upstream_transport_failure_reason: '%UPSTREAM_TRANSPORT_FAILURE_REASON%',
  downstream_transport_failure_reason: '%DOWNSTREAM_TRANSPORT_FAILURE_REASON%',
  bytes_received: '%BYTES_RECEIVED%',
  bytes_sent: '%BYTES_SENT%',
  'http.request.body.size': '%BYTES_RECEIVED%',
  'http.response.body.size': '%BYTES_SENT%',
  'http.request_content_length': '%BYTES_RECEIVED%',
  'http.response_content_length': '%BYTES_SENT%',
  'http.request.size': '%DOWNSTREAM_WIRE_BYTES_RECEIVED%',
  'http.response.size': '%DOWNSTREAM_WIRE_BYTES_SENT%',
  request_headers_bytes: '%REQUEST_HEADERS_BYTES%',
  response_headers_bytes: '%RESPONSE_HEADERS_BYTES%',
  upstream_wire_bytes_sent: '%UPSTREAM_WIRE_BYTES_SENT%',
  upstream_wire_bytes_received: '%UPSTREAM_WIRE_BYTES_RECEIVED%',
  upstream_header_bytes_sent: '%UPSTREAM_HEADER_BYTES_SENT%',
  upstream_header_bytes_received: '%UPSTREAM_HEADER_BYTES_RECEIVED%',
  downstream_wire_bytes_sent: '%DOWNSTREAM_WIRE_BYTES_SENT%',
  downstream_wire_bytes_received: '%DOWNSTREAM_WIRE_BYTES_RECEIVED%',
  downstream_header_bytes_sent: '%DOWNSTREAM_HEADER_BYTES_SENT%',
  downstream_header_bytes_received: '%DOWNSTREAM_HEADER_BYTES_RECEIVED%',
  duration: 'duration_ms',
  duration_ms: 'duration_ms',
  duration_us: 'duration_us',
  duration_ns: 'duration_ns',
  request_duration: '%REQUEST_DURATION%',
  request_tx_duration: '%REQUEST_TX_DURATION%',
  response_duration: '%RESPONSE_DURATION%',
  response_tx_duration: '%RESPONSE_TX_DURATION%',
  upstream_service_time: '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%',
  'x-envoy-upstream-service-time': '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%',
  'x-forwarded-for': '%REQ(X-FORWARDED-FOR)%',
  user_agent: '%REQ(USER-AGENT)%',
  'user_agent.original': '%REQ(USER-AGENT)%',
  'http.user_agent': '%REQ(USER-AGENT)%',
  referer: '%REQ(REFERER)%',
  request_id: '%REQ(X-REQUEST-ID)%',
  'x-request-id': '%REQ(X-REQUEST-ID)%',
  stream_id: '%STREAM_ID%',
  trace_id: '%TRACE_ID%',
  span_id: '%SPAN_ID%',
  traceparent: '%REQ(TRACEPARENT)%',
  grpc_status: '%GRPC_STATUS%',
  grpc_status_number: '%GRPC_STATUS%',
  'rpc.grpc.status_code': '%GRPC_STATUS%',
  upstream_host: '%UPSTREAM_HOST%',
  upstream_remote_address: '%UPSTREAM_REMOTE_ADDRESS%',
  upstream_local_address: '%UPSTREAM_LOCAL_ADDRESS%',
  downstream_local_address: '%DOWNSTREAM_LOCAL_ADDRESS%',
  downstream_remote_address: '%DOWNSTREAM_REMOTE_ADDRESS%',
  downstream_direct_remote_address: '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%',
  downstream_remote_address_without_port: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%',
  'client.address': '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%',
  'client.port': '%DOWNSTREAM_REMOTE_PORT%',
  'network.peer.address': '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%',
  'network.peer.port': '%DOWNSTREAM_DIRECT_REMOTE_PORT%',
  upstream_cluster: '%UPSTREAM_CLUSTER%',
  upstream_cluster_raw: '%UPSTREAM_CLUSTER_RAW%',
  upstream_request_attempt_count: '%UPSTREAM_REQUEST_ATTEMPT_COUNT%',
  attempts: '%UPSTREAM_REQUEST_ATTEMPT_COUNT%',
  requested_server_name: '%REQUESTED_SERVER_NAME%',
  sni: '%REQUESTED_SERVER_NAME%',
  route_name: '%ROUTE_NAME%',
  listener_name: '%LISTENER_NAME%',
  access_log_type: '%ACCESS_LOG_TYPE%',
  downstream_tls_version: '%DOWNSTREAM_TLS_VERSION%',
  downstream_tls_cipher: '%DOWNSTREAM_TLS_CIPHER%',
  downstream_tls_session_id: '%DOWNSTREAM_TLS_SESSION_ID%',
  downstream_peer_uri_san: '%DOWNSTREAM_PEER_URI_SAN%',
  downstream_peer_subject: '%DOWNSTREAM_PEER_SUBJECT%',
  downstream_peer_issuer: '%DOWNSTREAM_PEER_ISSUER%',
  downstream_local_uri_san: '%DOWNSTREAM_LOCAL_URI_SAN%',
  downstream_local_subject: '%DOWNSTREAM_LOCAL_SUBJECT%',
}

const any = new TimeOfAnyForm()

function time(fill: (entry: AccessEntry, seconds: number, nanos: number) => void): Target {
  return {
    kind: 'text',
    shape: 'token',
    set({ entry }: Filling, value) {
      if (any.read(value)) fill(entry, any.seconds, any.nanos)
      else entry.customTags.add('time', value)
    },
  }
}

function party(side: 'source' | 'destination', field: PartyField): Target {
  return { kind: 'text', shape: 'text', set: ({ entry }, value) => entry[side].set(field, value) }
}

const PARTY_FIELDS: readonly PartyField[] = [
  'workload',
  'namespace',
  'service',
  'version',
  'principal',
  'app',
  'cluster',
]

/** What a field map may say beside operators. */
const TARGETS: Readonly<Record<string, Target>> = {
  time: time((entry, seconds, nanos) => {
    entry.startSeconds = seconds
    entry.startNanos = nanos
  }),
  end_time: time((entry, seconds, nanos) => {
    entry.endSeconds = seconds
    entry.endNanos = nanos
  }),
  duration_s: durationField('durationNs', 1e9),
  duration_ms: durationField('durationNs', 1e6),
  duration_us: durationField('durationNs', 1e3),
  duration_ns: durationField('durationNs', 1),
  path_template: {
    kind: 'text',
    shape: 'text',
    set({ entry }, value) {
      entry.pathTemplate = value
    },
  },
  protocol: {
    kind: 'text',
    shape: 'token',
    set({ entry }, value) {
      entry.protocol = PROTOCOLS[value.toUpperCase()] ?? value
    },
  },
  ignore: { kind: 'ignored', shape: 'text' },
  reporter: {
    kind: 'text',
    shape: 'token',
    set({ entry }, value) {
      if (value === 'source' || value === 'destination' || value === 'gateway' || value === 'waypoint') {
        entry.reporter = value
      }
    },
  },
  ...Object.fromEntries(
    (['source', 'destination'] as const).flatMap((side) =>
      PARTY_FIELDS.map((field) => [`${side}_${field}`, party(side, field)] as const),
    ),
  ),
}

export const FIELD_NAMES: readonly string[] = Object.keys(TARGETS)

const PROTOCOLS: Readonly<Record<string, string>> = {
  '1.0': 'HTTP/1.0',
  '1.1': 'HTTP/1.1',
  '2': 'HTTP/2',
  '2.0': 'HTTP/2',
  '3': 'HTTP/3',
  '3.0': 'HTTP/3',
  'HTTP/1': 'HTTP/1.1',
  'HTTP/2.0': 'HTTP/2',
  'HTTP/3.0': 'HTTP/3',
  H2: 'HTTP/2',
  H3: 'HTTP/3',
}
