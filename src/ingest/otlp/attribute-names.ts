import { ACCESS_LOG_TYPES } from '../../model/row-columns.ts'
import type { AccessEntry, EntryReporter, PartyField } from '../entry/entry.ts'

/**
 * Which attribute of a log record is what of an access log entry. Envoy sends whatever attributes its configuration
 * lists, so the names are those that people use: the OpenTelemetry semantic conventions for HTTP (stable, and the old
 * ones), Envoy's own attributes (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/advanced/attributes),
 * the keys of Istio's and Envoy Gateway's JSON logs, and Envoy's format operators in lower case, with or without
 * `envoy.` before them and with `_ms`, `_us`, `_ns` or `_s` behind durations. The configuration adds others (`extra`),
 * by the names of the columns of the table `requests`.
 */
export interface AttributeTarget {
  /** Takes a text; '-' and '' do not get here. */
  readonly text: (entry: AccessEntry, parts: EntryParts, text: string) => void
  /** Takes a finite number from 0 up, for targets that are numbers. */
  readonly number?: (entry: AccessEntry, parts: EntryParts, value: number) => void
  /** Nanoseconds: what a duration given so is exact to. 0 for what is no duration. */
  readonly precisionNs: number
  /** Only an access log has it: a record with it is one. */
  readonly evidence: boolean
  /** Of what is nothing known: the name it is kept under, as a custom tag. */
  readonly tag?: string
}

/** What is put together from several attributes when all of them are known. */
export class EntryParts {
  used = false
  client = ''
  clientPort = 0
  peer = ''
  peerPort = 0
  local = ''
  localPort = 0
  server = ''
  serverPort = 0
  upstream = ''
  upstreamPort = 0
  query = ''
  protocolName = ''
  protocolVersion = ''
  /** d1 − v0. */
  responseTxNs = -1
  start = ''

  reset(): void {
    this.used = false
    this.client = ''
    this.clientPort = 0
    this.peer = ''
    this.peerPort = 0
    this.local = ''
    this.localPort = 0
    this.server = ''
    this.serverPort = 0
    this.upstream = ''
    this.upstreamPort = 0
    this.query = ''
    this.protocolName = ''
    this.protocolVersion = ''
    this.responseTxNs = -1
    this.start = ''
  }
}

type SetText = AttributeTarget['text']
type SetNumber = NonNullable<AttributeTarget['number']>

/** One function for each field, written out: a function that is given the name of the field is five times as slow. */
const TEXTS = {
  authority: (entry, _parts, value) => {
    entry.authority = value
  },
  connectionTerminationDetails: (entry, _parts, value) => {
    entry.connectionTerminationDetails = value
  },
  downstreamDirect: (entry, _parts, value) => {
    entry.downstreamDirect = value
  },
  downstreamLocal: (entry, _parts, value) => {
    entry.downstreamLocal = value
  },
  downstreamRemote: (entry, _parts, value) => {
    entry.downstreamRemote = value
  },
  downstreamTransportFailure: (entry, _parts, value) => {
    entry.downstreamTransportFailure = value
  },
  flags: (entry, _parts, value) => {
    entry.flags = value
  },
  forwardedFor: (entry, _parts, value) => {
    entry.forwardedFor = value
  },
  ja3: (entry, _parts, value) => {
    entry.ja3 = value
  },
  listener: (entry, _parts, value) => {
    entry.listener = value
  },
  localSan: (entry, _parts, value) => {
    entry.localSan = value
  },
  localSubject: (entry, _parts, value) => {
    entry.localSubject = value
  },
  metadata: (entry, _parts, value) => {
    entry.metadata = value
  },
  method: (entry, _parts, value) => {
    entry.method = value
  },
  originalPath: (entry, _parts, value) => {
    entry.originalPath = value
  },
  pathTemplate: (entry, _parts, value) => {
    entry.pathTemplate = value
  },
  peerIssuer: (entry, _parts, value) => {
    entry.peerIssuer = value
  },
  peerSan: (entry, _parts, value) => {
    entry.peerSan = value
  },
  peerSubject: (entry, _parts, value) => {
    entry.peerSubject = value
  },
  referer: (entry, _parts, value) => {
    entry.referer = value
  },
  requestId: (entry, _parts, value) => {
    entry.requestId = value
  },
  responseCodeDetails: (entry, _parts, value) => {
    entry.responseCodeDetails = value
  },
  route: (entry, _parts, value) => {
    entry.route = value
  },
  scheme: (entry, _parts, value) => {
    entry.scheme = value
  },
  sni: (entry, _parts, value) => {
    entry.sni = value
  },
  spanId: (entry, _parts, value) => {
    entry.spanId = value
  },
  streamId: (entry, _parts, value) => {
    entry.streamId = value
  },
  tlsSession: (entry, _parts, value) => {
    entry.tlsSession = value
  },
  traceId: (entry, _parts, value) => {
    entry.traceId = value
  },
  upstreamCluster: (entry, _parts, value) => {
    entry.upstreamCluster = value
  },
  upstreamLocal: (entry, _parts, value) => {
    entry.upstreamLocal = value
  },
  upstreamTransportFailure: (entry, _parts, value) => {
    entry.upstreamTransportFailure = value
  },
  userAgent: (entry, _parts, value) => {
    entry.userAgent = value
  },
} as const satisfies Record<string, SetText>

