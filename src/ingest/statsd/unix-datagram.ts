import { readFileSync, unlinkSync } from 'node:fs'
import { extname } from 'node:path'
import { SidecastError } from '../../errors.ts'
import type { Log } from '../../telemetry/log.ts'
import type { Gate } from '../grpc/index.ts'
import { createSocketProcess } from '../stream/socket-process.ts'
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
  readonly datagrams: number
  readonly bytes: number
  /** Times the child process ended by itself and was started again. */
  readonly restarts: number
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
const WHAT = 'StatsD over a Unix datagram socket'
/** Datagrams of a flush of a large proxy. */
const QUEUE_LEAST = 512
const QUIET_MS = 20

export function createUnixDatagramListener(options: UnixDatagramOptions): UnixDatagramListener {
  const { path, option, collector, gate, receiveBufferBytes, log } = options
  const reading = createSocketProcess({
    program: new URL(`./unix-datagram-child${extname(import.meta.url)}`, import.meta.url),
    args: () => {
      removeSocket(path)
      return [path, String(receiveBufferBytes)]
    },
    what: WHAT,
    read(ready) {
      const take = createFrameReader((bytes, start, end) => {
        if (end === start) {
          ready()
          return
        }
        counters.datagrams++
        counters.bytes += end - start
        collector.take(bytes, start, end, SENDER)
      })
      return (chunk, output) => {
        take(chunk)
        if (gate.closed) output.pause()
      }
    },
    failure: (reason) => failure(option, path, reason),
    quietMs: QUIET_MS,
    log,
  })
  const counters = {
    datagrams: 0,
    bytes: 0,
    get restarts() {
      return reading.restarts
    },
  }
  gate.onOpen(() => reading.resume())
  return {
    address: path,
    counters,
    async start() {
      await reading.start()
      const queue = queueLength()
      if (queue < QUEUE_LEAST) {
        log.warn(
          { option, datagrams: queue },
          `${WHAT}: it holds few datagrams, and senders that do not wait lose what is beyond; raise it with sysctl net.unix.max_dgram_qlen`,
        )
      }
    },
    async stop(deadline) {
      await reading.stop(deadline)
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
