import { expect, test } from 'vitest'
import { ALS_LIMITS } from '../../../src/ingest/als/decode.ts'
import type { IdentityInput } from '../../../src/model/batch.ts'
import { createRedaction, REDACTION_DEFAULTS } from '../../../src/pipeline/redact.ts'
import {
  createDecoding,
  type DecodingOptions,
  echoResolver,
  originOf,
  RECEIVED_MS,
} from '../../support/als-decoding.ts'
import type { ReadRow } from '../../support/native-rows.ts'
import { any, bytes, identifier, message, number, type Part, struct } from '../../support/wire.ts'

const http = (...entries: Uint8Array[]): Uint8Array => bytes(2, message(...entries.map((entry) => bytes(1, entry))))
const tcp = (...entries: Uint8Array[]): Uint8Array => bytes(3, message(...entries.map((entry) => bytes(1, entry))))
const time = (seconds: number, nanos = 0): Uint8Array => message(number(1, seconds), number(2, nanos))
const START = time(1_767_225_600, 250_000_000)
const START_NS = 1_767_225_600_250_000_000n

interface Entry {
  common?: Part[]
  request?: Part[]
  response?: Part[]
  type?: number
}

const TYPE = { end: 6, start: 4, periodic: 5, upstreamEnd: 9, poolReady: 7, tcpEnd: 3, tcpPeriodic: 2, udpEnd: 13 }

function entry({ common = [], request = [], response = [], type = TYPE.end }: Entry = {}): Uint8Array {
  const types = type === 0 ? [] : [number(33, type)]
  return message(
    bytes(1, message(bytes(5, START), ...common, ...types)),
    bytes(3, message(number(1, 1), ...request)),
    bytes(4, message(...response)),
  )
}

function requestRow(input: Entry, options: DecodingOptions = {}): ReadRow {
  const decoding = createDecoding(options)
  expect(decoding.feed(http(entry(input)))).toMatchObject({ requests: 1, rejected: 0 })
  return decoding.take().requests[0]!
}

const headerField = (field: number, name: string, value: string): Part =>
  bytes(field, message(bytes(1, name), bytes(2, value)))
const requestHeader = (name: string, value: string): Part => headerField(13, name, value)

test('a captured message of Envoy comes out value by value', () => {
  const vector =
    'ChsKDgoGZWRnZS0xEgRlZGdlEgllZGdlX2h0dHASoQEKngEKbSoLCIDy1soGEIDlmncyBBDAqQc6BBCg9zZCBBDw/TlKBRDAuMYTUgUQoP+hFFoFEKDg2BNiBRCgtLoUag8KDRIIMTAuMC4wLjcYkD96B2JhY2tlbmSaAQdkZWZhdWx0ugEFEMDBwBTAAQGIAgYQAxoWCAEaC2FwaS5leGFtcGxlKgUvdjEveCITCgMIyAEyDHZpYV91cHN0cmVhbQ=='
  const decoding = createDecoding({ origin: null })
  expect(decoding.feed(Buffer.from(vector, 'base64'))).toMatchObject({ requests: 1, rejected: 0 })
  expect(decoding.take().requests[0]).toMatchObject({
    end_time: 1_767_225_600_250_000_000n + 43_000_000n,
    node_id: 'edge-1',
    t_rx_end: 120_000n,
    t_up_tx_begin: 900_000n,
    t_up_tx_end: 950_000n,
    t_up_rx_begin: 41_000_000n,
    t_up_rx_end: 42_500_000n,
    t_down_tx_begin: 41_300_000n,
    t_down_tx_end: 42_900_000n,
    duration_ns: 43_000_000n,
    upstream_remote_address: '10.0.0.7',
    upstream_remote_port: 8080,
    upstream_cluster: 'backend',
    route: 'default',
    attempts: 1,
    entry_type: 'DownstreamEnd',
    protocol: 'HTTP/2',
    method: 'GET',
    path: '/v1/x',
    authority: 'api.example',
    response_code: 200,
    response_code_details: 'via_upstream',
    outcome: 'upstream',
    class: 'success',
    precision_ns: 1,
    source: 'als',
  })
})

test.each([
  [TYPE.end, 'requests'],
  [TYPE.tcpEnd, 'requests'],
  [TYPE.udpEnd, 'requests'],
  [TYPE.upstreamEnd, 'attempts'],
  [TYPE.start, 'progress'],
  [TYPE.periodic, 'progress'],
  [TYPE.poolReady, 'progress'],
  [TYPE.tcpPeriodic, 'progress'],
  [10, 'progress'],
  [14, 'progress'],
  // A type of a later Envoy is neither an end nor an attempt, as far as one can know.
  [15, 'progress'],
  [4_000_000, 'progress'],
  [0, 'requests'],
] as const)('an HTTP entry of type %i goes to %s', (type, table) => {
  const decoding = createDecoding()
  expect(decoding.feed(http(entry({ type })))).toMatchObject({ [table]: 1, rejected: 0 })
  expect(decoding.take()[table]).toHaveLength(1)
})

