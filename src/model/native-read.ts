import { ROLLUP_COLUMNS } from './rollup-columns.ts'
import { type SegmentTableName, SIDE_TABLES, type SideTable, STORED_ROW_COLUMNS } from './schema.ts'
import { storedSideColumns } from './side-columns.ts'

/**
 * Reads the Native blocks of our own segments back as columns: typed arrays and dictionaries, no object for each row.
 *
 *   block   columns, rows (varints) │ name, type, data │ name, type, data │ …
 *
 * A column is decoded when it is first asked for; the others cost a look at their length. A block leaves out columns in
 * which every row has the default: whoever asks for one gets the default, by the type that the schema gives it.
 */
export interface NativeBlockColumns {
  readonly table: SegmentTableName
  readonly rows: number
  /** Stored columns that the block has; others are at their default in every row. */
  readonly present: readonly string[]
  has(name: string): boolean
  /** The column's bytes as they stand in the block, name and type included: to copy it into another block. */
  raw(name: string): Uint8Array | null
  /** Type of the column: in the block where it is there, else as the schema says. Throws for what no table has. */
  type(name: string): string

  /**
   * Whole numbers, floats, times and booleans. Those of 64 bits come as doubles: exact up to 2^53, which holds for bytes,
   * durations and ms; ask `bigints` for nanoseconds since 1970 and ids. Values where `nulls` says NULL are 0.
   */
  numbers(name: string): ArrayLike<number>
  /** Columns of 64 bits, exactly; DateTime64 is in units of its precision since 1970. */
  bigints(name: string): BigUint64Array
  /** 1 where the row has NULL; null when no row can (or does not) have it. */
  nulls(name: string): Uint8Array | null
  /** LowCardinality(String): code by row, and the text of each code. */
  dictionary(name: string): Dictionary
  /** Text of a row: String or LowCardinality(String). */
  text(name: string, row: number): string
  /** 16 bytes a row of a UUID or UInt128, as four 32-bit words each, the lowest of each half first (as in the block). */
  words(name: string): Uint32Array
  /** Map with texts on both sides. */
  textMap(name: string): TextMap
  /** Map(Int32, Float64). */
  numberMap(name: string): NumberMap
  /** Array of numbers. */
  arrays(name: string): NumberArrays
}

export interface Dictionary {
  readonly codes: Uint8Array | Uint16Array | Uint32Array
  readonly texts: readonly string[]
}

/** The entries of row `i` are those from `ends[i − 1]` (0 for the first) up to and without `ends[i]`. */
export interface TextMap {
  readonly ends: Uint32Array
  readonly keys: Dictionary
  value(entry: number): string
}
export interface NumberMap {
  readonly ends: Uint32Array
  readonly keys: Int32Array
  readonly values: Float64Array
}
export interface NumberArrays {
  readonly ends: Uint32Array
  readonly values: ArrayLike<number>
}

/** The bytes end inside the block: try again with more of them. */
export class IncompleteBlock extends Error {
  /** At least so many more bytes are needed. */
  readonly missing: number

  constructor(missing: number) {
    super(`the block goes on for at least ${missing} bytes`)
    this.name = 'IncompleteBlock'
    this.missing = missing
  }
}

/**
 * The block that begins at `at`, and where it ends. Throws `IncompleteBlock` when `bytes` do not hold all of it, and an
 * Error when they are no block of ours. The block keeps `bytes`: do not overwrite them.
 */
export function readBlock(
  table: NativeBlockColumns['table'],
  bytes: Uint8Array,
  at = 0,
): { readonly block: NativeBlockColumns; readonly end: number } {
  const cursor = new Cursor(bytes, at)
  const count = cursor.varint()
  const rows = cursor.varint()
  if (count > COLUMNS_MAX || rows > ROWS_MAX)
    throw new Error(`a block of ${count} columns and ${rows} rows is not ours`)
  const places = new Map<string, Place>()
  for (let k = 0; k < count; k++) {
    const from = cursor.at
    const name = cursor.text()
    const type = cursor.text()
    const start = cursor.at
    if (rows > 0) skip(cursor, type, rows)
    if (places.has(name)) throw new Error(`column ${name} stands twice in a block`)
    places.set(name, { type, from, start, end: cursor.at })
  }
  return { block: new Block(table, rows, places, bytes), end: cursor.at }
}

