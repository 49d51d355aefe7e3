import { expect, test } from 'vitest'
import { AccessEntry } from '../../../../src/ingest/entry/entry.ts'
import { compileJsonFormat } from '../../../../src/ingest/lines/format/json.ts'
import { compileTextFormat } from '../../../../src/ingest/lines/format/text.ts'
import { entryOf, parserOf } from '../../../support/line-rows.ts'

const MS = 1_000_000
type Expected = { readonly [Key in keyof AccessEntry]?: unknown }
const tag = (name: string, value: string): Expected => ({ customTags: { [name]: value } })

/** Operator, what Envoy prints for it, and what the entry then says. `-` says nothing for any of them. */
const OPERATORS: readonly (readonly [string, string, Expected])[] = [
  ['START_TIME', '2026-01-01T00:00:00.250Z', { startSeconds: 1_767_225_600, startNanos: 250 * MS }],
  ['START_TIME(%s.%3f)', '1527590590.528', { startSeconds: 1_527_590_590, startNanos: 528 * MS }],
  ['START_TIME(%s.%6f)', '1527590590.528001', { startSeconds: 1_527_590_590, startNanos: 528_001_000 }],
  ['START_TIME(%s.%9f)', '1527590590.528001002', { startSeconds: 1_527_590_590, startNanos: 528_001_002 }],
  ['START_TIME(%s)', '1527590590', { startSeconds: 1_527_590_590 }],
  ['START_TIME(%Y/%m/%dT%H:%M:%S%z)', '2026/01/01T01:00:00+0100', { startSeconds: 1_767_225_600 }],
  ['EMIT_TIME', '2026-01-01T00:00:00.250Z', { endSeconds: 1_767_225_600, endNanos: 250 * MS }],
  ['DURATION', '43', { durationNs: 43 * MS }],
  ['REQUEST_DURATION', '1', { rxEndNs: MS }],
  ['REQUEST_TX_DURATION', '2', { upTxEndNs: 2 * MS }],
  ['RESPONSE_DURATION', '40', { upRxBeginNs: 40 * MS }],
  ['COMMON_DURATION(DS_RX_BEG:DS_RX_END:us)', '336', { rxEndNs: 336_000 }],
  ['COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)', '664', { upTxBeginNs: 664_000 }],
  ['COMMON_DURATION(DS_RX_BEG:US_TX_END:ns)', '664001', { upTxEndNs: 664_001 }],
  ['COMMON_DURATION(DS_RX_BEG:US_RX_BEG)', '2', { upRxBeginNs: 2 * MS }],
  ['COMMON_DURATION(DS_RX_BEG:US_RX_END:ms)', '3', { upRxEndNs: 3 * MS }],
  ['COMMON_DURATION(DS_RX_BEG:DS_TX_BEG:us)', '2705', { downTxBeginNs: 2_705_000 }],
  ['COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)', '2836', { downTxEndNs: 2_836_000 }],
  ['COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)', '-7', { upTxBeginNs: -1 }],
  ['COMMON_DURATION(US_CX_BEG:US_CX_END:us)', '118', tag('common_duration(us_cx_beg:us_cx_end:us)', '118')],
  ['COMMON_DURATION(DS_RX_BEG:my.point:us)', '118', tag('common_duration(ds_rx_beg:my.point:us)', '118')],
  ['UPSTREAM_CONNECTION_POOL_READY_DURATION', '3', tag('upstream_connection_pool_ready_duration', '3')],
  ['DOWNSTREAM_HANDSHAKE_DURATION', '3', tag('downstream_handshake_duration', '3')],
  ['ROUNDTRIP_DURATION', '3', tag('roundtrip_duration', '3')],
  ['ROUTE_RESOLUTION_TIME_US', '12', tag('route_resolution_time_us', '12')],
  ['ROUTE_RESOLUTION_COUNT', '1', tag('route_resolution_count', '1')],
  [
    'RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)',
    '41',
    { responseHeaders: { 'x-envoy-upstream-service-time': '41' }, upRxBeginNs: -1 },
  ],
  ['RESPONSE_CODE', '503', { code: 503 }],
  ['RESPONSE_CODE_DETAILS', 'via_upstream', { responseCodeDetails: 'via_upstream' }],
  [
    'RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)',
    'upstream_reset_before_response_started{connection termination}',
    { responseCodeDetails: 'upstream_reset_before_response_started{connection termination}' },
  ],
  ['RESPONSE_FLAGS', 'UF,URX', { flags: 'UF,URX' }],
  [
    'RESPONSE_FLAGS_LONG',
    'UpstreamConnectionFailure,UpstreamRetryLimitExceeded',
    { flags: 'UpstreamConnectionFailure,UpstreamRetryLimitExceeded' },
  ],
  ['CUSTOM_FLAGS', 'A,B', { flags: 'A,B' }],
  [
    'CONNECTION_TERMINATION_DETAILS',
    'rbac_access_denied_matched_policy[none]',
    { connectionTerminationDetails: 'rbac_access_denied_matched_policy[none]' },
  ],
  [
    'UPSTREAM_TRANSPORT_FAILURE_REASON',
    'TLS_error:|268435581:SSL_routines',
    { upstreamTransportFailure: 'TLS_error:|268435581:SSL_routines' },
  ],
  ['DOWNSTREAM_TRANSPORT_FAILURE_REASON', 'TLS_error', { downstreamTransportFailure: 'TLS_error' }],
  ['BYTES_RECEIVED', '5000', { requestBodyBytes: 5000 }],
  ['BYTES_SENT', '9007199254740991', { responseBodyBytes: 9_007_199_254_740_991 }],
  ['REQUEST_HEADERS_BYTES', '310', { requestHeadersBytes: 310 }],
  ['RESPONSE_HEADERS_BYTES', '112', { responseHeadersBytes: 112 }],
  ['RESPONSE_TRAILERS_BYTES', '12', tag('response_trailers_bytes', '12')],
  ['DOWNSTREAM_WIRE_BYTES_SENT', '1', { downstreamWireSent: 1 }],
  ['DOWNSTREAM_WIRE_BYTES_RECEIVED', '2', { downstreamWireReceived: 2 }],
  ['UPSTREAM_WIRE_BYTES_SENT', '3', { upstreamWireSent: 3 }],
  ['UPSTREAM_WIRE_BYTES_RECEIVED', '4', { upstreamWireReceived: 4 }],
  ['DOWNSTREAM_HEADER_BYTES_SENT', '5', { downstreamHeaderSent: 5 }],
  ['DOWNSTREAM_HEADER_BYTES_RECEIVED', '6', { downstreamHeaderReceived: 6 }],
  ['UPSTREAM_HEADER_BYTES_SENT', '7', { upstreamHeaderSent: 7 }],
  ['UPSTREAM_HEADER_BYTES_RECEIVED', '8', { upstreamHeaderReceived: 8 }],
  ['PROTOCOL', 'HTTP/1.0', { protocol: 'HTTP/1.0' }],
  ['PROTOCOL', 'HTTP/2', { protocol: 'HTTP/2' }],
  ['UPSTREAM_PROTOCOL', 'HTTP/1.1', tag('upstream_protocol', 'HTTP/1.1')],
  ['UPSTREAM_HOST', '10.0.0.7:8080', { upstreamHost: '10.0.0.7:8080' }],
  ['UPSTREAM_HOST', 'tcp://10.0.2.1:80', { upstreamHost: '10.0.2.1:80' }],
  ['UPSTREAM_HOST', '[2001:db8::7]:8080', { upstreamHost: '[2001:db8::7]:8080' }],
  ['UPSTREAM_HOST', 'envoy://connect_originate/10.0.0.1:80', { upstreamHost: 'envoy://connect_originate/10.0.0.1:80' }],
  ['UPSTREAM_HOST', '/run/app.sock', { upstreamHost: '/run/app.sock' }],
  ['UPSTREAM_HOST_NAME', 'app.example', tag('upstream_host_name', 'app.example')],
  ['UPSTREAM_HOSTS_ATTEMPTED', '10.0.0.7:80,10.0.0.8:80', tag('upstream_hosts_attempted', '10.0.0.7:80,10.0.0.8:80')],
  ['UPSTREAM_REMOTE_ADDRESS', '10.0.0.7:8080', { upstreamHost: '10.0.0.7:8080' }],
  ['UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT', '10.0.0.7', { upstreamHost: '10.0.0.7' }],
  ['UPSTREAM_LOCAL_ADDRESS', '10.0.0.12:40512', { upstreamLocal: '10.0.0.12:40512' }],
  ['UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(16)', '10.1.0.0/16', { upstreamLocal: '10.1.0.0/16' }],
  ['DOWNSTREAM_REMOTE_ADDRESS', '10.0.0.12:51730', { downstreamRemote: '10.0.0.12:51730' }],
  ['DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT', '2001:db8::1', { downstreamRemote: '2001:db8::1' }],
  ['DOWNSTREAM_DIRECT_REMOTE_ADDRESS', '10.0.0.12:51730', { downstreamDirect: '10.0.0.12:51730' }],
  ['DOWNSTREAM_LOCAL_ADDRESS', '10.96.12.3:9080', { downstreamLocal: '10.96.12.3:9080' }],
  ['DOWNSTREAM_ADDRESS', '10.0.0.12', { downstreamRemote: '10.0.0.12' }],
  [
    'UPSTREAM_CLUSTER',
    'outbound|80||a.b.svc.cluster.local;',
    { upstreamCluster: 'outbound|80||a.b.svc.cluster.local;' },
  ],
  ['UPSTREAM_CLUSTER_RAW', 'inbound|9080||', { upstreamCluster: 'inbound|9080||' }],
  ['UPSTREAM_REQUEST_ATTEMPT_COUNT', '3', { attempts: 3 }],
  ['ROUTE_NAME', 'my route', { route: 'my route' }],
  ['LISTENER_NAME', 'main', { listener: 'main' }],
  ['VIRTUAL_CLUSTER_NAME', 'vc', tag('virtual_cluster_name', 'vc')],
  ['FILTER_CHAIN_NAME', 'fc', tag('filter_chain_name', 'fc')],
  ['HOSTNAME', 'web-1', tag('hostname', 'web-1')],
  ['REQUESTED_SERVER_NAME', 'a.example', { sni: 'a.example' }],
  ['REQUESTED_SERVER_NAME(SNI_ONLY)', 'a.example', { sni: 'a.example' }],
  ['STREAM_ID', 'b0622dc8-4353-49ee-889c-2a5fb023b217', { streamId: 'b0622dc8-4353-49ee-889c-2a5fb023b217' }],
  ['CONNECTION_ID', '17', tag('connection_id', '17')],
  ['UNIQUE_ID', 'x1', tag('unique_id', 'x1')],
  ['TRACE_ID', '9965f1e3a8521ee08d8bc26038cc81c7', { traceId: '9965f1e3a8521ee08d8bc26038cc81c7' }],
  ['TRACE_ID', '123456789012345678901', { ...tag('trace_id', '123456789012345678901'), traceId: '' }],
  ['SPAN_ID', '78a8dc0e9e52b67b', { spanId: '78a8dc0e9e52b67b' }],
  ['GRPC_STATUS', 'DeadlineExceeded', { grpcStatus: 4 }],
  ['GRPC_STATUS', 'OK', { grpcStatus: 0 }],
  ['GRPC_STATUS(SNAKE_STRING)', 'INVALID_ARGUMENT', { grpcStatus: 3 }],
  ['GRPC_STATUS(NUMBER)', '14', { grpcStatus: 14 }],
  ['GRPC_STATUS_NUMBER', '16', { grpcStatus: 16 }],
  ['REQ(:METHOD)', 'PROPFIND', { method: 'PROPFIND' }],
  ['REQUEST_HEADER(:METHOD)', 'GET', { method: 'GET' }],
  ['REQ(:PATH)', '/a b?c=d', { path: '/a b?c=d' }],
  ['REQ(X-ENVOY-ORIGINAL-PATH?:PATH)', '/v1/x?q=1', { path: '/v1/x?q=1' }],
  ['REQ(X-ENVOY-ORIGINAL-PATH)', '/v1/x', { originalPath: '/v1/x' }],
  ['REQ(:AUTHORITY)', 'api.example', { authority: 'api.example' }],
  ['REQ(HOST)', 'api.example', { authority: 'api.example' }],
  ['REQ(X-ENVOY-ORIGINAL-HOST?:AUTHORITY)', 'api.example', { authority: 'api.example' }],
  ['REQ(:SCHEME)', 'https', { scheme: 'https' }],
  ['REQ(USER-AGENT)', 'a "b" c', { userAgent: 'a "b" c' }],
  ['REQ(REFERER)', 'https://x.example/', { referer: 'https://x.example/' }],
  ['REQ(X-FORWARDED-FOR)', '203.0.113.9, 10.0.0.1', { forwardedFor: '203.0.113.9, 10.0.0.1' }],
  ['REQ(X-REQUEST-ID)', '7f3d6c0e-2b1a-4c6b-9a55-0d2c1e4f9a10', { requestId: '7f3d6c0e-2b1a-4c6b-9a55-0d2c1e4f9a10' }],
  ['REQ(X-Scenario)', 'ok', { requestHeaders: { 'x-scenario': 'ok' } }],
  ['REQ(X-A?X-B):5', 'abcde', { requestHeaders: { 'x-a': 'abcde' } }],
  ['REQ_WITHOUT_QUERY(X-ENVOY-ORIGINAL-PATH?:PATH)', '/v1/x', { path: '/v1/x' }],
  ['RESP(CONTENT-TYPE)', 'text/html; charset=x', { responseHeaders: { 'content-type': 'text/html; charset=x' } }],
  ['RESPONSE_HEADER(SERVER)', 'envoy', { responseHeaders: { server: 'envoy' } }],
  ['TRAILER(GRPC-STATUS)', '5', { responseTrailers: { 'grpc-status': '5' } }],
  ['RESPONSE_TRAILER(GRPC-MESSAGE)', 'no such thing', { responseTrailers: { 'grpc-message': 'no such thing' } }],
  ['PATH', '/v1/x?q=1', { path: '/v1/x?q=1' }],
  ['PATH(NQ)', '/v1/x', { path: '/v1/x' }],
  ['PATH(WQ:ORIG)', '/v1/x', { originalPath: '/v1/x' }],
  ['PATH(WQ:ORIG_OR_PATH)', '/v1/x', { path: '/v1/x' }],
  ['QUERY_PARAM(token)', 'secret', { customTags: {} }],
  ['QUERY_PARAMS(DECODED)', 'a=secret', { customTags: {} }],
  ['DYNAMIC_METADATA(com.test:test_key)', 'foo', { metadata: '{"com.test":{"test_key":"foo"}}' }],
  [
    'DYNAMIC_METADATA(com.test:test_object)',
    '{"inner_key":"bar"}',
    { metadata: '{"com.test":{"test_object":{"inner_key":"bar"}}}' },
  ],
  [
    'DYNAMIC_METADATA(com.test:test_object:inner_key)',
    'bar',
    { metadata: '{"com.test":{"test_object":{"inner_key":"bar"}}}' },
  ],
  ['METADATA(DYNAMIC:com.test:test_key)', 'foo', { metadata: '{"com.test":{"test_key":"foo"}}' }],
  ['METADATA(ROUTE:com.test:test_key)', 'foo', tag('metadata(route:com.test:test_key)', 'foo')],
  ['CLUSTER_METADATA(com.test:k)', 'foo', tag('cluster_metadata(com.test:k)', 'foo')],
  ['UPSTREAM_METADATA(com.test:k)', 'foo', tag('upstream_metadata(com.test:k)', 'foo')],
  [
    'UPSTREAM_METADATA(istio:workload)',
    'cart-v2;shop;cart;v2;k1',
    { destination: { workload: 'cart-v2', namespace: 'shop', service: 'cart', version: 'v2', cluster: 'k1' } },
  ],
  ['FILTER_STATE(my.key:TYPED)', '{"a":1}', { filterState: { 'my.key': '{"a":1}' } }],
  ['FILTER_STATE(my.key:PLAIN)', 'x y', { filterState: { 'my.key': '"x y"' } }],
  ['FILTER_STATE(my.key:FIELD:f)', 'x', { filterState: { 'my.key.f': '"x"' } }],
  ['FILTER_STATE(downstream_peer:FIELD:workload)', 'web', { source: { workload: 'web' } }],
  ['FILTER_STATE(upstream_peer:FIELD:revision)', 'v1', { destination: { version: 'v1' } }],
  ['FILTER_STATE(upstream_peer:FIELD:revision)', 'latest', { destination: { version: '' } }],
  ['ACCESS_LOG_TYPE', 'DownstreamEnd', { type: 6 }],
  ['ACCESS_LOG_TYPE', 'TcpConnectionStart', { type: 14 }],
  ['ACCESS_LOG_TYPE', 'SomethingNew', { type: 15 }],
  ['DOWNSTREAM_TLS_VERSION', 'TLSv1.3', { tlsVersion: 'TLSv1.3' }],
  ['DOWNSTREAM_TLS_CIPHER', 'ECDHE-RSA-AES128-GCM-SHA256', { tlsCipher: 0xc02f }],
  ['DOWNSTREAM_TLS_CIPHER', 'TLS_AES_128_GCM_SHA256', { tlsCipher: 0x1301 }],
  ['DOWNSTREAM_TLS_CIPHER', 'NEW-CIPHER', { tlsCipher: 0, ...tag('downstream_tls_cipher', 'NEW-CIPHER') }],
  ['DOWNSTREAM_TLS_SESSION_ID', 'abcd', { tlsSession: 'abcd' }],
  ['DOWNSTREAM_TLS_GROUP', 'X25519', tag('downstream_tls_group', 'X25519')],
  ['DOWNSTREAM_PEER_URI_SAN', 'spiffe://td/ns/a/sa/b', { peerSan: 'spiffe://td/ns/a/sa/b' }],
  ['DOWNSTREAM_PEER_SUBJECT', 'CN=a, O=b', { peerSubject: 'CN=a, O=b' }],
  ['DOWNSTREAM_PEER_ISSUER', 'CN=ca', { peerIssuer: 'CN=ca' }],
  ['DOWNSTREAM_LOCAL_URI_SAN', 'spiffe://td/x', { localSan: 'spiffe://td/x' }],
  ['DOWNSTREAM_LOCAL_SUBJECT', 'CN=b', { localSubject: 'CN=b' }],
  ['DOWNSTREAM_PEER_SERIAL', 'f3', tag('downstream_peer_serial', 'f3')],
  ['TLS_JA3_FINGERPRINT', '773906b0efdefa24a7f2b8eb6985bf37', { ja3: '773906b0efdefa24a7f2b8eb6985bf37' }],
  ['UPSTREAM_TLS_VERSION', 'TLSv1.3', tag('upstream_tls_version', 'TLSv1.3')],
  ['DOWNSTREAM_DETECTED_CLOSE_TYPE', 'RemoteReset', tag('downstream_detected_close_type', 'RemoteReset')],
  ['ENVIRONMENT(POD):20', 'web-1', tag('environment(pod):20', 'web-1')],
  [
    'COALESCE({"operators": ["REQUESTED_SERVER_NAME", {"command": "REQ", "param": ":authority"}]})',
    'a',
    { authority: 'a' },
  ],
  [
    "CEL(request.headers['x'] || a.contains('v1')):10",
    'true',
    tag("cel(request.headers['x'] || a.contains('v1')):10", 'true'),
  ],
  ['SOMETHING_OF_TOMORROW(a:b)', 'x y', tag('something_of_tomorrow(a:b)', 'x y')],
  ['LOCAL_REPLY_BODY', 'no healthy upstream', tag('local_reply_body', 'no healthy upstream')],
]