test('the listener log is a connection, as TCP entry or as HTTP entry without request', () => {
  const decoding = createDecoding()
  const bare = message(bytes(1, message(bytes(5, START))), bytes(3, message()), bytes(4, message()))
  expect(decoding.feed(http(bare))).toMatchObject({ connections: 1, requests: 0 })
  expect(decoding.feed(tcp(message(bytes(1, message(bytes(5, START))))))).toMatchObject({ connections: 1 })
  for (const row of decoding.take().connections) expect(row).toMatchObject({ kind: 'tcp', entry_type: 'NotSet' })
})

test('an old HTTP entry without a type that says nothing of the request is one all the same, by its code', () => {
  const decoding = createDecoding()
  const answered = message(bytes(1, message(bytes(5, START))), bytes(4, message(bytes(1, number(1, 400)))))
  expect(decoding.feed(http(answered))).toMatchObject({ requests: 1, connections: 0 })
  expect(decoding.take().requests[0]).toMatchObject({ kind: 'http', response_code: 400 })
})

test('the type decides even where it is not the last field, and where the last bytes look like another', () => {
  const decoding = createDecoding()
  const early = message(bytes(1, message(number(33, TYPE.upstreamEnd), bytes(5, START))))
  // The cluster ends in the bytes of `access_log_type: UpstreamEnd`.
  const bait = message(
    bytes(1, message(number(33, TYPE.end), bytes(15, Buffer.from([0x61, 0x88, 0x02, TYPE.upstreamEnd])))),
    bytes(3, number(1, 1)),
  )
  expect(decoding.feed(http(early, bait))).toMatchObject({ attempts: 1, requests: 1, rejected: 0 })
  const rows = decoding.take()
  expect(rows.attempts[0]).toMatchObject({ entry_type: 'UpstreamEnd' })
  expect(rows.requests[0]).toMatchObject({ entry_type: 'DownstreamEnd' })
})

test('bytes of a connection are the body bytes of a TCP row', () => {
  const decoding = createDecoding()
  const connection = message(
    bytes(1, message(bytes(5, START), bytes(23, time(90)), number(29, 70), number(30, 80), number(33, TYPE.tcpEnd))),
    bytes(2, message(number(1, 1234), number(2, 2 ** 40))),
  )
  decoding.feed(tcp(connection))
  expect(decoding.take().requests[0]).toMatchObject({
    kind: 'tcp',
    request_body_bytes: 1234n,
    response_body_bytes: 2n ** 40n,
    downstream_wire_sent: 70n,
    downstream_wire_received: 80n,
    response_code: null,
    outcome: 'unknown',
    class: 'unknown',
    duration_ns: 90_000_000_000n,
  })
})

test('a UDP session is a request of kind udp', () => {
  expect(requestRow({ type: TYPE.udpEnd })).toMatchObject({ kind: 'udp' })
})

test('without a duration the last known point is it', () => {
  const row = requestRow({ common: [bytes(6, time(0, 500)), bytes(12, time(2, 7)), bytes(9, time(1))] })
  expect(row).toMatchObject({ duration_ns: 2_000_000_007n, end_time: START_NS + 2_000_000_007n })
  expect(requestRow({})).toMatchObject({ duration_ns: 0n, end_time: START_NS })
})

test('a negative duration counts as none, and one of centuries as 31 years', () => {
  const negative = message(number(1, -5n & 0xffff_ffff_ffff_ffffn))
  expect(requestRow({ common: [bytes(23, negative)] })).toMatchObject({ duration_ns: 0n })
  expect(requestRow({ common: [bytes(23, time(9_999_999_999))] })).toMatchObject({ duration_ns: 10n ** 18n })
})

test('a row without start ends when it arrived, and is counted', () => {
  const decoding = createDecoding()
  const result = decoding.feed(http(message(bytes(1, number(33, TYPE.end)), bytes(3, number(1, 1)))))
  expect(result).toMatchObject({ requests: 1, untimed: 1 })
  expect(decoding.take().requests[0]!.end_time).toBe(BigInt(RECEIVED_MS) * 1_000_000n)
})

