/** Writes protobuf fields into a buffer that grows (protobuf.dev/programming-guides/encoding). */
export class ProtobufWriter {
  length = 0
  #buffer: Buffer

  constructor(capacity = 1024) {
    this.#buffer = Buffer.allocUnsafe(capacity)
  }

  reset(): void {
    this.length = 0
  }

  /** The bytes so far; valid until more is written. */
  view(): Uint8Array {
    return this.#buffer.subarray(0, this.length)
  }

  /** A whole number ≥ 0, up to 2^53. */
  varint(value: number): void {
    this.#reserve(10)
    let left = value
    while (left >= 128) {
      this.#buffer[this.length++] = (left % 128) | 128
      left = Math.floor(left / 128)
    }
    this.#buffer[this.length++] = left
  }

  /** A signed whole number, |value| < 2^52. */
  zigzag(value: number): void {
    this.varint(value < 0 ? -2 * value - 1 : 2 * value)
  }

  uint(field: number, value: number): void {
    this.varint(field << 3)
    this.varint(value)
  }

  sint(field: number, value: number): void {
    this.varint(field << 3)
    this.zigzag(value)
  }

  double(field: number, value: number): void {
    this.varint((field << 3) | 1)
    this.rawDouble(value)
  }

  /** A double without a tag: one of many that are packed. */
  rawDouble(value: number): void {
    this.#reserve(8)
    this.length = this.#buffer.writeDoubleLE(value, this.length)
  }

  /** A double by its two words: for a NaN that has to keep its payload. */
  doubleOf(field: number, high: number, low: number): void {
    this.varint((field << 3) | 1)
    this.#reserve(8)
    this.#buffer.writeUInt32LE(low, this.length)
    this.#buffer.writeUInt32LE(high, this.length + 4)
    this.length += 8
  }

  string(field: number, value: string): void {
    const bytes = Buffer.byteLength(value)
    this.varint((field << 3) | 2)
    this.varint(bytes)
    this.#reserve(bytes)
    this.#buffer.write(value, this.length)
    this.length += bytes
  }

  /** An embedded message, or packed numbers. */
  message(field: number, message: ProtobufWriter): void {
    this.varint((field << 3) | 2)
    this.varint(message.length)
    this.bytes(message.view())
  }

  /** Bytes as they are. */
  bytes(bytes: Uint8Array): void {
    this.#reserve(bytes.length)
    this.#buffer.set(bytes, this.length)
    this.length += bytes.length
  }

  #reserve(bytes: number): void {
    if (this.length + bytes <= this.#buffer.length) return
    const grown = Buffer.allocUnsafe(Math.max(this.length + bytes, 2 * this.#buffer.length))
    grown.set(this.view())
    this.#buffer = grown
  }
}
