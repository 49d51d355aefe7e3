import { join } from 'node:path'
import type { NativeBlock } from '../model/batch.ts'
import { type JournalFiles, writeAll } from './journal-files.ts'
import {
  type BlockRecord,
  blockCrc,
  blockSeed,
  encodeBlockRecord,
  encodeGroupRecord,
  encodeSealRecord,
  isSourceTable,
  type JournalTable,
  type Note,
} from './journal-format.ts'
import type { Spares } from './journal-spares.ts'
import type { SegmentTable } from './segment.ts'

/**
 * The segment being written: one file of blocks for each table and the index. A block counts once its index record is
 * complete; until then the next block takes its place, so a failed append leaves nothing behind.
 *
 *   requests.native   │ block 0 │ block 1 │ half of a failed one … │ stale bytes of a recycled file │
 *                     0                   ↑ position               ↑ allocated
 *   index             │ record 0 │ record 1 │
 */
export class OpenSegment {
  readonly id: string
  openedMs: number
  dir: string
  /** What was noted beside its blocks: the last value of each key. */
  readonly notes = new Map<string, unknown>()
  #files: JournalFiles
  #spares: Spares
  #tables = new Map<JournalTable, TableFile>()
  /** `tail`: records that no longer count may be left after `position`. */
  #index: { readonly fd: number; position: number; dirty: boolean; tail: boolean }
  #blocks = 0
  #rows = 0
  #directorySynced = false

