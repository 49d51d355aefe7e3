import { readFileSync } from 'node:fs'
import protobuf from 'protobufjs'
import descriptor from 'protobufjs/ext/descriptor.js'
import type { Json, JsonObject } from './als-expected.ts'

/**
 * protobufjs with the schema taken out of Envoy itself: reads messages field by field, and makes random valid ones.
 */
const root = protobuf.Root.fromDescriptor(
  descriptor.FileDescriptorSet.decode(
    readFileSync(new URL('../fixtures/als/envoy-1.40.fds', import.meta.url)),
  ) as unknown as Parameters<typeof protobuf.Root.fromDescriptor>[0],
).resolveAll()

const MESSAGE = root.lookupType('envoy.service.accesslog.v3.StreamAccessLogsMessage')

export interface OracleEntry {
  readonly entry: JsonObject
  readonly isTcp: boolean
}

/** Entries of a message in protobuf's JSON form with proto names; `Any` in the form the columns use. */
export function entriesOf(bytes: Uint8Array): OracleEntry[] {
  const message = MESSAGE.decode(bytes) as unknown as Record<string, unknown>
  return ['http_logs', 'tcp_logs'].flatMap((list) => {
    const field = fieldOf(MESSAGE, list)
    if (!Object.hasOwn(message, field.name)) return []
    const entries = json(typeOf(field), message[field.name] as Record<string, unknown>) as JsonObject
    return ((entries.log_entry ?? []) as JsonObject[]).map((entry) => ({ entry, isTcp: list === 'tcp_logs' }))
  })
}

/** The schema has some names in camel case and some as they are in the .proto file. */
const fieldOf = (type: protobuf.Type, name: string): protobuf.Field =>
  type.fieldsArray.find((field) => snake(field.name) === name)!
const typeOf = (field: protobuf.Field): protobuf.Type => field.resolve().resolvedType as protobuf.Type

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
const SECRET_KEYS = new Set(['authorization', 'cookie'])

function json(type: protobuf.Type, message: Record<string, unknown>): Json {
  const name = type.fullName.replace('.google.protobuf.', '')
  if (name === 'Struct') return structJson(message)
  if (name === 'Value') return valueJson(message)
  if (name === 'Any') return anyJson(message)
  if (/^(UInt32|Int32|Bool|String)Value$/.test(name)) return (message.value ?? null) as Json
  const out: JsonObject = {}
  for (const field of type.fieldsArray) {
    field.resolve()
    if (!Object.hasOwn(message, field.name)) continue
    const value = message[field.name]
    if (value === null || value === undefined) continue
    if (field instanceof protobuf.MapField) {
      const entries = Object.entries(value as Record<string, unknown>).map(([key, item]) => [
        key,
        SECRET_KEYS.has(key) && type.name === 'Metadata' ? '*' : single(field, item),
      ])
      if (entries.length > 0) out[snake(field.name)] = Object.fromEntries(entries)
    } else if (field.repeated) {
      out[snake(field.name)] = (value as unknown[]).map((item) => single(field, item))
    } else out[snake(field.name)] = single(field, value)
  }
  return out
}

function single(field: protobuf.FieldBase, value: unknown): Json {
  if (field.resolvedType instanceof protobuf.Type) return json(field.resolvedType, value as Record<string, unknown>)
  if (field.resolvedType instanceof protobuf.Enum)
    return field.resolvedType.valuesById[value as number] ?? (value as number)
  if (/64$/.test(field.type)) return String(value)
  return value as Json
}

function structJson(message: Record<string, unknown>): Json {
  const fields = (message.fields ?? {}) as Record<string, Record<string, unknown>>
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [key, SECRET_KEYS.has(key) ? '*' : valueJson(value)]),
  )
}

function valueJson(value: Record<string, unknown>): Json {
  const kinds = Object.keys(value).map((name) => [snake(name), value[name]] as const)
  const [kind, content] = kinds.at(-1) ?? ['null_value', null]
  if (kind === 'number_value') return Number.isFinite(content as number) ? (content as number) : String(content)
  if (kind === 'string_value') return content as string
  if (kind === 'bool_value') return content as boolean
  if (kind === 'struct_value') return structJson(content as Record<string, unknown>)
  if (kind !== 'list_value') return null
  const { values = [] } = content as { values?: Record<string, unknown>[] }
  return values.map(valueJson)
}

