import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import { describe, expect, it, onTestFinished } from 'vitest'
import { SidecastError } from '../../src/errors.ts'
import type { QueryResult, QueryStore } from '../../src/model/query.ts'
import { PROBLEMS } from '../../src/query/problem.ts'
import type { QueryServerOptions } from '../../src/query/server.ts'
import { createAnswerChecker } from '../support/openapi.ts'
import { createTestServer, WELL } from '../support/query.ts'

const EMPTY: QueryResult<never> = { rows: [], rowsRead: 0, bytesRead: 0, elapsedMs: 0 }

/** A store for faults alone: what it answers is what the test says. */
function storeThat(answer: (signal: AbortSignal) => Promise<QueryResult<never>>): QueryStore {
  return {
    query: (_statement, { signal }) => answer(signal),
    // biome-ignore lint/correctness/useYield: there is no row to give.
    async *stream(_statement, { signal }) {
      await answer(signal)
    },
    ping: async () => true,
  }
}

const quiet = storeThat(async () => EMPTY)

function serve(store: QueryStore = quiet, options: Partial<QueryServerOptions> = {}) {
  const server = createTestServer(store, options)
  onTestFinished(() => server.stop(AbortSignal.abort()))
  return server
}

describe('a problem', () => {
  const refused: [string, string, string | undefined, string | undefined][] = [
    ['latency?form=-1h', 'unknown_parameter', 'form', 'did you mean from?'],
    ['status?x=1', 'unknown_parameter', 'x', 'it has no parameters'],
    ['latency?__proto__=1', 'unknown_parameter', '__proto__', undefined],
    ['latency?from=soon', 'bad_time', 'from', undefined],
    ['latency?from=now', 'bad_range', 'from', undefined],
    ['latency?view=some', 'bad_parameter', 'view', 'use one of auto, all, server, client'],
    ['latency?view=all&view=auto', 'bad_parameter', 'view', undefined],
    ['latency?phase=waiting', 'bad_parameter', 'phase', undefined],
    ['latency?unit=min', 'bad_parameter', 'unit', 'use one of ns, us, ms, s'],
    ['latency?q=99', 'bad_parameter', 'q', 'write 0.99 for p99'],
    ['latency?step=0s', 'bad_time', 'step', undefined],
    ['latency?step=1us', 'bad_parameter', 'step', undefined],
    ['latency?by=nothing', 'unknown_column', 'by', undefined],
    ['latency?bounds=all', 'bad_parameter', 'bounds', 'bounds are measure, loss and few'],
    ['latency?vs=yesterday', 'bad_time', 'vs', undefined],
    ['latency?where=x', 'bad_filter', 'where', undefined],
    ['latency?where=methd=GET', 'unknown_column', 'where', 'did you mean method?'],
    ['phases?slowest=0', 'bad_parameter', 'slowest', undefined],
    ['phases?slowest=2', 'bad_parameter', 'slowest', undefined],
    ['services?limit=0', 'bad_parameter', 'limit', undefined],
    ['services?limit=ten', 'bad_parameter', 'limit', undefined],
    ['services?sort=size', 'bad_parameter', 'sort', undefined],
    ['requests?limit=10001', 'bad_parameter', 'limit', undefined],
    ['requests?columns=time,nothing', 'unknown_column', 'columns', undefined],
    ['requests?columns=time,time', 'bad_parameter', 'columns', undefined],
    ['requests?cursor=abc', 'bad_cursor', 'cursor', undefined],
    ['ledger?by=table', 'bad_parameter', 'by', 'use one of node, adapter'],
  ]
  it('names the parameter, and what to do', async () => {
    const check = await createAnswerChecker(serve().app)
    for (const [question, code, parameter, help] of refused) {
      const problem = await check.get<Record<string, unknown>>(`/api/v1/${question}`, 400)
      expect(problem, question).toMatchObject({ code, parameter, status: 400, ...(help === undefined ? {} : { help }) })
      expect(problem.title).toBe(PROBLEMS[code as keyof typeof PROBLEMS][1])
    }
    expect(check.checked).toBe(refused.length)
  })

  it('says how many points are too many, and which step works', async () => {
    const check = await createAnswerChecker(serve().app)
    const problem = await check.get<Record<string, unknown>>('/api/v1/latency?from=-30d&step=1m', 422)
    expect(problem).toMatchObject({ code: 'too_many_points', parameter: 'step', points_max: 20_000 })
    const step = /at least (\w+)/.exec(String(problem.help))![1]
    await check.get(`/api/v1/latency?from=-30d&step=${step}`)
  })

  const faults: [string, unknown, number, string][] = [
    ['its memory is used up', engineError(241), 422, 'query_memory'],
    ['its time is over', engineError(159), 422, 'query_timeout'],
    ['it would read too many rows', engineError(158), 422, 'query_rows'],
    ['a pattern is not RE2', engineError(427), 400, 'bad_filter'],
    ['it refuses the statement', engineError(62), 500, 'internal'],
    [
      'it is not there',
      new SidecastError('SC4103', 'a query failed', {
        cause: Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }),
      }),
      503,
      'store_unavailable',
    ],
    ['something else fails', 'no error at all', 503, 'store_unavailable'],
  ]
  for (const [name, error, status, code] of faults) {
    it(`tells of the store that ${name}: ${code}`, async () => {
      const { app } = serve(storeThat(() => Promise.reject(error)))
      const answer = await app.inject('/api/v1/latency')
      expect([answer.statusCode, answer.headers['content-type']]).toEqual([
        status,
        'application/problem+json; charset=utf-8',
      ])
      expect(answer.json()).toMatchObject({ code, status })
      expect(answer.headers['retry-after']).toBe(status === 503 ? '2' : undefined)
      expect(answer.body).not.toMatch(/SELECT|ECONN|secret/)
    })
  }

  it('is a problem on every path and method', async () => {
    const { app } = serve(quiet, { web: async () => null })
    for (const [method, url, status, code] of [
      ['GET', '/nothing', 404, 'not_found'],
      ['GET', '/api/v1/nothing?x=1', 404, 'not_found'],
      ['GET', '/api/v1/latency/', 404, 'not_found'],
      ['GET', '/../../etc/passwd', 404, 'not_found'],
      ['POST', '/nothing', 404, 'not_found'],
      ['POST', '/api/v1/latency', 405, 'method_not_allowed'],
      ['DELETE', '/healthz', 405, 'method_not_allowed'],
      ['GET', '/%zz', 400, 'bad_parameter'],
    ] as const) {
      const answer = await app.inject({ method, url })
      expect([answer.statusCode, answer.json().code], `${method} ${url}`).toEqual([status, code])
      expect(answer.headers['content-type']).toBe('application/problem+json; charset=utf-8')
      if (status === 405) expect(answer.headers.allow).toBe('GET, HEAD')
    }
  })

  it('is told for bodies that are too large or of another type', async () => {
    const { app } = serve(quiet, { limits: { bodyBytesMax: 100 } })
    app.post('/echo', async () => ({}))
    const send = (payload: string, type: string) =>
      app.inject({ method: 'POST', url: '/echo', payload, headers: { 'content-type': type, host: 'localhost' } })
    expect((await send(`"${'x'.repeat(200)}"`, 'application/json')).json()).toMatchObject({
      status: 413,
      code: 'body_too_large',
    })
    expect((await send('x', 'image/png')).json()).toMatchObject({ status: 415, code: 'unsupported_media_type' })
    expect((await send('{', 'application/json')).json()).toMatchObject({ status: 400, code: 'bad_parameter' })
    expect((await send('{}', 'application/json')).statusCode).toBe(200)
  })
})

