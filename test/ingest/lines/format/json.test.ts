import { expect, test } from 'vitest'
import { AccessEntry } from '../../../../src/ingest/entry/entry.ts'
import { compileFormat } from '../../../../src/ingest/lines/format/compile.ts'
import { compileFieldMap } from '../../../../src/ingest/lines/format/fields.ts'
import { compileJsonFormat } from '../../../../src/ingest/lines/format/json.ts'
import type { LineParser } from '../../../../src/ingest/lines/parser.ts'
import { seededRandom } from '../../../../src/lib/random.ts'
import { entryOf, parserOf, rowsOfLines } from '../../../support/line-rows.ts'

function read(parser: LineParser, line: string): AccessEntry {
  const entry = entryOf(parser, line)
  if (typeof entry === 'string') throw new Error(`${entry}: ${line}`)
  return entry
}

const FORMAT = {
  method: '%REQ(:METHOD)%',
  path: '%REQ(:PATH)%',
  code: '%RESPONSE_CODE%',
  time: '%START_TIME%',
  user_agent: '%REQ(USER-AGENT)%',
  duration: '%DURATION%',
  bytes: '%BYTES_SENT%',
}
const parser = parserOf(compileJsonFormat(FORMAT))
const LINE = {
  bytes: 5,
  code: 200,
  duration: 43,
  method: 'GET',
  path: '/a',
  time: '2026-01-01T00:00:00.250Z',
  user_agent: 'x',
}
const said = {
  method: 'GET',
  path: '/a',
  code: 200,
  durationNs: 43_000_000,
  responseBodyBytes: 5,
  startSeconds: 1_767_225_600,
  userAgent: 'x',
}

test('keys in any order, with blanks, typed or as text', () => {
  const reversed = Object.fromEntries(Object.entries(LINE).reverse())
  const texts = Object.fromEntries(Object.entries(LINE).map(([key, value]) => [key, String(value)]))
  for (const line of [LINE, reversed, texts]) {
    expect(read(parser, JSON.stringify(line))).toMatchObject(said)
    expect(read(parser, ` ${JSON.stringify(line, null, '\t')}\r\n`)).toMatchObject(said)
  }
})

test('numbers as Envoy before 1.40 prints them', () => {
  expect(read(parser, '{"bytes":1e+05,"code":200,"duration":1.5e3}')).toMatchObject({
    responseBodyBytes: 100_000,
    durationNs: 1_500_000_000,
  })
})

test('escapes are resolved, in values and in keys', () => {
  const escaped = '{"code":200,"user_agent":"a \\"b\\" \\\\ \\u00e9\\n\\ud83d\\ude00","p\\u0061th":"/x"}'
  expect(read(parser, escaped)).toMatchObject({ userAgent: 'a "b" \\ é\n😀', path: '/x' })
  const ends = '{"code":200,"user_agent":"ends with \\\\","path":"/y"}'
  expect(read(parser, ends)).toMatchObject({ userAgent: 'ends with \\', path: '/y' })
})

test('keys that the format does not have are tags; what is nested is joined with points', () => {
  const entry = read(
    parser,
    '{"code":200,"pod":"web-1","n":7,"ok":true,"none":null,"k8s":{"ns":"shop","labels":{"a":"b"}},"list":[1,{"x":"]}"}]}',
  )
  const tags = Object.fromEntries(
    entry.customTags.names.slice(0, entry.customTags.count).map((n, k) => [n, entry.customTags.values[k]]),
  )
  expect(tags).toEqual({ pod: 'web-1', n: '7', ok: 'true', 'k8s.ns': 'shop', 'k8s.labels.a': 'b' })
})

