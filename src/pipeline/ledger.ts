import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../lib/clock.ts'
import type { NativeBlock } from '../model/batch.ts'
import type { RowTable } from '../model/schema.ts'
import type { Log } from '../telemetry/log.ts'
import type { Journal } from './journal.ts'
import { type JournalFiles, realFiles, replaceFile } from './journal-files.ts'
import {
  comparePositions,
  isRowTable,
  type Position,
  parseSegmentId,
  parseSegmentName,
  segmentName,
} from './journal-format.ts'
import type { AckOutcome } from './journal-reader.ts'
import { NodeCounts, type SavedNode } from './ledger-node.ts'
import { isSavedServed, type SavedServed, type ServedNode } from './ledger-served.ts'
import type { Segment } from './segment.ts'
import type { Stage } from './sink.ts'

/**
 * What became of every entry, by node and by adapter.
 *
 *   received = decoded + rejected                          arrived here, from the wire
 *   decoded  = waiting + journaled                         waiting: in memory for 50 ms at most, or while the journal is full
 *   journaled = held + delivered + refused + lost          for each durable adapter
 *
 * `journaled` is counted at the append, `held` is the sum of the manifests, the others are counted when they happen: that
 * they add up is a finding, not a definition. `unexplained` is what does not.
 *
 * Over a restart: what segments brought is saved with the last segment it includes; what was sealed later is found on
 * disk and added. Delivered is then what is neither held nor refused nor lost. Of entries that were rejected, at most
 * the last `SAVE_MS` before a crash are forgotten.
 */
export interface Ledger extends Stage {
  /** After every message: entries of this node that became rows, and that could not be read. */
  arrived(node: string, decoded: number, rejected: number): void
  /** A block was appended to the journal. */
  journaled(table: RowTable, block: NativeBlock): void
  /** Rows that were decoded and will never be journaled. */
  dropped(reason: string, rows: number): void
  /**
   * Compares with what the store holds by node: rows of segments that were sealed, stored and deleted within the last
   * moments before a crash are known to nobody else. Only ever adds: rows expire in the store. Call it once, at a start.
   */
  reconcile(storedByNode: ReadonlyMap<string, number>): void
  /** What Envoy's counters say is told by this from now on, and saved with the rest. Once, before `start`. */
  follow(served: ServedSource): void
  /** Rows of requests that the journal ever got of a node, those of attempts and progress, entries that could not be read. */
  countsOf(node: string): { readonly requests: number; readonly others: number; readonly rejected: number }
  nodes(): NodeLedger[]
  adapters(): AdapterLedger[]
  /** Rows journaled, by table, since `since`. */
  tables(): Record<RowTable, number>
  /** Wall clock, ms, of the first start; null when nothing has arrived since. */
  since(): number | null
  /** Rows dropped, by reason, since the process started. */
  readonly drops: ReadonlyMap<string, number>
}

/** What Envoy says of its nodes: `ServedLedger`, as far as it matters here. */
export interface ServedSource {
  of(node: string): ServedNode | null
  names(): string[]
  save(): SavedServed[]
  restore(saved: readonly SavedServed[]): void
}

/** Names as in the API. Figures that only Envoy's own counters can give are null where no stats of the node come. */
export interface NodeLedger {
  readonly node: string
  readonly served: number | null
  readonly written: number | null
  readonly dropped_by_envoy: number | null
  readonly received: number
  readonly decoded: number
  readonly rejected: number
  readonly stored: number
  /** Here and not yet in the store: in the journal, or on the way into it. */
  readonly in_journal: number
  readonly delivered: Record<string, number>
  /** Served and never to be logged; null where nothing says so. */
  readonly filtered: number | null
  readonly sampled: boolean
  readonly lost: number | null
  /** Differences without a reason: decoded − stored − in_journal, and of what Envoy served. */
  readonly unexplained: number
  /** The source that counts, and the way the stats come; null where none do. */
  readonly source: string | null
  readonly stats: string | null
}

/** received = delivered + rejected + dropped + held. */
export interface AdapterLedger {
  readonly adapter: string
  readonly received: number
  readonly delivered: number
  readonly rejected: number
  readonly dropped: number
  readonly held: number
}