describe('every answer', () => {
  it('has the envelope and the time it took', async () => {
    const { app } = serve(quiet, {
      ledger: {
        through: () => Date.parse('2026-01-10T11:59:58.500Z'),
        coverage: () => ({ served: 10, lost: 1, filtered: 2, sampled: false }),
        precisionNs: () => 1,
        nodes: () => [],
        adapters: () => [],
        since: () => null,
      },
      clock: { now: () => Date.parse('2026-01-10T12:00:00Z'), sleep: () => Promise.resolve() },
    })
    for (const resource of ['latency', 'phases', 'services', 'routes', 'requests', 'ledger']) {
      const answer = await app.inject(`/api/v1/${resource}`)
      expect(answer.json(), resource).toMatchObject({
        as_of: '2026-01-10T12:00:00Z',
        through: '2026-01-10T11:59:58.500Z',
        coverage: { served: 10, stored: 0, lost: 1, filtered: 2, sampled: false, known: true },
      })
      expect(answer.headers['server-timing']).toMatch(
        /^queue;dur=[\d.]+, store;dur=[\d.]+;desc="\d+ statements, \d+ rows read", total;dur=[\d.]+$/,
      )
    }
    for (const resource of ['schema', 'status']) {
      expect(Object.keys((await app.inject(`/api/v1/${resource}`)).json())).toEqual(
        expect.arrayContaining(['as_of', 'through', 'coverage', 'precision_ns']),
      )
    }
  })

  it('says so when the ledger is not known', async () => {
    const answer = await serve().app.inject('/api/v1/latency')
    expect(answer.json().coverage).toEqual({
      served: null,
      stored: 0,
      lost: null,
      filtered: null,
      sampled: null,
      known: false,
    })
  })

  it('can be used by no other site', async () => {
    const { app } = serve()
    for (const url of ['/api/v1/schema', '/nothing', '/healthz', '/metrics', '/api/v1/latency?x=1']) {
      const { headers } = await app.inject({ url, headers: { origin: 'https://evil.example' } })
      expect(headers['content-security-policy']).toContain("default-src 'none'")
      expect(headers['x-content-type-options']).toBe('nosniff')
      expect(headers['cross-origin-resource-policy']).toBe('same-origin')
      expect(headers['access-control-allow-origin']).toBeUndefined()
    }
  })

  it('is documented', async () => {
    const { app } = serve()
    const check = await createAnswerChecker(app)
    for (const resource of [
      'schema',
      'ledger',
      'ledger?by=adapter',
      'status',
      'latency',
      'phases',
      'services',
      'routes',
      'requests',
    ]) {
      await check.get(`/api/v1/${resource}`)
    }
    await check.get('/healthz')
    await check.get('/readyz')
    const document = (await app.inject('/openapi.json')).json()
    expect(document.openapi).toMatch(/^3\.1/)
    for (const { get } of Object.values(document.paths) as {
      get: { operationId: string; summary: string; parameters?: { description: string }[] }
    }[]) {
      expect(get.operationId).toBeTruthy()
      expect(get.summary).toBeTruthy()
      for (const parameter of get.parameters ?? []) expect(parameter.description).toBeTruthy()
    }
  })
})