test('objects and lists of the format are read as deep as they are', () => {
  const nested = parserOf(
    compileJsonFormat({
      http: { request: { method: '%REQ(:METHOD)%', path: '%PATH%' }, codes: ['%RESPONSE_CODE%', '%GRPC_STATUS%'] },
      constant: 'access',
      version: 3,
      text: '%PROTOCOL% to %UPSTREAM_HOST%',
      peer: '%FILTER_STATE(downstream_peer)%',
      meta: '%DYNAMIC_METADATA(a)%',
    }),
  )
  const entry = read(
    nested,
    '{"constant":"access","http":{"codes":[503,"Unavailable"],"request":{"method":"POST","path":"/x"}},"meta":{"k":[1,{"b":2}]},"peer":{"workload":"web"},"text":"HTTP/2 to 10.0.0.7:80","version":3}',
  )
  expect(entry).toMatchObject({
    method: 'POST',
    path: '/x',
    code: 503,
    grpcStatus: 14,
    protocol: 'HTTP/2',
    upstreamHost: '10.0.0.7:80',
    metadata: '{"a":{"k":[1,{"b":2}]}}',
  })
  expect(entry.filterState.values[0]).toBe('{"workload":"web"}')
})

test('objects that an untyped format wrote as text are objects', () => {
  const untyped = parserOf(compileJsonFormat({ code: '%RESPONSE_CODE%', meta: '%DYNAMIC_METADATA(a)%' }))
  expect(read(untyped, '{"code":"200","meta":"{\\"k\\":\\"v\\"}"}').metadata).toBe('{"a":{"k":"v"}}')
})

test.each([
  ['', 'not_an_entry'],
  ['   ', 'not_an_entry'],
  ['plain text', 'unmatched'],
  ['[1,2]', 'unmatched'],
  ['{}', 'unmatched'],
  ['{"level":"info","msg":"started","time":"2026-01-01T00:00:00.250Z"}', 'unmatched'],
  ['{"code":200', 'bad_json'],
  ['{"code":200}}', 'bad_json'],
  ['{"code":200} {"code":200}', 'bad_json'],
  ['{"code":200,}', 'bad_json'],
  ['{"code" 200}', 'bad_json'],
  ['{"code":}', 'bad_json'],
  ['{"code":200 "path":"/"}', 'bad_json'],
  ['{"code":nil}', 'bad_json'],
  ['{"code":NaN}', 'bad_json'],
  ['{"code":1.2.3}', 'bad_json'],
  ['{"path":"/a', 'bad_json'],
  ['{"path":"/\\x","code":200}', 'bad_json'],
  ['{code:200}', 'bad_json'],
  ['{"code":"many"}', 'bad_value'],
  ['{"code":true}', 'bad_value'],
  ['{"code":99999}', 'bad_value'],
  ['{"code":{"a":1}}', 'bad_value'],
  ['{"code":200,"time":"yesterday"}', 'bad_value'],
  [`{"code":200,"x":${'['.repeat(100_000)}`, 'too_large'],
  [`{"code":200,"x":${'{"a":'.repeat(50_000)}`, 'too_large'],
  [`{"code":200,"x":"${'x'.repeat(300_000)}"}`, 'too_large'],
])('%s is %s', (line, fault) => {
  expect(entryOf(parser, line.length > 1000 ? line.slice(0, 300_000) : line)).toBe(fault)
})

test('keys that change from line to line are read as those that do not', () => {
  const map = parserOf(compileFieldMap())
  const random = seededRandom(3)
  const keys = ['method', 'path', 'response_code', 'duration', 'user_agent', 'pod', 'other']
  for (let k = 0; k < 500; k++) {
    const some = keys.filter(() => random() < 0.7).sort(() => random() - 0.5)
    const line = Object.fromEntries(
      some.map((key) => [key, key === 'response_code' ? 200 : key === 'duration' ? 5 : `v${k}`]),
    )
    const entry = entryOf(map, JSON.stringify({ protocol: 'HTTP/1.1', ...line }))
    if (typeof entry === 'string') throw new Error(entry)
    expect(entry.method).toBe(line.method ?? '')
    expect(entry.path).toBe(line.path ?? '')
    expect(entry.code).toBe(line.response_code ?? -1)
    expect(entry.durationNs).toBe(line.duration === undefined ? -1 : 5_000_000)
    expect(entry.customTags.count).toBe(some.filter((key) => key === 'pod' || key === 'other').length)
  }
})

