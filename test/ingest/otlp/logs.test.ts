import { describe, expect, it } from 'vitest'
import { createPreset } from '../../../src/ingest/lines/presets/index.ts'
import { BackWriter } from '../../../src/lib/back-writer.ts'
import type { ReadRow } from '../../support/native-rows.ts'
import {
  attributesOf,
  createOtlpDecoding,
  ENVOY_LABELS,
  logRequest,
  type OtlpDecodingOptions,
  otlp,
  SENDER,
} from '../../support/otlp.ts'

const TIME = '1795231455406514123'

/** The row that a record with these attributes becomes. */
function rowOf(
  attributes: Readonly<Record<string, unknown>>,
  options: OtlpDecodingOptions & { record?: object; resource?: Readonly<Record<string, unknown>>; node?: string } = {},
): ReadRow {
  const decoding = createOtlpDecoding(options)
  const request = logRequest(
    { timeUnixNano: TIME, attributes: attributesOf(attributes), ...options.record },
    options.resource ?? ENVOY_LABELS,
  )
  const sender = { ...SENDER, node: options.node ?? '' }
  const decoded = decoding.decoders.logs.decode(request, 0, request.length, sender)
  expect(decoded).toMatchObject({ items: 1, rejected: 0 })
  decoding.writing.writer.commit()
  const rows = decoding.writing.take()
  const all = [...rows.requests, ...rows.attempts, ...rows.progress, ...rows.connections]
  expect(all.length).toBe(1)
  return all[0]!
}

const CODE = { 'http.response.status_code': 200 }

