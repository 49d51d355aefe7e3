import { BackWriter } from '../../lib/back-writer.ts'
import { ENUM_NAMES, type Field, type Message, REQUESTS, type Scalar, type Signal } from './messages.ts'

/**
 * OTLP in JSON, turned into OTLP in protobuf, so that there is one decoder. The rules are those of the proto3 JSON
 * mapping with the exceptions of OTLP: ids are hexadecimal, enumerations are numbers, names are lowerCamelCase alone,
 * unknown names are ignored. https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
 */
export type JsonResult =
  | { readonly ok: true; readonly bytes: Buffer }
  | { readonly ok: false; readonly reason: 'malformed' | 'wrong_type' | 'too_deep'; readonly message: string }

/** Messages within messages: far more than the 12 levels of OTLP itself with any sane attribute. */
const DEPTH_MAX = 64

export function jsonToProtobuf(signal: Signal, text: string): JsonResult {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return { ok: false, reason: 'malformed', message: 'the body is not JSON' }
  }
  const writer = new BackWriter(4096)
  try {
    writeMessage(writer, REQUESTS[signal], value, '$', 0)
  } catch (error) {
    if (!(error instanceof Refused)) throw error
    return { ok: false, reason: error.reason, message: error.message }
  }
  return { ok: true, bytes: writer.take() }
}

/** Ends the walk from any depth; never leaves this file. */
class Refused extends Error {
  readonly reason: 'wrong_type' | 'too_deep'

  constructor(reason: 'wrong_type' | 'too_deep', message: string) {
    super(message)
    this.reason = reason
  }
}

function writeMessage(writer: BackWriter, message: Message, value: unknown, path: string, depth: number): void {
  if (depth > DEPTH_MAX) throw new Refused('too_deep', `${shortened(path)} is nested deeper than ${DEPTH_MAX} levels`)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(path, 'an object')
  const entries = Object.entries(value)
  for (let k = entries.length - 1; k >= 0; k--) {
    const [name, content] = entries[k]!
    const field = Object.hasOwn(message, name) ? message[name] : undefined
    if (field === undefined || content === null) continue
    writeField(writer, field, content, `${path}.${name}`, depth)
  }
}

function writeField(writer: BackWriter, field: Field, value: unknown, path: string, depth: number): void {
  if (field.repeated === undefined) {
    writeValue(writer, field, value, path, depth)
    return
  }
  if (!Array.isArray(value)) throw wrong(path, 'an array')
  const from = writer.length
  for (let k = value.length - 1; k >= 0; k--) {
    if (typeof field.type === 'string') writeScalar(writer, field.type, value[k], path)
    else writeValue(writer, field, value[k], `${path}[${k}]`, depth)
  }
  // Numbers are packed. OTLP has no repeated texts outside AnyValue.
  if (typeof field.type === 'string') writer.endFar(tagOf(field, 2), from)
}

function writeValue(writer: BackWriter, field: Field, value: unknown, path: string, depth: number): void {
  const from = writer.length
  if (typeof field.type === 'string') {
    writeScalar(writer, field.type, value, path)
    const wireType = WIRE_TYPES[field.type]
    if (wireType === 2) writer.endFar(tagOf(field, 2), from)
    else writer.varint(tagOf(field, wireType))
    return
  }
  writeMessage(writer, field.type(), value, path, depth + 1)
  writer.endFar(tagOf(field, 2), from)
}

const tagOf = (field: Field, wireType: number): number => field.number * 8 + wireType

const WIRE_TYPES: Readonly<Record<Scalar, 0 | 1 | 2 | 5>> = {
  string: 2,
  bytes: 2,
  id: 2,
  bool: 0,
  enum: 0,
  uint32: 0,
  int64: 0,
  uint64: 0,
  sint32: 0,
  fixed32: 5,
  fixed64: 1,
  sfixed64: 1,
  double: 1,
}

function writeScalar(writer: BackWriter, type: Scalar, value: unknown, path: string): void {
  switch (type) {
    case 'string':
      if (typeof value !== 'string') throw wrong(path, 'a string')
      writer.raw(Buffer.from(value))
      break
    case 'id':
      if (typeof value !== 'string' || value.length % 2 !== 0 || !HEX.test(value)) throw wrong(path, 'hexadecimal')
      writer.raw(Buffer.from(value, 'hex'))
      break
    case 'bytes':
      if (typeof value !== 'string' || !BASE64.test(value)) throw wrong(path, 'base64')
      writer.raw(Buffer.from(value, 'base64'))
      break
    case 'bool':
      if (typeof value !== 'boolean') throw wrong(path, 'true or false')
      writer.varint(value ? 1 : 0)
      break
    case 'double':
      writer.double(doubleOf(value, path))
      break
    case 'enum': {
      const number = typeof value === 'string' ? (ENUM_NAMES.get(value) ?? value) : value
      writer.varint64(integerOf(number, -(2n ** 31n), 2n ** 31n - 1n, path))
      break
    }
    case 'sint32': {
      const number = Number(integerOf(value, -(2n ** 31n), 2n ** 31n - 1n, path))
      writer.varint(((number << 1) ^ (number >> 31)) >>> 0)
      break
    }
    case 'uint32':
      writer.varint64(integerOf(value, 0n, 2n ** 32n - 1n, path))
      break
    case 'fixed32':
      writer.fixed32(Number(integerOf(value, 0n, 2n ** 32n - 1n, path)))
      break
    case 'int64':
      writer.varint64(integerOf(value, -(2n ** 63n), 2n ** 63n - 1n, path))
      break
    case 'uint64':
      writer.varint64(integerOf(value, 0n, 2n ** 64n - 1n, path))
      break
    case 'fixed64':
      writer.bits64(integerOf(value, 0n, 2n ** 64n - 1n, path))
      break
    case 'sfixed64':
      writer.bits64(integerOf(value, -(2n ** 63n), 2n ** 63n - 1n, path))
      break
  }
}

const HEX = /^[0-9a-fA-F]*$/
/** Both alphabets, with or without padding, as proto3 JSON says. */
const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}$/
const INTEGER = /^-?\d{1,20}$/

/** 64-bit integers are strings in JSON, or numbers; `1e3` and `5.0` are integers too. */
function integerOf(value: unknown, low: bigint, high: bigint, path: string): bigint {
  let number: bigint
  if (typeof value === 'number' && Number.isInteger(value)) number = BigInt(value)
  else if (typeof value === 'string' && INTEGER.test(value)) number = BigInt(value)
  else throw wrong(path, 'an integer')
  if (number < low || number > high) throw wrong(path, `an integer from ${low} to ${high}`)
  return number
}

function doubleOf(value: unknown, path: string): number {
  if (typeof value === 'number') return value
  if (value === 'NaN') return Number.NaN
  if (value === 'Infinity') return Number.POSITIVE_INFINITY
  if (value === '-Infinity') return Number.NEGATIVE_INFINITY
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : Number.NaN
  if (Number.isNaN(number)) throw wrong(path, 'a number')
  return number
}

function wrong(path: string, wanted: string): Refused {
  return new Refused('wrong_type', `${shortened(path)} must be ${wanted}`)
}

function shortened(path: string): string {
  return path.length <= 120 ? path : `${path.slice(0, 117)}…`
}
