/**
 * Writes protobuf from the end to the start: a message is complete when its length is to be written, so nothing is
 * measured beforehand and nothing moved. Fields and items are given last first.
 *
 * For the hot path of an adapter: numbers are doubles or pairs of 32-bit words, never bigints, and what repeats is given as
 * bytes that were encoded once. What takes bigints is for cold paths: answers, and JSON that is turned into protobuf.
 */
export class BackWriter {
  #bytes: Buffer
  #at: number

  constructor(room = 65_536) {
    this.#bytes = Buffer.allocUnsafe(room)
    this.#at = room
  }

  /** Bytes written so far; the length of a message is the difference of two. */
  get length(): number {
    return this.#bytes.length - this.#at
  }

  /** A copy of what was written. */
  take(): Buffer {
    return Buffer.from(this.#bytes.subarray(this.#at))
  }

  /** Forgets everything after the first `length` bytes written (the last of the message). The memory stays. */
  cut(length = 0): void {
    this.#at = this.#bytes.length - length
  }

  raw(bytes: Uint8Array): void {
    const { length } = bytes
    this.#room(length)
    this.#at -= length
    this.#bytes.set(bytes, this.#at)
  }

  byte(value: number): void {
    this.#room(1)
    this.#bytes[--this.#at] = value
  }

  /** A whole number from 0 to 2^53. */
  varint(value: number): void {
    this.#room(8)
    if (value < 128) {
      this.#bytes[--this.#at] = value
      return
    }
    let length = 1
    for (let rest = Math.floor(value / 128); rest > 0; rest = Math.floor(rest / 128)) length++
    this.#at -= length
    let rest = value
    for (let k = 0; k < length - 1; k++) {
      this.#bytes[this.#at + k] = (rest % 128) | 128
      rest = Math.floor(rest / 128)
    }
    this.#bytes[this.#at + length - 1] = rest
  }

  /** A whole number of 64 bits; negative ones as their two's complement. */
  varint64(value: bigint): void {
    const bits = BigInt.asUintN(64, value)
    let groups = 1
    while (bits >> BigInt(7 * groups) > 0n) groups++
    for (let k = groups - 1; k >= 0; k--) {
      this.byte(Number((bits >> BigInt(7 * k)) & 127n) | (k === groups - 1 ? 0 : 128))
    }
  }

  /** sint32. */
  zigzag(value: number): void {
    this.varint(value < 0 ? -2 * value - 1 : 2 * value)
  }

  fixed32(value: number): void {
    this.#room(4)
    this.#at -= 4
    this.#bytes.writeUInt32LE(value >>> 0, this.#at)
  }

  /** 64 bits from two words. */
  fixed64(low: number, high: number): void {
    this.fixed32(high)
    this.fixed32(low)
  }

  bits64(value: bigint): void {
    this.#room(8)
    this.#at -= 8
    this.#bytes.writeBigUInt64LE(BigInt.asUintN(64, value), this.#at)
  }

  /** A whole number ≥ 0 below 2^53 as 64 bits. */
  count64(value: number): void {
    this.fixed64(value % 2 ** 32, Math.floor(value / 2 ** 32))
  }

  /** `base` + `plus`, where the base is 64 bits in two words and `plus` a whole number from 0 to 2^53. */
  sum64(low: number, high: number, plus: number): void {
    const sum = low + (plus % 2 ** 32)
    this.fixed64(sum % 2 ** 32, high + Math.floor(plus / 2 ** 32) + (sum >= 2 ** 32 ? 1 : 0))
  }

  double(value: number): void {
    this.#room(8)
    this.#at -= 8
    this.#bytes.writeDoubleLE(value, this.#at)
  }

  /** 32 bits, the highest byte first, as ids have them. */
  big32(value: number): void {
    this.#room(4)
    this.#at -= 4
    this.#bytes.writeUInt32BE(value >>> 0, this.#at)
  }

  utf8(text: string): void {
    const { length } = text
    // A UTF-16 unit is three bytes of UTF-8 at most.
    this.#room(3 * length)
    if (length < 48) {
      let k = length
      let at = this.#at
      while (k > 0) {
        const unit = text.charCodeAt(k - 1)
        if (unit > 127) break
        this.#bytes[--at] = unit
        k--
      }
      if (k === 0) {
        this.#at = at
        return
      }
    }
    this.#at -= Buffer.byteLength(text)
    this.#bytes.write(text, this.#at)
  }

  /** Ends a delimited field whose content began at `from` (the `length` then). `tag` is field × 8 + 2, below 128. */
  end(tag: number, from: number): void {
    this.varint(this.length - from)
    this.byte(tag)
  }

  /** The same for a tag of any size: fields from 16 on. */
  endFar(tag: number, from: number): void {
    this.varint(this.length - from)
    this.varint(tag)
  }

  text(tag: number, text: string): void {
    const from = this.length
    this.utf8(text)
    this.end(tag, from)
  }

  #room(bytes: number): void {
    if (this.#at >= bytes) return
    const used = this.length
    const larger = Buffer.allocUnsafe(2 * (this.#bytes.length + bytes))
    this.#bytes.copy(larger, larger.length - used, this.#at)
    this.#bytes = larger
    this.#at = larger.length - used
  }
}
