import type { AccessEntry, Pairs } from '../../src/ingest/entry/entry.ts'
import type { Json, JsonObject } from './als-expected.ts'
import { TYPES } from './als-expected.ts'

/**
 * Fills an `AccessEntry` with what an ALS entry says, from its protobuf JSON form: what a receiver of another protocol
 * would know of the same request if that protocol left nothing out.
 */
export function fillFromAls(entry: AccessEntry, als: JsonObject, isTcp: boolean): void {
  const c = object(als.common_properties)
  const q = object(als.request)
  const a = object(als.response)
  const tls = object(c.tls_properties)
  const connection = object(als.connection_properties)
  entry.tcp = isTcp
  entry.type = TYPES.indexOf(text(c.access_log_type ?? 'NotSet'))
  entry.intermediate = c.intermediate_log_entry === true
  const [seconds, nanos] = time(text(c.start_time))
  entry.startSeconds = seconds
  entry.startNanos = nanos
  entry.durationNs = duration(c.duration)
  entry.rxEndNs = duration(c.time_to_last_rx_byte)
  entry.upTxBeginNs = duration(c.time_to_first_upstream_tx_byte)
  entry.upTxEndNs = duration(c.time_to_last_upstream_tx_byte)
  entry.upRxBeginNs = duration(c.time_to_first_upstream_rx_byte)
  entry.upRxEndNs = duration(c.time_to_last_upstream_rx_byte)
  entry.downTxBeginNs = duration(c.time_to_first_downstream_tx_byte)
  entry.downTxEndNs = duration(c.time_to_last_downstream_tx_byte)
  entry.code = a.response_code === undefined ? -1 : Number(object(a.response_code).value ?? a.response_code)
  entry.flags = Object.keys(object(c.response_flags))
    .map((name) => FLAGS[name]!)
    .join(',')
  entry.responseCodeDetails = text(a.response_code_details)
  entry.connectionTerminationDetails = text(c.connection_termination_details)
  entry.upstreamTransportFailure = text(c.upstream_transport_failure_reason)
  entry.downstreamTransportFailure = text(c.downstream_transport_failure_reason)
  entry.attempts = Number(c.upstream_request_attempt_count ?? 0)
  entry.method = text(q.request_method).replace('METHOD_UNSPECIFIED', '')
  entry.protocol = PROTOCOLS[text(als.protocol_version)] ?? ''
  entry.scheme = text(q.scheme)
  entry.authority = text(q.authority)
  entry.path = text(q.path)
  entry.originalPath = text(q.original_path)
  entry.userAgent = text(q.user_agent)
  entry.referer = text(q.referer)
  entry.forwardedFor = text(q.forwarded_for)
  entry.requestId = text(q.request_id)
  entry.streamId = text(c.stream_id)
  entry.route = text(c.route_name)
  entry.upstreamCluster = text(c.upstream_cluster)
  entry.upstreamHost = address(c.upstream_remote_address)
  entry.upstreamLocal = address(c.upstream_local_address)
  entry.downstreamRemote = address(c.downstream_remote_address)
  entry.downstreamDirect = address(c.downstream_direct_remote_address)
  entry.downstreamLocal = address(c.downstream_local_address)
  entry.requestHeadersBytes = Number(q.request_headers_bytes ?? 0)
  entry.requestBodyBytes = Number((isTcp ? connection.received_bytes : q.request_body_bytes) ?? 0)
  entry.responseHeadersBytes = Number(a.response_headers_bytes ?? 0)
  entry.responseBodyBytes = Number((isTcp ? connection.sent_bytes : a.response_body_bytes) ?? 0)
  entry.downstreamWireReceived = Number(c.downstream_wire_bytes_received ?? 0)
  entry.downstreamWireSent = Number(c.downstream_wire_bytes_sent ?? 0)
  entry.upstreamWireReceived = Number(c.upstream_wire_bytes_received ?? 0)
  entry.upstreamWireSent = Number(c.upstream_wire_bytes_sent ?? 0)
  entry.downstreamHeaderReceived = Number(q.downstream_header_bytes_received ?? 0)
  entry.downstreamHeaderSent = Number(a.downstream_header_bytes_sent ?? 0)
  entry.upstreamHeaderReceived = Number(a.upstream_header_bytes_received ?? 0)
  entry.upstreamHeaderSent = Number(q.upstream_header_bytes_sent ?? 0)
  entry.tlsVersion = text(tls.tls_version).replace('TLSv1_', 'TLSv1.')
  entry.tlsCipher = Number(object(tls.tls_cipher_suite).value ?? tls.tls_cipher_suite ?? 0)
  entry.sni = text(tls.tls_sni_hostname)
  entry.ja3 = text(tls.ja3_fingerprint)
  entry.tlsSession = text(tls.tls_session_id)
  const peer = object(tls.peer_certificate_properties)
  const local = object(tls.local_certificate_properties)
  entry.peerSan = sans(peer)
  entry.peerSubject = text(peer.subject)
  entry.peerIssuer = text(peer.issuer)
  entry.localSan = sans(local)
  entry.localSubject = text(local.subject)
  entry.localIssuer = text(local.issuer)
  fill(entry.requestHeaders, q.request_headers)
  fill(entry.responseHeaders, a.response_headers)
  fill(entry.responseTrailers, a.response_trailers)
  fill(entry.customTags, c.custom_tags)
  for (const [key, value] of Object.entries(object(c.filter_state_objects))) {
    const { '@type': type, value: payload, ...rest } = object(value)
    entry.filterState.add(key, JSON.stringify(type === undefined ? rest : (payload ?? null)))
  }
  const metadata = object(object(c.metadata).filter_metadata)
  entry.metadata = Object.keys(metadata).length === 0 ? '' : JSON.stringify(metadata)
}