/** More than any table of ours has, and more than a block of ours ever gets. */
const COLUMNS_MAX = 1000
const ROWS_MAX = 1 << 24

interface Place {
  readonly type: string
  /** First byte of the name, of the data, and the byte after the data. */
  readonly from: number
  readonly start: number
  readonly end: number
}

const WIDTHS: Readonly<Record<string, number>> = {
  UInt8: 1,
  Int8: 1,
  Bool: 1,
  UInt16: 2,
  Int16: 2,
  UInt32: 4,
  Int32: 4,
  "DateTime('UTC')": 4,
  UInt64: 8,
  Int64: 8,
  Float64: 8,
  "DateTime64(3, 'UTC')": 8,
  "DateTime64(9, 'UTC')": 8,
  UInt128: 16,
  UUID: 16,
}

const LC = 'LowCardinality(String)'
const inner = (type: string, outer: string): string | null =>
  type.startsWith(`${outer}(`) ? type.slice(outer.length + 1, -1) : null
const mapTypes = (type: string): [string, string] | null => {
  const match = /^Map\((LowCardinality\(String\)|Int32), (.*)\)$/.exec(type)
  return match === null ? null : [match[1]!, match[2]!]
}

/** Moves over the data of a column. */
function skip(cursor: Cursor, type: string, rows: number): void {
  const width = WIDTHS[type]
  const nullable = inner(type, 'Nullable')
  const element = inner(type, 'Array')
  if (width !== undefined) cursor.skip(width * rows)
  else if (type === 'String') cursor.skipTexts(rows)
  else if (type === LC) {
    cursor.expect(1)
    skipKeys(cursor, rows)
  } else if (nullable !== null) {
    cursor.skip(rows)
    skip(cursor, nullable, rows)
  } else if (element !== null) skip(cursor, element, cursor.ends(rows))
  else skipMap(cursor, type, rows)
}

function skipMap(cursor: Cursor, type: string, rows: number): void {
  const map = mapTypes(type)
  if (map === null) throw new Error(`no column of ours has the type ${type}`)
  // Versions of both sides stand before the ends.
  for (const part of map) if (part === LC) cursor.expect(1)
  const entries = cursor.ends(rows)
  for (const part of map) {
    if (part === LC) skipKeys(cursor, entries)
    else skip(cursor, part, entries)
  }
}

/** The part of a LowCardinality column after its version. Nothing at all for no rows. */
function skipKeys(cursor: Cursor, rows: number): void {
  if (rows === 0) return
  const width = cursor.indexWidth()
  cursor.skipTexts(cursor.count())
  if (cursor.count() !== rows) throw new Error('LowCardinality: another number of rows')
  cursor.skip(width * rows)
}

class Cursor {
  readonly bytes: Buffer
  at: number

