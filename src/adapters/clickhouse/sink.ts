import { randomBytes } from 'node:crypto'
import type { Clock } from '../../lib/clock.ts'
import { METRIC_TABLES, ROW_TABLES, SIDE_TABLES, SOURCE_TABLES, type SourceTable } from '../../model/schema.ts'
import type { Segment, SegmentTable } from '../../pipeline/segment.ts'
import type { Outcome, SegmentSink } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import type { Boot } from './boot.ts'
import type { ClickHouse } from './client.ts'
import { quoteName, type Retention, TABLE_TIME } from './ddl.ts'
import { isPoison, storeError } from './failure.ts'
import { createInserts, type Inserts } from './insert.ts'
import { metricsDroppedBefore, rowsDroppedBefore } from './retention.ts'
import { createRollups, type Rollups } from './rollups.ts'
import { createSharedRollups } from './rollups-shared.ts'
import {
  type Difference,
  dateOf,
  differenceOf,
  FILE_LAYOUT,
  inDays,
  partsOf,
  SECONDS_PER_DAY,
  storedRows,
  tableOf,
} from './stored.ts'

/**
 * Brings segments into ClickHouse so that a query sees each of their rows exactly once, whatever happens to the
 * connection, to the engine or to us in between.
 *
 *   new segment ──► INSERT rows (token) ──► INSERT rollup ──► accepted
 *                        │ end unknown           │ end unknown
 *                        ▼                       ▼
 *   doubtful ──► look up rows by segment and day: none → send, some → delete and send, all → nothing
 *                then hold the rollups of its hours against the rows, and correct them
 *
 * Doubtful is a segment that was tried before: by this process, or perhaps by one before it (it is older than we are).
 * And when the engine starts, the rows of all segments that the journal still keeps after their acceptance are looked up
 * once more. Their rollups are held against them too when the machine was started anew: the engine does not fsync, so a
 * power cut may take the one and leave the other. The end of a process takes nothing that the engine said yes to.
 */
export interface ClickHouseSink extends SegmentSink {
  /**
   * The engine has started: once when it and the journal are there, and whenever it comes back after it was gone. Nothing
   * is sent before what was accepted lately is looked up. `powerLost`: its machine was down; default for a server.
   */
  engineStarted(options?: { readonly powerLost?: boolean }): void
  /** Looks up and repairs everything that is in doubt. Resolves when nothing is; a failure is an outcome. */
  settle(signal: AbortSignal): Promise<Outcome>
  /** Runs `work` while no segment is being sent or looked up. */
  exclusive<T>(work: () => Promise<T>): Promise<T>
  readonly counters: Readonly<ClickHouseCounters>
}

export interface ClickHouseCounters {
  /** Rows the store said yes to, by table; looked-up ones count when they are found. */
  readonly rows: Record<SegmentTable['table'], number>
  segments: number
  retries: number
  /** Segments whose rows were looked up. */
  lookups: number
  /** Days of a segment that were not stored though the engine had said so, or that an unknown outcome had left out. */
  daysMissing: number
  /** Days of a segment that were stored in part, or more than once. */
  daysWrong: number
  minutesCorrected: number
  hoursCorrected: number
  /** Rows that arrived older than rows are kept: they count in rollups, and expire at once. */
  rowsLate: number
  /** Rows of days that have not begun: the clock of their proxy is wrong. Rows less far ahead have `in_future` alone. */
  rowsFuture: number
}

/** What a sink begins with. */
export const noClickHouseCounts = (): ClickHouseCounters => ({
  rows: {
    requests: 0,
    attempts: 0,
    progress: 0,
    connections: 0,
    latency_1m: 0,
    series: 0,
    samples: 0,
    histograms: 0,
    exemplars: 0,
    spans: 0,
  },
  segments: 0,
  retries: 0,
  lookups: 0,
  daysMissing: 0,
  daysWrong: 0,
  minutesCorrected: 0,
  hoursCorrected: 0,
  rowsLate: 0,
  rowsFuture: 0,
})

