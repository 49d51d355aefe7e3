/** Writes protobuf for tests, field by field. */
export type Part = Uint8Array

export function varint(value: number | bigint): Uint8Array {
  const bytes: number[] = []
  let rest = BigInt(value)
  while (rest > 0x7fn) {
    bytes.push(Number(rest & 0x7fn) | 0x80)
    rest >>= 7n
  }
  bytes.push(Number(rest))
  return Uint8Array.from(bytes)
}

export function message(...parts: readonly Part[]): Uint8Array {
  return Buffer.concat(parts)
}

export function number(field: number, value: number | bigint): Part {
  return Buffer.concat([varint(field * 8), varint(value)])
}

export function bytes(field: number, value: Uint8Array | string): Part {
  const content = typeof value === 'string' ? Buffer.from(value) : value
  return Buffer.concat([varint(field * 8 + 2), varint(content.length), content])
}

/** `google.protobuf.Struct` of a plain object. */
export function struct(object: Readonly<Record<string, unknown>>): Uint8Array {
  return message(
    ...Object.entries(object).map(([key, value]) => bytes(1, message(bytes(1, key), bytes(2, structValue(value))))),
  )
}

function structValue(value: unknown): Uint8Array {
  if (typeof value === 'string') return bytes(3, value)
  if (typeof value === 'boolean') return number(4, value ? 1 : 0)
  if (typeof value === 'number') {
    const double = Buffer.alloc(9)
    double[0] = 2 * 8 + 1
    double.writeDoubleLE(value, 1)
    return double
  }
  if (value === null) return number(1, 0)
  if (Array.isArray(value)) return bytes(6, message(...value.map((item) => bytes(1, structValue(item)))))
  return bytes(5, struct(value as Record<string, unknown>))
}

export function any(type: string, value: Uint8Array): Uint8Array {
  return message(bytes(1, `type.googleapis.com/${type}`), bytes(2, value))
}

export interface NodeParts {
  readonly id?: string
  readonly cluster?: string
  readonly metadata?: Readonly<Record<string, unknown>>
  readonly locality?: readonly [string, string, string]
  readonly version?: readonly [number, number, number]
  /** Number of compiled-in extensions to list, as Envoy does. */
  readonly extensions?: number
}

/** `StreamAccessLogsMessage.Identifier`. */
export function identifier(node: NodeParts, logName = 'http_envoy_accesslog'): Uint8Array {
  const { id = '', cluster = '', metadata, locality, version, extensions = 0 } = node
  const parts: Part[] = [bytes(1, id), bytes(2, cluster)]
  if (metadata !== undefined) parts.push(bytes(3, struct(metadata)))
  if (locality !== undefined) parts.push(bytes(4, message(...locality.map((text, k) => bytes(k + 1, text)))))
  parts.push(bytes(6, 'envoy'))
  if (version !== undefined) {
    parts.push(bytes(8, message(bytes(1, message(...version.map((part, k) => number(k + 1, part)))))))
  }
  for (let k = 0; k < extensions; k++) {
    parts.push(bytes(9, message(bytes(1, `envoy.filters.http.number_${k}`), bytes(2, 'envoy.filters.http'))))
  }
  return message(bytes(1, message(...parts)), bytes(2, logName))
}
