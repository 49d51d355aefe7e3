import { createReadStream, readSync } from 'node:fs'
import { open } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { crc32, createGunzip, createZstdDecompress } from 'node:zlib'
import { Prefix } from '../prefix.ts'

export type Compression = 'gzip' | 'zstd' | null

/** How a file begins: what it is, and enough of it to know it again. */
export interface Head {
  readonly compression: Compression
  /** Of the content, decompressed. */
  readonly prefix: Prefix
  readonly bytes: Buffer
}

/** Marks at 64, 256, 1024, 4096 and 16384 bytes. */
const HEAD_BYTES = 16_384

/** Null: the file cannot be read, or not yet. */
export async function readHead(path: string): Promise<Head | null> {
  try {
    const file = await open(path, 'r')
    let raw: Buffer
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0)
      raw = buffer.subarray(0, bytesRead)
    } finally {
      await file.close()
    }
    const compression = compressionOf(raw)
    const bytes = compression === null ? raw : await firstBytes(path, compression)
    const prefix = new Prefix()
    prefix.advance(bytes)
    return { compression, prefix, bytes }
  } catch {
    return null
  }
}

export function compressionOf(bytes: Uint8Array): Compression {
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) return 'gzip'
  return bytes[0] === 0x28 && bytes[1] === 0xb5 && bytes[2] === 0x2f && bytes[3] === 0xfd ? 'zstd' : null
}

/** The content of a file from its begin. Ends with an error where the file is damaged, or not complete. */
export function contentOf(path: string, compression: Compression): Readable {
  const raw = createReadStream(path, { highWaterMark: 256 << 10 })
  if (compression === null) return raw
  const decompress = compression === 'gzip' ? createGunzip({ chunkSize: 256 << 10 }) : createZstdDecompress()
  raw.on('error', (error) => decompress.destroy(error))
  decompress.on('close', () => raw.destroy())
  return raw.pipe(decompress)
}

async function firstBytes(path: string, compression: Compression): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  try {
    for await (const chunk of contentOf(path, compression)) {
      chunks.push(chunk as Buffer)
      length += (chunk as Buffer).length
      if (length >= HEAD_BYTES) break
    }
  } catch {
    // Still being written, perhaps: what there is tells as much as it can.
  }
  return Buffer.concat(chunks).subarray(0, HEAD_BYTES)
}

/**
 * How the content of a file stands to what was read of a log: `same`: it begins with all of it. `part`: with some of it,
 * as far as it goes. `other`: it is another one. `unsure`: too short to tell.
 */
export type Likeness = 'same' | 'part' | 'other' | 'unsure'

export async function likeness(prefix: Prefix, path: string, size: number, head: Head): Promise<Likeness> {
  if (prefix.bytes === 0) return 'other'
  const known = head.bytes.length
  const agrees = prefix.agrees(head.prefix.marks)
  if (agrees === false) return 'other'
  if (prefix.bytes <= known) {
    return crc32(head.bytes.subarray(0, prefix.bytes)) === prefix.crc ? 'same' : 'other'
  }
  if (agrees === null) return 'unsure'
  // Of a compressed file the rest is compared when it is read.
  if (head.compression !== null) return 'same'
  if (size < prefix.bytes) return 'part'
  try {
    const file = await open(path, 'r')
    try {
      const tail = Buffer.alloc(prefix.tailBytes)
      const { bytesRead } = await file.read(tail, 0, tail.length, prefix.bytes - prefix.tailBytes)
      return prefix.endsWith(tail.subarray(0, bytesRead)) ? 'same' : 'other'
    } finally {
      await file.close()
    }
  } catch {
    return 'unsure'
  }
}

/** Whether an open file still has, right before the position, what was read there. */
export function stillThere(fd: number, prefix: Prefix, scratch: Buffer): boolean {
  const tail = scratch.subarray(0, prefix.tailBytes)
  const read = tail.length === 0 ? 0 : readSync(fd, tail, 0, tail.length, prefix.bytes - prefix.tailBytes)
  return prefix.endsWith(tail.subarray(0, read))
}