export interface ClickHouseSinkOptions {
  readonly clickhouse: ClickHouse
  readonly log: Log
  readonly clock: Clock
  /** The engine is on this machine and may read segment files itself. */
  readonly readsFiles: boolean
  readonly retention: Retention
  /** Segments that were accepted and that the journal still keeps, oldest first. */
  readonly kept: () => readonly Segment[]
  /** Keys of one minute that a rebuilt rollup may have. */
  readonly keysMax: number
  readonly insertTimeoutMs?: number
  /**
   * The tables are replicated, and others may write into them. An INSERT whose server is gone may be repeated at another
   * one with the same token, which Keeper tells to all replicas together with the part.
   */
  readonly replicated?: boolean
  /** Whether the machine runs since the last segment was sent. Absent: not known, so it counts as started anew. */
  readonly boot?: Boot
}

const INSERT_TIMEOUT_MS = 120_000
const LOOKUP_TIMEOUT_MS = 60_000
/**
 * After a power cut rows can be lost and their rollup not. Only the last segments sent before it can be so; a backlog of
 * thousands of segments need not be held against its rows.
 */
const OLD_SEGMENTS_CHECKED = 8
/** How long rows near their expiry are left alone: their parts may go at any moment. */
const EXPIRY_MARGIN_MS = 3_600_000
const SETTLE_AGAIN_MS = 5000
const FUTURE_MS = 300_000

export function createClickHouseSink(options: ClickHouseSinkOptions): ClickHouseSink {
  return new Sink(options)
}

class Sink implements ClickHouseSink {
  readonly name = 'clickhouse'
  readonly counters = noClickHouseCounts()
  readonly #options: ClickHouseSinkOptions
  readonly #inserts: Inserts
  readonly #rollups: Rollups
  /** Segments that were tried and not accepted: what of them is stored is not known. */
  readonly #tried = new Set<string>()
  /** Tried segments whose own token the engine took for known though the rows are not there. */
  readonly #distrusted = new Set<string>()
  /** Wall clock, ms: a segment opened before may have been tried by a process before us. */
  #startedMs = 0
  #oldChecked = 0
  #engineStarts = 0
  #keptInDoubt = true
  /** Until the rollups of what was stored lately have been looked at after the machine was started. */
  #powerLost: boolean
  #settling = false
  /** As found last: no INSERT of ours whose end was not learnt can still be running. */
  #quiet = true
  #last: Promise<unknown> = Promise.resolve()
  readonly #stopping = new AbortController()

