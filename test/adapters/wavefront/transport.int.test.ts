import { writeFileSync } from 'node:fs'
import { Agent } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { openWavefront } from '../../../src/adapters/wavefront/open.ts'
import { createHttpTransport } from '../../../src/adapters/wavefront/transport-http.ts'
import { createTcpTransport } from '../../../src/adapters/wavefront/transport-tcp.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { clientTls } from '../../../src/lib/tls.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { type Certificates, makeCertificates } from '../../support/certificates.ts'
import { temporaryFolder } from '../../support/journal.ts'
import { openRequestsRig } from '../../support/requests-rig.ts'
import { wavefrontConfig } from '../../support/wavefront/config.ts'
import { startHttpTarget, startTcpTarget } from '../../support/wavefront/target.ts'

const never = new AbortController().signal
const LINES = Buffer.from('"a" 1 source="gw"\n"b" 2 source="gw"\n')

let certificates: Certificates
beforeAll(() => {
  certificates = makeCertificates()
})
afterAll(() => certificates.remove())

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.close()
  })
  return (server.address() as AddressInfo).port
}
const tcpTo = (port: number, options: { timeoutMs?: number; ca?: string; tracePort?: number } = {}) => {
  const { timeoutMs = 2000, ca, tracePort = 0 } = options
  const tls = ca === undefined ? null : clientTls({ ca, serverName: 'localhost' }, 'test')
  return createTcpTransport({ host: '127.0.0.1', port, tracePort, timeoutMs, tls: tls && (() => tls.options()) })
}

describe('lines over TCP', () => {
  it('are taken when the proxy has read them to the end and closes', async () => {
    const target = await startTcpTarget()
    onTestFinished(() => target.close())
    expect(await tcpTo(target.port).send('wavefront', LINES, never)).toEqual({ status: 'taken' })
    expect(target.lines).toEqual(['"a" 1 source="gw"', '"b" 2 source="gw"'])
  })

  it('of spans go to the port for spans', async () => {
    const [points, spans] = [await startTcpTarget(), await startTcpTarget()]
    onTestFinished(() => points.close())
    onTestFinished(() => spans.close())
    const transport = tcpTo(points.port, { tracePort: spans.port })
    await transport.send('trace', LINES, never)
    await transport.send('spanLogs', LINES, never)
    await transport.send('histogram', LINES, never)
    expect([points.lines.length, spans.lines.length]).toEqual([2, 4])
  })

  it('are not, when the proxy is killed with them unread', async () => {
    const big = Buffer.alloc(32 << 20, '"a" 1 source="gw"\n')
    const port = await listening(
      createServer((socket) => {
        socket.on('error', () => {})
        socket.once('data', () => socket.resetAndDestroy())
      }),
    )
    expect((await tcpTo(port).send('wavefront', big, never)).status).toBe('later')
  })

  it('are not, when the proxy closes before it had all', async () => {
    const big = Buffer.alloc(32 << 20, '"a" 1 source="gw"\n')
    const port = await listening(
      createServer({ allowHalfOpen: true }, (socket) => {
        socket.on('error', () => {})
        socket.end()
        socket.pause()
      }),
    )
    expect((await tcpTo(port).send('wavefront', big, never)).status).toBe('later')
  })

  it('are not, when nobody listens, nobody answers, or the process stops', async () => {
    const silent = await startTcpTarget()
    onTestFinished(() => silent.close())
    await silent.behave('hang')
    const sent = await tcpTo(silent.port, { timeoutMs: 50 }).send('wavefront', LINES, never)
    expect(sent).toMatchObject({ status: 'later', error: { message: expect.stringContaining('within 50 ms') } })
    const stopping = new AbortController()
    const waiting = tcpTo(silent.port).send('wavefront', LINES, stopping.signal)
    stopping.abort()
    expect((await waiting).status).toBe('later')
    expect((await tcpTo(silent.port).send('wavefront', LINES, stopping.signal)).status).toBe('later')
    await silent.behave('away')
    expect((await tcpTo(silent.port).send('wavefront', LINES, never)).status).toBe('later')
  })

  it('go through TLS, and to nobody whose certificate is another’s', async () => {
    const { cert, key } = certificates.pair('server')
    const read: string[] = []
    const server = createTlsServer(
      { cert: certificates.read(cert), key: certificates.read(key), allowHalfOpen: true },
      (socket) => {
        let text = ''
        socket.on('error', () => {})
        socket.on('data', (part: Buffer) => {
          text += part.toString('utf8')
        })
        socket.on('end', () => {
          read.push(text)
          socket.end()
        })
      },
    )
    server.on('tlsClientError', () => {})
    const port = await listening(server)
    expect(await tcpTo(port, { ca: certificates.ca }).send('wavefront', LINES, never)).toEqual({ status: 'taken' })
    expect(read).toEqual([LINES.toString('utf8')])
    const other = certificates.pair('stranger').cert
    expect((await tcpTo(port, { ca: other }).send('wavefront', LINES, never)).status).toBe('later')
    expect(read).toHaveLength(1)
  })
})