describe('attributes of an access log record', () => {
  it.each<[string, Record<string, unknown>, Record<string, unknown>]>([
    [
      'semantic conventions of HTTP',
      {
        'http.request.method': 'GET',
        'url.path': '/a/b',
        'url.query': 'q=1',
        'url.scheme': 'https',
        'http.response.status_code': 404,
        'server.address': 'shop.example',
        'server.port': 8443,
        'client.address': '203.0.113.9',
        'client.port': 4711,
        'network.protocol.name': 'http',
        'network.protocol.version': '2',
        'user_agent.original': 'curl/8',
        'http.request.body.size': 12,
        'http.response.body.size': 34,
        'http.route': '/a/{id}',
        'http.request.resend_count': 1,
        'tls.protocol.version': '1.3',
      },
      {
        method: 'GET',
        path: '/a/b?q=*',
        scheme: 'https',
        response_code: 404,
        authority: 'shop.example:8443',
        downstream_remote_address: '203.0.113.9',
        downstream_remote_port: 4711,
        protocol: 'HTTP/2',
        user_agent: 'curl/8',
        request_body_bytes: 12n,
        response_body_bytes: 34n,
        path_template: '/a/{id}',
        attempts: 2,
        tls_version: 'TLSv1.3',
      },
    ],
    [
      'the old ones',
      {
        'http.method': 'POST',
        'http.status_code': '201',
        'http.url': 'https://user@shop.example/x?token=1',
        'http.flavor': '1.1',
        'http.user_agent': 'okhttp',
        'net.peer.ip': '2001:db8::7',
        'net.peer.port': '99',
        'http.request_content_length': '7',
        'http.response_content_length': 8,
      },
      {
        method: 'POST',
        response_code: 201,
        scheme: 'https',
        authority: 'shop.example',
        path: '/x?token=*',
        protocol: 'HTTP/1.1',
        user_agent: 'okhttp',
        downstream_remote_address: '2001:db8::7',
        downstream_remote_port: 99,
        downstream_direct_port: 99,
        request_body_bytes: 7n,
        response_body_bytes: 8n,
      },
    ],
    [
      "Envoy's attributes",
      {
        'request.method': 'GET',
        'request.path': '/p',
        'request.host': 'h',
        'request.id': 'r-1',
        'request.protocol': 'HTTP/1.1',
        'response.code': 503,
        'response.code_details': 'via_upstream',
        'response.flags': 'UF',
        'source.address': '10.0.0.1:5',
        'destination.address': '10.0.0.2:80',
        'upstream.address': '10.0.0.3:8080',
        'upstream.request_attempt_count': 3,
        'connection.requested_server_name': 'sni',
        'xds.cluster_name': 'c',
        'xds.route_name': 'r',
        'request.headers.x-team': 'blue',
      },
      {
        method: 'GET',
        path: '/p',
        authority: 'h',
        request_text: 'r-1',
        response_code: 503,
        downstream_remote_address: '10.0.0.1',
        downstream_remote_port: 5,
        downstream_local_address: '10.0.0.2',
        upstream_remote_address: '10.0.0.3',
        upstream_remote_port: 8080,
        attempts: 3,
        sni: 'sni',
        upstream_cluster: 'c',
        route: 'r',
        request_headers: { 'x-team': 'blue' },
      },
    ],
    [
      "keys of Istio's and Envoy Gateway's JSON",
      {
        ':authority': 'reviews:9080',
        bytes_received: '10',
        bytes_sent: '295',
        duration: '44',
        'x-envoy-origin-path': '/reviews/1',
        method: 'GET',
        protocol: 'HTTP/1.1',
        'x-request-id': '8b3c0f52-63f0-9a1d-b0d4-54f3c1f8a7aa',
        requested_server_name: 'outbound_.9080_._.reviews',
        response_code: '200',
        response_code_details: 'via_upstream',
        response_flags: 'URX,UF',
        route_name: 'default',
        upstream_cluster: 'outbound|9080||reviews.default.svc.cluster.local',
        upstream_host: '10.244.0.31:9080',
        upstream_local_address: '10.244.0.12:40512',
        downstream_remote_address: '10.244.0.12:51730',
        'x-envoy-upstream-service-time': '43',
        'user-agent': 'curl/8.5.0',
        'x-forwarded-for': '203.0.113.9',
        connection_termination_details: '-',
        start_time: '2026-01-01T00:00:00.250Z',
      },
      {
        authority: 'reviews:9080',
        request_body_bytes: 10n,
        response_body_bytes: 295n,
        duration_ns: 44_000_000n,
        end_time: BigInt(TIME) + 44_000_000n,
        path: '/reviews/1',
        request_uuid: '8b3c0f52-63f0-9a1d-b0d4-54f3c1f8a7aa',
        sni: 'outbound_.9080_._.reviews',
        upstream_cluster: 'outbound|9080||reviews.default.svc.cluster.local',
        upstream_remote_address: '10.244.0.31',
        upstream_local_port: 40512,
        response_headers: { 'x-envoy-upstream-service-time': '43' },
        forwarded_for: '203.0.113.9',
        connection_termination_details: '',
        precision_ns: 1_000_000,
      },
    ],
    [
      'durations of operators, in their units',
      {
        ...CODE,
        'envoy.duration_us': '2857',
        'envoy.request_duration_us': '0',
        t_up_tx_begin_us: '664',
        t_up_tx_end_us: 700,
        response_duration_us: '2611',
        response_tx_duration_us: '225',
        t_down_tx_begin_ns: '2705775',
      },
      {
        duration_ns: 2_857_000n,
        t_rx_end: 0n,
        t_up_tx_begin: 664_000n,
        t_up_tx_end: 700_000n,
        t_up_rx_begin: 2_611_000n,
        t_down_tx_end: 2_836_000n,
        t_down_tx_begin: 2_705_775n,
        precision_ns: 1000,
      },
    ],
    [
      'a total in ms is cut: a point that says more shows that it was longer',
      { ...CODE, duration: '2', t_down_tx_end_ns: '2836200' },
      { duration_ns: 2_836_200n, precision_ns: 1_000_000, end_time: BigInt(TIME) + 2_836_200n },
    ],
    [
      'a connection, where nothing is there that only requests have',
      { response_code: '0', response_flags: 'UF', bytes_received: 5, bytes_sent: 0, duration: 7 },
      { kind: 'tcp', entry_type: 'TcpConnectionEnd', response_code: null, request_body_bytes: 5n },
    ],
    ['a request that says no type', { ...CODE, method: 'GET' }, { entry_type: 'DownstreamEnd' }],
    ['seconds', { ...CODE, duration_s: 0.0425 }, { duration_ns: 42_500_000n, precision_ns: 1_000_000 }],
    ['gRPC status by name', { ...CODE, 'rpc.grpc.status_code': 'NOT_FOUND' }, { grpc_status: 5 }],
    ['gRPC status by number', { ...CODE, grpc_status_number: 14 }, { grpc_status: 14 }],
    [
      'headers, as texts and lists',
      { ...CODE, 'http.request.header.X-Team': ['a', 'b'], 'http.request.header.authorization': 'Bearer x' },
      { request_headers: { 'x-team': 'a,b', authorization: '*' } },
    ],
    [
      'headers that are columns',
      { ...CODE, 'http.request.header.x-request-id': 'r-1', 'http.request.header.user_agent': ['curl'] },
      { request_text: 'r-1', user_agent: 'curl', request_headers: {} },
    ],
    [
      'what is nothing known is a tag',
      { ...CODE, 'team.owner': 'blue', n: 7 },
      { custom_tags: { 'team.owner': 'blue', n: '7' } },
    ],
    ['maps are attributes of their own', { ...CODE, http: { request: { method: 'PUT' } } }, { method: 'PUT' }],
    [
      'absent values are absent',
      { ...CODE, method: '-', user_agent: '', duration: '-' },
      { method: '', user_agent: '' },
    ],
    ['numbers that are none', { ...CODE, duration: 'fast', attempts: '-1' }, { duration_ns: 0n, attempts: 0 }],
    ['names of entry types', { access_log_type: 'UpstreamEnd' }, { entry_type: 'UpstreamEnd' }],
    ['connections', { access_log_type: 'TcpConnectionEnd', bytes_sent: 9 }, { kind: 'tcp', response_body_bytes: 9n }],
  ])('%s', (_name, attributes, expected) => {
    expect(rowOf(attributes)).toMatchObject(expected)
  })

  it('the configuration adds names, and goes before what is known', () => {
    const attributes = { 'my.cluster': 'upstream_cluster', method: 'custom_tags.m', took: 'duration_us' }
    expect(rowOf({ ...CODE, 'my.cluster': 'c', method: 'GET', took: 15 }, { attributes })).toMatchObject({
      upstream_cluster: 'c',
      method: '',
      custom_tags: { m: 'GET' },
      duration_ns: 15_000n,
      precision_ns: 1000,
    })
  })

  it('a body that is a map is attributes', () => {
    const body = { kvlistValue: { values: attributesOf({ response_code: '418', method: 'GET', path: '/tea' }) } }
    expect(rowOf({}, { record: { body } })).toMatchObject({ response_code: 418, method: 'GET', path: '/tea' })
  })

  it('keys and values of any length and form are read', () => {
    const long = 'k'.repeat(200)
    const row = rowOf({
      ...CODE,
      [long]: 'x',
      'user_agent.original': 'a'.repeat(300),
      'envoy.path': `/${'p'.repeat(130)}`,
    })
    expect(row).toMatchObject({
      user_agent: 'a'.repeat(300),
      path: `/${'p'.repeat(130)}`,
      custom_tags: { [long]: 'x' },
    })
  })
})

