import { join } from 'node:path'
import { SidecastError } from '../errors.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import type { DirectoryLock } from '../lib/directory-lock.ts'
import type { NativeBlock } from '../model/batch.ts'
import { type Log, silentLog } from '../telemetry/log.ts'
import { isDiskFull, type JournalFiles, realFiles } from './journal-files.ts'
import {
  isRowTable,
  type JournalTable,
  type Note,
  type Position,
  parseSegmentId,
  segmentId,
  segmentName,
} from './journal-format.ts'
import { JournalNotes } from './journal-notes.ts'
import type { Backlog, SegmentReader } from './journal-reader.ts'
import { type FoundSegment, type RollupOf, rescueSegment } from './journal-recovery.ts'
import { replayRequests } from './journal-replay.ts'
import {
  type AckedListener,
  type LostListener,
  type ReplayedListener,
  type SealedListener,
  SealedSegments,
  type SegmentFilter,
} from './journal-segments.ts'
import { Spares } from './journal-spares.ts'
import { openDirectory, type RecoveryReport, recover } from './journal-start.ts'
import { bytesOf, type JournalPart, OpenSegment } from './journal-writer.ts'
import type { Segment } from './segment.ts'
import type { Stage } from './sink.ts'

/**
 * The journal of one ingest worker: where rows are safe. Everything that must not be lost is appended here as Native
 * blocks, sealed into segments, and stays until every durable sink has acknowledged it.
 *
 *   <dir>/<worker>/
 *     format                      "sidecast-journal 2": newer versions are refused by name, older ones replayed
 *     epoch                       of the last start; epochs only grow, whatever the clock does
 *     lock, lock.owner            one process at a time; the lock dies with its process
 *     current/                    the segment being written
 *       <table>.native            blocks, back to back; a recycled file has stale bytes after the last one
 *       index                     one line for each block, then one that seals
 *     sealing-<epoch>-<seq>/      complete, on its way to the disk while the next `current` is being written
 *     <epoch>-<seq>/              sealed: never changed again
 *       <table>.seg               a valid sequence of Native blocks and nothing else
 *       index                     its manifest
 *     notes                       what receivers noted beside their blocks, of segments that are sealed
 *     cursors/<sink>              how far each sink is, replaced atomically
 *     spare/<n>                   files of deleted segments, overwritten in place by later ones
 *     trash-<epoch>-<seq>/        being deleted
 *     salvage-<epoch>-<seq>/      sound blocks of a damaged segment, being copied
 *     quarantine/<epoch>-<seq>/   a damaged segment as it was found
 *     dead-letter/<sink>/<id>/    what a sink refused for good
 *     replay/<sink>/<id>/         dead letters that somebody wants to be sent again
 *
 *   index line   <CRC-32 of the JSON, 8 hex digits> <JSON>\n
 *   block        {"segment":"0-…-7","table":"requests","offset":0,"bytes":812345,"rows":4096,"atMs":…,
 *                 "days":[[20413,4096]],"nodes":[["sidecar~10.0.0.7",4096]],"crc":"5f0c…"}
 *   group        {"segment":"0-…-7","atMs":…,"group":[{"table":"requests",…},…],"notes":[["file/7",{…}],…]}
 *   seal         {"segment":"0-…-7","sealedMs":…,"blocks":12,"recovered":false}
 *
 * The CRC of a block starts from the CRC of "<segment>/<table>@<offset>", so that neither stale bytes of a recycled file
 * nor a block at another place pass for it. A block is written before its line, so a line without its block means
 * that the disk lost something, and a block without its line that the append was cut off.
 *
 * Invariants:
 *   - What `append` answered 'ok' for survives the death of the process; once `synced` resolved, the loss of power.
 *   - An append that failed leaves nothing; the same block can be appended again.
 *   - A group is appended whole, with its notes, or not at all; a note is never there without the blocks beside it.
 *   - A segment's rows and rollups are sealed together, or the rollups are made from the rows at the next start; where
 *     rows were lost to damage, or there was no room, the segment is `recovered` and has no rollups.
 *   - A segment is deleted after every sink acknowledged it, and recycled when nothing may still read it.
 *   - Bad data never stops a start: what is sound is kept, the original is set aside and reported (SC3101).
 */
