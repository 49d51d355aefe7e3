/**
 * Text of bytes that should be UTF-8 and, coming from traffic, need not be: Envoy copies header bytes into OTLP strings
 * as they are. Each byte that is not part of UTF-8 becomes `!`, as Envoy itself does for its own access log service, so
 * that a request looks the same by either way.
 */
export function lenientText(bytes: Uint8Array, from: number, to: number): string {
  const text = sliceable(bytes).utf8Slice(from, to)
  return text.includes('\uFFFD') ? sanitised(bytes, from, to) : text
}

/** Methods of every Buffer, in half the time of `toString`; the types do not know them. */
interface Sliceable extends Uint8Array {
  utf8Slice(from: number, to: number): string
  hexSlice(from: number, to: number): string
}

function sliceable(bytes: Uint8Array): Sliceable {
  return ('utf8Slice' in bytes ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)) as Sliceable
}

/** Bytes in hexadecimal. */
export function hexText(bytes: Uint8Array, from: number, to: number): string {
  return sliceable(bytes).hexSlice(from, to)
}

function sanitised(bytes: Uint8Array, from: number, to: number): string {
  const clean = Buffer.from(bytes.subarray(from, to))
  for (let at = 0; at < clean.length; ) {
    const length = sequenceLength(clean, at)
    if (length === 0) clean[at++] = EXCLAMATION
    else at += length
  }
  return clean.toString('utf8')
}

const EXCLAMATION = 0x21

/** Bytes of the character at `at`; 0 when there is none. Unicode 15 table 3-7. */
function sequenceLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!
  if (first < 0x80) return 1
  const length =
    first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0
  if (length === 0 || at + length > bytes.length) return 0
  const second = bytes[at + 1]!
  const low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80
  const high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf
  if (second < low || second > high) return 0
  for (let k = 2; k < length; k++) if ((bytes[at + k]! & 0xc0) !== 0x80) return 0
  return length
}
