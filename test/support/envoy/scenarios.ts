import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { connect } from 'node:http2'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type Call,
  type Http1Options,
  type Http2Options,
  http1,
  http2,
  marks,
  type RawOptions,
  raw,
  type Seen,
} from './clients.ts'
import { type RigPorts, setOverload } from './rig.ts'

/**
 * Every fault that a proxy can be made to have on loopback, by name; the name is the response flag where there is one.
 * All expectations were seen on the wire of the pinned Envoy.
 */
export interface Scenario {
  readonly name: string
  run(call: Call): Promise<readonly Seen[]>
  /** Codes the client sees, null for none. */
  readonly client: readonly (number | null)[]
  /** Entries Envoy logs, in any order; null where their number depends on time. */
  readonly log: readonly Expected[] | null
  /** The same for every run but the first, where that differs. */
  readonly again?: Pick<Scenario, 'client' | 'log'>
  /** Entries are found by the scenario header, or, where Envoy cannot know it, by the client's port. */
  readonly join: 'header' | 'port'
  /** Changes the whole Envoy while it runs: nothing else may run beside it. */
  readonly alone: boolean
  /** How often it comes in a random mix. */
  readonly weight: number
}

/** Type, code, flags (any order) and details of one entry; '*' stands for anything. */
export interface Expected {
  readonly type: string
  readonly code: number
  readonly flags: string
  readonly details: string
}

type Run = (call: Call) => Promise<Seen | readonly Seen[]>
type Options = Partial<Pick<Scenario, 'again' | 'join' | 'alone' | 'weight'>>

function scenario(
  name: string,
  run: Run,
  client: number | null | readonly (number | null)[],
  log: Expected | readonly Expected[] | null,
  options: Options = {},
): Scenario {
  return {
    name,
    run: async (call) => [await run(call)].flat(),
    client: [client].flat(),
    log: log === null ? null : [log].flat(),
    join: 'header',
    alone: false,
    weight: 1,
    ...options,
  }
}

function entry(code: number, flags = '-', details = 'via_upstream', type = 'DownstreamEnd'): Expected {
  return { type, code, flags, details }
}

const get =
  (path: string, options?: Http1Options): Run =>
  (call) =>
    http1(call, path, options)
const at =
  (port: keyof RigPorts, path: string, options?: Http1Options): Run =>
  (call) =>
    http1(call, path, { ...options, port: call.ports[port] })
const h2 =
  (path: string, options?: Http2Options): Run =>
  (call) =>
    http2(call, path, options)
const bytes =
  (port: keyof RigPorts, text: string | ((call: Call) => string), options?: RawOptions): Run =>
  (call) =>
    raw(call, call.ports[port], typeof text === 'string' ? text : text(call), options)

const grpc: Http2Options = {
  headers: { 'content-type': 'application/grpc', te: 'trailers' },
  body: Buffer.from([0, 0, 0, 0, 0]),
}
const byPort: Options = { join: 'port' }
const ok = entry(200)
/** Answers without a fault are most of a mix, as they are of real traffic. */
const often: Options = { weight: 12 }

