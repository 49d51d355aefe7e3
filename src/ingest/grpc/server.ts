import { createServer as createHttp2Server, type ServerHttp2Session } from 'node:http2'
import { createServer as createNetServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { cannotListen } from '../../errors.ts'
import { type Access, openAccess } from '../../lib/access.ts'
import type { Sender } from '../../lib/senders.ts'
import { formatAddress, parseAddress } from '../../lib/units.ts'
import type { Stage } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import type { CallShared } from './call.ts'
import { Connection, type FoundMethod } from './connection.ts'
import { createGrpcCounters, type GrpcCounters } from './counters.ts'
import { GRPC_LIMITS, type GrpcLimits } from './limits.ts'
import { PausedCalls } from './paused-calls.ts'
import { farewell, recognise, type Spoken } from './preface.ts'
import { createScratch } from './scratch.ts'
import type { Gate, GrpcService } from './service.ts'
import { Turns } from './turns.ts'

/**
 * One port for all gRPC services, HTTP/2 by prior knowledge or over TLS.
 *
 * ```
 *   socket ─ first bytes ─┬─ HTTP/2 preface ─▶ node:http2 session ─▶ Connection ─▶ Call ─▶ service
 *                         └─ TLS, HTTP/1, other ─▶ told so, counted, closed
 * ```
 *
 * With TLS, sockets come here after the handshake and with ALPN `h2`; nothing behind knows the difference.
 */
export interface GrpcServer extends Stage {
  /** `host:port` as bound; valid after `start`. */
  readonly address: string
  readonly counters: Readonly<GrpcCounters>
  /** Bytes that wait unread behind closed gates, now. */
  unreadBytes(): number
  /** The last client that spoke something else; null when there was none. */
  readonly lastStranger: Stranger | null
  /** Other bounds from now on; what is open stays. Windows and header sizes are those of new connections. */
  setLimits(limits: Partial<Pick<GrpcLimits, 'messageBytesMax' | 'streamsMax'>>): void
}

export interface Stranger {
  readonly spoken: Exclude<Spoken, 'http2'>
  readonly peer: string
  /** Wall clock, ms. */
  readonly timeMs: number
}

export interface GrpcServerOptions {
  /** `host:port`; port 0 takes any free one. */
  readonly listen: string
  /** Where `listen` comes from, for the message when it cannot be bound. */
  readonly option?: string
  readonly services: readonly GrpcService[]
  /** Everybody's where it is absent. */
  readonly access?: Access
  readonly log: Log
  readonly limits?: Partial<GrpcLimits>
  /** Silent peers get a PING after this; two unanswered ones close the connection. */
  readonly keepaliveMs?: number
  /** Streams and their connection are ended politely after this, ± 20 %, so that load spreads again. */
  readonly streamAgeMs?: number
  /** Monotonic, ms. */
  readonly clock?: () => number
  /** Wall clock, ms. */
  readonly wallClock?: () => number
  readonly random?: () => number
  readonly sweepMs?: number
}

const AGE_JITTER = 0.2
/** Sockets close in the turns after their destruction; more than this is a bug, and does not hold the exit up. */
const DESTROY_MS = 1000

export function createGrpcServer(options: GrpcServerOptions): GrpcServer {
  const {
    log,
    keepaliveMs = 30_000,
    streamAgeMs = 30 * 60_000,
    clock = () => performance.now(),
    wallClock = Date.now,
    random = Math.random,
    sweepMs = 250,
  } = options
  const limits: { -readonly [K in keyof GrpcLimits]: GrpcLimits[K] } = { ...GRPC_LIMITS, ...options.limits }
  const { tls, tokens, senders } = options.access ?? openAccess()
  const counters = createGrpcCounters()
  const paused = new PausedCalls()
  const turns = new Turns({
    bytesMax: limits.turnBytes,
    bytesMaxAlone: limits.turnBytesAlone,
    schedule: setImmediate,
    onNext: () => paused.resume(),
  })
  const scratch = createScratch(limits.assemblyBytesMax)
  const shared: CallShared = { limits, counters, scratch, log, clock, paused, turns }
  const methods = indexMethods(options.services)
  /** Accepted, and not yet known to speak HTTP/2. */
  const strangers = new Map<Socket, number>()
  const connections = new Set<Connection>()
  const said = new Set<string>()
  let address = options.listen
  let timer: NodeJS.Timeout | undefined
  let stopping: Promise<void> | undefined
  let onEmpty: (() => void) | undefined
  let lastStranger: Stranger | null = null
  /** Whose session http2 is about to make, in this very turn. */
  let arriving: Sender | null = null

  const http2 = createHttp2Server({
    maxSessionMemory: 64,
    maxHeaderListPairs: limits.headerPairsMax,
    maxOutstandingPings: 10,
    maxSettings: 32,
    maxSessionInvalidFrames: 100,
    maxSessionRejectedStreams: 100,
    settings: {
      enablePush: false,
      initialWindowSize: limits.streamWindowBytes,
      maxConcurrentStreams: limits.streamsPerConnectionMax,
      maxHeaderListSize: limits.headerBytesMax,
    },
  })
  http2.on('session', (session) => onSession(session))
  http2.on('sessionError', () => {}) // Counted where the connection is.

  /** Of connections that are open. */
  const senderOf = new WeakMap<Socket, Sender>()
  const sockets = new Set<Socket>()
  let net: Server | undefined

  function listener(): Server {
    const server =
      tls === null
        ? createNetServer({ noDelay: true }, (socket) => accept(socket))
        : createTlsServer(
            { ...tls.options(), ALPNProtocols: ['h2'], handshakeTimeout: limits.handshakeMs, noDelay: true },
            (socket) => acceptSecure(socket),
          )
    server.prependListener('connection', (socket: Socket) => count(socket))
    server.maxConnections = limits.connectionsMax
    server.on('drop', () => {
      counters.connectionsRefused++
      once('refused', () => log.warn({ max: limits.connectionsMax }, 'a connection to the gRPC port was refused'))
    })
    tls?.watch(server)
    return server
  }

  /** Every connection, with TLS before its handshake. */
  function count(socket: Socket): void {
    counters.connectionsAccepted++
    counters.connectionsOpen++
    socket.on('close', () => counters.connectionsOpen--)
    const sender = senders.open(socket.remoteAddress ?? '')
    if (sender === null) {
      counters.connectionsRefused++
      socket.destroy()
      return
    }
    senderOf.set(socket, sender)
    sockets.add(socket)
    socket.on('close', () => {
      sender.close()
      sockets.delete(socket)
    })
  }

  function once(key: string, write: () => void): void {
    if (said.has(key)) return
    said.add(key)
    write()
  }

  /** Looks at the first bytes before anything is made of them. */
  function accept(socket: Socket): void {
    if (socket.destroyed) return
    strangers.set(socket, clock())
    let first = NOTHING
    const look = (): void => {
      const chunk = socket.read() as Buffer | null
      if (chunk === null) return
      first = first.length === 0 ? chunk : Buffer.concat([first, chunk])
      const spoken = recognise(first)
      if (spoken === null) return
      socket.off('readable', look)
      strangers.delete(socket)
      if (spoken !== 'http2') turnAway(socket, spoken)
      else {
        socket.unshift(first)
        serve(socket, senderOf.get(socket)!)
      }
      first = NOTHING // The listener below lives as long as the socket: 64 KiB each would stay.
    }
    socket.on('readable', look)
    socket.on('error', () => {})
    socket.on('end', () => {
      if (strangers.has(socket)) socket.end()
    })
    socket.on('close', () => {
      if (!strangers.delete(socket)) return
      if (first.length === 0) counters.connectionsEmpty++
      else counters.connectionsOther++
    })
  }

  function turnAway(socket: Socket, spoken: Exclude<Spoken, 'http2'>): void {
    if (spoken === 'tls') counters.connectionsTls++
    else if (spoken === 'http1') counters.connectionsHttp1++
    else counters.connectionsOther++
    const peer = peerOf(socket)
    lastStranger = { spoken, peer, timeMs: wallClock() }
    once(spoken, () => log.warn({ address, peer, spoken }, TURNED_AWAY[spoken]))
    socket.end(farewell(spoken))
    socket.resume()
    socket.setTimeout(1000, () => socket.destroy())
  }

  function acceptSecure(socket: TLSSocket): void {
    socket.on('error', () => {})
    if (!tls!.admit(socket)) return
    const sender = senders.find(socket.remoteAddress ?? '')
    if (socket.alpnProtocol !== 'h2' || sender === null) {
      counters.connectionsOther++
      socket.destroy()
      return
    }
    serve(socket, sender)
  }

  function serve(socket: Socket, sender: Sender): void {
    arriving = sender
    http2.emit('connection', socket)
    arriving = null
  }

  function onSession(session: ServerHttp2Session): void {
    const connection = new Connection({
      session,
      peer: peerOf(session.socket as Socket),
      sender: arriving!,
      tokens,
      shared,
      keepaliveMs,
      ageMs: Math.round(streamAgeMs * (1 - AGE_JITTER + 2 * AGE_JITTER * random())),
      wallClock,
      findMethod: (path) => methods.get(path),
      streamsOpen: () => counters.streamsOpen,
      onClose: (closed) => {
        connections.delete(closed)
        if (connections.size === 0) onEmpty?.()
      },
    })
    connections.add(connection)
    if (stopping !== undefined) connection.drain()
  }

  function sweep(): void {
    const now = clock()
    for (const [socket, since] of strangers) {
      if (now - since < limits.handshakeMs) continue
      counters.connectionsSlow++
      strangers.delete(socket)
      socket.destroy()
    }
    for (const connection of connections) connection.sweep(now)
    resumeAll()
    if (paused.size > 0) shedOver(limits.unreadBytesMax)
  }

  /** Streams with most unread bytes go first. */
  function shedOver(bytesMax: number): void {
    let unread = unreadBytes()
    if (unread <= bytesMax) return
    once('shed', () => log.warn({ unread, bytesMax }, 'streams are cut off: too much waits behind a full journal'))
    for (const call of [...paused].sort((a, b) => b.unreadBytes - a.unreadBytes)) {
      if (unread <= bytesMax) return
      unread -= call.unreadBytes
      call.shed()
    }
  }

  function unreadBytes(): number {
    let bytes = 0
    for (const call of paused) bytes += call.unreadBytes
    return bytes
  }

  const resumeAll = (): void => paused.resume()

  for (const gate of gatesOf(options.services)) gate.onOpen(resumeAll)
  tokens.onReplaced(() => {
    for (const connection of connections) connection.recheck()
  })

  async function drain(deadline: AbortSignal): Promise<void> {
    net?.close()
    tls?.stop()
    for (const socket of strangers.keys()) socket.destroy()
    for (const connection of connections) connection.drain()
    await empty(deadline)
    for (const connection of [...connections]) connection.destroy()
    await empty(AbortSignal.timeout(DESTROY_MS))
    // What is left is inside a handshake.
    for (const socket of sockets) socket.destroy()
    clearInterval(timer)
  }

  /** Resolves when the last connection is closed, or at the deadline. */
  async function empty(deadline: AbortSignal): Promise<void> {
    if (connections.size === 0 || deadline.aborted) return
    await new Promise<void>((resolve) => {
      onEmpty = resolve
      deadline.addEventListener('abort', () => resolve(), { once: true })
    })
  }

  return {
    name: 'grpc',
    get address() {
      return address
    },
    counters,
    unreadBytes,
    get lastStranger() {
      return lastStranger
    },
    async start() {
      const { listen, option = 'ingest.grpc.listen' } = options
      const parsed = parseAddress(listen)
      if (parsed === null) throw cannotListen(option, listen, new Error('it is not host:port'))
      const server = listener()
      net = server
      await new Promise<void>((resolve, reject) => {
        server.once('error', (error) => reject(cannotListen(option, listen, error)))
        server.listen({ host: parsed.host, port: parsed.port, backlog: 1024 }, resolve)
      })
      server.on('error', (error) => log.error({ error }, 'the gRPC listener failed'))
      const bound = server.address() as { address: string; port: number }
      address = formatAddress(parsed.host, bound.port)
      timer = setInterval(sweep, sweepMs)
    },
    stop(deadline) {
      stopping ??= drain(deadline)
      return stopping
    },
    setLimits(changed) {
      Object.assign(limits, changed)
    },
  }
}

const NOTHING: Buffer = Buffer.alloc(0)

const ALWAYS_OPEN: Gate = { closed: false, onOpen() {} }

function indexMethods(services: readonly GrpcService[]): Map<string, FoundMethod> {
  const methods = new Map<string, FoundMethod>()
  for (const service of services) {
    for (const [name, method] of Object.entries(service.methods)) {
      const { gate = ALWAYS_OPEN, scope = 'ingest' } = service
      methods.set(`/${service.name}/${name}`, { method, gate, scope })
    }
  }
  return methods
}

function gatesOf(services: readonly GrpcService[]): Set<Gate> {
  return new Set(services.flatMap((service) => (service.gate === undefined ? [] : [service.gate])))
}

function peerOf(socket: Socket): string {
  const { remoteAddress = '', remotePort = 0 } = socket
  return formatAddress(remoteAddress, remotePort)
}

const TURNED_AWAY = {
  tls: 'a client speaks TLS on the gRPC port, which has none',
  http1: 'a client speaks HTTP/1 on the gRPC port; gRPC needs HTTP/2',
  other: 'a client speaks no protocol known here on the gRPC port',
} as const
