import { expect, test } from 'vitest'
import { AccessEntry } from '../../../../src/ingest/entry/entry.ts'
import { compileTextFormat } from '../../../../src/ingest/lines/format/text.ts'
import { seededRandom } from '../../../../src/lib/random.ts'
import { entryOf, parserOf, rowsOfLines } from '../../../support/line-rows.ts'

const ENVOY =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\\n'
const ISTIO =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n'
const envoy = parserOf(compileTextFormat(ENVOY, { name: 'envoy' }))
const istio = parserOf(compileTextFormat(ISTIO, { name: 'istio' }))

function read(parser: typeof envoy, line: string): AccessEntry {
  const entry = entryOf(parser, line)
  if (typeof entry === 'string') throw new Error(`${entry}: ${line}`)
  return entry
}

test("the reference's example of Envoy's default format", () => {
  const line =
    '[2026-01-01T00:00:00.250Z] "GET /v1/x?q=1 HTTP/2" 200 - 0 512 43 41 "203.0.113.9" "curl/8.5.0" "7f3d6c0e-2b1a-4c6b-9a55-0d2c1e4f9a10" "api.example" "10.0.0.7:8080"'
  expect(read(envoy, line)).toMatchObject({
    tcp: false,
    type: 6,
    startSeconds: 1_767_225_600,
    startNanos: 250_000_000,
    method: 'GET',
    path: '/v1/x?q=1',
    protocol: 'HTTP/2',
    code: 200,
    flags: '',
    requestBodyBytes: 0,
    responseBodyBytes: 512,
    durationNs: 43_000_000,
    forwardedFor: '203.0.113.9',
    userAgent: 'curl/8.5.0',
    requestId: '7f3d6c0e-2b1a-4c6b-9a55-0d2c1e4f9a10',
    authority: 'api.example',
    upstreamHost: '10.0.0.7:8080',
  })
  expect(envoy).toMatchObject({ name: 'envoy', source: 'text', precisionNs: 1_000_000, tagged: [], ignored: [] })
})

test("the reference's example of a connection in the same format", () => {
  const line = '[2026-01-01T00:00:01.004Z] "- - -" 0 - 123 456 789 - "-" "-" "-" "-" "10.0.0.9:3306"'
  expect(read(envoy, line)).toMatchObject({
    tcp: true,
    type: 3,
    code: -1,
    requestBodyBytes: 123,
    responseBodyBytes: 456,
    durationNs: 789_000_000,
    upstreamHost: '10.0.0.9:3306',
  })
  expect(rowsOfLines(envoy, [line]).requests[0]).toMatchObject({ kind: 'tcp', entry_type: 'TcpConnectionEnd' })
})

test("the reference's example of Istio's format", () => {
  const line =
    '[2026-01-01T00:00:00.250Z] "GET /reviews/1 HTTP/1.1" 200 - via_upstream - "-" 0 295 44 43 "-" "curl/8.5.0" "8b3c0f52-63f0-9a1d-b0d4-54f3c1f8a7aa" "reviews:9080" "10.244.0.31:9080" outbound|9080||reviews.default.svc.cluster.local 10.244.0.12:40512 10.96.12.3:9080 10.244.0.12:51730 - default'
  expect(read(istio, line)).toMatchObject({
    responseCodeDetails: 'via_upstream',
    upstreamCluster: 'outbound|9080||reviews.default.svc.cluster.local',
    upstreamLocal: '10.244.0.12:40512',
    downstreamLocal: '10.96.12.3:9080',
    downstreamRemote: '10.244.0.12:51730',
    sni: '',
    route: 'default',
  })
})

/** A line of the default format with some of its values. */
function line(values: Readonly<Record<string, string>>): string {
  const f = (name: string, otherwise: string): string => values[name] ?? otherwise
  return `[2026-01-01T00:00:00.250Z] "${f('method', 'GET')} ${f('path', '/')} HTTP/1.1" 200 - 0 5 43 41 "${f('xff', '-')}" "${f('ua', '-')}" "${f('id', '7f3d6c0e')}" "${f('authority', 'api.example')}" "${f('host', '10.0.0.7:8080')}"`
}

test.each([
  'plain',
  'two words',
  'with "quotes" inside',
  'a" "b',
  'ends with a quote"',
  '"',
  '" "',
  '" "x" "y" "z',
  'Mozilla/5.0 (X11; "odd" "agent")',
  'dash - dash "-" dash',
  '200 - 0 5 43 41 "-" "nested"',
])('a user agent may be anything: %s', (ua) => {
  expect(read(envoy, line({ ua }))).toMatchObject({
    userAgent: ua,
    requestId: '7f3d6c0e',
    authority: 'api.example',
    upstreamHost: '10.0.0.7:8080',
  })
})

test.each(['/a b c', '/a HTTP/1.1', '/x" 200 - 0 0', '/"quoted"', '/ü?q=日本'])(
  'a path may be anything: %s',
  (path) => {
    expect(read(envoy, line({ path }))).toMatchObject({ path, protocol: 'HTTP/1.1', code: 200, durationNs: 43_000_000 })
  },
)