describe('lines over HTTP', () => {
  it('are posted compressed, with the format and the token, which is read again', async () => {
    const target = await startHttpTarget()
    onTestFinished(() => target.close())
    const file = join(temporaryFolder(), 'token')
    writeFileSync(file, 'first\n')
    const data = temporaryFolder()
    const rig = await openRequestsRig()
    const adapter = (await openWavefront(
      wavefrontConfig({ url: `http://127.0.0.1:${target.port}/api`, tokenFile: file }),
      { journal: rig.journal, clock: systemClock, log: silentLog, data, host: 'host-1', version: '0.0.0' },
    ))!
    for (const stage of adapter.stages) await stage.start()
    onTestFinished(async () => {
      for (const stage of adapter.stages.toReversed()) await stage.stop(AbortSignal.abort())
    })
    const delivered = async (): Promise<void> => {
      for (const one of adapter.deliveries) while (one.backlog().segments > 0) await systemClock.sleep(10)
    }
    await rig.seal(5)
    await delivered()
    writeFileSync(file, 'second\n')
    await rig.seal(5)
    await delivered()
    expect(new Set(target.requests.map(({ url }) => url))).toEqual(
      new Set(['wavefront', 'histogram', 'trace', 'spanLogs'].map((format) => `/api/report?f=${format}`)),
    )
    const tokens = target.requests.map(({ authorization }) => authorization)
    expect([tokens[0], tokens.at(-1)]).toEqual(['Bearer first', 'Bearer second'])
  })

  it('wait for as long as the target asks, and are all there afterwards', async () => {
    const target = await startHttpTarget()
    onTestFinished(() => target.close())
    const transport = createHttpTransport({
      url: new URL(`http://127.0.0.1:${target.port}`),
      traceUrl: new URL(`http://127.0.0.1:${target.port}`),
      token: () => '',
      timeoutMs: 2000,
      agent: new Agent(),
      userAgent: 'test',
      now: () => Date.now(),
    })
    target.answer(
      { status: 429, headers: { 'retry-after': '2' } },
      { status: 302, headers: { location: '/elsewhere' } },
    )
    expect(await transport.send('wavefront', LINES, never)).toMatchObject({ status: 'later', afterMs: 2000 })
    expect((await transport.send('wavefront', LINES, never)).status).toBe('later')
    expect(await transport.send('wavefront', LINES, never)).toEqual({ status: 'taken' })
    expect(target.lines).toHaveLength(2)
    expect(target.requests.map(({ authorization }) => authorization)).toEqual(['', '', ''])
    transport.close()
  })

  it('go through TLS with a certificate of our own', async () => {
    const { cert, key } = certificates.pair('server')
    const read: string[] = []
    const server = createHttpsServer(
      {
        cert: certificates.read(cert),
        key: certificates.read(key),
        ca: certificates.read(certificates.ca),
        requestCert: true,
        rejectUnauthorized: true,
      },
      (request, response) => {
        const parts: Buffer[] = []
        request.on('data', (part: Buffer) => parts.push(part))
        request.on('end', () => {
          read.push(gunzipSync(Buffer.concat(parts)).toString('utf8'))
          response.writeHead(202).end()
        })
      },
    )
    server.on('tlsClientError', () => {})
    const port = await listening(server)
    const url = new URL(`https://localhost:${port}`)
    const to = (config: Parameters<typeof clientTls>[0]) =>
      createHttpTransport({
        url,
        traceUrl: url,
        token: () => 't',
        timeoutMs: 2000,
        agent: clientTls(config, 'test').agent(),
        userAgent: 'test',
        now: () => 0,
      })
    const { ca } = certificates
    expect((await to({ ca }).send('wavefront', LINES, never)).status).toBe('later')
    expect(await to({ ca, ...certificates.pair('client') }).send('wavefront', LINES, never)).toEqual({
      status: 'taken',
    })
    expect(read).toEqual([LINES.toString('utf8')])
  })
})
