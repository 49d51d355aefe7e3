import { randomBytes } from 'node:crypto'
import type { Clock } from '../../lib/clock.ts'
import type { Stage } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import type { ClickHouse } from './client.ts'
import type { Retention } from './ddl.ts'
import type { Inserts } from './insert.ts'
import { correctDaySql, differingDaysSql } from './rollup-sql.ts'
import { SECONDS_PER_DAY } from './stored.ts'

/**
 * Keeps `latency_1d` equal to `latency_1h`, for UTC days that are over.
 *
 *   latency_1h ── months with new parts ──► days whose totals differ ── hours minus day ──► latency_1d
 *
 * Nothing waits for it, and nothing relies on it: a question reads a day from here only while its totals are those of its
 * hours (`query/whole-days.ts`), and from hours otherwise. So late rows, a correction of hours, an end of the process in
 * the middle, or a day that nobody has made yet cost time and never truth.
 *
 * The difference is added under a token that names the totals stored before it: of two that start from the same totals,
 * also of one that a process before us left running, one is stored. There is one for each store that one process writes to;
 * replicas that several write to have none, because a replica may be asked that has hours and not yet their day.
 */
export interface DayRollups extends Stage {
  /** Makes all days that are over what their hours say, the newest first: how many it changed. Throws when that fails. */
  settle(signal: AbortSignal): Promise<number>
}

export interface DayRollupsOptions {
  readonly clickhouse: ClickHouse
  readonly inserts: Inserts
  readonly retention: Retention
  readonly clock: Clock
  readonly log: Log
  readonly everyMs?: number
}

/** After the start, which has better things to do, and between looks. */
const FIRST_MS = 60_000
const EVERY_MS = 600_000
/** How long after its end a day is left alone: rows of it are still on their way. */
const OVER_MS = 600_000
/** Months are looked at after so long though no part came: one may be gone. */
const AGAIN_SECONDS = 86_400
const TIMEOUT_MS = 600_000
/** Rows of hours that one statement adds up: some 250 MB with eight full histograms each. */
const SHARE_ROWS = 20_000
const SHARES_MAX = 256
const SPILL_BYTES = 512 * 1024 ** 2
const ONE_BLOCK = { min_insert_block_size_rows: 4_000_000, min_insert_block_size_bytes: 2 ** 30 }
/** Parts' times are whole seconds. */
const PART_TIME_SLACK_SECONDS = 2

export function createDayRollups(options: DayRollupsOptions): DayRollups {
  return new StoredDays(options)
}

/** Where days are not made: questions are answered from hours. */
export function createNoDays(): DayRollups {
  return { name: 'days', start: async () => {}, stop: async () => {}, settle: async () => 0 }
}

/** Days of all shards: each is made of the hours of its own shard. */
export function createShardedDays(shards: readonly DayRollups[]): DayRollups {
  return {
    name: 'days',
    async start() {
      for (const shard of shards) await shard.start()
    },
    async stop(deadline) {
      await Promise.all(shards.map((shard) => shard.stop(deadline)))
    },
    async settle(signal) {
      let changed = 0
      for (const shard of shards) changed += await shard.settle(signal)
      return changed
    },
  }
}

interface Day {
  /** Unix seconds of its start. */
  readonly day: number
  /** Rows of hours it is made from. */
  readonly rows: number
  /** Totals that are stored of it, as text. */
  readonly stored: string
}

interface Month {
  /** `202611` */
  readonly month: string
  /** Unix seconds. */
  readonly changed: number
  readonly now: number
}

/** Unix seconds. */
interface Span {
  readonly from: number
  readonly to: number
}

class StoredDays implements DayRollups {
  readonly name = 'days'
  readonly #options: DayRollupsOptions
  readonly #stopping = new AbortController()
  /** By month (`202611`): when it was found right, Unix seconds of the engine's clock, and up to which day. */
  readonly #right = new Map<string, { readonly at: number; readonly to: number }>()
  /** Days that a correction left as they were: the engine may know its token though the part is not there. */
  readonly #attempts = new Map<number, string>()
  #loop: Promise<void> | undefined

  constructor(options: DayRollupsOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    this.#loop ??= this.#run()
  }

  async stop(_deadline: AbortSignal): Promise<void> {
    this.#stopping.abort()
    await this.#loop
  }

