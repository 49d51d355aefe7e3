import { SidecastError } from '../errors.ts'
import type { Batch, NativeBlock } from '../model/batch.ts'
import type { BatchBuilder } from '../model/batch-builder.ts'
import { ROW_TABLES, type RowTable } from '../model/schema.ts'
import type { TableBuilder } from '../model/table-builder.ts'
import type { Log } from '../telemetry/log.ts'
import type { Journal } from './journal.ts'
import type { Note } from './journal-format.ts'
import type { JournalPart } from './journal-writer.ts'
import type { Rollup } from './rollup.ts'
import type { LiveSink, Stage } from './sink.ts'

/**
 * A receiver that can read its source again, such as a file. What it notes is written in one record with the rows, so
 * that after a crash it goes on exactly behind the last row that is stored.
 */
export interface NoteSource {
  /**
   * Called right before rows are appended, in the middle of a commit too. Must say what is true once the rows that are in
   * the builders now are stored: no row more, no row less. Empty when none of them is its own.
   */
  notes(): readonly Note[]
  /** The journal has what `notes` last said. */
  noted(): void
}

/**
 * Where the parts of one ingest thread meet: builders that receivers fill, and what happens to every batch.
 *
 *   builder full, or 50 ms old ─► seal ─► journal.append ─► rollup.add ─► ledger ─► live sinks ─► reset
 *   segment full, or 1 s old   ─► journal.seal with the rollup of the segment
 *
 * The journal comes first: what it refuses (no room, disk full) stays in its builder, the gate closes, receivers stop
 * reading, and nothing has been counted yet. When there is room again the same batch goes through, once.
 */
export interface Lane extends Stage {
  readonly builders: Readonly<Record<RowTable, BatchBuilder>>
  /** Closed while the journal takes nothing. Receivers do not read then. */
  readonly gate: LaneGate
  /** Hands on what the builder of `table` holds. False when the journal has no room: the rows stay where they are. */
  flush(table: RowTable): boolean
  /** The same for what stats and spans have in their builders. */
  flushSides(): boolean
  /** Hands on everything, and resolves when it is fsynced. Rejects when the journal has no room. */
  synced(): Promise<void>
  /** From now on its notes go with the rows. Returns how to leave. */
  addNoteSource(source: NoteSource): () => void
  /** Wall clock, ms: rows in memory arrived after this; null when there are none. */
  readonly pendingSinceMs: number | null
}

export interface LaneGate {
  readonly closed: boolean
  onOpen(listener: () => void): void
  onClose(listener: () => void): void
}

/** What goes to the journal beside the rows of requests: stats, spans. */
export interface SideSource {
  /** Appended together: after a crash the rows of all are there, or of none. */
  readonly builders: readonly TableBuilder[]
  /**
   * Called before the builders are handed on, to write into them what was gathered. `all`: what may wait a little as well.
   * False when the builders are full before everything was written: then it is called again after they are empty.
   */
  gather(all: boolean): boolean
}

/** What the lane tells the ledger. */
export interface LaneLedger {
  /** The journal has the block. */
  journaled(table: RowTable, block: NativeBlock): void
  /** Rows given up, with the reason. */
  dropped(reason: 'journal_full', rows: number): void
}

export interface LaneOptions {
  readonly builders: Readonly<Record<RowTable, BatchBuilder>>
  readonly journal: Journal
  readonly rollup: Rollup
  readonly ledger: LaneLedger
  readonly live: readonly LiveSink[]
  readonly sides?: readonly SideSource[]
  readonly log: Log
  /** How long rows may wait in memory: what a killed process loses, at most. */
  readonly flushMs?: number
  /** Wall clock, ms. */
  readonly clock?: () => number
}

const FLUSH_MS = 50

export function createLane(options: LaneOptions): Lane {
  return new IngestLane(options)
}

class IngestLane implements Lane {
  readonly name = 'lane'
  readonly builders: Readonly<Record<RowTable, BatchBuilder>>
  readonly gate: Gate
  readonly #options: LaneOptions
  readonly #clock: () => number
  readonly #noteSources = new Set<NoteSource>()
  #timer: NodeJS.Timeout | undefined
  #stopped = false
  /** When no builder held anything, last. */
  #emptyMs: number

  constructor(options: LaneOptions) {
    this.#options = options
    this.#clock = options.clock ?? Date.now
    this.#emptyMs = this.#clock()
    this.builders = options.builders
    this.gate = new Gate()
  }

  async start(): Promise<void> {
    this.#options.journal.onRoom(() => this.#retry())
    this.#timer = setInterval(() => this.#tick(), this.#options.flushMs ?? FLUSH_MS)
  }

