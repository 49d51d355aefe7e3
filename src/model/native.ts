import { writeVarint } from './heap.ts'

/**
 * Pieces of ClickHouse's Native format: a block is the number of columns and rows as varints, then for each column its
 * name, its type and its data. See `NativeWriter.cpp` and `SerializationLowCardinality.cpp` of ClickHouse.
 */

/** Where the pieces of a block go, in order. */
export interface PieceSink {
  push(...pieces: readonly Uint8Array[]): unknown
}

/** Pieces up to this size are copied together: a buffer costs as much as some thousand bytes of its own do. */
const SMALL = 4096
const SLAB = 64 << 10

/**
 * Puts together what a block is made of. Small pieces are copied into a buffer that they share, because each buffer of a
 * block costs a call for its CRC and another when it is written; large ones are passed on as they are.
 */
export class Pieces implements PieceSink {
  #buffers: Uint8Array[] = []
  #slab = new Uint8Array(0)
  /** Of the small pieces that stand together at the end of the block. */
  #start = 0
  #end = 0

  /** Begins a block. The buffers of the one before are overwritten. */
  begin(): void {
    this.#buffers = []
    this.#start = 0
    this.#end = 0
  }

  push(...pieces: readonly Uint8Array[]): void {
    for (const piece of pieces) {
      const { length } = piece
      if (length > SMALL) {
        this.#flush()
        this.#buffers.push(piece)
        continue
      }
      if (this.#end + length > this.#slab.length) {
        this.#flush()
        // What has been filled stays where it is.
        this.#slab = new Uint8Array(Math.max(SLAB, 2 * this.#slab.length))
        this.#start = 0
        this.#end = 0
      }
      if (length > 32) this.#slab.set(piece, this.#end)
      else for (let k = 0; k < length; k++) this.#slab[this.#end + k] = piece[k]!
      this.#end += length
    }
  }

  /** The buffers of the block, behind its header. */
  finish(header: Uint8Array): Uint8Array[] {
    this.#flush()
    return [header, ...this.#buffers]
  }

  #flush(): void {
    if (this.#end > this.#start) this.#buffers.push(this.#slab.subarray(this.#start, this.#end))
    this.#start = this.#end
  }
}

const headers = new Map<string, Map<string, Uint8Array>>()

/** Name and type of a column. There are a few hundred different ones in all; they are made once. */
export function columnHeader(name: string, type: string): Uint8Array {
  let ofType = headers.get(type)
  if (ofType === undefined) {
    ofType = new Map()
    headers.set(type, ofType)
  }
  let header = ofType.get(name)
  if (header === undefined) {
    const bytes = Buffer.alloc(Buffer.byteLength(name) + Buffer.byteLength(type) + 10)
    let at = writeVarint(bytes, 0, Buffer.byteLength(name))
    at += bytes.write(name, at)
    at = writeVarint(bytes, at, Buffer.byteLength(type))
    at += bytes.write(type, at)
    header = bytes.subarray(0, at)
    ofType.set(name, header)
  }
  return header
}

/** Number of columns and rows. */
export function blockHeader(columns: number, rows: number): Uint8Array {
  const bytes = Buffer.alloc(10)
  return bytes.subarray(0, writeVarint(bytes, writeVarint(bytes, 0, columns), rows))
}

/** Numbers below 2^32 as UInt64. */
function words(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(8 * values.length)
  for (let k = 0; k < values.length; k++) {
    const value = values[k]!
    bytes[8 * k] = value
    bytes[8 * k + 1] = value >>> 8
    bytes[8 * k + 2] = value >>> 16
    bytes[8 * k + 3] = value >>> 24
  }
  return bytes
}

/** Version of the LowCardinality serialization: shared dictionaries with additional keys. Stands once per column. */
export const LOW_CARDINALITY_PREFIX = words(1)
/** Flag "has additional keys", beside the width of the indexes. */
const ADDITIONAL_KEYS = 0x600

/**
 * The part of a LowCardinality column after its prefix: key list, then an index of one, two or four bytes for each of
 * `rows`. `indexes` must be as wide as `keys` asks for: one byte up to 256 keys.
 */
export function lowCardinality(
  out: PieceSink,
  keyList: Uint8Array,
  keys: number,
  indexes: Uint8Array | Uint16Array | Uint32Array,
  rows: number,
): void {
  const width = indexes.BYTES_PER_ELEMENT
  out.push(
    words(ADDITIONAL_KEYS | (width >> 1), keys),
    keyList,
    words(rows),
    new Uint8Array(indexes.buffer, indexes.byteOffset, rows * width),
  )
}

/** The first `count` elements of a typed array as bytes. Native is little-endian, as every machine Node runs on. */
export function bytesOf(array: ArrayBufferView & { readonly BYTES_PER_ELEMENT: number }, count: number): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, count * array.BYTES_PER_ELEMENT)
}