test('addresses in x-forwarded-for are one value, however many they are', () => {
  expect(read(envoy, line({ xff: '203.0.113.9,10.0.0.1, 10.0.0.2', ua: 'x' }))).toMatchObject({
    forwardedFor: '203.0.113.9,10.0.0.1, 10.0.0.2',
    userAgent: 'x',
  })
})

test('a value that no shape allows is read all the same when nothing else fits', () => {
  expect(read(envoy, line({ authority: 'odd host' }))).toMatchObject({ authority: 'odd host' })
})

test('braces of details hold blanks', () => {
  const details = 'upstream_reset_before_response_started{connection termination}'
  const text = `[2026-01-01T00:00:00.250Z] "GET / HTTP/1.1" 503 UC ${details} - "-" 0 95 0 - "-" "-" "x" "a" "10.0.0.7:80" c - 10.0.0.1:80 10.0.0.2:1 - r`
  expect(read(istio, text)).toMatchObject({ responseCodeDetails: details, connectionTerminationDetails: '' })
})

test('names and policies in brackets are one value', () => {
  const details = 'rbac_access_denied_matched_policy[ns[a]-policy[b]-rule[0]]'
  const text = `[2026-01-01T00:00:00.250Z] "GET / HTTP/1.1" 403 - ${details} - "-" 0 19 0 - "-" "-" "x" "a" "-" inbound|80|| - 10.0.0.1:80 10.0.0.2:1 outbound_.80_._.a.b.svc.cluster.local default`
  expect(read(istio, text)).toMatchObject({ responseCodeDetails: details, upstreamHost: '' })
})

test.each([
  ['"- - HTTP/1.1" 400 DPE 0 11 0 - "-" "-" "-" "-" "-"', { tcp: false, type: 6, code: 400, protocol: 'HTTP/1.1' }],
  ['"- - HTTP/2" 0 DPE 0 0 0 - "-" "-" "-" "-" "-"', { tcp: false, type: 6, code: 0 }],
  ['"- - HTTP/2" 0 - 0 0 0 - "-" "-" "-" "-" "-"', { tcp: true, type: 0 }],
  ['"- - -" 0 UH 0 0 0 - "-" "-" "-" "-" "-"', { tcp: true, type: 3, flags: 'UH' }],
  ['"GET / HTTP/1.1" 0 DC 0 0 5 - "-" "-" "-" "a" "-"', { tcp: false, type: 6, code: 0, flags: 'DC' }],
])('what the entry is: %s', (rest, expected) => {
  expect(read(envoy, `[2026-01-01T00:00:00.250Z] ${rest}`)).toMatchObject(expected)
})

test('a connection that no filter chain took is one of the listener', () => {
  const text =
    '[2026-01-01T00:00:00.250Z] "- - -" 0 NR filter_chain_not_found - "-" 0 0 0 - "-" "-" "-" "-" "-" - - 10.0.0.1:80 10.0.0.2:1 - -'
  expect(read(istio, text)).toMatchObject({ tcp: true, type: 0, flags: 'NR' })
  expect(rowsOfLines(istio, [text]).connections).toHaveLength(1)
})

test('ports that stand alone are joined with their addresses', () => {
  const parser = parserOf(
    compileTextFormat(
      '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT% %RESPONSE_CODE%',
    ),
  )
  expect(read(parser, '2001:db8::1 4711 10.0.0.1:80 80 200')).toMatchObject({
    downstreamRemote: '[2001:db8::1]:4711',
    downstreamLocal: '10.0.0.1:80',
  })
  expect(read(parser, '10.0.0.9 4711 - - 200')).toMatchObject({
    downstreamRemote: '10.0.0.9:4711',
    downstreamLocal: '',
  })
})

test('spans between two points give the later one, in any order', () => {
  const parser = parserOf(
    compileTextFormat(
      '%COMMON_DURATION(US_RX_BEG:DS_TX_END:us)% %RESPONSE_DURATION% %RESPONSE_TX_DURATION% %COMMON_DURATION(US_TX_END:US_RX_BEG:us)% %RESPONSE_CODE%',
    ),
  )
  expect(read(parser, '300 40 1 39000 200')).toMatchObject({
    upRxBeginNs: 40_000_000,
    downTxEndNs: 40_300_000,
    upTxEndNs: 1_000_000,
  })
  expect(parser.precisionNs).toBe(1_000_000)
})

test('the precision is that of the coarsest duration', () => {
  const precision = (format: string): number => parserOf(compileTextFormat(format)).precisionNs
  expect(precision('%START_TIME(%s.%9f)% %RESPONSE_CODE%')).toBe(1_000_000)
  expect(precision('%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%')).toBe(1000)
  expect(precision('%COMMON_DURATION(DS_RX_BEG:DS_TX_END:ns)%')).toBe(1)
  expect(precision('%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)% %DURATION%')).toBe(1_000_000)
})