const ISTIO =
  '{"authority":"reviews:9080","bytes_received":0,"bytes_sent":358,"connection_termination_details":null,"downstream_local_address":"10.124.1.5:9080","downstream_remote_address":"10.124.0.13:43612","duration":15,"method":"GET","path":"/reviews/0","protocol":"HTTP/1.1","request_id":"9fcc7101-13bd-9753-98d6-820806088d9d","requested_server_name":"outbound_.9080_._.reviews.default.svc.cluster.local","response_code":200,"response_code_details":"via_upstream","response_flags":"-","route_name":"default","start_time":"2026-01-01T00:00:00.250Z","upstream_cluster":"inbound|9080||","upstream_host":"10.124.1.5:9080","upstream_local_address":"127.0.0.6:47889","upstream_service_time":"14","upstream_transport_failure_reason":null,"user_agent":"curl/8.5.0","x_forwarded_for":null}'

test("Istio's default keys need no format", () => {
  const entry = read(parserOf(compileFieldMap()), ISTIO)
  expect(entry).toMatchObject({
    authority: 'reviews:9080',
    responseBodyBytes: 358,
    downstreamLocal: '10.124.1.5:9080',
    downstreamRemote: '10.124.0.13:43612',
    durationNs: 15_000_000,
    method: 'GET',
    path: '/reviews/0',
    requestId: '9fcc7101-13bd-9753-98d6-820806088d9d',
    sni: 'outbound_.9080_._.reviews.default.svc.cluster.local',
    code: 200,
    responseCodeDetails: 'via_upstream',
    route: 'default',
    startSeconds: 1_767_225_600,
    upstreamCluster: 'inbound|9080||',
    upstreamHost: '10.124.1.5:9080',
    upstreamLocal: '127.0.0.6:47889',
    userAgent: 'curl/8.5.0',
  })
  expect(entry.customTags.count).toBe(0)
})

test("OpenTelemetry's names, with points or nested", () => {
  const map = parserOf(compileFieldMap())
  const flat =
    '{"http.request.method":"GET","url.path":"/x","http.response.status_code":404,"network.protocol.version":"2","server.address":"api","client.address":"10.0.0.9","client.port":4711,"user_agent.original":"c","timestamp":"2026-01-01T01:00:00.25+01:00","trace_id":"9965f1e3a8521ee08d8bc26038cc81c7"}'
  const nested =
    '{"http":{"request":{"method":"GET"},"response":{"status_code":404}},"url":{"path":"/x"},"network":{"protocol":{"version":"2"}},"server":{"address":"api"},"client":{"address":"10.0.0.9","port":4711},"user_agent":{"original":"c"},"timestamp":1767225600250,"trace_id":"9965f1e3a8521ee08d8bc26038cc81c7"}'
  for (const line of [flat, nested]) {
    expect(read(map, line)).toMatchObject({
      method: 'GET',
      path: '/x',
      code: 404,
      protocol: 'HTTP/2',
      authority: 'api',
      downstreamRemote: '10.0.0.9:4711',
      userAgent: 'c',
      startSeconds: 1_767_225_600,
      startNanos: 250_000_000,
      traceId: '9965f1e3a8521ee08d8bc26038cc81c7',
    })
  }
})

test('names of a configuration go before those that are known', () => {
  const map = parserOf(
    compileFieldMap({
      fields: {
        path: 'ignore',
        'req.uri': '%REQ(:PATH)%',
        took: 'duration_us',
        caller: 'source_workload',
        callee: 'destination_service',
        side: 'reporter',
        line: '%REQ(:METHOD)% %PROTOCOL%',
      },
    }),
  )
  const entry = read(
    map,
    '{"path":"/no","req":{"uri":"/yes"},"took":1500,"caller":"web","callee":"cart","side":"source","line":"GET HTTP/1.1","response_code":200}',
  )
  expect(entry).toMatchObject({ path: '/yes', durationNs: 1_500_000, method: 'GET', reporter: 'source' })
  expect(entry.source.workload).toBe('web')
  expect(entry.destination.service).toBe('cart')
  expect(map.precisionNs).toBe(1000)
  const only = parserOf(compileFieldMap({ only: true, fields: { c: '%RESPONSE_CODE%' } }))
  expect(read(only, '{"c":200,"method":"GET"}')).toMatchObject({ code: 200, method: '' })
})

test.each([
  [{ x: 'no such thing' }, 'x: "no such thing" is neither an operator nor one of'],
  [{ x: '%oops%' }, 'x: no operator at character 0'],
])('the field map %o is refused', (fields, error) => {
  expect(compileFieldMap({ fields })).toEqual({ error: expect.stringContaining(error) })
})

