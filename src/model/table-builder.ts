import type { NativeBlock } from './batch.ts'
import { keyListOf } from './dictionary.ts'
import { writeVarint } from './heap.ts'
import { blockHeader, bytesOf, columnHeader, LOW_CARDINALITY_PREFIX, lowCardinality } from './native.ts'
import type { Column, SideTable } from './schema.ts'
import { storedSideColumns } from './side-columns.ts'

/**
 * Rows of one of the tables beside requests, as columns that are Native bytes or nearly so. A row is written column by
 * column, in any order, then `next()`; what was not written has its default. Cold compared with requests, so plain:
 * columns grow as needed, texts are looked up in a map.
 */
export interface TableBuilder {
  readonly table: SideTable
  readonly rows: number
  /** About what the block will have. */
  readonly bytes: number
  /** Day of the row at hand (days since the epoch): the partition of the store it belongs to. */
  day: number
  /** Node that the row at hand counts for; '' for none. */
  node: string
  number(name: string): NumberColumn
  wide(name: string): WideColumn
  text(name: string): TextColumn
  long(name: string): LongTextColumn
  textMap(name: string): TextMapColumn
  countMap(name: string): CountMapColumn
  floats(name: string): FloatsColumn
  /** Ends the row at hand. */
  next(): void
  /** All rows as one block; it is valid until `reset`. */
  encode(segment: string): NativeBlock
  reset(): void
}

/** A column of a builder; `row` is the row at hand. */
abstract class Base {
  readonly name: string
  readonly type: string
  abstract readonly bytes: number

  constructor(name: string, type: string) {
    this.name = name
    this.type = type
  }

  /** Fills in what is missing up to and without `rows`. */
  abstract fill(rows: number): void
  /** False when every row has the default: the column is left out. */
  abstract encode(out: Uint8Array[], rows: number): boolean
  abstract reset(): void
}

type Numbers = Float64Array | Int32Array | Int8Array | Uint8Array

/** Float64, Int8 and Bool. */
export class NumberColumn extends Base {
  #values: Numbers
  #end = 0

  constructor(name: string, type: string, values: Numbers) {
    super(name, type)
    this.#values = values
  }

  get bytes(): number {
    return this.#end * this.#values.BYTES_PER_ELEMENT
  }

