import { viewOf } from '../../model/heap.ts'

/**
 * Walks the fields of one protobuf message where it lies, in any order, without making objects:
 *
 *     fields.enter(bytes, start, end)
 *     while (fields.next()) if (fields.number === 2 && fields.wireType === LEN) use(fields.from, fields.to)
 *     if (fields.broken) …
 *
 * One for each level of nesting. Unknown fields pass by like known ones. Nothing here throws, and every step moves on.
 */
export class Fields {
  number = 0
  wireType = 0
  /** The value: of a delimited field its content, of a fixed one its 4 or 8 bytes, of a varint its digits. */
  from = 0
  to = 0
  /** Of a varint: unsigned, 2^53 − 1 for what is larger than that. Of a delimited field: its length. */
  value = 0
  /** Of a varint: its upper and lower half. */
  low = 0
  high = 0
  broken = false
  /** Where the walk ended when `broken`. */
  at = 0
  bytes: Uint8Array = NOTHING
  view: DataView = viewOf(NOTHING)
  #end = 0

  enter(bytes: Uint8Array, start: number, end: number): this {
    if (bytes !== this.bytes) {
      this.bytes = bytes
      this.view = viewOf(bytes)
    }
    this.at = start
    this.#end = end
    this.broken = end > bytes.length
    return this
  }

  /** Walks what a delimited field of `outer` holds. */
  into(outer: Fields): this {
    if (outer.bytes !== this.bytes) {
      this.bytes = outer.bytes
      this.view = outer.view
    }
    this.at = outer.from
    this.#end = outer.to
    this.broken = false
    return this
  }

  /** False at the end, and where the message cannot be read on (`broken`). */
  next(): boolean {
    if (this.broken || this.at >= this.#end) return false
    if (!this.#varint()) return false
    if (this.high !== 0 || this.value < 8) return this.#break()
    this.number = this.value >>> 3
    this.wireType = this.value & 7
    this.from = this.at
    switch (this.wireType) {
      case VARINT:
        if (!this.#varint()) return false
        break
      case LEN:
        if (!this.#varint()) return false
        if (this.value > this.#end - this.at) return this.#break()
        this.from = this.at
        this.at += this.value
        break
      case FIXED64:
        this.at += 8
        break
      case FIXED32:
        this.at += 4
        break
      default: // Groups: OTLP has none, and never had.
        return this.#break()
    }
    if (this.at > this.#end) return this.#break()
    this.to = this.at
    return true
  }

  /** A double; call it only for `FIXED64`. */
  get double(): number {
    return this.view.getFloat64(this.from, true)
  }

  /** A signed 64-bit number in 8 bytes, exact between −2^53 and 2^53. */
  get signed64(): number {
    return this.view.getInt32(this.from + 4, true) * TWO_32 + this.view.getUint32(this.from, true)
  }

  /** An unsigned one. */
  get unsigned64(): number {
    return this.view.getUint32(this.from + 4, true) * TWO_32 + this.view.getUint32(this.from, true)
  }

  /** A time in ns since the epoch (8 bytes) as whole milliseconds, rounded down, exact. */
  get timeMs(): number {
    const high = this.view.getUint32(this.from + 4, true)
    const low = this.view.getUint32(this.from, true)
    // 2^32 ns = 4294 ms + 967 296 ns.
    return high * 4294 + Math.floor((high * 967_296 + low) / 1e6)
  }

  /** A varint as a signed 64-bit number, exact between −2^53 and 2^53. */
  get signed(): number {
    return (this.high | 0) * TWO_32 + (this.low >>> 0)
  }

  /** A varint as `sint32`. */
  get zigzag(): number {
    return (this.low >>> 1) ^ -(this.low & 1)
  }

  /** A delimited field as text. What is not UTF-8 becomes U+FFFD: Envoy copies header bytes into strings as they are. */
  text(bytesMax: number): string {
    const to = Math.min(this.to, this.from + bytesMax)
    return Buffer.from(this.bytes.buffer, this.bytes.byteOffset + this.from, to - this.from).toString('utf8')
  }

  #varint(): boolean {
    const { bytes } = this
    let byte = bytes[this.at]!
    // Tags, lengths and small numbers: one byte.
    if (byte < 128 && this.at < this.#end) {
      this.at++
      this.value = byte
      this.low = byte
      this.high = 0
      return true
    }
    let low = 0
    let high = 0
    for (let k = 0; k < 10; k++) {
      if (this.at >= this.#end) return this.#break()
      byte = bytes[this.at++]!
      const bits = byte & 127
      if (k < 4) low |= bits << (7 * k)
      else if (k === 4) {
        low |= bits << 28
        high |= bits >>> 4
      } else if (k < 9) high |= bits << (7 * k - 32)
      else high |= bits << 31
      if (byte > 127) continue
      this.low = low >>> 0
      this.high = high >>> 0
      this.value = Math.min(this.high * TWO_32 + this.low, Number.MAX_SAFE_INTEGER)
      return true
    }
    return this.#break()
  }

  #break(): boolean {
    this.broken = true
    return false
  }
}

export const VARINT = 0
export const FIXED64 = 1
export const LEN = 2
export const FIXED32 = 5

const TWO_32 = 2 ** 32
const NOTHING = new Uint8Array(0)
