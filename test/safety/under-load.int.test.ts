import { spawn } from 'node:child_process'
import { copyFileSync, renameSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { hashToken, makeToken } from '../../src/lib/tokens.ts'
import { type Certificates, makeCertificates } from '../support/certificates.ts'
import { dialTls, type SafeSidecast, startSafeSidecast } from '../support/safe-sidecast.ts'
import { waitUntil } from '../support/wait.ts'

// One process, load over gRPC with TLS, client certificates and tokens; meanwhile everything that may change does.

const RATE = 20_000
/** Of a machine that may be busy. */
const WAITS = { timeout: 60_000, interval: 100 }
const READ = makeToken()
const SEND = makeToken()
const ADMIN = makeToken()
const TOKENS = [
  { name: 'page', hash: hashToken(READ), scopes: ['read'] },
  { name: 'mesh', hash: hashToken(SEND), scopes: ['ingest'] },
  { name: 'operator', hash: hashToken(ADMIN), scopes: ['admin'] },
]
const LOAD = new URL('../../bench/support/load.ts', import.meta.url).pathname

let certificates: Certificates
let sidecast: SafeSidecast
let sent = 0

beforeAll(async () => {
  certificates = makeCertificates()
  copyFileSync(certificates.path('server.pem'), certificates.path('live.pem'))
  copyFileSync(certificates.path('server.key'), certificates.path('live.key'))
  writeFileSync(certificates.path('token'), SEND)
  sidecast = await startSafeSidecast(certificates, {
    server: { cert: certificates.path('live.pem'), key: certificates.path('live.key') },
    more: { auth: { tokens: TOKENS } },
    token: READ,
  })
})
afterAll(async () => {
  await sidecast?.close()
  certificates?.remove()
})

/** Sends until it is told to stop, or for so many entries; resolves with how many were sent and all were answered for. */
function startLoad(seed: number, more: readonly string[] = []) {
  const { cert, key } = certificates.pair('client')
  const tls = ['--ca', certificates.ca, '--cert', cert, '--key', key, '--token', certificates.path('token')]
  const options = ['--to', sidecast.process.grpc, '--rate', String(RATE), '--streams', '4', '--seed', String(seed)]
  const child = spawn(process.execPath, [LOAD, ...options, ...tls, '--seconds', '600', ...more], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let out = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text
  })
  const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)))
  onTestFinished(() => void child.kill('SIGKILL'))
  return {
    /** Streams are half-closed, and answered once everything was read. */
    async stop(): Promise<number> {
      child.kill('SIGTERM')
      expect(await exited).toBe(0)
      return (JSON.parse(out) as { sent: number }).sent
    },
    exited,
  }
}

const ledger = async () => {
  const { body } = await sidecast.ask('/api/v1/ledger')
  const { rows } = JSON.parse(body) as {
    rows: { received: number; stored: number; rejected: number; unexplained: number }[]
  }
  const sum = (of: (row: (typeof rows)[number]) => number) => rows.reduce((all, row) => all + of(row), 0)
  return {
    received: sum(({ received }) => received),
    stored: sum(({ stored }) => stored),
    rejected: sum(({ rejected }) => rejected),
    unexplained: sum(({ unexplained }) => unexplained),
  }
}

const reload = () => sidecast.ask('/-/reload', { method: 'POST', token: ADMIN })
const grpc = (figure: string) => sidecast.metric(`sidecast_grpc_${figure}`)

test('certificates replaced under load: nobody is cut off, new connections get the new one, 0 lost', async () => {
  const load = startLoad(1)
  await waitUntil(async () => (await grpc('messages_total')) > 100, WAITS)
  expect((await dialTls(sidecast.process.grpc, certificates, { as: 'client', alpn: ['h2'] })).server).toBe('server')
  const replace = (from: string, to: string): void => {
    copyFileSync(certificates.path(from), certificates.path(`${to}.next`))
    renameSync(certificates.path(`${to}.next`), certificates.path(to))
  }
  replace('renewed.pem', 'live.pem')
  // Between the two files nothing fits. A reload looks at them at once.
  expect((await reload()).status).toBe(200)
  expect(await sidecast.metric('sidecast_tls_files_usable', { listener: 'grpc' })).toBe(0)
  expect((await dialTls(sidecast.process.grpc, certificates, { as: 'client', alpn: ['h2'] })).server).toBe('server')
  replace('renewed.key', 'live.key')
  // Now by itself.
  const renewed = () => sidecast.metric('sidecast_tls_renewed_total', { listener: 'grpc' })
  await waitUntil(async () => (await renewed()) === 1, WAITS)
  expect((await dialTls(sidecast.process.grpc, certificates, { as: 'client', alpn: ['h2'] })).server).toBe('renewed')
  expect(await sidecast.metric('sidecast_tls_files_usable', { listener: 'grpc' })).toBe(1)
  const opened = await grpc('streams_opened_total')
  const second = startLoad(2, ['--node', '100'])
  await waitUntil(async () => (await grpc('streams_opened_total')) === opened + 4, {
    timeout: 60_000,
    interval: 100,
  })
  await sleep(500)
  sent += (await load.stop()) + (await second.stop())
  await waitUntil(async () => (await ledger()).stored === sent, WAITS)
  expect(await ledger()).toEqual({ received: sent, stored: sent, rejected: 0, unexplained: 0 })
  expect([await grpc('streams_cut_total'), await grpc('connections_failed_total')]).toEqual([0, 0])
})

