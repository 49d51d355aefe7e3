/**
 * Ids that are hexadecimal text, as the bytes ClickHouse keeps them in. Only lower case: other text is kept as text.
 * Four characters at a time, in the bytes of one word: 24 digits of a `traceparent` and 32 of a UUID are on every row.
 */

/** What was found wrong with the digits since it was last cleared; zero when they were all digits. */
const fault = new Int32Array(1)

/**
 * Eight digits, four at `p` and four at `q`, as a 32-bit word. Anything that is no digit is noted in `fault`.
 *
 * In every byte, `n` is the low half of the character and `m` is 1 for a letter. A digit is 0x30 + n with n ≤ 9, a
 * letter is 0x60 + n with 1 ≤ n ≤ 6; the value is n + 9m. No sum below carries into the next byte.
 */
function digits(view: DataView, p: number, q: number): number {
  const w = view.getInt32(p, true)
  const m = (w >>> 6) & 0x01010101
  const n = w & 0x0f0f0f0f
  const v = n + (m << 3) + m
  const x = view.getInt32(q, true)
  const k = (x >>> 6) & 0x01010101
  const o = x & 0x0f0f0f0f
  const u = o + (k << 3) + k
  fault[0]! |=
    ((w & 0xf0f0f0f0) ^ (0x30303030 + (m << 5) + (m << 4))) |
    ((x & 0xf0f0f0f0) ^ (0x30303030 + (k << 5) + (k << 4))) |
    // Above 9 without, above 15 with the letter's 9.
    ((v | u | (n + (0x01010101 - m) * 6) | (o + (0x01010101 - k) * 6)) & 0x10101010) |
    // A letter with n = 0.
    ((m << 4) & ~(n + (m << 4) - m)) |
    ((k << 4) & ~(o + (k << 4) - k))
  return (
    ((v & 15) << 28) |
    ((v & 0xf00) << 16) |
    ((v & 0xf0000) << 4) |
    ((v >>> 8) & 0xf0000) |
    ((u & 15) << 12) |
    (u & 0xf00) |
    ((u >>> 12) & 0xf0) |
    (u >>> 24)
  )
}

/**
 * A canonical lower-case UUID of 36 characters into `out[4 · row …]`: two UInt64, the first half first, as ClickHouse's
 * UUID. False when it is anything else, or the nil UUID (which stands for "none"); `out` then holds nothing of use.
 */
export function uuidInto(bytes: Uint8Array, view: DataView, p: number, out: Int32Array, row: number): boolean {
  if (bytes[p + 8] !== 45 || bytes[p + 13] !== 45 || bytes[p + 18] !== 45 || bytes[p + 23] !== 45) return false
  fault[0] = 0
  const a = digits(view, p, p + 4)
  const b = digits(view, p + 9, p + 14)
  const c = digits(view, p + 19, p + 24)
  const d = digits(view, p + 28, p + 32)
  const at = 4 * row
  out[at] = b
  out[at + 1] = a
  out[at + 2] = d
  out[at + 3] = c
  return fault[0] === 0 && (a | b | c | d) !== 0
}

/** 16 hexadecimal digits into two words, the low one first. False when they are not; `out` then holds nothing of use. */
export function hexInto(view: DataView, p: number, out: Int32Array, at: number): boolean {
  fault[0] = 0
  out[at + 1] = digits(view, p, p + 4)
  out[at] = digits(view, p + 8, p + 12)
  return fault[0] === 0
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
