import type { EntryWriter } from '../entry/entry.ts'
import { Prefix } from './prefix.ts'
import type { LineReader } from './read-line.ts'
import type { Splitter } from './split.ts'

/**
 * One run over the bytes of a source: chunks in, entries into the writer, and at every moment the exact position behind
 * the last entry that is a row. The moment matters: a builder can be full in the middle of a chunk, and then what is
 * journaled is a part of the chunk.
 *
 *   ├──── taken: rows, or refused ────┤── in the writer ──┤── begun, no end yet ──┤
 *   0                          position()                                      end of the last chunk
 *
 * Bytes that are read again, to know what lines before the position began (`replayFrom`) or because a sender sends all of
 * it again, make no rows.
 */
export class LineSource {
  readonly #options: LineSourceOptions
  /** Of the bytes up to the position that was asked for last. */
  #prefix: Prefix
  /** Bytes whose entries are stored already. */
  readonly #known: number
  /** The chunk under way, with the begin of it that was left from the one before; offset of its first byte. */
  #bytes: Buffer = Buffer.alloc(0)
  #base: number
  /** Behind the last whole entry of a chunk that is not settled; −1: it is. */
  #behind = -1
  /** Of an entry that is larger than allowed and is being skipped: everything read of it. */
  #oversized: Prefix | null = null

  /** For each entry the writer took in this chunk: what is true once it is a row. */
  readonly #ends: number[] = []
  readonly #rejects: number[] = []
  readonly #replays: number[] = []
  /** `writer.added` when the chunk began. */
  #addedBefore: number
  /** Of this run, in the chunks before. */
  #addedEarlier = 0
  /** What is true before the first entry of the chunk is a row. */
  #startEnd: number
  #startRejected: number
  #startReplay: number

  /** Entries seen, those that were known included. */
  entries = 0
  /** Entries taken by the writer, in this run. */
  added = 0
  /** Lines and values that made no entry. */
  rejected: number
  /** Entries that the decoder refused. */
  refused = 0
  #holdsFrom = -1
  #lastEnd: number

  constructor(options: LineSourceOptions) {
    this.#options = options
    this.#prefix = options.prefix?.copy() ?? new Prefix()
    this.#known = this.#prefix.bytes
    this.#base = options.from ?? this.#known
    this.rejected = options.rejected ?? 0
    this.#addedBefore = options.writer.added
    this.#startEnd = this.#known
    this.#startRejected = this.rejected
    this.#startReplay = -1
    this.#lastEnd = this.#base
  }

  /** Bytes read, whole entries or not. */
  get read(): number {
    return this.#base + this.#bytes.length
  }

  /** Bytes kept of an entry that has not ended. */
  get heldBytes(): number {
    return this.#bytes.length
  }

  /** End of the last whole entry. */
  get consumed(): number {
    return this.#oversized === null ? this.#base : this.#prefix.bytes
  }