describe('a body that is a line', () => {
  const LINE =
    '[2026-01-01T00:00:00.250Z] "GET /reviews/1 HTTP/1.1" 200 - via_upstream - "-" 0 295 44 43 "-" "curl/8.5.0" "8b3c0f52-63f0-9a1d-b0d4-54f3c1f8a7aa" "reviews:9080" "10.244.0.31:9080" outbound|9080||reviews.default.svc.cluster.local 10.244.0.12:40512 10.96.12.3:9080 10.244.0.12:51730 - default\n'
  const createParser = () => createPreset('auto')!

  it("Istio's default: text and no attributes", () => {
    expect(rowOf({}, { createParser, record: { body: { stringValue: LINE } } })).toMatchObject({
      source: 'otlp',
      method: 'GET',
      path: '/reviews/1',
      response_code: 200,
      duration_ns: 44_000_000n,
      route: 'default',
      upstream_cluster: 'outbound|9080||reviews.default.svc.cluster.local',
      node_id: 'edge-1',
      // The record knows the start to the nanosecond, the line to the millisecond.
      end_time: BigInt(TIME) + 44_000_000n,
    })
  })

  it('with labels beside it, for every record of the sender', () => {
    const decoding = createOtlpDecoding({ createParser })
    const record = {
      timeUnixNano: TIME,
      body: { stringValue: LINE },
      attributes: attributesOf({ 'team.owner': 'blue' }),
    }
    const request = otlp('logs', {
      resourceLogs: [
        {
          resource: { attributes: attributesOf(ENVOY_LABELS) },
          scopeLogs: [{ logRecords: [record, record, { ...record, body: { stringValue: 'not a line' } }, record] }],
        },
      ],
    })
    const decoded = decoding.decoders.logs.decode(request, 0, request.length, SENDER)
    expect(decoded).toMatchObject({ items: 4, rejected: 1, reason: 'not_access_log' })
    decoding.writing.writer.commit()
    const rows = decoding.writing.take().requests
    expect(rows.map(({ path, custom_tags }) => ({ path, custom_tags }))).toEqual(
      Array.from({ length: 3 }, () => ({ path: '/reviews/1', custom_tags: { 'team.owner': 'blue' } })),
    )
    expect(decoding.decoders.logs.counters).toMatchObject({ lines: 3, attributes: 0 })
  })

  it('attributes that say enough go before the body', () => {
    const row = rowOf({ ...CODE, method: 'PUT' }, { createParser, record: { body: { stringValue: LINE } } })
    expect(row).toMatchObject({ method: 'PUT', path: '' })
  })
})