/** What of an entry the expectation speaks of, with pairs and parties as plain objects. */
function said(entry: AccessEntry, expected: Expected): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(expected).map(([name, value]) => {
      const got = entry[name as keyof AccessEntry]
      if (typeof got !== 'object') return [name, got]
      if ('count' in got)
        return [name, Object.fromEntries(got.names.slice(0, got.count).map((n, k) => [n, got.values[k]]))]
      return [name, Object.fromEntries(Object.keys(value as object).map((key) => [key, got[key as 'workload']]))]
    }),
  )
}

function filled(result: ReturnType<typeof entryOf>): AccessEntry {
  if (typeof result === 'string') throw new Error(result)
  return result
}

test.each(OPERATORS)('%s in text: %s', (operator, printed, expected) => {
  const last = operator === 'LISTENER_NAME' ? 'route' : 'listener'
  const lastOperator = last === 'route' ? 'ROUTE_NAME' : 'LISTENER_NAME'
  const parser = parserOf(compileTextFormat(`before %${operator}% %RESPONSE_CODE% "%${lastOperator}%"`))
  const status = 'code' in expected ? '-' : '200'
  const entry = filled(entryOf(parser, `before ${printed} ${status} "end"`))
  expect(said(entry, expected)).toEqual(expected)
  expect(entry[last]).toBe('end')
})

