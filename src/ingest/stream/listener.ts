import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { cannotListen } from '../../errors.ts'
import { type Access, openAccess } from '../../lib/access.ts'
import type { Sender } from '../../lib/senders.ts'
import { formatAddress, parseAddress } from '../../lib/units.ts'
import type { Stage } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'

/**
 * A TCP or TLS port of a receiver: a bound on connections, on the time that one message may take, and back-pressure. A chunk is
 * handed on when the one before has been dealt with; until then the socket is not read, and the sender's window closes.
 */
export interface StreamListener extends Stage {
  /** host:port that it listens on. */
  readonly address: string
  readonly counters: Readonly<StreamCounters>
}

export interface StreamCounters {
  connections: number
  open: number
  /** Turned away: `connectionsMax` were open, or as many as one sender may have. */
  refused: number
  /** Ended by us: a message did not end in time, or the handler said so. */
  stalled: number
  closed: number
  /** Connections that a bug of ours ended. */
  faults: number
  /** TLS handshakes that failed, and peers that were not let in after one. */
  handshakes: number
  bytes: number
}

/** What a receiver does with one connection. */
export interface StreamHandler {
  /** Deals with the bytes. False: the connection is of no more use. The chunk may be kept. */
  onChunk(chunk: Buffer): Promise<boolean>
  /** The peer has ended, and everything before has been dealt with. */
  onEnd(): Promise<void>
  /** A message has begun and not ended: it has to end in time. */
  readonly holds: boolean
}

export interface StreamPeer {
  /** host:port */
  readonly peer: string
  /** Without port. */
  readonly host: string
  readonly socket: Socket
}

export interface StreamListenerOptions {
  readonly name: string
  readonly listen: string
  /** Of the configuration, for messages. */
  readonly option: string
  /** Everybody's, without TLS, where it is absent. Tokens are not asked for: these protocols have none. */
  readonly access?: Access
  readonly open: (peer: StreamPeer) => StreamHandler
  readonly log: Log
  readonly connectionsMax?: number
  /** From the first byte of a message to its last; and for a TLS handshake. */
  readonly stallMs?: number
  readonly clock?: () => number
  readonly sweepMs?: number
}

const CONNECTIONS_MAX = 2000
const STALL_MS = 30_000
const SWEEP_MS = 1000

export function createStreamListener(options: StreamListenerOptions): StreamListener {
  return new Listener(options)
}

interface Connection {
  readonly socket: Socket
  readonly handler: StreamHandler
  readonly sender: Sender | null
  /** When the message that has not ended began; NaN: none. */
  heldSinceMs: number
  /** A chunk is being dealt with: time does not count against the peer. */
  busy: boolean
  done: Promise<void>
}

class Listener implements StreamListener {
  readonly name: string
  readonly counters: StreamCounters = {
    connections: 0,
    open: 0,
    refused: 0,
    stalled: 0,
    closed: 0,
    faults: 0,
    handshakes: 0,
    bytes: 0,
  }
  address: string
  readonly #options: StreamListenerOptions
  readonly #access: Access
  readonly #clock: () => number
  readonly #connections = new Set<Connection>()
  readonly #sockets = new Set<Socket>()
  #server: Server | undefined
  #timer: NodeJS.Timeout | undefined
  #stopping = false
  readonly #stopped = new AbortController()

  constructor(options: StreamListenerOptions) {
    this.#options = options
    this.#access = options.access ?? openAccess()
    this.name = options.name
    this.address = options.listen
    this.#clock = options.clock ?? (() => performance.now())
  }

