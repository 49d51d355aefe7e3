import { eachField, readLength, readVarint, skipField, type Wide } from './wire.ts'

/**
 * Dynamic metadata and filter state objects as JSON text. This is off the hot path: texts are kept by the serialized
 * bytes they come from, and both repeat.
 */
export interface JsonOptions {
  readonly depthMax: number
  /** Whether the value under a key must not be kept. */
  readonly secret: (name: string) => boolean
}

/** Counts what was left out because of `depthMax`. */
export interface JsonReader {
  /** `config.core.v3.Metadata` in its protobuf JSON form; null when it is not protobuf. */
  metadata(bytes: Uint8Array): string | null
  /**
   * A serialized `google.protobuf.Any`: Struct, Value, ListValue and the wrapper types as their JSON, anything else as
   * `{"@type": URL, "value": BASE64}`. Never fails: what cannot be read is kept as base64.
   */
  any(bytes: Uint8Array): string
  cut: number
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** The payload is not what its type says. */
class NotProtobuf extends Error {}

const TYPE_PREFIX = /^.*\/google\.protobuf\./

export function createJsonReader(options: JsonOptions): JsonReader {
  return new Reader(options)
}

class Reader implements JsonReader {
  cut = 0
  readonly #options: JsonOptions
  readonly #wide: Wide = { value: 0, signed: 0, int: 0 }

  constructor(options: JsonOptions) {
    this.#options = options
  }

