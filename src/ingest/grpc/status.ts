/** Status codes of gRPC that this server sends. https://grpc.io/docs/guides/status-codes/ */
export const STATUS = {
  ok: 0,
  invalidArgument: 3,
  notFound: 5,
  permissionDenied: 7,
  resourceExhausted: 8,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const
export type StatusCode = (typeof STATUS)[keyof typeof STATUS]

export interface Status {
  readonly code: StatusCode
  readonly message: string
}

export const OK: Status = { code: STATUS.ok, message: '' }

export function status(name: keyof typeof STATUS, message: string): Status {
  return { code: STATUS[name], message }
}

/**
 * The value of `grpc-message`: UTF-8, where bytes outside 0x20 … 0x7E and `%` are percent-encoded.
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses
 */
export function encodeStatusMessage(text: string): string {
  let encoded = ''
  for (const byte of Buffer.from(text, 'utf8')) {
    encoded +=
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
  }
  return encoded
}

/** Trailers of a status. */
export function statusTrailers(value: Status): Record<string, string> {
  return value.message === ''
    ? { 'grpc-status': String(value.code) }
    : { 'grpc-status': String(value.code), 'grpc-message': encodeStatusMessage(value.message) }
}