describe('writing', () => {
  const cases: [string, string, Record<string, string>, boolean][] = [
    ['a program', '127.0.0.1:0', { host: '127.0.0.1:8080' }, true],
    ['a program by name', '127.0.0.1:0', { host: 'localhost:8080' }, true],
    ['a program over IPv6', '[::1]:0', { host: '[::1]:8080' }, true],
    [
      'our own page',
      '127.0.0.1:0',
      { host: 'localhost:8080', origin: 'http://localhost:8080', 'sec-fetch-site': 'same-origin' },
      true,
    ],
    ['a page of another site', '127.0.0.1:0', { host: 'localhost:8080', origin: 'https://evil.example' }, false],
    ['a page of another port', '127.0.0.1:0', { host: 'localhost:8080', origin: 'http://localhost:3000' }, false],
    ['a page without an origin', '127.0.0.1:0', { host: 'localhost:8080', origin: 'null' }, false],
    ['a form of another site', '127.0.0.1:0', { host: 'localhost:8080', 'sec-fetch-site': 'cross-site' }, false],
    [
      'a name that was made to point here',
      '127.0.0.1:0',
      { host: 'evil.example:8080', origin: 'http://evil.example:8080', 'sec-fetch-site': 'same-origin' },
      false,
    ],
    ['such a name without an origin', '127.0.0.1:0', { host: 'evil.example:8080' }, false],
    ['a program in the cluster', '0.0.0.0:0', { host: 'sidecast.obs:8080' }, true],
    [
      'a page under a name that is not ours',
      '0.0.0.0:0',
      { host: 'evil.example', origin: 'http://evil.example' },
      false,
    ],
    [
      'our page under a name that is',
      '0.0.0.0:0',
      { host: 'sidecast.example', origin: 'https://sidecast.example' },
      true,
    ],
  ]
  for (const [name, listen, headers, allowed] of cases) {
    it(`is ${allowed ? 'open to' : 'refused to'} ${name}`, async () => {
      const { app } = serve(quiet, { listen, hostNames: ['Sidecast.example'] })
      app.post('/write', async () => ({ ok: true }))
      const answer = await app.inject({ method: 'POST', url: '/write', headers })
      expect(answer.statusCode).toBe(allowed ? 200 : 403)
      if (!allowed) expect(answer.json().code).toBe('forbidden_origin')
      expect((await app.inject({ url: '/healthz', headers })).statusCode).toBe(200)
    })
  }
})

