import type { RowTable } from '../../src/model/schema.ts'
import type { ReadRow, RowValue } from './native-rows.ts'

/**
 * What a row must be, worked out slowly from one access log entry in protobuf's JSON form (proto names, absent and zero
 * fields left out, 64-bit integers as text). The decoder is held against it; nothing is shared with it.
 */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json | undefined }
export type JsonObject = { [key: string]: Json | undefined }

export interface ExpectedRow {
  readonly table: RowTable
  /** Every stored column that is not about the origin or the identity. */
  readonly row: ReadRow
}

/** AccessLogType by number, written here again: what tests hold the product against. */
export const TYPES = [
  'NotSet',
  'TcpUpstreamConnected',
  'TcpPeriodic',
  'TcpConnectionEnd',
  'DownstreamStart',
  'DownstreamPeriodic',
  'DownstreamEnd',
  'UpstreamPoolReady',
  'UpstreamPeriodic',
  'UpstreamEnd',
  'DownstreamTunnelSuccessfullyEstablished',
  'UdpTunnelUpstreamConnected',
  'UdpPeriodic',
  'UdpSessionEnd',
  'TcpConnectionStart',
]
const FINAL = new Set(['DownstreamEnd', 'TcpConnectionEnd', 'UdpSessionEnd'])
const FLAGS = [
  'failed_local_healthcheck',
  'no_healthy_upstream',
  'upstream_request_timeout',
  'local_reset',
  'upstream_remote_reset',
  'upstream_connection_failure',
  'upstream_connection_termination',
  'upstream_overflow',
  'no_route_found',
  'delay_injected',
  'fault_injected',
  'rate_limited',
  'unauthorized_details',
  'rate_limit_service_error',
  'downstream_connection_termination',
  'upstream_retry_limit_exceeded',
  'stream_idle_timeout',
  'invalid_envoy_request_headers',
  'downstream_protocol_error',
  'upstream_max_stream_duration_reached',
  'response_from_cache_filter',
  'no_filter_config_found',
  'duration_timeout',
  'upstream_protocol_error',
  'no_cluster_found',
  'overload_manager',
  'dns_resolution_failure',
  'downstream_remote_reset',
]
const POINTS = {
  t_rx_end: 'time_to_last_rx_byte',
  t_up_tx_begin: 'time_to_first_upstream_tx_byte',
  t_up_tx_end: 'time_to_last_upstream_tx_byte',
  t_up_rx_begin: 'time_to_first_upstream_rx_byte',
  t_up_rx_end: 'time_to_last_upstream_rx_byte',
  t_down_tx_begin: 'time_to_first_downstream_tx_byte',
  t_down_tx_end: 'time_to_last_downstream_tx_byte',
}
const ADDRESSES = {
  downstream_remote: 'downstream_remote_address',
  downstream_local: 'downstream_local_address',
  downstream_direct: 'downstream_direct_remote_address',
  upstream_remote: 'upstream_remote_address',
  upstream_local: 'upstream_local_address',
}
const SECRET = /^(proxy-)?authorization$|^(set-)?cookie$|^x-api-key$/
const URLS = /^(:path|referer|location|x-envoy-original-path)$/
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const NIL = '00000000-0000-0000-0000-000000000000'

const object = (json: Json | undefined): JsonObject => (json ?? {}) as JsonObject
const text = (json: Json | undefined): string => (json ?? '') as string
const count = (json: Json | undefined): bigint => BigInt(text(json) || '0')
const has = (json: Json | undefined): boolean => json !== undefined && json !== null

/** ns of `1.5s` or `{seconds, nanos}`; −1 when missing. */
function nanos(json: Json | undefined): number {
  if (!has(json)) return -1
  if (typeof json === 'string') {
    const match = /^(-?)(\d+)(?:\.(\d+))?s$/.exec(json)!
    if (match[1] === '-') return 0
    return Number(match[2]) * 1e9 + Number((match[3] ?? '').padEnd(9, '0'))
  }
  const { seconds, nanos } = json as JsonObject
  return Math.min(Math.max(Number(seconds ?? 0) * 1e9 + Number(nanos ?? 0), 0), 1e18)
}