export interface Journal extends Stage {
  /** Id of the segment that the next block belongs to. Changes when a segment is sealed. */
  readonly segmentId: string
  /** Wall clock, ms, of the first block of the segment being written; null when it has none. */
  readonly openedMs: number | null
  readonly state: JournalState
  /** Why the state is not 'ok', for people; null when it is. */
  readonly reason: string | null
  /** What start-up found. */
  readonly recovery: RecoveryReport

  /**
   * Writes one block. 'ok': it is in the page cache, and counts. Anything else: nothing was written, the caller keeps
   * the block, stops reading, and appends it again after `onRoom`. Encode the block with the present `segmentId`.
   */
  append(table: JournalTable, block: NativeBlock): JournalState
  /**
   * Writes blocks, one for each table, and what becomes true by them: all of it or nothing, after a crash as well. Notes
   * are as durable as the blocks. This is how a receiver that can read its source again stores everything exactly once.
   */
  appendGroup(parts: readonly JournalPart[], notes: readonly Note[]): JournalState
  /** The last note of each key that begins with `prefix`; those of earlier processes included. */
  notes(prefix: string): Iterable<Note>
  /** A note that is not needed any longer. It may be back after a restart. */
  forget(key: string): void
  /** Whether the segment is large, long or old enough. While no sink takes any, segments get older than the limit. */
  shouldSeal(nowMs: number): boolean
  /**
   * Ends the segment, with the rollups of its rows as last blocks, and goes on with a new one at once; the disk's work
   * happens meanwhile. Never to be repeated: a rollup that the disk has no room for is left out, and the segment is
   * `recovered`. Without rows nothing happens.
   */
  seal(rollups?: readonly { readonly table: JournalTable; readonly block: NativeBlock }[]): JournalState
  /** Resolves when everything appended before is on disk; callers at one time share one fsync. Rejects with SC4104. */
  synced(): Promise<void>
  /** Resolves when segments sealed before are published or have failed to be. */
  settled(): Promise<void>

  /** The reader of a sink; the same one for the same name. All are asked for before `start`, which begins to delete. */
  reader(sink: string): SegmentReader
  /** The sink is configured no more: nothing waits for it. Its cursor stays, for the day when it is again. */
  dismissReader(sink: string): void
  /** Called whenever there is room again, or may be. */
  onRoom(listener: () => void): void
  onSealed(listener: SealedListener): void
  /** Called once for each segment and sink, also across restarts as far as the cursor was saved. */
  onAcked(listener: AckedListener): void
  /** Called when a dead letter is back in the journal, for the sink that had refused it. */
  onReplayed(listener: ReplayedListener): void
  /** Called when damage that was found while running has taken rows; start-up's is in `recovery`. */
  onLost(listener: LostListener): void
  /** Names of the readers. */
  readonly sinks: readonly string[]
  /** Segments on disk with their manifests, oldest first. Reads the disk for each: narrow it down. */
  segments(filter?: SegmentFilter): Iterable<Segment>
  isAcked(sink: string, id: string): boolean
  /** Keeps the files of a segment that a sink refuses for good. Throws when the disk does not let it. */
  deadLetter(sink: string, segment: Segment, error: Error): void

  backlog(sink: string): Backlog
  /** Arrival, wall clock ms, of the oldest row that the sink has not acknowledged, unsealed ones included; null: none. */
  oldestUnacked(sink: string): number | null
  /** Rows that the sink has not acknowledged, by node, unsealed ones included. */
  heldByNode(sink: string): Map<string, number>
  stats(): JournalStats
}

/** 'full': a bound of ours is reached. 'disk_full': the disk has no room. 'disk_error': it refuses for another reason. */
export type JournalState = 'ok' | 'full' | 'disk_full' | 'disk_error'