describe('the process', () => {
  it('tells orchestrators how it is', async () => {
    const { app } = serve(quiet, {
      status: {
        ...WELL,
        unhealthy: () => ['stuck'],
        unready: async () => ['the store does not answer', 'the disk is full'],
      },
    })
    expect((await app.inject('/healthz')).statusCode).toBe(503)
    const ready = await app.inject('/readyz')
    expect([ready.statusCode, ready.json()]).toEqual([
      503,
      { status: 'failing', reasons: ['the store does not answer', 'the disk is full'] },
    ])
  })

  it('sends metrics on as they are made', async () => {
    const { app } = serve(quiet, {
      metrics: (accept) => ({ type: 'text/plain; version=0.0.4', body: `accept ${accept}` }),
      mesh: async () => ({ type: 'application/vnd.google.protobuf', body: new Uint8Array([1, 2, 255]) }),
    })
    expect((await app.inject({ url: '/metrics', headers: { accept: 'x/y' } })).body).toBe('accept x/y')
    const mesh = await app.inject('/metrics/mesh')
    expect([mesh.headers['content-type'], [...mesh.rawPayload]]).toEqual([
      'application/vnd.google.protobuf',
      [1, 2, 255],
    ])
  })

  it('packs metrics for who accepts it, however they are made', async () => {
    async function* parts() {
      yield Buffer.from('a '.repeat(1000))
      yield Buffer.from('b\n')
    }
    const { app } = serve(quiet, {
      metrics: () => ({ type: 'text/plain', body: 'sidecast_up 1\n' }),
      mesh: () => ({ type: 'text/plain', body: parts() }),
    })
    const get = (url: string, encoding: string) => app.inject({ url, headers: { 'accept-encoding': encoding } })
    for (const encoding of ['gzip', 'gzip, deflate', 'br;q=1.0, GZIP;q=0.5']) {
      const mesh = await get('/metrics/mesh', encoding)
      expect([mesh.headers['content-encoding'], mesh.headers['content-type']]).toEqual(['gzip', 'text/plain'])
      expect(gunzipSync(mesh.rawPayload).toString()).toBe(`${'a '.repeat(1000)}b\n`)
      expect(gunzipSync((await get('/metrics', encoding)).rawPayload).toString()).toBe('sidecast_up 1\n')
    }
    for (const encoding of ['', 'br', 'gzip;q=0']) {
      const plain = await get('/metrics', encoding)
      expect([plain.headers['content-encoding'], plain.body]).toEqual([undefined, 'sidecast_up 1\n'])
    }
  })
})

describe('starting and stopping', () => {
  it('says which address it got, and when it cannot have one', async () => {
    const server = serve()
    await server.start()
    expect(server.address).toMatch(/^127\.0\.0\.1:\d+$/)
    const second = serve(quiet, { listen: server.address })
    await expect(second.start()).rejects.toMatchObject({ code: 'SC4101' })
  })

  it('can be stopped before it starts, and twice', async () => {
    const server = serve()
    await server.stop(AbortSignal.timeout(1000))
    await server.stop(AbortSignal.timeout(1000))
  })

  it('lets questions end, and cuts them off at the deadline', async () => {
    const asked: AbortSignal[] = []
    const server = serve(
      storeThat(
        (signal) =>
          new Promise((resolve, reject) => {
            asked.push(signal)
            if (asked.length === 1) setTimeout(() => resolve(EMPTY), 100)
            signal.addEventListener('abort', () => reject(signal.reason), { once: true })
          }),
      ),
    )
    await server.start()
    const answer = fetch(`http://${server.address}/api/v1/requests?view=all`).catch(() => 'cut off')
    await expect.poll(() => asked.length).toBeGreaterThan(1)
    const began = performance.now()
    await server.stop(AbortSignal.timeout(150))
    expect(performance.now() - began).toBeLessThan(10_000)
    expect(asked.at(-1)!.aborted).toBe(true)
    await answer
  })

  it('cancels the work of a client that leaves', async () => {
    const asked: AbortSignal[] = []
    const server = serve(
      storeThat(
        (signal) =>
          new Promise((_, reject) => {
            asked.push(signal)
            signal.addEventListener('abort', () => reject(signal.reason), { once: true })
          }),
      ),
    )
    await server.start()
    const leaving = new AbortController()
    const answer = fetch(`http://${server.address}/api/v1/latency`, { signal: leaving.signal }).catch(() => 'left')
    await expect.poll(() => asked.length).toBe(1)
    expect(asked[0]!.aborted).toBe(false)
    leaving.abort()
    await answer
    await expect.poll(() => asked[0]!.aborted).toBe(true)
  })

  it('answers what is not HTTP, and headers that are too large', async () => {
    const server = serve()
    await server.start()
    const port = Number(server.address.split(':')[1])
    const send = async (text: string) => {
      const socket = connect(port, '127.0.0.1')
      let answer = ''
      socket.setEncoding('utf8').on('data', (chunk: string) => {
        answer += chunk
      })
      socket.on('error', () => {})
      socket.write(text)
      await Promise.race([new Promise((done) => socket.once('close', done)), sleep(3000)])
      socket.destroy()
      return answer
    }
    const nonsense = await send('\x16\x03\x01 hello\r\n\r\n')
    expect(nonsense).toMatch(/^HTTP\/1\.1 400 .*"code":"bad_parameter"/s)
    const large = await send(`GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(40_000)}\r\n\r\n`)
    expect(large).toMatch(/^HTTP\/1\.1 431 .*"status":431/s)
  })
})

/** As the adapter reports an exception of the engine. */
function engineError(code: number): SidecastError {
  const cause = Object.assign(new Error('secret: SELECT 1'), { code: String(code) })
  return new SidecastError('SC4103', 'a query failed: secret', { cause })
}
