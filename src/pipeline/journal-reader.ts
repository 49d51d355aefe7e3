import { type Cursor, CursorFile } from './cursor.ts'
import type { JournalFiles } from './journal-files.ts'
import { comparePositions, type Position } from './journal-format.ts'
import type { Segment } from './segment.ts'

/** One sink's way through the sealed segments, oldest first. */
export interface SegmentReader {
  readonly sink: string
  /**
   * The oldest segment that is not acknowledged; waits for one. The same one again until it is acknowledged, read anew:
   * do not keep it over a failed attempt. Null when `signal` is aborted or the journal stops.
   */
  next(signal: AbortSignal): Promise<Segment | null>
  /** Whether `next` would return a segment at once. */
  readonly ready: boolean
  /**
   * The sink has the segment, or never will (`rejected`). In effect at once; resolves when the cursor is on disk. When
   * the disk refuses, the cursor is written later. Safe to call twice.
   */
  ack(segment: Segment, outcome?: AckOutcome): Promise<void>
  /**
   * Hands out again, oldest first, what was acknowledged and is still kept, because the sink may have forgotten it: an
   * engine that was killed does not know everything it accepted. Returns how many segments.
   */
  rewind(): number
  backlog(): Backlog
}

export type AckOutcome = 'accepted' | 'rejected'

export interface Backlog {
  readonly segments: number
  readonly bytes: number
  readonly rows: number
  /** Wall clock, ms, of the oldest row's arrival; null when there is none. */
  readonly oldestMs: number | null
}

/** A sealed segment as the journal keeps it: without its manifest, so that a long backlog stays small in memory. */
export interface Entry {
  readonly position: Position
  readonly name: string
  readonly id: string
  openedMs: number
  sealedMs: number
  rows: number
  bytes: number
  recovered: boolean
  /** Sinks that have not acknowledged it. */
  readonly waiting: Set<string>
  /** When the last sink acknowledged it; null while one has not. */
  ackedMs: number | null
  /** Statements that may still read the files. */
  holds: number
  /** Another name of the files exists: they must not be overwritten in place. */
  linked: boolean
  /** When this process wrote the blocks or last compared them with their CRCs; 0 for never. */
  checkedMs: number
  /** Damaged, and no room to save what is sound: not before this time. */
  retryMs: number
  /** Gone, or set aside. */
  dead: boolean
}

/** What a reader needs of its journal. */
export interface ReaderHost {
  /** The manifest, with CRCs checked if need be. Null when nothing of the segment could be saved. */
  load(entry: Entry): Promise<Segment | null>
  /** Rows by node of an entry. */
  nodesOf(entry: Entry): ReadonlyMap<string, number>
  entry(id: string): Entry | undefined
  entries(): Iterable<Entry>
  /** The oldest segment on disk that is not known to be sealed yet. */
  oldestUnsealed(): Position | null
  now(): number
  sleep(ms: number, signal: AbortSignal): Promise<void>
  acknowledged(sink: string, entry: Entry, segment: Segment, outcome: AckOutcome, first: boolean): void
}

export class JournalReader implements SegmentReader {
  readonly sink: string
  readonly #host: ReaderHost
  readonly #cursor: Cursor
  readonly #file: CursorFile
  /** Not acknowledged, in order. */
  #pending: Entry[] = []
  /** Those of them that had been acknowledged before `rewind`. */
  #again = new Set<Entry>()
  /** Rows not acknowledged, by node, of sealed segments. */
  #held = new Map<string, number>()
  #wake: (() => void)[] = []
  #stopped = false

  constructor(options: { sink: string; cursor: Cursor; path: string; files: JournalFiles; host: ReaderHost }) {
    this.sink = options.sink
    this.#host = options.host
    this.#cursor = options.cursor
    this.#file = new CursorFile(options.path, options.files)
  }

  /** Whether the sink acknowledged this position, whatever became of the segment. */
  covers(position: Position): boolean {
    return this.#cursor.covers(position)
  }