export const SCENARIOS: readonly Scenario[] = [
  // answers of the service
  scenario('ok', get('/api/ok?q=1'), 200, ok, often),
  scenario('ok-delay', get('/api/delay/120'), 200, ok, often),
  scenario('ok-body', get('/api/body/100000'), 200, ok, often),
  scenario('ok-drip', get('/api/drip/5/40/100'), 200, ok, often),
  scenario('ok-post', get('/api/echo', { method: 'POST', body: 'x'.repeat(5000) }), 200, ok, often),
  scenario('ok-head', get('/api/ok', { method: 'HEAD' }), 200, ok, often),
  scenario('ok-h2', h2('/h2/ok'), 200, ok, often),
  scenario('ok-weighted', get('/weighted/ok'), 200, ok, often),
  scenario('method-other', get('/api/ok', { method: 'PROPFIND' }), 200, ok),
  scenario(
    'odd-text',
    get('/api/ok?q=%22quoted%22', {
      headers: {
        'user-agent': 'a "b" c \\ d\u00e9',
        'x-forwarded-for': '203.0.113.9, 10.0.0.1',
        referer: 'http://ref.test/',
      },
    }),
    200,
    ok,
  ),
  scenario('upstream-404', get('/api/status/404'), 404, entry(404)),
  scenario('upstream-500', get('/api/status/500'), 500, entry(500)),
  scenario('upstream-503', get('/api/status/503'), 503, entry(503)),
  scenario('grpc-ok', h2('/demo.Greeter/Status0', grpc), 200, ok, often),
  scenario('grpc-14', h2('/demo.Greeter/Status14', grpc), 200, ok),
  scenario('grpc-only-5', h2('/demo.Greeter/Only5', grpc), 200, ok),
  scenario('grpc-retry', h2('/retry.Greeter/Only14', grpc), 200, entry(200, 'URX')),
  scenario('second-ok', at('second', '/api/delay/30'), 200, ok),
  scenario('retry-ok', get('/retry-ok'), 200, ok),

  // local replies
  scenario('direct', get('/direct'), 200, entry(200, '-', 'direct_response')),
  scenario('teapot', get('/teapot'), 418, entry(418, '-', 'direct_response')),
  scenario('redirect', get('/redirect'), 301, entry(301, '-', 'direct_response')),
  scenario('NR', get('/nowhere'), 404, entry(404, 'NR', 'route_not_found')),
  scenario(
    'NC',
    get('/nc', { headers: { 'x-cluster': 'no-such-cluster' } }),
    503,
    entry(503, 'NC', 'cluster_not_found'),
  ),
  scenario('LH', failHealthCheck, 503, entry(503, 'LH', '*'), { alone: true }),
  scenario('LH-ok', get('/healthz'), 200, entry(200, '-', '*')),
  scenario(
    'RL',
    async (call) => [await http1(call, '/rl'), await http1(call, '/rl')],
    [200, 429],
    [entry(200, '-', 'direct_response'), entry(429, 'RL', 'local_rate_limited')],
    {
      again: {
        client: [429, 429],
        log: [entry(429, 'RL', 'local_rate_limited'), entry(429, 'RL', 'local_rate_limited')],
      },
    },
  ),
  scenario('RLSE', get('/rlse'), 500, entry(500, 'RLSE', '*')),
  scenario(
    'FI',
    get('/fault', { headers: { 'x-envoy-fault-abort-request': '418' } }),
    418,
    entry(418, 'FI', 'fault_filter_abort'),
  ),
  scenario('DI', get('/fault', { headers: { 'x-envoy-fault-delay-request': '150' } }), 200, entry(200, 'DI')),
  scenario(
    'DI-FI',
    get('/fault', { headers: { 'x-envoy-fault-delay-request': '100', 'x-envoy-fault-abort-request': '503' } }),
    503,
    entry(503, 'DI,FI', 'fault_filter_abort'),
  ),
  scenario('UAEX', get('/uaex'), 403, entry(403, 'UAEX', 'ext_authz_denied')),
  scenario('UAEX-allowed', get('/uaex', { headers: { 'x-allow': '1' } }), 200, ok),
  scenario('UAEX-error', get('/uaex-error'), 403, entry(403, 'UAEX', 'ext_authz_error')),
  scenario('NFCF', at('nfcf', '/'), 500, entry(500, 'NFCF', '*')),
  scenario('RFCF', cacheTwice, [200, 200], [ok, entry(200, 'RFCF', '*')]),
  scenario('maintenance', get('/maintenance'), 503, entry(503, 'UO', '*')),
  scenario('UDO', get('/udo'), 503, entry(503, 'UDO', '*')),
  scenario('DO', get('/do'), 503, entry(503, 'DO', '*')),
  scenario('overload', rejectNewRequests, 503, entry(503, '-', 'overload'), { alone: true }),

  // the upstream cannot be reached, or breaks
  scenario('UF', get('/uf'), 503, entry(503, 'UF', '*')),
  scenario('UF-retry', get('/uf-retry'), 503, entry(503, 'UF,URX', '*')),
  scenario('UH', get('/uh'), 503, entry(503, 'UH', 'no_healthy_upstream')),
  scenario('UO-pending', get('/uo-pending'), 503, entry(503, 'UO', '*')),
  scenario('UO-requests', get('/uo-requests'), 503, entry(503, 'UO', '*')),
  scenario('UO-connections', overflowConnections, [200, 200, 503], [ok, ok, entry(503, 'UO', '*')], { alone: true }),
  scenario('DF', get('/df'), 503, entry(503, 'DF', '*')),
  scenario('URX', get('/urx'), 503, entry(503, 'URX')),
  scenario('UC', get('/uc'), 503, entry(503, 'UC', '*')),
  scenario('UC-rst', get('/uc-rst'), 503, entry(503, 'UC', '*')),
  scenario('UC-h2', get('/uc-h2'), 503, entry(503, 'UC', '*')),
  scenario('UC-h2-mid', get('/uc-h2-mid'), 200, entry(200, 'UC', '*')),
  scenario('UR', get('/ur'), 503, entry(503, 'UR', '*')),
  scenario('UR-refused', get('/ur-refused'), 503, entry(503, 'UR', '*')),
  scenario('UR-mid', get('/ur-mid'), 200, entry(200, 'UR', '*')),
  scenario('UPE', get('/upe'), 502, entry(502, 'UPE', '*')),
  scenario('UPE-mid', get('/uc-mid'), 200, entry(200, 'UPE', '*')),
  scenario('UPE-mid-rst', get('/uc-mid-rst'), 200, entry(200, 'UPE', '*')),
  scenario('big-headers-h1', get('/api/big-headers/90000'), 502, entry(502, 'UPE', '*')),

  // time-outs
  scenario('UT', get('/ut'), 504, entry(504, 'UT', 'response_timeout')),
  scenario('UT-mid', get('/ut-mid'), 200, entry(200, 'UT', 'response_timeout')),
  scenario('UT-try', get('/ut-try'), 504, entry(504, 'UT,URX', 'upstream_per_try_timeout')),
  scenario('UMSDR', get('/umsdr'), 504, entry(504, 'UMSDR', '*')),
  scenario('UMSDR-mid', get('/umsdr-mid'), 200, entry(200, 'UMSDR', '*')),
  scenario('max-duration', get('/dt'), 504, entry(504, '-', 'max_duration_timeout')),
  scenario('max-duration-mid', get('/dt-mid'), 200, entry(200, '-', 'max_duration_timeout')),
  scenario('SI', get('/si'), 504, entry(504, 'SI', '*')),
  scenario('SI-upload', get('/si-upload', { method: 'POST', body: 'stall' }), 408, entry(408, 'SI', '*')),
  scenario('SI-mid', get('/si-mid'), 200, entry(200, 'SI', '*')),
  scenario(
    'request-timeout',
    at('second', '/api/echo', { method: 'POST', body: 'stall' }),
    408,
    entry(408, '-', 'request_overall_timeout'),
  ),
  scenario(
    'headers-timeout',
    bytes('second', 'GET /api/ok HTTP/1.1\r\nHost: x\r\n', { holdMs: 1500 }),
    408,
    entry(408, '-', 'request_header_timeout'),
    byPort,
  ),

  // the client leaves, or sends what cannot be read
  scenario('DC', get('/api/delay/600', { abortMs: 150 }), null, entry(0, 'DC', 'downstream_remote_disconnect')),
  scenario(
    'DC-mid',
    get('/api/drip/10/50/1000', { abortOnData: true }),
    200,
    entry(200, 'DC', 'downstream_remote_disconnect'),
  ),
  scenario('DC-h2', h2('/h2/delay/600', { closeMs: 150 }), null, entry(0, 'DC', '*')),
  scenario('DR', h2('/h2/delay/600', { resetMs: 150 }), null, entry(0, 'DR', '*')),
  scenario('DPE', bytes('main', 'NOT A REQUEST\r\n\r\n'), 400, entry(400, 'DPE', '*'), byPort),
  scenario(
    'DPE-length',
    bytes('main', 'POST /api/echo HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n'),
    400,
    entry(400, 'DPE', '*'),
    byPort,
  ),
  scenario(
    'bad-path',
    bytes('main', 'GET * HTTP/1.1\r\nHost: x\r\n\r\n'),
    400,
    entry(400, 'DPE', 'http1.invalid_url'),
    byPort,
  ),
  scenario(
    'no-host',
    bytes('main', 'GET /api/ok HTTP/1.1\r\n\r\n'),
    400,
    entry(400, '-', 'missing_host_header'),
    byPort,
  ),
  scenario('http10', bytes('main', 'GET /api/ok HTTP/1.0\r\n\r\n'), 426, entry(426, 'DPE', 'low_version'), byPort),
  scenario(
    'headers-too-large',
    get('/api/ok', { headers: { 'x-big': 'a'.repeat(70_000) } }),
    431,
    entry(431, 'DPE', 'http1.headers_too_large'),
    byPort,
  ),
  scenario(
    'IH',
    get('/api/ok', { headers: { 'x-forwarded-for': '10.0.0.1', 'x-envoy-upstream-rq-timeout-ms': 'soon' } }),
    400,
    entry(400, 'IH', '*'),
  ),
  scenario('OM', stallUnderPressure, 200, entry(200, 'OM', '*'), { alone: true }),

  // TLS, TCP, and entries that are not requests
  scenario('tls', overTls, 200, ok),
  scenario('tls-plain', bytes('tls', 'GET / HTTP/1.1\r\n\r\n'), null, entry(0, '*', '*', 'NotSet'), byPort),
  scenario('periodic', at('periodic', '/api/drip/10/100/50'), 200, null),
  scenario('periodic-retry', at('periodic', '/api/flaky/2'), 200, null),
  scenario('websocket', bytes('periodic', upgrade, { holdMs: 500 }), 101, null, byPort),
  scenario('tcp', bytes('tcp', 'hello', { holdMs: 120 }), null, null, byPort),
  scenario('tcp-rst', bytes('tcp', 'hello', { holdMs: 120, reset: true }), null, null, byPort),
  scenario('tcp-idle', bytes('tcp', 'hello', { holdMs: 5000 }), null, null, byPort),
  scenario('tcp-periodic', bytes('tcpPeriodic', 'hello', { holdMs: 3000, everyMs: 100 }), null, null, byPort),
  scenario('tcp-refused', bytes('tcpRefused', 'hello', { holdMs: 500 }), null, null, byPort),
  scenario('tcp-empty', bytes('tcpEmpty', 'hello', { holdMs: 500 }), null, null, byPort),
]

