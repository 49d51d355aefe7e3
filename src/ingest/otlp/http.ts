import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { cannotListen } from '../../errors.ts'
import { type Access, openAccess } from '../../lib/access.ts'
import { guardConnections } from '../../lib/guard-connections.ts'
import { formatAddress, parseAddress } from '../../lib/units.ts'
import type { Stage } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import { encodeResponse, encodeStatus, jsonResponse } from './answers.ts'
import { type BodyFault, createBodyReader } from './body.ts'
import type { Answer, Exporter } from './export.ts'
import { jsonToProtobuf } from './json.ts'
import { SIGNALS, type Signal } from './messages.ts'
import { NODE_HEADER, type Sender } from './resource.ts'

/**
 * OTLP over HTTP: `POST …/v1/logs`, `…/v1/metrics`, `…/v1/traces`, in protobuf or JSON, as it is or packed with gzip or
 * deflate. Whatever stands before `/v1/` is accepted, since Envoy sends to the path it was given.
 *
 * Answers are those of the specification: 200 with an Export…ServiceResponse, else a `google.rpc.Status` in the format of
 * the request; 429 and 503 carry Retry-After and mean that the same request may be sent again.
 * https://opentelemetry.io/docs/specs/otlp/#otlphttp
 */
export interface OtlpHttpServer extends Stage {
  /** `host:port` as bound; valid after `start`. */
  readonly address: string
  readonly counters: Readonly<OtlpHttpCounters>
  /** Other bounds from now on. */
  setLimits(limits: Pick<OtlpHttpLimits, 'bodyBytesMax' | 'decompressedBytesMax'>): void
}

export interface OtlpHttpCounters {
  connections: number
  connectionsOpen: number
  connectionsRefused: number
  requests: number
  /** Answers by status code. */
  readonly answers: Map<number, number>
  /** Requests without a token that allows them, and those of senders over their bytes a second. */
  unauthorized: number
  held: number
  /** Connections closed because a request did not come in time, or was no HTTP. */
  slow: number
  malformed: number
}

export interface OtlpHttpServerOptions {
  readonly listen: string
  /** Where `listen` comes from, for the message when it cannot be bound. */
  readonly option?: string
  readonly exporter: Exporter
  /** Everybody's, without TLS, where it is absent. */
  readonly access?: Access
  readonly log: Log
  readonly limits?: Partial<OtlpHttpLimits>
}

export interface OtlpHttpLimits {
  readonly bodyBytesMax: number
  /** After unpacking. Its own bound, since 1 KiB can become 1 MiB. */
  readonly decompressedBytesMax: number
  /** Bodies under way, all together; past it senders get 429. */
  readonly heldBytesMax: number
  readonly connectionsMax: number
  /** From the first byte of a request to the end of its headers, and to its end. */
  readonly headersMs: number
  readonly requestMs: number
  readonly idleMs: number
}

export const OTLP_HTTP_LIMITS: OtlpHttpLimits = {
  bodyBytesMax: 20 << 20,
  decompressedBytesMax: 64 << 20,
  heldBytesMax: 256 << 20,
  connectionsMax: 10_000,
  headersMs: 10_000,
  requestMs: 30_000,
  idleMs: 75_000,
}

const RETRY_AFTER_S = 1
const PATH = /\/v1\/(logs|metrics|traces)$/
const ENCODINGS: Readonly<Record<string, string>> = {
  '': '',
  identity: '',
  gzip: 'gzip',
  'x-gzip': 'gzip',
  deflate: 'deflate',
}

/** How a request is written, and so its answer. */
type Format = 'protobuf' | 'json'
const CONTENT_TYPES: Readonly<Record<Format, string>> = {
  protobuf: 'application/x-protobuf',
  json: 'application/json',
}