test.each(OPERATORS)('%s in JSON: %s', (operator, printed, expected) => {
  // Under its own name, so that tags are called alike in both.
  const [key = ''] = /^[A-Z]/.test(operator) ? [operator.toLowerCase()] : []
  const parser = parserOf(compileJsonFormat({ [key]: `%${operator}%`, zz_code: '%RESPONSE_CODE%' }))
  const status = 'code' in expected ? 'null' : '200'
  const text = filled(entryOf(parser, `{${JSON.stringify(key)}:${JSON.stringify(printed)},"zz_code":${status}}`))
  expect(said(text, expected)).toEqual(expected)
  if (!/^(?:\d{1,15}|\{.*\})$/.test(printed)) return
  const typed = filled(entryOf(parser, `{${JSON.stringify(key)}:${printed},"zz_code":${status}}`))
  expect(said(typed, expected)).toEqual(expected)
})

const EVERY = [...new Set(OPERATORS.map(([operator]) => operator))].filter((operator) => operator !== 'RESPONSE_CODE')

test.each(EVERY)('%s: what is missing leaves the entry as it is', (operator) => {
  const text = parserOf(compileTextFormat(`%RESPONSE_CODE% %${operator}% %BYTES_SENT%`))
  const json = parserOf(compileJsonFormat({ code: '%RESPONSE_CODE%', value: `%${operator}%` }))
  const settled = new AccessEntry()
  settled.code = 200
  settled.type = 6
  expect(entryOf(text, '200 - 0')).toEqual(settled)
  expect(entryOf(text, '200  0'), 'omit_empty_values').toEqual(settled)
  for (const missing of ['null', '"-"', '""']) {
    expect(entryOf(json, `{"code":200,"value":${missing}}`)).toEqual(settled)
  }
  expect(entryOf(json, '{"code":200}'), 'omit_empty_values').toEqual(settled)
})