  /** A segment was sealed, or found at start-up. */
  offer(entry: Entry, nodes: ReadonlyMap<string, number>): void {
    if (this.#cursor.covers(entry.position)) return
    this.#insert(entry)
    this.#count(nodes, 1)
    this.#wakeAll()
  }

  /** The segment shrank to what could be saved of it, or is gone. */
  replace(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>, entry: Entry): void {
    if (!entry.waiting.has(this.sink)) return
    if (!this.#again.has(entry)) {
      this.#count(before, -1)
      this.#count(after, 1)
    }
    if (entry.dead) this.#remove(entry)
  }

  get ready(): boolean {
    return this.#pending.length > 0
  }

  async next(signal: AbortSignal): Promise<Segment | null> {
    while (!this.#stopped && !signal.aborted) {
      const now = this.#host.now()
      const entry = this.#pending.find(({ retryMs }) => retryMs <= now)
      if (entry === undefined) {
        await (this.#pending.length === 0 ? this.#arrival(signal) : this.#host.sleep(1000, signal))
        continue
      }
      const segment = await this.#host.load(entry)
      if (segment !== null && entry.waiting.has(this.sink)) return segment
    }
    return null
  }

  async ack(segment: Segment, outcome: AckOutcome = 'accepted'): Promise<void> {
    const entry = this.#host.entry(segment.id)
    if (entry === undefined || !entry.waiting.has(this.sink)) return
    const first = !this.#again.has(entry)
    if (first) this.#count(this.#host.nodesOf(entry), -1)
    this.#remove(entry)
    this.#host.acknowledged(this.sink, entry, segment, outcome, first)
    if (!first) return
    this.#cursor.add(entry.position, this.#oldestOpen())
    await this.#save()
  }

  rewind(): number {
    let count = 0
    for (const entry of this.#host.entries()) {
      if (entry.waiting.has(this.sink) || entry.dead) continue
      entry.ackedMs = null
      this.#again.add(entry)
      this.#insert(entry)
      count++
    }
    if (count > 0) this.#wakeAll()
    return count
  }

  backlog(): Backlog {
    let bytes = 0
    let rows = 0
    for (const entry of this.#pending) {
      bytes += entry.bytes
      rows += entry.rows
    }
    return { segments: this.#pending.length, bytes, rows, oldestMs: this.#pending[0]?.openedMs ?? null }
  }

  get backlogSegments(): number {
    return this.#pending.length
  }

  get held(): ReadonlyMap<string, number> {
    return this.#held
  }

  /** Writes the cursor if an earlier attempt failed. Never rejects. */
  async retrySave(): Promise<void> {
    if (this.#file.unsaved) await this.#save()
  }

  stop(): void {
    this.#stopped = true
    this.#wakeAll()
  }

  async #save(): Promise<void> {
    // A cursor that stays behind costs a second look at a segment, nothing else; `retrySave` comes back to it.
    await this.#file.save(this.#cursor).catch(() => {})
  }

  #oldestOpen(): Position | null {
    const unsealed = this.#host.oldestUnsealed()
    const pending = this.#pending.find((entry) => !this.#again.has(entry))?.position ?? null
    if (unsealed === null || pending === null) return unsealed ?? pending
    return comparePositions(unsealed, pending) < 0 ? unsealed : pending
  }

  #insert(entry: Entry): void {
    entry.waiting.add(this.sink)
    let at = this.#pending.length
    while (at > 0 && comparePositions(this.#pending[at - 1]!.position, entry.position) > 0) at--
    this.#pending.splice(at, 0, entry)
  }

  #remove(entry: Entry): void {
    entry.waiting.delete(this.sink)
    this.#again.delete(entry)
    const at = this.#pending.indexOf(entry)
    if (at >= 0) this.#pending.splice(at, 1)
  }

  #count(nodes: ReadonlyMap<string, number>, sign: 1 | -1): void {
    for (const [node, rows] of nodes) {
      const left = (this.#held.get(node) ?? 0) + sign * rows
      if (left === 0) this.#held.delete(node)
      else this.#held.set(node, left)
    }
  }

  #wakeAll(): void {
    const waiting = this.#wake
    this.#wake = []
    for (const wake of waiting) wake()
  }

  #arrival(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        signal.removeEventListener('abort', done)
        this.#wake = this.#wake.filter((wake) => wake !== done)
        resolve()
      }
      this.#wake.push(done)
      signal.addEventListener('abort', done, { once: true })
    })
  }
}