test('messages inside an entry that come in two parts are one', () => {
  const decoding = createDecoding()
  const split = message(
    bytes(1, message(bytes(5, number(1, 1_767_225_600)), bytes(6, number(2, 5)), bytes(4, number(1, 4)))),
    bytes(3, message(number(1, 3), bytes(5, '/a'))),
    bytes(4, bytes(1, number(1, 204))),
    bytes(1, message(bytes(5, number(2, 7)), bytes(6, number(1, 2)), bytes(4, bytes(3, 'sni')), number(33, TYPE.end))),
    bytes(3, bytes(3, 'b')),
    bytes(4, message(bytes(1, message()), bytes(6, 'via_upstream'))),
    bytes(1, message(bytes(17, meta('one', { a: 1 })), bytes(17, meta('two', { b: 2 })))),
  )
  expect(decoding.feed(http(split))).toMatchObject({ requests: 1, rejected: 0 })
  expect(decoding.take().requests[0]).toMatchObject({
    end_time: 1_767_225_600_000_000_007n + 2_000_000_005n,
    t_rx_end: 2_000_000_005n,
    method: 'POST',
    path: '/a',
    authority: 'b',
    response_code: 204,
    response_code_details: 'via_upstream',
    tls_version: 'TLSv1.3',
    sni: 'sni',
    metadata: '{"filter_metadata":{"one":{"a":1},"two":{"b":2}}}',
  })
})

const meta = (name: string, value: Record<string, unknown>): Uint8Array =>
  bytes(1, message(bytes(1, name), bytes(2, struct(value))))

test('addresses of every kind', () => {
  const socket = (...parts: Part[]): Uint8Array => bytes(1, message(...parts))
  const row = requestRow({
    common: [
      bytes(2, socket(number(1, 1), bytes(2, '10.0.0.1'), number(3, 53))),
      bytes(3, bytes(2, bytes(1, '@envoy_socket'))),
      bytes(13, bytes(3, message(bytes(1, 'connect_originate'), bytes(2, '10.244.0.32:9080')))),
      bytes(14, bytes(3, bytes(1, 'internal_client_address'))),
      bytes(20, socket(bytes(2, '2001:db8::1'), bytes(4, 'http'))),
    ],
  })
  expect(row).toMatchObject({
    downstream_remote_address: '10.0.0.1',
    downstream_remote_port: 53,
    downstream_local_address: '@envoy_socket',
    upstream_remote_address: 'envoy://connect_originate/10.244.0.32:9080',
    upstream_local_address: 'envoy://internal_client_address/',
    downstream_direct_address: '2001:db8::1:http',
    downstream_direct_port: 0,
  })
})

test('several SANs are joined, URIs and DNS names', () => {
  const san = (field: number, name: string): Part => bytes(1, bytes(field, name))
  const row = requestRow({
    common: [
      bytes(
        4,
        message(
          bytes(5, message(san(1, 'spiffe://a'), san(2, 'b.test'), bytes(2, 'CN=x'), san(1, 'spiffe://c'))),
          bytes(4, san(1, 'spiffe://me')),
          bytes(2, number(1, 4866)),
        ),
      ),
    ],
  })
  expect(row).toMatchObject({
    peer_san: 'spiffe://a,b.test,spiffe://c',
    peer_subject: 'CN=x',
    local_san: 'spiffe://me',
    tls_cipher: 4866,
  })
})

test('a connection with a client certificate is mutual TLS', () => {
  const decoding = createDecoding()
  const tls = (...parts: Part[]): Entry => ({ common: [bytes(4, message(number(1, 4), ...parts))] })
  decoding.feed(
    http(
      entry({}),
      entry(tls()),
      entry(tls(bytes(5, message()))),
      entry(tls(bytes(5, bytes(2, 'CN=client')))),
      entry(tls(bytes(5, bytes(1, bytes(1, 'spiffe://a'))))),
      entry({}),
    ),
  )
  expect([...decoding.builders.requests.seal().mutualTls]).toEqual([0, 0, 0, 1, 1, 0])
})

test('ids: UUIDs as bytes, other text as text, equal ones once', () => {
  const id = '0f8fad5b-d9cb-469f-a165-70867728950e'
  const ids = (request: string, stream: string): ReadRow =>
    requestRow({ common: [bytes(26, stream)], request: [bytes(9, request)] })
  const nil = '00000000-0000-0000-0000-000000000000'
  expect(ids(id, id)).toMatchObject({ request_uuid: id, request_text: '', stream_is_request: 1, stream_uuid: nil })
  expect(ids(id, '')).toMatchObject({ request_uuid: id, stream_is_request: 0, stream_uuid: nil, stream_text: '' })
  expect(ids('', id)).toMatchObject({ request_uuid: nil, stream_is_request: 0, stream_uuid: id })
  expect(ids('abc', 'abc')).toMatchObject({ request_text: 'abc', stream_is_request: 1, stream_text: '' })
  expect(ids(id.toUpperCase(), nil)).toMatchObject({ request_text: id.toUpperCase(), stream_text: nil })
})

