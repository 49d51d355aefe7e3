import { describe, expect, it } from 'vitest'
import {
  createUnwrapper,
  hintsOfPath,
  NO_HINTS,
  type UnwrapperOptions,
} from '../../../../src/ingest/lines/unwrap/index.ts'

/** 2026-03-01T12:00:00Z. */
const NOW_MS = 1_772_366_400_000
const LINE =
  '[2026-01-01T00:00:00.250Z] "GET /v1/x HTTP/1.1" 200 - 0 5 3 2 "-" "curl" "id-1" "api.example" "10.0.0.7:8080"'
const JSON_LINE = '{"method":"GET","path":"/v1/x","response_code":200}'

function unwrap(line: string, options: UnwrapperOptions = {}) {
  const unwrapped = createUnwrapper({ now: () => NOW_MS, ...options }).unwrap(line)
  return unwrapped === null ? null : { ...unwrapped, hints: said(unwrapped.hints) }
}

function said(hints: object): Record<string, string> {
  return Object.fromEntries(Object.entries(hints).filter(([, value]) => value !== ''))
}

describe('an unwrapper', () => {
  const SECONDS = 1_767_225_600
  it.each<[string, string, Record<string, string>, number, number]>([
    ['a bare line', LINE, {}, -1, 0],
    ['a byte order mark and a carriage return', `\ufeff${LINE}\r`, {}, -1, 0],
    ['a byte order mark read as Latin-1', `\u00ef\u00bb\u00bf${LINE}`, {}, -1, 0],
    ['blanks at the end', `${LINE} \t`, {}, -1, 0],
    ['CRI', `2026-01-01T00:00:00.25Z stdout F ${LINE}`, {}, SECONDS, 250_000_000],
    ['CRI with a zone', `2026-01-01T01:00:00.000000001+01:00 stderr F ${LINE}`, {}, SECONDS, 1],
    ['CRI with further tags', `2026-01-01T00:00:00Z stdout F:x:y ${LINE}`, {}, SECONDS, 0],
    [
      "Docker's JSON",
      JSON.stringify({ log: `${LINE}\n`, stream: 'stdout', time: '2026-01-01T00:00:00.5Z' }),
      {},
      SECONDS,
      500_000_000,
    ],
    [
      "Fluent Bit's JSON",
      JSON.stringify({
        date: SECONDS + 0.25,
        log: LINE,
        kubernetes: {
          pod_name: 'web-1',
          namespace_name: 'shop',
          container_name: 'envoy',
          host: 'node-3',
          labels: { app: 'web', version: 'v2', 'app.kubernetes.io/name': 'storefront' },
        },
      }),
      {
        pod: 'web-1',
        namespace: 'shop',
        container: 'envoy',
        node: 'node-3',
        app: 'web',
        version: 'v2',
        service: 'storefront',
      },
      SECONDS,
      250_000_000,
    ],
    [
      'ECS',
      JSON.stringify({
        '@timestamp': '2026-01-01T00:00:00.000Z',
        message: LINE,
        kubernetes: { pod: { name: 'web-1' }, namespace: 'shop', node: { name: 'node-3' } },
        container: { name: 'envoy' },
      }),
      { pod: 'web-1', namespace: 'shop', container: 'envoy', node: 'node-3' },
      SECONDS,
      0,
    ],
    [
      'keys with dots in them',
      JSON.stringify({ message: LINE, 'k8s.pod.name': 'web-1', 'k8s.namespace.name': 'shop', 'host.name': 'node-3' }),
      { pod: 'web-1', namespace: 'shop', node: 'node-3' },
      -1,
      0,
    ],
    [
      "Google's JSON",
      JSON.stringify({
        textPayload: LINE,
        timestamp: '2026-01-01T00:00:00Z',
        resource: { labels: { pod_name: 'web-1', namespace_name: 'shop', cluster_name: 'prod' } },
        labels: { 'k8s-pod/app': 'web' },
      }),
      { pod: 'web-1', namespace: 'shop', cluster: 'prod', app: 'web' },
      SECONDS,
      0,
    ],
    [
      "journald's JSON",
      JSON.stringify({
        MESSAGE: LINE,
        _HOSTNAME: 'edge-1',
        SYSLOG_IDENTIFIER: 'envoy',
        __REALTIME_TIMESTAMP: '1767225600000001',
      }),
      { node: 'edge-1', app: 'envoy' },
      SECONDS,
      1000,
    ],
    ['kubectl --prefix', `[pod/web-1/istio-proxy] ${LINE}`, { pod: 'web-1', container: 'istio-proxy' }, -1, 0],
    [
      'kubectl --prefix --timestamps',
      `[pod/web-1/istio-proxy] 2026-01-01T00:00:00.25Z ${LINE}`,
      { pod: 'web-1', container: 'istio-proxy' },
      SECONDS,
      250_000_000,
    ],
    ['kubectl --timestamps', `2026-01-01T00:00:00.25Z ${LINE}`, {}, SECONDS, 250_000_000],
    [
      'stern',
      `web-6d5f7c9b8-x2k4j istio-proxy ${LINE}`,
      { pod: 'web-6d5f7c9b8-x2k4j', container: 'istio-proxy' },
      -1,
      0,
    ],
    [
      'stern with colours',
      `\x1b[33mweb-1\x1b[0m \x1b[36mistio-proxy\x1b[0m ${LINE}`,
      { pod: 'web-1', container: 'istio-proxy' },
      -1,
      0,
    ],
    ['compose', `envoy-1  | ${LINE}`, { container: 'envoy-1', app: 'envoy' }, -1, 0],
    ['compose 1 with a colour', `\x1b[36;1menvoy_1    |\x1b[0m ${LINE}`, { container: 'envoy_1', app: 'envoy' }, -1, 0],
    [
      'compose with times',
      `envoy-1  | 2026-01-01T00:00:00Z ${LINE}`,
      { container: 'envoy-1', app: 'envoy' },
      SECONDS,
      0,
    ],
    ['a service named like an address', `10-0-0-1-1 | ${LINE}`, { container: '10-0-0-1-1', app: '10-0-0-1' }, -1, 0],
    ['RFC 3164', `<134>Jan  1 00:00:00 edge-1 envoy[7]: ${LINE}`, { node: 'edge-1', app: 'envoy' }, SECONDS, 0],
    ['RFC 3164 without a host', `<134>Jan  1 00:00:00 envoy: ${LINE}`, { app: 'envoy' }, SECONDS, 0],
    ['RFC 3164 in a file', `Jan  1 00:00:00 edge-1 envoy[7]: ${LINE}`, { node: 'edge-1', app: 'envoy' }, SECONDS, 0],
    [
      "rsyslog's file",
      `2026-01-01T00:00:00.25+00:00 edge-1 envoy[7]: ${LINE}`,
      { node: 'edge-1', app: 'envoy' },
      SECONDS,
      250_000_000,
    ],
    [
      'RFC 5424',
      `<134>1 2026-01-01T00:00:00.25Z edge-1 envoy 7 - - ${LINE}`,
      { node: 'edge-1', app: 'envoy' },
      SECONDS,
      250_000_000,
    ],
    [
      'RFC 5424 with structured data and a byte order mark',
      `<134>1 2026-01-01T00:00:00Z edge-1 envoy - ID1 [kubernetes@52 namespace_name="sh\\"op" pod_name="web-1"][x@1] \ufeff${LINE}`,
      { node: 'edge-1', app: 'envoy', namespace: 'sh"op', pod: 'web-1' },
      SECONDS,
      0,
    ],
    [
      "Docker's JSON in CRI, with compose in it",
      `2026-01-01T00:00:01Z stdout F ${JSON.stringify({ log: `envoy-1  | ${LINE}\n`, stream: 'stdout', time: '2026-01-01T00:00:00Z' })}`,
      { container: 'envoy-1', app: 'envoy' },
      SECONDS,
      0,
    ],
  ])('takes %s away', (_, line, hints, seconds, nanos) => {
    expect(unwrap(line)).toEqual({ text: LINE, hints, seconds, nanos })
  })

  it.each([
    ['an access log in JSON', JSON_LINE],
    ['an access log in JSON that has a message', '{"message":"GET /v1/x","method":"GET","response_code":200}'],
    [
      "ztunnel's JSON",
      '{"level":"info","time":"2026-01-01T00:00:00Z","scope":"access","message":"connection complete","src.addr":"10.0.0.1:1"}',
    ],
    ['a word as a message', '{"message":"hello"}'],
    ['JSON that is broken off', '{"log":"[2026-01-01T00:00:00.250Z] \\"GET'],
    ['an array', '[1,2]'],
    ["NGINX's line", '203.0.113.9 - ann [01/Jan/2026:00:00:00 +0000] "GET /v1/x HTTP/1.1" 200 512 "-" "curl/8.5.0"'],
    [
      "HAProxy's line",
      '10.0.0.1:1234 [01/Jan/2026:00:00:00.000] http~ be/s1 0/0/0/1/2 200 5 - - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1"',
    ],
    ["ztunnel's line", '2026-01-01T00:00:00.000000Z\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:1'],
    ["ztunnel's line with spaces", '2026-01-01T00:00:00.000000Z info access connection complete src.addr=10.0.0.1:1'],
    ["Envoy's own log", '[2026-01-01 00:00:00.000][1][info][main] [source/server/server.cc:1] starting'],
    ["Emissary's line", `ACCESS ${LINE}`],
    ['a colour inside a value', LINE.replace('curl', 'a\x1b[31mb')],
    ['a severity above the highest', '<192>Jan  1 00:00:00 h t: x'],
    ['a day that no month has', '2026-02-30T00:00:00Z stdout F x'],
    ['an empty line', ''],
  ])('leaves %s as it is', (_, line) => {
    expect(unwrap(line)).toEqual({ text: line, hints: {}, seconds: -1, nanos: 0 })
  })

  it('hands on an object as JSON', () => {
    const line = `{"jsonPayload":${JSON_LINE},"timestamp":"2026-01-01T00:00:00Z"}`
    expect(unwrap(line)?.text).toBe(JSON_LINE)
  })

  it('joins the parts of a CRI line, of each stream on its own', () => {
    const unwrapper = createUnwrapper()
    const lines = ['stdout P ab ', 'stderr P 12', 'stdout P cd', 'stderr F 34', 'stdout F ef'].map(
      (rest) => unwrapper.unwrap(`2026-01-01T00:00:00Z ${rest}`)?.text ?? null,
    )
    expect(lines).toEqual([null, null, null, '1234', 'ab cdef'])
    expect(unwrapper.held).toBe(0)
  })

  it("joins chunks of Docker's JSON, which end where no line does", () => {
    const unwrapper = createUnwrapper()
    const chunk = (log: string): string => JSON.stringify({ log, stream: 'stdout', time: '2026-01-01T00:00:00Z' })
    const long = `x ${'y'.repeat(16 * 1024 - 2)}`
    expect(unwrapper.unwrap(chunk(long))).toBeNull()
    expect(unwrapper.held).toBe(1)
    expect(unwrapper.unwrap(chunk(' z\n'))?.text).toBe(`${long} z`)
  })

  it('skips a line that is too long when joined, up to its end, and counts it once', () => {
    const unwrapper = createUnwrapper({ charsMax: 10 })
    const seen = ['P 1234567', 'P 1234567', 'P 1', 'F 1', 'F next'].map(
      (rest) => unwrapper.unwrap(`2026-01-01T00:00:00Z stdout ${rest}`)?.text ?? null,
    )
    expect(seen).toEqual([null, null, null, null, 'next'])
    expect(unwrapper.counters).toEqual({ tooLong: 1, abandoned: 0 })
  })

  it('holds parts of so many streams only, and gives up the oldest', () => {
    const unwrapper = createUnwrapper({ streamsMax: 2 })
    for (const pod of ['a', 'b', 'c']) unwrapper.unwrap(`[pod/${pod}/x] 2026-01-01T00:00:00Z stdout P begin-`)
    expect(unwrapper.held).toBe(2)
    expect(unwrapper.unwrap('[pod/c/x] 2026-01-01T00:00:00Z stdout F end')?.text).toBe('begin-end')
    expect(unwrapper.end()).toBe(1)
    expect(unwrapper.counters).toEqual({ tooLong: 0, abandoned: 2 })
  })

  it('gives equal hints as one object, so that they can be keys', () => {
    const unwrapper = createUnwrapper({ hints: { namespace: 'shop' } })
    const first = unwrapper.unwrap(`[pod/web-1/envoy] ${LINE}`)?.hints
    expect(first).toEqual({ ...NO_HINTS, namespace: 'shop', pod: 'web-1', container: 'envoy' })
    expect(unwrapper.unwrap(`[pod/web-1/envoy] ${LINE}`)?.hints).toBe(first)
    expect(unwrapper.unwrap(`[pod/web-2/envoy] ${LINE}`)?.hints).not.toBe(first)
    expect(unwrapper.unwrap(LINE)?.hints).toBe(unwrapper.unwrap(JSON_LINE)?.hints)
  })

  it('puts a syslog time without a year nearest to now, in the zone of the senders', () => {
    const seconds = (line: string, nowMs: number, offsetMinutes = 0): number | undefined =>
      unwrap(line, { now: () => nowMs, offsetMinutes })?.seconds
    const newYear = Date.UTC(2026, 0, 1, 0, 0, 5)
    expect(seconds('<13>Dec 31 23:59:59 h t: x', newYear)).toBe(Date.UTC(2025, 11, 31, 23, 59, 59) / 1000)
    expect(seconds('<13>Jan  1 00:00:01 h t: x', newYear - 10_000)).toBe(Date.UTC(2026, 0, 1, 0, 0, 1) / 1000)
    expect(seconds('<13>Jan  1 01:00:01 h t: x', newYear, 60)).toBe(Date.UTC(2026, 0, 1, 0, 0, 1) / 1000)
  })
})

describe('the path of a log file', () => {
  it.each([
    [
      '/var/log/pods/shop_web-1_0b9b1c62-5b0e-4d0f-8f5e-2f3c7f3c7a11/istio-proxy/0.log',
      { namespace: 'shop', pod: 'web-1', container: 'istio-proxy' },
    ],
    [
      '/var/log/pods/shop_web-1_0b9b1c62-5b0e-4d0f-8f5e-2f3c7f3c7a11/istio-proxy/0.log.20260101-000000.gz',
      { namespace: 'shop', pod: 'web-1', container: 'istio-proxy' },
    ],
    [
      `/var/log/containers/web-1_shop_istio-proxy-${'0'.repeat(64)}.log`,
      { namespace: 'shop', pod: 'web-1', container: 'istio-proxy' },
    ],
    ['/var/log/envoy/access.log', null],
  ])('%s', (path, hints) => {
    expect(hintsOfPath(path)).toEqual(hints)
  })
})