  /**
   * The bytes that follow. Everything whole in them goes to the writer, which commits. `settled` has to be true before the
   * next chunk. False: an entry is larger than allowed, and there is no telling where it ends.
   */
  push(chunk: Buffer): boolean {
    const { writer, splitter, entryBytesMax } = this.#options
    this.#begin()
    if (this.#oversized !== null) {
      const from = splitter.skip?.(chunk) ?? -1
      if (from < 0) {
        this.#oversized.advance(chunk)
        this.#base += chunk.length
        return true
      }
      this.#oversized.advance(chunk.subarray(0, from))
      this.#prefix = this.#oversized
      this.#oversized = null
      this.#base += from
      this.#skipped()
      chunk = chunk.subarray(from)
    }
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk])
    const { entries, added } = this
    const behind = splitter.split(this.#bytes, 0, this.#bytes.length, this.#each)
    this.#options.onChunk?.(this.entries - entries, chunk.length, this.added - added)
    this.#commit()
    if (writer.pending > 0) {
      this.#behind = behind
      return true
    }
    return this.#finishChunk(behind, entryBytesMax)
  }

  /** Whether everything whole in the last chunk has been taken. */
  get settled(): boolean {
    return this.#behind < 0
  }

  /** Tries again what found no room. */
  settle(): boolean {
    const { writer, entryBytesMax } = this.#options
    if (this.#behind < 0) return true
    this.#commit()
    if (writer.pending > 0) return false
    const behind = this.#behind
    this.#behind = -1
    this.#finishChunk(behind, entryBytesMax)
    return true
  }

  /** The source has ended: what nothing ended is an entry as well. Then as after `push`. */
  end(): void {
    const { splitter, writer } = this.#options
    this.#begin()
    if (this.#oversized !== null) {
      this.#prefix = this.#oversized
      this.#oversized = null
      this.#skipped()
      return
    }
    const text = splitter.rest(this.#bytes, 0, this.#bytes.length)
    if (text === null) return
    const { added } = this
    this.#each(text, this.#bytes.length)
    this.#options.onChunk?.(1, 0, this.added - added)
    this.#commit()
    if (writer.pending > 0) this.#behind = this.#bytes.length
    else this.#finishChunk(this.#bytes.length, this.#options.entryBytesMax)
  }

  #commit(): void {
    this.refused += this.#options.writer.commit().rejected
  }

  /** What is true once the rows that the builders hold now are stored. */
  position(): SourcePosition {
    const taken = Math.min(this.#options.writer.taken - this.#addedBefore, this.#ends.length)
    const k = taken - 1
    const end = k < 0 ? this.#startEnd : this.#ends[k]!
    this.#advance(end)
    return {
      prefix: this.#prefix,
      added: this.#addedEarlier + Math.max(0, taken),
      rejected: k < 0 ? this.#startRejected : this.#rejects[k]!,
      replayFrom: k < 0 ? this.#startReplay : this.#replays[k]!,
    }
  }

  #begin(): void {
    this.#addedEarlier = this.added
    this.#addedBefore = this.#options.writer.added
    this.#ends.length = 0
    this.#rejects.length = 0
    this.#replays.length = 0
    this.#startRejected = this.rejected
    this.#startReplay = this.#holdsFrom
  }

  #skipped(): void {
    this.entries++
    this.#lastEnd = this.#base
    this.#reject('too_large', '', this.#base)
    this.#startEnd = this.#base
    this.#startRejected = this.rejected
  }

  #finishChunk(behind: number, entryBytesMax: number): boolean {
    this.#startEnd = Math.max(this.#known, this.#base + behind)
    this.#startRejected = this.rejected
    this.#startReplay = this.#holdsFrom
    this.#addedBefore = this.#options.writer.added
    this.#addedEarlier = this.added
    this.#ends.length = 0
    while (this.#bytes[behind] === 0) behind++
    this.#startEnd = Math.max(this.#startEnd, this.#base + behind)
    this.#advance(this.#startEnd)
    const left = this.#bytes.length - behind
    this.#base += behind
    if (left <= entryBytesMax) {
      // A copy: the reader of the source overwrites its buffer.
      this.#bytes = left === 0 ? NOTHING : Buffer.from(this.#bytes.subarray(behind))
      return true
    }
    if (this.#options.splitter.skip === null) return false
    this.#oversized = this.#prefix.copy()
    this.#oversized.advance(this.#bytes.subarray(behind))
    this.#base += left
    this.#bytes = NOTHING
    return true
  }

  readonly #each = (given: string, endInChunk: number): void => {
    const { reader, entryBytesMax } = this.#options
    // Where a file was emptied under a writer that kept its place, zeros stand before the next line.
    const text = given.charCodeAt(0) === 0 ? given.replace(/^\0+/, '') : given
    const end = this.#base + endInChunk
    const start = this.#lastEnd
    this.#lastEnd = end
    this.entries++
    if (end <= this.#known) {
      reader.replay(text)
      this.#hold(start, end)
      return
    }
    const outcome = text.length > entryBytesMax ? 'too_large' : reader.read(text)
    if (outcome === 'added') {
      this.added++
      this.#ends.push(end)
      this.#rejects.push(this.rejected)
      this.#hold(start, end)
      this.#replays.push(this.#holdsFrom)
      return
    }
    if (outcome === 'held') this.#hold(start, end)
    else this.#reject(outcome, text, end)
    this.#extend(end)
  }

  /** Remembers since where lines are held: they have to be read again by whoever goes on from here. */
  #hold(start: number, end: number): void {
    if (!this.#options.reader.holds) this.#holdsFrom = -1
    else if (this.#holdsFrom < 0 || end - this.#holdsFrom > REPLAY_BYTES_MAX) this.#holdsFrom = start
  }

  /** What made no entry belongs to the entry before it: once that is a row, this needs no second look. */
  #extend(end: number): void {
    const last = this.#ends.length - 1
    if (last < 0) {
      this.#startEnd = end
      this.#startRejected = this.rejected
      this.#startReplay = this.#holdsFrom
      return
    }
    this.#ends[last] = end
    this.#rejects[last] = this.rejected
    this.#replays[last] = this.#holdsFrom
  }

  #reject(reason: string, text: string, end: number): void {
    this.rejected++
    this.#options.onReject?.(reason, this.entries, end, text)
  }

  #advance(end: number): void {
    if (end <= this.#prefix.bytes) return
    this.#prefix.advance(this.#bytes.subarray(this.#prefix.bytes - this.#base, end - this.#base))
  }
}

export interface LineSourceOptions {
  readonly reader: LineReader
  readonly writer: EntryWriter
  readonly splitter: Splitter
  /** Larger entries are stepped over and counted as rejected. */
  readonly entryBytesMax: number
  /** What is stored already: entries that end before it make no rows. */
  readonly prefix?: Prefix
  /** Offset of the first byte that will be pushed; that behind the prefix if it is not given. */
  readonly from?: number
  /** Entries rejected before. */
  readonly rejected?: number
  /** After each chunk: how many entries were in it, its bytes, and how many of the entries the writer took. */
  readonly onChunk?: (entries: number, bytes: number, added: number) => void
  /** Of an entry, with its number from 1 and the offset behind it. */
  readonly onReject?: (reason: string, number: number, end: number, text: string) => void
}

export interface SourcePosition {
  /** Changes with the next call. */
  readonly prefix: Prefix
  /** Entries of this run that are rows, or were refused by the decoder. */
  readonly added: number
  readonly rejected: number
  /** Where reading has to begin again to know what lines before the position began; −1: at the position. */
  readonly replayFrom: number
}

const NOTHING = Buffer.alloc(0)
/** Parts of lines that never end cost no more than this at a restart. */
const REPLAY_BYTES_MAX = 16 << 20
