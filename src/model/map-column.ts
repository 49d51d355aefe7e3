import { Dictionary, type DictionaryOptions } from './dictionary.ts'
import { Heap, type Room } from './heap.ts'
import { bytesOf, columnHeader, LOW_CARDINALITY_PREFIX, lowCardinality, type PieceSink } from './native.ts'

/** Room for so many entries is kept whatever a batch needed of it. */
const KEEP_ENTRIES = 16_384

export interface MapColumnOptions {
  readonly name: string
  readonly rowsMax: number
  readonly entriesMax: number
  readonly room: Room
  readonly keys: DictionaryOptions
  /** Where values repeat: they are interned, and the type is `Map(LowCardinality(String), LowCardinality(String))`. */
  readonly values?: DictionaryOptions
}

/**
 * A column of maps from text to text. An entry is added while its row is being decoded; `offsets` is set when the row
 * is complete. Entries of one row have distinct keys: the last one counts, as in a protobuf map.
 */
export class MapColumn {
  readonly name: string
  readonly keys: Dictionary
  /** Values of plain maps. */
  readonly heap: Heap
  /** Values of maps whose values repeat; null in plain ones. */
  readonly values: Dictionary | null
  /** Two words per row: entries up to and with this row. */
  readonly offsets: Uint32Array
  codes: Uint16Array
  valueCodes: Uint16Array
  /** Entries so far. */
  count = 0
  readonly #type: string
  /** Entries and end of the heap when the row began. */
  #rowCount = 0
  #rowEnd = 0
  readonly #entriesMax: number
  readonly #room: Room

  constructor(options: MapColumnOptions) {
    this.name = options.name
    this.#entriesMax = options.entriesMax
    this.#room = options.room
    this.keys = new Dictionary(options.keys)
    this.values = options.values === undefined ? null : new Dictionary(options.values)
    this.#type = `Map(LowCardinality(String), ${this.values === null ? 'String' : 'LowCardinality(String)'})`
    this.heap = new Heap(options.room, 1024, options.rowsMax * 256 + (4 << 20))
    this.offsets = new Uint32Array(2 * options.rowsMax)
    this.codes = new Uint16Array(256)
    this.valueCodes = new Uint16Array(this.values === null ? 0 : 256)
  }

  /** A row begins. */
  begin(): void {
    this.#rowCount = this.count
    this.#rowEnd = this.heap.end
  }

  /** Entries of the row that is being decoded. */
  get rowEntries(): number {
    return this.count - this.#rowCount
  }

  /** Takes back the entries since `begin`. */
  undo(): void {
    this.count = this.#rowCount
    this.heap.truncate(this.#rowEnd, this.#rowCount)
  }

  /** An entry: its key, then the value's bytes. */
  put(key: number, source: Uint8Array, view: DataView, start: number, length: number): void {
    for (let k = this.#rowCount; k < this.count; k++) if (this.codes[k] === key) this.#remove(k)
    if (this.count === this.codes.length && !this.#grow()) return
    this.codes[this.count] = key
    this.heap.put(this.count, source, view, start, length)
    this.count++
  }

  /** An entry whose value is in `values`. */
  putCode(key: number, value: number): void {
    for (let k = this.#rowCount; k < this.count; k++) {
      if (this.codes[k] === key) {
        this.valueCodes[k] = value
        return
      }
    }
    if (this.count === this.codes.length && !this.#grow()) return
    this.codes[this.count] = key
    this.valueCodes[this.count++] = value
  }

  reset(): void {
    // A batch that needed much less than there is gives half of it back.
    if (this.codes.length > KEEP_ENTRIES && this.count < this.codes.length >> 3) this.#resize(this.codes.length >> 1)
    this.count = 0
    this.heap.reset()
    this.keys.reset()
    this.values?.reset()
  }

  /** Appends the column to a block; false when no row has an entry, and the column is left out. */
  encode(out: PieceSink, rows: number): boolean {
    if (this.count === 0) return false
    out.push(columnHeader(this.name, this.#type), LOW_CARDINALITY_PREFIX)
    if (this.values !== null) out.push(LOW_CARDINALITY_PREFIX)
    out.push(bytesOf(this.offsets, 2 * rows))
    lowCardinality(out, this.keys.keyList(), this.keys.count, this.codes, this.count)
    if (this.values === null) out.push(this.heap.bytes.subarray(0, this.heap.end))
    else lowCardinality(out, this.values.keyList(), this.values.count, this.valueCodes, this.count)
    return true
  }

  /** Takes out entry `k` of this row, because its key comes again. Envoy never sends one twice. */
  #remove(k: number): void {
    const { bytes, end } = this.heap
    const spans = textSpans(bytes, this.#rowEnd, this.count - this.#rowCount)
    const start = spans[k - this.#rowCount]!
    const next = spans[k - this.#rowCount + 1]!
    bytes.copyWithin(start, next, end)
    this.codes.copyWithin(k, k + 1, this.count)
    this.count--
    this.heap.truncate(end - (next - start), this.count)
  }

  #grow(): boolean {
    const length = this.codes.length * 2
    if (length > this.#entriesMax) {
      this.#room.exhausted = true
      return false
    }
    this.#resize(length)
    return true
  }

  #resize(length: number): void {
    const kept = Math.min(this.count, length)
    const codes = new Uint16Array(length)
    codes.set(this.codes.subarray(0, kept))
    this.codes = codes
    if (this.values === null) return
    const valueCodes = new Uint16Array(length)
    valueCodes.set(this.valueCodes.subarray(0, kept))
    this.valueCodes = valueCodes
  }
}

/** Where each of `count` texts of a heap begins, from `start` on, and where the last one ends. */
export function textSpans(bytes: Uint8Array, start: number, count: number): number[] {
  const spans = [start]
  let at = start
  for (let k = 0; k < count; k++) {
    let length = 0
    let shift = 0
    let byte = 128
    while (byte > 127) {
      byte = bytes[at++]!
      length |= (byte & 127) << shift
      shift += 7
    }
    at += length
    spans.push(at)
  }
  return spans
}