/** Counters since the start, and levels. */
export interface JournalStats {
  readonly rows: number
  readonly blocks: number
  readonly bytesWritten: number
  readonly segmentsSealed: number
  readonly segmentsDeleted: number
  /** Deleted before `keepAfterAckMs` because their room was needed. */
  readonly segmentsReleasedEarly: number
  readonly filesRecycled: number
  readonly syncs: number
  readonly syncSeconds: number
  readonly syncFailures: number
  readonly refusedFull: number
  readonly refusedDisk: number
  readonly damagedFiles: number
  readonly quarantined: number
  readonly rowsLost: number
  readonly deadLettered: number
  readonly replayed: number
  /** Levels. */
  readonly bytesOnDisk: number
  readonly segments: number
}

export interface JournalLimits {
  readonly segmentBytesMax: number
  readonly segmentRowsMax: number
  readonly segmentAgeMsMax: number
  /** Of everything in the folder. The rollups of the last segment may exceed it. */
  readonly diskBytesMax: number
  /** Age of the oldest row a sink waits for; above it the journal is full. Absent: no bound. */
  readonly backlogAgeMsMax?: number
}

export interface JournalOptions {
  /** Holds one folder for each worker. Created if need be. */
  readonly dir: string
  readonly worker: number
  readonly limits: JournalLimits
  /** How long a segment stays after every sink has it: engines do not fsync what they accepted. Less when room is short. */
  readonly keepAfterAckMs?: number
  /** Files kept to be overwritten; 0 turns it off. */
  readonly sparesMax?: number
  readonly clock?: Clock
  readonly log?: Log
  readonly files?: JournalFiles
  readonly random?: () => number
  /** Makes the rollup of what a process that was killed had not sealed; absent: such segments stay `recovered`. */
  readonly rollupOf?: RollupOf
}

/** 4 files of 64 MiB: rows of a segment being written, two on their way to the disk, one to spare. */
const SPARES_MAX = 4
const KEEP_AFTER_ACK_MS = 120_000
const TICK_MS = 250
/** Requests for dead letters are looked for once a second. */
const REPLAY_TICKS = 4
/** A backlog of this many segments doubles the age at which they are sealed; of 29 times as many makes it 30 fold. */
const BACKLOG_STEP = 60
const AGE_FACTOR_MAX = 30
/** While a sink takes segments, rows do not wait for it any longer than they have to, whatever its backlog. */
const TAKING_MS = 5000
const RESCUE_RETRY_MS = 5000

/**
 * Opens the journal of a worker, recovers what the last process left, and is ready for `append`. Throws SC4105 when
 * another process has it, SC3102 when a newer version wrote it; bad data never makes it throw.
 */
export async function openJournal(options: JournalOptions): Promise<Journal> {
  const { files = realFiles, clock = systemClock, log = silentLog, random = Math.random } = options
  const root = join(options.dir, String(options.worker))
  const directory = await openDirectory({ root, files, log, nowMs: clock.now(), random })
  try {
    const journal = new SegmentJournal({ ...options, files, clock, log }, root, directory)
    await journal.recover()
    return journal
  } catch (error) {
    directory.lock.release()
    throw error
  }
}

interface Refusal {
  readonly state: Exclude<JournalState, 'ok'>
  readonly reason: string
  readonly table: JournalTable
  readonly bytes: number
}