/** Unix ns of an RFC 3339 text or `{seconds, nanos}`; 0 when missing. */
function unixNanos(json: Json | undefined): bigint {
  if (!has(json)) return 0n
  if (typeof json === 'string') {
    const [seconds, fraction = ''] = json.replace('Z', '').split('.')
    return BigInt(Date.parse(`${seconds}Z`)) * 1_000_000n + BigInt(fraction.padEnd(9, '0'))
  }
  const { seconds, nanos } = json as JsonObject
  return BigInt(String(seconds ?? 0)) * 1_000_000_000n + BigInt(Number(nanos ?? 0))
}

function address(json: Json | undefined): { text: string; port: number } {
  const { socket_address, pipe, envoy_internal_address } = object(json)
  if (socket_address !== undefined) {
    const { address, port_value, named_port } = object(socket_address)
    if (text(named_port) !== '') return { text: `${text(address)}:${text(named_port)}`, port: 0 }
    const port = Number(port_value ?? 0)
    return { text: text(address), port: port > 65_535 ? 0 : port }
  }
  if (pipe !== undefined) return { text: text(object(pipe).path), port: 0 }
  if (envoy_internal_address !== undefined) {
    const { server_listener_name, endpoint_id } = object(envoy_internal_address)
    return { text: `envoy://${text(server_listener_name)}/${text(endpoint_id)}`, port: 0 }
  }
  return { text: '', port: 0 }
}

