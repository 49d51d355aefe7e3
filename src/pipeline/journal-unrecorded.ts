import type { FileHandle } from 'node:fs/promises'
import { readBlock } from '../model/native-read.ts'
import type { JournalTable } from './journal-format.ts'

/**
 * Rows of blocks whose line in the index is damaged. Without their CRC nothing vouches for them, so they are not kept; but
 * what is lost has to be told. A block of ours says in its column `segment` where it belongs, so stale bytes of a recycled
 * file do not count. Whatever cannot be read ends the count.
 */
export async function unrecordedRows(options: {
  readonly file: FileHandle
  readonly table: JournalTable
  readonly from: number
  readonly to: number
  /** Null: as the first block says. */
  readonly segment: string | null
}): Promise<{ readonly rows: number; readonly nodes: ReadonlyMap<string, number> }> {
  const { file, table, from, to } = options
  const nodes = new Map<string, number>()
  let rows = 0
  let { segment } = options
  const bytes = Buffer.allocUnsafe(Math.min(to - from, BYTES_MAX))
  const { bytesRead } = await file.read(bytes, 0, bytes.length, from)
  try {
    for (let at = 0; at < bytesRead; ) {
      const { block, end } = readBlock(table, bytes.subarray(0, bytesRead), at)
      if (block.rows === 0) break
      segment ??= block.text('segment', 0)
      if (block.text('segment', 0) !== segment) break
      const { codes, texts } = block.dictionary('node_id')
      for (let row = 0; row < block.rows; row++) {
        const node = texts[codes[row]!]!
        nodes.set(node, (nodes.get(node) ?? 0) + 1)
      }
      rows += block.rows
      at = end
    }
  } catch {
    // The end of what can be read.
  }
  return { rows, nodes }
}

/** As large as a segment gets. */
const BYTES_MAX = 64 << 20
