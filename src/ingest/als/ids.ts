/** Ids that are hexadecimal text, as the bytes ClickHouse keeps them in. Only lower case: other text is kept as text. */

/** Two characters (little-endian) → their byte, or −1. The 256 that are digits lie in a few kilobytes of it. */
const PAIRS = new Int16Array(65_536).fill(-1)
for (let byte = 0; byte < 256; byte++) {
  const text = byte.toString(16).padStart(2, '0')
  PAIRS[text.charCodeAt(0) | (text.charCodeAt(1) << 8)] = byte
}

/**
 * A canonical lower-case UUID of 36 characters into `out[4 · row …]`: two UInt64, the first half first, as ClickHouse's
 * UUID. False, and nothing is written, when it is anything else, or the nil UUID (which stands for "none").
 */
export function uuidInto(bytes: Uint8Array, view: DataView, p: number, out: Int32Array, row: number): boolean {
  if (bytes[p + 8] !== 45 || bytes[p + 13] !== 45 || bytes[p + 18] !== 45 || bytes[p + 23] !== 45) return false
  const a0 = PAIRS[view.getUint16(p + 0, true)]!
  const a1 = PAIRS[view.getUint16(p + 2, true)]!
  const a2 = PAIRS[view.getUint16(p + 4, true)]!
  const a3 = PAIRS[view.getUint16(p + 6, true)]!
  const b0 = PAIRS[view.getUint16(p + 9, true)]!
  const b1 = PAIRS[view.getUint16(p + 11, true)]!
  const b2 = PAIRS[view.getUint16(p + 14, true)]!
  const b3 = PAIRS[view.getUint16(p + 16, true)]!
  const c0 = PAIRS[view.getUint16(p + 19, true)]!
  const c1 = PAIRS[view.getUint16(p + 21, true)]!
  const c2 = PAIRS[view.getUint16(p + 24, true)]!
  const c3 = PAIRS[view.getUint16(p + 26, true)]!
  const d0 = PAIRS[view.getUint16(p + 28, true)]!
  const d1 = PAIRS[view.getUint16(p + 30, true)]!
  const d2 = PAIRS[view.getUint16(p + 32, true)]!
  const d3 = PAIRS[view.getUint16(p + 34, true)]!
  if ((a0 | a1 | a2 | a3 | b0 | b1 | b2 | b3 | c0 | c1 | c2 | c3 | d0 | d1 | d2 | d3) < 0) return false
  const a = (a0 << 24) | (a1 << 16) | (a2 << 8) | a3
  const b = (b0 << 24) | (b1 << 16) | (b2 << 8) | b3
  const c = (c0 << 24) | (c1 << 16) | (c2 << 8) | c3
  const d = (d0 << 24) | (d1 << 16) | (d2 << 8) | d3
  if ((a | b | c | d) === 0) return false
  const at = 4 * row
  out[at] = b
  out[at + 1] = a
  out[at + 2] = d
  out[at + 3] = c
  return true
}

/** 16 hexadecimal digits into two words, the low one first. False, and nothing is written, when they are not. */
export function hexInto(view: DataView, p: number, out: Int32Array, at: number): boolean {
  const a0 = PAIRS[view.getUint16(p + 0, true)]!
  const a1 = PAIRS[view.getUint16(p + 2, true)]!
  const a2 = PAIRS[view.getUint16(p + 4, true)]!
  const a3 = PAIRS[view.getUint16(p + 6, true)]!
  const b0 = PAIRS[view.getUint16(p + 8, true)]!
  const b1 = PAIRS[view.getUint16(p + 10, true)]!
  const b2 = PAIRS[view.getUint16(p + 12, true)]!
  const b3 = PAIRS[view.getUint16(p + 14, true)]!
  if ((a0 | a1 | a2 | a3 | b0 | b1 | b2 | b3) < 0) return false
  out[at] = (b0 << 24) | (b1 << 16) | (b2 << 8) | b3
  out[at + 1] = (a0 << 24) | (a1 << 16) | (a2 << 8) | a3
  return true
}

/** Value of one hexadecimal digit in lower case, or −1. */
export function nibble(character: number): number {
  if (character >= 48 && character <= 57) return character - 48
  return character >= 97 && character <= 102 ? character - 87 : -1
}

export function sameBytes(bytes: Uint8Array, view: DataView, a: number, b: number, length: number): boolean {
  let k = 0
  for (; k + 4 <= length; k += 4) if (view.getInt32(a + k, true) !== view.getInt32(b + k, true)) return false
  for (; k < length; k++) if (bytes[a + k] !== bytes[b + k]) return false
  return true
}
