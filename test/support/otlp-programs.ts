import { type ChildProcess, spawn } from 'node:child_process'
import { createServer, type IncomingMessage } from 'node:http'
import { connect, createServer as createTcpServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { jaeger, otelcol } from './programs.ts'

/** A real Jaeger, in memory; ended after the test. */
export interface Jaeger {
  /** OTLP over gRPC. */
  readonly address: string
  readonly query: string
  trace(id: string): Promise<JaegerTrace | null>
  services(): Promise<readonly string[]>
  traces(service: string, limit: number): Promise<readonly JaegerTrace[]>
}

export interface JaegerTrace {
  readonly traceID: string
  readonly spans: readonly JaegerSpan[]
  readonly processes: Readonly<Record<string, { readonly serviceName: string; readonly tags: readonly Tag[] }>>
}
export interface JaegerSpan {
  readonly spanID: string
  readonly processID: string
  readonly operationName: string
  /** µs. */
  readonly startTime: number
  readonly duration: number
  readonly references: readonly { readonly refType: string; readonly spanID: string }[]
  readonly tags: readonly Tag[]
  readonly logs: readonly { readonly timestamp: number; readonly fields: readonly Tag[] }[]
  readonly warnings: readonly string[] | null
}
export interface Tag {
  readonly key: string
  readonly value: unknown
}

const START_MS = 180_000

export async function startJaeger(): Promise<Jaeger> {
  const binary = await jaeger()
  const [otlp, http, query, admin] = await freePorts(4)
  const at = (port: number | undefined) => `127.0.0.1:${port}`
  const child = spawn(
    binary,
    [
      '--log-level=error',
      '--memory.max-traces=100000',
      `--collector.otlp.grpc.host-port=${at(otlp)}`,
      `--collector.otlp.http.host-port=${at(http)}`,
      `--query.http-server.host-port=${at(query)}`,
      `--admin.http.host-port=${at(admin)}`,
      `--query.grpc-server.host-port=${at(0)}`,
      `--collector.grpc-server.host-port=${at(0)}`,
      `--collector.http-server.host-port=${at(0)}`,
    ],
    { stdio: 'ignore', env: { ...process.env, SPAN_STORAGE_TYPE: 'memory' } },
  )
  // Its own shutdown waits 10 s, and there is nothing to save.
  onTestFinished(() => ended(child, 'SIGKILL'))
  const base = `http://${at(query)}`
  await untilUp(child, 'jaeger', async () => (await fetch(`${base}/api/services`)).ok)
  const data = async <T>(path: string): Promise<T | null> => {
    const response = await fetch(`${base}/api/${path}`)
    return response.ok ? ((await response.json()) as { readonly data: T }).data : null
  }
  return {
    address: at(otlp),
    query: base,
    trace: async (id) => (await data<readonly JaegerTrace[]>(`traces/${id}`))?.[0] ?? null,
    services: async () => (await data<readonly string[] | null>('services')) ?? [],
    traces: async (service, limit) =>
      (await data<readonly JaegerTrace[]>(
        `traces?service=${encodeURIComponent(service)}&limit=${limit}&lookback=1h`,
      )) ?? [],
  }
}

/**
 * A real OpenTelemetry Collector: what it understood of OTLP over gRPC, it sends on as OTLP/HTTP in JSON, to us.
 */
export interface Collector {
  /** OTLP over gRPC. */
  readonly address: string
  /** Bodies as they came from the Collector, by signal. */
  readonly received: Readonly<Record<'traces' | 'metrics' | 'logs', readonly Record<string, unknown>[]>>
}

export async function startCollector(): Promise<Collector> {
  const binary = await otelcol()
  const received = { traces: [], metrics: [], logs: [] } as Record<
    'traces' | 'metrics' | 'logs',
    Record<string, unknown>[]
  >
  const server = createServer(async (request, response) => {
    const signal = request.url?.split('/').at(-1) as keyof typeof received
    received[signal].push(JSON.parse(await bodyOf(request)) as Record<string, unknown>)
    response.setHeader('content-type', 'application/json')
    response.end('{}')
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const { port } = server.address() as { readonly port: number }
  const [otlp] = await freePorts(1)
  const address = `127.0.0.1:${otlp}`
  const pipeline = { receivers: ['otlp'], exporters: ['otlp_http'] }
  const config = JSON.stringify({
    receivers: { otlp: { protocols: { grpc: { endpoint: address } } } },
    exporters: {
      otlp_http: {
        endpoint: `http://127.0.0.1:${port}`,
        encoding: 'json',
        compression: 'none',
        sending_queue: { enabled: false },
      },
    },
    service: {
      telemetry: { metrics: { level: 'none' }, logs: { level: 'error' } },
      pipelines: { traces: pipeline, metrics: pipeline, logs: pipeline },
    },
  })
  const output: string[] = []
  const child = spawn(binary, ['--config', `yaml:${config}`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  child.stderr.on('data', (chunk: Buffer) => output.push(chunk.toString()))
  onTestFinished(() => ended(child, 'SIGKILL'))
  await untilUp(
    child,
    () => `the Collector: ${output.join('').slice(0, 2000)}`,
    async () => listens(otlp!),
  )
  return { address, received }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const over = new Promise((resolve) => child.once('exit', resolve))
  child.kill(signal)
  await over
}

async function untilUp(child: ChildProcess, name: string | (() => string), up: () => Promise<boolean>): Promise<void> {
  for (const end = performance.now() + START_MS; ; await sleep(50)) {
    if (await up().catch(() => false)) return
    const what = typeof name === 'string' ? name : name()
    if (child.exitCode !== null) throw new Error(`${what} ended with code ${child.exitCode}`)
    if (performance.now() > end) throw new Error(`${what} is not up after ${START_MS} ms`)
  }
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

/** Ports that were free a moment ago. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createTcpServer()
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      return server
    }),
  )
  const ports = servers.map((server) => (server.address() as { readonly port: number }).port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}