test.each([
  ['a text', '%RESPONSE_CODE% %DURATION%', '200 5'],
  ['text_format_source', { text_format_source: { inline_string: '%RESPONSE_CODE% %DURATION%\n' } }, '200 5'],
  ['text_format', { text_format: '%RESPONSE_CODE% %DURATION%\n' }, '200 5'],
  ['log_format', { log_format: { text_format_source: { inline_string: '%RESPONSE_CODE% %DURATION%\n' } } }, '200 5'],
  ['format', { format: '%RESPONSE_CODE% %DURATION%\n' }, '200 5'],
  ['json_format', { json_format: { c: '%RESPONSE_CODE%', d: '%DURATION%' } }, '{"c":200,"d":5}'],
  ['typedJsonFormat', { typedJsonFormat: { c: '%RESPONSE_CODE%', d: '%DURATION%' } }, '{"c":200,"d":5}'],
  [
    'accessLogFormat in JSON',
    { accessLogEncoding: 'JSON', accessLogFormat: '{"c":"%RESPONSE_CODE%","d":"%DURATION%"}' },
    '{"c":200,"d":5}',
  ],
  ['accessLogFormat in text', { accessLogEncoding: 'TEXT', accessLogFormat: '%RESPONSE_CODE% %DURATION%\n' }, '200 5'],
  [
    'JSON as text',
    { accessLogEncoding: 'TEXT', accessLogFormat: '{"c":%RESPONSE_CODE%,"d":%DURATION%}\\n' },
    '{"c":200,"d":5}',
  ],
  ['field_map', { field_map: { c: '%RESPONSE_CODE%', d: 'duration_ms' } }, '{"c":200,"d":5}'],
  ['field_map as text', '{"field_map":{"c":"%RESPONSE_CODE%","d":"duration_ms"}}', '{"c":200,"d":5}'],
])('a format is given as %s', (_, format, line) => {
  expect(read(parserOf(compileFormat(format)), line)).toMatchObject({ code: 200, durationNs: 5_000_000 })
})

test.each([
  [null, 'a format is a text or an object'],
  [{}, 'no text_format_source'],
  [{ text_format_source: { filename: '/etc/format' } }, 'no inline_string'],
  [{ field_map: 'x' }, 'field_map is not an object'],
  [{ field_map: { a: 1 } }, 'field_map: a is not a text'],
  [{ json_format: 'x' }, 'json_format is not an object'],
  [{ json_format: { a: 'constant' } }, 'no operator'],
  [{ json_format: { a: { b: '%oops%' } } }, 'a.b: no operator at character 0'],
])('the format %o is refused', (format, error) => {
  expect(compileFormat(format)).toEqual({ error: expect.stringContaining(error) })
})

test('operators without a column are named', () => {
  const named = parserOf(
    compileJsonFormat({ id: '%CONNECTION_ID%', q: '%QUERY_PARAM(token)%', c: '%RESPONSE_CODE%', n: '%NEW_THING%' }),
  )
  expect(named).toMatchObject({ tagged: ['CONNECTION_ID', 'NEW_THING'], ignored: ['QUERY_PARAM(token)'] })
  const [row] = rowsOfLines(named, ['{"c":200,"id":17,"n":"x","q":"secret"}']).requests
  expect(row!.custom_tags).toEqual({ id: '17', n: 'x' })
})

test('damaged lines are refused or read, and never throw', () => {
  const random = seededRandom(5)
  const whole = JSON.stringify({ ...LINE, nested: { a: [1, { b: 'c' }] }, text: 'a\\"b\n' })
  const map = parserOf(compileFieldMap())
  let refused = 0
  for (let k = 0; k < 6000; k++) {
    let text = whole
    for (let n = 0; n < 1 + random() * 3; n++) {
      const at = Math.floor(random() * text.length)
      text =
        text.slice(0, at) + String.fromCharCode(Math.floor(random() * 128)) + text.slice(at + Math.floor(random() * 4))
    }
    for (const reader of [parser, map]) {
      const fault = reader.parse(text, new AccessEntry())
      if (fault !== null) refused++
    }
  }
  expect(refused).toBeGreaterThan(2000)
})