/** One connection and one pending request are allowed: the third request of a connection overflows. */
async function overflowConnections(call: Call): Promise<Seen[]> {
  const session = connect(`http://127.0.0.1:${call.ports.main}`)
  session.on('error', ignore)
  const one = () =>
    new Promise<Seen>((resolve) => {
      const seen: Seen = { seq: call.seq, code: null, bytes: 0, ms: 0 }
      const stream = session.request({ ':path': '/uo-connections', ...marks(call, { requestId: randomUUID() }) })
      stream.on('error', ignore)
      stream.on('response', (response) => {
        seen.code = response[':status'] ?? null
      })
      stream.on('close', () => resolve(seen))
      stream.resume()
    })
  const all = await Promise.all([one(), sleep(80).then(one), sleep(160).then(one)])
  session.destroy()
  return all
}

async function failHealthCheck(call: Call): Promise<Seen> {
  const admin = (action: string) =>
    fetch(`http://127.0.0.1:${call.ports.admin}/healthcheck/${action}`, { method: 'POST' })
  await admin('fail')
  try {
    return await http1(call, '/healthz')
  } finally {
    await admin('ok')
  }
}

async function rejectNewRequests(call: Call): Promise<Seen> {
  await setOverload(call.dir, 'overload', 1)
  await sleep(400)
  try {
    return await http1(call, '/api/ok')
  } finally {
    await setOverload(call.dir, 'overload', 0)
    await sleep(400)
  }
}