export interface LedgerOptions {
  readonly journal: Journal
  /** Where `ledger.json` is. */
  readonly dir: string
  readonly clock: Clock
  readonly log: Log
  /** The adapter whose deliveries count as stored. */
  readonly store?: string
  /** Adapters that take every batch in place, when it is journaled. Their counts begin with the process. */
  readonly live?: readonly string[]
  /** Nodes counted apart; what comes of others is counted for the node `overflow`. 300 B each. */
  readonly nodesMax?: number
  readonly files?: JournalFiles
}

export const OVERFLOW_NODE = 'overflow'
const NODES_MAX = 10_000
const SAVE_MS = 5000

export function createLedger(options: LedgerOptions): Ledger {
  return new NodeLedgers(options)
}

interface Saved {
  readonly sinceMs: number
  readonly through: string | null
  readonly nodes: readonly SavedNode[]
  readonly served: readonly SavedServed[]
}

class NodeLedgers implements Ledger {
  readonly name = 'ledger'
  readonly #options: LedgerOptions
  readonly #files: JournalFiles
  readonly #path: string
  readonly #store: string
  readonly #nodesMax: number
  #nodes = new Map<string, NodeCounts>()
  /** The node of the last message: streams send many in a row. */
  #last: { readonly node: string; readonly counts: NodeCounts } | null = null
  readonly drops = new Map<string, number>()
  /** The newest segment whose rows are in the nodes' `settled` counts. */
  #through: Position | null = null
  #sinceMs: number | null = null
  #liveRows = 0
  #served: ServedSource | null = null
  /** Of the file, until somebody asks for it. */
  #savedServed: readonly SavedServed[] = []
  #changed = false
  readonly #stopping = new AbortController()
  #saving: Promise<void> = Promise.resolve()
  #stopped: Promise<void> | null = null