  metadata(bytes: Uint8Array): string | null {
    try {
      const filter = record()
      const typed = record()
      this.#fields(bytes, (tag, value) => {
        if (tag === 10) this.#mapEntry(value, filter, (struct) => this.#struct(struct, 1))
        else if (tag === 18) this.#mapEntry(value, typed, (any) => this.#any(any))
      })
      const out = record()
      if (Object.keys(filter).length > 0) out.filter_metadata = filter
      if (Object.keys(typed).length > 0) out.typed_filter_metadata = typed
      return JSON.stringify(out)
    } catch (error) {
      if (error instanceof NotProtobuf) return null
      throw error
    }
  }

  any(bytes: Uint8Array): string {
    try {
      return JSON.stringify(this.#any(bytes))
    } catch (error) {
      if (error instanceof NotProtobuf) return JSON.stringify({ '@type': '', value: base64(bytes) })
      throw error
    }
  }

  #any(bytes: Uint8Array): Json {
    let url = ''
    let value: Uint8Array = new Uint8Array(0)
    this.#fields(bytes, (tag, field) => {
      if (tag === 10) url = text(field)
      else if (tag === 18) value = field
    })
    if (url === '' && value.length === 0) return null
    const name = TYPE_PREFIX.test(url) ? url.replace(TYPE_PREFIX, '') : ''
    try {
      switch (name) {
        case 'Struct':
          return this.#struct(value, 1)
        case 'Value':
          return this.#value(value, 1)
        case 'ListValue':
          return this.#list(value, 1)
        case 'StringValue':
          return this.#delimited(value, text)
        case 'BytesValue':
          return this.#delimited(value, base64)
        case 'BoolValue':
          return this.#number(value) !== 0
        case 'Int32Value':
          return this.#number(value) | 0
        case 'UInt32Value':
          return this.#number(value)
        case 'Int64Value':
          return BigInt.asIntN(64, this.#bigint(value)).toString()
        case 'UInt64Value':
          return this.#bigint(value).toString()
        case 'DoubleValue':
          return this.#double(value)
        case 'FloatValue':
          return this.#float(value)
      }
    } catch (error) {
      if (!(error instanceof NotProtobuf)) throw error
    }
    return { '@type': url, value: base64(value) }
  }

  #struct(bytes: Uint8Array, depth: number): Json {
    if (depth > this.#options.depthMax) {
      this.cut++
      return null
    }
    const out = record()
    this.#fields(bytes, (tag, entry) => {
      if (tag === 10) this.#mapEntry(entry, out, (value) => this.#value(value, depth))
    })
    return out
  }

  #list(bytes: Uint8Array, depth: number): Json {
    if (depth > this.#options.depthMax) {
      this.cut++
      return null
    }
    const out: Json[] = []
    this.#fields(bytes, (tag, value) => {
      if (tag === 10) out.push(this.#value(value, depth))
    })
    return out
  }

  #value(bytes: Uint8Array, depth: number): Json {
    let out: Json = null
    const wide = this.#wide
    const read = eachField(bytes, 0, bytes.length, wide, (t, p) => {
      if (t === 17) {
        if (p + 8 > bytes.length) return -1
        out = finite(Buffer.from(bytes.buffer, bytes.byteOffset + p, 8).readDoubleLE())
        return p + 8
      }
      if (t === 8 || t === 32) {
        const next = readVarint(bytes, p, wide)
        out = t === 8 ? null : wide.value !== 0
        return next > bytes.length ? -1 : next
      }
      if (t !== 26 && t !== 42 && t !== 50) return skipField(bytes, p, bytes.length, t, wide)
      const from = readLength(bytes, p, bytes.length, wide)
      if (from < 0) return -1
      const to = from + wide.int
      const field = bytes.subarray(from, to)
      if (t === 26) out = text(field)
      else out = t === 42 ? this.#struct(field, depth + 1) : this.#list(field, depth + 1)
      return to
    })
    if (read < 0) throw new NotProtobuf()
    return out
  }

  #mapEntry(bytes: Uint8Array, out: { [key: string]: Json }, read: (value: Uint8Array) => Json): void {
    let key = ''
    let value: Uint8Array = new Uint8Array(0)
    this.#fields(bytes, (tag, field) => {
      if (tag === 10) key = text(field)
      else if (tag === 18) value = field
    })
    const json = read(value)
    out[key] = this.#options.secret(key) ? '*' : json
  }

  /** Delimited fields of a message; others are skipped. */
  #fields(bytes: Uint8Array, field: (tag: number, value: Uint8Array) => void): void {
    const wide = this.#wide
    const read = eachField(bytes, 0, bytes.length, wide, (t, p) => {
      if ((t & 7) !== 2) return skipField(bytes, p, bytes.length, t, wide)
      const from = t >>> 3 === 0 ? -1 : readLength(bytes, p, bytes.length, wide)
      if (from < 0) return -1
      const to = from + wide.int
      field(t, bytes.subarray(from, to))
      return to
    })
    if (read < 0) throw new NotProtobuf()
  }

  #delimited(bytes: Uint8Array, convert: (value: Uint8Array) => string): string {
    let out = ''
    this.#fields(bytes, (tag, value) => {
      if (tag === 10) out = convert(value)
    })
    return out
  }

  #number(bytes: Uint8Array): number {
    return Number(BigInt.asUintN(32, this.#bigint(bytes)))
  }

  #bigint(bytes: Uint8Array): bigint {
    let out = 0n
    const wide = this.#wide
    const read = eachField(bytes, 0, bytes.length, wide, (t, p) => {
      if (t !== 8) return skipField(bytes, p, bytes.length, t, wide)
      const next = readVarint(bytes, p, wide)
      if (next < 0 || next > bytes.length) return -1
      out = 0n
      for (let k = next - 1; k >= p; k--) out = (out << 7n) | BigInt(bytes[k]! & 127)
      out = BigInt.asUintN(64, out)
      return next
    })
    if (read < 0) throw new NotProtobuf()
    return out
  }

  #double(bytes: Uint8Array): Json {
    return this.#fixed(bytes, 9, 8, (buffer) => buffer.readDoubleLE())
  }

  #float(bytes: Uint8Array): Json {
    return this.#fixed(bytes, 13, 4, (buffer) => buffer.readFloatLE())
  }

  #fixed(bytes: Uint8Array, tag: number, size: number, convert: (buffer: Buffer) => number): Json {
    let out: Json = 0
    const wide = this.#wide
    const read = eachField(bytes, 0, bytes.length, wide, (t, p) => {
      if (t !== tag) return skipField(bytes, p, bytes.length, t, wide)
      if (p + size > bytes.length) return -1
      out = finite(convert(Buffer.from(bytes.buffer, bytes.byteOffset + p, size)))
      return p + size
    })
    if (read < 0) throw new NotProtobuf()
    return out
  }
}

/** An object without a prototype, so that a key `__proto__` is a key like any other. */
function record(): { [key: string]: Json } {
  return Object.create(null)
}

/** JSON has no NaN and no infinities; protobuf's JSON form writes them as text. */
const finite = (value: number): Json => (Number.isFinite(value) ? value : String(value))
const decoder = new TextDecoder()
const text = (bytes: Uint8Array): string => decoder.decode(bytes)
const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64')
