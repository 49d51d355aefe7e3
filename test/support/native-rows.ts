/**
 * Reads Native blocks of the row tables back, column by column, as ClickHouse would print them. Written from the
 * format's description, not from our encoder: tests hold the two against each other.
 */
export type RowValue = number | bigint | string | null | Readonly<Record<string, string>>
export type ReadRow = Record<string, RowValue>

export interface ReadBlock {
  /** Type by column. */
  readonly columns: ReadonlyMap<string, string>
  readonly rows: readonly ReadRow[]
}

export function readBlocks(buffers: readonly Uint8Array[]): ReadBlock[] {
  const input = new Input(Buffer.concat(buffers))
  const blocks: ReadBlock[] = []
  while (!input.done) {
    const count = input.varint()
    const rows = Array.from({ length: input.varint() }, (): ReadRow => ({}))
    const columns = new Map<string, string>()
    for (let k = 0; k < count; k++) {
      const name = input.text()
      const type = input.text()
      if (columns.has(name)) throw new Error(`column ${name} stands twice`)
      columns.set(name, type)
      column(input, type, rows.length).forEach((value, row) => {
        rows[row]![name] = value
      })
    }
    blocks.push({ columns, rows })
  }
  return blocks
}

function column(input: Input, type: string, rows: number): RowValue[] {
  const map = /^Map\(LowCardinality\(String\), (.*)\)$/.exec(type)
  if (map !== null) return mapColumn(input, map[1]!, rows)
  if (type === 'LowCardinality(String)') {
    input.expect(1n)
    return lowCardinality(input, rows)
  }
  const nullable = /^Nullable\((.*)\)$/.exec(type)
  if (nullable !== null) {
    const nulls = Array.from({ length: rows }, () => input.unsigned(1))
    return column(input, nullable[1]!, rows).map((value, row) => (nulls[row] === 1 ? null : value))
  }
  return Array.from({ length: rows }, () => plain(input, type))
}

function plain(input: Input, type: string): RowValue {
  switch (type) {
    case 'UInt8':
      return input.unsigned(1)
    case 'UInt16':
      return input.unsigned(2)
    case 'UInt32':
      return input.unsigned(4)
    case 'UInt64':
      return input.uint64()
    case "DateTime64(9, 'UTC')":
    case "DateTime64(3, 'UTC')":
      return input.uint64()
    case 'Float64':
      return input.double()
    case 'String':
      return input.text()
    case 'UUID': {
      const hex = (input.uint64() << 64n) | input.uint64()
      const text = hex.toString(16).padStart(32, '0')
      return text.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
    }
  }
  throw new Error(`type ${type} is not known here`)
}

function mapColumn(input: Input, valueType: string, rows: number): RowValue[] {
  input.expect(1n)
  if (valueType !== 'String') input.expect(1n)
  const ends = Array.from({ length: rows }, () => Number(input.uint64()))
  const entries = ends.at(-1) ?? 0
  const keys = lowCardinality(input, entries)
  const values =
    valueType === 'String' ? Array.from({ length: entries }, () => input.text()) : lowCardinality(input, entries)
  return ends.map((end, row) => {
    const start = row === 0 ? 0 : ends[row - 1]!
    if (end < start) throw new Error('offsets of a map go backwards')
    const out: Record<string, string> = Object.create(null)
    for (let k = start; k < end; k++) {
      if (keys[k]! in out) throw new Error(`key ${keys[k]} stands twice in one map`)
      out[keys[k]!] = values[k]!
    }
    return out
  })
}

function lowCardinality(input: Input, rows: number): string[] {
  const flags = input.uint64()
  if (flags >> 8n !== 6n) throw new Error(`flags of LowCardinality are ${flags}`)
  const keys = Array.from({ length: Number(input.uint64()) }, () => input.text())
  input.expect(BigInt(rows))
  return Array.from({ length: rows }, () => {
    const key = keys[input.unsigned(1 << Number(flags & 255n))]
    if (key === undefined) throw new Error('an index of LowCardinality has no key')
    return key
  })
}

class Input {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get done(): boolean {
    return this.#at === this.#bytes.length
  }

  unsigned(width: number): number {
    this.#at += width
    return this.#bytes.readUIntLE(this.#at - width, width)
  }

  uint64(): bigint {
    this.#at += 8
    return this.#bytes.readBigUInt64LE(this.#at - 8)
  }

  double(): number {
    this.#at += 8
    return this.#bytes.readDoubleLE(this.#at - 8)
  }

  varint(): number {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = this.unsigned(1)
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
  }

  text(): string {
    const length = this.varint()
    this.#at += length
    if (this.#at > this.#bytes.length) throw new Error('a text goes beyond the block')
    const bytes = this.#bytes.subarray(this.#at - length, this.#at)
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  }

  expect(value: bigint): void {
    const read = this.uint64()
    if (read !== value) throw new Error(`expected ${value}, read ${read}`)
  }
}