export function createOtlpHttpServer(options: OtlpHttpServerOptions): OtlpHttpServer {
  const { exporter, log } = options
  const limits: OtlpHttpLimits = { ...OTLP_HTTP_LIMITS, ...options.limits }
  const bodies = createBodyReader(limits)
  const counters: OtlpHttpCounters = {
    connections: 0,
    connectionsOpen: 0,
    connectionsRefused: 0,
    requests: 0,
    answers: new Map(),
    unauthorized: 0,
    held: 0,
    slow: 0,
    malformed: 0,
  }
  const access = options.access ?? openAccess()
  const { tls, tokens, senders } = access
  const sockets = new Set<Socket>()
  let address = options.listen
  let stopping: Promise<void> | undefined

  const settings = {
    headersTimeout: limits.headersMs,
    requestTimeout: limits.requestMs,
    keepAliveTimeout: limits.idleMs,
    connectionsCheckingInterval: Math.min(1000, limits.headersMs),
    maxHeaderSize: 16_384,
    noDelay: true,
  }
  const server = tls === null ? createServer(settings) : createSecureServer({ ...settings, ...tls.options() })
  guardConnections(server, access, () => counters.connectionsRefused++)
  server.maxConnections = limits.connectionsMax
  server.on('drop', () => {
    counters.connectionsRefused++
  })
  server.on('connection', (socket) => {
    counters.connections++
    counters.connectionsOpen++
    sockets.add(socket)
    socket.on('close', () => {
      counters.connectionsOpen--
      sockets.delete(socket)
    })
  })
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    const slow = error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
    if (slow) counters.slow++
    else if (error.code !== 'ECONNRESET') counters.malformed++
    if (!socket.writable) return
    socket.end(`HTTP/1.1 ${slow ? '408 Request Timeout' : '400 Bad Request'}\r\nconnection: close\r\n\r\n`, () =>
      socket.destroy(),
    )
  })
  server.on('request', (request, response) => {
    answerRequest(request, response).catch((error: unknown) => {
      log.error({ error }, 'an OTLP request failed')
      if (response.headersSent) response.destroy()
      else send(response, 500, 'protobuf', encodeStatus(INTERNAL, 'internal error'))
    })
  })

  async function answerRequest(request: IncomingMessage, response: ServerResponse): Promise<void> {
    counters.requests++
    const signal = signalOf(request.url ?? '')
    const format = formatOf(request.headers['content-type'] ?? '')
    const refuse = (code: number, rpcCode: number, message: string, headers: Record<string, string> = {}): void => {
      // The body is not read on: the connection cannot be used for another request.
      if (!request.complete) response.shouldKeepAlive = false
      sendStatus(response, code, format ?? 'protobuf', rpcCode, message, headers)
    }
    if (signal === null) return refuse(404, NOT_FOUND, `POST to ${SIGNALS.map((name) => `/v1/${name}`).join(', ')}`)
    if (request.method !== 'POST') return refuse(405, UNIMPLEMENTED, 'use POST', { allow: 'POST' })
    // A page in a browser could otherwise write to a listener on loopback.
    if (request.headers.origin !== undefined) return refuse(403, PERMISSION_DENIED, 'not from a browser')
    const verdict = tokens.check(request.headers.authorization, 'ingest')
    if (verdict !== 'ok') {
      counters.unauthorized++
      if (verdict === 'scope') return refuse(403, PERMISSION_DENIED, 'the token has not the scope ingest')
      const challenge = { 'www-authenticate': 'Bearer realm="sidecast"' }
      return refuse(401, UNAUTHENTICATED, 'send Authorization: Bearer TOKEN', challenge)
    }
    const readBefore = request.socket.bytesRead
    const budget = senders.find(request.socket.remoteAddress ?? '')
    const waitMs = budget?.waitMs() ?? 0
    if (waitMs > 0) {
      counters.held++
      const retryAfter = { 'retry-after': String(Math.ceil(waitMs / 1000)) }
      return refuse(429, RESOURCE_EXHAUSTED, 'more bytes a second than one sender may', retryAfter)
    }
    const sender = senderOf(request)
    if (format === null) {
      exporter.refused(signal, 'content_type', sender)
      return refuse(415, INVALID_ARGUMENT, 'content-type must be application/x-protobuf or application/json')
    }
    const encoding = ENCODINGS[(request.headers['content-encoding'] ?? '').trim().toLowerCase()]
    if (encoding === undefined) {
      exporter.refused(signal, 'content_encoding', sender)
      return refuse(415, INVALID_ARGUMENT, 'content-encoding must be gzip, deflate or identity')
    }
    if (exporter.closed || stopping !== undefined) {
      exporter.refused(signal, 'no_room', sender)
      return refuse(503, UNAVAILABLE, 'not now, try again later', { 'retry-after': String(RETRY_AFTER_S) })
    }
    const body = await bodies.read(request, encoding)
    budget?.spend(request.socket.bytesRead - readBefore)
    if (!body.ok) {
      exporter.refused(signal, body.reason, sender)
      const [code, rpcCode, message] = FAULTS[body.reason]
      return refuse(code, rpcCode, message, code === 429 ? { 'retry-after': String(RETRY_AFTER_S) } : {})
    }
    try {
      await exportBody(signal, format, body.bytes, sender, response)
    } finally {
      bodies.release(body.bytes)
    }
  }

  async function exportBody(
    signal: Signal,
    format: Format,
    body: Buffer,
    sender: Sender,
    response: ServerResponse,
  ): Promise<void> {
    let bytes = body
    if (format === 'json') {
      const converted = jsonToProtobuf(signal, body.toString('utf8'))
      if (!converted.ok) {
        exporter.refused(signal, `json_${converted.reason}`, sender, body)
        sendStatus(response, 400, format, INVALID_ARGUMENT, converted.message)
        return
      }
      bytes = converted.bytes
    }
    sendAnswer(response, signal, format, await exporter.export(signal, bytes, 0, bytes.length, sender))
  }

  function sendAnswer(response: ServerResponse, signal: Signal, format: Format, answer: Answer): void {
    if (answer.status === 'ok') {
      send(response, 200, format, format === 'json' ? jsonResponse(signal, answer) : encodeResponse(answer))
    } else if (answer.status === 'invalid') sendStatus(response, 400, format, INVALID_ARGUMENT, answer.message)
    else {
      const headers = { 'retry-after': String(RETRY_AFTER_S) }
      sendStatus(response, 503, format, UNAVAILABLE, answer.message, headers)
    }
  }

  function sendStatus(
    response: ServerResponse,
    code: number,
    format: Format,
    rpcCode: number,
    message: string,
    headers: Record<string, string> = {},
  ): void {
    const body = format === 'json' ? JSON.stringify({ code: rpcCode, message }) : encodeStatus(rpcCode, message)
    send(response, code, format, body, headers)
  }

  function send(
    response: ServerResponse,
    code: number,
    format: Format,
    body: Buffer | string,
    headers: Record<string, string> = {},
  ): void {
    counters.answers.set(code, (counters.answers.get(code) ?? 0) + 1)
    if (stopping !== undefined) response.shouldKeepAlive = false
    response.writeHead(code, {
      'content-type': CONTENT_TYPES[format],
      'content-length': Buffer.byteLength(body),
      ...headers,
    })
    response.end(body)
  }

  async function drain(deadline: AbortSignal): Promise<void> {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    server.closeIdleConnections()
    tls?.stop()
    const cut = (): void => {
      for (const socket of sockets) socket.destroy()
    }
    if (deadline.aborted) cut()
    else deadline.addEventListener('abort', cut, { once: true })
    await closed
  }

  return {
    name: 'otlp-http',
    get address() {
      return address
    },
    counters,
    async start() {
      const { listen, option = 'ingest.otlpHttp.listen' } = options
      const parsed = parseAddress(listen)
      if (parsed === null) throw cannotListen(option, listen, new Error('it is not host:port'))
      await new Promise<void>((resolve, reject) => {
        server.once('error', (error) => reject(cannotListen(option, listen, error)))
        server.listen({ host: parsed.host, port: parsed.port, backlog: 1024 }, resolve)
      })
      server.on('error', (error) => log.error({ error }, 'the OTLP listener failed'))
      const { port } = server.address() as AddressInfo
      address = formatAddress(parsed.host, port)
    },
    setLimits(changed) {
      Object.assign(limits, changed)
    },
    stop(deadline) {
      stopping ??= server.listening ? drain(deadline) : Promise.resolve()
      return stopping
    },
  }
}

