import zlib from 'node:zlib'
import { compressionsAlgorithms } from '@platformatic/kafka'
import type { Compression } from './producer.ts'

/**
 * Compression of single values, where both sides are ours: the clients compress whole batches, which takes a copy of each and
 * keeps the garbage collector busy (for a million rows 0.4 s of CPU on a loaded machine). The same codecs, by the same names.
 */
export function compressValue(codec: Compression, bytes: Buffer): Buffer {
  switch (codec) {
    case 'none':
      // A value outlives the memory that its bytes were read into.
      return Buffer.from(bytes)
    case 'zstd':
      return zlib.zstdCompressSync(bytes, ZSTD)
    case 'gzip':
      return zlib.gzipSync(bytes, GZIP)
    default:
      return compressionsAlgorithms[codec].compressSync(bytes)
  }
}

/** Null: the bytes are not what the codec makes, or too many come out. */
export function decompressValue(codec: Compression, bytes: Buffer): Buffer | null {
  try {
    switch (codec) {
      case 'none':
        return bytes
      case 'zstd':
        return zlib.zstdDecompressSync(bytes, { maxOutputLength: VALUE_BYTES_MAX, chunkSize: CHUNK_BYTES })
      case 'gzip':
        return zlib.gunzipSync(bytes, { maxOutputLength: VALUE_BYTES_MAX, chunkSize: CHUNK_BYTES })
      default: {
        const value = compressionsAlgorithms[codec].decompressSync(bytes)
        return value.length > VALUE_BYTES_MAX ? null : value
      }
    }
  } catch {
    return null
  }
}

/**
 * Gives the memory of a value back now and not at the next collection, which big buffers bring about. Whoever made the value
 * by `compressValue` says that nobody looks at it any more. Small ones share their memory with others, and stay.
 */
export function releaseValue({ buffer, byteOffset, byteLength }: Buffer): void {
  if (byteLength >= RELEASE_BYTES_MIN && byteOffset === 0 && buffer instanceof ArrayBuffer) buffer.transfer(0)
}

/** Far above what Node cuts out of memory for many (`Buffer.poolSize`, 64 KiB at most). */
const RELEASE_BYTES_MIN = 128 << 10
/** More than any slice has. */
const VALUE_BYTES_MAX = 64 << 20
/** Of Node's buffers for the result: its default of 16 KiB takes sixty of them for one value. */
const CHUNK_BYTES = 1 << 20
const ZSTD = { chunkSize: CHUNK_BYTES, params: { [zlib.constants.ZSTD_c_compressionLevel]: 1 } }
const GZIP = { chunkSize: CHUNK_BYTES, level: 1 }
