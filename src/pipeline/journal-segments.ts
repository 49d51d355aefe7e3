import { join } from 'node:path'
import type { Clock } from '../lib/clock.ts'
import type { Log } from '../telemetry/log.ts'
import { readCursor } from './cursor.ts'
import { folderBytes, keepDeadLetter, pruneOldest } from './journal-aside.ts'
import { isDiskFull, type JournalFiles } from './journal-files.ts'
import { comparePositions, isRowTable, type Position, parseSegmentId, segmentName } from './journal-format.ts'
import { type AckOutcome, type Entry, JournalReader, type ReaderHost, type SegmentReader } from './journal-reader.ts'
import {
  checkSegment,
  type Damage,
  type FoundSegment,
  type Rescue,
  readSealed,
  rescueSegment,
} from './journal-recovery.ts'
import type { ReplayRequest } from './journal-replay.ts'
import type { Spares } from './journal-spares.ts'
import type { Segment } from './segment.ts'

export interface SegmentsOptions {
  /** Folder of the worker's journal. */
  readonly root: string
  readonly worker: number
  readonly keepAfterAckMs: number
  /** Of `quarantine`, and of each sink's `dead-letter`. */
  readonly asideBytesMax: number
  readonly files: JournalFiles
  readonly spares: Spares
  readonly clock: Clock
  readonly log: Log
  /** The oldest segment on disk that is not sealed. */
  readonly oldestUnsealed: () => Position | null
  /** Whether everything beside the rows of a segment is saved elsewhere. */
  readonly mayDelete: (id: string) => boolean
  /** Files were deleted: there may be room. */
  readonly onFreed: () => void
}

export interface SegmentFilter {
  readonly after?: Position
  /** Those that this sink has and that are still kept. */
  readonly ackedBy?: string
}

export type SealedListener = (segment: Segment) => void
/** Rows by node that damage took from a segment; null when not even the segment's id is known. */
export type LostListener = (segment: string | null, nodes: ReadonlyMap<string, number>) => void
/** What the sink had refused is in the journal again, for it alone. */
export type ReplayedListener = (sink: string, segment: Segment) => void
export type AckedListener = (sink: string, segment: Segment, outcome: AckOutcome) => void

/**
 * Life of a sealed segment:
 *
 *   published ─► waiting for sinks ─► acknowledged by all ─► kept for a while ─► files to the spares, or deleted
 *                      ▲                                          │
 *                      └───────────────── rewind ─────────────────┘
 */
export class SealedSegments implements ReaderHost {
  readonly #options: SegmentsOptions
  readonly #entries = new Map<string, Entry>()
  readonly #readers = new Map<string, JournalReader>()
  /** Acknowledged by all, in that order. */
  #kept: Entry[] = []
  /** Rows by node of what was found at the start, until the readers are known. */
  readonly #startNodes = new PackedNodes()
  /** Manifests of the few segments that are being worked on. */
  readonly #manifests = new Map<string, Segment>()
  readonly #checks = new Map<Entry, Promise<void>>()
  #deletions: Promise<void> = Promise.resolve()
  #started = false
  #bytes = 0
  #asideBytes = 0
  readonly #sealedListeners: SealedListener[] = []
  readonly #ackedListeners: AckedListener[] = []
  readonly #lostListeners: LostListener[] = []
  readonly #replayedListeners: ReplayedListener[] = []
  readonly counts = {
    deleted: 0,
    releasedEarly: 0,
    damagedFiles: 0,
    quarantined: 0,
    lostRows: 0,
    deadLettered: 0,
    replayed: 0,
  }

  constructor(options: SegmentsOptions) {
    this.#options = options
    this.#measureAside()
  }

  /** Bytes of sealed segments and of what was set aside. */
  get bytes(): number {
    return this.#bytes + this.#asideBytes
  }

  get size(): number {
    return this.#entries.size
  }

  onSealed(listener: SealedListener): void {
    this.#sealedListeners.push(listener)
  }

  onAcked(listener: AckedListener): void {
    this.#ackedListeners.push(listener)
  }

  onReplayed(listener: ReplayedListener): void {
    this.#replayedListeners.push(listener)
  }

  /** Called before the segment shrinks, so that listeners can still ask who had it. */
  onLost(listener: LostListener): void {
    this.#lostListeners.push(listener)
  }

