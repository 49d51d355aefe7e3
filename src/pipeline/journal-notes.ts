import { readFileSync } from 'node:fs'
import type { Log } from '../telemetry/log.ts'
import { type JournalFiles, replaceFile, writeAll } from './journal-files.ts'
import {
  comparePositions,
  encodeGroupRecord,
  type GroupRecord,
  type Note,
  parseGroups,
  parseSegmentId,
} from './journal-format.ts'

/**
 * What receivers remember of their sources, for as long as the journal lives: positions in files, requests that were
 * answered. A note is written in one record with the blocks that made it true, so both are there after a crash, or neither.
 *
 *   append ─► record in the segment's index ─► segment sealed and synced ─► record in `notes` ─► the segment may be deleted
 *
 *   notes    one record for each segment that had notes, the last one of a key counts; written anew when it grew
 *
 * At a start, what `notes` has is brought up to date with what the segments on disk have. A segment may only be deleted
 * once its notes are saved: `covers` says so.
 */
export class JournalNotes {
  readonly #options: NotesOptions
  /** The last value of each key; the one that changed longest ago first. */
  readonly #latest = new Map<string, unknown>()
  /** What the file has, or may have: never a note whose blocks the disk may not have. */
  readonly #saved = new Map<string, { readonly segment: string; readonly value: unknown }>()
  /** Notes of segments that are on disk, on their way into the file. */
  readonly #unsaved = new Map<string, ReadonlyMap<string, unknown>>()
  #bytes = 0
  #rewriteAt = REWRITE_BYTES
  #torn = false
  forgotten = 0

  constructor(options: NotesOptions) {
    this.#options = options
  }

  /** Reads the file, and adds what segments have that were found at the start. */
  recover(segments: readonly { readonly id: string; readonly notes: readonly Note[] }[]): void {
    const bytes = readOrNothing(this.#options.path)
    this.#bytes = bytes.length
    this.#torn = bytes.length > 0
    for (const { segment, notes } of parseGroups(bytes)) this.#keep(segment, notes)
    const ordered = segments.map((found) => ({ ...found, position: parseSegmentId(found.id)! }))
    ordered.sort((a, b) => comparePositions(a.position, b.position))
    for (const { id, notes } of ordered) {
      // A segment that outlived later ones knows less than the file.
      const fresh = notes.filter(([key]) => !this.#isOlder(id, this.#saved.get(key)?.segment))
      if (fresh.length === 0) continue
      this.#keep(id, fresh)
      this.#unsaved.set(id, new Map(fresh))
    }
    for (const [key, { value }] of this.#saved) this.#latest.set(key, value)
    this.#bound()
  }

  /** Notes of blocks that were just appended. */
  put(notes: readonly Note[]): void {
    for (const [key, value] of notes) {
      this.#latest.delete(key)
      this.#latest.set(key, value)
    }
    this.#bound()
  }

  *entries(prefix: string): Iterable<Note> {
    for (const [key, value] of this.#latest) if (key.startsWith(prefix)) yield [key, value]
  }

  /** Nobody needs it any longer. It may be back after a restart. */
  forget(key: string): void {
    this.#latest.delete(key)
    this.#saved.delete(key)
  }

  /** Whether nothing would be lost if the segment were deleted. */
  covers(segment: string): boolean {
    return !this.#unsaved.has(segment)
  }

  get waiting(): boolean {
    return this.#unsaved.size > 0
  }

  /** Saves the notes of a segment that the disk has. False: the disk refuses, and `retry` comes back to it. */
  async save(segment: string, notes: ReadonlyMap<string, unknown>): Promise<boolean> {
    if (notes.size === 0) return true
    this.#unsaved.set(segment, notes)
    return this.retry()
  }

  async retry(): Promise<boolean> {
    const taken = [...this.#unsaved]
    if (taken.length === 0) return true
    for (const [segment, notes] of taken) {
      this.#keep(
        segment,
        [...notes].filter(([key]) => this.#latest.has(key)),
      )
    }
    try {
      if (this.#torn || this.#bytes > this.#rewriteAt) await this.#rewrite()
      else await this.#append(taken.map(([id, notes]) => recordOf(id, [...notes])))
    } catch (error) {
      this.#torn = true
      this.#options.log.warn({ file: this.#options.path, error }, 'notes cannot be saved: segments stay until they are')
      return false
    }
    for (const [segment] of taken) this.#unsaved.delete(segment)
    return true
  }

  async #append(records: readonly GroupRecord[]): Promise<void> {
    const { files, path } = this.#options
    if (this.#bytes === 0) return this.#rewrite()
    const bytes = Buffer.concat(records.map(encodeGroupRecord))
    const fd = files.open(path, 'reuse')
    try {
      writeAll(files, fd, [bytes], this.#bytes)
      await files.sync(fd)
    } finally {
      files.close(fd)
    }
    this.#bytes += bytes.length
  }

  /** The file anew, with one record for each segment that still says something. */
  async #rewrite(): Promise<void> {
    const bySegment = new Map<string, Note[]>()
    for (const [key, { segment, value }] of this.#saved) {
      const notes = bySegment.get(segment)
      if (notes === undefined) bySegment.set(segment, [[key, value]])
      else notes.push([key, value])
    }
    const text = Buffer.concat([...bySegment].map(([id, notes]) => encodeGroupRecord(recordOf(id, notes)))).toString()
    await replaceFile(this.#options.files, this.#options.path, text)
    this.#bytes = Buffer.byteLength(text)
    this.#rewriteAt = Math.max(REWRITE_BYTES, this.#bytes * REWRITE_FACTOR)
    this.#torn = false
  }

  #keep(segment: string, notes: readonly Note[]): void {
    for (const [key, value] of notes) {
      if (this.#isOlder(segment, this.#saved.get(key)?.segment)) continue
      this.#saved.delete(key)
      this.#saved.set(key, { segment, value })
    }
  }

  #isOlder(segment: string, than: string | undefined): boolean {
    return than !== undefined && comparePositions(parseSegmentId(segment)!, parseSegmentId(than)!) < 0
  }

  /** Receivers bound their own; this is for sums of them that nobody thought of. */
  #bound(): void {
    for (const key of this.#latest.keys()) {
      if (this.#latest.size <= (this.#options.keysMax ?? KEYS_MAX)) return
      this.forget(key)
      this.forgotten++
    }
  }
}

export interface NotesOptions {
  readonly path: string
  readonly files: JournalFiles
  readonly log: Log
  readonly keysMax?: number
}

/** 100 bytes to 1 KiB each. */
const KEYS_MAX = 100_000
/** The file is written anew when it is larger than this, and than four times what was needed the last time. */
const REWRITE_BYTES = 1 << 20
const REWRITE_FACTOR = 4

const recordOf = (segment: string, notes: readonly Note[]): GroupRecord => ({ segment, blocks: [], notes, atMs: 0 })

function readOrNothing(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch {
    return Buffer.alloc(0)
  }
}
