import { randomUUID } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import { constants, connect as http2Connect, type OutgoingHttpHeaders } from 'node:http2'
import { connect } from 'node:net'
import { connect as tlsConnect } from 'node:tls'
import type { RigPorts } from './rig.ts'

/** What one request is sent with: the rig it goes to and the names its log entries are found by. */
export interface Call {
  readonly ports: RigPorts
  readonly dir: string
  /** Scenario; travels as x-scenario and is logged. */
  readonly name: string
  /** Travels as x-seq and is logged. */
  readonly seq: string
}

/** What the client saw. Never an error: a broken connection is a result too. */
export interface Seen {
  readonly seq: string
  readonly requestId?: string
  /** Status code; null when no answer began. */
  code: number | null
  grpcStatus?: string
  bytes: number
  ms: number
  error?: string
  /** Joins entries that have no headers: they have the client's port. */
  clientPort?: number
}

export interface Http1Options {
  readonly port?: number
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  /** 'stall': announces a length and sends one byte of it. */
  readonly body?: string
  /** Closes the socket after this time. */
  readonly abortMs?: number
  /** Closes the socket at the first byte of the body. */
  readonly abortOnData?: boolean
}

/** One HTTP/1.1 request on a connection of its own. */
export function http1(call: Call, path: string, options: Http1Options = {}): Promise<Seen> {
  const { port = call.ports.main, method = 'GET', headers = {}, body, abortMs, abortOnData } = options
  return new Promise((resolve) => {
    const started = performance.now()
    const seen: Seen = { seq: call.seq, requestId: randomUUID(), code: null, bytes: 0, ms: 0 }
    let timer: NodeJS.Timeout | undefined
    const done = (error?: string): void => {
      if (seen.ms > 0) return
      seen.ms = performance.now() - started
      if (error !== undefined) seen.error = error
      clearTimeout(timer)
      request.destroy()
      resolve(seen)
    }
    const request = httpRequest({
      host: '127.0.0.1',
      port,
      path,
      method,
      agent: false,
      headers: { ...marks(call, seen), ...(body === 'stall' ? { 'content-length': '100' } : {}), ...headers },
    })
    request.on('socket', (socket) =>
      socket.on('connect', () => {
        if (socket.localPort !== undefined) seen.clientPort = socket.localPort
      }),
    )
    request.on('error', (error: NodeJS.ErrnoException) => done(error.code ?? error.message))
    request.on('response', (response) => {
      seen.code = response.statusCode ?? null
      response.on('error', ignore)
      response.on('data', (data: Buffer) => {
        seen.bytes += data.length
        if (abortOnData) done('aborted')
      })
      response.on('end', () => done())
      response.on('aborted', () => done('truncated'))
    })
    if (body === 'stall') request.write('x')
    else request.end(body)
    if (abortMs !== undefined) timer = setTimeout(() => done('aborted'), abortMs)
  })
}

export interface Http2Options {
  readonly port?: number
  /** TLS to the port, with these certificates. */
  readonly secure?: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer }
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Buffer
  /** Resets the stream, or closes the connection, after this time. */
  readonly resetMs?: number
  readonly closeMs?: number
}

/** One HTTP/2 request on a connection of its own. */
export function http2(call: Call, path: string, options: Http2Options = {}): Promise<Seen> {
  const { port = call.ports.main, secure, headers = {}, body, resetMs, closeMs } = options
  return new Promise((resolve) => {
    const seen: Seen = { seq: call.seq, requestId: randomUUID(), code: null, bytes: 0, ms: 0 }
    const session = secure
      ? http2Connect(`https://edge.test:${port}`, {
          createConnection: () =>
            tlsConnect({ host: '127.0.0.1', port, servername: 'edge.test', ALPNProtocols: ['h2'], ...secure }),
        })
      : http2Connect(`http://127.0.0.1:${port}`)
    session.on('error', (error: NodeJS.ErrnoException) => {
      seen.error = error.code ?? error.message
      resolve(seen)
    })
    session.on('connect', () => {
      const started = performance.now()
      const { localPort } = session.socket ?? {}
      if (localPort !== undefined) seen.clientPort = localPort
      const stream = session.request({
        ':path': path,
        ':method': body ? 'POST' : 'GET',
        ...marks(call, seen),
        ...headers,
      } as OutgoingHttpHeaders)
      const timers = [
        resetMs === undefined ? undefined : setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), resetMs),
        closeMs === undefined ? undefined : setTimeout(() => session.destroy(), closeMs),
      ]
      stream.on('response', (response) => {
        seen.code = response[':status'] ?? null
        if (response['grpc-status'] !== undefined) seen.grpcStatus = String(response['grpc-status'])
      })
      stream.on('trailers', (trailers) => {
        seen.grpcStatus = String(trailers['grpc-status'])
      })
      stream.on('data', (data: Buffer) => {
        seen.bytes += data.length
      })
      stream.on('error', (error: NodeJS.ErrnoException) => {
        seen.error = error.code ?? error.message
      })
      stream.on('close', () => {
        seen.ms = performance.now() - started
        for (const timer of timers) clearTimeout(timer)
        session.destroy()
        resolve(seen)
      })
      stream.end(body)
    })
  })
}

export interface RawOptions {
  /** Closes the connection after this time, if the peer has not. */
  readonly holdMs?: number
  /** Closes it with a reset. */
  readonly reset?: boolean
  /** Sends the bytes again at this interval. */
  readonly everyMs?: number
}

/** Writes bytes to a TCP port and reads until the peer closes or `holdMs` passed. */
export function raw(call: Call, port: number, bytes: string, options: RawOptions = {}): Promise<Seen> {
  const { holdMs = 100, reset = false, everyMs } = options
  return new Promise((resolve) => {
    const seen: Seen = { seq: call.seq, code: null, bytes: 0, ms: 0 }
    const started = performance.now()
    let head = ''
    let repeat: NodeJS.Timeout | undefined
    const socket = connect(port, '127.0.0.1', () => {
      if (socket.localPort !== undefined) seen.clientPort = socket.localPort
      socket.write(bytes)
      if (everyMs !== undefined) repeat = setInterval(() => socket.write(bytes), everyMs)
    })
    const hold = setTimeout(() => (reset ? socket.resetAndDestroy() : socket.destroy()), holdMs)
    socket.on('error', ignore)
    socket.on('data', (data) => {
      seen.bytes += data.length
      if (head.length < 100) head += data.toString('latin1')
    })
    socket.on('close', () => {
      clearInterval(repeat)
      clearTimeout(hold)
      seen.ms = performance.now() - started
      const status = /^HTTP\/1\.1 (\d+)/.exec(head)
      if (status !== null) seen.code = Number(status[1])
      resolve(seen)
    })
  })
}

export function marks(call: Call, seen: Pick<Seen, 'requestId'>): Record<string, string> {
  return { 'x-scenario': call.name, 'x-seq': call.seq, 'x-request-id': seen.requestId ?? '' }
}

function ignore(): void {}
