import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { Readable } from 'node:stream'
import { crc32, createGunzip, createZstdDecompress } from 'node:zlib'
import { MARK_FIRST, Prefix } from '../prefix.ts'

/*
 * Looking into files. Everything here reads from an open file: a name can come to mean another file between two calls.
 */

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

/** Opens the file that was seen under a name; null when it cannot be read, or another one has the name by now. */
export function openSeen(seen: { readonly path: string; readonly dev: number; readonly ino: number }): number | null {
  let fd: number
  try {
    fd = openSync(seen.path, 'r')
  } catch {
    return null
  }
  const { dev, ino } = fstatSync(fd)
  if (dev === seen.dev && ino === seen.ino) return fd
  closeSync(fd)
  return null
}

export async function readHead(fd: number): Promise<Head> {
  const raw = readAt(fd, HEAD_BYTES, 0)
  const compression = compressionOf(raw)
  const bytes = compression === null ? raw : await firstBytes(fd, compression)
  const prefix = new Prefix()
  prefix.advance(bytes)
  return { compression, prefix, bytes }
}

export function compressionOf(bytes: Uint8Array): Compression {
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) return 'gzip'
  return bytes[0] === 0x28 && bytes[1] === 0xb5 && bytes[2] === 0x2f && bytes[3] === 0xfd ? 'zstd' : null
}

/** The content of a file from its begin. Ends with an error where the file is damaged, or not complete. */
export function contentOf(fd: number, compression: Compression, onRead?: (offset: number) => void): Readable {
  const raw = Readable.from(chunksOf(fd, onRead), { objectMode: false, highWaterMark: CHUNK_BYTES })
  if (compression === null) return raw
  const decompress = compression === 'gzip' ? createGunzip({ chunkSize: CHUNK_BYTES }) : createZstdDecompress()
  raw.on('error', (error) => decompress.destroy(error))
  decompress.on('close', () => raw.destroy())
  return raw.pipe(decompress)
}

const CHUNK_BYTES = 256 << 10

/** Never closes the file, and has no read under way when it is left: a stream of Node's would, and might. */
function* chunksOf(fd: number, onRead?: (offset: number) => void): Generator<Buffer> {
  for (let offset = 0; ; ) {
    const chunk = readAt(fd, CHUNK_BYTES, offset)
    if (chunk.length === 0) return
    offset += chunk.length
    onRead?.(offset)
    yield chunk
  }
}

async function firstBytes(fd: number, compression: Compression): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  try {
    for await (const chunk of contentOf(fd, compression)) {
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

export function likeness(prefix: Prefix, fd: number, head: Head): Likeness {
  if (prefix.bytes === 0) return 'unsure'
  const agrees = prefix.agrees(head.prefix.marks)
  if (agrees === false) return 'other'
  if (prefix.bytes <= head.bytes.length) {
    return crc32(head.bytes.subarray(0, prefix.bytes)) === prefix.crc ? 'same' : 'other'
  }
  if (agrees === null) return 'unsure'
  // Of a compressed file the rest is compared when it is read.
  if (head.compression !== null) return 'same'
  if (fstatSync(fd).size < prefix.bytes) return 'part'
  return stillThere(fd, prefix) ? 'same' : 'other'
}

/** The same of two beginnings. */
export function beginAlike(one: Buffer, other: Buffer): Likeness {
  const common = Math.min(one.length, other.length)
  if (!one.subarray(0, common).equals(other.subarray(0, common))) return 'other'
  return common < MARK_FIRST && one.length !== other.length ? 'unsure' : 'same'
}

/** Whether a file has, right before the position, what was read there. */
export function stillThere(fd: number, prefix: Prefix): boolean {
  return prefix.endsWith(readAt(fd, prefix.tailBytes, prefix.bytes - prefix.tailBytes))
}

export const readStart = (fd: number, bytes: number): Buffer => readAt(fd, bytes, 0)

function readAt(fd: number, bytes: number, offset: number): Buffer {
  const buffer = Buffer.allocUnsafe(bytes)
  let length = 0
  while (length < bytes) {
    const read = readSync(fd, buffer, length, bytes - length, offset + length)
    if (read === 0) break
    length += read
  }
  return buffer.subarray(0, length)
}