const object = (json: Json | undefined): JsonObject => (json ?? {}) as JsonObject
const text = (json: Json | undefined): string => (json ?? '') as string

function fill(pairs: Pairs, json: Json | undefined): void {
  for (const [name, value] of Object.entries(object(json))) pairs.add(name, text(value))
}

function sans(json: JsonObject): string {
  return ((json.subject_alt_name ?? []) as JsonObject[]).map(({ uri, dns }) => text(uri ?? dns)).join(',')
}

function duration(json: Json | undefined): number {
  if (json === undefined) return -1
  const [seconds, fraction = ''] = text(json).replace('s', '').split('.')
  return Number(seconds) * 1e9 + Number(fraction.padEnd(9, '0'))
}

function time(json: string): [number, number] {
  if (json === '') return [0, 0]
  const [whole, fraction = ''] = json.replace('Z', '').split('.')
  return [Date.parse(`${whole}Z`) / 1000, Number(fraction.padEnd(9, '0'))]
}

/** As Envoy prints an address. */
function address(json: Json | undefined): string {
  const { socket_address, pipe, envoy_internal_address } = object(json)
  if (pipe !== undefined) return text(object(pipe).path)
  if (envoy_internal_address !== undefined) {
    const internal = object(envoy_internal_address)
    return `envoy://${text(internal.server_listener_name)}/${text(internal.endpoint_id)}`
  }
  if (socket_address === undefined) return ''
  const { address, port_value } = object(socket_address)
  const host = text(address).includes(':') ? `[${text(address)}]` : text(address)
  return `${host}:${Number(port_value ?? 0)}`
}

const PROTOCOLS: Readonly<Record<string, string>> = {
  HTTP10: 'HTTP/1.0',
  HTTP11: 'HTTP/1.1',
  HTTP2: 'HTTP/2',
  HTTP3: 'HTTP/3',
}
const FLAGS: Readonly<Record<string, string>> = {
  failed_local_healthcheck: 'LH',
  no_healthy_upstream: 'UH',
  upstream_request_timeout: 'UT',
  local_reset: 'LR',
  upstream_remote_reset: 'UR',
  upstream_connection_failure: 'UF',
  upstream_connection_termination: 'UC',
  upstream_overflow: 'UO',
  no_route_found: 'NR',
  delay_injected: 'DI',
  fault_injected: 'FI',
  rate_limited: 'RL',
  unauthorized_details: 'UAEX',
  rate_limit_service_error: 'RLSE',
  downstream_connection_termination: 'DC',
  upstream_retry_limit_exceeded: 'URX',
  stream_idle_timeout: 'SI',
  invalid_envoy_request_headers: 'IH',
  downstream_protocol_error: 'DPE',
  upstream_max_stream_duration_reached: 'UMSDR',
  response_from_cache_filter: 'RFCF',
  no_filter_config_found: 'NFCF',
  duration_timeout: 'DT',
  upstream_protocol_error: 'UPE',
  no_cluster_found: 'NC',
  overload_manager: 'OM',
  dns_resolution_failure: 'DF',
  downstream_remote_reset: 'DR',
}
