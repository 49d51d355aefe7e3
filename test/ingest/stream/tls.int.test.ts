import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { createOrigins } from '../../../src/ingest/entry/origins.ts'
import { createPreset } from '../../../src/ingest/lines/presets/index.ts'
import { openScrape, type ScrapeConfig } from '../../../src/ingest/scrape/open.ts'
import { createStreamListener } from '../../../src/ingest/stream/listener.ts'
import { createSyslogReceiver } from '../../../src/ingest/syslog/receiver.ts'
import { type Access, openAccess } from '../../../src/lib/access.ts'
import type { ServerTlsConfig } from '../../../src/lib/tls.ts'
import { createTlsGuard } from '../../../src/lib/tls-guard.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { createWriting } from '../../support/entry-writing.ts'
import { createManualGate } from '../../support/manual-gate.ts'
import { recordMetrics } from '../../support/metric-recorder.ts'
import { waitUntil } from '../../support/wait.ts'

// Certificates are made by openssl, which is why these are not unit tests.

let dir = ''
const path = (name: string): string => join(dir, name)

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'sidecast-tls-'))
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' })
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
  openssl('req', '-x509', ...curve, '-subj', '/CN=authority', '-keyout', 'ca.key', '-out', 'ca.pem')
  for (const name of ['server', 'renewed', 'client']) {
    openssl(
      'req',
      ...curve,
      '-subj',
      `/CN=${name}`,
      '-addext',
      'subjectAltName=DNS:localhost,IP:127.0.0.1',
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.csr`,
    )
    openssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-days',
      '2',
      '-copy_extensions',
      'copy',
      '-out',
      `${name}.pem`,
    )
  }
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

function dial(address: string, options: object = {}): Promise<TLSSocket> {
  const [host, port] = address.split(':')
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: Number(port), ca: readFileSync(path('ca.pem')), ...options }, () =>
      resolve(socket),
    )
    socket.on('error', reject)
    onTestFinished(() => void socket.destroy())
  })
}

function secure(config: ServerTlsConfig): Access {
  return {
    ...openAccess(),
    tls: createTlsGuard({ name: 'test', config, option: 'test.listen', log: silentLog, everyMs: 10 }),
  }
}

describe('syslog over TLS (RFC 5425)', () => {
  async function start(clientCa: string) {
    const writing = createWriting()
    const receiver = createSyslogReceiver({
      udp: '',
      tcp: '',
      tls: '127.0.0.1:0',
      access: { tcp: openAccess(), tls: secure({ cert: path('server.pem'), key: path('server.key'), clientCa }) },
      createParser: () => createPreset('auto')!,
      writer: writing.writer,
      origins: createOrigins(),
      node: '',
      gate: createManualGate(),
      log: silentLog,
    })
    await receiver.start()
    onTestFinished(() => receiver.stop(AbortSignal.timeout(1000)))
    return { receiver, writing }
  }
  const line =
    '<190>1 2026-11-21T11:59:59Z web-1 nginx - - - 10.0.0.9 - - [21/Nov/2026:11:59:58 +0000] "GET /a HTTP/1.1" 200 612 "-" "x"'

  test('octet-counted messages become rows', async () => {
    const { receiver, writing } = await start('')
    const socket = await dial(receiver.addresses.tls!)
    socket.write(`${line.length} ${line}`.repeat(3))
    await waitUntil(() => receiver.counters.rows === 3)
    expect(writing.take().requests[0]).toMatchObject({ path: '/a', node_id: 'web-1' })
  })

  test('clients need a certificate where an authority is named', async () => {
    const { receiver } = await start(path('ca.pem'))
    const known = await dial(receiver.addresses.tls!, {
      cert: readFileSync(path('client.pem')),
      key: readFileSync(path('client.key')),
    })
    known.write(`${line}\n`)
    await waitUntil(() => receiver.counters.rows === 1)
    const stranger = await dial(receiver.addresses.tls!)
    const closed = new Promise((resolve) => stranger.on('close', resolve))
    stranger.removeAllListeners('error').on('error', () => {})
    stranger.write(`${line}\n`)
    await closed
    expect(receiver.tls!.handshakes).toBe(1)
    expect(receiver.counters.rows).toBe(1)
  })
})

describe('a listener with TLS', () => {
  test('reads certificates again when they are renewed, and keeps the old ones when they are broken', async () => {
    copyFileSync(path('server.pem'), path('live.pem'))
    copyFileSync(path('server.key'), path('live.key'))
    const listener = createStreamListener({
      name: 'test',
      listen: '127.0.0.1:0',
      option: 'test.listen',
      access: secure({ cert: path('live.pem'), key: path('live.key'), clientCa: '' }),
      open: () => ({ onChunk: async () => true, onEnd: async () => {}, holds: false }),
      log: silentLog,
    })
    await listener.start()
    onTestFinished(() => listener.stop(AbortSignal.timeout(500)))
    const nameOf = async () => (await dial(listener.address)).getPeerCertificate().subject.CN
    expect(await nameOf()).toBe('server')
    copyFileSync(path('renewed.pem'), path('next.pem'))
    renameSync(path('next.pem'), path('live.pem'))
    await new Promise((resolve) => setTimeout(resolve, 50))
    // The key does not fit yet.
    expect(await nameOf()).toBe('server')
    copyFileSync(path('renewed.key'), path('live.key'))
    await waitUntil(async () => (await nameOf()) === 'renewed')
  })

  test('a certificate that is not there is told with its option', async () => {
    const listener = createStreamListener({
      name: 'test',
      listen: '127.0.0.1:0',
      option: 'test.listen',
      access: secure({ cert: path('none.pem'), key: path('server.key'), clientCa: '' }),
      open: () => ({ onChunk: async () => true, onEnd: async () => {}, holds: false }),
      log: silentLog,
    })
    await expect(listener.start()).rejects.toThrow(/test\.listen: .*none\.pem cannot be read: ENOENT/)
    await listener.stop(AbortSignal.timeout(100))
  })
})

describe('scraping over TLS', () => {
  const CONFIG: ScrapeConfig = {
    job: 'envoy-scrape',
    targets: [],
    files: [],
    scheme: 'https',
    path: '/metrics',
    interval: '200ms',
    timeout: '200ms',
    labels: {},
    honorLabels: false,
    honorTimestamps: true,
    protobuf: false,
    nodeId: false,
    bodyMax: '1 MiB',
    samplesMax: 100,
    tls: { ca: '', cert: '', key: '', serverName: '', insecure: false },
    token: '',
    tokenFile: '',
    username: '',
    password: '',
  }

  test.each([
    [
      'an authority that is trusted, a certificate of ours',
      { ca: 'ca.pem', cert: 'client.pem', key: 'client.key' },
      {},
      null,
    ],
    [
      'the name that the certificate has',
      { ca: 'ca.pem', cert: 'client.pem', key: 'client.key' },
      { serverName: 'localhost' },
      null,
    ],
    ['a name that it has not', { ca: 'ca.pem', cert: 'client.pem', key: 'client.key' }, { serverName: 'other' }, 'tls'],
    ['an authority that is not trusted', { cert: 'client.pem', key: 'client.key' }, {}, 'tls'],
    ['any certificate', { cert: 'client.pem', key: 'client.key' }, { insecure: true }, null],
  ])('%s', async (_, files, more, failure) => {
    const server = createServer(
      {
        cert: readFileSync(path('server.pem')),
        key: readFileSync(path('server.key')),
        ca: readFileSync(path('ca.pem')),
        requestCert: true,
        rejectUnauthorized: true,
      },
      (_, response) => response.writeHead(200, { 'content-type': 'text/plain' }).end('a 1\n'),
    )
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => {
      server.closeAllConnections()
      server.close()
    })
    const paths = Object.fromEntries(Object.entries(files).map(([key, name]) => [key, path(name)]))
    const store = recordMetrics()
    const target = `127.0.0.1:${(server.address() as AddressInfo).port}`
    const receiver = openScrape([{ ...CONFIG, targets: [target], tls: { ...CONFIG.tls, ...paths, ...more } }], {
      store,
      gate: { closed: false },
      log: silentLog,
      userAgent: 'test',
    })
    await receiver.start()
    onTestFinished(() => receiver.stop(AbortSignal.timeout(500)))
    if (failure === null) await waitUntil(() => store.last('a')?.value === 1, { timeout: 60_000 })
    else await waitUntil(() => receiver.counters.failed.has(failure as 'tls'), { timeout: 60_000 })
    expect(store.last('up')).toMatchObject({ value: failure === null ? 1 : 0 })
  })
})
