import type { IncomingHttpHeaders } from 'node:http2'
import type { Scope } from '../../lib/tokens.ts'
import type { Status } from './status.ts'

/**
 * What a gRPC service is to the server. Messages are bytes: the server frames, the service decodes.
 *
 * `bytes[start … end)` is valid only while the callback runs: it usually is the very memory that the socket was read
 * into, and is used again afterwards. Whoever wants to keep something copies it.
 */
export interface GrpcService {
  /** With its package, e.g. `grpc.health.v1.Health`. */
  readonly name: string
  readonly methods: Readonly<Record<string, Method>>
  /** While it is closed, nothing is read from the streams of this service. Absent: always open. */
  readonly gate?: Gate
  /** What a token must allow, where tokens are asked for: `ingest` if absent; null asks for none. */
  readonly scope?: Scope | null
}

/** Back-pressure. A consumer that is full closes its gate; senders are then held back by HTTP/2 flow control. */
export interface Gate {
  readonly closed: boolean
  /** `listener` is called every time the gate opens. */
  onOpen(listener: () => void): void
}

export type Method = StreamingMethod | UnaryMethod | WatchMethod

/** Many requests, one response. */
export interface StreamingMethod {
  readonly kind: 'streaming'
  open(call: CallInfo): StreamHandler
}

/**
 * Null goes on. A status ends the call. `again`: the gate has closed inside the message, which is to be given once more,
 * the same bytes, when it is open.
 */
export type Verdict = Status | 'again' | null

export interface StreamHandler {
  /** One whole message; never called while the gate is closed. Must not throw for bad data. */
  onMessage(bytes: Uint8Array, start: number, end: number): Verdict
  /** The client has sent everything: the response message, or a status that is not OK. Not called when it was cut off. */
  onEnd(): Uint8Array | Status
  /** Called exactly once, last. Nothing comes after it. */
  onClose(): void
}

/** One request, one response. Decode before the first `await`. */
export interface UnaryMethod {
  readonly kind: 'unary'
  handle(
    call: CallInfo,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): Uint8Array | Status | Promise<Uint8Array | Status>
}

/** One request, responses until one side leaves. */
export interface WatchMethod {
  readonly kind: 'watch'
  /** Returns what is called, exactly once, when the call is over. */
  watch(call: CallInfo, bytes: Uint8Array, start: number, end: number, writer: Writer): () => void
}

export interface Writer {
  send(message: Uint8Array): void
  finish(status: Status): void
}

export interface CallInfo {
  /** `address:port` of the other end of the connection. */
  readonly peer: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
  /** Wall clock, ms. */
  readonly openedMs: number
}

export function isStatus(value: Uint8Array | Status): value is Status {
  return !(value instanceof Uint8Array)
}
