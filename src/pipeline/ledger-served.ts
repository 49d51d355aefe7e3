import type { Clock } from '../lib/clock.ts'
import type { Batch, Origin } from '../model/batch.ts'
import { addBatch, NodeRows, SOURCES } from './ledger-rows.ts'
import { type NodeStats, readStats, type StatsSource } from './ledger-stats.ts'
import type { LiveSink } from './sink.ts'

/**
 * What Envoy served and what of it is here, by node and by minute.
 *
 *   served   = finished by Envoy's counters             missing = served − rows
 *   missing  = filtered + rejected + lost               with a logger's counters as evidence of what was to be logged
 *   missing  = unexplained                              without it
 *
 * Counters are of a moment, rows end at another by another clock, and arrive later: an observation is compared after
 * `GRACE_MS`, with the rows that had ended by its moment; what is missing is what was missing at every observation of the
 * last `WINDOW_MS`. So what is on its way is not loss, and what is lost shows within half a minute, exactly once the
 * traffic pauses and to the requests of `EARLY_MS` while it does not.
 *
 * A counter that fell, or a process that began later, is a new life of the proxy: what was missing stays, and the new life
 * is counted from its beginning where the proxy says when that was. What a proxy did after the last stats of a life cannot be
 * known.
 */
export interface ServedLedger extends LiveSink {
  /** Null: no stats of this node have come. */
  of(node: string): ServedNode | null
  /** Sums over all nodes of minutes that begin in `[fromMs, toMs)`; null when no stats came in them. */
  coverage(fromMs: number, toMs: number): ServedCoverage | null
  totals(): ServedTotals
  /** Takes what the metric store has by now, and compares what is due. Called each second. */
  observe(nowMs: number): void
  /** Nodes of which stats have come. */
  names(): string[]
  save(): SavedServed[]
  restore(saved: readonly SavedServed[]): void
}

export interface ServedNode {
  /** The way its stats come. */
  readonly job: string
  /** The source whose rows count; null before the first row. */
  readonly source: Origin['source'] | null
  /** Since the counts count. */
  readonly served: number
  /** Of the loggers of that source, since the proxy's start; null without such. */
  readonly written: number | null
  readonly droppedByEnvoy: number | null
  /** Served and never to be logged; null where nothing says so. */
  readonly filtered: number | null
  /** Whether what is logged is a sample of everything, and not the errors alone. */
  readonly sampled: boolean
  /** Served, to be logged, and not here; null where nothing says what was to be logged and something is missing. */
  readonly lost: number | null
  /** Missing without a reason, or rows that no counter counted. */
  readonly unexplained: number
  /** Lives of the proxy that were seen to end. */
  readonly restarts: number
}

export interface ServedCoverage {
  readonly served: number
  readonly lost: number
  readonly filtered: number
  readonly sampled: boolean
}

export interface ServedTotals {
  readonly nodes: number
  readonly served: number
  readonly filtered: number
  readonly lost: number
  readonly unexplained: number
  readonly nodesWithLoss: number
  readonly restarts: number
}

export interface ServedOptions {
  readonly stats: StatsSource
  /** Rows of `requests` that the journal ever got of a node; of its attempts and progress; entries that could not be read. */
  readonly counts: (node: string) => { readonly requests: number; readonly others: number; readonly rejected: number }
  readonly nodesMax?: number
  readonly clock: Clock
  /** The order of sources of which one counts. */
  readonly sources?: readonly Origin['source'][]
}

export interface SavedServed {
  readonly node: string
  readonly job: string
  readonly earlier: number
  readonly raw: number
  readonly offset: number
  readonly startedMs: number | null
  readonly restarts: number
  /** Rows at the last comparison; by sources that do not count, over all processes; entries rejected before us. */
  readonly rows: number
  readonly secondary: number
  readonly rejected: number
  readonly tcpLogged: boolean
  readonly filtered: number
  readonly base: readonly [http: number, wrote: number, others: number]
}

export function isSavedServed(value: unknown): value is SavedServed {
  if (typeof value !== 'object' || value === null) return false
  const one = value as Record<string, unknown>
  const figures = ['earlier', 'raw', 'offset', 'restarts', 'rows', 'secondary', 'rejected', 'filtered']
  if (!figures.every((name) => Number.isFinite(one[name]))) return false
  if (typeof one.node !== 'string' || typeof one.job !== 'string' || typeof one.tcpLogged !== 'boolean') return false
  if (one.startedMs !== null && !Number.isFinite(one.startedMs)) return false
  return Array.isArray(one.base) && one.base.length === 3 && one.base.every(Number.isFinite)
}

