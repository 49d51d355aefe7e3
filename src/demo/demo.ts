import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Random, seededRandom } from '../lib/random.ts'
import type { Log } from '../telemetry/log.ts'
import { createAlsClient } from './als-client.ts'
import { cacheDirectory, ENVOY_VERSION, envoyBinary } from './envoy-binary.ts'
import { checkoutConfig, gatewayConfig } from './envoy-config.ts'
import { type EnvoyProcess, freePorts, startEnvoy } from './envoy-process.ts'
import { imitate } from './imitation.ts'
import { startShop } from './servers.ts'
import { nodeOf } from './shop.ts'
import { startTraffic } from './traffic.ts'

/** `sidecast demo`: Sidecast, two real Envoys, five services behind them and clients, with faults; see `shop.ts`. */
export interface DemoOptions {
  /** Starts Sidecast with these values of `--set`. */
  readonly start: (overrides: readonly string[]) => Promise<RunningSidecast>
  /** `--data`: kept afterwards. Without it the demo's data is in a directory that goes away with it. */
  readonly dataGiven: string | undefined
  /** Ends by itself after this; Infinity for when `signal` says so. */
  readonly seconds: number
  readonly signal: AbortSignal
  /** Takes lines for a person. */
  readonly print: (line: string) => void
  readonly log: Log
  readonly env: Readonly<Record<string, string | undefined>>
  readonly seed?: number
}

export interface RunningSidecast {
  readonly addresses: { readonly http: string; readonly grpc: string }
  stop(): Promise<void>
}

/** Bounds of the traffic. A demo that is left alone goes quiet after two hours; its page stays. */
const RATE_PER_SECOND = 40
const TRAFFIC_MS_MAX = 2 * 3_600_000
const REQUESTS_MAX = (RATE_PER_SECOND * TRAFFIC_MS_MAX * 1.5) / 1000
const IN_FLIGHT_MAX = 128
const FLUSH_MS = 200

/** A source of traffic: real or imitated. */
interface Source {
  /** One sentence about what it is. */
  readonly title: string
  readonly ended: Promise<void>
  stop(): Promise<void>
}

/** Runs until `seconds` have passed or the signal is raised, then ends everything it started. Returns the exit code. */
export async function runDemo(options: DemoOptions): Promise<number> {
  const { print, log, signal } = options
  const scratch = await mkdtemp(join(tmpdir(), 'sidecast-demo-'))
  const random = seededRandom(options.seed ?? Date.now())
  let sidecast: RunningSidecast | undefined
  let source: Source | undefined
  try {
    // Envoy may have to be fetched while Sidecast starts.
    const binary = envoyBinary({ cacheDir: cacheDirectory(options.env), log, signal }).catch((error: Error) => error)
    sidecast = await options.start(await overrides(options.dataGiven, scratch))
    const { http, grpc } = sidecast.addresses
    const found = await binary
    if (!signal.aborted) {
      source =
        typeof found === 'string'
          ? await realTraffic({ binary: found, grpc, dir: scratch, random })
          : imitatedTraffic({ why: found.message, grpc, random })
      print('')
      print(`  Page   http://${http}/`)
      print(`  gRPC   ${grpc}   (point an Envoy's access log service here)`)
      print('')
      print(`  ${source.title}`)
      print('  gateway → cart, search, mail, checkout → pay. pay v2 is slow, search times out, mail loses its host.')
      print(`  Next: open the page, or  curl http://${http}/api/v1/services`)
      print('  Ctrl-C ends everything.')
      print('')
      source.ended.then(() => {
        if (!signal.aborted) log.info({}, 'The traffic has reached its end; start the demo again for more')
      })
      await pause(options.seconds, signal)
    }
    return 0
  } finally {
    await source?.stop()
    await sidecast?.stop()
    await rm(scratch, { recursive: true, force: true })
  }
}

