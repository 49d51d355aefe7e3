import { open } from 'node:fs/promises'
import { IncompleteBlock, type NativeBlockColumns, readBlock } from '../model/native-read.ts'
import type { Segment, SegmentTable } from './segment.ts'

export type { Dictionary, NativeBlockColumns, NumberArrays, NumberMap, TextMap } from '../model/native-read.ts'

/**
 * The blocks of a segment's table, one at a time, as columns. A block is valid for as long as it is held: its bytes are
 * its own. At most one block and what was read ahead is in memory.
 *
 * Rejects when the file is gone or is no sequence of our blocks; call it within `segment.hold`, or within one `send`.
 */
export async function* readTable(table: SegmentTable, options: ReadOptions = {}): AsyncGenerator<NativeBlockColumns> {
  const { windowBytes = WINDOW_BYTES, signal } = options
  const file = await open(table.file, 'r')
  try {
    let window: Uint8Array = new Uint8Array(0)
    /** Of the first byte of `window` in the file, and of the next block in `window`. */
    let base = 0
    let at = 0
    while (base + at < table.bytes) {
      signal?.throwIfAborted()
      const read = tryBlock(table, window, at)
      if (typeof read !== 'number') {
        at = read.end
        yield read.block
        continue
      }
      const rest = window.length - at
      const want = Math.min(table.bytes - base - at, Math.max(windowBytes, rest + read, 2 * rest))
      if (want <= rest) throw new Error(`${table.file} ends inside a block`)
      // Fresh memory: blocks that were handed out keep the old one.
      const next = new Uint8Array(want)
      next.set(window.subarray(at))
      base += at
      at = 0
      for (let have = rest; have < want; ) {
        const { bytesRead } = await file.read(next, have, want - have, base + have)
        if (bytesRead === 0) throw new Error(`${table.file} has ${base + have} of ${table.bytes} bytes`)
        have += bytesRead
      }
      window = next
    }
  } finally {
    await file.close()
  }
}

export interface ReadOptions {
  /** Bytes read at once, where no block is larger. */
  readonly windowBytes?: number
  readonly signal?: AbortSignal
}

/** A block of 32 768 rows has some 4 MB. */
const WINDOW_BYTES = 4 << 20

/** The block, or how many more bytes it needs. */
function tryBlock(table: SegmentTable, window: Uint8Array, at: number): ReturnType<typeof readBlock> | number {
  if (at >= window.length) return 1
  try {
    return readBlock(table.table, window, at)
  } catch (error) {
    if (error instanceof IncompleteBlock) return error.missing
    throw error
  }
}

/** All blocks of a segment's table of this name; nothing where the segment does not touch it. */
export async function* readSegment(
  segment: Segment,
  name: SegmentTable['table'],
  options: ReadOptions = {},
): AsyncGenerator<NativeBlockColumns> {
  for (const table of segment.tables) if (table.table === name) yield* readTable(table, options)
}