  async start(): Promise<void> {
    const { listen, option, connectionsMax = CONNECTIONS_MAX, stallMs = STALL_MS } = this.#options
    const { tls } = this.#access
    let server: Server
    if (tls === null) server = createServer({ noDelay: true }, (socket) => this.#accept(socket))
    else {
      server = createTlsServer({ ...tls.options(), handshakeTimeout: stallMs, noDelay: true }, (socket) =>
        this.#acceptSecure(socket),
      )
      server.on('tlsClientError', () => this.counters.handshakes++)
      tls.watch(server)
    }
    // With TLS too: sockets count from their first byte.
    server.maxConnections = connectionsMax
    server.on('drop', () => this.counters.refused++)
    server.prependListener('connection', (socket: Socket) => this.#count(socket))
    const { host, port } = parseAddress(listen)!
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(cannotListen(option, listen, error)))
      server.listen({ host, port }, resolve)
    })
    this.#server = server
    const bound = server.address() as AddressInfo
    this.address = formatAddress(bound.address, bound.port)
    this.#timer = setInterval(() => this.#sweep(), this.#options.sweepMs ?? SWEEP_MS)
  }

  /** Nothing new is read; what has been read is dealt with, until the deadline. */
  async stop(deadline: AbortSignal): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    this.#stopped.abort()
    clearInterval(this.#timer)
    this.#access.tls?.stop()
    const closed = new Promise<void>((resolve) => {
      if (this.#server === undefined) resolve()
      else this.#server.close(() => resolve())
    })
    const destroyAll = (): void => {
      for (const socket of this.#sockets) socket.destroy()
    }
    for (const { busy, socket } of this.#connections) if (!busy) socket.destroy()
    for (const socket of this.#sockets) {
      if (![...this.#connections].some((connection) => connection.busy)) socket.destroy()
    }
    if (deadline.aborted) destroyAll()
    else deadline.addEventListener('abort', destroyAll, { once: true })
    const drained = Promise.all([...this.#connections].map(({ done }) => done))
    const aborted = new Promise<void>((resolve) => {
      if (deadline.aborted) resolve()
      else deadline.addEventListener('abort', () => resolve(), { once: true })
    })
    await Promise.race([drained, aborted])
    destroyAll()
    await closed
    deadline.removeEventListener('abort', destroyAll)
  }

  /** Every connection, with TLS before its handshake. */
  #count(socket: Socket): void {
    const sender = this.#access.senders.open(socket.remoteAddress ?? '')
    if (sender === null) {
      this.counters.refused++
      socket.destroy()
      return
    }
    this.#sockets.add(socket)
    socket.on('close', () => {
      this.#sockets.delete(socket)
      sender.close()
    })
  }

  #acceptSecure(socket: TLSSocket): void {
    socket.on('error', () => {})
    if (this.#access.tls!.admit(socket)) this.#accept(socket)
    else this.counters.handshakes++
  }

  #accept(socket: Socket): void {
    if (socket.destroyed) return
    const { counters } = this
    const host = (socket.remoteAddress ?? '').replace(/^::ffff:/, '')
    const peer = formatAddress(host, socket.remotePort ?? 0)
    counters.connections++
    counters.open++
    socket.setKeepAlive(true, 60_000)
    socket.on('error', () => {}) // It closes, which is all there is to do.
    const handler = this.#options.open({ peer, host, socket })
    const sender = this.#access.senders.find(socket.remoteAddress ?? '')
    const connection: Connection = {
      socket,
      handler,
      sender,
      heldSinceMs: Number.NaN,
      busy: false,
      done: Promise.resolve(),
    }
    this.#connections.add(connection)
    connection.done = this.#serve(connection).finally(() => {
      this.#connections.delete(connection)
      counters.open--
      socket.destroy()
    })
  }

  async #serve(connection: Connection): Promise<void> {
    const { socket, handler, sender } = connection
    const { counters } = this
    try {
      for await (const chunk of socket as AsyncIterable<Buffer>) {
        counters.bytes += chunk.length
        connection.busy = true
        const isGood = await this.#guard(handler.onChunk(chunk), false)
        const waitMs = sender?.spend(chunk.length) ?? 0
        if (waitMs > 0 && !this.#stopping) await this.#pause(waitMs)
        connection.busy = false
        // From the begin of the message, not from its last byte: who drips bytes gains nothing.
        if (!handler.holds) connection.heldSinceMs = Number.NaN
        else if (Number.isNaN(connection.heldSinceMs)) connection.heldSinceMs = this.#clock()
        if (!isGood) counters.closed++
        if (!isGood || this.#stopping) break
      }
    } catch {
      // Reset by the peer, or destroyed by us.
    }
    connection.busy = true
    await this.#guard(handler.onEnd(), undefined)
  }

  /** A sender over its bytes a second is not read, so that its window closes. Ends early when we stop. */
  async #pause(ms: number): Promise<void> {
    await wait(ms, undefined, { signal: this.#stopped.signal }).catch(() => {})
  }

  /** A bug that one sender's bytes bring to light must not end the process: the connection ends, and the log says why. */
  async #guard<T>(work: Promise<T>, otherwise: T): Promise<T> {
    try {
      return await work
    } catch (error) {
      this.counters.faults++
      if (this.counters.faults === 1) this.#options.log.error({ listener: this.name, error }, 'a connection failed')
      return otherwise
    }
  }

  #sweep(): void {
    const { stallMs = STALL_MS } = this.#options
    const now = this.#clock()
    for (const { heldSinceMs, busy, socket } of this.#connections) {
      if (busy || !(now - heldSinceMs > stallMs)) continue
      this.counters.stalled++
      socket.destroy()
    }
  }
}
