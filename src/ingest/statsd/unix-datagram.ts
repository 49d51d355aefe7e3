import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync, unlinkSync } from 'node:fs'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SidecastError } from '../../errors.ts'
import type { Log } from '../../telemetry/log.ts'
import type { Gate } from '../grpc/index.ts'
import type { StatsdCollector } from './collector.ts'
import { removeSocket } from './stream.ts'

/**
 * StatsD over a Unix datagram socket, the usual way of DogStatsD clients and of Envoy's sinks with a `pipe` address. Node has no such
 * sockets; a child process reads it (see `unix-datagram-child.ts`), which takes Node 26.1 or later, on Linux.
 *
 * What the socket has taken is not lost: while nobody reads it is full, and its senders wait, or see that they cannot send. Envoy does
 * not wait: it drops the datagram without counting it. How many a socket holds is `net.unix.max_dgram_qlen` of when it was opened, 10 on
 * many systems, which is less than what Envoy sends at one flush; so a small one is told at the start.
 */
export interface UnixDatagramListener {
  readonly address: string
  readonly counters: Readonly<UnixDatagramCounters>
  start(): Promise<void>
  stop(deadline: AbortSignal): Promise<void>
}

export interface UnixDatagramCounters {
  datagrams: number
  bytes: number
  /** Times the child process ended by itself and was started again. */
  restarts: number
}

export interface UnixDatagramOptions {
  readonly path: string
  readonly option: string
  readonly collector: StatsdCollector
  readonly gate: Gate
  readonly receiveBufferBytes: number
  readonly log: Log
}

const SENDER = 'unix'
/** Datagrams of a flush of a large proxy. */
const QUEUE_LEAST = 512
const RESTART_MS = 1000
const QUIET_MS = 20
const START_MS = 10_000

export function createUnixDatagramListener(options: UnixDatagramOptions): UnixDatagramListener {
  const { path, option, collector, gate, receiveBufferBytes, log } = options
  const counters: UnixDatagramCounters = { datagrams: 0, bytes: 0, restarts: 0 }
  let child: ChildProcess | null = null
  let stopping = false
  let lastMs = 0
  let restart: NodeJS.Timeout | null = null
  gate.onOpen(() => child?.stdout?.resume())

  /** Resolves when the socket is there. */
  const launch = (): Promise<void> =>
    new Promise((resolve, reject) => {
      removeSocket(path)
      const script = fileURLToPath(new URL(`./unix-datagram-child${extname(import.meta.url)}`, import.meta.url))
      const started = spawn(
        process.execPath,
        ['--experimental-ffi', '--no-warnings', script, path, String(receiveBufferBytes)],
        {
          stdio: ['ignore', 'pipe', 'pipe'],
          env: {},
        },
      )
      child = started
      let said = ''
      let ready = false
      const timer = setTimeout(() => started.kill('SIGKILL'), START_MS)
      const reader = createFrameReader((bytes, start, end) => {
        if (end === start) {
          ready = true
          clearTimeout(timer)
          resolve()
          return
        }
        counters.datagrams++
        counters.bytes += end - start
        collector.take(bytes, start, end, SENDER)
      })
      started.stderr.on('data', (chunk: Buffer) => {
        if (said.length < 1000) said += chunk.toString()
      })
      started.stdout.on('data', (chunk: Buffer) => {
        lastMs = performance.now()
        reader(chunk)
        if (gate.closed) started.stdout.pause()
      })
      started.once('error', (error) => reject(failure(option, path, error.message)))
      started.once('close', (code) => {
        clearTimeout(timer)
        if (child === started) child = null
        if (!ready) reject(failure(option, path, said.trim() || `the process that reads it ended with ${code}`))
        else if (!stopping) {
          counters.restarts++
          log.warn(
            { code, said },
            'StatsD over a Unix datagram socket: the process that reads it ended; it is started again',
          )
          restart = setTimeout(
            () => launch().catch((error: Error) => log.error({ error }, 'It does not start')),
            RESTART_MS,
          )
        }
      })
    })
  return {
    address: path,
    counters,
    async start() {
      stopping = false
      await launch()
      const queue = queueLength()
      if (queue < QUEUE_LEAST) {
        log.warn(
          { option, datagrams: queue },
          'StatsD over a Unix datagram socket: it holds few datagrams, and senders that do not wait lose what is beyond; raise it with sysctl net.unix.max_dgram_qlen',
        )
      }
    },
    async stop(deadline) {
      stopping = true
      if (restart !== null) clearTimeout(restart)
      const running = child
      if (running === null) return
      lastMs = performance.now()
      while (!deadline.aborted && performance.now() - lastMs < QUIET_MS)
        await new Promise((resolve) => setTimeout(resolve, 5))
      const closed = new Promise<void>((resolve) => running.once('close', () => resolve()))
      running.kill('SIGKILL')
      await closed
      try {
        unlinkSync(path)
      } catch {
        // Somebody else took it away.
      }
    },
  }
}

/** Datagrams that a socket opened now holds; infinite where the system does not say. */
function queueLength(): number {
  try {
    return Number(readFileSync('/proc/sys/net/unix/max_dgram_qlen', 'latin1'))
  } catch {
    return Number.POSITIVE_INFINITY
  }
}

function failure(option: string, path: string, reason: string): SidecastError {
  return new SidecastError('SC4101', `${option}: ${path}: ${reason}`, {
    help: 'A Unix datagram socket takes Node 26.1 or later on Linux. UDP on 127.0.0.1 or ingest.statsd.unixStream work everywhere.',
  })
}

/** Frames of four bytes of length and that many bytes. */
function createFrameReader(onFrame: (bytes: Uint8Array, start: number, end: number) => void): (chunk: Buffer) => void {
  let held: Buffer = Buffer.alloc(0)
  return (chunk) => {
    const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk])
    let at = 0
    while (at + 4 <= bytes.length) {
      const end = at + 4 + bytes.readUInt32LE(at)
      if (end > bytes.length) break
      onFrame(bytes, at + 4, end)
      at = end
    }
    held = at < bytes.length ? Buffer.from(bytes.subarray(at)) : EMPTY
  }
}

const EMPTY = Buffer.alloc(0)