  constructor(bytes: Uint8Array, at: number) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    this.at = at
  }

  skip(count: number): void {
    this.at += count
    if (this.at > this.bytes.length) throw new IncompleteBlock(this.at - this.bytes.length)
  }

  varint(): number {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      if (this.at >= this.bytes.length) throw new IncompleteBlock(1)
      if (scale > 2 ** 49) throw new Error('a varint goes on and on')
      const byte = this.bytes[this.at++]!
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
  }

  text(): string {
    const length = this.varint()
    const start = this.at
    this.skip(length)
    return this.bytes.toString('utf8', start, this.at)
  }

  skipTexts(count: number): void {
    for (let k = 0; k < count; k++) this.skip(this.varint())
  }

  /** A UInt64 that is a number of something. */
  count(): number {
    const start = this.at
    this.skip(8)
    const value = this.bytes.readUInt32LE(start) + this.bytes.readUInt32LE(start + 4) * 2 ** 32
    if (value > 2 ** 32) throw new Error(`${value} elements are not ours`)
    return value
  }

  expect(value: number): void {
    const read = this.count()
    if (read !== value) throw new Error(`expected ${value}, read ${read}`)
  }

  /** Flags of a LowCardinality column: additional keys, and how wide an index is. */
  indexWidth(): number {
    const flags = this.count()
    if (flags >> 8 !== 6 || (flags & 255) > 2) throw new Error(`LowCardinality: flags ${flags.toString(16)}`)
    return 1 << (flags & 255)
  }

  /** Moves over the ends of arrays or maps; the last one is how many elements there are. */
  ends(rows: number): number {
    this.skip(8 * (rows - 1))
    return this.count()
  }
}

class Block implements NativeBlockColumns {
  readonly table: NativeBlockColumns['table']
  readonly rows: number
  readonly #places: ReadonlyMap<string, Place>
  readonly #bytes: Uint8Array
  readonly #decoded = new Map<string, unknown>()

  constructor(table: NativeBlockColumns['table'], rows: number, places: ReadonlyMap<string, Place>, bytes: Uint8Array) {
    this.table = table
    this.rows = rows
    this.#places = places
    this.#bytes = bytes
  }

  get present(): readonly string[] {
    return [...this.#places.keys()]
  }

  has(name: string): boolean {
    return this.#places.has(name)
  }

  raw(name: string): Uint8Array | null {
    const place = this.#places.get(name)
    return place === undefined ? null : this.#bytes.subarray(place.from, place.end)
  }

  type(name: string): string {
    const type = this.#places.get(name)?.type ?? typesOf(this.table).get(name)
    if (type === undefined) throw new Error(`${this.table} has no stored column ${name}`)
    return type
  }

  numbers(name: string): ArrayLike<number> {
    return this.#once(`${name} numbers`, () => {
      const type = inner(this.type(name), 'Nullable') ?? this.type(name)
      if (WIDTHS[type] === undefined || WIDTHS[type] > 8) throw new Error(`${name} is ${type}, no number`)
      const place = this.#places.get(name)
      if (place === undefined) return new Float64Array(this.rows)
      const start = place.start + (place.type.startsWith('Nullable(') ? this.rows : 0)
      return numbersAt(this.#bytes, type, start, this.rows)
    })
  }

  bigints(name: string): BigUint64Array {
    return this.#once(`${name} bigints`, () => {
      const type = inner(this.type(name), 'Nullable') ?? this.type(name)
      if (WIDTHS[type] !== 8 || type === 'Float64') throw new Error(`${name} is ${type}, not 64 bits`)
      const place = this.#places.get(name)
      if (place === undefined) return new BigUint64Array(this.rows)
      const start = place.start + (place.type.startsWith('Nullable(') ? this.rows : 0)
      return new BigUint64Array(aligned(this.#bytes, start, 8 * this.rows))
    })
  }

