/**
 * Reads ClickHouse Native blocks back, for tests of what writes them: numbers, dates, strings, LowCardinality(String),
 * arrays and maps of them. Written from the format's description and not from our encoder.
 */
type Scalar = number | bigint | string
export type NativeValue = Scalar | readonly Scalar[] | ReadonlyMap<Scalar, Scalar>
export type NativeRow = Record<string, NativeValue>

export function readNative(bytes: Uint8Array): NativeRow[] {
  const reader = new Reader(bytes)
  const rows: NativeRow[] = []
  while (!reader.done) {
    const columns = reader.varint()
    const count = reader.varint()
    const block = Array.from({ length: count }, (): NativeRow => ({}))
    for (let c = 0; c < columns; c++) {
      const name = reader.string()
      const values = readColumn(reader, reader.string(), count)
      values.forEach((value, k) => {
        block[k]![name] = value
      })
    }
    for (const row of block) rows.push(row)
  }
  return rows
}

const NUMBERS: Readonly<Record<string, (reader: Reader) => number | bigint>> = {
  UInt8: (reader) => reader.unsigned(1),
  UInt16: (reader) => reader.unsigned(2),
  UInt32: (reader) => reader.unsigned(4),
  Int16: (reader) => (reader.unsigned(2) << 16) >> 16,
  UInt64: (reader) => reader.uint64(),
  Int8: (reader) => (reader.unsigned(1) << 24) >> 24,
  Int32: (reader) => reader.unsigned(4) | 0,
  Bool: (reader) => reader.unsigned(1),
  Float64: (reader) => reader.float64(),
  UInt128: (reader) => reader.uint64() | (reader.uint64() << 64n),
  UUID: (reader) => (reader.uint64() << 64n) | reader.uint64(),
  "DateTime64(3, 'UTC')": (reader) => Number(reader.uint64()),
  "DateTime64(9, 'UTC')": (reader) => reader.uint64(),
  "DateTime('UTC')": (reader) => reader.unsigned(4),
}

function readColumn(reader: Reader, type: string, rows: number): NativeValue[] {
  const number = NUMBERS[type]
  if (number !== undefined) return Array.from({ length: rows }, () => number(reader))
  const element = /^Array\((.*)\)$/.exec(type)?.[1]
  if (element !== undefined) {
    const ends = Array.from({ length: rows }, () => Number(reader.uint64()))
    const all = readColumn(reader, element, ends.at(-1) ?? 0) as Scalar[]
    return ends.map((end, k) => all.slice(ends[k - 1] ?? 0, end))
  }
  const map = /^Map\((LowCardinality\(String\)|Int32), (.*)\)$/.exec(type)
  if (map !== null) return readMap(reader, map[1]!, map[2]!, rows)
  if (type === 'String') return Array.from({ length: rows }, () => reader.string())
  if (type === 'LowCardinality(String)') {
    if (rows > 0) reader.version()
    return readLowCardinality(reader, rows)
  }
  throw new Error(`the reader does not know the type ${type}`)
}

/** The versions of the parts stand before the offsets. */
function readMap(reader: Reader, key: string, value: string, rows: number): Map<Scalar, Scalar>[] {
  const parts = [key, value]
  for (const part of parts) if (part === 'LowCardinality(String)') reader.version()
  const ends = Array.from({ length: rows }, () => Number(reader.uint64()))
  const [keys, values] = parts.map((part) =>
    part === 'LowCardinality(String)'
      ? readLowCardinality(reader, ends.at(-1) ?? 0)
      : (readColumn(reader, part, ends.at(-1) ?? 0) as Scalar[]),
  ) as [Scalar[], Scalar[]]
  return ends.map((end, k) => {
    const map = new Map<Scalar, Scalar>()
    for (let i = ends[k - 1] ?? 0; i < end; i++) map.set(keys[i]!, values[i]!)
    return map
  })
}

function readLowCardinality(reader: Reader, rows: number): string[] {
  if (rows === 0) return []
  const flags = reader.uint64()
  if ((flags & 0x300n) !== 0x200n) throw new Error(`LowCardinality: flags ${flags.toString(16)}`)
  const width = 1 << Number(flags & 0xffn)
  const keys = Array.from({ length: Number(reader.uint64()) }, () => reader.string())
  if (Number(reader.uint64()) !== rows) throw new Error('LowCardinality: rows')
  return Array.from({ length: rows }, () => {
    const key = keys[reader.unsigned(width)]
    if (key === undefined) throw new Error('LowCardinality: index out of range')
    return key
  })
}

class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  get done(): boolean {
    return this.#at === this.#bytes.length
  }

  varint(): number {
    let value = 0
    for (let shift = 1; ; shift *= 128) {
      const byte = this.unsigned(1)
      value += (byte & 127) * shift
      if (byte < 128) return value
    }
  }

  unsigned(width: number): number {
    this.#at += width
    return this.#bytes.readUIntLE(this.#at - width, width)
  }

  uint64(): bigint {
    this.#at += 8
    return this.#bytes.readBigUInt64LE(this.#at - 8)
  }

  float64(): number {
    this.#at += 8
    return this.#bytes.readDoubleLE(this.#at - 8)
  }

  /** Of the LowCardinality serialization. */
  version(): void {
    if (this.uint64() !== 1n) throw new Error('LowCardinality: serialization version')
  }

  string(): string {
    const length = this.varint()
    this.#at += length
    if (this.#at > this.#bytes.length) throw new Error('the block ends inside a string')
    return this.#bytes.toString('utf8', this.#at - length, this.#at)
  }
}
