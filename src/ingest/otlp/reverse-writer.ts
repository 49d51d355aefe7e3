/**
 * Writes protobuf from the end to the start: when the length of a message is to be written, the message is already
 * there, so nothing is measured beforehand and nothing is moved. Fields and items are therefore given last first.
 * For cold paths: answers, and JSON that is turned into protobuf.
 */
export class ReverseWriter {
  #bytes: Buffer
  #at: number

  constructor(room = 4096) {
    this.#bytes = Buffer.allocUnsafe(room)
    this.#at = room
  }

  /** Bytes written so far; the length of a message is the difference of two. */
  get length(): number {
    return this.#bytes.length - this.#at
  }

  /** What was written, as a copy of its own. */
  take(): Buffer {
    return Buffer.from(this.#bytes.subarray(this.#at))
  }

  /** A value up to 2^53, or negative as its 64 bits. */
  varint(value: number | bigint): void {
    let rest = BigInt.asUintN(64, BigInt(value))
    const digits: number[] = []
    do {
      digits.push(Number(rest & 127n))
      rest >>= 7n
    } while (rest > 0n)
    this.#room(digits.length)
    for (let k = digits.length - 1; k >= 0; k--) {
      this.#bytes[--this.#at] = digits[k]! | (k === digits.length - 1 ? 0 : 128)
    }
  }

  fixed32(value: number): void {
    this.#room(4)
    this.#bytes.writeUInt32LE(value >>> 0, this.#at - 4)
    this.#at -= 4
  }

  fixed64(value: bigint): void {
    this.#room(8)
    this.#bytes.writeBigUInt64LE(BigInt.asUintN(64, value), this.#at - 8)
    this.#at -= 8
  }

  double(value: number): void {
    this.#room(8)
    this.#bytes.writeDoubleLE(value, this.#at - 8)
    this.#at -= 8
  }

  bytes(value: Uint8Array): void {
    this.#room(value.length)
    this.#at -= value.length
    this.#bytes.set(value, this.#at)
  }

  /** The tag of a field, after its value. `wireType`: 0 varint, 1 64 bits, 2 delimited, 5 32 bits. */
  tag(field: number, wireType: number): void {
    this.varint(field * 8 + wireType)
  }

  /** Ends a delimited field whose content began at `from` (the `length` then). */
  delimited(field: number, from: number): void {
    this.varint(this.length - from)
    this.tag(field, 2)
  }

  text(field: number, value: string): void {
    const from = this.length
    this.bytes(Buffer.from(value, 'utf8'))
    this.delimited(field, from)
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