const COUNTS = {
  attempts: (entry, _parts, value) => {
    entry.attempts = Math.trunc(value)
  },
  downstreamHeaderReceived: (entry, _parts, value) => {
    entry.downstreamHeaderReceived = Math.trunc(value)
  },
  downstreamHeaderSent: (entry, _parts, value) => {
    entry.downstreamHeaderSent = Math.trunc(value)
  },
  downstreamWireReceived: (entry, _parts, value) => {
    entry.downstreamWireReceived = Math.trunc(value)
  },
  downstreamWireSent: (entry, _parts, value) => {
    entry.downstreamWireSent = Math.trunc(value)
  },
  requestBodyBytes: (entry, _parts, value) => {
    entry.requestBodyBytes = Math.trunc(value)
  },
  requestHeadersBytes: (entry, _parts, value) => {
    entry.requestHeadersBytes = Math.trunc(value)
  },
  responseBodyBytes: (entry, _parts, value) => {
    entry.responseBodyBytes = Math.trunc(value)
  },
  responseHeadersBytes: (entry, _parts, value) => {
    entry.responseHeadersBytes = Math.trunc(value)
  },
  tlsCipher: (entry, _parts, value) => {
    entry.tlsCipher = Math.trunc(value)
  },
  upstreamHeaderReceived: (entry, _parts, value) => {
    entry.upstreamHeaderReceived = Math.trunc(value)
  },
  upstreamHeaderSent: (entry, _parts, value) => {
    entry.upstreamHeaderSent = Math.trunc(value)
  },
  upstreamWireReceived: (entry, _parts, value) => {
    entry.upstreamWireReceived = Math.trunc(value)
  },
  upstreamWireSent: (entry, _parts, value) => {
    entry.upstreamWireSent = Math.trunc(value)
  },
} as const satisfies Record<string, SetNumber>

const PART_TEXTS = {
  client: (_entry, parts, value) => {
    parts.used = true
    parts.client = value
  },
  local: (_entry, parts, value) => {
    parts.used = true
    parts.local = value
  },
  peer: (_entry, parts, value) => {
    parts.used = true
    parts.peer = value
  },
  protocolName: (_entry, parts, value) => {
    parts.used = true
    parts.protocolName = value
  },
  protocolVersion: (_entry, parts, value) => {
    parts.used = true
    parts.protocolVersion = value
  },
  query: (_entry, parts, value) => {
    parts.used = true
    parts.query = value
  },
  server: (_entry, parts, value) => {
    parts.used = true
    parts.server = value
  },
  start: (_entry, parts, value) => {
    parts.used = true
    parts.start = value
  },
} as const satisfies Record<string, SetText>

const PART_NUMBERS = {
  clientPort: (_entry, parts, value) => {
    parts.used = true
    parts.clientPort = value
  },
  localPort: (_entry, parts, value) => {
    parts.used = true
    parts.localPort = value
  },
  peerPort: (_entry, parts, value) => {
    parts.used = true
    parts.peerPort = value
  },
  serverPort: (_entry, parts, value) => {
    parts.used = true
    parts.serverPort = value
  },
  upstreamPort: (_entry, parts, value) => {
    parts.used = true
    parts.upstreamPort = value
  },
} as const satisfies Record<string, SetNumber>