  /** Creates `dir` and an empty index in it. Throws when the disk does not let it. */
  constructor(options: { id: string; dir: string; openedMs: number; files: JournalFiles; spares: Spares }) {
    this.id = options.id
    this.dir = options.dir
    this.openedMs = options.openedMs
    this.#files = options.files
    this.#spares = options.spares
    options.files.mkdir(options.dir)
    this.#index = {
      fd: options.files.open(join(options.dir, 'index'), 'create'),
      position: 0,
      dirty: true,
      tail: false,
    }
  }

  /** Rows that arrived; rollups do not count. */
  get rows(): number {
    return this.#rows
  }

  get blocks(): number {
    return this.#blocks
  }

  /** Bytes of whole blocks. */
  get bytes(): number {
    let total = 0
    for (const file of this.#tables.values()) total += file.position
    return total
  }

  /** Bytes on disk, as far as this process caused them. */
  get allocated(): number {
    let total = this.#index.position
    for (const file of this.#tables.values()) total += file.allocated
    return total
  }

  get dirty(): boolean {
    if (this.#index.dirty) return true
    for (const file of this.#tables.values()) if (file.dirty) return true
    return false
  }

  /** How many bytes more the disk would have to give for a block of this size. */
  growth(table: JournalTable, bytes: number): number {
    const file = this.#tables.get(table)
    return file === undefined ? bytes : Math.max(0, file.position + bytes - file.allocated)
  }

  /** Writes one block and its record. When it throws, the segment is as it was before. */
  append(table: JournalTable, block: NativeBlock, nowMs: number): void {
    const bytes = bytesOf(block)
    const file = this.#file(table)
    const offset = file.position
    try {
      writeAll(this.#files, file.fd, block.buffers, offset)
    } catch (error) {
      file.cutBack(this.#files)
      throw error
    }
    const record = encodeBlockRecord({
      segment: this.id,
      table,
      offset,
      bytes,
      rows: block.rows,
      crc: blockCrc(blockSeed(this.id, table, offset), block.buffers),
      atMs: nowMs,
      days: [...block.days],
      nodes: [...block.nodes],
    })
    this.#writeIndex(record)
    file.advance(block, bytes)
    this.#blocks++
    if (isSourceTable(table)) this.#rows += block.rows
  }

  /** Writes blocks, each of another table, and one record for all of them and the notes. Throws like `append`. */
  appendGroup(parts: readonly JournalPart[], notes: readonly Note[], nowMs: number): void {
    const begun: TableFile[] = []
    const blocks: BlockRecord[] = []
    try {
      for (const { table, block } of parts) {
        const file = this.#file(table)
        const offset = file.position
        begun.push(file)
        writeAll(this.#files, file.fd, block.buffers, offset)
        const bytes = bytesOf(block)
        const crc = blockCrc(blockSeed(this.id, table, offset), block.buffers)
        const { rows, days, nodes } = block
        blocks.push({
          segment: this.id,
          table,
          offset,
          bytes,
          rows,
          crc,
          atMs: nowMs,
          days: [...days],
          nodes: [...nodes],
        })
      }
      this.#writeIndex(encodeGroupRecord({ segment: this.id, blocks, notes, atMs: nowMs }))
    } catch (error) {
      for (const file of begun) file.cutBack(this.#files)
      throw error
    }
    for (const [k, { table, block }] of parts.entries()) {
      begun[k]!.advance(block, blocks[k]!.bytes)
      this.#blocks++
      if (isSourceTable(table)) this.#rows += block.rows
    }
    for (const [key, value] of notes) this.notes.set(key, value)
  }

  /** The last record. From here on the segment is whole, rollups included. Throws like `append`. */
  appendSeal(nowMs: number, recovered: boolean): void {
    this.#writeIndex(encodeSealRecord({ segment: this.id, sealedMs: nowMs, blocks: this.#blocks, recovered }))
  }

  #writeIndex(record: Buffer): void {
    if (this.#index.tail) this.#cutIndex()
    try {
      writeAll(this.#files, this.#index.fd, [record], this.#index.position)
    } catch (error) {
      this.#index.tail = true
      throw error
    }
    this.#index.position += record.length
    this.#index.dirty = true
  }

  /** Whole records could stand there, of blocks that were taken back: nothing is written before they are gone. */
  #cutIndex(): void {
    this.#files.truncate(this.#index.fd, this.#index.position)
    this.#index.tail = false
  }

  /** A point to come back to with `rollback`. */
  mark(): Mark {
    return {
      index: this.#index.position,
      blocks: this.#blocks,
      rows: this.#rows,
      tables: new Map([...this.#tables].map(([table, file]) => [table, file.snapshot()])),
    }
  }

  /** Forgets every block since the mark. Never throws. */
  rollback(mark: Mark): void {
    this.#index.position = mark.index
    this.#index.dirty = true
    this.#index.tail = true
    this.#blocks = mark.blocks
    this.#rows = mark.rows
    for (const [table, file] of this.#tables) file.restore(mark.tables.get(table))
  }

  /**
   * Makes the disk give room for this many bytes more, by writing zeros where the next block will be, and some for the
   * index. Throws while there is none, and then gives back what it got.
   */
  reserve(table: JournalTable, bytes: number): void {
    const file = this.#file(table)
    const chunk = new Uint8Array(Math.min(1 << 20, bytes + INDEX_RESERVE))
    const end = file.position + bytes
    try {
      for (let at = file.position; at < end + INDEX_RESERVE; at += chunk.length) {
        writeAll(this.#files, file.fd, [chunk.subarray(0, Math.min(chunk.length, end + INDEX_RESERVE - at))], at)
      }
      this.#files.truncate(file.fd, Math.max(end, file.allocated))
    } catch (error) {
      file.cutBack(this.#files)
      throw error
    }
    file.allocated = Math.max(file.allocated, end)
    // What was written over belongs to no record; the blocks before `position` are untouched.
  }

  /** Waits until the disk has all that was appended before the call. */
  async sync(parent: string): Promise<void> {
    for (const file of this.#tables.values()) {
      if (!file.dirty) continue
      file.dirty = false
      await this.#files.sync(file.fd).catch((error: unknown) => {
        file.dirty = true
        throw error
      })
    }
    if (this.#index.dirty) {
      this.#index.dirty = false
      await this.#files.sync(this.#index.fd).catch((error: unknown) => {
        this.#index.dirty = true
        throw error
      })
    }
    if (!this.#directorySynced) {
      const tables = this.#tables.size
      await this.#files.syncDirectory(this.dir)
      await this.#files.syncDirectory(parent)
      this.#directorySynced = tables === this.#tables.size
    }
  }

  /** Cuts recycled files to what was written and gives every file its final name. */
  finish(): void {
    if (this.#index.tail) this.#cutIndex()
    for (const [table, file] of this.#tables) {
      if (file.position === 0) {
        this.#files.remove(join(this.dir, `${table}.native`))
        continue
      }
      if (file.allocated > file.position) {
        this.#files.truncate(file.fd, file.position)
        file.allocated = file.position
        file.dirty = true
      }
      this.#spares.learn(table, file.position)
      this.#files.rename(join(this.dir, `${table}.native`), join(this.dir, `${table}.seg`))
    }
    this.#directorySynced = false
  }

  close(): void {
    for (const file of this.#tables.values()) this.#files.close(file.fd)
    this.#files.close(this.#index.fd)
  }

  /** The manifest, with the files where they will be in `dir`. */
  tables(dir: string): SegmentTable[] {
    const tables: SegmentTable[] = []
    for (const [table, file] of this.#tables) {
      if (file.position === 0) continue
      const { position: bytes, rows, blocks, days, nodes } = file
      tables.push({ table, file: join(dir, `${table}.seg`), bytes, rows, blocks, days, nodes })
    }
    return tables
  }

  #file(table: JournalTable): TableFile {
    const known = this.#tables.get(table)
    if (known !== undefined) return known
    const path = join(this.dir, `${table}.native`)
    const spare = this.#spares.take(table, path)
    const file = new TableFile(this.#files.open(path, spare === null ? 'create' : 'reuse'), spare ?? 0)
    this.#tables.set(table, file)
    this.#directorySynced = false
    return file
  }
}

/** A block and the table it belongs to. */
export interface JournalPart {
  readonly table: JournalTable
  readonly block: NativeBlock
}

export function bytesOf(block: NativeBlock): number {
  let bytes = 0
  for (const buffer of block.buffers) bytes += buffer.byteLength
  return bytes
}

/** Room kept for index records when room for a block is reserved: a record is about 200 bytes and 60 for each node. */
const INDEX_RESERVE = 65_536

interface Mark {
  readonly index: number
  readonly blocks: number
  readonly rows: number
  readonly tables: ReadonlyMap<JournalTable, TableMark>
}

type TableMark = Pick<TableFile, 'position' | 'rows' | 'blocks' | 'days' | 'nodes'>

class TableFile {
  readonly fd: number
  /** End of the last whole block. */
  position = 0
  /** Bytes of the file, which begins as large as the recycled one. */
  allocated: number
  rows = 0
  blocks = 0
  days = new Map<number, number>()
  nodes = new Map<string, number>()
  dirty = false

  constructor(fd: number, allocated: number) {
    this.fd = fd
    this.allocated = allocated
  }

  advance(block: NativeBlock, bytes: number): void {
    this.position += bytes
    this.allocated = Math.max(this.allocated, this.position)
    this.rows += block.rows
    this.blocks++
    for (const [day, rows] of block.days) this.days.set(day, (this.days.get(day) ?? 0) + rows)
    for (const [node, rows] of block.nodes) this.nodes.set(node, (this.nodes.get(node) ?? 0) + rows)
    this.dirty = true
  }

  snapshot(): TableMark {
    const { position, rows, blocks } = this
    return { position, rows, blocks, days: new Map(this.days), nodes: new Map(this.nodes) }
  }

  restore(mark: TableMark | undefined): void {
    this.position = mark?.position ?? 0
    this.rows = mark?.rows ?? 0
    this.blocks = mark?.blocks ?? 0
    this.days = new Map(mark?.days)
    this.nodes = new Map(mark?.nodes)
  }

  /** Gives back what a failed write may have taken. */
  cutBack(files: JournalFiles): void {
    try {
      files.truncate(this.fd, this.position)
      this.allocated = this.position
    } catch {
      // The next block overwrites it; what that leaves is cut at the seal.
      this.allocated = Math.max(this.allocated, this.position + 1)
    }
  }
}