  constructor(options: ClickHouseSinkOptions) {
    this.#options = options
    this.#powerLost = options.boot?.same !== true
    const { replicated = false } = options
    this.#inserts = createInserts({ ...options, endsByItself: replicated })
    const create = replicated ? createSharedRollups : createRollups
    this.#rollups = create({
      ...options,
      inserts: this.#inserts,
      timeoutMs: options.insertTimeoutMs ?? INSERT_TIMEOUT_MS,
      complete: (signal) => this.#complete(signal),
      onCorrected: (minutes, hours) => {
        this.counters.minutesCorrected += minutes
        this.counters.hoursCorrected += hours
      },
    })
  }

  async start(): Promise<void> {
    this.#startedMs = this.#options.clock.now()
  }

  async stop(_deadline: AbortSignal): Promise<void> {
    this.#stopping.abort()
    await this.#last.catch(() => {})
  }

  engineStarted({ powerLost = !this.#options.readsFiles }: { readonly powerLost?: boolean } = {}): void {
    this.#engineStarts++
    this.#powerLost ||= powerLost
    this.#keptInDoubt = true
    void this.#settleInBackground()
  }

  async send(segment: Segment, signal: AbortSignal): Promise<Outcome> {
    return await this.exclusive(() => this.#outcome(`segment ${segment.id}`, () => this.#send(segment, signal)))
  }

  async settle(signal: AbortSignal): Promise<Outcome> {
    return await this.exclusive(() => this.#outcome('what was stored lately', () => this.#settle(signal)))
  }

  async exclusive<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#last
    const run = before.catch(() => {}).then(work)
    this.#last = run.catch(() => {})
    return await run
  }

  /** Also without a segment to send, what was lost is found. */
  async #settleInBackground(): Promise<void> {
    if (this.#settling) return
    this.#settling = true
    const { clock } = this.#options
    const { signal } = this.#stopping
    while (this.#keptInDoubt && !signal.aborted) {
      const outcome = await this.exclusive(() =>
        this.#outcome('what was stored lately', () =>
          this.#tried.size > 0 ? this.#repairKept(signal) : this.#settle(signal),
        ),
      )
      if (outcome.status !== 'accepted') await clock.sleep(SETTLE_AGAIN_MS, signal)
    }
    this.#settling = false
  }

  /** Errors as outcomes: what may pass by waiting is `retry`, what the store will never take is `rejected`. */
  async #outcome(what: string, work: () => Promise<void>): Promise<Outcome> {
    try {
      await work()
      return { status: 'accepted' }
    } catch (error) {
      const failure = storeError(error, `${what} cannot be stored`)
      if (isPoison(failure)) return { status: 'rejected', error: failure }
      this.counters.retries++
      return { status: 'retry', error: failure }
    }
  }

  async #send(segment: Segment, signal: AbortSignal): Promise<void> {
    const tried = this.#tried.has(segment.id)
    // A rollup that a tried segment lacks would be made from rows here, when its own is at hand.
    if (tried) await this.#repairKept(signal)
    else await this.#settle(signal)
    const old = (segment.mayBeStored ?? segment.openedMs <= this.#startedMs) || segment.recovered === true
    this.#tried.add(segment.id)
    const untouched = tried || old ? await this.#repair(segment, signal) : await this.#insertRows(segment, signal)
    // Rows come before their rollup: where no row had been stored, neither had the rollup.
    if (untouched && !tried && segment.recovered !== true) {
      await this.#rollups.add(segment, signal)
      if (old && this.#powerLost && this.#oldChecked < OLD_SEGMENTS_CHECKED) {
        this.#oldChecked++
        await this.#rollups.doubtSegments([segment], signal)
      }
    } else if (segment.recovered === true) {
      await this.#rollups.doubtSegments([segment], signal)
    } else {
      await this.#rollups.addIfMissing(segment, signal)
    }
    await this.#rollups.settle(signal)
    if (this.#powerLost && !this.#keptInDoubt && (!old || this.#oldChecked >= OLD_SEGMENTS_CHECKED)) {
      this.#powerLost = false
      await this.#options.boot?.remember()
    }
    this.#tried.delete(segment.id)
    this.#distrusted.delete(segment.id)
    this.counters.segments++
    for (const table of segment.tables) this.counters.rows[table.table] += table.rows
    this.#countMisplaced(segment)
  }

  async #settle(signal: AbortSignal): Promise<void> {
    await this.#repairKept(signal)
    if (this.#rollups.doubtful === 0) return
    await this.#waitUntilQuiet(signal)
    await this.#rollups.settle(signal)
  }

  /** After a start of the engine: rows accepted lately, and doubt about the rollups of their minutes. */
  async #repairKept(signal: AbortSignal): Promise<void> {
    if (!this.#keptInDoubt) return
    await this.#waitUntilQuiet(signal)
    const starts = this.#engineStarts
    const kept = this.#options.kept()
    const lost = this.counters.daysMissing + this.counters.daysWrong
    await this.#repairRows(kept, signal)
    const found = this.counters.daysMissing + this.counters.daysWrong
    if (this.#powerLost || found > lost) await this.#rollups.doubtSegments(kept, signal)
    // The engine may have come and gone meanwhile.
    this.#keptInDoubt = starts !== this.#engineStarts
  }

  /** True, as what it stands for: nothing of the segment had been stored before. */
  async #insertRows(segment: Segment, signal: AbortSignal): Promise<true> {
    for (const table of sourceTables(segment))
      await this.#insertDays(segment, table, [...table.days.keys()], '', signal)
    return true
  }

  async #insertDays(
    segment: Segment,
    table: SourceFile,
    days: readonly number[],
    attempt: string,
    signal: AbortSignal,
  ): Promise<void> {
    const all = days.length === table.days.size
    const parts = partsOf(days)
    for (const [index, part] of parts.entries()) {
      await this.#inserts.file(
        {
          table: table.table,
          path: table.file,
          ...FILE_LAYOUT[table.table],
          token: `${segment.id}/${table.table}/${index}${attempt}`,
          timeoutMs: this.#options.insertTimeoutMs ?? INSERT_TIMEOUT_MS,
          ...(all && parts.length === 1
            ? {}
            : { only: { condition: inDays(table.table), params: { days: part.map(dateOf) } } }),
          ...(segment.hold === undefined ? {} : { hold: segment.hold }),
        },
        signal,
      )
    }
  }

  /** Stores what is missing of a doubtful segment. True when nothing of it had been stored, so neither its rollup. */
  async #repair(segment: Segment, signal: AbortSignal): Promise<boolean> {
    await this.#waitUntilQuiet(signal)
    const stored = await this.#repairRows([segment], signal)
    return stored === 0
  }

  /** Makes the stored rows of the segments what they should be. Returns how many of row tables had been there. */
  async #repairRows(segments: readonly Segment[], signal: AbortSignal): Promise<number> {
    if (segments.length === 0) return 0
    let before = 0
    const oldestDays = new Map<string, number>()
    for (const table of SOURCE_TABLES) {
      const having = segments.filter((segment) => tableOf(segment, table) !== undefined)
      if (having.length === 0) continue
      const oldest = await this.#oldestDay(table, oldestDays, signal)
      const stored = await storedRows(this.#options.clickhouse, table, having, signal)
      this.counters.lookups += having.length
      for (const segment of having) {
        const days = stored.get(segment.id)
        if (isRowTable(table)) for (const rows of days?.values() ?? []) before += rows
        const file = tableOf(segment, table)!
        const difference = differenceOf(file, days, oldest)
        await this.#repairTable(segment, table, soften(segment, file, days, difference), signal)
      }
    }
    return before
  }

  async #repairTable(segment: Segment, table: SourceTable, difference: Difference, signal: AbortSignal): Promise<void> {
    const { missing, wrong } = difference
    if (missing.length + wrong.length === 0) return
    const { clickhouse, log } = this.#options
    this.counters.daysMissing += missing.length
    this.counters.daysWrong += wrong.length
    if (wrong.length > 0) {
      log.warn(
        { segment: segment.id, table, days: wrong.map(dateOf) },
        'A part of a segment was stored; it is sent again',
      )
      await this.#deleteDays(segment, table, wrong, signal)
    }
    const again = [...missing, ...wrong]
    const file = { ...tableOf(segment, table)!, table }
    // While the first INSERT may still run on a replica that is away, only its own token keeps it from being a second one.
    // The same where another process had the segment before us: it may wake up in the middle of its own.
    const mayWake = segment.mayBeStored === true && wrong.length === 0 && !this.#distrusted.has(segment.id)
    const attempt = this.#quiet && !mayWake ? `/${randomBytes(6).toString('hex')}` : ''
    await this.#insertDays(segment, file, again, attempt, signal)
    const stored = (await storedRows(clickhouse, table, [segment], signal)).get(segment.id)
    const manifest = tableOf(segment, table)!.days
    const left = again.filter((day) => stored?.get(day) !== manifest.get(day))
    if (left.length > 0) {
      this.#distrusted.add(segment.id)
      throw new Error(`${left.length} days of segment ${segment.id} in ${table} are not what was sent`)
    }
  }

  async #deleteDays(segment: Segment, table: SourceTable, days: readonly number[], signal: AbortSignal): Promise<void> {
    const { clickhouse } = this.#options
    for (const day of days) {
      await clickhouse.execute(
        {
          sql: `ALTER TABLE ${quoteName(clickhouse.database)}.${table} DELETE IN PARTITION ID '${dateOf(day).replaceAll('-', '')}'
            WHERE segment = {segment:String}`,
          params: { segment: segment.id },
        },
        { signal, timeoutMs: this.#options.insertTimeoutMs ?? INSERT_TIMEOUT_MS, settings: { mutations_sync: 1 } },
      )
    }
  }

  async #waitUntilQuiet(signal: AbortSignal): Promise<void> {
    const { clickhouse, replicated = false } = this.#options
    this.#quiet = await this.#inserts.quiet(signal)
    if (!replicated) {
      if (!this.#quiet) throw new Error('an earlier insert may still be running')
      return
    }
    // What another replica took has to be here before it can be counted.
    for (const table of SOURCE_TABLES) {
      const sql = `SYSTEM SYNC REPLICA ${quoteName(clickhouse.database)}.${table} LIGHTWEIGHT`
      await clickhouse.execute({ sql, params: {} }, { signal, timeoutMs: LOOKUP_TIMEOUT_MS })
    }
  }

  /**
   * Days before it have been dropped, by age or for want of room: that they are not there says nothing. What the store
   * knows of it is asked once for each map of `asked`.
   */
  async #oldestDay(table: SourceTable, asked: Map<string, number>, signal: AbortSignal): Promise<number> {
    const { clickhouse, clock, retention } = this.#options
    const expired = Math.floor((clock.now() - TABLE_TIME[table].keepMs(retention)) / 1000 / SECONDS_PER_DAY)
    const dropped = (METRIC_TABLES as readonly string[]).includes(table) ? metricsDroppedBefore : rowsDroppedBefore
    const known = asked.get(dropped.name) ?? (await dropped(clickhouse, signal))
    asked.set(dropped.name, known)
    return Math.max(expired, known)
  }

  /** Rollups are held only against rows, and hours against minutes, of which none can have been dropped. */
  async #complete(signal: AbortSignal): Promise<{ rows: number; minutes: number }> {
    const { clickhouse, clock, retention } = this.#options
    const answer = await clickhouse.query<{ day: number }>(
      {
        sql: `SELECT toUInt32(toDate(min(end_time))) AS day FROM ${quoteName(clickhouse.database)}.requests`,
        params: {},
      },
      { signal, timeoutMs: LOOKUP_TIMEOUT_MS },
    )
    const now = clock.now()
    const oldest = Math.max(Number(answer.rows[0]?.day ?? 0), await rowsDroppedBefore(clickhouse, signal))
    return {
      rows: Math.max(oldest * SECONDS_PER_DAY, (now - retention.rowsMs + EXPIRY_MARGIN_MS) / 1000),
      minutes: (now - retention.minutesMs + EXPIRY_MARGIN_MS) / 1000,
    }
  }

  /** By day, as the manifest tells it. */
  #countMisplaced(segment: Segment): void {
    const { clock, retention } = this.#options
    const dayOf = (ms: number) => Math.floor(ms / 1000 / SECONDS_PER_DAY)
    const oldest = dayOf(clock.now() - retention.rowsMs)
    const newest = dayOf(clock.now() + FUTURE_MS)
    for (const table of rowTables(segment)) {
      for (const [day, rows] of table.days) {
        if (day < oldest) this.counters.rowsLate += rows
        else if (day > newest) this.counters.rowsFuture += rows
      }
    }
  }
}