class SegmentJournal implements Journal {
  readonly name = 'journal'
  readonly #root: string
  readonly #worker: number
  readonly #limits: JournalLimits
  readonly #clock: Clock
  readonly #log: Log
  readonly #rollupOf: { readonly rollupOf?: RollupOf }
  readonly #files: JournalFiles
  readonly #lock: DirectoryLock
  readonly #spares: Spares
  readonly #segments: SealedSegments
  readonly #notes: JournalNotes
  #position: Position
  #current: OpenSegment | null = null
  /** The rollups of `current` are gone: it will be sealed as recovered. */
  #rollupsLost = false
  /** Sealed, and not yet published. */
  readonly #sealing = new Set<OpenSegment>()
  /** Folders that could not be made a segment yet, with the time of the next attempt. */
  readonly #stuck = new Map<string, { readonly position: Position | null; readonly sealed: boolean; retryMs: number }>()
  /** Work on the disk, one after another: a sync never meets a file that is being closed. */
  #queue: Promise<void> = Promise.resolve()
  /** A group sync that has not begun: whoever asks now shares it. */
  #group: Promise<void> | null = null
  #syncedMs: number
  #syncError: unknown = null
  #refusal: Refusal | null = null
  readonly #roomListeners: (() => void)[] = []
  readonly #stopping = new AbortController()
  #ticking: Promise<void> = Promise.resolve()
  #stopped: Promise<void> | null = null
  #recovery: RecoveryReport = { segments: 0, rows: 0, cutBytes: 0, damage: [], lost: [], stuck: 0 }
  readonly #counts = {
    rows: 0,
    blocks: 0,
    bytesWritten: 0,
    segmentsSealed: 0,
    syncs: 0,
    syncSeconds: 0,
    syncFailures: 0,
    refusedFull: 0,
    refusedDisk: 0,
  }

  constructor(
    options: JournalOptions & { files: JournalFiles; clock: Clock; log: Log },
    root: string,
    directory: { readonly epoch: string; readonly lock: DirectoryLock },
  ) {
    this.#root = root
    this.#worker = options.worker
    this.#limits = options.limits
    this.#clock = options.clock
    this.#log = options.log
    this.#rollupOf = options.rollupOf === undefined ? {} : { rollupOf: options.rollupOf }
    this.#files = options.files
    this.#lock = directory.lock
    this.#position = { epoch: directory.epoch, seq: 1 }
    this.#syncedMs = options.clock.now()
    const { sparesMax: filesMax = SPARES_MAX } = options
    this.#spares = new Spares({ dir: join(root, 'spare'), files: options.files, filesMax })
    this.#notes = new JournalNotes({ path: join(root, 'notes'), files: options.files, log: options.log })
    this.#segments = new SealedSegments({
      root,
      worker: options.worker,
      keepAfterAckMs: options.keepAfterAckMs ?? KEEP_AFTER_ACK_MS,
      asideBytesMax: options.limits.diskBytesMax / 10,
      files: options.files,
      spares: this.#spares,
      clock: options.clock,
      log: options.log,
      oldestUnsealed: () => this.#oldestUnsealed(),
      mayDelete: (id) => this.#notes.covers(id),
      onFreed: () => this.#lookForRoom(),
    })
  }

  async recover(): Promise<void> {
    const { report, found, stuck, notes } = await recover({
      root: this.#root,
      worker: this.#worker,
      nowMs: this.#clock.now(),
      files: this.#files,
      log: this.#log,
      onRescue: (rescue) => this.#segments.report(rescue),
      ...this.#rollupOf,
    })
    this.#notes.recover(notes)
    await this.#notes.retry()
    for (const { segment, checked } of found) this.#segments.publish(segment, checked)
    for (const { dir, position, sealed } of stuck) {
      this.#stuck.set(dir, { position, sealed, retryMs: this.#clock.now() + RESCUE_RETRY_MS })
    }
    this.#recovery = report
  }

  async start(): Promise<void> {
    this.#segments.start()
    this.#ticking = this.#tickUntilStopped()
  }

  /**
   * Called after the lane sealed and the deliveries ended. What is still in `current` is synced and left for the next
   * start to recover. Readers get null.
   */
  stop(_deadline: AbortSignal): Promise<void> {
    this.#stopped ??= this.#close()
    return this.#stopped
  }

  async #close(): Promise<void> {
    this.#stopping.abort()
    this.#segments.stop()
    await this.#ticking
    await this.synced().catch((error: unknown) =>
      this.#log.error({ error }, 'the journal could not be synced at the end'),
    )
    await this.settled()
    await this.#segments.settled()
    for (const reader of this.#segments.readers) await reader.retrySave()
    this.#current?.close()
    this.#current = null
    this.#lock.release()
  }

  get segmentId(): string {
    return segmentId(this.#worker, this.#position)
  }

  get openedMs(): number | null {
    return this.#current !== null && this.#current.blocks > 0 ? this.#current.openedMs : null
  }

  get recovery(): RecoveryReport {
    return this.#recovery
  }

  get state(): JournalState {
    return this.#refusal?.state ?? 'ok'
  }

  get reason(): string | null {
    return this.#refusal?.reason ?? null
  }

  append(table: JournalTable, block: NativeBlock): JournalState {
    if (this.#stopped !== null) throw new Error('append after stop')
    const bytes = bytesOf(block)
    if (bytes === 0) return this.state
    const full = this.#whyFull([{ table, bytes }])
    if (full !== null) return this.#refuse({ state: 'full', reason: full, table, bytes })
    const nowMs = this.#clock.now()
    try {
      this.#open(nowMs).append(table, block, nowMs)
    } catch (error) {
      return this.#refuseDisk(error, table, bytes)
    }
    this.#count(table, block, bytes)
    this.#accept()
    return 'ok'
  }

  appendGroup(parts: readonly JournalPart[], notes: readonly Note[]): JournalState {
    if (this.#stopped !== null) throw new Error('append after stop')
    if (parts.length === 0) return this.state
    const sizes = parts.map(({ table, block }) => ({ table, bytes: bytesOf(block) }))
    const { table } = sizes.reduce((largest, part) => (part.bytes > largest.bytes ? part : largest))
    const bytes = sizes.reduce((sum, part) => sum + part.bytes, 0)
    const full = this.#whyFull(sizes)
    if (full !== null) return this.#refuse({ state: 'full', reason: full, table, bytes })
    const nowMs = this.#clock.now()
    try {
      this.#open(nowMs).appendGroup(parts, notes, nowMs)
    } catch (error) {
      return this.#refuseDisk(error, table, bytes)
    }
    for (const { table, block } of parts) this.#count(table, block, bytesOf(block))
    this.#notes.put(notes)
    this.#accept()
    return 'ok'
  }

  notes(prefix: string): Iterable<Note> {
    return this.#notes.entries(prefix)
  }

  forget(key: string): void {
    this.#notes.forget(key)
  }

  shouldSeal(nowMs: number): boolean {
    const segment = this.#current
    if (segment === null || segment.blocks === 0) return false
    const { segmentBytesMax, segmentRowsMax, segmentAgeMsMax } = this.#limits
    if (segment.bytes >= segmentBytesMax || segment.rows >= segmentRowsMax) return true
    const factor = nowMs - this.#segments.lastAckMs < TAKING_MS ? 1 : this.#ageFactor
    // A clock that went back would keep the segment open for as long as it went.
    return nowMs - segment.openedMs >= segmentAgeMsMax * factor || nowMs < segment.openedMs
  }

  /** Few long segments are a smaller backlog than many short ones. */
  get #ageFactor(): number {
    return Math.min(AGE_FACTOR_MAX, 1 + Math.floor(this.#segments.shortestBacklog / BACKLOG_STEP))
  }

  seal(rollups: readonly { readonly table: JournalTable; readonly block: NativeBlock }[] = []): JournalState {
    const segment = this.#current
    if (segment === null || segment.blocks === 0) return this.state
    const nowMs = this.#clock.now()
    const mark = segment.mark()
    let recovered = this.#rollupsLost
    try {
      if (!recovered) for (const { table, block } of rollups) segment.append(table, block, nowMs)
      segment.appendSeal(nowMs, recovered)
      if (!recovered) for (const { table, block } of rollups) this.#count(table, block, bytesOf(block))
    } catch (error) {
      segment.rollback(mark)
      recovered = true
      this.#log.warn(
        { segment: segment.id, error },
        'no room for the rollups of a segment: they are computed from its rows',
      )
    }
    const dir = join(this.#root, `sealing-${segmentName(this.#position)}`)
    try {
      this.#files.rename(segment.dir, dir)
    } catch (error) {
      segment.rollback(mark)
      this.#rollupsLost = true
      return this.#refuseDisk(error, 'requests', 0)
    }
    segment.dir = dir
    this.#current = null
    this.#rollupsLost = false
    this.#sealing.add(segment)
    const position = this.#position
    this.#position = { epoch: position.epoch, seq: position.seq + 1 }
    void this.#enqueue(() => this.#finish(segment, position, nowMs, recovered))
    return this.state
  }

  synced(): Promise<void> {
    this.#group ??= this.#enqueue(async () => {
      this.#group = null
      await this.#sync()
    })
    return this.#group
  }

  async settled(): Promise<void> {
    await this.#queue
  }

  reader(sink: string): SegmentReader {
    return this.#segments.reader(sink)
  }

  dismissReader(sink: string): void {
    this.#segments.dismissReader(sink)
  }

  onRoom(listener: () => void): void {
    this.#roomListeners.push(listener)
  }

  onSealed(listener: SealedListener): void {
    this.#segments.onSealed(listener)
  }

  onAcked(listener: AckedListener): void {
    this.#segments.onAcked(listener)
  }

  onReplayed(listener: ReplayedListener): void {
    this.#segments.onReplayed(listener)
  }

  onLost(listener: LostListener): void {
    this.#segments.onLost(listener)
  }

  get sinks(): readonly string[] {
    return [...this.#segments.readers].map(({ sink }) => sink)
  }

  segments(filter: SegmentFilter = {}): Iterable<Segment> {
    return this.#segments.all(filter)
  }

  isAcked(sink: string, id: string): boolean {
    return this.#segments.isAcked(sink, id)
  }

  deadLetter(sink: string, segment: Segment, error: Error): void {
    this.#segments.deadLetter(sink, segment, error)
  }

  backlog(sink: string): Backlog {
    return this.#segments.knownReader(sink)?.backlog() ?? { segments: 0, bytes: 0, rows: 0, oldestMs: null }
  }

  oldestUnacked(sink: string): number | null {
    let oldest = this.backlog(sink).oldestMs
    for (const segment of this.#unsealed())
      oldest = oldest === null ? segment.openedMs : Math.min(oldest, segment.openedMs)
    return oldest
  }

  heldByNode(sink: string): Map<string, number> {
    const held = new Map<string, number>()
    const reader = this.#segments.knownReader(sink)
    if (reader !== undefined) add(held, reader.held)
    for (const segment of this.#unsealed()) {
      for (const { table, nodes } of segment.tables('')) if (isRowTable(table)) add(held, nodes)
    }
    return held
  }

  stats(): JournalStats {
    const { deleted, releasedEarly, damagedFiles, quarantined, lostRows, deadLettered, replayed } =
      this.#segments.counts
    return {
      ...this.#counts,
      segmentsDeleted: deleted,
      segmentsReleasedEarly: releasedEarly,
      filesRecycled: this.#spares.recycled,
      damagedFiles,
      quarantined,
      rowsLost: lostRows,
      deadLettered,
      replayed,
      bytesOnDisk: this.#bytes(),
      segments: this.#segments.size,
    }
  }

  #count(table: JournalTable, block: NativeBlock, bytes: number): void {
    this.#counts.blocks++
    this.#counts.bytesWritten += bytes
    if (isRowTable(table)) this.#counts.rows += block.rows
  }

  #open(nowMs: number): OpenSegment {
    const { segmentId: id } = this
    // An append that failed may have left a segment without a block: it opens with the one that comes now.
    if (this.#current !== null && this.#current.blocks === 0) this.#current.openedMs = nowMs
    this.#current ??= new OpenSegment({
      id,
      dir: join(this.#root, 'current'),
      openedMs: nowMs,
      files: this.#files,
      spares: this.#spares,
    })
    return this.#current
  }

  *#unsealed(): Iterable<OpenSegment> {
    yield* this.#sealing
    if (this.#current !== null && this.#current.blocks > 0) yield this.#current
  }

  #oldestUnsealed(): Position | null {
    let oldest: Position | null = null
    const consider = (position: Position | null) => {
      if (position === null) return
      const older =
        oldest === null ||
        position.epoch < oldest.epoch ||
        (position.epoch === oldest.epoch && position.seq < oldest.seq)
      if (older) oldest = position
    }
    for (const segment of this.#sealing) consider(parseSegmentId(segment.id))
    for (const { position } of this.#stuck.values()) consider(position)
    return oldest
  }

  // Room.

  #bytes(): number {
    let total = this.#segments.bytes + this.#spares.bytes + (this.#current?.allocated ?? 0)
    for (const segment of this.#sealing) total += segment.allocated
    return total
  }

  /** Why a block must wait; null when it fits. Spares go first, then segments that are kept though every sink has them. */
  #whyFull(parts: readonly { readonly table: JournalTable; readonly bytes: number }[]): string | null {
    const { diskBytesMax, backlogAgeMsMax } = this.#limits
    let growth = 0
    for (const { table, bytes } of parts) growth += this.#current?.growth(table, bytes) ?? bytes
    let over = this.#bytes() + growth - diskBytesMax
    if (over > 0) over -= this.#spares.drop()
    if (over > 0) over -= this.#segments.releaseEarly(over)
    // What is released goes to the spares first.
    if (over <= 0 && this.#bytes() + growth > diskBytesMax) this.#spares.drop()
    // One block always fits, or a bound below the size of a block would stop everything for ever.
    if (over > 0 && !this.#empty) return `the journal has ${this.#bytes()} of ${diskBytesMax} bytes`
    const oldestMs = backlogAgeMsMax === undefined ? null : this.#segments.oldestMs
    if (oldestMs !== null && this.#clock.now() - oldestMs > backlogAgeMsMax!) {
      return `the oldest row waits for longer than ${backlogAgeMsMax} ms`
    }
    return null
  }

  get #empty(): boolean {
    return (
      this.#segments.size === 0 && this.#sealing.size === 0 && (this.#current === null || this.#current.blocks === 0)
    )
  }

  #refuse(refusal: Refusal): JournalState {
    if (this.#refusal?.state !== refusal.state) {
      this.#log.warn(
        { state: refusal.state, reason: refusal.reason },
        'the journal takes no rows: receivers stop reading',
      )
    }
    this.#refusal = refusal
    if (refusal.state === 'full') this.#counts.refusedFull++
    else this.#counts.refusedDisk++
    return refusal.state
  }

  #refuseDisk(error: unknown, table: JournalTable, bytes: number): JournalState {
    if (!(error instanceof Error) || !('code' in error)) throw error
    const state = isDiskFull(error) ? 'disk_full' : 'disk_error'
    this.#giveBack(bytes)
    return this.#refuse({ state, reason: error.message, table, bytes })
  }

  /** Returns to the disk what is here for convenience alone. */
  #giveBack(bytes: number): void {
    this.#segments.releaseEarly(bytes)
    this.#spares.drop()
  }

  #accept(): void {
    if (this.#refusal === null) return
    this.#log.info({ was: this.#refusal.state }, 'the journal takes rows again')
    this.#refusal = null
  }

  /** Tries whether the refused block would fit by now, and says so. */
  #lookForRoom(): void {
    const refusal = this.#refusal
    if (refusal === null || this.#stopped !== null) return
    const { table, bytes, state } = refusal
    if (this.#whyFull([{ table, bytes }]) !== null) return
    if (state !== 'full') {
      this.#giveBack(bytes)
      try {
        this.#open(this.#clock.now()).reserve(table, bytes)
      } catch {
        return
      }
    }
    this.#accept()
    for (const listener of this.#roomListeners) listener()
  }

  // The disk.

  #enqueue(work: () => Promise<void>): Promise<void> {
    const result = this.#queue.then(work)
    this.#queue = result.catch(() => {})
    return result
  }

  async #sync(): Promise<void> {
    if (this.#current !== null && this.#current.blocks > 0 && this.#current.dirty)
      await this.#syncSegment(this.#current)
    for (const segment of this.#sealing) if (segment.dirty) await this.#syncSegment(segment)
    this.#syncedMs = this.#clock.now()
    const error = this.#syncError
    this.#syncError = null
    if (error !== null) throw new SidecastError('SC4104', 'rows could not be written to the disk', { cause: error })
  }

  /** Never rejects: an error is kept for whoever waits in `synced`. */
  async #syncSegment(segment: OpenSegment): Promise<void> {
    const begin = performance.now()
    try {
      await segment.sync(this.#root)
    } catch (error) {
      this.#syncError = error
      this.#counts.syncFailures++
      this.#log.error({ segment: segment.id, error }, 'fsync failed: rows are safe from a crash of the process alone')
    }
    this.#counts.syncs++
    this.#counts.syncSeconds += (performance.now() - begin) / 1000
  }

  /** Brings a sealed segment to the disk under its final name and publishes it. Never rejects. */
  async #finish(segment: OpenSegment, position: Position, sealedMs: number, recovered: boolean): Promise<void> {
    const target = join(this.#root, segmentName(position))
    const from = segment.dir
    const bytes = segment.allocated
    try {
      try {
        segment.finish()
        await this.#syncSegment(segment)
      } finally {
        segment.close()
      }
      this.#files.rename(from, target)
    } catch (error) {
      this.#log.warn({ segment: segment.id, error }, 'a segment could not be sealed; trying again')
      this.#stuck.set(from, { position, sealed: false, retryMs: this.#clock.now() + RESCUE_RETRY_MS })
      this.#sealing.delete(segment)
      return
    }
    await this.#files.syncDirectory(this.#root).catch((error: unknown) => {
      this.#syncError = error
      this.#counts.syncFailures++
    })
    const tables = segment.tables(target)
    await this.#notes.save(segment.id, segment.notes)
    this.#sealing.delete(segment)
    this.#publish({
      id: segment.id,
      openedMs: segment.openedMs,
      sealedMs,
      recovered,
      tables,
      bytes: Math.min(bytes, segment.allocated),
      notes: [],
    })
  }

  #publish(found: FoundSegment): void {
    this.#counts.segmentsSealed++
    this.#segments.publish(found, true)
  }

  // What happens by itself.

  async #tickUntilStopped(): Promise<void> {
    const { signal } = this.#stopping
    let tick = 0
    while (!signal.aborted) {
      await this.#clock.sleep(TICK_MS, signal)
      if (signal.aborted) return
      if (tick++ % REPLAY_TICKS === 0) await this.#segments.replay(replayRequests(this.#root))
      this.#segments.reap()
      for (const reader of this.#segments.readers) await reader.retrySave()
      this.#retryStuck()
      if (this.#notes.waiting) void this.#enqueue(async () => void (await this.#notes.retry()))
      this.#syncOld()
      this.#lookForRoom()
    }
  }

  /** A segment that is kept open for longer than the limit is synced at the limit all the same. */
  #syncOld(): void {
    const nowMs = this.#clock.now()
    const current = this.#current
    if (current === null || !current.dirty || nowMs - current.openedMs < this.#limits.segmentAgeMsMax) return
    if (nowMs - this.#syncedMs >= this.#limits.segmentAgeMsMax) this.synced().catch(() => {})
  }

  #retryStuck(): void {
    const nowMs = this.#clock.now()
    for (const [dir, stuck] of this.#stuck) {
      if (stuck.retryMs > nowMs) continue
      stuck.retryMs = nowMs + RESCUE_RETRY_MS
      void this.#enqueue(() => this.#rescue(dir, stuck.sealed))
    }
  }

  async #rescue(dir: string, sealed: boolean): Promise<void> {
    try {
      const options = { dir, root: this.#root, sealed, nowMs: this.#clock.now(), files: this.#files, ...this.#rollupOf }
      const rescue = await rescueSegment(options)
      this.#stuck.delete(dir)
      this.#segments.report(rescue)
      if (rescue.segment === null) return
      await this.#notes.save(rescue.segment.id, new Map(rescue.segment.notes))
      this.#publish(rescue.segment)
    } catch (error) {
      this.#log.warn({ dir, error }, 'a segment still cannot be sealed; trying again')
    }
  }
}

function add(into: Map<string, number>, from: ReadonlyMap<string, number>): void {
  for (const [key, count] of from) into.set(key, (into.get(key) ?? 0) + count)
}
