import { type Cursor, CursorFile } from './cursor.ts'
import type { JournalFiles } from './journal-files.ts'
import { comparePositions, type Position, parseSegmentId } from './journal-format.ts'
import type { Segment } from './segment.ts'

/** One sink's way through the sealed segments, oldest first. */
export interface SegmentReader {
  readonly sink: string
  /**
   * The oldest segment that is not acknowledged; waits for one. The same one again until it is acknowledged, read anew:
   * do not keep it over a failed attempt. Null when `signal` is aborted or the journal stops.
   */
  next(signal: AbortSignal, options?: NextOptions): Promise<Segment | null>
  /** Whether `next` would return a segment at once. */
  readonly ready: boolean
  /** Whether there is one after the segment of this id. */
  readyAfter(id: string): boolean
  /**
   * The sink has the segment, or never will (`rejected`). In effect at once; resolves when the cursor is on disk. When
   * the disk refuses, the cursor is written later. Safe to call twice. `dropped`: rows of it that the sink left out,
   * because its user wants it so.
   */
  ack(segment: Segment, outcome?: AckOutcome, dropped?: number): Promise<void>
  /** The same for several at once: after a crash the cursor is past all of them or none. */
  ackAll(segments: readonly Segment[], outcome?: AckOutcome, dropped?: number): Promise<void>
  /**
   * Hands out again, oldest first, what was acknowledged and is still kept, because the sink may have forgotten it: an
   * engine that was killed does not know everything it accepted. Returns how many segments.
   */
  rewind(): number
  backlog(): Backlog
  account(): Account
}

export interface NextOptions {
  /** Id of a segment: only what comes after it. */
  readonly after?: string
  /** Segments that were sealed within the last seconds go before a backlog. */
  readonly freshFirst?: boolean
}

/**
 * Rows since the process started: received = delivered + rejected + dropped + lost + held. `received` is counted when a
 * segment is published, `held` is the sum of what waits, the others are counted when they happen.
 */
export interface Account {
  readonly received: number
  readonly delivered: number
  readonly rejected: number
  /** Left out, because the user of the sink wants it so. */
  readonly dropped: number
  /** Damaged on disk before the sink had them. */
  readonly lost: number
  readonly held: number
}

export type AckOutcome = 'accepted' | 'rejected'

export interface Backlog {
  readonly segments: number
  readonly bytes: number
  readonly rows: number
  /** Wall clock, ms, of the oldest row's arrival; null when there is none. */
  readonly oldestMs: number | null
}

/** What was sealed within this time is fresh. */
const FRESH_MS = 5000
/** Segments taken out of order, as many as a cursor's file lists; above it the oldest go first again. */
const BEYOND_MAX = 10_000

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
  readonly #counts = { received: 0, delivered: 0, rejected: 0, dropped: 0, lost: 0 }
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
    if (this.#cursor.covers(entry.position) || entry.waiting.has(this.sink)) return
    this.#insert(entry)
    this.#count(nodes, 1)
    this.#counts.received += sum(nodes)
    this.#wakeAll()
  }

  /** From now on, and after a restart, the cursor does not cover the position. Rejects when the disk refuses. */
  async uncover(position: Position): Promise<void> {
    this.#cursor.remove(position)
    await this.#file.save(this.#cursor)
  }

  /** The segment shrank to what could be saved of it, or is gone. */
  replace(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>, entry: Entry): void {
    if (!entry.waiting.has(this.sink)) return
    if (!this.#again.has(entry)) {
      this.#count(before, -1)
      this.#count(after, 1)
      this.#counts.lost += sum(before) - sum(after)
    }
    if (entry.dead) this.#remove(entry)
  }

  get ready(): boolean {
    return this.#pending.length > 0
  }

  readyAfter(id: string): boolean {
    return this.#from({ after: id }) < this.#pending.length
  }

  async next(signal: AbortSignal, options: NextOptions = {}): Promise<Segment | null> {
    while (!this.#stopped && !signal.aborted) {
      const entry = this.#choose(options)
      if (entry === null) {
        const nothing = this.#from(options) >= this.#pending.length
        await (nothing ? this.#arrival(signal) : this.#host.sleep(1000, signal))
        continue
      }
      const segment = await this.#host.load(entry)
      if (segment !== null && entry.waiting.has(this.sink)) return segment
    }
    return null
  }

  ack(segment: Segment, outcome: AckOutcome = 'accepted', dropped = 0): Promise<void> {
    return this.ackAll([segment], outcome, dropped)
  }

  async ackAll(segments: readonly Segment[], outcome: AckOutcome = 'accepted', dropped = 0): Promise<void> {
    let moved = false
    for (const segment of segments) {
      const entry = this.#host.entry(segment.id)
      if (entry === undefined || !entry.waiting.has(this.sink)) continue
      const first = !this.#again.has(entry)
      if (first) {
        const nodes = this.#host.nodesOf(entry)
        this.#count(nodes, -1)
        this.#counts[outcome === 'accepted' ? 'delivered' : 'rejected'] += sum(nodes)
      }
      this.#remove(entry)
      this.#host.acknowledged(this.sink, entry, segment, outcome, first)
      if (!first) continue
      this.#cursor.add(entry.position, this.#oldestOpen())
      moved = true
    }
    if (!moved) return
    if (outcome === 'accepted') {
      this.#counts.delivered -= dropped
      this.#counts.dropped += dropped
    }
    await this.#save()
  }

  account(): Account {
    return { ...this.#counts, held: sum(this.#held) }
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

  /** Index of the first that comes after. */
  #from({ after }: NextOptions): number {
    if (after === undefined) return 0
    const position = parseSegmentId(after)
    if (position === null) return 0
    let at = this.#pending.length
    while (at > 0 && comparePositions(this.#pending[at - 1]!.position, position) > 0) at--
    return at
  }

  #choose(options: NextOptions): Entry | null {
    const now = this.#host.now()
    const from = this.#from(options)
    if (options.freshFirst === true && this.#cursor.beyond < BEYOND_MAX) {
      let fresh: Entry | null = null
      for (let at = this.#pending.length - 1; at >= from; at--) {
        const entry = this.#pending[at]!
        if (Math.abs(now - entry.sealedMs) > FRESH_MS) break
        if (entry.retryMs <= now) fresh = entry
      }
      if (fresh !== null) return fresh
    }
    for (let at = from; at < this.#pending.length; at++)
      if (this.#pending[at]!.retryMs <= now) return this.#pending[at]!
    return null
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

function sum(nodes: ReadonlyMap<string, number>): number {
  let total = 0
  for (const rows of nodes.values()) total += rows
  return total
}