/** What the columns hold: the JSON of the well-known types, else URL and base64. */
function anyJson(message: Record<string, unknown>): Json {
  // Field names of the schema are camel case here, `type_url` too.
  const url = ((message.typeUrl ?? message.type_url ?? '') as string) || ''
  const value = (message.value ?? new Uint8Array(0)) as Uint8Array
  if (url === '' && value.length === 0) return null
  const base64 = Buffer.from(value).toString('base64')
  const name = url.startsWith('type.googleapis.com/google.protobuf.') ? url.slice(36) : ''
  const wrapped = WELL_KNOWN.get(name)
  if (wrapped === undefined) return { '@type': url, value: base64 }
  const decoded = wrapped.decode(value) as unknown as Record<string, unknown>
  if (name === 'Struct') return structJson(decoded)
  if (name === 'ListValue') return valueJson({ list_value: decoded })
  const inner = decoded.value
  if (name === 'BytesValue') return Buffer.from(inner as Uint8Array).toString('base64')
  return /64Value$/.test(name) ? String(inner) : (inner as Json)
}

const wrapper = (type: string): protobuf.Type => new protobuf.Type('Wrapper').add(new protobuf.Field('value', 1, type))
const WELL_KNOWN = new Map<string, protobuf.Type>([
  ['Struct', root.lookupType('google.protobuf.Struct')],
  ['ListValue', root.lookupType('google.protobuf.ListValue')],
  ['StringValue', wrapper('string')],
  ['BytesValue', wrapper('bytes')],
  ['BoolValue', wrapper('bool')],
  ['Int32Value', wrapper('int32')],
  ['UInt32Value', wrapper('uint32')],
  ['Int64Value', wrapper('int64')],
  ['UInt64Value', wrapper('uint64')],
  ['DoubleValue', wrapper('double')],
])

/** Makes valid messages: any fields, in Envoy's order or any other, with fields of later versions in between. */
export class RandomMessages {
  readonly #random: () => number
  #shuffled = false

  constructor(random: () => number) {
    this.#random = random
  }

  message(entries: number, isTcp: boolean): Buffer {
    this.#shuffled = this.#chance(0.5)
    const list = typeOf(fieldOf(MESSAGE, isTcp ? 'tcp_logs' : 'http_logs'))
    const entry = typeOf(fieldOf(list, 'log_entry'))
    const parts = Array.from({ length: entries }, () => delimited(1, this.#type(entry, 0)))
    return this.#joined([delimited(isTcp ? 3 : 2, this.#joined(parts, list))], MESSAGE)
  }

  #chance(share: number): boolean {
    return this.#random() < share
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count)
  }

  #pick<T>(items: readonly T[]): T {
    return items[this.#below(items.length)]!
  }

