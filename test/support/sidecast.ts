import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

/** A Sidecast process as a user starts it, on free ports and a directory of its own. */
export interface Sidecast {
  readonly pid: number
  readonly data: string
  readonly http: string
  readonly grpc: string
  readonly grpcPort: number
  readonly otlpHttp: string
  readonly statsdUdp: string
  readonly statsdTcp: string
  /** From the start of the process to its ready line, ms. */
  readonly readyMs: number
  /** What it wrote to standard error so far. */
  log(): string
  /** GET of a path as JSON; throws with the body when the answer is not 200. */
  get<T>(path: string): Promise<T>
  kill(signal: NodeJS.Signals): Promise<void>
  /** SIGTERM, and the exit code. */
  stop(): Promise<number | null>
  /** Stops it and removes its directory. Safe twice, and after `kill`. */
  close(): Promise<void>
}

export interface SidecastOptions {
  readonly data?: string
  readonly set?: readonly string[]
  readonly args?: readonly string[]
  readonly readyTimeoutMs?: number
  /** The program to run instead of the checkout's, for example of an installed package. */
  readonly command?: readonly string[]
}

const MAIN = new URL('../../src/main.ts', import.meta.url).pathname

export async function startSidecast(options: SidecastOptions = {}): Promise<Sidecast> {
  const data = options.data ?? (await mkdtemp(join(tmpdir(), 'sidecast-')))
  const [command, ...before] = options.command ?? [process.execPath, MAIN]
  const listeners = [
    'http.listen',
    'ingest.grpc.listen',
    'ingest.otlpHttp.listen',
    'ingest.statsd.udp',
    'ingest.statsd.tcp',
  ].map((path) => `${path}=127.0.0.1:0`)
  const set = [...listeners, ...(options.set ?? [])]
  const began = performance.now()
  const child = spawn(
    command!,
    [...before, 'run', '--data', data, ...set.flatMap((option) => ['--set', option]), ...(options.args ?? [])],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let log = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log = (log + text).slice(-200_000)
  })
  const exited = new Promise<number | null>((done) => child.once('exit', (code) => done(code)))
  const ready = await readyLine(child, exited, options.readyTimeoutMs ?? 180_000, () => log)
  const readyMs = performance.now() - began
  const http = String(ready.http)
  const close = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM')
      await Promise.race([exited, sleep(20_000, undefined, { ref: false })])
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
      await exited
    }
    if (options.data === undefined) await rm(data, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
  }
  return {
    pid: child.pid!,
    data,
    http,
    grpc: String(ready.grpc),
    grpcPort: Number(String(ready.grpc).split(':').at(-1)),
    otlpHttp: String(ready.otlpHttp),
    statsdUdp: String(ready.statsdUdp),
    statsdTcp: String(ready.statsdTcp),
    readyMs,
    log: () => log,
    async get<T>(path: string): Promise<T> {
      const answer = await fetch(`http://${http}${path}`)
      const body = await answer.text()
      if (answer.status !== 200) throw new Error(`GET ${path}: ${answer.status} ${body}`)
      return JSON.parse(body) as T
    },
    async kill(signal) {
      child.kill(signal)
      if (signal === 'SIGKILL') await exited
    },
    async stop() {
      child.kill('SIGTERM')
      return exited
    },
    close,
  }
}

async function readyLine(
  child: ChildProcess,
  exited: Promise<number | null>,
  timeoutMs: number,
  log: () => string,
): Promise<Record<string, unknown>> {
  const lines = createInterface({ input: child.stdout! })
  const first = new Promise<string>((done) => lines.once('line', done))
  const timer = new AbortController()
  const line = await Promise.race([
    first,
    exited.then((code) => new Error(`Sidecast exited with ${code} before it was ready:\n${log()}`)),
    sleep(timeoutMs, new Error(`Sidecast was not ready after ${timeoutMs} ms:\n${log()}`), {
      signal: timer.signal,
    }).catch(() => new Error('aborted')),
  ])
  timer.abort()
  if (line instanceof Error) {
    child.kill('SIGKILL')
    throw line
  }
  return JSON.parse(line) as Record<string, unknown>
}