  /** Segments on disk, oldest first, with their manifests, which are read only for those that are asked for. */
  *all({ after, ackedBy }: SegmentFilter): Iterable<Segment> {
    for (const entry of this.#ordered()) {
      if (after !== undefined && comparePositions(entry.position, after) <= 0) continue
      if (ackedBy !== undefined && (entry.waiting.has(ackedBy) || !this.#readers.has(ackedBy))) continue
      const segment = this.#manifest(entry)
      if (segment !== null) yield segment
    }
  }

  reader(sink: string): SegmentReader {
    const known = this.#readers.get(sink)
    if (known !== undefined) return known
    const { root, files, log } = this.#options
    const path = join(root, 'cursors', sink)
    const { cursor, damaged } = readCursor(path)
    if (damaged) log.warn({ sink, file: path }, 'the cursor is damaged: the sink sees every segment on disk again')
    const reader = new JournalReader({ sink, cursor, path, files, host: this })
    for (const entry of this.#ordered()) reader.offer(entry, this.nodesOf(entry))
    this.#readers.set(sink, reader)
    return reader
  }

  /** Nothing waits for the sink any more. */
  dismissReader(sink: string): void {
    this.#readers.get(sink)?.stop()
    if (!this.#readers.delete(sink)) return
    for (const entry of this.#ordered()) if (entry.waiting.delete(sink)) this.#keepIfAcked(entry)
  }

  /** Whether the sink has acknowledged a segment, on disk still or not. */
  isAcked(sink: string, id: string): boolean {
    const entry = this.#entries.get(id)
    if (entry !== undefined) return !entry.waiting.has(sink)
    const position = parseSegmentId(id)
    return position !== null && (this.#readers.get(sink)?.covers(position) ?? false)
  }

  /** The reader that was asked for under this name before. */
  knownReader(sink: string): JournalReader | undefined {
    return this.#readers.get(sink)
  }

  get readers(): Iterable<JournalReader> {
    return this.#readers.values()
  }

  /** Segments that the sink nearest to the end has yet to take. */
  get shortestBacklog(): number {
    let shortest = Number.POSITIVE_INFINITY
    for (const { backlogSegments } of this.#readers.values()) shortest = Math.min(shortest, backlogSegments)
    return Number.isFinite(shortest) ? shortest : this.#entries.size
  }

  /** Wall clock, ms, of the last acknowledgement of any sink; 0 before. */
  lastAckMs = 0

  /** Arrival of the oldest row that some sink waits for. */
  get oldestMs(): number | null {
    let oldest: number | null = null
    for (const reader of this.#readers.values()) {
      const { oldestMs } = reader.backlog()
      if (oldestMs !== null) oldest = oldest === null ? oldestMs : Math.min(oldest, oldestMs)
    }
    return oldest
  }

  /** Adds a sealed segment. `checked`: its blocks were just written, or compared with their CRCs. */
  publish(found: FoundSegment, checked: boolean): void {
    const { entry, segment, nodes } = this.#enter(found, checked)
    if (!this.#started) this.#startNodes.set(entry, nodes)
    for (const reader of this.#readers.values()) reader.offer(entry, nodes)
    for (const listener of this.#sealedListeners) listener(segment)
    if (this.#started) this.#keepIfAcked(entry)
  }

  /**
   * Brings dead letters back that were asked for. A crash in the middle leaves the request where it is, and the next
   * start goes on; nothing is sent to any other sink. Never rejects.
   */
  async replay(requests: readonly ReplayRequest[]): Promise<void> {
    for (const request of requests) {
      const reader = this.#readers.get(request.sink)
      if (reader === undefined) continue
      try {
        await this.#replayOne(request, reader)
      } catch (error) {
        this.#options.log.warn({ ...request, error }, 'a dead letter cannot be sent again; trying again')
      }
    }
    if (requests.length > 0) this.#measureAside()
  }

  async #replayOne(request: ReplayRequest, reader: JournalReader): Promise<void> {
    const { root, files, log } = this.#options
    const { sink, id, path } = request
    if (readSealed(path, id) === null) {
      log.error({ ...request }, 'what was asked to be sent again is not a whole segment: it stays a dead letter')
      files.mkdir(join(root, 'dead-letter', sink))
      files.rename(path, join(root, 'dead-letter', sink, id))
      return
    }
    const position = parseSegmentId(id)!
    // First: a segment that every cursor covers would be deleted by the next start.
    await reader.uncover(position)
    const known = this.#entries.get(id)
    if (known === undefined) {
      const target = join(root, segmentName(position))
      files.remove(join(path, 'reason.json'))
      files.rename(path, target)
      await files.syncDirectory(root)
      const { entry } = this.#enter(readSealed(target, id)!, false)
      entry.linked = true
    } else {
      known.ackedMs = null
      await files.discard(path)
    }
    const entry = this.#entries.get(id)!
    const nodes = this.nodesOf(entry)
    for (const other of this.#readers.values()) other.offer(entry, nodes)
    this.counts.replayed++
    const segment = this.#manifest(entry)
    if (segment !== null) for (const listener of this.#replayedListeners) listener(sink, segment)
    log.info({ sink, segment: id, rows: entry.rows }, 'a dead letter is sent again')
  }

  #enter(found: FoundSegment, checked: boolean): { entry: Entry; segment: Segment; nodes: Map<string, number> } {
    const entry: Entry = {
      position: parseSegmentId(found.id)!,
      name: segmentName(parseSegmentId(found.id)!),
      id: found.id,
      openedMs: found.openedMs,
      sealedMs: found.sealedMs,
      rows: rowsOf(found),
      bytes: found.bytes,
      recovered: found.recovered,
      waiting: new Set(),
      ackedMs: null,
      holds: 0,
      linked: false,
      checkedMs: checked ? this.now() : 0,
      retryMs: 0,
      dead: false,
    }
    this.#entries.set(entry.id, entry)
    this.#bytes += entry.bytes
    const segment = this.#remember(entry, found)
    return { entry, segment, nodes: nodesOfTables(segment) }
  }

  /** From here on segments are deleted. Readers are known by now. */
  start(): void {
    this.#started = true
    this.#startNodes.clear()
    for (const entry of this.#ordered()) this.#keepIfAcked(entry)
  }

  /** Deletes what was kept long enough. */
  reap(): void {
    const until = this.now() - this.#options.keepAfterAckMs
    this.#release((entry) => entry.ackedMs! <= until)
  }

  /** Deletes kept segments before their time, oldest acknowledgement first, until `bytes` are free. Returns how many were. */
  releaseEarly(bytes: number): number {
    let freed = 0
    const before = this.counts.deleted
    this.#release((entry) => {
      if (freed >= bytes) return false
      freed += entry.bytes
      return true
    })
    this.counts.releasedEarly += this.counts.deleted - before
    return freed
  }

  /** Waits for deletions that are under way. */
  async settled(): Promise<void> {
    await this.#deletions
  }

  stop(): void {
    for (const reader of this.#readers.values()) reader.stop()
  }

  /** Keeps the files of a segment that a sink refuses. Throws when the disk does not let it. */
  deadLetter(sink: string, segment: Segment, error: Error): void {
    const { root, files, asideBytesMax, log } = this.#options
    const dir = join(root, 'dead-letter', sink)
    const entry = this.#entries.get(segment.id)
    if (entry !== undefined) entry.linked = true
    keepDeadLetter(dir, segment, { sink, error: error.message, atMs: this.now() }, files)
    this.counts.deadLettered++
    const gone = pruneOldest(dir, asideBytesMax, files)
    if (gone.length > 0) log.warn({ sink, segments: gone.length }, 'dead letters were deleted: their folder is full')
    this.#measureAside()
  }

  /** Reports what a rescue found. */
  report(rescue: Rescue): void {
    const { damage, quarantine, lostNodes, id } = rescue
    if (lostNodes.size > 0) for (const listener of this.#lostListeners) listener(id, lostNodes)
    if (damage.length === 0 && quarantine === null) return
    let rows = 0
    for (const lost of lostNodes.values()) rows += lost
    this.counts.damagedFiles += new Set(damage.map(({ file }) => file)).size
    this.counts.lostRows += rows
    if (quarantine !== null) this.counts.quarantined++
    const { log, root, files, asideBytesMax } = this.#options
    log.error(
      {
        code: 'SC3101',
        quarantine,
        rowsLost: rows,
        damage: damage.slice(0, DAMAGE_LOGGED).map(describe),
        places: damage.length,
      },
      'a journal file is damaged: sound blocks were kept, the original was set aside',
    )
    const gone = pruneOldest(join(root, 'quarantine'), asideBytesMax, files)
    if (gone.length > 0) log.warn({ folders: gone.length }, 'quarantined files were deleted: their folder is full')
    this.#measureAside()
  }

  now(): number {
    return this.#options.clock.now()
  }

  sleep(ms: number, signal: AbortSignal): Promise<void> {
    return this.#options.clock.sleep(ms, signal)
  }

  oldestUnsealed(): Position | null {
    return this.#options.oldestUnsealed()
  }

  entry(id: string): Entry | undefined {
    return this.#entries.get(id)
  }

  entries(): Iterable<Entry> {
    return this.#entries.values()
  }

  nodesOf(entry: Entry): ReadonlyMap<string, number> {
    const packed = this.#startNodes.get(entry)
    if (packed !== null) return packed
    const segment = this.#manifest(entry)
    return segment === null ? new Map() : nodesOfTables(segment)
  }

  async load(entry: Entry): Promise<Segment | null> {
    if (this.now() - entry.checkedMs > CHECK_AFTER_MS) {
      let check = this.#checks.get(entry)
      if (check === undefined) {
        check = this.#check(entry).finally(() => this.#checks.delete(entry))
        this.#checks.set(entry, check)
      }
      await check
    }
    return entry.dead || entry.retryMs > this.now() ? null : this.#manifest(entry)
  }

  acknowledged(sink: string, entry: Entry, segment: Segment, outcome: AckOutcome, first: boolean): void {
    this.lastAckMs = this.now()
    if (first) for (const listener of this.#ackedListeners) listener(sink, segment, outcome)
    this.#keepIfAcked(entry)
    if (this.#options.keepAfterAckMs === 0) this.reap()
  }

  #keepIfAcked(entry: Entry): void {
    if (entry.waiting.size > 0 || entry.dead || this.#readers.size === 0 || entry.ackedMs !== null) return
    entry.ackedMs = this.now()
    this.#kept.push(entry)
  }

  /** Deletes kept segments from the front as long as `due` says so; those that a statement may read stay. */
  #release(due: (entry: Entry) => boolean): void {
    if (!this.#started) return
    const stay: Entry[] = []
    let going = true
    for (const entry of this.#kept) {
      if (entry.dead || entry.ackedMs === null) continue
      const held = entry.holds > 0 || !this.#options.mayDelete(entry.id)
      going &&= held || due(entry)
      if (going && !held) this.#delete(entry)
      else stay.push(entry)
    }
    this.#kept = stay
  }

  #delete(entry: Entry): void {
    const { root, files, spares, onFreed, log } = this.#options
    const manifest = this.#manifest(entry)
    entry.dead = true
    this.#entries.delete(entry.id)
    this.#manifests.delete(entry.id)
    this.#bytes -= entry.bytes
    this.counts.deleted++
    const trash = join(root, `trash-${entry.name}`)
    try {
      // Away from the name of a segment first: a half-deleted one must not look like a damaged one.
      files.rename(join(root, entry.name), trash)
      for (const { table, bytes } of entry.linked ? [] : (manifest?.tables ?? [])) {
        spares.give(join(trash, `${table}.seg`), bytes)
      }
    } catch (error) {
      log.warn({ segment: entry.id, error }, 'a segment that every sink has cannot be deleted')
      return
    }
    const deletion = files.discard(trash).catch((error: unknown) => {
      log.warn({ segment: entry.id, error }, 'files of a deleted segment stay until the next start')
    })
    this.#deletions = Promise.all([this.#deletions, deletion.then(onFreed)]).then(() => {})
  }

  /** Compares the blocks with their CRCs, and saves what is sound when one does not hold. */
  async #check(entry: Entry): Promise<void> {
    const { root, files, log } = this.#options
    const dir = join(root, entry.name)
    try {
      const { damage, tailBytes } = await checkSegment(dir)
      if (damage.length === 0 && tailBytes === 0 && readSealed(dir, entry.id) !== null) {
        entry.checkedMs = this.now()
        return
      }
      const before = this.nodesOf(entry)
      const rescue = await rescueSegment({ dir, root, sealed: true, nowMs: this.now(), files })
      this.report(rescue)
      this.#replace(entry, before, rescue.segment)
    } catch (error) {
      entry.retryMs = this.now() + CHECK_RETRY_MS
      const message = isDiskFull(error)
        ? 'no room to save a damaged segment; trying again'
        : 'a segment cannot be read; trying again'
      log.warn({ segment: entry.id, error }, message)
    }
  }

  #replace(entry: Entry, before: ReadonlyMap<string, number>, found: FoundSegment | null): void {
    this.#manifests.delete(entry.id)
    this.#startNodes.delete(entry)
    this.#bytes += (found?.bytes ?? 0) - entry.bytes
    entry.checkedMs = this.now()
    if (found === null) {
      entry.dead = true
      this.#entries.delete(entry.id)
    } else {
      entry.bytes = found.bytes
      entry.rows = rowsOf(found)
      entry.recovered = found.recovered
      this.#remember(entry, found)
    }
    const after = found === null ? new Map<string, number>() : this.nodesOf(entry)
    for (const reader of this.#readers.values()) reader.replace(before, after, entry)
  }

  #manifest(entry: Entry): Segment | null {
    const known = this.#manifests.get(entry.id)
    if (known !== undefined) return known
    const found = readSealed(join(this.#options.root, entry.name), entry.id)
    return found === null ? null : this.#remember(entry, found)
  }

  #remember(entry: Entry, found: FoundSegment): Segment {
    const segment: Segment = {
      id: entry.id,
      worker: this.#options.worker,
      epoch: entry.position.epoch,
      seq: entry.position.seq,
      openedMs: found.openedMs,
      sealedMs: found.sealedMs,
      tables: found.tables,
      recovered: found.recovered,
      hold: () => hold(entry),
    }
    this.#manifests.set(entry.id, segment)
    if (this.#manifests.size > MANIFESTS_MAX) {
      for (const id of this.#manifests.keys()) {
        this.#manifests.delete(id)
        break
      }
    }
    return segment
  }

  #ordered(): Entry[] {
    return [...this.#entries.values()].sort((a, b) => comparePositions(a.position, b.position))
  }

  #measureAside(): void {
    const { root } = this.#options
    this.#asideBytes = ['quarantine', 'dead-letter', 'replay'].reduce(
      (sum, dir) => sum + folderBytes(join(root, dir)),
      0,
    )
  }
}

/** Rows by node of many segments, 8 bytes for each node of each, names once. */
class PackedNodes {
  readonly #names: string[] = []
  readonly #numbers = new Map<string, number>()
  readonly #packed = new Map<Entry, Uint32Array>()

  set(entry: Entry, nodes: ReadonlyMap<string, number>): void {
    const packed = new Uint32Array(nodes.size * 2)
    let at = 0
    for (const [name, rows] of nodes) {
      let number = this.#numbers.get(name)
      if (number === undefined) {
        number = this.#names.push(name) - 1
        this.#numbers.set(name, number)
      }
      packed[at++] = number
      packed[at++] = rows
    }
    this.#packed.set(entry, packed)
  }

  get(entry: Entry): Map<string, number> | null {
    const packed = this.#packed.get(entry)
    if (packed === undefined) return null
    const nodes = new Map<string, number>()
    for (let at = 0; at < packed.length; at += 2) nodes.set(this.#names[packed[at]!]!, packed[at + 1]!)
    return nodes
  }

  delete(entry: Entry): void {
    this.#packed.delete(entry)
  }

  clear(): void {
    this.#packed.clear()
    this.#numbers.clear()
    this.#names.length = 0
  }
}

/** A manifest is small, but has an entry for every node: thousands of segments times thousands of nodes are not. */
const MANIFESTS_MAX = 64
/** What waited longer may have left the page cache, and is compared with its CRCs before it goes out. */
const CHECK_AFTER_MS = 60_000
const CHECK_RETRY_MS = 5000
const DAMAGE_LOGGED = 8

function hold(entry: Entry): () => void {
  entry.holds++
  let held = true
  return () => {
    if (held) entry.holds--
    held = false
  }
}

const describe = ({ file, offset, bytes, rows, reason }: Damage): string =>
  `${file} at ${offset}: ${reason}, ${bytes} bytes, ${rows} rows`

const rowsOf = (found: FoundSegment): number =>
  found.tables.reduce((sum, { table, rows }) => sum + (isRowTable(table) ? rows : 0), 0)

/** Rows by node over the row tables of a segment. */
export function nodesOfTables({ tables }: Pick<Segment, 'tables'>): Map<string, number> {
  const nodes = new Map<string, number>()
  for (const table of tables) {
    if (!isRowTable(table.table)) continue
    for (const [node, rows] of table.nodes) nodes.set(node, (nodes.get(node) ?? 0) + rows)
  }
  return nodes
}