/** A client that does not read, then memory pressure: Envoy resets the stream it buffers most for. */
async function stallUnderPressure(call: Call): Promise<Seen> {
  const session = connect(`http://127.0.0.1:${call.ports.main}`)
  session.on('error', ignore)
  const seen: Seen = { seq: call.seq, code: null, bytes: 0, ms: 0 }
  const stream = session.request({ ':path': '/h2/body/8000000', ...marks(call, { requestId: randomUUID() }) })
  stream.on('response', (response) => {
    seen.code = response[':status'] ?? null
  })
  stream.on('error', (error: NodeJS.ErrnoException) => {
    seen.error = error.code ?? error.message
  })
  const closed = new Promise((resolve) => stream.on('close', resolve))
  const pressure = setTimeout(() => void setOverload(call.dir, 'memory', 1), 200)
  const giveUp = setTimeout(() => stream.close(), 1500)
  await closed
  clearTimeout(pressure)
  clearTimeout(giveUp)
  session.destroy()
  await setOverload(call.dir, 'memory', 0)
  await sleep(400)
  return seen
}

async function cacheTwice(call: Call): Promise<Seen[]> {
  const path = `/cacheable?k=${randomUUID()}`
  const first = await http1(call, path, { port: call.ports.cache })
  await sleep(50)
  return [first, await http1(call, path, { port: call.ports.cache })]
}

async function overTls(call: Call): Promise<Seen> {
  const read = (name: string) => readFile(join(call.dir, name))
  const [ca, cert, key] = await Promise.all([read('server.crt'), read('client.crt'), read('client.key')])
  return http2(call, '/h2/ok', { port: call.ports.tls, secure: { ca, cert, key } })
}

function upgrade(call: Call): string {
  const headers = marks(call, { requestId: randomUUID() })
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  return `GET /api/ws HTTP/1.1\r\nHost: x\r\n${lines.join('')}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`
}

function ignore(): void {}