  set(row: number, value: number): void {
    this.fill(row)
    if (row >= this.#values.length) this.#values = grown(this.#values)
    this.#values[row] = value
    this.#end = row + 1
  }

  fill(rows: number): void {
    while (this.#values.length < rows) this.#values = grown(this.#values)
    if (this.#end < rows) this.#values.fill(0, this.#end, rows)
    this.#end = Math.max(this.#end, rows)
  }

  encode(out: Uint8Array[], rows: number): boolean {
    const bytes = bytesOf(this.#values, rows)
    if (bytes.every((byte) => byte === 0)) return false
    out.push(columnHeader(this.name, this.type), bytes)
    return true
  }

  reset(): void {
    this.#end = 0
  }
}

/** Whole numbers of 64 bits and more, as 32-bit words, the lowest first: UInt64, UInt128, UUID, DateTime64. */
export class WideColumn extends Base {
  readonly words: number
  #values: Uint32Array
  #end = 0

  constructor(name: string, type: string, words: number) {
    super(name, type)
    this.words = words
    this.#values = new Uint32Array(FIRST_ROWS * words)
  }

  get bytes(): number {
    return this.#end * 4 * this.words
  }

  /** A whole number from 0 to 2^53, of a column of two words. */
  setNumber(row: number, value: number): void {
    this.#room(row)
    this.#values[2 * row] = value
    this.#values[2 * row + 1] = value / 2 ** 32
    this.#end = row + 1
  }

  /** A column of two words. */
  setPair(row: number, low: number, high: number): void {
    this.#room(row)
    this.#values[2 * row] = low
    this.#values[2 * row + 1] = high
    this.#end = row + 1
  }

  /** Four words, the lowest first. Of a UUID: the first half's low and high word, then the second half's. */
  setWords(row: number, a: number, b: number, c: number, d: number): void {
    this.#room(row)
    const at = 4 * row
    this.#values[at] = a
    this.#values[at + 1] = b
    this.#values[at + 2] = c
    this.#values[at + 3] = d
    this.#end = row + 1
  }

  #room(row: number): void {
    this.fill(row)
    if ((row + 1) * this.words > this.#values.length) this.#values = grown(this.#values)
  }

  fill(rows: number): void {
    const { words } = this
    while (this.#values.length < rows * words) this.#values = grown(this.#values)
    if (this.#end < rows) this.#values.fill(0, this.#end * words, rows * words)
    this.#end = Math.max(this.#end, rows)
  }

  encode(out: Uint8Array[], rows: number): boolean {
    const length = rows * this.words
    let any = 0
    for (let k = 0; k < length; k++) any |= this.#values[k]!
    if (any === 0) return false
    out.push(columnHeader(this.name, this.type), bytesOf(this.#values, length))
    return true
  }

  reset(): void {
    this.#end = 0
  }
}

/** Codes and their texts; code 0 is the empty text. */
class Texts {
  #codes = new Map<string, number>([['', 0]])
  #texts = ['']
  #indexes = new Uint32Array(FIRST_ROWS)
  bytes = 0

  code(text: string): number {
    let code = this.#codes.get(text)
    if (code === undefined) {
      code = this.#texts.push(text) - 1
      this.#codes.set(text, code)
      this.bytes += text.length + 2
    }
    return code
  }

  set(at: number, code: number): void {
    if (at >= this.#indexes.length) this.#indexes = grown(this.#indexes)
    this.#indexes[at] = code
  }

  fill(from: number, to: number, code = 0): void {
    while (this.#indexes.length < to) this.#indexes = grown(this.#indexes)
    if (from < to) this.#indexes.fill(code, from, to)
  }

  get used(): boolean {
    return this.#texts.length > 1
  }

  /** Key list and indexes. The engine takes indexes of one, two or four bytes. */
  encode(out: Uint8Array[], count: number): void {
    const keys = this.#texts.length
    const codes = this.#indexes.subarray(0, count)
    const indexes = keys <= 256 ? Uint8Array.from(codes) : keys <= 65_536 ? Uint16Array.from(codes) : codes
    lowCardinality(out, keyListOf(this.#texts), keys, indexes, count)
  }

  reset(): void {
    if (this.used) {
      this.#codes = new Map([['', 0]])
      this.#texts = ['']
    }
    this.bytes = 0
  }
}

/** LowCardinality(String). */
export class TextColumn extends Base {
  readonly #texts = new Texts()
  #end = 0

  /** The same text in all rows. */
  setAll(rows: number, text: string): void {
    this.reset()
    this.#texts.fill(0, rows, this.#texts.code(text))
    this.#end = rows
  }

  get bytes(): number {
    return this.#texts.bytes + 2 * this.#end
  }

  set(row: number, text: string): void {
    this.fill(row)
    this.#texts.set(row, this.#texts.code(text))
    this.#end = row + 1
  }

  fill(rows: number): void {
    this.#texts.fill(this.#end, rows)
    this.#end = Math.max(this.#end, rows)
  }

  encode(out: Uint8Array[], rows: number): boolean {
    if (!this.#texts.used) return false
    out.push(columnHeader(this.name, this.type), LOW_CARDINALITY_PREFIX)
    this.#texts.encode(out, rows)
    return true
  }

  reset(): void {
    this.#texts.reset()
    this.#end = 0
  }
}

/** Texts of a String column, back to back. */
class TextHeap {
  #heap = Buffer.allocUnsafeSlow(1024)
  end = 0

  add(text: string): void {
    const room = this.end + 5 + 3 * text.length
    if (room > this.#heap.length) {
      const heap = Buffer.allocUnsafeSlow(Math.max(room, 2 * this.#heap.length))
      this.#heap.copy(heap, 0, 0, this.end)
      this.#heap = heap
    }
    const at = writeVarint(this.#heap, this.end, Buffer.byteLength(text))
    this.end = at + this.#heap.write(text, at)
  }

  get bytes(): Uint8Array {
    return this.#heap.subarray(0, this.end)
  }

  reset(): void {
    if (this.#heap.length > KEEP_BYTES) this.#heap = Buffer.allocUnsafeSlow(KEEP_BYTES)
    this.end = 0
  }
}

/** String. */
export class LongTextColumn extends Base {
  readonly #heap = new TextHeap()
  #end = 0
  #used = false

  get bytes(): number {
    return this.#heap.end
  }

  set(row: number, text: string): void {
    this.fill(row)
    this.#heap.add(text)
    this.#end = row + 1
    this.#used ||= text !== ''
  }

  fill(rows: number): void {
    for (; this.#end < rows; this.#end++) this.#heap.add('')
  }

  encode(out: Uint8Array[]): boolean {
    if (!this.#used) return false
    out.push(columnHeader(this.name, this.type), this.#heap.bytes)
    return true
  }

  reset(): void {
    this.#heap.reset()
    this.#end = 0
    this.#used = false
  }
}

/** Where the elements of each row end; the offsets of a Native array or map. */
class Ends {
  #values = new Uint32Array(2 * FIRST_ROWS)
  #rows = 0
  #end = 0

  /** `row` has its elements up to `end`. */
  set(row: number, end: number): void {
    this.fill(row)
    if (2 * row + 1 >= this.#values.length) this.#values = grown(this.#values)
    this.#values[2 * row] = end
    this.#values[2 * row + 1] = 0
    this.#rows = row + 1
    this.#end = end
  }

  fill(rows: number): void {
    for (; this.#rows < rows; this.#rows++) {
      if (2 * this.#rows + 1 >= this.#values.length) this.#values = grown(this.#values)
      this.#values[2 * this.#rows] = this.#end
      this.#values[2 * this.#rows + 1] = 0
    }
  }

  get count(): number {
    return this.#end
  }

  bytes(rows: number): Uint8Array {
    return bytesOf(this.#values, 2 * rows)
  }

  reset(): void {
    this.#rows = 0
    this.#end = 0
  }
}

/** Map(LowCardinality(String), String) and Map(LowCardinality(String), LowCardinality(String)). */
export class TextMapColumn extends Base {
  readonly #ends = new Ends()
  readonly #keys = new Texts()
  readonly #values: Texts | TextHeap

  constructor(name: string, type: string) {
    super(name, type)
    this.#values = type.endsWith('LowCardinality(String))') ? new Texts() : new TextHeap()
  }

  get bytes(): number {
    const values = this.#values instanceof Texts ? this.#values.bytes + 2 * this.#ends.count : this.#values.end
    return this.#keys.bytes + 2 * this.#ends.count + values
  }

  /** Keys are distinct. */
  set(row: number, entries: Iterable<readonly [key: string, value: string]>): void {
    let at = this.#ends.count
    for (const [key, value] of entries) {
      this.#keys.set(at, this.#keys.code(key))
      if (this.#values instanceof Texts) this.#values.set(at, this.#values.code(value))
      else this.#values.add(value)
      at++
    }
    this.#ends.set(row, at)
  }

  fill(rows: number): void {
    this.#ends.fill(rows)
  }

  encode(out: Uint8Array[], rows: number): boolean {
    const { count } = this.#ends
    if (count === 0) return false
    out.push(columnHeader(this.name, this.type), LOW_CARDINALITY_PREFIX)
    if (this.#values instanceof Texts) out.push(LOW_CARDINALITY_PREFIX)
    out.push(this.#ends.bytes(rows))
    this.#keys.encode(out, count)
    if (this.#values instanceof Texts) this.#values.encode(out, count)
    else out.push(this.#values.bytes)
    return true
  }

  reset(): void {
    this.#ends.reset()
    this.#keys.reset()
    this.#values.reset()
  }
}

/** Map(Int32, Float64). */
export class CountMapColumn extends Base {
  readonly #ends = new Ends()
  #keys = new Int32Array(FIRST_ROWS)
  #counts = new Float64Array(FIRST_ROWS)

  get bytes(): number {
    return 12 * this.#ends.count
  }

  /** Keys are distinct. */
  set(row: number, entries: Iterable<readonly [key: number, count: number]>): void {
    let at = this.#ends.count
    for (const [key, count] of entries) {
      if (at === this.#keys.length) {
        this.#keys = grown(this.#keys)
        this.#counts = grown(this.#counts)
      }
      this.#keys[at] = key
      this.#counts[at++] = count
    }
    this.#ends.set(row, at)
  }

  fill(rows: number): void {
    this.#ends.fill(rows)
  }

  encode(out: Uint8Array[], rows: number): boolean {
    const { count } = this.#ends
    if (count === 0) return false
    const data = [this.#ends.bytes(rows), bytesOf(this.#keys, count), bytesOf(this.#counts, count)]
    out.push(columnHeader(this.name, this.type), ...data)
    return true
  }

  reset(): void {
    this.#ends.reset()
  }
}

/** Array(Float64). */
export class FloatsColumn extends Base {
  readonly #ends = new Ends()
  #values = new Float64Array(FIRST_ROWS)

  get bytes(): number {
    return 8 * this.#ends.count
  }

  set(row: number, values: ArrayLike<number>): void {
    const from = this.#ends.count
    const end = from + values.length
    while (end > this.#values.length) this.#values = grown(this.#values)
    this.#values.set(values, from)
    this.#ends.set(row, end)
  }

  fill(rows: number): void {
    this.#ends.fill(rows)
  }

  encode(out: Uint8Array[], rows: number): boolean {
    const { count } = this.#ends
    if (count === 0) return false
    out.push(columnHeader(this.name, this.type), this.#ends.bytes(rows), bytesOf(this.#values, count))
    return true
  }

  reset(): void {
    this.#ends.reset()
  }
}

const FIRST_ROWS = 256
const KEEP_BYTES = 64 * 1024
/** Columns of 8 bytes and more, by words. */
const WIDE: Readonly<Record<string, number>> = {
  UInt64: 2,
  "DateTime64(3, 'UTC')": 2,
  "DateTime64(9, 'UTC')": 2,
  UInt128: 4,
  UUID: 4,
}

function columnOf({ name, type }: Column): Base {
  if (type in WIDE) return new WideColumn(name, type, WIDE[type]!)
  if (type === 'Float64') return new NumberColumn(name, type, new Float64Array(FIRST_ROWS))
  if (type === 'Int8') return new NumberColumn(name, type, new Int8Array(FIRST_ROWS))
  if (type === 'Bool') return new NumberColumn(name, type, new Uint8Array(FIRST_ROWS))
  if (type === 'LowCardinality(String)') return new TextColumn(name, type)
  if (type === 'String') return new LongTextColumn(name, type)
  if (type === 'Map(Int32, Float64)') return new CountMapColumn(name, type)
  if (type === 'Array(Float64)') return new FloatsColumn(name, type)
  if (type.startsWith('Map(LowCardinality(String), ')) return new TextMapColumn(name, type)
  throw new Error(`no encoder for column ${name} of type ${type}`)
}

export function createTableBuilder(table: SideTable): TableBuilder {
  return new Builder(table)
}

class Builder implements TableBuilder {
  readonly table: SideTable
  rows = 0
  day = 0
  node = ''
  readonly #columns: ReadonlyMap<string, Base>
  readonly #segment: TextColumn
  #days = new Map<number, number>()
  #nodes = new Map<string, number>()

  constructor(table: SideTable) {
    this.table = table
    this.#columns = new Map(storedSideColumns(table).map((column) => [column.name, columnOf(column)]))
    this.#segment = this.text('segment')
  }

  get bytes(): number {
    let sum = 0
    for (const column of this.#columns.values()) sum += column.bytes
    return sum
  }

  number(name: string): NumberColumn {
    return this.#column(name, NumberColumn)
  }

  wide(name: string): WideColumn {
    return this.#column(name, WideColumn)
  }

  text(name: string): TextColumn {
    return this.#column(name, TextColumn)
  }

  long(name: string): LongTextColumn {
    return this.#column(name, LongTextColumn)
  }

  textMap(name: string): TextMapColumn {
    return this.#column(name, TextMapColumn)
  }

  countMap(name: string): CountMapColumn {
    return this.#column(name, CountMapColumn)
  }

  floats(name: string): FloatsColumn {
    return this.#column(name, FloatsColumn)
  }

  #column<T extends Base>(name: string, kind: new (...args: never[]) => T): T {
    const column = this.#columns.get(name)
    if (!(column instanceof kind)) throw new Error(`${this.table}.${name} is not a ${kind.name}`)
    return column
  }

  next(): void {
    this.rows++
    this.#days.set(this.day, (this.#days.get(this.day) ?? 0) + 1)
    if (this.node !== '') this.#nodes.set(this.node, (this.#nodes.get(this.node) ?? 0) + 1)
  }

  encode(segment: string): NativeBlock {
    const { rows } = this
    // The segment may have changed since an attempt that was refused.
    this.#segment.setAll(rows, segment)
    const buffers: Uint8Array[] = [new Uint8Array(0)]
    let count = 0
    for (const column of this.#columns.values()) {
      column.fill(rows)
      if (column.encode(buffers, rows)) count++
    }
    buffers[0] = blockHeader(count, rows)
    return { buffers, rows, days: new Map(this.#days), nodes: new Map(this.#nodes) }
  }

  reset(): void {
    this.rows = 0
    this.#days = new Map()
    this.#nodes = new Map()
    for (const column of this.#columns.values()) column.reset()
  }
}

function grown<A extends Numbers | Uint32Array>(before: A): A {
  const after = new (before.constructor as new (length: number) => A)(before.length * 2)
  after.set(before)
  return after
}