/** Codes of google.rpc. */
const INVALID_ARGUMENT = 3
const NOT_FOUND = 5
const PERMISSION_DENIED = 7
const RESOURCE_EXHAUSTED = 8
const UNIMPLEMENTED = 12
const INTERNAL = 13
const UNAVAILABLE = 14
const UNAUTHENTICATED = 16

const FAULTS: Readonly<Record<BodyFault, readonly [code: number, rpcCode: number, message: string]>> = {
  too_large: [413, RESOURCE_EXHAUSTED, 'the body is too large'],
  bad_compression: [400, INVALID_ARGUMENT, 'the body is not what its content-encoding says'],
  cut_off: [400, INVALID_ARGUMENT, 'the body was cut off'],
  busy: [429, RESOURCE_EXHAUSTED, 'too many requests are under way'],
}

function signalOf(url: string): Signal | null {
  const query = url.indexOf('?')
  const match = PATH.exec(query < 0 ? url : url.slice(0, query))
  return match === null ? null : (match[1] as Signal)
}

function formatOf(contentType: string): Format | null {
  const type = contentType.split(';')[0]!.trim().toLowerCase()
  if (type === 'application/x-protobuf' || type === 'application/protobuf') return 'protobuf'
  return type === 'application/json' ? 'json' : null
}

function senderOf(request: IncomingMessage): Sender {
  const { remoteAddress = '', remotePort = 0 } = request.socket
  const node = request.headers[NODE_HEADER]
  return {
    peer: formatAddress(remoteAddress, remotePort),
    node: (Array.isArray(node) ? (node[0] ?? '') : (node ?? '')).slice(0, 256),
  }
}
