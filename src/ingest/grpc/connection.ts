import { constants, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import type { Sender } from '../../lib/senders.ts'
import type { Scope, Tokens, TokenVerdict } from '../../lib/tokens.ts'
import { Call, type CallShared } from './call.ts'
import { openMethod } from './handler.ts'
import type { Gate, Method } from './service.ts'
import { type Status, status, statusTrailers } from './status.ts'

/**
 * One HTTP/2 connection and its calls: keepalive, age, draining. Nothing here has a timer of its own; the server sweeps
 * all connections by one, so that thousands of silent ones cost next to nothing.
 */
export class Connection {
  readonly peer: string
  readonly #options: ConnectionOptions
  readonly #session: ServerHttp2Session
  readonly #calls = new Set<Call>()
  readonly #startedMs: number
  readonly #agedMs: number
  #settled = false
  /** Set by every chunk, read and cleared by the sweep: a clock call for each chunk would cost more. */
  #active = false
  #activeMs: number
  #pingMs = 0
  #pingsUnanswered = 0
  #emptySinceMs: number
  #draining = false
  #closing = false

  constructor(options: ConnectionOptions) {
    this.#options = options
    this.#session = options.session
    this.peer = options.peer
    const now = options.shared.clock()
    this.#startedMs = now
    this.#activeMs = now
    this.#emptySinceMs = now
    this.#agedMs = now + options.ageMs
    const { counters } = options.shared
    this.#session.on('stream', (stream, headers) => this.#onStream(stream, headers))
    this.#session.once('remoteSettings', () => {
      this.#settled = true
    })
    this.#session.on('error', () => {
      counters.connectionsFailed++
    })
    this.#session.on('close', () => options.onClose(this))
    this.#session.setLocalWindowSize(options.shared.limits.connectionWindowBytes)
  }

  get calls(): number {
    return this.#calls.size
  }

  /**
   * Asks the client to go: GOAWAY that still allows streams under way to us, a polite end for every stream, and the
   * final GOAWAY when the last is gone. Envoy opens its next stream on a new connection.
   */
  drain(): void {
    if (this.#draining) return
    this.#draining = true
    if (this.#session.destroyed) return
    // RFC 9113 §6.8: 2^31 − 1 announces the end without refusing what the client has already sent.
    this.#session.goaway(constants.NGHTTP2_NO_ERROR, 2 ** 31 - 1)
    this.#finishCalls()
  }

  /** Ends the calls that could not be begun any more: their token has been withdrawn. */
  recheck(): void {
    const { tokens } = this.#options
    for (const call of this.#calls) {
      if (call.scope === null || call.ended) continue
      const verdict = tokens.check(call.authorization, call.scope)
      if (verdict !== 'ok') call.finish(unauthorized(verdict, call.scope))
    }
  }

  destroy(): void {
    for (const call of this.#calls) call.destroy()
    this.#session.destroy()
  }

  sweep(nowMs: number): void {
    const { limits, counters } = this.#options.shared
    if (this.#session.destroyed) return
    if (!this.#settled && nowMs - this.#startedMs >= limits.handshakeMs) {
      counters.connectionsSlow++
      this.destroy()
      return
    }
    if (this.#active) {
      this.#active = false
      this.#activeMs = nowMs
      this.#pingsUnanswered = 0
    }
    if (!this.#keepAlive(nowMs)) return
    if (!this.#draining && nowMs >= this.#agedMs) {
      counters.connectionsAged++
      this.drain()
    }
    if (!this.#draining && this.#calls.size === 0 && nowMs - this.#emptySinceMs >= limits.idleConnectionMs) this.drain()
    if (this.#draining) this.#finishCalls()
    for (const call of this.#calls) call.sweep(nowMs)
  }

  /** False: the peer is dead. */
  #keepAlive(nowMs: number): boolean {
    const { keepaliveMs, shared } = this.#options
    if (nowMs - Math.max(this.#activeMs, this.#pingMs) < keepaliveMs) return true
    if (this.#pingsUnanswered >= 2) {
      shared.counters.connectionsDead++
      this.destroy()
      return false
    }
    this.#pingsUnanswered++
    this.#pingMs = nowMs
    this.#session.ping((error) => {
      if (error === null) this.#pingsUnanswered = 0
    })
    return true
  }

  #finishCalls(): void {
    for (const call of this.#calls) call.dismiss()
    this.#closeWhenEmpty()
  }

  #closeWhenEmpty(): void {
    if (!this.#draining || this.#closing || this.#calls.size > 0 || this.#session.destroyed) return
    this.#closing = true
    this.#session.close()
  }

  #onStream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    this.#active = true
    const { shared, findMethod, streamsOpen, tokens, sender } = this.#options
    const { counters, limits } = shared
    counters.streamsOpened++
    stream.on('error', () => {})
    if (headers[':method'] !== 'POST' || !isGrpc(headers['content-type'])) {
      counters.streamsNotGrpc++
      refuseNotGrpc(stream, headers)
      return
    }
    const path = String(headers[':path'] ?? '')
    const found = findMethod(path)
    if (found === undefined) {
      counters.streamsUnimplemented++
      refuse(stream, status('unimplemented', `unknown method ${path.slice(0, 200)}`))
      return
    }
    if (found.scope !== null) {
      const verdict = tokens.check(headers.authorization, found.scope)
      if (verdict !== 'ok') {
        counters.streamsUnauthorized++
        refuse(stream, unauthorized(verdict, found.scope))
        return
      }
    }
    if (!sender.openStream()) {
      counters.streamsRefused++
      refuse(stream, status('unavailable', 'this sender has as many streams open as are allowed'))
      return
    }
    if (streamsOpen() >= limits.streamsMax) {
      sender.closeStream()
      counters.streamsRefused++
      refuse(stream, status('unavailable', `${limits.streamsMax} streams are open, no more are allowed`))
      return
    }
    this.#open(stream, headers, path, found)
  }

  #open(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, path: string, found: FoundMethod): void {
    const { shared, wallClock, sender } = this.#options
    const info = { peer: this.peer, path, headers, openedMs: wallClock() }
    shared.counters.streamsOpen++
    try {
      const call = new Call({
        shared,
        stream,
        headers,
        sender,
        scope: found.scope,
        gate: found.gate,
        touch: () => {
          this.#active = true
        },
        open: (opened) => openMethod(found.method, info, opened),
        onDone: (ended) => {
          this.#calls.delete(ended)
          sender.closeStream()
          shared.counters.streamsOpen--
          this.#emptySinceMs = shared.clock()
          this.#closeWhenEmpty()
        },
      })
      this.#calls.add(call)
    } catch (error) {
      // Thrown by the service before anything was heard of the stream: `onDone` will not come.
      sender.closeStream()
      shared.counters.streamsOpen--
      shared.counters.streamsFailed++
      shared.log.error({ error, path }, 'a gRPC handler could not be opened')
      stream.close(constants.NGHTTP2_INTERNAL_ERROR)
    }
  }
}

export interface FoundMethod {
  readonly method: Method
  readonly gate: Gate
  /** What a token must allow; null: nothing is asked. */
  readonly scope: Scope | null
}

export interface ConnectionOptions {
  readonly session: ServerHttp2Session
  readonly peer: string
  readonly sender: Sender
  readonly tokens: Tokens
  readonly shared: CallShared
  readonly keepaliveMs: number
  /** How long this one may live, jitter included. */
  readonly ageMs: number
  readonly wallClock: () => number
  readonly findMethod: (path: string) => FoundMethod | undefined
  readonly streamsOpen: () => number
  readonly onClose: (connection: Connection) => void
}

/** `application/grpc`, with `+proto` or parameters; nothing else has our messages inside. */
function isGrpc(contentType: string | undefined): boolean {
  return contentType !== undefined && /^application\/grpc(?:\+proto)?\s*(?:;.*)?$/i.test(contentType)
}

function unauthorized(verdict: TokenVerdict, scope: Scope): Status {
  if (verdict === 'scope') return status('permissionDenied', `the token has not the scope ${scope}`)
  return status('unauthenticated', verdict === 'missing' ? 'authorization: Bearer TOKEN is missing' : 'unknown token')
}

/** Trailers-only: the status stands in the one block of headers. */
function refuse(stream: ServerHttp2Stream, value: Status): void {
  respondAndLeave(stream, { ':status': 200, 'content-type': 'application/grpc', ...statusTrailers(value) })
}

/** What is no gRPC gets HTTP's own answer. https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests */
function refuseNotGrpc(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  const code = headers[':method'] === 'POST' ? 415 : 405
  const message = status('internal', code === 415 ? 'content-type is not application/grpc' : 'method is not POST')
  respondAndLeave(stream, { ':status': code, ...statusTrailers(message) })
}

function respondAndLeave(stream: ServerHttp2Stream, headers: Record<string, string | number>): void {
  if (stream.destroyed || stream.closed) return
  stream.respond(headers, { endStream: true })
  // NO_ERROR asks the client to stop sending (RFC 9113 §8.1); what it has sent is let go.
  stream.resume()
  // Not in this turn: a reset would overtake the headers.
  setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR))
}
