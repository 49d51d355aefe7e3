/**
 * Reads protobuf messages field by field (protobuf.dev/programming-guides/encoding), in place and without objects. Throws
 * `MalformedProtobuf` for what is none; time is linear in the bytes.
 *
 *     while (reader.next(end)) {
 *       if (reader.field === 1) text = reader.text(end)
 *       else reader.skip(end)
 *     }
 */
export class MalformedProtobuf extends Error {}

export class ProtobufReader {
  readonly bytes: Buffer
  at = 0
  /** Of the field that `next` found. */
  field = 0
  wireType = 0
  readonly #view: DataView

  constructor(bytes: Buffer) {
    this.bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  /** The next field of a message that ends at `end`; false at its end. */
  next(end: number): boolean {
    if (this.at >= end) return false
    const tag = this.uint(end)
    this.field = Math.floor(tag / 8)
    this.wireType = tag % 8
    if (this.field === 0 || this.field > 536_870_911) throw new MalformedProtobuf(`a tag is ${tag}`)
    return true
  }

  /** Where the embedded message, text, or run of packed numbers at hand ends. */
  length(end: number): number {
    const length = this.uint(end)
    if (length > end - this.at) throw new MalformedProtobuf('a length is beyond its message')
    return this.at + length
  }

  /** An unsigned number, exact up to 2^53. */
  uint(end: number): number {
    let value = 0
    let scale = 1
    for (let k = 0; k < 10; k++) {
      if (this.at >= end) throw new MalformedProtobuf('a number is cut off')
      const byte = this.bytes[this.at++]!
      value += (byte & 127) * scale
      if (byte < 128) return value
      scale *= 128
    }
    throw new MalformedProtobuf('a number is longer than 10 bytes')
  }

  /** An int64 or int32: two's complement in ten bytes where it is negative. */
  int(end: number): number {
    const from = this.at
    const value = this.uint(end)
    if (value < 2 ** 53) return value
    let whole = 0n
    for (let k = this.at - 1; k >= from; k--) whole = (whole << 7n) | BigInt(this.bytes[k]! & 127)
    return Number(BigInt.asIntN(64, whole))
  }

  /** A sint64 or sint32. */
  sint(end: number): number {
    const value = this.uint(end)
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2
  }

  double(end: number): number {
    if (end - this.at < 8) throw new MalformedProtobuf('a double is cut off')
    const value = this.#view.getFloat64(this.at, true)
    this.at += 8
    return value
  }

  /** Whether the double at hand has these two words: a NaN loses its payload when it becomes a number. */
  doubleIs(high: number, low: number, end: number): boolean {
    return (
      end - this.at >= 8 &&
      this.#view.getUint32(this.at + 4, true) === high &&
      this.#view.getUint32(this.at, true) === low
    )
  }

  /** A text; what is not UTF-8 becomes U+FFFD. */
  text(end: number): string {
    const to = this.length(end)
    const text = this.bytes.toString('utf8', this.at, to)
    this.at = to
    return text
  }

  /** Over the value of the field at hand. */
  skip(end: number): void {
    if (this.wireType === 0) this.uint(end)
    else if (this.wireType === 2) this.at = this.length(end)
    else if (this.wireType === 1 || this.wireType === 5) {
      const size = this.wireType === 1 ? 8 : 4
      if (end - this.at < size) throw new MalformedProtobuf('a number is cut off')
      this.at += size
    } else throw new MalformedProtobuf(`a field has the wire type ${this.wireType}`)
  }
}