test('trace ids come from traceparent and b3; a header stays where it says more', () => {
  const trace = '0af7651916cd43dd8448eb211c80319c'
  const uuid = '0af76519-16cd-43dd-8448-eb211c80319c'
  const of = (...headers: [string, string][]): ReadRow =>
    requestRow({ request: headers.map(([name, value]) => requestHeader(name, value)) })
  const parent = `00-${trace}-b7ad6b7169203331-01`
  const span = 0xb7ad6b7169203331n
  expect(of(['traceparent', parent])).toMatchObject({
    trace_uuid: uuid,
    span_number: span,
    trace_flags: 1,
    request_headers: {},
  })
  expect(of(['x-b3-traceid', trace], ['x-b3-spanid', 'b7ad6b7169203331'], ['x-b3-sampled', '1'])).toMatchObject({
    trace_uuid: uuid,
    span_number: span,
    request_headers: { 'x-b3-sampled': '1' },
  })
  expect(of(['x-b3-traceid', '8448eb211c80319c'])).toMatchObject({
    trace_uuid: '00000000-0000-0000-8448-eb211c80319c',
    request_headers: {},
  })
  // The same ids twice are told once; other ones stay.
  expect(of(['traceparent', parent], ['x-b3-traceid', trace])).toMatchObject({ request_headers: {} })
  expect(of(['traceparent', parent], ['x-b3-spanid', 'aaaaaaaaaaaaaaaa'])).toMatchObject({
    span_number: span,
    request_headers: { 'x-b3-spanid': 'aaaaaaaaaaaaaaaa' },
  })
  for (const value of [
    `01-${trace}-b7ad6b7169203331-01`,
    `00-${trace.toUpperCase()}-b7ad6b7169203331-01`,
    `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
    `00-${trace}-${'0'.repeat(16)}-01`,
    `00-${trace}-b7ad6b7169203331-0g`,
    'garbage',
  ]) {
    expect(of(['traceparent', value]).request_headers, value).toEqual({ traceparent: value })
  }
})

test('the trace id of a row can be had as text', () => {
  const decoding = createDecoding()
  const trace = '0af7651916cd43dd8448eb211c80319c'
  decoding.feed(http(entry({}), entry({ request: [requestHeader('traceparent', `00-${trace}-b7ad6b7169203331-01`)] })))
  const batch = decoding.builders.requests.seal()
  expect(batch.traceId(0)).toBe('')
  expect(batch.traceId(1)).toBe(trace)
})

test('the gRPC status comes from the trailers, else from the headers', () => {
  const trailer = (value: string): Part => headerField(5, 'grpc-status', value)
  const header = (value: string): Part => headerField(4, 'grpc-status', value)
  expect(requestRow({ response: [trailer('14')] }).grpc_status).toBe(14)
  expect(requestRow({ response: [header('5')] }).grpc_status).toBe(5)
  expect(requestRow({ response: [header('5'), trailer('0')] }).grpc_status).toBe(0)
  expect(requestRow({ response: [trailer('0'), header('5')] }).grpc_status).toBe(0)
  for (const value of ['', 'x', '-1', '1000', '256'])
    expect(requestRow({ response: [trailer(value)] }).grpc_status).toBeNull()
  // A request header of this name says nothing of the answer, and the status does not stay for the next row.
  const decoding = createDecoding()
  decoding.feed(http(entry({ response: [trailer('3')] }), entry({ request: [requestHeader('grpc-status', '7')] })))
  expect(decoding.take().requests.map((row) => row.grpc_status)).toEqual([3, null])
})

test('flags: bits, the two that only details tell, and those of a later Envoy by number', () => {
  const flags = (...parts: Part[]): Part => bytes(16, message(...parts))
  expect(requestRow({ common: [flags(number(1, 1), number(6, 1), number(28, 1), number(2, 0))] }).response_flags).toBe(
    1n | (1n << 5n) | (1n << 27n),
  )
  expect(requestRow({ common: [flags(bytes(13, number(1, 1)))] })).toMatchObject({
    response_flags: 1n << 12n,
    unauthorized_reason: 1,
  })
  expect(requestRow({ response: [bytes(6, 'drop_overload')] }).response_flags).toBe(1n << 28n)
  expect(requestRow({ response: [bytes(6, 'unconditional_drop_overload')] }).response_flags).toBe(1n << 29n)
  expect(requestRow({ common: [flags(number(29, 1), number(6, 1), number(30, 0), number(31, 1))] })).toMatchObject({
    response_flags: 1n << 5n,
    flags_text: 'field_29,field_31',
  })
})

test('secrets do not reach the columns', () => {
  const secret = 's3cret'
  const row = requestRow({
    common: [
      headerField(22, 'authorization', secret),
      bytes(17, meta('envoy.filters.http.x', { Authorization: secret, nested: { cookie: secret, kept: 'yes' } })),
    ],
    request: [
      bytes(5, `/a?token=${secret}&x`),
      bytes(7, `https://h/?token=${secret}`),
      bytes(10, `/b?token=${secret}`),
      requestHeader('authorization', secret),
      requestHeader('cookie', secret),
      requestHeader('x-envoy-original-path', `/c?t=${secret}`),
    ],
    response: [headerField(4, 'set-cookie', secret), headerField(5, 'x-api-key', secret)],
  })
  const text = JSON.stringify(row, (_, value) => (typeof value === 'bigint' ? String(value) : value))
  expect(text).not.toContain(secret)
  expect(row).toMatchObject({
    path: '/a?token=*&x',
    original_path: '/b?token=*',
    referer: 'https://h/?token=*',
    request_headers: { authorization: '*', cookie: '*', 'x-envoy-original-path': '/c?t=*' },
    custom_tags: { authorization: '*' },
  })
  expect(JSON.parse(row.metadata as string).filter_metadata['envoy.filters.http.x']).toEqual({
    Authorization: '*',
    nested: { cookie: '*', kept: 'yes' },
  })
})

