import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type { Sender } from '../../lib/senders.ts'
import type { Scope } from '../../lib/tokens.ts'
import type { Log } from '../../telemetry/log.ts'
import type { GrpcCounters } from './counters.ts'
import type { GrpcLimits } from './limits.ts'
import { createMessageReader, type MessageReader } from './message-reader.ts'
import type { PausedCalls } from './paused-calls.ts'
import type { Scratch } from './scratch.ts'
import { type Gate, isStatus, type Verdict } from './service.ts'
import { OK, STATUS, type Status, status, statusTrailers } from './status.ts'
import type { Turns } from './turns.ts'

/**
 * One call: one HTTP/2 stream, read into a handler.
 *
 * ```
 *            client half-closes          reply and trailers
 *   open ───────────────────────▶ replying ──────────────▶ closed ──▶ done
 *    │  ▲
 *    │  └─ paused: gate closed, sender over its bytes a second or its share of a turn; nothing is read, HTTP/2 holds the
 *    │     sender back
 *    │ finish(status): trailers go out
 *    ▼
 *   lingering: still read until the client closes or `lingerMs` is over, then RST_STREAM NO_ERROR ──▶ closed ──▶ done
 * ```
 *
 * Invariant: every byte that arrived before the stream was closed is read by the handler, also when the stream is reset
 * while it is paused, unless the call failed or was shed (both counted). `onClose` comes after the last of them.
 */
export class Call {
  readonly sender: Sender
  /** What its token must allow; null: nothing was asked. */
  readonly scope: Scope | null
  /** As the stream brought it. */
  readonly authorization: string | undefined
  readonly #shared: CallShared
  readonly #stream: ServerHttp2Stream
  readonly #reader: MessageReader
  readonly #handler: Handler
  readonly #gate: Gate
  readonly #touch: () => void
  readonly #onDone: (call: Call) => void
  /** Chunks that have left the stream's own buffer but may not be read yet. */
  #queue: Buffer[] = []
  #queueBytes = 0
  #paused = false
  /** The client has half-closed and all it sent is in the queue or read. */
  #inputEnded = false
  #inputHandled = false
  #failed = false
  #status: Status | null = null
  #closed = false
  #done = false
  #lingerUntilMs = 0

