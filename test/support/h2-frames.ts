import { connect, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'

/** HTTP/2 written frame by frame (RFC 9113), for what no library would send. */
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
export const SETTINGS = h2Frame(4, 0, 0)
export const SETTINGS_ACK = h2Frame(4, 1, 0)
export const END_STREAM = 1
export const END_HEADERS = 4

export function h2Frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const frame = Buffer.alloc(9 + payload.length)
  frame.writeUIntBE(payload.length, 0, 3)
  frame[3] = type
  frame[4] = flags
  frame.writeUInt32BE(stream, 5)
  frame.set(payload, 9)
  return frame
}

export function data(stream: number, payload: Uint8Array, flags = 0): Buffer {
  return h2Frame(0, flags, stream, payload)
}

/** RST_STREAM. */
export function reset(stream: number, code: number): Buffer {
  const payload = Buffer.alloc(4)
  payload.writeUInt32BE(code)
  return h2Frame(3, 0, stream, payload)
}

/** HEADERS of a gRPC request; every field is a literal that is not indexed (RFC 7541 §6.2.2), nothing is compressed. */
export function requestHeaders(stream: number, path: string, flags = END_HEADERS): Buffer {
  const fields: [string, string][] = [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', path],
    [':authority', 'test'],
    ['content-type', 'application/grpc'],
    ['te', 'trailers'],
  ]
  const literal = (text: string): Buffer => Buffer.concat([Buffer.of(text.length), Buffer.from(text)])
  const block = fields.map(([name, value]) => Buffer.concat([Buffer.of(0), literal(name), literal(value)]))
  return h2Frame(1, flags, stream, Buffer.concat(block))
}

export interface TcpClient {
  readonly socket: Socket
  /** Resolves with all that was received, when the other side has closed. */
  readonly closed: Promise<Buffer>
}

export function connectBare(address: string): TcpClient {
  const socket = connect(Number(address.split(':')[1]), '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  socket.on('error', () => {})
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  const closed = new Promise<Buffer>((resolve) => socket.on('close', () => resolve(Buffer.concat(chunks))))
  return { socket, closed }
}