describe('who sent it', () => {
  it.each<[string, Record<string, unknown>, string, Record<string, unknown>]>([
    ['Envoy’s labels', ENVOY_LABELS, '', { node_id: 'edge-1', node_cluster: 'edge', zone: 'z1', log_name: 'otel' }],
    ['the header', {}, 'edge-7', { node_id: 'edge-7' }],
    ['the address', {}, '', { node_id: '10.0.0.9' }],
    [
      'an Istio proxy',
      { node_name: 'sidecar~10.0.0.1~web-v1-6d5f7c9b8-x2k4j.shop~shop.svc.cluster.local', cluster_name: 'web.shop' },
      '',
      { node_cluster: 'web.shop' },
    ],
    [
      'semantic conventions',
      {
        'service.name': 'cart',
        'service.instance.id': 'cart-1',
        'cloud.region': 'eu',
        'cloud.availability_zone': 'eu-1',
        'k8s.cluster.name': 'prod',
      },
      '',
      { node_id: 'cart-1', node_cluster: 'cart', region: 'eu', zone: 'eu-1', mesh: 'prod' },
    ],
  ])('%s', (_name, resource, node, expected) => {
    expect(rowOf(CODE, { resource, node })).toMatchObject(expected)
  })

  it('equal resources are one sender, and different ones are not mixed', () => {
    const decoding = createOtlpDecoding()
    for (const node of ['a', 'b', 'a']) {
      const request = logRequest({ timeUnixNano: TIME, attributes: attributesOf(CODE) }, { node_name: node })
      decoding.decoders.logs.decode(request, 0, request.length, SENDER)
    }
    decoding.writing.writer.commit()
    expect(decoding.writing.take().requests.map((row) => row.node_id)).toEqual(['a', 'b', 'a'])
  })

  it('the resource may come after the records', () => {
    const decoding = createOtlpDecoding()
    const first = logRequest({ timeUnixNano: TIME, attributes: attributesOf(CODE) }, {})
    const resource = otlp('logs', { resourceLogs: [{ resource: { attributes: attributesOf(ENVOY_LABELS) } }] })
    // The fields of the second ResourceLogs behind those of the first: protobuf merges nothing here, the last one counts.
    const writer = new BackWriter()
    writer.raw(resource.subarray(2))
    writer.raw(first.subarray(2))
    writer.end(0x0a, 0)
    const request = writer.take()
    decoding.decoders.logs.decode(request, 0, request.length, SENDER)
    decoding.writing.writer.commit()
    expect(decoding.writing.take().requests[0]!.node_id).toBe('edge-1')
  })
})

describe('times', () => {
  it.each([
    [
      'time_unix_nano is the start, to the nanosecond',
      { timeUnixNano: '1795231455999999999' },
      1_795_231_455_999_999_999n,
    ],
    [
      'where it is missing, the time it was observed is the end',
      { timeUnixNano: '0', observedTimeUnixNano: '1795231455000000001' },
      1_795_231_455_000_000_001n,
    ],
  ])('%s', (_name, record, end) => {
    expect(rowOf(CODE, { record }).end_time).toBe(end)
  })

  it('an attribute says it where the record does not', () => {
    const row = rowOf(
      { ...CODE, start_time: '2026-01-01T00:00:00.250123Z', duration: 5 },
      { record: { timeUnixNano: '0' } },
    )
    expect(row.end_time).toBe(1_767_225_600_255_123_000n)
  })
})

describe('what is no access log entry', () => {
  it.each([
    ['a log record of a program', { 'log.level': 'info', 'http.request.method': 'GET' }, {}],
    ['nothing at all', {}, {}],
    ['a record of Envoy without anything known', { 'team.owner': 'blue' }, ENVOY_LABELS],
  ])('%s is rejected', (_name, attributes, resource) => {
    const decoding = createOtlpDecoding({ createParser: () => createPreset('auto')! })
    const request = logRequest(
      { timeUnixNano: TIME, body: { stringValue: 'hello' }, attributes: attributesOf(attributes) },
      resource,
    )
    const decoded = decoding.decoders.logs.decode(request, 0, request.length, SENDER)
    expect(decoded).toMatchObject({ items: 1, rejected: 1, reason: 'not_access_log', malformed: false })
    expect(decoding.decoders.logs.counters.rejected).toEqual(new Map([['not_access_log', 1]]))
    expect(decoding.writing.writer.commit().added).toBe(0)
  })

  it('a rejected record leaves nothing to the next one', () => {
    const decoding = createOtlpDecoding()
    const records = [
      {
        timeUnixNano: TIME,
        attributes: attributesOf({ 'server.address': 'left.over', route: 'r' }),
        traceId: '5b8efff798038103d269b633813fc60c',
      },
      { timeUnixNano: TIME, attributes: attributesOf(CODE) },
    ]
    const request = otlp('logs', { resourceLogs: [{ scopeLogs: [{ logRecords: records }] }] })
    expect(decoding.decoders.logs.decode(request, 0, request.length, SENDER)).toMatchObject({ items: 2, rejected: 1 })
    decoding.writing.writer.commit()
    const [row] = decoding.writing.take().requests
    expect(row).toMatchObject({ authority: '', route: '', trace_uuid: '00000000-0000-0000-0000-000000000000' })
  })
})