/** Rows come 1 s after their end by default, and at the next flush when a stream had to be opened anew. */
const GRACE_MS = 5000
const OBSERVE_MS = 1000
const WINDOW_MS = 12_000
/** How much later than its time a snapshot may have been taken: rows that ended so much later may count. */
const EARLY_MS = 200
/** How much earlier, as stats wait for their flush: fewer rows than by then must not be asked for. */
const LATE_MS = 1000
/** Uptime is in whole seconds, cut off: a process began by so much earlier, and a bin of rows. */
const UPTIME_MS = 1100
/** The same start, as told at different moments. */
const START_SLACK_MS = 2500
const QUEUE_MAX = 64
const MINUTES_MAX = 7 * 1440
const NODES_MAX = 10_000

export function createServedLedger(options: ServedOptions): ServedLedger {
  return new Served(options)
}

interface Compared {
  readonly timeMs: number
  /** By rows that may have ended by then, and that surely had. */
  readonly least: number
  readonly most: number
}

class Node {
  readonly rows = new NodeRows()
  job = ''
  /** Finished by lives that ended; and by the present one, at the last comparison. */
  earlier = 0
  raw = 0
  /** `served − rows` that is none of our business: before us. */
  offset = 0
  startedMs: number | null = null
  restarts = 0
  /** Compared at least once. */
  known = false
  restored = false
  secondaryBefore = 0
  tcpLogged = false
  lastTcp = 0
  last: NodeStats | null = null
  queue: NodeStats[] = []
  window: Compared[] = []
  /** Rows that had ended by the last comparison. */
  rowsAtLast = 0
  /** Entries that could not be read before the first comparison. */
  rejectedBefore = 0
  /** From when on it is known when rows ended, ms. */
  timedMs = 0
  /** Loggers at the first comparison of this life. */
  base = { http: 0, wrote: 0, others: 0 }
  filteredEarlier = 0
  filtered: number | null = null
  missing = 0
  surplus = 0
}

class Served implements ServedLedger {
  readonly name = 'ledger-served'
  readonly #options: ServedOptions
  readonly #nodes = new Map<string, Node>()
  /** Rows of nodes beyond the bound: compared with nothing. */
  readonly #overflow = new Node()
  readonly #minutes = new Map<number, { served: number; lost: number; filtered: number; sampled: boolean }>()
  readonly #sources: readonly Origin['source'][]
  readonly #nodesMax: number
  /** When this process began to receive, ms since the epoch. */
  readonly #sinceMs: number
  readonly #stopping = new AbortController()
  #watching: Promise<void> = Promise.resolve()

  constructor(options: ServedOptions) {
    this.#options = options
    this.#sources = options.sources ?? SOURCES
    this.#nodesMax = options.nodesMax ?? NODES_MAX
    this.#sinceMs = options.clock.now()
  }

  async start(): Promise<void> {
    this.#watching = this.#watch()
  }

  async stop(_deadline: AbortSignal): Promise<void> {
    this.#stopping.abort()
    await this.#watching
  }

  async #watch(): Promise<void> {
    const { clock } = this.#options
    while (!this.#stopping.signal.aborted) {
      this.observe(clock.now())
      await clock.sleep(OBSERVE_MS, this.#stopping.signal)
    }
  }