test('reloads under load: taken as a difference or refused whole, no listener closed, 0 lost', async () => {
  const { pid, grpc: address } = sidecast.process
  const load = startLoad(3, ['--node', '200'])
  const before = await grpc('messages_total')
  await waitUntil(async () => (await grpc('messages_total')) > before + 100, WAITS)
  const later = makeToken()
  const tokens = [...TOKENS, { name: 'later', hash: hashToken(later), scopes: ['read'] }]
  const parts = {
    auth: { tokens },
    limits: { sender: { connections: 500 } },
    redaction: { query: 'all' },
    retention: { rows: '14d' },
  }

  // With what cannot change: refused whole, by name.
  sidecast.configure({ ...parts, rollup: { keysMax: 1234 } })
  const refused = await reload()
  expect(refused.status).toBe(422)
  expect(JSON.parse(refused.body)).toMatchObject({
    code: 'reload_refused',
    reasons: [{ reason: 'rollup.keysMax 50000 → 1234: takes a restart' }],
  })
  const status = async () => (JSON.parse((await sidecast.ask('/api/v1/status')).body) as { config: object }).config
  expect(await status()).toMatchObject({ reloads_refused: 1, last_reload: { taken: false } })
  expect(await sidecast.metric('sidecast_config_last_reload_successful')).toBe(0)
  expect((await sidecast.ask('/api/v1/status', { token: later })).status).toBe(401)

  // A file that is wrong: as visible, by signal too.
  sidecast.configure({ ...parts, retention: { rows: 'long' } })
  process.kill(pid, 'SIGHUP')
  await waitUntil(
    async () => (await sidecast.metric('sidecast_config_reloads_total', { result: 'refused' })) === 2,
    WAITS,
  )
  expect(await status()).toMatchObject({
    last_reload: { trigger: 'signal', reasons: [expect.stringContaining('retention.rows')] },
  })

  // What can change does.
  sidecast.configure(parts)
  const done = await reload()
  expect(done.status).toBe(200)
  expect((JSON.parse(done.body) as { changes: string[] }).changes.sort()).toEqual([
    'auth.tokens changed, 3 → 4 entries',
    'limits.sender.connections 2000 → 500',
    'redaction.query values → all',
    'retention.rows 7d → 14d',
  ])
  expect(await sidecast.metric('sidecast_config_last_reload_successful')).toBe(1)
  expect((await sidecast.ask('/api/v1/status', { token: later })).status).toBe(200)

  // And back again, several times.
  for (let k = 0; k < 5; k++) {
    sidecast.configure(k % 2 === 0 ? { auth: { tokens: TOKENS }, retention: parts.retention } : parts)
    process.kill(pid, 'SIGHUP')
    await waitUntil(
      async () => (await sidecast.metric('sidecast_config_reloads_total', { result: 'taken' })) === 3 + k,
      WAITS,
    )
  }
  sent += await load.stop()
  await waitUntil(async () => (await ledger()).stored === sent, WAITS)
  expect(await ledger()).toEqual({ received: sent, stored: sent, rejected: 0, unexplained: 0 })
  expect(sidecast.process.grpc).toBe(address)
  expect([await grpc('streams_cut_total'), await grpc('connections_failed_total')]).toEqual([0, 0])
})

test('a token that is withdrawn ends its streams, and lets no new one in', async () => {
  const load = startLoad(4, ['--report', '--node', '300'])
  const before = await grpc('messages_total')
  await waitUntil(async () => (await grpc('messages_total')) > before + 10, WAITS)
  sidecast.configure({ auth: { tokens: TOKENS.filter(({ name }) => name !== 'mesh') } })
  expect((await reload()).status).toBe(200)
  await load.exited
  await waitUntil(async () => (await grpc('streams_open')) === 0, WAITS)
  const again = startLoad(5, ['--report'])
  await again.exited
  expect(await grpc('streams_unauthorized_total')).toBeGreaterThan(0)
})
