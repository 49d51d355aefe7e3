/** What a client speaks, by its first bytes. */
export type Spoken = 'http2' | 'tls' | 'http1' | 'other'

/** RFC 9113 §3.4. */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')
const HTTP1 = /^(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) \S/

/** Null: too few bytes to say. 24 are always enough. */
export function recognise(first: Uint8Array): Spoken | null {
  const length = Math.min(first.length, PREFACE.length)
  let same = 0
  while (same < length && first[same] === PREFACE[same]) same++
  if (same === PREFACE.length) return 'http2'
  if (same === length) return null
  // A TLS record of type handshake, any version (RFC 8446 §5.1).
  if (first[0] === 0x16) return first.length < 2 ? null : first[1] === 3 ? 'tls' : 'other'
  const text = Buffer.from(first.subarray(0, 24)).toString('latin1')
  if (HTTP1.test(text)) return 'http1'
  return length < 9 && /^[A-Z]+ ?$/.test(text) ? null : 'other'
}

/** What such a client is told before the connection is closed, in its own language. */
export function farewell(spoken: Spoken): Buffer {
  if (spoken === 'tls') return Buffer.from([0x15, 3, 1, 0, 2, 2, 70]) // Alert: fatal, protocol_version.
  if (spoken !== 'http1') return Buffer.alloc(0)
  const body = 'This port speaks gRPC over HTTP/2 without TLS.\n'
  return Buffer.from(
    `HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
  )
}