  take(batch: Batch): void {
    addBatch(batch, (nodeId) => (this.#node(nodeId) ?? this.#overflow).rows)
  }

  observe(nowMs: number): void {
    for (const stats of readStats(this.#options.stats)) {
      const node = this.#node(stats.node)
      if (node === null) continue
      if (!node.rows.timed) {
        node.rows.timed = true
        node.timedMs = nowMs
      }
      const newest = node.queue.at(-1)?.timeMs ?? node.last?.timeMs ?? node.timedMs
      if (stats.timeMs > newest && node.queue.length < QUEUE_MAX) node.queue.push(stats)
    }
    for (const [name, node] of this.#nodes) {
      while (node.queue.length > 0 && node.queue[0]!.timeMs <= nowMs - GRACE_MS)
        this.#compare(name, node, node.queue.shift()!)
    }
  }

  of(name: string): ServedNode | null {
    const node = this.#nodes.get(name)
    if (node === undefined || !node.known || node.last === null) return null
    const source = node.rows.primary(this.#sources)
    const logger = loggerOf(node.last, source)
    const filtered = node.filtered
    const rejected = Math.min(node.missing, this.#options.counts(name).rejected - node.rejectedBefore)
    const rest = Math.max(0, node.missing - (filtered ?? 0) - rejected)
    return {
      job: node.job,
      source,
      served: node.earlier + node.raw - node.offset,
      written: logger?.written ?? null,
      droppedByEnvoy: logger?.dropped ?? null,
      filtered,
      sampled: (filtered ?? 0) > 0 && this.#successes(node),
      lost: filtered !== null || rest === 0 ? rest : null,
      unexplained: (filtered === null ? rest : 0) + node.surplus,
      restarts: node.restarts,
    }
  }

  totals(): ServedTotals {
    const sum = { nodes: 0, served: 0, filtered: 0, lost: 0, unexplained: 0, nodesWithLoss: 0, restarts: 0 }
    for (const name of this.#nodes.keys()) {
      const node = this.of(name)
      if (node === null) continue
      sum.nodes++
      sum.served += node.served
      sum.filtered += node.filtered ?? 0
      sum.lost += node.lost ?? 0
      sum.unexplained += node.unexplained
      sum.restarts += node.restarts
      if ((node.lost ?? 0) > 0) sum.nodesWithLoss++
    }
    return sum
  }

  coverage(fromMs: number, toMs: number): ServedCoverage | null {
    const sum = { served: 0, lost: 0, filtered: 0, sampled: false }
    let found = false
    for (const [minute, { served, lost, filtered, sampled }] of this.#minutes) {
      const begin = minute * MINUTE_MS
      if (begin < fromMs || begin >= toMs) continue
      found = true
      sum.served += served
      sum.lost += lost
      sum.filtered += filtered
      sum.sampled ||= sampled
    }
    if (!found) return null
    return { ...sum, lost: Math.max(0, sum.lost), filtered: Math.max(0, sum.filtered) }
  }

  names(): string[] {
    return [...this.#nodes].flatMap(([name, { known }]) => (known ? [name] : []))
  }

  save(): SavedServed[] {
    return [...this.#nodes].flatMap(([node, one]) => {
      if (!one.known && !one.restored) return []
      const { job, earlier, raw, offset, startedMs, restarts, rowsAtLast, rejectedBefore, tcpLogged, base } = one
      return [
        {
          node,
          job,
          earlier,
          raw,
          offset,
          startedMs,
          restarts,
          rows: rowsAtLast,
          secondary: this.#secondary(one),
          rejected: rejectedBefore,
          tcpLogged,
          filtered: one.filteredEarlier,
          base: [base.http, base.wrote, base.others],
        },
      ]
    })
  }

  restore(saved: readonly SavedServed[]): void {
    for (const one of saved) {
      const node = this.#node(one.node)
      if (node === null) continue
      node.job = one.job
      node.earlier = one.earlier
      node.raw = one.raw
      node.offset = one.offset
      node.startedMs = one.startedMs
      node.restarts = one.restarts
      node.rowsAtLast = one.rows
      node.secondaryBefore = one.secondary
      node.rejectedBefore = one.rejected
      node.tcpLogged = one.tcpLogged
      node.filteredEarlier = one.filtered
      const [http, wrote, others] = one.base
      node.base = { http, wrote, others }
      node.restored = true
    }
  }

  #node(name: string): Node | null {
    const known = this.#nodes.get(name)
    if (known !== undefined) return known
    if (this.#nodes.size >= this.#nodesMax) return null
    const node = new Node()
    this.#nodes.set(name, node)
    return node
  }

  #compare(name: string, node: Node, stats: NodeStats): void {
    const before = this.of(name)
    const source = node.rows.primary(this.#sources)
    const tcpRows = source === null ? 0 : node.rows.bySource.get(source)!.tcp
    if (tcpRows > 0 && !node.tcpLogged) {
      // Connections before the first row of one were not to be logged, as far as can be known.
      node.tcpLogged = true
      if (node.known) node.offset += node.lastTcp
    }
    const raw = stats.http + (node.tcpLogged ? stats.tcp : 0)
    if (node.known || node.restored) this.#continue(name, node, stats, raw)
    else this.#begin(name, node, stats, raw)
    node.job = stats.job
    node.raw = raw
    node.lastTcp = stats.tcp
    node.startedMs = stats.startedMs ?? node.startedMs
    node.last = stats
    node.known = true
    node.restored = false
    this.#judge(name, node, stats)
    this.#account(stats.timeMs, before, this.of(name)!)
  }

  /** The first stats of a node: what was before us is no loss of ours. */
  #begin(name: string, node: Node, stats: NodeStats, raw: number): void {
    const whole = stats.startedMs !== null && this.#isFirstLife(name, node, stats.startedMs)
    // Every request of its life should be here.
    if (!whole) node.offset = raw - this.#rowsBy(name, node, stats.timeMs)
    node.rejectedBefore = whole ? 0 : this.#options.counts(name).rejected
    this.#setBase(name, node, stats, whole)
    if (whole) node.base = { ...node.base, others: 0 }
  }

  /** Whether the proxy began after us, and nothing came of it before: no life without stats that nobody can compare. */
  #isFirstLife(name: string, node: Node, startedMs: number): boolean {
    const before = this.#options.counts(name).requests - node.rows.total
    return startedMs >= this.#sinceMs - START_SLACK_MS && node.rows.firstEndMs >= startedMs - UPTIME_MS && before === 0
  }

  #continue(name: string, node: Node, stats: NodeStats, raw: number): void {
    const later =
      stats.startedMs !== null && node.startedMs !== null && stats.startedMs > node.startedMs + START_SLACK_MS
    const changed = node.job !== stats.job
    if (raw >= node.raw && !later && !changed) return
    if (!changed) node.restarts++
    node.filteredEarlier = node.filtered ?? node.filteredEarlier
    const whole = later && !changed
    if (whole) {
      // Between its last stats and its end it served what it logged, as far as can be known.
      const old = this.#rowsBy(name, node, stats.startedMs! - UPTIME_MS) - node.rowsAtLast
      node.earlier += node.raw + Math.max(0, old)
    } else {
      // Another way of counting, or nobody knows when it began: what was missing stays, no more and no less.
      const rows = this.#rowsBy(name, node, stats.timeMs) - node.rowsAtLast
      node.earlier += node.raw + rows - raw
    }
    this.#setBase(name, node, stats, whole)
    node.window = []
  }

  #setBase(name: string, node: Node, stats: NodeStats, whole: boolean): void {
    const { others } = this.#options.counts(name)
    const logger = loggerOf(stats, node.rows.primary(this.#sources))
    const wrote = logger === null ? 0 : logger.written + logger.dropped
    node.base = whole ? { http: 0, wrote: 0, others } : { http: stats.http, wrote, others }
  }

  #judge(name: string, node: Node, stats: NodeStats): void {
    node.rowsAtLast = this.#rowsBy(name, node, stats.timeMs)
    const served = node.earlier + node.raw - node.offset
    const least = served - this.#rowsBy(name, node, stats.timeMs + EARLY_MS)
    const most = served - this.#rowsBy(name, node, stats.timeMs - LATE_MS)
    node.window.push({ timeMs: stats.timeMs, least, most })
    while (node.window.length > 2 && node.window[1]!.timeMs < stats.timeMs - WINDOW_MS) node.window.shift()
    node.missing = Math.max(0, Math.min(...node.window.map((one) => one.least)))
    node.surplus = Math.max(0, -Math.max(...node.window.map((one) => one.most)))
    const logger = loggerOf(stats, node.rows.primary(this.#sources))
    if (logger === null) {
      node.filtered = null
      return
    }
    const { others } = this.#options.counts(name)
    const logged = logger.written + logger.dropped - node.base.wrote - (others - node.base.others)
    const unlogged = Math.max(0, stats.http - node.base.http - logged)
    node.filtered = Math.min(node.missing, node.filteredEarlier + unlogged)
  }

  /** Rows of the source that counts which had ended by this time; all of them, as far back as the journal counts. */
  #rowsBy(name: string, node: Node, timeMs: number): number {
    const source = node.rows.primary(this.#sources)
    const after = source === null ? 0 : node.rows.bySource.get(source)!.after(timeMs)
    return this.#options.counts(name).requests - this.#secondary(node) - after
  }

  #secondary(node: Node): number {
    const primary = node.rows.primary(this.#sources)
    let rows = node.secondaryBefore
    for (const [source, { total }] of node.rows.bySource) if (source !== primary) rows += total
    return rows
  }

  #successes(node: Node): boolean {
    const source = node.rows.primary(this.#sources)
    return source !== null && node.rows.bySource.get(source)!.successes > 0
  }

  #account(timeMs: number, before: ServedNode | null, now: ServedNode): void {
    const key = Math.floor(timeMs / MINUTE_MS)
    let minute = this.#minutes.get(key)
    if (minute === undefined) {
      minute = { served: 0, lost: 0, filtered: 0, sampled: false }
      this.#minutes.set(key, minute)
      if (this.#minutes.size > MINUTES_MAX) this.#minutes.delete(this.#minutes.keys().next().value!)
    }
    minute.served += now.served - (before?.served ?? 0)
    minute.lost += (now.lost ?? 0) - (before?.lost ?? 0)
    minute.filtered += (now.filtered ?? 0) - (before?.filtered ?? 0)
    minute.sampled ||= now.sampled
  }
}

const MINUTE_MS = 60_000
/** The loggers that write to the source. */
function loggerOf(stats: NodeStats, source: Origin['source'] | null) {
  // Of a node that never sent a row, whichever it has says what is missing.
  if (source === null) return stats.als ?? stats.otlp
  if (source === 'als') return stats.als
  return source === 'otlp' ? stats.otlp : null
}