async function realTraffic(options: {
  readonly binary: string
  readonly grpc: string
  readonly dir: string
  readonly random: Random
}): Promise<Source> {
  const als = Number(options.grpc.slice(options.grpc.lastIndexOf(':') + 1))
  const [gatewayAdmin, gatewayPort, checkoutAdmin, payPort] = (await freePorts(4)) as [number, number, number, number]
  const shop = await startShop({ payPort, random: options.random })
  const proxies: EnvoyProcess[] = []
  const proxy = async (name: string, adminPort: number, content: object): Promise<void> => {
    const config = join(options.dir, `${name}.json`)
    await writeFile(config, JSON.stringify(content))
    const dir = options.dir
    proxies.push(await startEnvoy({ binary: options.binary, config, adminPort, dir, name, concurrency: 1 }))
  }
  const stop = async (): Promise<void> => {
    await Promise.all(proxies.map((each) => each.stop()))
    shop.stop()
  }
  try {
    await Promise.all([
      proxy('gateway', gatewayAdmin, gatewayConfig({ admin: gatewayAdmin, listen: gatewayPort, als }, shop.ports)),
      proxy('checkout', checkoutAdmin, checkoutConfig({ admin: checkoutAdmin, listen: payPort, als }, shop.ports)),
    ])
  } catch (error) {
    await stop()
    throw error
  }
  const traffic = startTraffic({
    port: gatewayPort,
    random: options.random,
    ratePerSecond: RATE_PER_SECOND,
    requestsMax: REQUESTS_MAX,
    durationMs: TRAFFIC_MS_MAX,
    inFlightMax: IN_FLIGHT_MAX,
  })
  return {
    title: `Two Envoys ${ENVOY_VERSION} and five services, ${RATE_PER_SECOND} visits a second.`,
    ended: traffic.ended,
    async stop() {
      traffic.stop()
      await stop()
    },
  }
}

/** The built-in client in Envoy's place: the same services and faults, over real gRPC. */
export function imitatedTraffic(options: {
  readonly why: string
  readonly grpc: string
  readonly random: Random
}): Source {
  const client = (workload: 'gateway' | 'checkout') =>
    createAlsClient({
      address: options.grpc,
      identifier: { logName: workload, node: nodeOf(workload) },
    })
  const gateway = client('gateway')
  const checkout = client('checkout')
  const started = performance.now()
  const ended = Promise.withResolvers<void>()
  let visits = 0
  const timer = setInterval(() => {
    const elapsedMs = performance.now() - started
    const due = Math.min(REQUESTS_MAX, (elapsedMs / 1000) * RATE_PER_SECOND)
    for (; visits < due; visits++) {
      const entry = imitate(options.random, Date.now() - FLUSH_MS * options.random(), elapsedMs)
      gateway.log(entry.gateway)
      if (entry.checkout !== null) checkout.log(entry.checkout)
    }
    gateway.flush()
    checkout.flush()
    if (elapsedMs > TRAFFIC_MS_MAX) finish()
  }, FLUSH_MS)
  const finish = (): void => {
    clearInterval(timer)
    ended.resolve()
  }
  return {
    title: `No Envoy here (${options.why}). A built-in client imitates two of them, ${RATE_PER_SECOND} visits a second.`,
    ended: ended.promise,
    async stop() {
      finish()
      await Promise.all([gateway.stop(), checkout.stop()])
    },
  }
}

/** Values of `--set`: the usual ports where they are free, else any; data that goes away. The user's own come after. */
async function overrides(dataGiven: string | undefined, scratch: string): Promise<string[]> {
  const listen = async (path: string, port: number) => `${path}=127.0.0.1:${(await isFree(port)) ? port : 0}`
  return [
    ...(dataGiven === undefined ? [`data=${join(scratch, 'data')}`] : []),
    await listen('http.listen', 8080),
    await listen('ingest.grpc.listen', 9001),
    await listen('ingest.otlpHttp.listen', 4318),
    await listen('ingest.statsd.udp', 8125),
    await listen('ingest.statsd.tcp', 8125),
  ]
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}

/** Waits; a timer holds 24 days at most, which is longer than the traffic. */
function pause(seconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const timer = setTimeout(resolve, Math.min(seconds * 1000, 2 ** 31 - 1))
    signal.addEventListener(
      'abort',
      () => {
        clearTimeout(timer)
        resolve()
      },
      { once: true },
    )
  })
}
