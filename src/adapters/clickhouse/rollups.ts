import { randomBytes } from 'node:crypto'
import type { Statement } from '../../model/query.ts'
import type { Segment } from '../../pipeline/segment.ts'
import type { Log } from '../../telemetry/log.ts'
import type { ClickHouse } from './client.ts'
import { quoteName } from './ddl.ts'
import type { Inserts } from './insert.ts'
import { insertRollup } from './rollup-insert.ts'
import {
  correctHourSql,
  correctMinutesSql,
  differingHoursSql,
  differingMinutesSql,
  segmentMinutesSql,
} from './rollup-sql.ts'
import { dateOf, PARTITIONS_PER_INSERT, SECONDS_PER_DAY, tableOf } from './stored.ts'

/**
 * Keeps `latency_1m` and `latency_1h` equal to the rows they are made from.
 *
 * Rows are always stored before their rollup. An insert of a rollup whose end is not known is never sent again: its
 * minutes become doubtful, and doubtful minutes are held against the rows and corrected (`rollup-sql.ts`). There is one writer and
 * it sends one segment at a time, so nothing moves while it looks.
 */
export interface Rollups {
  /** Stores the rollup of a segment whose rows were all stored by this process, for the first time. */
  add(segment: Segment, signal: AbortSignal): Promise<void>
  /**
   * The same for a segment whose rollup may have been stored: where its minutes lack exactly its rows, its rollup is
   * stored. Anything else is left to `settle`, which counts rows anew, at ten times the cost and more.
   */
  addIfMissing(segment: Segment, signal: AbortSignal): Promise<void>
  /** Marks minutes (Unix seconds of their start) to be looked at. */
  doubt(minutes: Iterable<number>): void
  /** Marks all minutes that the segments have rows in. Throws when the store does not answer. */
  doubtSegments(segments: readonly Segment[], signal: AbortSignal): Promise<void>
  /** Looks at all doubtful minutes, and their hours, and corrects them. Throws when that fails; they stay doubtful. */
  settle(signal: AbortSignal): Promise<void>
  readonly doubtful: number
}

export interface RollupsOptions {
  readonly clickhouse: ClickHouse
  readonly inserts: Inserts
  readonly log: Log
  readonly keysMax: number
  readonly timeoutMs: number
  /** Oldest time (Unix seconds) whose rows, and whose minutes, are all there: older ones may have expired in part. */
  readonly complete: (signal: AbortSignal) => Promise<{ readonly rows: number; readonly minutes: number }>
  readonly onCorrected: (minutes: number, hours: number) => void
}

const SECONDS_PER_HOUR = 3600
/** Minutes in one look: their parameters are 9 kB, and travel in the URL. */
const MINUTES_PER_LOOK = 720
const SEGMENTS_PER_LOOKUP = 200
const CORRECTION_TIMEOUT_MS = 600_000
const CORRECTION_MEMORY_BYTES = 512 * 1024 ** 2
/** Rows, and minutes, of one correction; a single minute may have more. */
const CORRECTION_ROWS = 2_000_000
const CORRECTION_MINUTES = 1440

export function createRollups(options: RollupsOptions): Rollups {
  return new StoredRollups(options)
}

class StoredRollups implements Rollups {
  readonly #options: RollupsOptions
  readonly #doubtful = new Set<number>()

  constructor(options: RollupsOptions) {
    this.#options = options
  }

  get doubtful(): number {
    return this.#doubtful.size
  }

  async add(segment: Segment, signal: AbortSignal): Promise<void> {
    await this.#insert(segment, '', signal)
  }

  async addIfMissing(segment: Segment, signal: AbortSignal): Promise<void> {
    const rows = tableOf(segment, 'requests')
    if (rows === undefined) return
    const { clickhouse, timeoutMs } = this.#options
    const { rows: minutes } = await clickhouse.query<DifferingRow>(
      {
        sql: segmentMinutesSql(clickhouse.database),
        params: { segment: segment.id, days: [...rows.days.keys()].map(dateOf) },
      },
      { signal, timeoutMs },
    )
    const of = minutes.map(({ minute }) => Number(minute))
    this.doubt(of)
    const lacking = await this.#differingMinutes(of, signal)
    const same =
      lacking.length === minutes.length &&
      lacking.every(({ at, lacks }, k) => at === Number(minutes[k]!.minute) && lacks === minutes[k]!.lacks)
    // Rows that expired at once cannot be counted; there the token has to tell.
    if (minutes.length === 0) await this.#insert(segment, '', signal)
    else if (same) await this.#insert(segment, `/${randomBytes(6).toString('hex')}`, signal)
  }

