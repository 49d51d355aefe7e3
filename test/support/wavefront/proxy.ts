import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import { java, wavefrontProxy } from '../programs.ts'

/** A real Wavefront proxy, and what stands for the service behind it. */
export interface WavefrontProxy {
  readonly port: number
  readonly tracePort: number
  /** Lines that the proxy sent on, in its own writing. */
  readonly forwarded: readonly string[]
  /** Lines of its log that say why it refused something. */
  blocked(): readonly string[]
  /** What the service answers to uploads from now on. */
  answer(status: number): void
  /** Resolves when the proxy has sent on so many lines that hold. */
  until(count: number, holds?: (line: string) => boolean): Promise<readonly string[]>
  stop(): Promise<void>
}

const START_MS = 180_000
const WAIT_MS = 60_000
/** What Netty of 2018 reaches into. */
const OPENED = ['java.lang', 'java.util', 'java.net', 'java.nio', 'sun.nio.ch']

export async function startWavefrontProxy(): Promise<WavefrontProxy> {
  const [jvm, libs] = [await java(), await wavefrontProxy()]
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-wavefront-'))
  const forwarded: string[] = []
  let status = 200
  const service = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const path = new URL(request.url ?? '', 'http://x').pathname
      const upload = /pushdata|report/.test(path) && !path.includes('error')
      const body = Buffer.concat(parts)
      const text = body[0] === 0x1f && body[1] === 0x8b ? gunzipSync(body).toString('utf8') : body.toString('utf8')
      if (upload && status < 300) forwarded.push(...text.split('\n').filter((line) => line !== ''))
      const checkIn = /checkin|\/config$/.test(path)
      response.writeHead(upload ? status : 200, { 'content-type': 'application/json' })
      response.end(checkIn ? JSON.stringify({ currentTime: Date.now(), pointsPerBatch: 1000 }) : upload ? '' : '{}')
    })
  })
  await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve))
  const servicePort = (service.address() as AddressInfo).port
  const [port, tracePort] = [await freePort(), await freePort()]
  const config = join(dir, 'proxy.conf')
  writeFileSync(config, 'pushFlushInterval=200\npushBlockedSamples=1000\n')
  const flags: Record<string, string> = {
    host: `http://127.0.0.1:${servicePort}/api/`,
    token: 'none',
    hostname: 'sidecast-test',
    idFile: join(dir, 'id'),
    buffer: join(dir, 'buffer'),
    file: config,
    pushListenerPorts: String(port),
    traceListenerPorts: String(tracePort),
    flushThreads: '1',
  }
  const child = spawn(
    jvm,
    [
      '-Xmx256m',
      '-XX:+UseSerialGC',
      ...OPENED.flatMap((name) => ['--add-opens', `java.base/${name}=ALL-UNNAMED`]),
      '-Djava.util.logging.SimpleFormatter.format=%4$s %5$s%6$s%n',
      '-cp',
      join(libs, '*'),
      'com.wavefront.agent.PushAgent',
      '--ephemeral',
      ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]),
    ],
    { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let log = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (part: Buffer) => (log += part.toString('utf8')))
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL')
    await ended(child)
    service.closeAllConnections()
    await new Promise<void>((resolve) => service.close(() => resolve()))
    rmSync(dir, { recursive: true, force: true })
  }
  for (const end = Date.now() + START_MS; !((await answers(port)) && (await answers(tracePort))); await sleep(100)) {
    if (child.exitCode === null && Date.now() < end) continue
    await stop()
    throw new Error(`the Wavefront proxy does not start: ${log.slice(-2000)}`)
  }
  return {
    port,
    tracePort,
    forwarded,
    blocked: () => log.split('\n').filter((line) => line.includes('blocked input')),
    answer(next) {
      status = next
    },
    async until(count, holds = () => true) {
      for (const end = Date.now() + WAIT_MS; ; await sleep(50)) {
        const found = forwarded.filter(holds)
        if (found.length >= count) return found
        if (Date.now() > end) {
          const blocked = log.split('\n').filter((line) => line.includes('blocked'))
          throw new Error(`${found.length} of ${count} lines were sent on; refused: ${blocked.slice(0, 5).join('\n')}`)
        }
      }
    },
    stop,
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createTcpServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => child.once('exit', () => resolve()))
}