export function redactedUrl(url: string): string {
  return url.replace(/[?#].*/s, (query) => query.replace(/=[^&]*/g, '=*'))
}

function headers(json: Json | undefined): Record<string, string> {
  return Object.fromEntries(
    Object.entries(object(json)).map(([name, value]) => {
      if (SECRET.test(name)) return [name, '*']
      return [name, URLS.test(name) ? redactedUrl(text(value)) : text(value)]
    }),
  )
}

function sans(json: Json | undefined): string {
  const names = (object(json).subject_alt_name ?? []) as JsonObject[]
  return names
    .map(({ uri, dns }) => text(uri ?? dns))
    .filter((name) => name !== '')
    .join(',')
}

/** Trace headers that are told by ids, in the order they stand; those left out of the map are removed from it. */
function trace(kept: Record<string, string>): { trace: string; span: string; flags: number } {
  const found = { trace: '', span: '', flags: 0 }
  const set = (field: 'trace' | 'span', value: string): boolean => {
    if (/^0*$/.test(value) || (found[field] !== '' && found[field] !== value)) return false
    found[field] = value
    return true
  }
  for (const [name, value] of Object.entries(kept)) {
    if (name === 'traceparent') {
      const match = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(value)
      if (match === null || !set('trace', match[1]!) || !set('span', match[2]!)) continue
      found.flags = Number.parseInt(match[3]!, 16)
      delete kept[name]
    } else if (name === 'x-b3-traceid') {
      if (/^([0-9a-f]{16}|[0-9a-f]{32})$/.test(value) && set('trace', value.padStart(32, '0'))) delete kept[name]
    } else if (name === 'x-b3-spanid') {
      if (/^[0-9a-f]{16}$/.test(value) && set('span', value)) delete kept[name]
    }
  }
  return found
}

/** JSON of one filter state object, as text, in any spelling. */
function filterStateValue(json: Json): Json {
  const any = object(json)
  const name = text(any['@type']).replace(/^type\.googleapis\.com\/google\.protobuf\./, '')
  if (['Struct', 'Value', 'ListValue', 'StringValue', 'BytesValue', 'BoolValue'].includes(name))
    return any.value ?? null
  if (/^(U?Int(32|64)|Double|Float)Value$/.test(name)) return any.value ?? null
  return json
}

export interface ExpectedOptions {
  readonly isTcp: boolean
  readonly receivedMs: number
}

export function expectedRow(entry: JsonObject, { isTcp, receivedMs }: ExpectedOptions): ExpectedRow {
  const c = object(entry.common_properties)
  const q = object(entry.request)
  const a = object(entry.response)
  const tls = object(c.tls_properties)
  const peer = object(tls.peer_certificate_properties)
  const local = object(tls.local_certificate_properties)
  const flags = object(c.response_flags)
  const connection = object(entry.connection_properties)

  const rawType = c.access_log_type ?? 'NotSet'
  const type = typeof rawType === 'number' ? (TYPES[rawType] ?? 'Other') : text(rawType)
  const code = has(a.response_code) ? Number(object(a.response_code).value ?? a.response_code) : -1
  const table = tableOf(type, isTcp, Object.keys(q).length > 0, code)

  const row: ReadRow = {}
  const put = (name: string, value: RowValue): void => {
    row[name] = value
  }

  let start = unixNanos(c.start_time)
  const points = Object.entries(POINTS).map(([name, field]) => [name, nanos(c[field])] as const)
  const known = points.map(([, value]) => value)
  const duration = has(c.duration) ? nanos(c.duration) : Math.max(0, ...known)
  const usable = start >= 1_000_000_000n && start / 1_000_000_000n <= 4_290_000_000n
  const end = usable ? start + BigInt(duration) : BigInt(receivedMs) * 1_000_000n
  if (!usable) start = end
  put('end_time', end > 4_294_967_295_999_999_999n ? 4_294_967_295n * 1_000_000_000n + (end % 1_000_000_000n) : end)
  put('received', BigInt(receivedMs))
  put('duration_ns', BigInt(duration))
  for (const [name, value] of points) put(name, value < 0 ? null : BigInt(value))

  put('kind', kindOf(type, isTcp, table))
  put('entry_type', type)
  const requestId = text(q.request_id)
  const streamId = text(c.stream_id)
  const asUuid = (id: string): boolean => UUID.test(id) && id !== NIL
  put('request_uuid', asUuid(requestId) ? requestId : NIL)
  put('request_text', asUuid(requestId) ? '' : requestId)
  const same = streamId !== '' && streamId === requestId
  put('stream_is_request', same ? 1 : 0)
  put('stream_uuid', !same && asUuid(streamId) ? streamId : NIL)
  put('stream_text', same || asUuid(streamId) ? '' : streamId)

  const requestHeaders = headers(q.request_headers)
  const ids = trace(requestHeaders)
  put('trace_uuid', (ids.trace || '0'.repeat(32)).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'))
  put('span_number', BigInt(`0x${ids.span || '0'}`))
  put('trace_flags', ids.flags)
  put('sample_rate', Number(c.sample_rate ?? 0))
  put('request_headers', requestHeaders)
  put('response_headers', headers(a.response_headers))
  put('response_trailers', headers(a.response_trailers))
  put('custom_tags', headers(c.custom_tags))
  put(
    'filter_state',
    Object.fromEntries(
      Object.entries(object(c.filter_state_objects)).map(([key, value]) => [
        key,
        JSON.stringify(filterStateValue(value!)),
      ]),
    ),
  )
  const metadata = object(c.metadata)
  put('metadata', Object.keys(metadata).length === 0 ? '' : JSON.stringify(metadata))

  put('route', text(c.route_name))
  put('upstream_cluster', text(c.upstream_cluster))
  for (const [stem, field] of Object.entries(ADDRESSES)) {
    const { text, port } = address(c[field])
    put(`${stem}_address`, text)
    put(`${stem}_port`, port)
  }

  const versions: Record<string, string> = { HTTP10: 'HTTP/1.0', HTTP11: 'HTTP/1.1', HTTP2: 'HTTP/2', HTTP3: 'HTTP/3' }
  put('protocol', versions[text(entry.protocol_version as Json)] ?? '')
  put('method', typeof q.request_method === 'string' ? q.request_method.replace('METHOD_UNSPECIFIED', '') : '')
  put('scheme', text(q.scheme))
  put('authority', text(q.authority))
  put('path', redactedUrl(text(q.path)))
  put('original_path', redactedUrl(text(q.original_path)))
  put('user_agent', text(q.user_agent))
  put('referer', redactedUrl(text(q.referer)))
  put('forwarded_for', text(q.forwarded_for))
  const port = Number(object(q.port).value ?? (typeof q.port === 'number' ? q.port : 0))
  put('port', port > 65_535 ? 0 : port)
  put('request_headers_bytes', count(q.request_headers_bytes))
  put('request_body_bytes', isTcp ? count(connection.received_bytes) : count(q.request_body_bytes))
  put('downstream_wire_received', count(c.downstream_wire_bytes_received))
  put('upstream_wire_sent', count(c.upstream_wire_bytes_sent))
  put('upstream_header_sent', count(q.upstream_header_bytes_sent))
  put('downstream_header_received', count(q.downstream_header_bytes_received))
  put('response_headers_bytes', count(a.response_headers_bytes))
  put('response_body_bytes', isTcp ? count(connection.sent_bytes) : count(a.response_body_bytes))
  put('downstream_wire_sent', count(c.downstream_wire_bytes_sent))
  put('upstream_wire_received', count(c.upstream_wire_bytes_received))
  put('upstream_header_received', count(a.upstream_header_bytes_received))
  put('downstream_header_sent', count(a.downstream_header_bytes_sent))

  put('response_code', code < 0 ? null : code > 65_535 ? 0 : code)
  put('grpc_status', grpc(object(a.response_trailers)) ?? grpc(object(a.response_headers)) ?? null)
  put('response_code_details', text(a.response_code_details))
  let set = FLAGS.reduce((bits, name, k) => (flags[name] ? bits | (1n << BigInt(k)) : bits), 0n)
  if (a.response_code_details === 'drop_overload') set |= 1n << 28n
  if (a.response_code_details === 'unconditional_drop_overload') set |= 1n << 29n
  put('response_flags', set)
  const reason = object(flags.unauthorized_details).reason
  put(
    'unauthorized_reason',
    reason === 'EXTERNAL_SERVICE' ? 1 : typeof reason === 'number' && reason < 256 ? reason : 0,
  )
  put('attempts', Number(c.upstream_request_attempt_count ?? 0))
  put('connection_termination_details', text(c.connection_termination_details))
  put('upstream_transport_failure', text(c.upstream_transport_failure_reason))
  put('downstream_transport_failure', text(c.downstream_transport_failure_reason))
  put('intermediate', c.intermediate_log_entry === true ? 1 : 0)

  const tlsVersions: Record<string, string> = {
    TLSv1: 'TLSv1',
    TLSv1_1: 'TLSv1.1',
    TLSv1_2: 'TLSv1.2',
    TLSv1_3: 'TLSv1.3',
  }
  put('tls_version', tlsVersions[text(tls.tls_version as Json)] ?? '')
  const cipher = Number(object(tls.tls_cipher_suite).value ?? tls.tls_cipher_suite ?? 0)
  put('tls_cipher', cipher > 65_535 ? 0 : cipher)
  put('sni', text(tls.tls_sni_hostname))
  put('ja3', text(tls.ja3_fingerprint))
  put('tls_session', text(tls.tls_session_id))
  put('peer_san', sans(peer))
  put('peer_subject', text(peer.subject))
  put('peer_issuer', text(peer.issuer))
  put('local_san', sans(local))
  put('local_subject', text(local.subject))
  put('local_issuer', text(local.issuer))
  return { table, row }
}

function tableOf(type: string, isTcp: boolean, hasRequest: boolean, code: number): RowTable {
  if (FINAL.has(type)) return 'requests'
  if (type === 'UpstreamEnd') return 'attempts'
  if (type !== 'NotSet') return 'progress'
  return !isTcp && (hasRequest || code >= 0) ? 'requests' : 'connections'
}

function kindOf(type: string, isTcp: boolean, table: RowTable): string {
  if (type.startsWith('Udp')) return 'udp'
  return isTcp || type.startsWith('Tcp') || table === 'connections' ? 'tcp' : 'http'
}

function grpc(fields: JsonObject): number | undefined {
  const status = fields['grpc-status']
  return typeof status === 'string' && /^\d{1,3}$/.test(status) && Number(status) < 256 ? Number(status) : undefined
}

/** Columns that hold JSON text are compared as JSON: `filter_state` values and `metadata`. */
export function comparable(row: ReadRow): Record<string, unknown> {
  const out: Record<string, unknown> = { ...row }
  if (typeof row.metadata === 'string' && row.metadata !== '') out.metadata = JSON.parse(row.metadata)
  if (row.filter_state !== undefined) {
    out.filter_state = Object.fromEntries(
      Object.entries(row.filter_state as Record<string, string>).map(([key, value]) => [
        key,
        value === '' ? null : JSON.parse(value),
      ]),
    )
  }
  for (const name of ['request_headers', 'response_headers', 'response_trailers', 'custom_tags']) {
    out[name] = { ...(row[name] as object) }
  }
  return out
}