  async #insert(segment: Segment, attempt: string, signal: AbortSignal): Promise<void> {
    const { inserts, timeoutMs } = this.#options
    await insertRollup(inserts, { segment, attempt, timeoutMs }, signal)
  }

  doubt(minutes: Iterable<number>): void {
    for (const minute of minutes) this.#doubtful.add(minute)
  }

  async doubtSegments(segments: readonly Segment[], signal: AbortSignal): Promise<void> {
    const { clickhouse, timeoutMs } = this.#options
    for (let from = 0; from < segments.length; from += SEGMENTS_PER_LOOKUP) {
      const some = segments.slice(from, from + SEGMENTS_PER_LOOKUP)
      const days = new Set(some.flatMap((segment) => [...(tableOf(segment, 'requests')?.days.keys() ?? [])]))
      const { rows } = await clickhouse.query<{ minute: number }>(
        {
          sql: `SELECT DISTINCT toUInt32(toStartOfMinute(toDateTime(end_time))) AS minute
            FROM ${quoteName(clickhouse.database)}.requests
            WHERE segment IN ({segments:Array(String)}) AND toDate(end_time) IN (SELECT arrayJoin({days:Array(Date)}))`,
          params: { segments: some.map((segment) => segment.id), days: [...days].map(dateOf) },
        },
        { signal, timeoutMs },
      )
      this.doubt(rows.map(({ minute }) => Number(minute)))
    }
  }

  async settle(signal: AbortSignal): Promise<void> {
    if (this.#doubtful.size === 0) return
    const complete = await this.#options.complete(signal)
    const doubtful = [...this.#doubtful].sort((a, b) => a - b)
    for (let from = 0; from < doubtful.length; from += MINUTES_PER_LOOK) {
      const some = doubtful.slice(from, from + MINUTES_PER_LOOK)
      const hours = [...new Set(some.map((minute) => minute - (minute % SECONDS_PER_HOUR)))]
      const minutes = await this.#correctMinutes(
        some.filter((minute) => minute >= complete.rows),
        signal,
      )
      const corrected = await this.#correctHours(
        hours.filter((hour) => hour >= complete.minutes),
        signal,
      )
      for (const minute of some) this.#doubtful.delete(minute)
      if (minutes + corrected > 0) {
        this.#options.log.warn({ minutes, hours: corrected }, 'Rollups differed from their rows and were corrected')
        this.#options.onCorrected(minutes, corrected)
      }
    }
  }

  async #correctMinutes(minutes: readonly number[], signal: AbortSignal): Promise<number> {
    const { clickhouse, keysMax } = this.#options
    const different = await this.#differingMinutes(minutes, signal)
    if (different.length === 0) return 0
    const sql = correctMinutesSql(clickhouse.database, keysMax)
    for (const some of batchesOf(different)) {
      await this.#correct({ sql, params: { minutes: some, days: daysOf(some).map(dateOf) } }, signal)
    }
    const left = await this.#differingMinutes(minutes, signal)
    if (left.length > 0) throw new Error(`${left.length} minutes of latency_1m still differ after their correction`)
    return different.length
  }

  async #correctHours(hours: readonly number[], signal: AbortSignal): Promise<number> {
    const { clickhouse } = this.#options
    const different = await this.#differingHours(hours, signal)
    if (different.length === 0) return 0
    const sql = correctHourSql(clickhouse.database)
    for (const { at } of different)
      await this.#correct({ sql, params: { from: at, to: at + SECONDS_PER_HOUR } }, signal)
    const left = await this.#differingHours(hours, signal)
    if (left.length > 0) throw new Error(`${left.length} hours of latency_1h still differ after their correction`)
    return different.length
  }

  async #differingMinutes(minutes: readonly number[], signal: AbortSignal): Promise<Differing[]> {
    const { database } = this.#options.clickhouse
    const found: Differing[] = []
    for (let from = 0; from < minutes.length; from += MINUTES_PER_LOOK) {
      const some = minutes.slice(from, from + MINUTES_PER_LOOK)
      const params = { minutes: some, days: daysOf(some).map(dateOf) }
      found.push(...(await this.#differing('minute', { sql: differingMinutesSql(database), params }, signal)))
    }
    return found
  }

  async #differingHours(hours: readonly number[], signal: AbortSignal): Promise<Differing[]> {
    if (hours.length === 0) return []
    const sql = differingHoursSql(this.#options.clickhouse.database)
    return await this.#differing('hour', { sql, params: { hours, days: daysOf(hours).map(dateOf) } }, signal)
  }

  async #differing(time: 'minute' | 'hour', statement: Statement, signal: AbortSignal): Promise<Differing[]> {
    const { rows } = await this.#options.clickhouse.query<DifferingRow>(statement, {
      signal,
      timeoutMs: CORRECTION_TIMEOUT_MS,
    })
    return rows.map((row) => ({ at: Number(row[time]), n: Number(row.n), lacks: row.lacks }))
  }

  async #correct(statement: Statement, signal: AbortSignal): Promise<void> {
    await this.#options.inserts.select(statement, {
      signal,
      timeoutMs: CORRECTION_TIMEOUT_MS,
      // A correction that was made twice is right; one that is taken for the repetition of another is not.
      settings: {
        optimize_on_insert: 0,
        insert_deduplicate: 0,
        max_bytes_before_external_group_by: CORRECTION_MEMORY_BYTES,
      },
    })
  }
}

interface DifferingRow {
  readonly minute: number
  readonly hour: number
  readonly n: number
  readonly lacks: string
}

interface Differing {
  /** Unix seconds of the minute or hour. */
  readonly at: number
  /** Rows it has, and rows its rollup says it has. */
  readonly n: number
  /** What the rollup lacks of its totals, as text. */
  readonly lacks: string
}

/** Minutes that are corrected by one statement: of few days, and of rows that fit the memory of one. */
function batchesOf(minutes: readonly Differing[]): number[][] {
  const batches: number[][] = []
  let rows = 0
  let days = new Set<number>()
  for (const { at, n } of minutes) {
    const day = Math.floor(at / SECONDS_PER_DAY)
    const last = batches.at(-1)
    const fits = rows + n <= CORRECTION_ROWS && (days.has(day) || days.size < PARTITIONS_PER_INSERT)
    if (last !== undefined && fits && last.length < CORRECTION_MINUTES) {
      last.push(at)
      rows += n
    } else {
      batches.push([at])
      rows = n
      days = new Set()
    }
    days.add(day)
  }
  return batches
}

function daysOf(times: readonly number[]): number[] {
  return [...new Set(times.map((time) => Math.floor(time / SECONDS_PER_DAY)))]
}
