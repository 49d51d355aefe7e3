import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2'
import {
  type ClientWritableStream,
  credentials,
  type Metadata,
  makeGenericClientConstructor,
  type ServiceError,
  type StatusObject,
} from '@grpc/grpc-js'

/** Any gRPC method by its path, with bytes for messages: what is tested is the wire, not a schema. */
export interface BytesClient {
  unary(path: string, request: Uint8Array): Promise<Buffer>
  /** `finished` resolves with the response, or rejects with a `ServiceError`. */
  stream(path: string, metadata?: Metadata): { call: ClientWritableStream<Uint8Array>; finished: Promise<Buffer> }
  watch(path: string, request: Uint8Array): { messages: Buffer[]; status: Promise<StatusObject>; cancel(): void }
  close(): void
}

const bytes = (value: Uint8Array): Buffer => Buffer.from(value)

export function connectGrpc(address: string): BytesClient {
  const Client = makeGenericClientConstructor({}, 'bytes')
  const client = new Client(address, credentials.createInsecure(), {
    'grpc.max_send_message_length': -1,
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
  })
  return {
    unary: (path, request) =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest(path, bytes, bytes, request, (error, response) =>
          error === null ? resolve(response as Buffer) : reject(error),
        )
      }),
    stream(path, metadata) {
      const { promise: finished, resolve, reject } = Promise.withResolvers<Buffer>()
      const done = (error: ServiceError | null, response?: Uint8Array): void =>
        error === null ? resolve(response as Buffer) : reject(error)
      const call =
        metadata === undefined
          ? client.makeClientStreamRequest(path, bytes, bytes, done)
          : client.makeClientStreamRequest(path, bytes, bytes, metadata, done)
      finished.catch(() => {})
      call.on('error', () => {})
      return { call, finished }
    },
    watch(path, request) {
      const call = client.makeServerStreamRequest(path, bytes, bytes, request)
      const messages: Buffer[] = []
      const { promise: status, resolve } = Promise.withResolvers<StatusObject>()
      call.on('data', (message: Buffer) => messages.push(message))
      call.on('status', resolve)
      call.on('error', () => {})
      return { messages, status, cancel: () => call.cancel() }
    },
    close: () => client.close(),
  }
}

/** One gRPC stream on bare HTTP/2, for what a proper client would never send. */
export interface RawStream {
  readonly session: ClientHttp2Session
  readonly stream: ClientHttp2Stream
  readonly headers: Promise<Record<string, unknown>>
  /** Trailers, or the headers of a trailers-only answer. */
  readonly trailers: Promise<Record<string, unknown>>
  readonly closed: Promise<void>
}

export function connectRaw(address: string): ClientHttp2Session {
  const session = connect(`http://${address}`)
  session.on('error', () => {})
  return session
}

export function openRaw(session: ClientHttp2Session, path: string, headers: Record<string, string> = {}): RawStream {
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  })
  const answer = Promise.withResolvers<Record<string, unknown>>()
  const trailers = Promise.withResolvers<Record<string, unknown>>()
  const closed = Promise.withResolvers<void>()
  stream.on('response', (received, flags) => {
    answer.resolve(received)
    if ((flags & 1) !== 0) trailers.resolve(received)
  })
  stream.on('trailers', (received) => trailers.resolve(received))
  stream.on('error', () => {})
  stream.on('close', () => {
    closed.resolve()
    trailers.resolve({})
  })
  stream.resume()
  return { session, stream, headers: answer.promise, trailers: trailers.promise, closed: closed.promise }
}

/** A message with its five bytes in front. */
export function frame(message: Uint8Array, flag = 0): Buffer {
  const framed = Buffer.alloc(5 + message.length)
  framed[0] = flag
  framed.writeUInt32BE(message.length, 1)
  framed.set(message, 5)
  return framed
}

/** Waits until `check` holds; fails after `timeoutMs` with what it was waiting for. */
export async function until(what: string, check: () => boolean, timeoutMs = 20_000): Promise<void> {
  const deadline = performance.now() + timeoutMs
  while (!check()) {
    if (performance.now() > deadline) throw new Error(`timed out waiting until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
