import { describe, expect, onTestFinished, test } from 'vitest'
import { openAccess } from '../../src/lib/access.ts'
import { createTokens, hashToken, makeToken, SCOPES, type Scope } from '../../src/lib/tokens.ts'
import type { LogsPort, RemoteWritePort } from '../../src/query/ports.ts'
import { scopeOf } from '../../src/query/scopes.ts'
import { createTestServer } from '../support/query.ts'

const NOTHING = {
  query: () => Promise.reject(new Error('no store')),
  stream: () => [],
  ping: async () => false,
} as never

const TOKEN: Readonly<Record<Scope, string>> = { read: makeToken(), ingest: makeToken(), admin: makeToken() }
const tokens = () => createTokens(SCOPES.map((name) => ({ name, hash: hashToken(TOKEN[name]), scopes: [name] })))

function server() {
  const one = createTestServer(NOTHING, {
    access: { ...openAccess(), tokens: tokens() },
    logs: { take: async () => ({ accepted: 0, rejected: 0, errors: [] }), position: () => ({}) } as unknown as LogsPort,
    remoteWrite: { take: async () => ({ status: 204 }) } as unknown as RemoteWritePort,
    slos: { slos: () => [], documents: { put: () => Promise.reject(new Error()), remove: async () => {} } },
    alerts: {
      alerts: () => [],
      rules: () => [],
      alertmanagers: () => [],
      last: null,
      forMs: 0,
      generatorUrl: () => '',
    },
    reload: { run: async () => ({ taken: true, changes: [], reasons: [] }) },
  })
  onTestFinished(() => one.stop(AbortSignal.timeout(1000)))
  return one
}

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'

/** Every route there is, with what its token must allow. A new one has to be put here. */
async function routes(app: ReturnType<typeof server>['app']): Promise<[Method, string][]> {
  await app.ready()
  const paths = app.swagger().paths as Record<string, Record<string, unknown>>
  const documented = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method): [Method, string] => [method.toUpperCase() as Method, path]),
  )
  const hidden: [Method, string][] = [
    ['GET', '/openapi.json'],
    ['GET', '/'],
    ['GET', '/page.js'],
    ['GET', '/prometheus/api/v1/query'],
    ['POST', '/prometheus/api/v1/query'],
    ['POST', '/prometheus/api/v1/write'],
    ['GET', '/no/such/thing'],
    ['POST', '/no/such/thing'],
  ]
  return [...documented, ...hidden]
}

describe('tokens of the HTTP API', () => {
  test('every route but the two of orchestrators wants one, and each scope lets through its own', async () => {
    const { app } = server()
    const seen = new Map<string, string>()
    for (const [method, path] of await routes(app)) {
      const url = path.replace(/\{\w+\}/g, 'x')
      const ask = async (token?: string) => {
        const headers = { host: 'localhost', ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) }
        return (await app.inject({ method, url, headers })).statusCode
      }
      const open = (await ask()) !== 401
      const allowed = []
      for (const scope of SCOPES) if (![401, 403].includes(await ask(TOKEN[scope]))) allowed.push(scope)
      if (!open) expect(await ask(makeToken())).toBe(401)
      seen.set(`${method} ${path}`, open ? 'open' : allowed.join('+'))
    }
    const of = (what: string) => [...seen].filter(([, scope]) => scope === what).map(([route]) => route)
    expect(of('open').sort()).toEqual(['GET /healthz', 'GET /readyz'])
    expect(of('ingest').sort()).toEqual([
      'GET /ingest/v1/logs/position',
      'POST /ingest/v1/logs',
      'POST /prometheus/api/v1/write',
    ])
    expect(of('admin')).toContain('POST /-/reload')
    for (const [route, scope] of seen) {
      if (route.startsWith('GET /api/')) expect([route, scope]).toEqual([route, 'read'])
    }
    expect(of('')).toEqual([])
  })

  test('a browser is asked for one, and may give it as a password', async () => {
    const { app } = server()
    const refused = await app.inject({ url: '/metrics' })
    expect(refused.statusCode).toBe(401)
    expect(refused.headers['www-authenticate']).toMatch(/^Bearer realm="sidecast", Basic /)
    expect(refused.json()).toMatchObject({ code: 'unauthorized' })
    const authorization = `Basic ${Buffer.from(`me:${TOKEN.read}`).toString('base64')}`
    expect((await app.inject({ url: '/metrics', headers: { authorization } })).statusCode).toBe(200)
  })

  test.each([
    '//ingest/v1/logs',
    '/ingest/v1/logs/',
    '/INGEST/v1/logs',
    '/ingest/../ingest/v1/logs',
    '/%69ngest/v1/logs',
  ])('%s leads around nothing', async (url) => {
    const { app } = server()
    const code = async (token?: string) =>
      (
        await app.inject({
          method: 'POST',
          url,
          headers: { host: 'localhost', ...(token && { authorization: `Bearer ${token}` }) },
        })
      ).statusCode
    expect(await code()).toBe(401)
    expect([401, 403, 404]).toContain(await code(TOKEN.read))
  })

  test('what is not known needs admin to be changed', () => {
    expect([scopeOf('DELETE', '/api/v1/anything'), scopeOf('PATCH', ''), scopeOf('GET', '')]).toEqual([
      'admin',
      'admin',
      'read',
    ])
  })
})