/** A file of rows that arrived, unlike a rollup. */
type SourceFile = SegmentTable & { readonly table: SourceTable }

const SOURCES: ReadonlySet<string> = new Set(SOURCE_TABLES)
/** Rows first: a rollup is stored after them, and stats and spans need none. */
const ORDER: ReadonlyMap<string, number> = new Map([...ROW_TABLES, ...SIDE_TABLES].map((table, k) => [table, k]))
const isRowTable = (table: string): boolean => (ROW_TABLES as readonly string[]).includes(table)

function sourceTables(segment: Segment): SourceFile[] {
  return segment.tables
    .filter((table): table is SourceFile => SOURCES.has(table.table))
    .sort((a, b) => ORDER.get(a.table)! - ORDER.get(b.table)!)
}

function rowTables(segment: Segment): SourceFile[] {
  return sourceTables(segment).filter(({ table }) => isRowTable(table))
}

/** A recovered segment may have fewer rows than were stored of it before it was damaged: those stay. */
function soften(
  segment: Segment,
  table: SegmentTable,
  stored: ReadonlyMap<number, number> | undefined,
  difference: Difference,
): Difference {
  if (segment.recovered !== true) return difference
  const fewer = (day: number) => (stored?.get(day) ?? 0) < table.days.get(day)!
  return { missing: difference.missing, wrong: difference.wrong.filter(fewer) }
}
