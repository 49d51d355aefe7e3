import { writeVarint } from './heap.ts'

/**
 * Pieces of ClickHouse's Native format: a block is the number of columns and rows as varints, then for each column its
 * name, its type and its data. See `NativeWriter.cpp` and `SerializationLowCardinality.cpp` of ClickHouse.
 */

const headers = new Map<string, Uint8Array>()

/** Name and type of a column. There are a few hundred different ones in all; they are made once. */
export function columnHeader(name: string, type: string): Uint8Array {
  const key = `${name} ${type}`
  let header = headers.get(key)
  if (header === undefined) {
    const bytes = Buffer.alloc(Buffer.byteLength(name) + Buffer.byteLength(type) + 10)
    let at = writeVarint(bytes, 0, Buffer.byteLength(name))
    at += bytes.write(name, at)
    at = writeVarint(bytes, at, Buffer.byteLength(type))
    at += bytes.write(type, at)
    header = bytes.subarray(0, at)
    headers.set(key, header)
  }
  return header
}

/** Number of columns and rows. */
export function blockHeader(columns: number, rows: number): Uint8Array {
  const bytes = Buffer.alloc(10)
  return bytes.subarray(0, writeVarint(bytes, writeVarint(bytes, 0, columns), rows))
}

function words(...values: number[]): Uint8Array {
  const bytes = Buffer.alloc(8 * values.length)
  values.forEach((value, k) => {
    bytes.writeBigUInt64LE(BigInt(value), 8 * k)
  })
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
  out: Uint8Array[],
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
