import { mkdtemp, realpath, rm, writeFile } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePorts, startEnvoy } from '../../../src/demo/envoy-process.ts'
import { seededRandom } from '../../../src/lib/random.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { envoy } from '../programs.ts'
import { fromTemplate } from './template.ts'
import { startUpstreams } from './upstreams.ts'

/**
 * One real Envoy that tells the same requests in every way it has: ALS for HTTP and TCP, OTLP logs over gRPC and HTTP, a JSON
 * and a text file, StatsD, DogStatsD, MetricsService, OTLP stats and spans; and an admin page to be scraped.
 */
export interface EverythingEnvoy {
  readonly admin: (path: string) => Promise<string>
  readonly adminPort: number
  readonly pid: number
  readonly dir: string
  /** Seeded requests over the routes, successes and failures, and a few TCP connections. Resolves when all have ended. */
  drive(count: number, seed: number): Promise<void>
  /** Ends Envoy, which flushes first. Safe twice. */
  stop(): Promise<void>
}

export interface EverythingPorts {
  readonly grpc: number
  readonly otlpHttp: number
  /** StatsD over TCP from 127.0.0.1, DogStatsD over UDP from ::1: two senders, since one with both would count twice. */
  readonly statsd: number
  readonly dogstatsd: number
}

export interface EverythingOptions {
  readonly dir: string
  readonly ports: EverythingPorts
}

/** A directory for the access logs, known before Envoy starts because their readers start first. */
export async function everythingDirectory(): Promise<string> {
  return await realpath(await mkdtemp(join(tmpdir(), 'sidecast-everything-')))
}

export async function startEverything({ dir, ports }: EverythingOptions): Promise<EverythingEnvoy> {
  const binary = await envoy({ log: silentLog })
  const upstreams = await startUpstreams()
  const [admin, main, tcp, closed] = (await freePorts(4)) as [number, number, number, number]
  const config = join(dir, 'envoy.yaml')
  await writeFile(
    config,
    await fromTemplate('everything.template', {
      DIR: dir,
      ADMIN: admin,
      MAIN: main,
      TCP: tcp,
      CLOSED: closed,
      UP_H1: upstreams.ports.h1,
      UP_ECHO: upstreams.ports.echo,
      GRPC: ports.grpc,
      OTLP_HTTP: ports.otlpHttp,
      STATSD: ports.statsd,
      DOGSTATSD: ports.dogstatsd,
    }),
  )
  const process = await startEnvoy({ binary, config, adminPort: admin, dir })
  return {
    pid: process.pid,
    dir,
    adminPort: admin,
    admin: async (path) => (await process.admin(path)).text,
    drive: (count, seed) => drive({ main, tcp, count, seed }),
    async stop() {
      await process.stop()
      upstreams.stop()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

const PATHS = [
  ...[
    '/api/ok',
    '/api/ok',
    '/api/ok',
    '/api/ok',
    '/api/body/2000',
    '/api/delay/5',
    '/api/status/404',
    '/api/status/500',
  ],
  ...[
    '/api/ok?token=secret&page=2',
    '/direct',
    '/dead',
    '/nowhere',
    '/short/delay/200',
    '/retried/status/503',
    '/api/close-before',
  ],
]
const AT_ONCE = 32

async function drive(options: { main: number; tcp: number; count: number; seed: number }): Promise<void> {
  const random = seededRandom(options.seed)
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE })
  let left = options.count
  const worker = async (): Promise<void> => {
    while (left-- > 0) await get(agent, options.main, PATHS[Math.floor(random() * PATHS.length)]!)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  agent.destroy()
  for (let k = 0; k < 5; k++) await echo(options.tcp)
}

function get(agent: Agent, port: number, path: string): Promise<void> {
  return new Promise((done, fail) => {
    const call = request(
      { agent, port, host: '127.0.0.1', path, headers: { 'user-agent': 'everything/1' } },
      (answer) => {
        answer.on('end', done).on('error', fail).resume()
      },
    )
    call.on('error', fail).end()
  })
}

function echo(port: number): Promise<void> {
  return new Promise((done, fail) => {
    const socket = connect(port, '127.0.0.1', () => socket.end('hello'))
    socket
      .on('close', () => done())
      .on('error', fail)
      .resume()
  })
}