test('a secret does not even stand in the keys of a block', () => {
  const decoding = createDecoding()
  decoding.feed(
    http(
      entry({
        request: [bytes(7, 'https://h/?token=s3cret'), requestHeader('cookie', 's3cret'), bytes(5, '/?a=s3cret')],
      }),
    ),
  )
  const block = Buffer.concat(decoding.builders.requests.seal().encode('s').buffers)
  expect(block.includes('s3cret')).toBe(false)
  expect(block.includes('token=*')).toBe(true)
})

test('client addresses are masked when asked for; those of the mesh stay', () => {
  const socket = (address: string): Uint8Array => bytes(1, message(bytes(2, address), number(3, 7)))
  const row = requestRow(
    {
      common: [bytes(2, socket('198.51.100.77')), bytes(20, socket('2001:db8:1:2::3')), bytes(13, socket('10.0.0.9'))],
      request: [bytes(8, '198.51.100.77, 10.1.2.3'), requestHeader('x-forwarded-for', '198.51.100.77')],
    },
    { decoder: { redaction: createRedaction({ ...REDACTION_DEFAULTS, maskAddresses: true }) } },
  )
  expect(row).toMatchObject({
    downstream_remote_address: '198.51.100.0',
    downstream_remote_port: 7,
    downstream_direct_address: '2001:db8:1::',
    upstream_remote_address: '10.0.0.9',
    forwarded_for: '198.51.100.0, 10.1.2.0',
    request_headers: { 'x-forwarded-for': '198.51.100.0' },
  })
})

test('filter state: JSON for what is JSON, base64 for the rest', () => {
  const object = (key: string, value: Uint8Array): Part => bytes(21, message(bytes(1, key), bytes(2, value)))
  const wrapped = (value: Part): Uint8Array => message(value)
  const row = requestRow({
    common: [
      object('struct', any('google.protobuf.Struct', struct({ a: 1, b: [true, null, 'x'], c: { d: {} } }))),
      object('string', any('google.protobuf.StringValue', wrapped(bytes(1, 'te"xt')))),
      object('bytes', any('google.protobuf.BytesValue', wrapped(bytes(1, Uint8Array.of(1, 255))))),
      object('int', any('google.protobuf.Int64Value', wrapped(number(1, -3n & 0xffff_ffff_ffff_ffffn)))),
      object('other', any('acme.Thing', Buffer.from('xyz'))),
      object('broken', any('google.protobuf.Struct', Uint8Array.of(10, 99))),
      object('empty', new Uint8Array(0)),
    ],
  })
  const values = row.filter_state as Record<string, string>
  expect(JSON.parse(values.struct!)).toEqual({ a: 1, b: [true, null, 'x'], c: { d: {} } })
  expect(values).toMatchObject({ string: '"te\\"xt"', bytes: '"Af8="', int: '"-3"', empty: '' })
  expect(JSON.parse(values.other!)).toEqual({ '@type': 'type.googleapis.com/acme.Thing', value: 'eHl6' })
  expect(JSON.parse(values.broken!)['@type']).toBe('type.googleapis.com/google.protobuf.Struct')
})

