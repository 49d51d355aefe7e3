/**
 * Reads protobuf on cold paths, once per stream or per distinct peer. Nothing here throws, and time is linear in the
 * bytes: what cannot be read ends the walk. https://protobuf.dev/programming-guides/encoding/
 */

/** Wire types. */
export const VARINT = 0
export const LEN = 2

export type FieldVisitor = (field: number, wireType: number, from: number, to: number, value: number) => void

/**
 * Calls `visit` for every field of the message in `bytes[start … end)`. `from … to` is the value of a LEN field; `value`
 * that of a VARINT, exact up to 2^53. False: malformed from some place on; fields before it were visited.
 */
export function eachField(bytes: Uint8Array, start: number, end: number, visit: FieldVisitor): boolean {
  let at = start
  const limit = Math.min(end, bytes.length)
  const varint = (): number => {
    let value = 0
    let scale = 1
    for (let k = 0; k < 10 && at < limit; k++) {
      const byte = bytes[at++]!
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return value
      scale *= 128
    }
    return -1
  }
  while (at < limit) {
    const tag = varint()
    if (tag < 8 || tag > 0xffff_ffff) return false
    const field = Math.floor(tag / 8)
    const wireType = tag % 8
    if (wireType === LEN) {
      const length = varint()
      if (length < 0 || length > limit - at) return false
      const from = at
      at += length
      visit(field, wireType, from, at, length)
    } else if (wireType === VARINT) {
      const from = at
      const value = varint()
      if (value < 0) return false
      visit(field, wireType, from, at, value)
    } else if (wireType === 1 || wireType === 5) {
      const size = wireType === 1 ? 8 : 4
      if (limit - at < size) return false
      visit(field, wireType, at, at + size, 0)
      at += size
    } else return false
  }
  return true
}

/** Longest text that is made of bytes here; names and ids are far shorter, and a hostile one costs no more. */
export const TEXT_BYTES_MAX = 512

/** The text of `bytes[from … to)`; what is not UTF-8 becomes U+FFFD, what is too long is cut. */
export function readText(bytes: Uint8Array, from: number, to: number): string {
  const end = Math.min(to, from + TEXT_BYTES_MAX)
  return Buffer.from(bytes.buffer, bytes.byteOffset + from, end - from).toString('utf8')
}

/**
 * Calls `visit` for every key of a `google.protobuf.Struct` (`fields` #1, a map of string to Value) with the range of the
 * serialized Value. The last of two equal keys counts, which is up to the visitor.
 */
export function eachStructField(
  bytes: Uint8Array,
  start: number,
  end: number,
  visit: (key: string, from: number, to: number) => void,
): boolean {
  return eachField(bytes, start, end, (field, wireType, from, to) => {
    if (field !== 1 || wireType !== LEN) return
    let key = ''
    let valueFrom = -1
    let valueTo = -1
    eachField(bytes, from, to, (part, partWireType, partFrom, partTo) => {
      if (partWireType !== LEN) return
      if (part === 1) key = readText(bytes, partFrom, partTo)
      else if (part === 2) {
        valueFrom = partFrom
        valueTo = partTo
      }
    })
    if (valueFrom >= 0) visit(key, valueFrom, valueTo)
  })
}

/** The text of a Value (`string_value` #3); '' when it is of another type. */
export function valueText(bytes: Uint8Array, start: number, end: number): string {
  let text = ''
  eachField(bytes, start, end, (field, wireType, from, to) => {
    if (field === 3 && wireType === LEN) text = readText(bytes, from, to)
  })
  return text
}

/** Calls `visit` for every string in the Struct that a Value holds (`struct_value` #5). */
export function eachValueString(
  bytes: Uint8Array,
  start: number,
  end: number,
  visit: (key: string, text: string) => void,
): void {
  eachField(bytes, start, end, (field, wireType, from, to) => {
    if (field !== 5 || wireType !== LEN) return
    eachStructField(bytes, from, to, (key, valueFrom, valueTo) => visit(key, valueText(bytes, valueFrom, valueTo)))
  })
}