  nulls(name: string): Uint8Array | null {
    return this.#once(`${name} nulls`, () => {
      if (!this.type(name).startsWith('Nullable(')) return null
      const place = this.#places.get(name)
      if (place === undefined) return new Uint8Array(this.rows).fill(1)
      return this.#bytes.subarray(place.start, place.start + this.rows)
    })
  }

  dictionary(name: string): Dictionary {
    return this.#once(`${name} dictionary`, () => {
      const type = this.type(name)
      if (type !== LC) throw new Error(`${name} is ${type}, no dictionary`)
      const place = this.#places.get(name)
      if (place === undefined || this.rows === 0) return { codes: new Uint8Array(this.rows), texts: [''] }
      const cursor = new Cursor(this.#bytes, place.start)
      cursor.expect(1)
      return dictionaryAt(cursor, this.rows)
    })
  }

  text(name: string, row: number): string {
    if (this.type(name) === LC) {
      const { codes, texts } = this.dictionary(name)
      return texts[codes[row]!]!
    }
    return this.#texts(name)(row)
  }

  words(name: string): Uint32Array {
    return this.#once(`${name} words`, () => {
      const type = this.type(name)
      if (WIDTHS[type] !== 16) throw new Error(`${name} is ${type}, not 16 bytes`)
      const place = this.#places.get(name)
      if (place === undefined) return new Uint32Array(4 * this.rows)
      return new Uint32Array(aligned(this.#bytes, place.start, 16 * this.rows))
    })
  }

  textMap(name: string): TextMap {
    return this.#once(`${name} map`, (): TextMap => {
      const types = mapTypes(this.type(name))
      if (types === null || types[0] !== LC) throw new Error(`${name} is ${this.type(name)}, no map of texts`)
      const place = this.#places.get(name)
      if (place === undefined || this.rows === 0) {
        return { ends: new Uint32Array(this.rows), keys: { codes: new Uint8Array(0), texts: [] }, value: () => '' }
      }
      const cursor = new Cursor(this.#bytes, place.start)
      for (const part of types) if (part === LC) cursor.expect(1)
      const ends = endsAt(cursor, this.rows)
      const entries = ends[this.rows - 1]!
      const keys = dictionaryAt(cursor, entries)
      if (types[1] === LC) {
        const { codes, texts } = dictionaryAt(cursor, entries)
        return { ends, keys, value: (entry) => texts[codes[entry]!]! }
      }
      return { ends, keys, value: textsAt(cursor, entries) }
    })
  }

  numberMap(name: string): NumberMap {
    return this.#once(`${name} map`, (): NumberMap => {
      const type = this.type(name)
      if (type !== 'Map(Int32, Float64)') throw new Error(`${name} is ${type}, no map of numbers`)
      const place = this.#places.get(name)
      if (place === undefined || this.rows === 0) {
        return { ends: new Uint32Array(this.rows), keys: new Int32Array(0), values: new Float64Array(0) }
      }
      const cursor = new Cursor(this.#bytes, place.start)
      const ends = endsAt(cursor, this.rows)
      const entries = ends[this.rows - 1]!
      const keys = new Int32Array(aligned(this.#bytes, cursor.at, 4 * entries))
      return { ends, keys, values: new Float64Array(aligned(this.#bytes, cursor.at + 4 * entries, 8 * entries)) }
    })
  }

  arrays(name: string): NumberArrays {
    return this.#once(`${name} arrays`, (): NumberArrays => {
      const element = inner(this.type(name), 'Array')
      if (element === null || WIDTHS[element] === undefined) throw new Error(`${name} is no array of numbers`)
      const place = this.#places.get(name)
      if (place === undefined || this.rows === 0) return { ends: new Uint32Array(this.rows), values: [] }
      const cursor = new Cursor(this.#bytes, place.start)
      const ends = endsAt(cursor, this.rows)
      return { ends, values: numbersAt(this.#bytes, element, cursor.at, ends[this.rows - 1]!) }
    })
  }

  #texts(name: string): (row: number) => string {
    return this.#once(`${name} texts`, () => {
      if (this.type(name) !== 'String') throw new Error(`${name} is ${this.type(name)}, no text`)
      const place = this.#places.get(name)
      return place === undefined ? () => '' : textsAt(new Cursor(this.#bytes, place.start), this.rows)
    })
  }

  #once<T>(key: string, decode: () => T): T {
    let value = this.#decoded.get(key) as T | undefined
    if (value === undefined) {
      value = decode()
      this.#decoded.set(key, value)
    }
    return value
  }
}

/** A copy at an address that typed arrays can have. */
function aligned(bytes: Uint8Array, start: number, length: number): ArrayBuffer {
  const copy = new Uint8Array(length)
  copy.set(bytes.subarray(start, start + length))
  return copy.buffer
}

function numbersAt(bytes: Uint8Array, type: string, start: number, count: number): ArrayLike<number> {
  const copy = aligned(bytes, start, WIDTHS[type]! * count)
  switch (type) {
    case 'UInt8':
    case 'Bool':
      return new Uint8Array(copy)
    case 'Int8':
      return new Int8Array(copy)
    case 'UInt16':
      return new Uint16Array(copy)
    case 'Int16':
      return new Int16Array(copy)
    case 'UInt32':
    case "DateTime('UTC')":
      return new Uint32Array(copy)
    case 'Int32':
      return new Int32Array(copy)
    case 'Float64':
      return new Float64Array(copy)
    case 'UInt64':
      return wide(new Uint32Array(copy), new Uint32Array(copy))
    case 'Int64':
    case "DateTime64(3, 'UTC')":
    case "DateTime64(9, 'UTC')":
      return wide(new Uint32Array(copy), new Int32Array(copy))
    default:
      throw new Error(`${type} is no number`)
  }
}

function wide(low: Uint32Array, high: Uint32Array | Int32Array): Float64Array {
  const values = new Float64Array(low.length / 2)
  for (let k = 0; k < values.length; k++) values[k] = low[2 * k]! + high[2 * k + 1]! * 2 ** 32
  return values
}

/** Ends of arrays and maps; the cursor moves behind them. */
function endsAt(cursor: Cursor, rows: number): Uint32Array {
  const words = new Uint32Array(aligned(cursor.bytes, cursor.at, 8 * rows))
  cursor.skip(8 * rows)
  const ends = new Uint32Array(rows)
  for (let row = 0; row < rows; row++) ends[row] = words[2 * row]!
  return ends
}

function dictionaryAt(cursor: Cursor, rows: number): Dictionary {
  if (rows === 0) return { codes: new Uint8Array(0), texts: [] }
  const width = cursor.indexWidth()
  const texts = new Array<string>(cursor.count())
  for (let k = 0; k < texts.length; k++) texts[k] = cursor.text()
  cursor.expect(rows)
  const start = cursor.at
  cursor.skip(width * rows)
  const copy = aligned(cursor.bytes, start, width * rows)
  const codes = width === 1 ? new Uint8Array(copy) : width === 2 ? new Uint16Array(copy) : new Uint32Array(copy)
  for (let row = 0; row < rows; row++) if (codes[row]! >= texts.length) throw new Error('an index has no key')
  return { codes, texts }
}

function textsAt(cursor: Cursor, count: number): (row: number) => string {
  const { bytes } = cursor
  const starts = new Uint32Array(count)
  const ends = new Uint32Array(count)
  for (let k = 0; k < count; k++) {
    const length = cursor.varint()
    starts[k] = cursor.at
    cursor.skip(length)
    ends[k] = cursor.at
  }
  return (row) => bytes.toString('utf8', starts[row], ends[row])
}

const TYPES = new Map<string, ReadonlyMap<string, string>>()
const SIDES: ReadonlySet<string> = new Set(SIDE_TABLES)

/** Types of stored columns by name. */
function typesOf(table: NativeBlockColumns['table']): ReadonlyMap<string, string> {
  let types = TYPES.get(table)
  if (types === undefined) {
    types =
      table === 'latency_1m'
        ? new Map(ROLLUP_COLUMNS.map(({ name, nativeType }) => [name, nativeType]))
        : new Map(
            (SIDES.has(table) ? storedSideColumns(table as SideTable) : STORED_ROW_COLUMNS).map(({ name, type }) => [
              name,
              type,
            ]),
          )
    TYPES.set(table, types)
  }
  return types
}