test('the resolver gets the peers as they came, the best key first, and once per combination', () => {
  const inputs: IdentityInput[] = []
  const decoding = createDecoding({ resolver: echoResolver(inputs) })
  const object = (key: string, value: string): Part =>
    bytes(21, message(bytes(1, key), bytes(2, any('google.protobuf.StringValue', bytes(1, value)))))
  const raw = (value: string): Buffer => Buffer.from(any('google.protobuf.StringValue', bytes(1, value)))
  const rows = [
    entry({ common: [bytes(15, 'c1'), object('wasm.upstream_peer', 'old'), object('upstream_peer', 'new')] }),
    entry({ common: [bytes(15, 'c1'), object('upstream_peer', 'new'), object('wasm.upstream_peer', 'old')] }),
    entry({ common: [bytes(15, 'c1'), object('wasm.downstream_peer_id', 'id'), object('wasm.downstream_peer', 'x')] }),
    entry({ common: [bytes(15, 'c1')] }),
  ]
  for (let k = 0; k < 3; k++) decoding.feed(http(...rows))
  const peers = inputs.map(({ downstreamPeer, upstreamPeer }) => [downstreamPeer, upstreamPeer])
  expect(peers.map((pair) => pair.map((peer) => peer && Buffer.from(peer)))).toEqual([
    [null, raw('new')],
    [raw('x'), null],
    [null, null],
  ])
  expect(inputs[0]).toMatchObject({ cluster: 'c1', origin: originOf('edge-1') })
})

test('authority, route and SNI tell identities apart only where the resolver wants them', () => {
  const asked = (needs: number): IdentityInput[] => {
    const inputs: IdentityInput[] = []
    const decoding = createDecoding({ resolver: echoResolver(inputs, needs) })
    const row = (authority: string, route: string, sni: string): Uint8Array =>
      entry({ common: [bytes(4, bytes(3, sni)), bytes(19, route)], request: [bytes(3, authority)] })
    decoding.feed(http(row('a', 'r', 's'), row('b', 'r', 's'), row('b', 'q', 's'), row('b', 'q', 't')))
    return inputs
  }
  expect(asked(0)).toHaveLength(1)
  expect(asked(0)[0]).toMatchObject({ authority: '', route: '', sni: '' })
  expect(asked(1)).toHaveLength(3)
  expect(asked(2)).toHaveLength(2)
  expect(asked(3)).toHaveLength(4)
  expect(asked(3)[3]).toMatchObject({ authority: 'b', route: 'q', sni: 't' })
})

test('entries before any identifier are rejected, and counted one by one', () => {
  const decoding = createDecoding({ origin: null })
  expect(decoding.feed(http(entry(), entry(), entry()))).toMatchObject({
    requests: 0,
    rejected: 3,
    reason: 'no_identifier',
  })
  const named = message(http(entry()), bytes(1, identifier({ id: 'n' })))
  expect(decoding.feed(named)).toMatchObject({ requests: 1, rejected: 0 })
})

test('the identifier is handed on as it stands, and counts for the whole message', () => {
  const seen: string[] = []
  const inner = identifier({ id: 'proxy-7' })
  const decoding = createDecoding({
    origin: null,
    decoder: {
      onIdentifier: (buffer, start, end) => {
        seen.push(Buffer.from(buffer.subarray(start, end)).toString('hex'))
        return originOf(`proxy-${seen.length}`)
      },
    },
  })
  decoding.feed(message(http(entry()), bytes(1, inner)), http(entry()), message(bytes(1, inner), http(entry())))
  expect(seen).toEqual([Buffer.from(inner).toString('hex'), Buffer.from(inner).toString('hex')])
  expect(decoding.take().requests.map((row) => row.node_id)).toEqual(['proxy-1', 'proxy-1', 'proxy-2'])
})

test('a bad entry costs itself alone, and leaves nothing behind', () => {
  const good = (name: string): Uint8Array => entry({ common: [bytes(15, name)] })
  const bad = entry({
    common: [bytes(15, 'left behind'), headerField(22, 'tag', 'left behind'), bytes(4, bytes(3, 'left behind'))],
    request: [bytes(5, '/left/behind'), requestHeader('h', 'left behind'), bytes(7, 'left behind')],
    response: [Uint8Array.of(0x0a, 0x7f)],
  })
  const decoding = createDecoding()
  const before = http(good('first'))
  const result = decoding.feed(http(good('first'), bad, good('last')))
  expect(result).toMatchObject({ requests: 2, rejected: 1, reason: 'malformed' })
  // Its place: after the head of the list and the first entry.
  expect(result.offset).toBeGreaterThan(before.length - 3)
  expect(result.offset).toBeLessThan(before.length + 3)
  const block = Buffer.concat(decoding.builders.requests.seal().encode('s').buffers)
  expect(block.includes('left behind')).toBe(false)
  expect(block.includes('/left/behind')).toBe(false)
  const rows = decoding.take().requests
  expect(rows.map((row) => row.upstream_cluster)).toEqual(['first', 'last'])
  for (const row of rows) expect(row).toMatchObject({ sni: '', request_headers: {}, custom_tags: {}, path: '' })
})