  /** Receivers have stopped: hands on the rest and seals. What the journal has no room for is counted and lost. */
  async stop(_deadline: AbortSignal): Promise<void> {
    if (this.#stopped) return
    this.#stopped = true
    clearInterval(this.#timer)
    for (const table of ROW_TABLES) {
      const { rows } = this.builders[table]
      if (this.flush(table)) continue
      this.#options.ledger.dropped('journal_full', rows)
      this.#options.log.error({ table, rows }, 'rows were lost at shutdown: the journal has no room')
    }
    if (!this.flushSides(true)) {
      const left = this.#sides.flatMap(({ builders }) => builders.map(({ table, rows }) => ({ table, rows })))
      this.#options.log.error({ left }, 'stats and spans were lost at shutdown: the journal has no room')
    }
    this.#seal()
    await this.#options.journal.synced()
  }

  get pendingSinceMs(): number | null {
    return ROW_TABLES.some((table) => this.builders[table].rows > 0) ? this.#emptyMs : null
  }

  flush(table: RowTable): boolean {
    const builder = this.builders[table]
    if (builder.rows === 0) return true
    const notes = this.#notes()
    if (notes.length > 0) return this.#flushGroup(notes)
    const { journal } = this.#options
    const batch = builder.seal()
    const block = batch.encode(journal.segmentId)
    if (journal.append(table, block) !== 'ok') {
      this.gate.close()
      return false
    }
    this.#journaled(batch, block)
    if (journal.shouldSeal(this.#clock())) this.#seal()
    return true
  }

  addNoteSource(source: NoteSource): () => void {
    this.#noteSources.add(source)
    return () => this.#noteSources.delete(source)
  }

  #notes(): Note[] {
    const notes: Note[] = []
    for (const source of this.#noteSources) notes.push(...source.notes())
    return notes
  }

  /** Notes speak of rows in any of the builders, stats and spans among them, so all of them go, in one record. */
  #flushGroup(notes: readonly Note[]): boolean {
    const { journal } = this.#options
    // What is more than the builders hold goes before.
    for (const side of this.#sides) if (!side.gather(true) && !this.#flushSide(side, true)) return false
    const sides = this.#sides.flatMap(({ builders }) => builders.filter(({ rows }) => rows > 0))
    const batches = ROW_TABLES.filter((table) => this.builders[table].rows > 0).map((t) => this.builders[t].seal())
    const parts: JournalPart[] = [...batches, ...sides].map((from) => partOf(from, journal.segmentId))
    if (parts.length === 0) return true
    if (journal.appendGroup(parts, notes) !== 'ok') {
      this.gate.close()
      return false
    }
    for (const builder of sides) builder.reset()
    for (const source of this.#noteSources) source.noted()
    for (const [k, batch] of batches.entries()) this.#journaled(batch, parts[k]!.block)
    if (journal.shouldSeal(this.#clock())) this.#seal()
    return true
  }

  #journaled(batch: Batch, block: NativeBlock): void {
    const { rollup, ledger, live } = this.#options
    ledger.journaled(batch.table, block)
    rollup.add(batch)
    for (const sink of live) sink.take(batch)
    this.builders[batch.table].reset()
  }

  flushSides(all = false): boolean {
    const { journal } = this.#options
    const notes = this.#notes()
    if (notes.length > 0) return this.#flushGroup(notes)
    for (const side of this.#sides) if (!this.#flushSide(side, all)) return false
    if (journal.shouldSeal(this.#clock())) this.#seal()
    return true
  }

  #flushSide(side: SideSource, all: boolean): boolean {
    const { journal } = this.#options
    for (let gathered = false; !gathered; ) {
      gathered = side.gather(all)
      const filled = side.builders.filter(({ rows }) => rows > 0)
      if (filled.length === 0) continue
      const parts = filled.map((builder) => partOf(builder, journal.segmentId))
      if (journal.appendGroup(parts, []) !== 'ok') {
        this.gate.close()
        return false
      }
      for (const builder of filled) builder.reset()
    }
    return true
  }

  get #sides(): readonly SideSource[] {
    return this.#options.sides ?? []
  }

  async synced(): Promise<void> {
    if (!this.#flushAll(true)) throw new SidecastError('SC4104', 'the journal has no room')
    await this.#options.journal.synced()
  }

  #tick(): void {
    if (this.gate.closed) this.#retry()
    else if (this.#flushAll()) this.#emptyMs = this.#clock()
    // Also while there is no room: what fills the journal may be this very segment, which only leaves once it is sealed.
    if (this.#options.journal.shouldSeal(this.#clock())) this.#seal()
  }

  #seal(): void {
    const { journal, rollup } = this.#options
    const block = rollup.seal()
    journal.seal(block === null ? [] : [{ table: 'latency_1m', block }])
  }

  #retry(): void {
    if (!this.#flushAll()) return
    this.#emptyMs = this.#clock()
    this.gate.open()
  }

  /** `all`: what stats may hold back for a little while as well. */
  #flushAll(all = false): boolean {
    let done = true
    for (const table of ROW_TABLES) done = this.flush(table) && done
    return this.flushSides(all) && done
  }
}

function partOf(from: Batch | TableBuilder, segment: string): JournalPart {
  return { table: from.table, block: from.encode(segment) }
}

class Gate implements LaneGate {
  #closed = false
  readonly #openListeners: (() => void)[] = []
  readonly #closeListeners: (() => void)[] = []

  get closed(): boolean {
    return this.#closed
  }

  onOpen(listener: () => void): void {
    this.#openListeners.push(listener)
  }

  onClose(listener: () => void): void {
    this.#closeListeners.push(listener)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const listener of this.#closeListeners) listener()
  }

  open(): void {
    if (!this.#closed) return
    this.#closed = false
    for (const listener of this.#openListeners) listener()
  }
}