const text = (field: keyof typeof TEXTS, evidence = false): AttributeTarget => ({
  text: TEXTS[field],
  precisionNs: 0,
  evidence,
})

const numeric = (set: SetNumber, evidence = false, precisionNs = 0): AttributeTarget => ({
  text: (entry, parts, value) => {
    const number = Number(value)
    if (value.trim() !== '' && Number.isFinite(number) && number >= 0) set(entry, parts, number)
  },
  number: set,
  precisionNs,
  evidence,
})

const count = (field: keyof typeof COUNTS): AttributeTarget => numeric(COUNTS[field])

const partText = (field: keyof typeof PART_TEXTS): AttributeTarget => ({
  text: PART_TEXTS[field],
  precisionNs: 0,
  evidence: false,
})

const partNumber = (field: keyof typeof PART_NUMBERS): AttributeTarget => numeric(PART_NUMBERS[field])

const party = (side: 'source' | 'destination', field: PartyField): AttributeTarget => ({
  text: (entry, _parts, value) => entry[side].set(field, value === 'unknown' ? '' : value),
  precisionNs: 0,
  evidence: false,
})

type HeaderKind = 'requestHeaders' | 'responseHeaders' | 'responseTrailers' | 'filterState' | 'customTags'

/** A header, tag or filter state object under a name of its own. */
export const pair = (kind: HeaderKind, name: string): AttributeTarget => ({
  text: (entry, _parts, value) => entry[kind].add(name, value),
  precisionNs: 0,
  evidence: false,
})

/** A duration in each unit, as `<name>`, `<name>_ms`, `<name>_us`, `<name>_ns`, `<name>_s`, `<name>_seconds`. */
function* duration(
  name: string,
  set: (entry: AccessEntry, ns: number, parts: EntryParts) => void,
  evidence = false,
): Generator<[string, AttributeTarget]> {
  for (const [suffix, ns] of UNITS) {
    const target = numeric(
      (entry, parts, value) => set(entry, Math.round(value * ns), parts),
      evidence,
      ns === 1e9 ? 1e6 : ns,
    )
    yield [`${name}${suffix}`, target]
  }
}

const UNITS: readonly (readonly [string, number])[] = [
  ['', 1e6],
  ['_ms', 1e6],
  ['_us', 1e3],
  ['_ns', 1],
  ['_s', 1e9],
  ['_seconds', 1e9],
]