test('where framing is lost the entries before are kept', () => {
  const decoding = createDecoding()
  const whole = Buffer.from(http(entry(), entry(), entry()))
  const cut = whole.subarray(0, whole.length - 5)
  expect(decoding.feed(cut)).toMatchObject({ requests: 2, rejected: 1, reason: 'malformed' })
  expect(decoding.feed(Buffer.concat([whole, Uint8Array.of(0xff, 0xff)]))).toMatchObject({ requests: 3, rejected: 1 })
  expect(decoding.feed(Uint8Array.of(0xff, 0xff, 0xff))).toMatchObject({ rejected: 1, offset: 0 })
  expect(decoding.feed(new Uint8Array(0))).toMatchObject({ rejected: 0, requests: 0 })
})

test('fields of later versions are skipped, groups too', () => {
  const unknown = [
    number(999, 5),
    bytes(100_000, 'x'),
    Buffer.concat([Uint8Array.of(0xa3, 0x06), number(1, 1), bytes(2, 'y'), Uint8Array.of(0xa4, 0x06)]),
    Buffer.concat([Uint8Array.of(0xa1, 0x06), Buffer.alloc(8, 0xff)]),
    Buffer.concat([Uint8Array.of(0xa5, 0x06), Buffer.alloc(4, 0xff)]),
  ]
  const row = requestRow({
    common: [...unknown, bytes(15, 'c'), ...unknown],
    request: [...unknown, bytes(5, '/p'), ...unknown],
    response: [...unknown, bytes(6, 'via_upstream'), ...unknown],
  })
  expect(row).toMatchObject({ upstream_cluster: 'c', path: '/p', response_code_details: 'via_upstream' })
})

test('a full builder stops the decoder before the entry that does not fit; none is lost, none comes twice', () => {
  for (const rowsMax of [1, 2, 3, 5, 7]) {
    const decoding = createDecoding({ rowsMax })
    const many = Array.from({ length: 23 }, (_, k) =>
      entry({ common: [bytes(15, `c${k}`)], type: k % 4 === 3 ? TYPE.periodic : TYPE.end }),
    )
    const result = decoding.feed(message(bytes(1, identifier({ id: 'n' })), http(...many)))
    expect(result).toMatchObject({ requests: 18, progress: 5, rejected: 0, full: null, resume: -1 })
    const rows = decoding.take()
    const wanted = (table: number) => many.map((_, k) => `c${k}`).filter((_, k) => (k % 4 === 3 ? 1 : 0) === table)
    expect(rows.requests.map((row) => row.upstream_cluster)).toEqual(wanted(0))
    expect(rows.progress.map((row) => row.upstream_cluster)).toEqual(wanted(1))
  }
})

test('dictionaries and heaps that are full make the batch smaller, not wrong', () => {
  const decoding = createDecoding({ rowsMax: 4000, builderLimits: { dictionaryBytesMax: 20_000, heapBytesMax: 5000 } })
  const many = Array.from({ length: 600 }, (_, k) =>
    entry({ common: [bytes(15, `cluster-${k}`)], request: [bytes(5, `/path/${k}/${'x'.repeat(k % 50)}`)] }),
  )
  expect(decoding.feed(http(...many))).toMatchObject({ requests: 600, rejected: 0 })
  const rows = decoding.take().requests
  expect(rows.map((row) => row.upstream_cluster)).toEqual(many.map((_, k) => `cluster-${k}`))
  expect(rows.map((row) => row.path)).toEqual(many.map((_, k) => `/path/${k}/${'x'.repeat(k % 50)}`))
})

test('an entry that is too much for an empty builder is rejected, and the next one is not', () => {
  const decoding = createDecoding({ builderLimits: { dictionaryBytesMax: 3000 } })
  const big = entry({ common: [bytes(15, 'a'.repeat(2000)), bytes(19, 'b'.repeat(2000))] })
  expect(decoding.feed(http(entry(), big, entry()))).toMatchObject({
    requests: 2,
    rejected: 1,
    reason: 'entry_too_large',
  })
})

