/**
 * JSON text → serialized `google.protobuf` messages, for metadata, filter state and peers. Off the hot path: texts repeat,
 * and the serialized form of each is remembered.
 */
export class JsonMessages {
  /** `Metadata` with `filter_metadata` #1 from an object of objects; other values stand under their name as the key `value`. */
  metadata(json: string): Uint8Array | null {
    return this.#remembered(this.#metadata, json, encodeMetadata)
  }

  /** A serialized `Any` of a Struct, or of a Value for everything but objects; text that is not JSON is a string. */
  any(json: string): Uint8Array {
    return this.#remembered(this.#any, json, encodeAny)!
  }

  readonly #metadata = new Map<string, Uint8Array | null>()
  readonly #any = new Map<string, Uint8Array | null>()
  #bytes = 0

  #remembered(
    known: Map<string, Uint8Array | null>,
    json: string,
    encode: (json: string) => Uint8Array | null,
  ): Uint8Array | null {
    const found = known.get(json)
    if (found !== undefined) return found
    const encoded = encode(json)
    const size = json.length + (encoded?.length ?? 0)
    if (this.#bytes + size > REMEMBERED_BYTES_MAX) {
      this.#metadata.clear()
      this.#any.clear()
      this.#bytes = 0
    }
    if (size <= REMEMBERED_BYTES_MAX / 8) {
      this.#bytes += size
      known.set(flat(json), encoded)
    }
    return encoded
  }
}

const REMEMBERED_BYTES_MAX = 1 << 20
/** Deeper values are left out, as the decoder does. */
const DEPTH_MAX = 33
const STRUCT_URL = 'type.googleapis.com/google.protobuf.Struct'
const VALUE_URL = 'type.googleapis.com/google.protobuf.Value'

/** A copy of its own: a key must not keep the line alive that it was cut from. */
const flat = (text: string): string => Buffer.from(text, 'utf8').toString('utf8')

/** `{ type_url #1, value #2 }`. */
export function anyOf(url: string, value: Uint8Array): Buffer {
  return Buffer.concat([field(1, Buffer.from(url)), field(2, value)])
}

/** A Struct of texts. */
export function structOf(fields: readonly (readonly [string, string])[]): Buffer {
  return Buffer.concat(
    fields.map(([key, text]) => field(1, Buffer.concat([field(1, Buffer.from(key)), field(2, jsonValue(text, 0))]))),
  )
}

function encodeAny(json: string): Uint8Array {
  const value = parse(json)
  return isObject(value) ? anyOf(STRUCT_URL, struct(value, 1)) : anyOf(VALUE_URL, jsonValue(value, 1))
}

function encodeMetadata(json: string): Uint8Array | null {
  const value = parse(json)
  if (!isObject(value)) return null
  const parts = Object.entries(value).map(([namespace, content]) => {
    const body = isObject(content) ? content : { value: content }
    return field(1, Buffer.concat([field(1, Buffer.from(namespace)), field(2, struct(body, 1))]))
  })
  return parts.length === 0 ? null : Buffer.concat(parts)
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return json
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** `fields` #1: entries of `key` #1 and `value` #2. */
function struct(value: Readonly<Record<string, unknown>>, depth: number): Buffer {
  const parts = Object.entries(value).map(([key, content]) =>
    field(1, Buffer.concat([field(1, Buffer.from(key)), field(2, jsonValue(content, depth))])),
  )
  return Buffer.concat(parts)
}

/** A Value: `null_value` #1, `number_value` #2, `string_value` #3, `bool_value` #4, `struct_value` #5, `list_value` #6. */
function jsonValue(value: unknown, depth: number): Buffer {
  if (typeof value === 'string') return field(3, Buffer.from(value))
  if (typeof value === 'number') {
    const out = Buffer.alloc(9)
    out[0] = 17
    out.writeDoubleLE(value, 1)
    return out
  }
  if (typeof value === 'boolean') return Buffer.from([32, value ? 1 : 0])
  if (depth < DEPTH_MAX && Array.isArray(value)) {
    return field(6, Buffer.concat(value.map((part) => field(1, jsonValue(part, depth + 1)))))
  }
  if (depth < DEPTH_MAX && isObject(value)) return field(5, struct(value, depth + 1))
  return Buffer.from([8, 0])
}

/** A length-delimited field. */
function field(number: number, body: Uint8Array): Buffer {
  const head: number[] = [number * 8 + 2]
  let length = body.length
  for (; length > 127; length = Math.floor(length / 128)) head.push((length % 128) + 128)
  head.push(length)
  return Buffer.concat([Buffer.from(head), body])
}