  constructor(options: CallOptions) {
    const { shared, stream } = options
    this.sender = options.sender
    this.scope = options.scope
    this.authorization = options.headers.authorization
    this.#shared = shared
    this.#stream = stream
    this.#gate = options.gate
    this.#touch = options.touch
    this.#onDone = options.onDone
    this.#handler = options.open(this)
    this.#reader = createMessageReader({
      messageBytesMax: shared.limits.messageBytesMax,
      decompressedBytesMax: shared.limits.decompressedBytesMax,
      encoding: String(options.headers['grpc-encoding'] ?? ''),
      scratch: shared.scratch,
      onMessage: (bytes, start, end) => {
        const verdict = this.#handler.onMessage(bytes, start, end)
        if (verdict === 'again') return verdict
        shared.counters.messages++
        shared.counters.messageBytes += end - start
        return verdict === null && this.#gate.closed ? 'stop' : verdict
      },
    })
    stream.on('wantTrailers', () => this.#sendTrailers())
    stream.on('data', (chunk: Buffer) => this.#take(chunk))
    stream.on('end', () => this.#onInputEnd())
    stream.on('aborted', () => this.#drain())
    stream.on('error', () => {}) // The reset code of the peer; 'close' follows.
    stream.on('close', () => this.#onStreamClose())
    // Early, so that the client knows the stream as accepted before its first message. A stream that was reset in the
    // very read that opened it is closed by now; what it sent is still read.
    if (!stream.destroyed && !stream.closed) stream.respond(RESPONSE_HEADERS, { waitForTrailers: true })
    if (this.#gate.closed) this.#pause()
  }

  /** Whether the status has been sent. */
  get ended(): boolean {
    return this.#status !== null
  }

  get done(): boolean {
    return this.#done
  }

  /** Bytes that arrived and may not be read yet. */
  get unreadBytes(): number {
    return this.#paused ? this.#queueBytes + (this.#closed ? 0 : this.#stream.readableLength) : 0
  }

  send(message: Uint8Array): void {
    if (this.#closed || this.ended || this.#stream.destroyed) return
    this.#stream.write(frame(message))
  }

  /** Ends the call with a status, and goes on reading what is under way. */
  finish(value: Status, last?: Uint8Array): void {
    if (this.#status !== null) return
    this.#status = value
    this.#lingerUntilMs = this.#shared.clock() + (value.code === STATUS.ok ? this.#shared.limits.lingerMs : 0)
    if (this.#closed || this.#stream.destroyed) return
    if (last === undefined) this.#stream.end()
    else this.#stream.end(frame(last))
  }

  /** Ends a call that would otherwise go on, because its connection is to go. A paused one has bytes to read first. */
  dismiss(): void {
    const { farewell } = this.#handler
    if (farewell !== null && !this.#paused) this.finish(farewell.status, farewell.message)
  }

  /** Called every sweep for a call that has ended. */
  sweep(nowMs: number): void {
    if (this.#status === null || this.#closed || nowMs < this.#lingerUntilMs) return
    if (!this.#paused) this.#stream.close(constants.NGHTTP2_NO_ERROR)
  }

  /** Reads on, if the gate is open: called when it opens, and every sweep while the call is paused. */
  resume(): void {
    if (!this.#paused || this.sender.waitMs() > 0) return
    do {
      if (this.#gate.closed || this.#hasHadItsTurn()) return
      const chunk = this.#queue.shift() ?? EMPTY
      this.#queueBytes -= chunk.length
      if (!this.#read(chunk)) return
    } while (this.#queue.length > 0 || this.#pull())
    this.#goOn()
  }

  /** What the stream has buffered comes by 'data' into the queue: in one go, and not a chunk for each turn. */
  #pull(): boolean {
    return !this.#closed && this.#stream.read() !== null && this.#queue.length > 0
  }

  #goOn(): void {
    this.#paused = false
    this.#shared.paused.delete(this)
    if (this.#inputEnded) this.#handleInputEnd()
    if (this.#closed) this.#complete()
    else this.#stream.resume()
  }

  /** Gives up what is unread: the bound of all unread bytes is reached. */
  shed(): void {
    this.#shared.counters.streamsShed++
    this.#shared.counters.unreadBytesLost += this.unreadBytes
    this.#fail(status('unavailable', 'too much is waiting to be read'))
    this.#forget()
    if (this.#paused) this.#goOn()
  }

  /** Cuts the stream, and is done at once. */
  destroy(): void {
    if (this.#paused) {
      this.#shared.counters.unreadBytesLost += this.unreadBytes
      this.#failed = true
      this.#forget()
      this.#paused = false
      this.#shared.paused.delete(this)
    }
    this.#stream.destroy()
    this.#closed = true
    this.#complete()
  }

  #forget(): void {
    this.#queue = []
    this.#queueBytes = 0
  }

  #take(chunk: Buffer): void {
    this.#touch()
    const isOver = this.sender.spend(chunk.length) > 0
    if (!this.#paused && !this.#gate.closed && !this.#hasHadItsTurn()) {
      this.#read(chunk)
      if (isOver) this.#pause()
      return
    }
    this.#queue.push(chunk)
    this.#queueBytes += chunk.length
    this.#pause()
  }

  #hasHadItsTurn(): boolean {
    const { turns, paused, limits, counters } = this.#shared
    if (!turns.isOver(this.sender) || (!this.#paused && paused.size >= limits.turnCallsMax)) return false
    if (!this.#paused) counters.turnsWaited++
    turns.wait()
    return true
  }

  /** False: the gate has closed, and what is left of the chunk is the first of the queue. */
  #read(chunk: Buffer): boolean {
    if (this.#failed) return true
    this.#shared.turns.spend(this.sender, chunk.length)
    let at: number
    try {
      at = this.#reader.push(chunk, 0)
    } catch (error) {
      this.#fail(this.#onBug(error))
      return true
    }
    const { ended } = this.#reader
    if (ended !== null) {
      if (ended.code === STATUS.resourceExhausted) this.#shared.counters.messagesTooLarge++
      else this.#shared.counters.messagesMalformed++
      this.#fail(ended)
      return true
    }
    if (at === chunk.length && !this.#reader.waiting && !this.#gate.closed) return true
    if (at < chunk.length) {
      this.#queue.unshift(chunk.subarray(at))
      this.#queueBytes += chunk.length - at
    }
    this.#pause()
    return false
  }

  #pause(): void {
    if (this.#paused || this.#failed) return
    this.#paused = true
    this.#shared.paused.add(this)
    this.#shared.counters.pauses++
    this.#stream.pause()
  }

  #fail(value: Status): void {
    this.#failed = true
    this.#reader.close()
    this.finish(value)
  }

  #onBug(error: unknown): Status {
    this.#shared.counters.streamsFailed++
    this.#shared.log.error({ error }, 'a gRPC handler threw, its stream is ended')
    return status('unavailable', 'internal error')
  }

  /**
   * Takes what the stream has buffered: it buffers while it is paused and before it first flows, and a reset would throw
   * that away.
   */
  #drain(): void {
    while (this.#stream.read() !== null) {
      // Each read is given to 'data' as well.
    }
  }

  #onInputEnd(): void {
    if (this.#stream.closed) return // A reset, not END_STREAM.
    this.#inputEnded = true
    if (!this.#paused) this.#handleInputEnd()
  }

  #handleInputEnd(): void {
    if (this.#inputHandled || this.#failed) return
    this.#inputHandled = true
    if (this.#reader.incomplete) {
      this.#shared.counters.messagesCut++
      this.#fail(status('internal', 'the stream ended inside a message'))
      return
    }
    if (this.ended) return
    let reply: Reply
    try {
      reply = this.#handler.onEnd()
    } catch (error) {
      reply = this.#onBug(error)
    }
    if (reply instanceof Promise) {
      reply.then(
        (value) => this.#reply(value),
        (error) => this.#fail(this.#onBug(error)),
      )
    } else if (reply !== null) this.#reply(reply)
  }

  #reply(value: Uint8Array | Status): void {
    if (isStatus(value)) this.finish(value)
    else this.finish(OK, value)
  }

  #sendTrailers(): void {
    try {
      this.#stream.sendTrailers(statusTrailers(this.#status ?? OK))
    } catch {
      // The stream was reset in between; 'close' follows.
    }
  }

  #onStreamClose(): void {
    // 'aborted' is not emitted when we had ended the stream first.
    for (let chunk = this.#stream.read(); chunk !== null; chunk = this.#stream.read()) this.#take(chunk as Buffer)
    this.#closed = true
    if (!this.#paused) this.#complete()
  }

  #complete(): void {
    if (this.#done) return
    this.#done = true
    const { counters } = this.#shared
    if (this.#inputHandled) counters.streamsEnded++
    else if (this.#status === null) counters.streamsCut++
    if (this.#reader.incomplete) counters.messagesCut++
    this.#reader.close()
    try {
      this.#handler.onClose()
    } catch (error) {
      this.#onBug(error)
    }
    this.#onDone(this)
  }
}

/** What all calls of a server share. */
export interface CallShared {
  readonly limits: GrpcLimits
  readonly counters: GrpcCounters
  readonly scratch: Scratch
  readonly log: Log
  /** Monotonic, ms. */
  readonly clock: () => number
  readonly paused: PausedCalls
  readonly turns: Turns
}

export interface CallOptions {
  readonly shared: CallShared
  readonly stream: ServerHttp2Stream
  readonly headers: IncomingHttpHeaders
  readonly sender: Sender
  readonly scope: Scope | null
  readonly gate: Gate
  /** Bytes have come: the connection is alive. */
  readonly touch: () => void
  readonly onDone: (call: Call) => void
  readonly open: (call: Call) => Handler
}

/** Null: leave the call open. */
export type Reply = Uint8Array | Status | Promise<Uint8Array | Status> | null

/** What the three kinds of method become. */
export interface Handler {
  /** How to end a call that is open while the server leaves; null: it ends by itself soon. */
  readonly farewell: { readonly status: Status; readonly message?: Uint8Array } | null
  onMessage(bytes: Uint8Array, start: number, end: number): Verdict
  onEnd(): Reply
  onClose(): void
}

const EMPTY = Buffer.alloc(0)

const RESPONSE_HEADERS = {
  ':status': 200,
  'content-type': 'application/grpc',
  'grpc-accept-encoding': 'identity,gzip',
} as const

function frame(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(5 + message.length)
  framed[0] = 0
  framed.writeUInt32BE(message.length, 1)
  framed.set(message, 5)
  return framed
}