test('limits: long texts are cut and counted, map entries and nesting too', () => {
  const decoding = createDecoding({
    builderLimits: { textBytesMax: 100 },
    decoder: { limits: { stringBytesMax: 100, mapEntriesMax: 3, structDepthMax: 2 } },
  })
  const long = 'é'.repeat(80)
  const result = decoding.feed(
    http(
      entry({
        common: [bytes(15, long), bytes(17, meta('m', { a: { b: { c: { d: 1 } } } }))],
        request: [bytes(5, `/${long}`), bytes(9, long), ...[1, 2, 3, 4, 5].map((k) => requestHeader(`h${k}`, `${k}`))],
      }),
    ),
  )
  expect(result).toMatchObject({ requests: 1, rejected: 0, cut: 6 })
  const row = decoding.take().requests[0]!
  expect(row.upstream_cluster).toBe('é'.repeat(50))
  expect(row.path).toBe(`/${'é'.repeat(49)}`)
  expect(row.request_text).toBe('é'.repeat(50))
  expect(row.request_headers).toEqual({ h1: '1', h2: '2', h3: '3' })
  expect(JSON.parse(row.metadata as string)).toEqual({ filter_metadata: { m: { a: { b: null } } } })
  expect(decoding.feed(http(entry()))).toMatchObject({ cut: 0 })
})

test('a message over the limit is refused whole', () => {
  const decoding = createDecoding({ decoder: { limits: { messageBytesMax: 100 } } })
  expect(decoding.feed(http(entry({ common: [bytes(15, 'x'.repeat(200))] })))).toMatchObject({
    requests: 0,
    rejected: 1,
    reason: 'message_too_large',
  })
  expect(ALS_LIMITS.messageBytesMax).toBeGreaterThan(4 << 20)
})

test('of entries of one map with the same key the last one counts', () => {
  const row = requestRow({
    request: [requestHeader('a', '1'), requestHeader('b', '22'), requestHeader('a', '333'), requestHeader('c', '')],
  })
  expect(row.request_headers).toEqual({ a: '333', b: '22', c: '' })
})

test('text that is not UTF-8 becomes valid, in every kind of column', () => {
  const bad = Buffer.from([0x61, 0xff, 0xfe, 0x62])
  const row = requestRow({
    common: [bytes(15, bad), bytes(22, message(bytes(1, bad), bytes(2, bad)))],
    request: [bytes(5, bad), bytes(9, bad)],
  })
  const good = 'a\ufffd\ufffdb'
  expect(row).toMatchObject({ upstream_cluster: good, custom_tags: { [good]: good }, path: good, request_text: good })
})

test('a message that lies at the very end of its buffer is read like any other', () => {
  const bytesOf = Buffer.from(http(entry({ common: [bytes(15, 'c')] }), entry({ type: TYPE.periodic })))
  for (const slack of [0, 1, 15, 16, 40]) {
    const decoding = createDecoding()
    const place = Buffer.alloc(9 + bytesOf.length + slack, 0xff)
    bytesOf.copy(place, 9)
    const result = decoding.decoder.decode(place, 9, 9 + bytesOf.length, { origin: originOf('n') }, RECEIVED_MS)
    expect(result).toMatchObject({ requests: 1, progress: 1, rejected: 0 })
  }
})

test('many streams in one batch keep their own origin', () => {
  const decoding = createDecoding()
  const origins = Array.from({ length: 300 }, (_, k) => originOf(`node-${k}`))
  for (const origin of [...origins, ...origins]) {
    const one = http(entry())
    decoding.decoder.decode(one, 0, one.length, { origin }, RECEIVED_MS)
  }
  const block = decoding.builders.requests.seal().encode('s')
  expect(block.nodes.size).toBe(300)
  expect([...block.nodes.values()].every((rows) => rows === 2)).toBe(true)
  const rows = decoding.take().requests
  expect(rows.map((row) => row.node_id)).toEqual([...origins, ...origins].map(({ nodeId }) => nodeId))
})

test('metadata of a thousand kinds, repeated and not, broken and not, is told apart', () => {
  const decoding = createDecoding()
  const expected: string[] = []
  for (let round = 0; round < 3; round++) {
    for (let k = 0; k < 1500; k++) {
      const value = 'v'.repeat(k % 700)
      decoding.feed(http(entry({ common: [bytes(17, meta(`name-${k}`, { value }))] })))
      expected.push(JSON.stringify({ filter_metadata: { [`name-${k}`]: { value } } }))
      if (k % 100 === 0) {
        const broken = entry({ common: [bytes(17, Uint8Array.of(10, 5, 1, k % 7))] })
        expect(decoding.feed(http(broken))).toMatchObject({ requests: 0, rejected: 1, reason: 'malformed' })
      }
      if (k % 50 === 0) {
        decoding.feed(http(entry({ common: [bytes(17, new Uint8Array(0))] })))
        expected.push('')
      }
    }
  }
  expect(decoding.take().requests.map((row) => row.metadata)).toEqual(expected)
})