  constructor(options: LedgerOptions) {
    this.#options = options
    this.#files = options.files ?? realFiles
    this.#path = join(options.dir, 'ledger.json')
    this.#store = options.store ?? 'clickhouse'
    this.#nodesMax = options.nodesMax ?? NODES_MAX
    const { journal } = options
    this.#load()
    this.#catchUp()
    journal.onSealed((segment) => this.#sealed(segment))
    journal.onAcked((sink, segment, outcome) => this.#acked(sink, segment, outcome))
    journal.onLost((segment, nodes) => this.#lost(segment, nodes))
    journal.onReplayed((sink, segment) => this.#replayed(sink, segment))
  }

  async start(): Promise<void> {
    this.#saving = this.#saveUntilStopped()
  }

  stop(_deadline: AbortSignal): Promise<void> {
    this.#stopped ??= (async () => {
      this.#stopping.abort()
      await this.#saving
      await this.#options.journal.settled()
      await this.#save()
    })()
    return this.#stopped
  }

  arrived(node: string, decoded: number, rejected: number): void {
    const counts = this.#last?.node === node ? this.#last.counts : this.#counts(node)
    if (this.#last?.node !== node) this.#last = { node, counts }
    counts.decoded += decoded
    counts.rejected += rejected
    this.#sinceMs ??= this.#options.clock.now()
    this.#changed = true
  }

  journaled(table: RowTable, block: NativeBlock): void {
    for (const [node, rows] of block.nodes) this.#counts(node).journaled[table] += rows
    this.#liveRows += block.rows
    this.#sinceMs ??= this.#options.clock.now()
    this.#changed = true
  }

  dropped(reason: string, rows: number): void {
    if (rows > 0) this.drops.set(reason, (this.drops.get(reason) ?? 0) + rows)
  }

  reconcile(storedByNode: ReadonlyMap<string, number>): void {
    const held = this.#held(this.#store)
    let missed = 0
    for (const [node, stored] of this.#folded(storedByNode)) {
      const counts = this.#counts(node)
      // What is held may be stored already, and acknowledged a moment later.
      const more = stored - counts.deliveredTo(this.#store) - (held.get(node) ?? 0)
      if (more <= 0) continue
      counts.addForgotten(more, this.#options.journal.sinks)
      missed += more
    }
    if (missed === 0) return
    this.#sinceMs ??= this.#options.clock.now()
    this.#changed = true
    this.#options.log.info({ rows: missed }, 'the store has rows of segments that the ledger had not seen')
  }

  follow(served: ServedSource): void {
    this.#served = served
    served.restore(this.#savedServed)
  }

  countsOf(node: string): { requests: number; others: number; rejected: number } {
    const counts = this.#nodes.get(node)
    if (counts === undefined) return { requests: 0, others: 0, rejected: 0 }
    const { requests, attempts, progress } = counts.journaled
    return { requests, others: attempts + progress, rejected: counts.rejected }
  }

  nodes(): NodeLedger[] {
    const { journal } = this.#options
    const held = this.#held(this.#store)
    const { sinks } = journal
    const silent = (this.#served?.names() ?? []).filter((name) => !this.#nodes.has(name))
    return [...this.#nodes, ...silent.map((name) => [name, new NodeCounts()] as const)].map(([node, counts]) => {
      const stored = counts.deliveredTo(this.#store)
      const { rows, decoded, rejected } = counts
      const inJournal = (held.get(node) ?? 0) + Math.max(0, decoded - rows)
      const served = this.#served?.of(node) ?? null
      return {
        node,
        served: served?.served ?? null,
        written: served?.written ?? null,
        dropped_by_envoy: served?.droppedByEnvoy ?? null,
        received: decoded + rejected,
        decoded,
        rejected,
        stored,
        in_journal: inJournal,
        delivered: Object.fromEntries(sinks.map((sink) => [sink, counts.deliveredTo(sink)])),
        filtered: served?.filtered ?? null,
        sampled: served?.sampled ?? false,
        lost: served?.lost ?? null,
        unexplained: decoded - stored - inJournal + (served?.unexplained ?? 0),
        source: served?.source ?? null,
        stats: served?.job ?? null,
      }
    })
  }

  adapters(): AdapterLedger[] {
    const durable = this.#options.journal.sinks.map((adapter) => {
      const sum = { received: 0, delivered: 0, rejected: 0, dropped: 0, held: 0 }
      for (const counts of this.#nodes.values()) {
        sum.received += counts.rows
        sum.delivered += counts.deliveredTo(adapter)
        sum.rejected += counts.refusedBy(adapter)
        sum.dropped += counts.lostFor(adapter)
      }
      for (const rows of this.#held(adapter).values()) sum.held += rows
      return { adapter, ...sum }
    })
    const live = (this.#options.live ?? []).map((adapter) => {
      const rows = this.#liveRows
      return { adapter, received: rows, delivered: rows, rejected: 0, dropped: 0, held: 0 }
    })
    return [...durable, ...live]
  }

  tables(): Record<RowTable, number> {
    const sum = { requests: 0, attempts: 0, progress: 0, connections: 0 }
    for (const { journaled } of this.#nodes.values()) {
      for (const table of Object.keys(sum) as RowTable[]) sum[table] += journaled[table]
    }
    return sum
  }

  since(): number | null {
    return this.#sinceMs
  }

  #counts(node: string): NodeCounts {
    const known = this.#nodes.get(node)
    if (known !== undefined) return known
    if (node !== OVERFLOW_NODE && this.#nodes.size >= this.#nodesMax) return this.#counts(OVERFLOW_NODE)
    const counts = new NodeCounts()
    this.#nodes.set(node, counts)
    return counts
  }

  /** The same rows, those of nodes without a count of their own together. */
  #folded(rowsByNode: ReadonlyMap<string, number>): Map<string, number> {
    const folded = new Map<string, number>()
    for (const [node, rows] of rowsByNode) {
      const name = this.#nodes.has(node) || this.#nodes.size < this.#nodesMax ? node : OVERFLOW_NODE
      folded.set(name, (folded.get(name) ?? 0) + rows)
    }
    return folded
  }

  #held(sink: string): Map<string, number> {
    return this.#folded(this.#options.journal.heldByNode(sink))
  }

  #sealed(segment: Segment): void {
    const position = parseSegmentId(segment.id)!
    // A segment of an earlier process, recovered only now, was never counted as journaled by this one.
    const old = position.epoch !== parseSegmentId(this.#options.journal.segmentId)!.epoch
    this.#settle(segment, old)
  }

  #settle(segment: Segment, unseen: boolean): void {
    for (const { table, nodes } of segment.tables) {
      if (!isRowTable(table)) continue
      for (const [node, rows] of nodes) this.#counts(node).settle(table, rows, unseen)
    }
    this.#passed(parseSegmentId(segment.id)!)
  }

  #passed(position: Position): void {
    if (this.#through === null || comparePositions(position, this.#through) > 0) this.#through = position
    this.#changed = true
  }

  #acked(sink: string, segment: Segment, outcome: AckOutcome): void {
    for (const { table, nodes } of segment.tables) {
      if (!isRowTable(table)) continue
      for (const [node, rows] of nodes) this.#counts(node).acked(sink, rows, outcome)
    }
    this.#changed = true
    // Refusals are not found again after a restart: they look like deliveries.
    if (outcome === 'rejected') void this.#save()
  }

  /** What was refused is held again. */
  #replayed(sink: string, segment: Segment): void {
    for (const { table, nodes } of segment.tables) {
      if (!isRowTable(table)) continue
      for (const [node, rows] of nodes) this.#counts(node).replayed(sink, rows)
    }
    this.#changed = true
    void this.#save()
  }