test('a duration in ms is never less than a finer point, and a point that contradicts it changes nothing', () => {
  const parser = parserOf(compileTextFormat('%DURATION% %COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)% %RESPONSE_CODE%'))
  expect(read(parser, '2 2836 200').durationNs).toBe(2_836_000)
  expect(read(parser, '2 9000 200').durationNs).toBe(2_000_000)
})

test('metadata of several operators is one object', () => {
  const parser = parserOf(
    compileTextFormat('%DYNAMIC_METADATA(a:b)% %DYNAMIC_METADATA(a:c:d)% %DYNAMIC_METADATA(e)% %RESPONSE_CODE%'),
  )
  expect(JSON.parse(read(parser, 'x 7 {"f":[1,"two words"]} 200').metadata)).toEqual({
    a: { b: 'x', c: { d: '7' } },
    e: { f: [1, 'two words'] },
  })
})

test('truncation bounds how far a value goes', () => {
  const parser = parserOf(compileTextFormat('%REQ(X-A):5% %REQ(X-B)% %RESPONSE_CODE%'))
  const entry = read(parser, 'abcde f g 200')
  expect(entry.requestHeaders.values.slice(0, 2)).toEqual(['abcde', 'f g'])
  expect(entryOf(parser, 'abcdef 200')).toBe('unmatched')
})

test('operators without anything between them are told apart by their shapes', () => {
  const parser = parserOf(compileTextFormat('%PROTOCOL%%RESPONSE_CODE%ms%%x%RESPONSE_FLAGS%'))
  expect(read(parser, 'HTTP/2200ms%xUF')).toMatchObject({ flags: 'UF' })
})

test.each([
  ['', 'no operator'],
  ['nothing', 'no operator'],
  ['%', 'no operator at character 0'],
  ['100% %RESPONSE_CODE%', 'no operator at character 3'],
  ['%lower%', 'no operator at character 0'],
  ['%REQ(X%', 'no operator at character 0'],
])('the format %s is refused with its place', (format, error) => {
  expect(compileTextFormat(format)).toEqual({ error: expect.stringContaining(error) })
})

test.each([
  '',
  '-',
  'starting main dispatch loop',
  '[2026-01-01T00:00:00.250Z] "GET / HTTP/1.1" 200',
  '[yesterday] "GET / HTTP/1.1" 200 - 0 5 43 41 "-" "-" "x" "a" "10.0.0.7:80"',
  '[2026-13-01T00:00:00.250Z] "GET / HTTP/1.1" 200 - 0 5 43 41 "-" "-" "x" "a" "10.0.0.7:80"',
  '[2026-01-01T00:00:00.250Z] "GET / HTTP/1.1" two - 0 5 43 41 "-" "-" "x" "a" "10.0.0.7:80"',
  '[2026-01-01T00:00:00.250Z] "GET / SPDY/3" 200 - 0 5 43 41 "-" "-" "x" "a" "10.0.0.7:80"',
  `${line({})} and more`,
  `x${line({})}`,
])('a line of another form is none: %s', (text) => {
  expect(entryOf(envoy, text)).toBe('unmatched')
})

test('a value out of its range is a fault of the line', () => {
  expect(entryOf(envoy, line({}).replace(' 200 ', ' 99999 '))).toBe('bad_value')
  expect(entryOf(envoy, line({}).replace(' 43 ', ' 1e999 '))).not.toBeInstanceOf(AccessEntry)
})

test('a line beyond the limit is refused', () => {
  expect(entryOf(envoy, line({ ua: 'x'.repeat(300_000) }))).toBe('too_large')
})

test('lines made to be ambiguous cost a bounded time', () => {
  const hostile = line({ ua: '" "'.repeat(20_000) }).replace(/"10\.0\.0\.7:8080"$/, '"never ends')
  const began = process.cpuUsage()
  for (let k = 0; k < 3; k++) expect(entryOf(envoy, hostile)).toBe('unmatched')
  const { user, system } = process.cpuUsage(began)
  expect((user + system) / 3000).toBeLessThan(150)
})

test('damaged lines are refused or read, and never throw', () => {
  const random = seededRandom(11)
  const whole = [line({ ua: 'a "b" c' }), line({ path: '/x y', xff: '10.0.0.1' })]
  const entry = new AccessEntry()
  let refused = 0
  for (let k = 0; k < 4000; k++) {
    let text = whole[k % whole.length]!
    for (let n = 0; n < 1 + random() * 4; n++) {
      const at = Math.floor(random() * text.length)
      const cut = Math.floor(random() * 6)
      text = text.slice(0, at) + String.fromCharCode(Math.floor(random() * 300)) + text.slice(at + cut)
    }
    entry.reset()
    const fault = envoy.parse(text, entry)
    if (fault !== null) refused++
    else expect(entry.startSeconds).toBeGreaterThan(0)
  }
  expect(refused).toBeGreaterThan(1000)
})
