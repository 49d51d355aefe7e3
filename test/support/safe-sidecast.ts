import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { stringify } from 'yaml'
import type { CertificateName, Certificates } from './certificates.ts'
import { type Sidecast, startSidecast } from './sidecast.ts'

/** A Sidecast process with TLS and client certificates on every listener that can have them. */
export interface SafeSidecast {
  readonly process: Sidecast
  /** `host:port` of each, by the names of the metrics. */
  readonly addresses: Readonly<Record<TlsListener, string>>
  /** An HTTPS request with the certificate of a client; the body as text. */
  ask(path: string, options?: AskOptions): Promise<{ readonly status: number; readonly body: string }>
  /** The value of one sample of `/metrics`; 0 where it is not there. */
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number>
  /** Writes another configuration file; what is given replaces top-level parts. */
  configure(parts: object): void
  close(): Promise<void>
}

export interface AskOptions {
  readonly method?: 'GET' | 'POST'
  readonly token?: string
  readonly body?: string
}

export const TLS_LISTENERS = ['http', 'grpc', 'otlp-http', 'statsd-tcp', 'syslog-tls', 'fluentd'] as const
export type TlsListener = (typeof TLS_LISTENERS)[number]

export async function startSafeSidecast(
  certificates: Certificates,
  { server = certificates.pair('server'), more = {}, token }: { server?: object; more?: object; token?: string } = {},
): Promise<SafeSidecast> {
  const tls = { ...server, clientCa: certificates.ca, allowedSans: ['spiffe://mesh/*'] }
  const [syslog, fluentd] = [await freePort(), await freePort()]
  const base = {
    http: { tls },
    ingest: {
      grpc: { tls },
      otlpHttp: { tls },
      statsd: { tls },
      syslog: { tls: { listen: syslog, ...tls } },
      fluentd: { listen: fluentd, tls },
    },
  }
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-safety-'))
  const file = join(dir, 'sidecast.yaml')
  const configure = (parts: object): void => writeFileSync(file, stringify({ ...base, ...parts }))
  configure(more)
  const process = await startSidecast({ args: ['--config', file] })
  const addresses = {
    http: process.http,
    grpc: process.grpc,
    'otlp-http': process.otlpHttp,
    'statsd-tcp': process.statsdTcp,
    'syslog-tls': syslog,
    fluentd,
  }
  const files = readPair(certificates, 'client')
  const ask: SafeSidecast['ask'] = (path, options = {}) =>
    new Promise((resolve, reject) => {
      const bearer = options.token ?? token
      const headers = bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }
      const { method = 'GET' } = options
      const sent = request(
        `https://${process.http}${path}`,
        { ...files, method, headers, agent: false, servername: 'localhost' },
        (answer) => {
          let body = ''
          answer.setEncoding('utf8').on('data', (text: string) => {
            body += text
          })
          answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body }))
        },
      )
      sent.on('error', reject)
      sent.end(options.body)
    })
  return {
    process,
    addresses,
    ask,
    configure,
    async metric(name, labels = {}) {
      const { body } = await ask('/metrics')
      const wanted = Object.entries(labels).map(([key, value]) => `${key}="${value}"`)
      const line = body
        .split('\n')
        .find((one) => /^(\w+)/.exec(one)?.[1] === name && wanted.every((label) => one.includes(label)))
      return line === undefined ? 0 : Number(line.split(' ').at(-1))
    },
    async close() {
      await process.close()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

function readPair(certificates: Certificates, name: CertificateName) {
  const { cert, key } = certificates.pair(name)
  return { cert: certificates.read(cert), key: certificates.read(key), ca: certificates.read(certificates.ca) }
}

/** What becomes of a connection: whether the server lets it stand, and the name on the server's certificate. */
export async function dialTls(
  address: string,
  certificates: Certificates,
  { as, alpn = [] }: { as: CertificateName | null; alpn?: string[] },
): Promise<{ readonly open: boolean; readonly server: string }> {
  const [host, port] = address.split(':')
  const { ca, ...pair } = readPair(certificates, as ?? 'client')
  const socket = connect({
    host,
    port: Number(port),
    ca,
    ...(as === null ? {} : pair),
    servername: 'localhost',
    ALPNProtocols: alpn,
  })
  let server = ''
  // With TLS 1.3 a client is done before the server has looked at its certificate: what comes next says.
  const open = await new Promise<boolean>((resolve) => {
    socket.on('secureConnect', () => {
      server = String(socket.getPeerCertificate().subject.CN)
      setTimeout(() => resolve(true), STAYS_MS)
    })
    socket.on('error', () => resolve(false))
    socket.on('close', () => resolve(false))
    socket.resume()
  })
  socket.destroy()
  return { open, server }
}

const STAYS_MS = 300

async function freePort(): Promise<string> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise<void>((resolve) => server.close(() => resolve()))
  return `127.0.0.1:${port}`
}
