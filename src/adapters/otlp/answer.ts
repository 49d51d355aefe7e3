import { GRPC_CODES } from '../../lib/grpc-codes.ts'

/**
 * What a target says to an export, read as the OTLP specification has it
 * (opentelemetry.io/docs/specs/otlp, "OTLP/gRPC response"). Nothing here throws: an answer that cannot be read is an
 * answer without particulars.
 */
export type ExportAnswer =
  /** Taken but for `rejected` items, which are lost for good: a partial success is never sent again. */
  | { readonly status: 'ok'; readonly rejected: number; readonly message: string }
  | { readonly status: 'retry'; readonly error: Error; readonly afterMs?: number }
  /** Refused for good. `unimplemented`: the target does not take this signal at all. */
  | { readonly status: 'refused'; readonly error: Error; readonly because: 'unimplemented' | 'not-allowed' | 'other' }
  /** Larger than the target takes; smaller parts may pass. */
  | { readonly status: 'too-large'; readonly error: Error }

/** The part of gRPC's error that counts: `ServiceError` of grpc-js has it. */
export interface GrpcFailure {
  readonly code: number
  readonly details: string
  /** `grpc-status-details-bin`, if it came: a `google.rpc.Status`. */
  readonly statusDetails?: Uint8Array
  /** `retry-after` or `grpc-retry-pushback-ms`, where something between us and the target sent them. */
  readonly retryAfterMs?: number
}

const RESOURCE_EXHAUSTED = 8
const UNIMPLEMENTED = 12
/** PERMISSION_DENIED, UNAUTHENTICATED. */
const NOT_ALLOWED: ReadonlySet<number> = new Set([7, 16])
/** CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS. */
const RETRYABLE: ReadonlySet<number> = new Set([1, 4, 10, 11, 14, 15])
/** How grpc-js says that something answered that is no gRPC: 404 of a proxy whose target is away is not one of the target. */
const NOT_GRPC = /^Received HTTP status code/
/** How it says that the stream ended without an answer, whatever code it gives that. */
const BROKEN_OFF = /^(?:Received RST_STREAM with code|Bandwidth exhausted or memory limit exceeded$)/
/** How gRPC's libraries (C++, Go, Java, JavaScript, Rust) say that a message is over their limit. */
const TOO_LARGE = /larger than|too large|exceeds? (the )?max|exceeds? .*size|max(imum)? .*size|decoded message length/i
const RETRY_INFO = 'type.googleapis.com/google.rpc.RetryInfo'

export const grpcCodeName = (code: number): string => GRPC_CODES[code] ?? `code ${code}`

/** The answer of a call that failed. */
export function answerOfFailure(failure: GrpcFailure): ExportAnswer {
  const { code, details } = failure
  const error = new Error(`${grpcCodeName(code)}: ${details}`)
  const retryInfoMs = failure.statusDetails === undefined ? undefined : retryDelayMs(failure.statusDetails)
  if (BROKEN_OFF.test(details) || (code === UNIMPLEMENTED && NOT_GRPC.test(details))) return { status: 'retry', error }
  if (RETRYABLE.has(code) || (code === RESOURCE_EXHAUSTED && retryInfoMs !== undefined)) {
    const afterMs = retryInfoMs ?? failure.retryAfterMs
    return { status: 'retry', error, ...(afterMs === undefined ? {} : { afterMs }) }
  }
  if (code === RESOURCE_EXHAUSTED && TOO_LARGE.test(details)) return { status: 'too-large', error }
  const because = code === UNIMPLEMENTED ? 'unimplemented' : NOT_ALLOWED.has(code) ? 'not-allowed' : 'other'
  return { status: 'refused', error, because }
}

/** The answer of a call that came back: an `Export…ServiceResponse`; the three have the same shape. */
export function answerOfResponse(response: Uint8Array): ExportAnswer {
  let rejected = 0
  let message = ''
  eachField(response, (field, value) => {
    if (field !== 1 || !(value instanceof Uint8Array)) return
    eachField(value, (part, content) => {
      if (part === 1 && typeof content === 'bigint') rejected = Math.max(0, Number(BigInt.asIntN(64, content)))
      else if (part === 2 && content instanceof Uint8Array) message = textOf(content)
    })
  })
  return { status: 'ok', rejected, message }
}

/** `retry_delay` of the `RetryInfo` in a `google.rpc.Status`, ms; undefined when there is none. */
export function retryDelayMs(status: Uint8Array): number | undefined {
  let delay: number | undefined
  eachField(status, (field, detail) => {
    if (field !== 3 || !(detail instanceof Uint8Array)) return
    let type = ''
    let value: Uint8Array = new Uint8Array(0)
    eachField(detail, (part, content) => {
      if (!(content instanceof Uint8Array)) return
      if (part === 1) type = textOf(content)
      else if (part === 2) value = content
    })
    if (type === RETRY_INFO) delay = delayOf(value)
  })
  return delay
}

function delayOf(retryInfo: Uint8Array): number {
  let ms = 0
  eachField(retryInfo, (field, duration) => {
    if (field !== 1 || !(duration instanceof Uint8Array)) return
    eachField(duration, (part, content) => {
      if (typeof content !== 'bigint') return
      const number = Number(BigInt.asIntN(64, content))
      if (part === 1) ms += number * 1000
      else if (part === 2) ms += number / 1e6
    })
  })
  return Math.max(0, Math.ceil(ms))
}

const textOf = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8')

/** Fields of a message: varints as bigint, delimited ones as bytes, others passed over. Ends where it makes no sense. */
function eachField(bytes: Uint8Array, take: (field: number, value: bigint | Uint8Array) => void): void {
  let at = 0
  const varint = (): bigint => {
    let value = 0n
    for (let shift = 0n; at < bytes.length && shift < 70n; shift += 7n) {
      const byte = bytes[at++]!
      value |= BigInt(byte & 127) << shift
      if (byte < 128) return value
    }
    at = bytes.length + 1
    return 0n
  }
  while (at < bytes.length) {
    const tag = Number(varint())
    const field = Math.floor(tag / 8)
    const type = tag % 8
    if (type === 0) {
      const value = varint()
      if (at > bytes.length) return
      take(field, value)
    } else if (type === 2) {
      const length = Number(varint())
      if (at + length > bytes.length) return
      take(field, bytes.subarray(at, at + length))
      at += length
    } else if (type === 1) at += 8
    else if (type === 5) at += 4
    else return
  }
}
