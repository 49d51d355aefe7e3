import { ROLLUP_COLUMNS } from '../../model/rollup-columns.ts'
import type { Segment } from '../../pipeline/segment.ts'
import type { Log } from '../../telemetry/log.ts'
import type { ClickHouse } from './client.ts'
import { quoteName } from './ddl.ts'
import type { FileInserts } from './insert.ts'
import { correctHourSql, correctMinutesSql, differingHoursSql, differingMinutesSql, rollupNames } from './rollup-sql.ts'
import { dateOf, partsOf, SECONDS_PER_DAY, tableOf } from './stored.ts'

/**
 * Keeps `latency_1m` and `latency_1h` equal to the rows they are made from.
 *
 * Rows are always stored before their rollup. An insert of a rollup whose end is not known is never sent again: its hours
 * become doubtful, and doubtful hours are held against the rows and corrected (`rollup-sql.ts`). There is one writer and
 * it sends one segment at a time, so nothing moves while it looks.
 */
export interface Rollups {
  /** Stores the rollup of a segment whose rows were all stored by this process, for the first time. */
  add(segment: Segment, signal: AbortSignal): Promise<void>
  /** Marks hours (Unix seconds of their start) to be looked at. */
  doubt(hours: Iterable<number>): void
  /** Marks all hours that the segments have rows in. Throws when the store does not answer. */
  doubtSegments(segments: readonly Segment[], signal: AbortSignal): Promise<void>
  /** Looks at all doubtful hours and corrects them. Throws when that fails; the hours stay doubtful. */
  settle(signal: AbortSignal): Promise<void>
  readonly doubtful: number
}

export interface RollupsOptions {
  readonly clickhouse: ClickHouse
  readonly inserts: FileInserts
  readonly log: Log
  readonly keysMax: number
  readonly timeoutMs: number
  /** Oldest time (Unix seconds) whose rows, and whose minutes, are all there: older ones may have expired in part. */
  readonly complete: (signal: AbortSignal) => Promise<{ readonly rows: number; readonly minutes: number }>
  readonly onCorrected: (minutes: number, hours: number) => void
}

const NAMES = rollupNames('latency_1m')
const STRUCTURE = ROLLUP_COLUMNS.map((column) => `${quoteName(column.name)} ${column.nativeType}`).join(', ')
const SECONDS_PER_HOUR = 3600
/** Hours in one look: a month, their parameters 9 kB. */
const HOURS_PER_LOOK = 744
const SEGMENTS_PER_LOOKUP = 200
const CORRECTION_TIMEOUT_MS = 600_000

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
    const block = tableOf(segment, 'latency_1m')
    if (block === undefined) return
    const { inserts, timeoutMs } = this.#options
    const parts = partsOf(block.days.keys())
    for (const [index, days] of parts.entries()) {
      await inserts.insert(
        {
          table: 'latency_1m',
          path: block.file,
          columns: NAMES,
          structure: STRUCTURE,
          token: `${segment.id}/latency_1m/${index}`,
          timeoutMs,
          ...(parts.length === 1 ? {} : { only: { condition: MINUTE_IN_DAYS, params: { days: days.map(dateOf) } } }),
          ...(segment.hold === undefined ? {} : { hold: segment.hold }),
        },
        signal,
      )
    }
  }

  doubt(hours: Iterable<number>): void {
    for (const hour of hours) this.#doubtful.add(hour)
  }

  async doubtSegments(segments: readonly Segment[], signal: AbortSignal): Promise<void> {
    const { clickhouse, timeoutMs } = this.#options
    for (let from = 0; from < segments.length; from += SEGMENTS_PER_LOOKUP) {
      const some = segments.slice(from, from + SEGMENTS_PER_LOOKUP)
      const days = new Set(some.flatMap((segment) => [...(tableOf(segment, 'requests')?.days.keys() ?? [])]))
      const { rows } = await clickhouse.query<{ hour: number }>(
        {
          sql: `SELECT DISTINCT toUInt32(toStartOfHour(toDateTime(end_time))) AS hour
            FROM ${quoteName(clickhouse.database)}.requests
            WHERE segment IN ({segments:Array(String)}) AND toDate(end_time) IN (SELECT arrayJoin({days:Array(Date)}))`,
          params: { segments: some.map((segment) => segment.id), days: [...days].map(dateOf) },
        },
        { signal, timeoutMs },
      )
      this.doubt(rows.map(({ hour }) => Number(hour)))
    }
  }

  async settle(signal: AbortSignal): Promise<void> {
    if (this.#doubtful.size === 0) return
    const complete = await this.#options.complete(signal)
    const hours = [...this.#doubtful].sort((a, b) => a - b)
    for (let from = 0; from < hours.length; from += HOURS_PER_LOOK) {
      const some = hours.slice(from, from + HOURS_PER_LOOK)
      const minutes = await this.#correctMinutes(
        some.filter((hour) => hour >= complete.rows),
        signal,
      )
      const corrected = await this.#correctHours(
        some.filter((hour) => hour >= complete.minutes),
        signal,
      )
      for (const hour of some) this.#doubtful.delete(hour)
      if (minutes + corrected > 0) {
        this.#options.log.warn({ minutes, hours: corrected }, 'Rollups differed from their rows and were corrected')
        this.#options.onCorrected(minutes, corrected)
      }
    }
  }

  async #correctMinutes(hours: readonly number[], signal: AbortSignal): Promise<number> {
    const { keysMax } = this.#options
    const sql = correctMinutesSql(this.#options.clickhouse.database, keysMax)
    const find = () => this.#differing('minute', differingMinutesSql(this.#options.clickhouse.database), hours, signal)
    const minutes = await find()
    if (minutes.length === 0) return 0
    for (const minute of minutes) await this.#correct(sql, minute, 60, signal)
    const left = await find()
    if (left.length > 0) throw new Error(`${left.length} minutes of latency_1m still differ after their correction`)
    return minutes.length
  }

  async #correctHours(hours: readonly number[], signal: AbortSignal): Promise<number> {
    const sql = correctHourSql(this.#options.clickhouse.database)
    const find = () => this.#differing('hour', differingHoursSql(this.#options.clickhouse.database), hours, signal)
    const different = await find()
    if (different.length === 0) return 0
    for (const hour of different) await this.#correct(sql, hour, SECONDS_PER_HOUR, signal)
    const left = await find()
    if (left.length > 0) throw new Error(`${left.length} hours of latency_1h still differ after their correction`)
    return different.length
  }

  async #differing(
    time: 'minute' | 'hour',
    sql: string,
    hours: readonly number[],
    signal: AbortSignal,
  ): Promise<number[]> {
    if (hours.length === 0) return []
    const days = new Set(hours.map((hour) => Math.floor(hour / SECONDS_PER_DAY)))
    const { rows } = await this.#options.clickhouse.query<Record<'minute' | 'hour', number>>(
      { sql, params: { hours, days: [...days].map(dateOf) } },
      { signal, timeoutMs: CORRECTION_TIMEOUT_MS },
    )
    return rows.map((row) => Number(row[time]))
  }

  async #correct(sql: string, from: number, seconds: number, signal: AbortSignal): Promise<void> {
    await this.#options.clickhouse.execute(
      { sql, params: { from, to: from + seconds } },
      { signal, timeoutMs: CORRECTION_TIMEOUT_MS, settings: { optimize_on_insert: 0, insert_deduplicate: 0 } },
    )
  }
}

const MINUTE_IN_DAYS = 'toDate(minute) IN (SELECT arrayJoin({days:Array(Date)}))'