const requestId = text('requestId')
const method = text('method')
const authority = text('authority')
const userAgent = text('userAgent')
const upstreamCluster = text('upstreamCluster')
const route = text('route')
const code: AttributeTarget = numeric((entry, _parts, value) => {
  entry.code = value < 1000 ? Math.trunc(value) : -1
}, true)
const flags = text('flags', true)
const upstreamHost: AttributeTarget = {
  text: (entry, _parts, value) => {
    entry.upstreamHost = value
  },
  precisionNs: 0,
  evidence: false,
}
const path: AttributeTarget = {
  text: (entry, _parts, value) => {
    if (entry.path === '') entry.path = value
  },
  precisionNs: 0,
  evidence: false,
}
const url: AttributeTarget = {
  text: (entry, _parts, value) => {
    const match = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)([^#]*)/i.exec(value)
    if (match === null) {
      if (entry.path === '') entry.path = value
      return
    }
    if (entry.scheme === '') entry.scheme = match[1]!.toLowerCase()
    if (entry.authority === '') entry.authority = match[2]!.replace(/^.*@/, '')
    if (entry.path === '') entry.path = match[3]! || '/'
  },
  precisionNs: 0,
  evidence: false,
}
const grpcStatus: AttributeTarget = {
  text: (entry, _parts, value) => {
    const number = /^\d{1,2}$/.test(value) ? Number(value) : GRPC_STATUSES.indexOf(lettersOf(value))
    if (number >= 0 && number <= 16) entry.grpcStatus = number
  },
  number: (entry, _parts, value) => {
    if (value <= 16) entry.grpcStatus = Math.trunc(value)
  },
  precisionNs: 0,
  evidence: false,
}
const GRPC_STATUSES = [
  'ok',
  'canceled',
  'unknown',
  'invalidargument',
  'deadlineexceeded',
  'notfound',
  'alreadyexists',
  'permissiondenied',
  'resourceexhausted',
  'failedprecondition',
  'aborted',
  'outofrange',
  'unimplemented',
  'internal',
  'unavailable',
  'dataloss',
  'unauthenticated',
]

/** `NOT_FOUND`, `NotFound` and `not found` are one word; so are both spellings of cancelled. */
function lettersOf(value: string): string {
  return value
    .toLowerCase()
    .replace(/[^a-z]/g, '')
    .replace('cancelled', 'canceled')
}

export const ENTRY_TYPE: AttributeTarget = {
  text: (entry, _parts, value) => {
    const type = (ACCESS_LOG_TYPES as readonly string[]).indexOf(value)
    if (type > 0) entry.type = type
  },
  number: (entry, _parts, value) => {
    if (value < ACCESS_LOG_TYPES.length) entry.type = Math.trunc(value)
  },
  precisionNs: 0,
  evidence: true,
}
const tlsVersion: AttributeTarget = {
  text: (entry, _parts, value) => {
    // OpenTelemetry: `1.3`; Envoy: `TLSv1.3`.
    entry.tlsVersion = /^\d/.test(value) ? `TLSv${value === '1.0' ? '1' : value}` : value
  },
  precisionNs: 0,
  evidence: false,
}
const flavor: AttributeTarget = {
  text: (entry, _parts, value) => {
    if (entry.protocol === '') entry.protocol = httpProtocol(value)
  },
  precisionNs: 0,
  evidence: false,
}
const reporter: AttributeTarget = {
  text: (entry, _parts, value) => {
    if (REPORTERS.has(value)) entry.reporter = value as EntryReporter
  },
  precisionNs: 0,
  evidence: false,
}
const REPORTERS = new Set(['source', 'destination', 'gateway', 'waypoint'])
const resends: AttributeTarget = numeric((entry, _parts, value) => {
  entry.attempts = Math.trunc(value) + 1
})

/** `1.1` → `HTTP/1.1`, `2` and `2.0` → `HTTP/2`. */
export function httpProtocol(version: string): string {
  const known = PROTOCOLS.get(version)
  if (known !== undefined) return known
  if (/^HTTP\//i.test(version)) return version.toUpperCase() === 'HTTP/2.0' ? 'HTTP/2' : version.toUpperCase()
  return version
}

const PROTOCOLS: ReadonlyMap<string, string> = new Map([
  ['HTTP/1.1', 'HTTP/1.1'],
  ['HTTP/2', 'HTTP/2'],
  ['1.0', 'HTTP/1.0'],
  ['1.1', 'HTTP/1.1'],
  ['2', 'HTTP/2'],
  ['2.0', 'HTTP/2'],
  ['3', 'HTTP/3'],
  ['3.0', 'HTTP/3'],
])

/** As they are: other people's names, where dots and colons mean something. */
const EXACT: ReadonlyMap<string, AttributeTarget> = new Map<string, AttributeTarget>([
  // OpenTelemetry, stable.
  ['http.request.method', method],
  ['http.request.method_original', method],
  ['http.response.status_code', code],
  ['http.route', text('pathTemplate')],
  ['http.request.resend_count', resends],
  ['http.request.size', count('downstreamWireReceived')],
  ['http.request.body.size', count('requestBodyBytes')],
  ['http.response.size', count('downstreamWireSent')],
  ['http.response.body.size', count('responseBodyBytes')],
  ['url.path', path],
  ['url.query', partText('query')],
  ['url.scheme', text('scheme')],
  ['url.full', url],
  ['url.template', text('pathTemplate')],
  ['server.address', partText('server')],
  ['server.port', partNumber('serverPort')],
  ['client.address', partText('client')],
  ['client.port', partNumber('clientPort')],
  ['network.peer.address', partText('peer')],
  ['network.peer.port', partNumber('peerPort')],
  ['network.local.address', partText('local')],
  ['network.local.port', partNumber('localPort')],
  ['network.protocol.name', partText('protocolName')],
  ['network.protocol.version', partText('protocolVersion')],
  ['user_agent.original', userAgent],
  ['rpc.grpc.status_code', grpcStatus],
  ['rpc.response.status_code', grpcStatus],
  ['tls.protocol.version', tlsVersion],
  ['tls.client.server_name', text('sni')],
  ['tls.client.subject', text('peerSubject')],
  ['tls.client.issuer', text('peerIssuer')],
  ['tls.client.ja3', text('ja3')],
  // OpenTelemetry before 1.23.
  ['http.method', method],
  ['http.status_code', code],
  ['http.url', url],
  ['http.target', path],
  ['http.host', authority],
  ['http.scheme', text('scheme')],
  ['http.flavor', flavor],
  ['http.protocol', flavor],
  ['http.user_agent', userAgent],
  ['http.client_ip', partText('client')],
  ['http.request_content_length', count('requestBodyBytes')],
  ['http.response_content_length', count('responseBodyBytes')],
  ['net.peer.ip', partText('peer')],
  ['net.sock.peer.addr', partText('peer')],
  ['net.peer.port', partNumber('peerPort')],
  ['net.sock.peer.port', partNumber('peerPort')],
  ['net.host.ip', partText('local')],
  ['net.sock.host.addr', partText('local')],
  ['net.host.port', partNumber('localPort')],
  ['net.sock.host.port', partNumber('localPort')],
  ['net.host.name', partText('server')],
  // Envoy's attributes.
  ['request.path', path],
  ['request.url_path', path],
  ['request.query', partText('query')],
  ['request.host', authority],
  ['request.scheme', text('scheme')],
  ['request.method', method],
  ['request.referer', text('referer')],
  ['request.useragent', userAgent],
  ['request.time', partText('start')],
  ['request.id', requestId],
  ['request.protocol', flavor],
  ['request.size', count('requestBodyBytes')],
  ['request.total_size', count('downstreamWireReceived')],
  ['response.code', code],
  ['response.code_details', text('responseCodeDetails')],
  ['response.grpc_status', grpcStatus],
  ['response.size', count('responseBodyBytes')],
  ['response.total_size', count('downstreamWireSent')],
  ['source.address', text('downstreamRemote')],
  ['source.port', partNumber('clientPort')],
  ['destination.address', text('downstreamLocal')],
  ['destination.port', partNumber('localPort')],
  ['connection.requested_server_name', text('sni')],
  ['connection.tls_version', tlsVersion],
  ['connection.subject_peer_certificate', text('peerSubject')],
  ['connection.subject_local_certificate', text('localSubject')],
  ['connection.uri_san_peer_certificate', text('peerSan')],
  ['connection.uri_san_local_certificate', text('localSan')],
  ['connection.termination_details', text('connectionTerminationDetails')],
  ['connection.transport_failure_reason', text('downstreamTransportFailure')],
  ['upstream.address', upstreamHost],
  ['upstream.port', partNumber('upstreamPort')],
  ['upstream.local_address', text('upstreamLocal')],
  ['upstream.transport_failure_reason', text('upstreamTransportFailure')],
  ['upstream.request_attempt_count', count('attempts')],
  ['xds.cluster_name', upstreamCluster],
  ['xds.route_name', route],
  ['xds.listener_name', text('listener')],
  // Headers under their own names: Envoy Gateway, Contour.
  [':authority', authority],
  [':method', method],
  [':path', path],
  ['x-envoy-origin-path', path],
  ['x-envoy-original-path', path],
  ['x-forwarded-for', text('forwardedFor')],
  ['user-agent', userAgent],
  ['x-request-id', requestId],
  ['guid:x-request-id', requestId],
])

/** Lower case, `.` and `-` as `_`, without `envoy_`. */
const NORMALISED: ReadonlyMap<string, AttributeTarget> = new Map<string, AttributeTarget>([
  ['method', method],
  ['path', path],
  ['original_path', text('originalPath')],
  ['path_template', text('pathTemplate')],
  ['protocol', flavor],
  ['scheme', text('scheme')],
  ['authority', authority],
  ['user_agent', userAgent],
  ['referer', text('referer')],
  ['x_forwarded_for', text('forwardedFor')],
  ['forwarded_for', text('forwardedFor')],
  ['x_request_id', requestId],
  ['request_id', requestId],
  ['stream_id', text('streamId')],
  ['trace_id', text('traceId')],
  ['span_id', text('spanId')],
  ['response_code', code],
  ['response_code_details', text('responseCodeDetails')],
  ['response_flags', flags],
  ['connection_termination_details', text('connectionTerminationDetails')],
  ['upstream_transport_failure_reason', text('upstreamTransportFailure')],
  ['upstream_transport_failure', text('upstreamTransportFailure')],
  ['downstream_transport_failure_reason', text('downstreamTransportFailure')],
  ['downstream_transport_failure', text('downstreamTransportFailure')],
  ['grpc_status', grpcStatus],
  ['grpc_status_number', grpcStatus],
  ['grpc_status_code', grpcStatus],
  ['attempts', count('attempts')],
  ['upstream_request_attempt_count', count('attempts')],
  ['access_log_type', ENTRY_TYPE],
  ['entry_type', ENTRY_TYPE],
  ['start_time', partText('start')],
  ['route_name', route],
  ['route', route],
  ['listener_name', text('listener')],
  ['listener', text('listener')],
  ['upstream_cluster', upstreamCluster],
  ['upstream_cluster_raw', upstreamCluster],
  ['upstream_cluster_name', upstreamCluster],
  ['upstream_host', upstreamHost],
  ['upstream_remote_address', upstreamHost],
  ['upstream_address', upstreamHost],
  ['upstream_local_address', text('upstreamLocal')],
  ['upstream_local', text('upstreamLocal')],
  ['downstream_remote_address', text('downstreamRemote')],
  ['downstream_remote', text('downstreamRemote')],
  ['downstream_direct_remote_address', text('downstreamDirect')],
  ['downstream_direct', text('downstreamDirect')],
  ['downstream_local_address', text('downstreamLocal')],
  ['downstream_local', text('downstreamLocal')],
  ['requested_server_name', text('sni')],
  ['sni', text('sni')],
  ['bytes_received', count('requestBodyBytes')],
  ['bytes_sent', count('responseBodyBytes')],
  ['request_body_bytes', count('requestBodyBytes')],
  ['response_body_bytes', count('responseBodyBytes')],
  ['request_headers_bytes', count('requestHeadersBytes')],
  ['response_headers_bytes', count('responseHeadersBytes')],
  ['downstream_wire_bytes_received', count('downstreamWireReceived')],
  ['downstream_wire_received', count('downstreamWireReceived')],
  ['downstream_wire_bytes_sent', count('downstreamWireSent')],
  ['downstream_wire_sent', count('downstreamWireSent')],
  ['upstream_wire_bytes_received', count('upstreamWireReceived')],
  ['upstream_wire_received', count('upstreamWireReceived')],
  ['upstream_wire_bytes_sent', count('upstreamWireSent')],
  ['upstream_wire_sent', count('upstreamWireSent')],
  ['downstream_header_bytes_received', count('downstreamHeaderReceived')],
  ['downstream_header_received', count('downstreamHeaderReceived')],
  ['downstream_header_bytes_sent', count('downstreamHeaderSent')],
  ['downstream_header_sent', count('downstreamHeaderSent')],
  ['upstream_header_bytes_received', count('upstreamHeaderReceived')],
  ['upstream_header_received', count('upstreamHeaderReceived')],
  ['upstream_header_bytes_sent', count('upstreamHeaderSent')],
  ['upstream_header_sent', count('upstreamHeaderSent')],
  ['downstream_tls_version', tlsVersion],
  ['tls_version', tlsVersion],
  ['tls_cipher', count('tlsCipher')],
  ['ja3', text('ja3')],
  ['tls_ja3_fingerprint', text('ja3')],
  ['tls_session', text('tlsSession')],
  ['downstream_tls_session_id', text('tlsSession')],
  ['downstream_peer_uri_san', text('peerSan')],
  ['peer_san', text('peerSan')],
  ['downstream_peer_subject', text('peerSubject')],
  ['peer_subject', text('peerSubject')],
  ['downstream_peer_issuer', text('peerIssuer')],
  ['peer_issuer', text('peerIssuer')],
  ['downstream_local_uri_san', text('localSan')],
  ['local_san', text('localSan')],
  ['downstream_local_subject', text('localSubject')],
  ['local_subject', text('localSubject')],
  ['reporter', reporter],
  ['metadata', text('metadata')],
  ['wasm_downstream_peer', pair('filterState', 'downstream_peer')],
  ['wasm_upstream_peer', pair('filterState', 'upstream_peer')],
  ['downstream_peer', pair('filterState', 'downstream_peer')],
  ['upstream_peer', pair('filterState', 'upstream_peer')],
  ...sides('source'),
  ...sides('destination'),
  ...duration(
    'duration',
    (entry, ns) => {
      entry.durationNs = ns
    },
    true,
  ),
  ...duration(
    'total_duration',
    (entry, ns) => {
      entry.durationNs = ns
    },
    true,
  ),
  ...duration('request_duration', (entry, ns) => {
    entry.rxEndNs = ns
  }),
  ...duration('request_tx_duration', (entry, ns) => {
    entry.upTxEndNs = ns
  }),
  ...duration('response_duration', (entry, ns) => {
    entry.upRxBeginNs = ns
  }),
  ...duration('response_tx_duration', (_entry, ns, parts) => {
    parts.used = true
    parts.responseTxNs = ns
  }),
  ...duration('t_rx_end', (entry, ns) => {
    entry.rxEndNs = ns
  }),
  ...duration('t_up_tx_begin', (entry, ns) => {
    entry.upTxBeginNs = ns
  }),
  ...duration('t_up_tx_end', (entry, ns) => {
    entry.upTxEndNs = ns
  }),
  ...duration('t_up_rx_begin', (entry, ns) => {
    entry.upRxBeginNs = ns
  }),
  ...duration('t_up_rx_end', (entry, ns) => {
    entry.upRxEndNs = ns
  }),
  ...duration('t_down_tx_begin', (entry, ns) => {
    entry.downTxBeginNs = ns
  }),
  ...duration('t_down_tx_end', (entry, ns) => {
    entry.downTxEndNs = ns
  }),
  ['upstream_service_time', pair('responseHeaders', 'x-envoy-upstream-service-time')],
  ['upstream_service_time_ms', pair('responseHeaders', 'x-envoy-upstream-service-time')],
  ['x_envoy_upstream_service_time', pair('responseHeaders', 'x-envoy-upstream-service-time')],
])

function* sides(side: 'source' | 'destination'): Generator<[string, AttributeTarget]> {
  for (const field of ['workload', 'namespace', 'service', 'version', 'principal', 'app', 'cluster'] as const) {
    yield [`${side}_${field}`, party(side, field)]
  }
  yield [`${side}_workload_name`, party(side, 'workload')]
  yield [`${side}_workload_namespace`, party(side, 'namespace')]
  yield [`${side}_service_name`, party(side, 'service')]
  yield [`${side}_canonical_service`, party(side, 'service')]
  yield [`${side}_canonical_revision`, party(side, 'version')]
}

/** What an attribute that means a header starts with; the rest is the header. */
const HEADERS: readonly (readonly [string, HeaderKind])[] = [
  ['http.request.header.', 'requestHeaders'],
  ['http.response.header.', 'responseHeaders'],
  ['request.headers.', 'requestHeaders'],
  ['response.headers.', 'responseHeaders'],
  ['response.trailers.', 'responseTrailers'],
  ['request_headers.', 'requestHeaders'],
  ['response_headers.', 'responseHeaders'],
  ['response_trailers.', 'responseTrailers'],
  ['filter_state.', 'filterState'],
  ['custom_tags.', 'customTags'],
]

/** Request headers that are columns of their own. (Old conventions write `_` for `-`.) */
const OWN_COLUMNS: ReadonlyMap<string, AttributeTarget> = new Map([
  [':authority', authority],
  ['host', authority],
  [':method', method],
  [':path', path],
  ['user-agent', userAgent],
  ['referer', text('referer')],
  ['x-forwarded-for', text('forwardedFor')],
  ['x-request-id', requestId],
])

/** Names that the configuration may map an attribute to. */
export const TARGET_NAMES: readonly string[] = [...NORMALISED.keys()]

/** The target of a name of the configuration; null when there is none. */
export function targetOf(name: string): AttributeTarget | null {
  return NORMALISED.get(name) ?? headerTarget(name)
}

/** What an attribute is. One that is nothing known becomes a custom tag under its own name: nothing is thrown away. */
export function resolveAttribute(name: string, extra: Readonly<Record<string, string>>): AttributeTarget {
  const configured = Object.hasOwn(extra, name) ? targetOf(extra[name]!) : null
  if (configured !== null) return configured
  const exact = EXACT.get(name) ?? EXACT.get(name.toLowerCase()) ?? headerTarget(name)
  if (exact !== null && exact !== undefined) return exact
  const plain = name
    .toLowerCase()
    .replace(/[.-]/g, '_')
    .replace(/^(?:envoy_|istio_|access_log_(?!type$))/, '')
  return NORMALISED.get(plain) ?? { ...pair('customTags', name), tag: name }
}

function headerTarget(name: string): AttributeTarget | null {
  for (const [prefix, kind] of HEADERS) {
    if (!name.startsWith(prefix) || name.length === prefix.length) continue
    const rest = name.slice(prefix.length)
    const own = kind === 'requestHeaders' ? OWN_COLUMNS.get(rest.toLowerCase().replaceAll('_', '-')) : undefined
    if (own !== undefined) return own
    return pair(kind, kind === 'filterState' || kind === 'customTags' ? rest : rest.toLowerCase())
  }
  return null
}

const HTTP_NAMES = new Set(['', 'http', 'HTTP'])

/** Puts together what came in parts. */
export function finishParts(entry: AccessEntry, parts: EntryParts): void {
  if (entry.downstreamRemote === '') entry.downstreamRemote = hostAndPort(parts.client, parts.clientPort)
  else if (parts.clientPort > 0) entry.downstreamRemote = hostAndPort(entry.downstreamRemote, parts.clientPort)
  if (entry.downstreamDirect === '') entry.downstreamDirect = hostAndPort(parts.peer, parts.peerPort)
  if (entry.downstreamRemote === '') entry.downstreamRemote = entry.downstreamDirect
  if (entry.downstreamLocal === '') entry.downstreamLocal = hostAndPort(parts.local, parts.localPort)
  else if (parts.localPort > 0) entry.downstreamLocal = hostAndPort(entry.downstreamLocal, parts.localPort)
  if (parts.upstreamPort > 0) entry.upstreamHost = hostAndPort(entry.upstreamHost, parts.upstreamPort)
  if (entry.authority === '') entry.authority = hostAndPort(parts.server, parts.serverPort)
  if (parts.query !== '' && entry.path !== '' && !entry.path.includes('?')) {
    entry.path += parts.query.startsWith('?') ? parts.query : `?${parts.query}`
  }
  if (entry.protocol === '' && parts.protocolVersion !== '' && HTTP_NAMES.has(parts.protocolName)) {
    entry.protocol = httpProtocol(parts.protocolVersion)
  }
  if (parts.responseTxNs >= 0 && entry.downTxEndNs < 0 && entry.upRxBeginNs >= 0) {
    entry.downTxEndNs = entry.upRxBeginNs + parts.responseTxNs
  }
  if (parts.start !== '' && entry.startSeconds === 0) setTime(entry, parts.start)
}

function hostAndPort(host: string, port: number): string {
  if (host === '' || port <= 0 || !Number.isInteger(port) || port > 65_535) return host
  if (/^\[.*\]:\d+$/.test(host) || /^[^:]+:\d+$/.test(host)) return host
  return host.includes(':') && !host.startsWith('[') ? `[${host}]:${port}` : `${host}:${port}`
}

/** RFC 3339 with any number of digits, or Unix seconds. */
function setTime(entry: AccessEntry, text: string): void {
  const match = /^(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?(Z|[+-]\d\d:?\d\d)?$/i.exec(text)
  if (match !== null) {
    const ms = Date.parse(`${match[1]!.replace(' ', 'T')}${match[3] ?? 'Z'}`)
    if (Number.isNaN(ms)) return
    entry.startSeconds = ms / 1000
    entry.startNanos = Number((match[2] ?? '').padEnd(9, '0'))
    return
  }
  const seconds = /^\d{9,11}(?:\.\d{1,9})?$/.test(text) ? text.split('.') : null
  if (seconds === null) return
  entry.startSeconds = Number(seconds[0])
  entry.startNanos = Number((seconds[1] ?? '').padEnd(9, '0'))
}
