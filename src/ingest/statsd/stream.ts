import { chmodSync, lstatSync, unlinkSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { cannotListen } from '../../errors.ts'
import { type Access, openAccess } from '../../lib/access.ts'
import { formatAddress } from '../../lib/units.ts'
import type { Gate } from '../grpc/index.ts'
import type { StatsdCollector } from './collector.ts'
import { KEY_BYTES_MAX } from './line.ts'

/**
 * StatsD over TCP or a Unix stream socket: lines that end with `\n`. A bad line costs itself, never the connection. On a Unix socket
 * DogStatsD clients put a length of four bytes (little-endian) in front of each packet instead; text never has a zero byte where such a
 * length has its two highest ones, so the first bytes of a connection tell which it is.
 */
export interface StreamListener {
  readonly address: string
  readonly counters: Readonly<StreamCounters>
  start(): Promise<void>
  stop(deadline: AbortSignal): Promise<void>
}

export interface StreamCounters {
  connections: number
  bytes: number
  /** Connections refused because there were too many, closed because they were silent, and broken by the other end. */
  refused: number
  idle: number
  broken: number
  open: number
}

export interface StreamOptions {
  /** `{host, port}` or the path of a Unix socket. */
  readonly listen: { readonly host: string; readonly port: number } | { readonly path: string }
  readonly option: string
  readonly collector: StatsdCollector
  /** Everybody's, without TLS, where it is absent. */
  readonly access?: Access
  readonly gate: Gate
  readonly connectionsMax: number
  readonly idleMs: number
}

const LINE_BYTES_MAX = 2 * KEY_BYTES_MAX
const HANDSHAKE_MS = 10_000
/** DogStatsD allows 64 KiB. */
const PACKET_BYTES_MAX = 1 << 16
const NEWLINE = 0x0a

export function createStreamListener(options: StreamOptions): StreamListener {
  const { listen, option, gate, connectionsMax, idleMs } = options
  const counters: StreamCounters = { connections: 0, bytes: 0, refused: 0, idle: 0, broken: 0, open: 0 }
  const { tls, senders } = options.access ?? openAccess()
  const open = new Set<Socket>()
  /** Those that wait because their sender is over its bytes a second. */
  const held = new Set<Socket>()
  let server: Server | undefined

  function listener(): Server {
    const made =
      tls === null
        ? createServer(take)
        : createTlsServer({ ...tls.options(), handshakeTimeout: HANDSHAKE_MS }, (socket: TLSSocket) => {
            socket.on('error', () => {})
            if (tls.admit(socket)) take(socket)
          })
    made.prependListener('connection', count)
    tls?.watch(made)
    return made
  }

  /** Every connection, with TLS before its handshake. Senders on a Unix socket have no address, and no bounds. */
  function count(socket: Socket): void {
    if ('path' in listen) return
    const sender = senders.open(socket.remoteAddress ?? '')
    if (sender !== null) socket.on('close', () => sender.close())
    else {
      counters.refused++
      socket.destroy()
    }
  }

  function take(socket: Socket): void {
    if (socket.destroyed) return
    if (open.size >= connectionsMax) {
      counters.refused++
      socket.destroy()
      return
    }
    open.add(socket)
    counters.connections++
    counters.open = open.size
    const from = socket.remoteAddress?.replace(/^::ffff:/, '') ?? 'unix'
    const sender = senders.find(from)
    const reader = new LineReader(options.collector, from)
    socket.setTimeout(idleMs, () => {
      counters.idle++
      socket.destroy()
    })
    socket.on('data', (chunk: Buffer) => {
      counters.bytes += chunk.length
      reader.push(chunk)
      const waitMs = sender?.spend(chunk.length) ?? 0
      if (waitMs > 0) hold(socket, waitMs)
      if (gate.closed) socket.pause()
    })
    socket.on('end', () => reader.end())
    socket.on('error', () => counters.broken++)
    socket.on('close', () => {
      open.delete(socket)
      counters.open = open.size
    })
    if (gate.closed) socket.pause()
  }

  function hold(socket: Socket, ms: number): void {
    held.add(socket)
    socket.pause()
    setTimeout(() => {
      held.delete(socket)
      if (!gate.closed) socket.resume()
    }, ms).unref()
  }

  gate.onOpen(() => {
    for (const socket of open) if (!held.has(socket)) socket.resume()
  })
  let address = ''
  return {
    get address() {
      return address
    },
    counters,
    async start() {
      if ('path' in listen) removeSocket(listen.path)
      const made = listener()
      server = made
      await new Promise<void>((resolve, reject) => {
        const where = 'path' in listen ? listen.path : formatAddress(listen.host, listen.port)
        made.once('error', (error) => reject(cannotListen(option, where, error)))
        made.listen(listen, resolve)
      })
      // Whoever may reach the folder may send: the proxy rarely runs as the same user.
      if ('path' in listen) chmodSync(listen.path, 0o666)
      const bound = made.address()
      address = typeof bound === 'string' || bound === null ? String(bound) : formatAddress(bound.address, bound.port)
    },
    async stop() {
      tls?.stop()
      const made = server
      if (made?.listening !== true) return
      const closed = new Promise<void>((resolve) => made.close(() => resolve()))
      // What has reached us is read; the rest stays with its sender, which connects again.
      await new Promise((resolve) => setImmediate(resolve))
      for (const socket of open) socket.destroy()
      await closed
    },
  }
}

/** A socket left behind by a process that was killed stands in the way; anything else stays where it is. */
export function removeSocket(path: string): void {
  try {
    if (lstatSync(path).isSocket()) unlinkSync(path)
  } catch {
    // Nothing is there, or it cannot be touched: binding will say so.
  }
}

/** Cuts what comes into lines or packets; holds at most one of them. */
class LineReader {
  readonly #collector: StatsdCollector
  readonly #sender: string
  #held: Buffer = Buffer.alloc(0)
  #packets: boolean | null = null
  /** Inside a line that is too long: everything up to its end is passed over. */
  #skipping = false
  /** Bytes of a packet that is too large which are still to come. */
  #skipBytes = 0

  constructor(collector: StatsdCollector, sender: string) {
    this.#collector = collector
    this.#sender = sender
  }

  push(chunk: Buffer): void {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk])
    this.#held = EMPTY
    if (this.#packets === null) {
      if (bytes.length < 4 && bytes.indexOf(NEWLINE) < 0) {
        this.#held = Buffer.from(bytes)
        return
      }
      this.#packets = bytes.length >= 4 && bytes[2] === 0 && bytes[3] === 0
    }
    if (this.#packets) this.#readPackets(bytes)
    else this.#readLines(bytes)
  }

  /** The last line may lack its end. */
  end(): void {
    if (this.#packets !== true && !this.#skipping && this.#held.length > 0) {
      this.#collector.take(this.#held, 0, this.#held.length, this.#sender)
    }
    this.#held = EMPTY
  }

  #readLines(bytes: Buffer): void {
    let from = 0
    if (this.#skipping) {
      const end = bytes.indexOf(NEWLINE)
      if (end < 0) return
      this.#skipping = false
      from = end + 1
    }
    const last = bytes.lastIndexOf(NEWLINE)
    if (last >= from) {
      this.#collector.take(bytes, from, last, this.#sender)
      from = last + 1
    }
    if (bytes.length - from > LINE_BYTES_MAX) {
      this.#collector.oversized(this.#sender)
      this.#skipping = true
    } else if (from < bytes.length) this.#held = Buffer.from(bytes.subarray(from))
  }

  #readPackets(bytes: Buffer): void {
    let at = Math.min(this.#skipBytes, bytes.length)
    this.#skipBytes -= at
    while (at + 4 <= bytes.length) {
      const length = bytes.readUInt32LE(at)
      if (length > PACKET_BYTES_MAX) {
        this.#collector.oversized(this.#sender)
        const skip = Math.min(length, bytes.length - at - 4)
        this.#skipBytes = length - skip
        at += 4 + skip
        continue
      }
      if (at + 4 + length > bytes.length) break
      this.#collector.take(bytes, at + 4, at + 4 + length, this.#sender)
      at += 4 + length
    }
    if (at < bytes.length) this.#held = Buffer.from(bytes.subarray(at))
  }
}

const EMPTY = Buffer.alloc(0)
