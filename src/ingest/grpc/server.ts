import { createServer as createHttp2Server, type ServerHttp2Session } from 'node:http2'
import { createServer as createNetServer, type Socket } from 'node:net'
import { SidecastError } from '../../errors.ts'
import { parseAddress } from '../../lib/units.ts'
import type { Stage } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import type { Call, CallShared } from './call.ts'
import { Connection, type FoundMethod } from './connection.ts'
import { createGrpcCounters, type GrpcCounters } from './counters.ts'
import { GRPC_LIMITS, type GrpcLimits } from './limits.ts'
import { farewell, recognise, type Spoken } from './preface.ts'
import { createScratch } from './scratch.ts'
import type { Gate, GrpcService } from './service.ts'

/**
 * One port for all gRPC services, HTTP/2 without TLS by prior knowledge.
 *
 * ```
 *   socket ─ first bytes ─┬─ HTTP/2 preface ─▶ node:http2 session ─▶ Connection ─▶ Call ─▶ service
 *                         └─ TLS, HTTP/1, other ─▶ told so, counted, closed
 * ```
 *
 * A listener with TLS would hand its sockets to `serve` after the handshake; nothing behind it knows the difference.
 */
export interface GrpcServer extends Stage {
  /** `host:port` as bound; valid after `start`. */
  readonly address: string
  readonly counters: Readonly<GrpcCounters>
  /** Bytes that wait unread behind closed gates, now. */
  unreadBytes(): number
  /** The last client that spoke something else; null when there was none. */
  readonly lastStranger: Stranger | null
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
  const limits: GrpcLimits = { ...GRPC_LIMITS, ...options.limits }
  const counters = createGrpcCounters()
  const paused = new Set<Call>()
  const shared: CallShared = { limits, counters, scratch: createScratch(limits.assemblyBytesMax), log, clock, paused }
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

  const net = createNetServer({ noDelay: true }, (socket) => accept(socket))
  net.maxConnections = limits.connectionsMax
  net.on('drop', () => {
    counters.connectionsRefused++
    once('refused', () => log.warn({ max: limits.connectionsMax }, 'a connection to the gRPC port was refused'))
  })

  function once(key: string, write: () => void): void {
    if (said.has(key)) return
    said.add(key)
    write()
  }

  /** Looks at the first bytes before anything is made of them. */
  function accept(socket: Socket): void {
    counters.connectionsAccepted++
    counters.connectionsOpen++
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
        serve(socket)
      }
      first = NOTHING // The listener below lives as long as the socket: 64 KiB each would stay.
    }
    socket.on('readable', look)
    socket.on('error', () => {})
    socket.on('end', () => {
      if (strangers.has(socket)) socket.end()
    })
    socket.on('close', () => {
      counters.connectionsOpen--
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

  function serve(socket: Socket): void {
    http2.emit('connection', socket)
  }

  function onSession(session: ServerHttp2Session): void {
    const connection = new Connection({
      session,
      peer: peerOf(session.socket as Socket),
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

  function resumeAll(): void {
    for (const call of [...paused]) call.resume()
  }

  for (const gate of gatesOf(options.services)) gate.onOpen(resumeAll)

  async function drain(deadline: AbortSignal): Promise<void> {
    net.close()
    for (const socket of strangers.keys()) socket.destroy()
    for (const connection of connections) connection.drain()
    await empty(deadline)
    for (const connection of [...connections]) connection.destroy()
    await empty(AbortSignal.timeout(DESTROY_MS))
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
      const parsed = parseAddress(options.listen)
      if (parsed === null) throw cannotBind(options, new Error('not host:port'))
      await new Promise<void>((resolve, reject) => {
        net.once('error', (error) => reject(cannotBind(options, error)))
        net.listen({ host: parsed.host, port: parsed.port, backlog: 1024 }, resolve)
      })
      net.on('error', (error) => log.error({ error }, 'the gRPC listener failed'))
      const bound = net.address() as { address: string; port: number }
      address = `${parsed.host.includes(':') ? `[${parsed.host}]` : parsed.host}:${bound.port}`
      timer = setInterval(sweep, sweepMs)
    },
    stop(deadline) {
      stopping ??= drain(deadline)
      return stopping
    },
  }
}

const NOTHING: Buffer = Buffer.alloc(0)

const ALWAYS_OPEN: Gate = { closed: false, onOpen() {} }

function indexMethods(services: readonly GrpcService[]): Map<string, FoundMethod> {
  const methods = new Map<string, FoundMethod>()
  for (const service of services) {
    for (const [name, method] of Object.entries(service.methods)) {
      methods.set(`/${service.name}/${name}`, { method, gate: service.gate ?? ALWAYS_OPEN })
    }
  }
  return methods
}

function gatesOf(services: readonly GrpcService[]): Set<Gate> {
  return new Set(services.flatMap((service) => (service.gate === undefined ? [] : [service.gate])))
}

function cannotBind(options: GrpcServerOptions, cause: Error): SidecastError {
  const { code } = cause as NodeJS.ErrnoException
  const reason =
    code === 'EADDRINUSE' ? 'the address is in use' : code === 'EACCES' ? 'permission denied' : cause.message
  const option = options.option ?? 'ingest.grpc.listen'
  return new SidecastError('SC4101', `${option}: cannot listen on ${options.listen}: ${reason}`, {
    help: `stop the other program, or choose another address with --set ${option}=HOST:PORT`,
    cause,
  })
}

function peerOf(socket: Socket): string {
  const { remoteAddress = '', remotePort = 0 } = socket
  return remoteAddress.includes(':') ? `[${remoteAddress}]:${remotePort}` : `${remoteAddress}:${remotePort}`
}

const TURNED_AWAY = {
  tls: 'a client speaks TLS on the gRPC port, which has none',
  http1: 'a client speaks HTTP/1 on the gRPC port; gRPC needs HTTP/2',
  other: 'a client speaks no protocol known here on the gRPC port',
} as const