  async #run(): Promise<void> {
    const { clock, log, everyMs = EVERY_MS } = this.#options
    const { signal } = this.#stopping
    let failing = false
    await clock.sleep(Math.min(FIRST_MS, everyMs), signal)
    while (!signal.aborted) {
      try {
        await this.settle(signal)
        failing = false
      } catch (error) {
        if (!failing && !signal.aborted) log.warn({ error }, 'Days cannot be rolled up; answers come from hours')
        failing = true
      }
      await clock.sleep(everyMs, signal)
    }
  }

  async settle(signal: AbortSignal): Promise<number> {
    if (!(await this.#options.inserts.quiet(signal))) throw new Error('an earlier rollup of a day may still be running')
    let changed = 0
    for (const { month, changed: newest, now } of await this.#months(signal)) {
      const span = this.#spanOf(month)
      const right = this.#right.get(month)
      if (span.from >= span.to) continue
      if (right?.to === span.to && newest + PART_TIME_SLACK_SECONDS < right.at && now < right.at + AGAIN_SECONDS)
        continue
      const began = performance.now()
      const different = await this.#differing(span, signal)
      for (const day of different) await this.#correct(day, signal)
      changed += different.length
      if (different.length > 0) {
        const ms = Math.round(performance.now() - began)
        this.#options.log.info({ month, days: different.length, ms }, 'Days were rolled up')
      }
      const left = different.length === 0 ? [] : await this.#differing(span, signal)
      for (const { day } of left) this.#attempts.set(day, randomBytes(6).toString('hex'))
      // Rows that came meanwhile are in newer parts.
      if (left.length === 0) this.#right.set(month, { at: now, to: span.to })
      else this.#right.delete(month)
    }
    return changed
  }

  /** Months, the newest first: when the newest part of their hours and days came, and what time it is there. */
  async #months(signal: AbortSignal): Promise<readonly Month[]> {
    const { clickhouse } = this.#options
    const { rows } = await clickhouse.query<Month>(
      {
        sql: `SELECT partition_id AS month, toUnixTimestamp(max(modification_time)) AS changed, toUnixTimestamp(now()) AS now
          FROM system.parts WHERE active AND database = {database:String} AND table IN ('latency_1h', 'latency_1d')
          GROUP BY month ORDER BY month DESC`,
        params: { database: clickhouse.database },
      },
      { signal, timeoutMs: TIMEOUT_MS },
    )
    return rows.map(({ month, changed, now }) => ({ month, changed: Number(changed), now: Number(now) }))
  }

  /** Days of a month that are over and do not expire yet. */
  #spanOf(month: string): Span {
    const { clock, retention } = this.#options
    const [year, index] = [Number(month.slice(0, 4)), Number(month.slice(4, 6)) - 1]
    const now = clock.now()
    const floor = (ms: number) => Math.floor(ms / 1000 / SECONDS_PER_DAY) * SECONDS_PER_DAY
    return {
      from: Math.max(Date.UTC(year, index) / 1000, floor(now - retention.hoursMs) + 2 * SECONDS_PER_DAY),
      to: Math.min(Date.UTC(year, index + 1) / 1000, floor(now - OVER_MS)),
    }
  }

  async #differing(span: Span, signal: AbortSignal): Promise<readonly Day[]> {
    const { clickhouse } = this.#options
    const { rows } = await clickhouse.query<Day>(
      { sql: differingDaysSql(clickhouse.database), params: { ...span } },
      { signal, timeoutMs: TIMEOUT_MS },
    )
    return rows.map(({ day, rows, stored }) => ({ day: Number(day), rows: Number(rows), stored }))
  }

  async #correct({ day, rows, stored }: Day, signal: AbortSignal): Promise<void> {
    const { clickhouse, inserts } = this.#options
    const sql = correctDaySql(clickhouse.database)
    const shares = Math.min(SHARES_MAX, 2 ** Math.ceil(Math.log2(Math.max(1, rows / SHARE_ROWS))))
    for (let share = 0; share < shares; share++) {
      const token = ['latency_1d', day, `${share}.${shares}`, stored, this.#attempts.get(day) ?? ''].join('/')
      await inserts.select(
        { sql, params: { from: day, to: day + SECONDS_PER_DAY, shares, share } },
        {
          signal,
          timeoutMs: TIMEOUT_MS,
          settings: {
            // Others come first.
            max_threads: 1,
            ...ONE_BLOCK,
            max_insert_threads: 1,
            optimize_on_insert: 0,
            insert_deduplicate: 1,
            insert_deduplication_token: token,
            max_bytes_before_external_group_by: SPILL_BYTES,
          },
        },
      )
    }
    this.#attempts.delete(day)
  }
}