  /** Found while running: the rows were journaled, and the sinks that wait for them will not get them. */
  #lost(segment: string | null, nodes: ReadonlyMap<string, number>): void {
    const { journal } = this.#options
    for (const sink of journal.sinks) {
      if (segment !== null && journal.isAcked(sink, segment)) continue
      for (const [node, rows] of nodes) this.#counts(node).lost(sink, rows)
    }
    this.#changed = true
  }

  #load(): void {
    let text: string
    try {
      text = readFileSync(this.#path, 'utf8')
    } catch {
      return
    }
    const saved = decode(text)
    if (saved === null) {
      this.#options.log.warn(
        { file: this.#path },
        'the saved ledger is damaged: counts begin with what the journal holds',
      )
      return
    }
    this.#sinceMs = saved.sinceMs
    this.#through = saved.through === null ? null : parseSegmentName(saved.through)
    for (const node of saved.nodes) this.#counts(node.node).restore(node)
    this.#savedServed = saved.served
  }

  /** Adds what was sealed after the ledger was saved, and derives what was delivered. */
  #catchUp(): void {
    const { journal } = this.#options
    const through = this.#through
    const isNew = (id: string): boolean => through === null || comparePositions(parseSegmentId(id)!, through) > 0
    for (const segment of journal.segments(through === null ? {} : { after: through })) this.#settle(segment, true)
    for (const { segment, nodes } of journal.recovery.lost) {
      for (const [node, rows] of nodes) {
        const counts = this.#counts(node)
        if (segment === null || isNew(segment)) counts.settle('requests', rows, true)
        for (const sink of journal.sinks) {
          if (segment === null || !journal.isAcked(sink, segment)) counts.lost(sink, rows)
        }
      }
    }
    if (this.#nodes.size > 0) this.#sinceMs ??= this.#options.clock.now()
    for (const sink of journal.sinks) {
      const held = this.#held(sink)
      for (const [node, counts] of this.#nodes) counts.deriveDelivered(sink, held.get(node) ?? 0)
    }
  }

  async #saveUntilStopped(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      if (this.#changed || this.#served !== null) await this.#save()
      await this.#options.clock.sleep(SAVE_MS, signal)
    }
  }

  #writing: Promise<void> = Promise.resolve()

  /** Never rejects: with a full disk the next attempt has more to say. */
  #save(): Promise<void> {
    this.#writing = this.#writing.then(async () => {
      if (this.#sinceMs === null) return
      this.#changed = false
      const saved: Saved = {
        sinceMs: this.#sinceMs,
        through: this.#through === null ? null : segmentName(this.#through),
        nodes: [...this.#nodes].map(([node, counts]) => counts.save(node)),
        served: this.#served?.save() ?? this.#savedServed,
      }
      try {
        await replaceFile(this.#files, this.#path, `${JSON.stringify({ version: 1, ...saved })}\n`)
      } catch (error) {
        this.#changed = true
        this.#options.log.warn({ file: this.#path, error }, 'the ledger cannot be saved; trying again')
      }
    })
    return this.#writing
  }
}

function decode(text: string): Saved | null {
  try {
    const { version, sinceMs, through, nodes, served } = JSON.parse(text) as Record<string, unknown>
    if (version !== 1 || typeof sinceMs !== 'number' || !Array.isArray(nodes)) return null
    if (through !== null && (typeof through !== 'string' || parseSegmentName(through) === null)) return null
    if (!nodes.every(NodeCounts.isSaved)) return null
    return { sinceMs, through, nodes, served: Array.isArray(served) ? served.filter(isSavedServed) : [] }
  } catch {
    return null
  }
}