  #type(type: protobuf.Type, depth: number): Buffer {
    const name = type.fullName.replace('.google.protobuf.', '')
    if (name === 'Any') return this.#any()
    if (name === 'Timestamp') return this.#timestamp()
    if (name === 'Duration') return this.#duration()
    if (name === 'Value') return this.#value(depth)
    const parts: Buffer[] = []
    const taken = new Set<string>()
    // Mostly what Envoy sends; sometimes little, sometimes all.
    const share = this.#pick([0.2, 0.6, 0.9, 1])
    for (const field of type.fieldsArray) {
      field.resolve()
      const oneof = field.partOf
      if (oneof !== null && taken.has(oneof.name)) continue
      if (oneof !== null ? !this.#chance(0.6) : !this.#chance(share)) continue
      if (oneof !== null) taken.add(oneof.name)
      const count = field.map || field.repeated ? this.#below(4) : 1
      for (let k = 0; k < count; k++) parts.push(this.#field(type, field, depth))
    }
    return this.#joined(parts, type)
  }

  #field(owner: protobuf.Type, field: protobuf.FieldBase, depth: number): Buffer {
    if (field instanceof protobuf.MapField) {
      const key = delimited(1, Buffer.from(this.#key(snake(field.name))))
      const value =
        field.resolvedType instanceof protobuf.Type
          ? delimited(2, this.#type(field.resolvedType, depth + 1))
          : delimited(2, Buffer.from(this.#headerValue()))
      const parts = this.#chance(0.95) ? [key, value] : [key]
      return delimited(field.id, this.#joined(this.#chance(0.9) ? parts : parts.reverse()))
    }
    if (field.resolvedType instanceof protobuf.Type) {
      return delimited(field.id, this.#type(field.resolvedType, depth + 1))
    }
    if (field.resolvedType instanceof protobuf.Enum) {
      const values = Object.values(field.resolvedType.values)
      return number(field.id, this.#chance(0.95) ? this.#pick(values) : this.#pick([17, 99, 300, 70_000]))
    }
    switch (field.type) {
      case 'string':
        return delimited(field.id, Buffer.from(this.#text(owner.name, snake(field.name))))
      case 'bool':
        return number(field.id, this.#chance(0.6) ? 1 : 0)
      case 'double': {
        const bytes = Buffer.alloc(8)
        bytes.writeDoubleLE(this.#random())
        return Buffer.concat([varint((field.id << 3) | 1), bytes])
      }
      case 'uint32':
        return number(
          field.id,
          this.#pick([0, 1, 80, 443, 503, 8080, 65_535, 65_536, 4_294_967_295, this.#below(60_000)]),
        )
      case 'uint64':
        return number(
          field.id,
          this.#pick([0, 1, 127, 128, 300, 16_384, 2 ** 28, 2 ** 31, 2 ** 32 + 5, 2 ** 52, this.#below(1e6)]),
        )
    }
    throw new Error(`no random value for ${field.type}`)
  }

  #text(owner: string, name: string): string {
    if (name === 'request_id' || name === 'stream_id') {
      return this.#pick(['', 'not-a-uuid', SAME_ID, SAME_ID, this.#uuid(), this.#uuid().toUpperCase()])
    }
    if (name === 'response_code_details') return this.#pick(DETAILS)
    if (/path|referer/i.test(name)) return this.#url()
    if (name === 'address') return this.#pick(['10.0.0.1', '10.0.0.2', '::1', '2001:db8::7', '', this.#word()])
    return owner === 'SubjectAltName' ? this.#pick(['', 'spiffe://td/ns/a/sa/b', this.#word()]) : this.#word()
  }

  #url(): string {
    const query = Array.from({ length: this.#below(4) }, () =>
      this.#pick(['a=1', 'token=s3cret', 'b', 'c=', 'd=x=y', '']),
    )
    return `/${this.#word()}${this.#pick(['', '?', '#', '?'])}${query.join('&')}${this.#pick(['', '', '#frag=1'])}`
  }

  #word(): string {
    const length = this.#pick([0, 1, 3, 4, 7, 8, 12, 15, 16, 17, 18, 19, 20, 21, 31, 40, 127, 128, 129, 300, 1000])
    const letters = this.#pick([ASCII, ASCII, ASCII, MIXED])
    let word = ''
    for (let k = 0; k < length; k++) word += letters[this.#below(letters.length)]!
    return word
  }

  #key(map: string): string {
    if (map === 'filter_state_objects') {
      return this.#pick(['downstream_peer', 'upstream_peer', 'wasm.downstream_peer', 'other', this.#word()])
    }
    return this.#pick(['x-a', 'x-b', 'authorization', 'cookie', 'referer', 'grpc-status', this.#word(), '__proto__x'])
  }

  #headerValue(): string {
    return this.#pick(['0', '14', '200', '', '1x', this.#word(), this.#url()])
  }

  #uuid(): string {
    let hex = ''
    for (let k = 0; k < 32; k++) hex += this.#below(16).toString(16)
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
  }

  #timestamp(): Buffer {
    const seconds = this.#pick([1_767_225_600, 1_700_000_000 + this.#below(1e8), 1_767_225_600, 0, 1, 4_290_000_001])
    const nanos = this.#pick([0, 1, 127, 999_999_999, this.#below(1e9)])
    return this.#joined([...(seconds > 0 ? [number(1, seconds)] : []), ...(nanos > 0 ? [number(2, nanos)] : [])])
  }

  #duration(): Buffer {
    if (this.#chance(0.03)) return this.#joined([signed(1, -3), signed(2, -500)])
    const seconds = this.#pick([0, 0, 0, 0, 1, 59, this.#below(100_000), 5_000_000_000])
    const nanos = this.#pick([0, 1, 5, 1_000, 200_000_000, 300_000_000, 999_999_999, this.#below(1e9)])
    return this.#joined([...(seconds > 0 ? [number(1, seconds)] : []), ...(nanos > 0 ? [number(2, nanos)] : [])])
  }

  #any(): Buffer {
    const url = (name: string) => delimited(1, Buffer.from(`type.googleapis.com/google.protobuf.${name}`))
    const inner = (part: Buffer) => delimited(2, part)
    switch (this.#below(9)) {
      case 0:
        return this.#joined([url('StringValue'), inner(delimited(1, Buffer.from(this.#word())))])
      case 1:
        return this.#joined([url('BytesValue'), inner(delimited(1, Buffer.from([1, 2, 3, 255])))])
      case 2:
        return this.#joined([url('BoolValue'), inner(number(1, 1))])
      case 3:
        return this.#joined([url('UInt64Value'), inner(number(1, 2 ** 45))])
      case 4:
        return this.#joined([url('Int32Value'), inner(signed(1, -7))])
      case 5:
        return this.#joined([
          delimited(1, Buffer.from('type.googleapis.com/acme.Thing')),
          inner(Buffer.from('any bytes')),
        ])
      case 6:
        return Buffer.alloc(0)
    }
    return this.#joined([url('Struct'), inner(this.#type(WELL_KNOWN.get('Struct')!, 3))])
  }

  #value(depth: number): Buffer {
    const kind = this.#below(depth > 8 ? 4 : 6)
    if (kind === 0) return number(1, 0)
    if (kind === 1) {
      const bytes = Buffer.alloc(8)
      bytes.writeDoubleLE(this.#pick([0, -1.5, 1e300, 7, Number.NaN, Number.POSITIVE_INFINITY]))
      return Buffer.concat([varint((2 << 3) | 1), bytes])
    }
    if (kind === 2) return delimited(3, Buffer.from(this.#word()))
    if (kind === 3) return number(4, this.#below(2))
    if (kind === 4) return delimited(5, this.#type(WELL_KNOWN.get('Struct')!, depth + 2))
    const values = Array.from({ length: this.#below(4) }, () => delimited(1, this.#value(depth + 2)))
    return delimited(6, Buffer.concat(values))
  }

  /** Puts fields in another order, half of the time, and fields that nobody knows between them. */
  #joined(parts: readonly Buffer[], type?: protobuf.Type): Buffer {
    const all = [...parts]
    if (this.#shuffled && type !== undefined) {
      for (let k = all.length - 1; k > 0; k--) {
        const other = this.#below(k + 1)
        const swapped = all[k]!
        all[k] = all[other]!
        all[other] = swapped
      }
    }
    if (type !== undefined && this.#chance(0.2)) all.splice(this.#below(all.length + 1), 0, this.#unknown())
    return Buffer.concat(all)
  }

  #unknown(): Buffer {
    const id = this.#pick([100, 1000, 2047, 2048, 100_000, 200_000_000])
    switch (this.#below(5)) {
      case 0:
        return number(id, this.#pick([0, 1, 2 ** 40]))
      case 1:
        return Buffer.concat([tagOf(id, 1), Buffer.alloc(8, 0xff)])
      case 2:
        return delimited(id, Buffer.from(this.#word()))
      case 3:
        return Buffer.concat([tagOf(id, 3), number(1, 5), delimited(2, Buffer.from('in a group')), tagOf(id, 4)])
    }
    return Buffer.concat([tagOf(id, 5), Buffer.alloc(4, 0x80)])
  }
}

const ASCII = 'abcdefghijklmnopqrstuvwxyz0123456789-_.:/|~ '
const MIXED = ['é', 'ß', '漢', '🙂', '"', '\\', '\n', '\u0000', 'a', 'z', '\u2028', '\ufffd']
const SAME_ID = '9f2c1d34-5b6a-4c7d-8e9f-0a1b2c3d4e5f'
const DETAILS = [
  '',
  'via_upstream',
  'via_upstream',
  'direct_response',
  'drop_overload',
  'unconditional_drop_overload',
  'upstream_reset_after_response_started{remote_reset}',
  'http2.remote_reset',
]

function varint(value: number | bigint): Buffer {
  const bytes: number[] = []
  let rest = BigInt.asUintN(64, BigInt(value))
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128)
    rest >>= 7n
  }
  bytes.push(Number(rest))
  return Buffer.from(bytes)
}

const tagOf = (id: number, type: number): Buffer => varint((BigInt(id) << 3n) | BigInt(type))
const number = (id: number, value: number): Buffer => Buffer.concat([tagOf(id, 0), varint(value)])
const signed = (id: number, value: number): Buffer => Buffer.concat([tagOf(id, 0), varint(value)])
const delimited = (id: number, bytes: Buffer): Buffer => Buffer.concat([tagOf(id, 2), varint(bytes.length), bytes])
