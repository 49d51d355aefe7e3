import { FIXED64, Fields, LEN, VARINT } from './fields.ts'

/**
 * `opentelemetry.proto.common.v1.AnyValue`: a text, a number, or a tree of them. Trees become JSON. Both depth and length
 * are bounded: what lies deeper or comes after the bound is left out, and counted in `cut`.
 */
export interface AnyValueReader {
  /** The value in `bytes[start … end)`; null when it is empty. What cannot be read counts as absent. */
  read(bytes: Uint8Array, start: number, end: number): string | number | boolean | null
  /** The same as text: numbers in decimal, trees as JSON, '' for nothing. */
  text(bytes: Uint8Array, start: number, end: number): string
  /** Times a bound was met. */
  cut: number
}

export interface AnyValueLimits {
  readonly depthMax: number
  /** Bytes of one value, as text or JSON. */
  readonly bytesMax: number
}

export const ANY_VALUE_LIMITS: AnyValueLimits = { depthMax: 32, bytesMax: 8192 }

const STRING = 1
const BOOL = 2
const INT = 3
const DOUBLE = 4
const ARRAY = 5
const MAP = 6
const BYTES = 7

export function createAnyValueReader(limits: AnyValueLimits = ANY_VALUE_LIMITS): AnyValueReader {
  const levels: Fields[] = []
  const pairs: Fields[] = []
  const level = (depth: number): Fields => {
    levels[depth] ??= new Fields()
    return levels[depth]!
  }

  function scalar(fields: Fields): string | number | boolean | null {
    const { number, wireType } = fields
    if (number === STRING && wireType === LEN) {
      if (fields.to - fields.from > limits.bytesMax) reader.cut++
      return fields.text(limits.bytesMax)
    }
    if (number === BOOL && wireType === VARINT) return fields.value !== 0
    if (number === INT && wireType === VARINT) {
      const { signed } = fields
      // Beyond 2^53 the exact digits, as text.
      return Number.isSafeInteger(signed)
        ? signed
        : String(BigInt.asIntN(64, (BigInt(fields.high) << 32n) | BigInt(fields.low)))
    }
    if (number === DOUBLE && wireType === FIXED64) return fields.double
    if (number === BYTES && wireType === LEN) {
      if (fields.to - fields.from > limits.bytesMax / 2) reader.cut++
      const to = Math.min(fields.to, fields.from + limits.bytesMax / 2)
      return Buffer.from(fields.bytes.buffer, fields.bytes.byteOffset + fields.from, to - fields.from).toString(
        'base64',
      )
    }
    return null
  }

  /** Bytes of JSON written for the value that is being read. */
  let written = 0

  function json(bytes: Uint8Array, start: number, end: number, depth: number): string {
    const fields = level(2 * depth).enter(bytes, start, end)
    let text = 'null'
    while (fields.next()) {
      const { number, wireType } = fields
      if ((number === ARRAY || number === MAP) && wireType === LEN) {
        text = tree(bytes, fields.from, fields.to, number === MAP, depth)
      } else {
        const value = scalar(fields)
        text = typeof value === 'number' && !Number.isFinite(value) ? `"${value}"` : JSON.stringify(value)
      }
    }
    return text
  }

  function tree(bytes: Uint8Array, start: number, end: number, keyed: boolean, depth: number): string {
    if (depth >= limits.depthMax) {
      reader.cut++
      return keyed ? '{}' : '[]'
    }
    const items = level(2 * depth + 1).enter(bytes, start, end)
    pairs[depth] ??= new Fields()
    const pair = pairs[depth]!
    let out = ''
    while (items.next()) {
      if (items.number !== 1 || items.wireType !== LEN) continue
      if (written > limits.bytesMax) {
        reader.cut++
        break
      }
      let part: string
      if (keyed) {
        let key = ''
        let from = 0
        let to = 0
        pair.into(items)
        while (pair.next()) {
          if (pair.wireType !== LEN) continue
          if (pair.number === 1) key = pair.text(KEY_BYTES_MAX)
          else if (pair.number === 2) {
            from = pair.from
            to = pair.to
          }
        }
        part = JSON.stringify(key)
        written += part.length
        part += `:${json(bytes, from, to, depth + 1)}`
      } else part = json(bytes, items.from, items.to, depth + 1)
      written += 4
      if (!part.endsWith('}') && !part.endsWith(']')) written += part.length
      out += out === '' ? part : `,${part}`
    }
    return keyed ? `{${out}}` : `[${out}]`
  }

  const reader: AnyValueReader = {
    cut: 0,
    read(bytes, start, end) {
      const fields = level(0).enter(bytes, start, end)
      let value: string | number | boolean | null = null
      while (fields.next()) {
        const { number, wireType } = fields
        if ((number === ARRAY || number === MAP) && wireType === LEN) {
          written = 0
          value = tree(bytes, fields.from, fields.to, number === MAP, 0)
        } else value = scalar(fields)
      }
      return value
    },
    text(bytes, start, end) {
      const value = reader.read(bytes, start, end)
      return value === null ? '' : String(value)
    },
  }
  return reader
}

const KEY_BYTES_MAX = 256
