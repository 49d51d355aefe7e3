import type { Clock } from '../../lib/clock.ts'
import { METRIC_TABLES, ROW_TABLES, TABLES, type Table } from '../../model/schema.ts'
import type { Stage } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import type { ClickHouse } from './client.ts'
import { quoteName, TABLE_TIME } from './ddl.ts'
import { storeError } from './failure.ts'
import { readState, type StateName, writeState } from './state.ts'
import { SECONDS_PER_DAY } from './stored.ts'

/**
 * Keeps the store within its room. Age is the engine's work (TTL of each table); size is ours: past the budget the oldest
 * day of rows goes first, from all tables of rows and of spans, then the oldest day of stats, then the oldest minutes, then
 * the oldest hours with their days. The newest of each is never dropped: when that alone is over the budget, `over` says so and a human has to decide.
 */
export interface StoreRetention extends Stage {
  /** Looks once, and drops what has to go. Throws when the store does not answer. */
  enforce(signal: AbortSignal): Promise<Usage>
  /** Time (ms) of the oldest row that is there; null for an empty table. For `rows_expired`. */
  oldestRow(table: Table, signal: AbortSignal): Promise<number | null>
  readonly usage: Usage
  /** Another budget, from the next look on. */
  setBytesMax(bytesMax: number): void
}

export interface Usage {
  /** On disk, without parts that were merged away or dropped and wait 90 s for their deletion. */
  readonly bytes: number
  readonly bytesMax: number
  /** The budget is passed and nothing more may be dropped. */
  readonly over: boolean
  /** Since the process started. */
  readonly partitionsDropped: number
  readonly rowsDropped: number
}

export interface StoreRetentionOptions {
  readonly clickhouse: ClickHouse
  readonly log: Log
  readonly clock: Clock
  readonly diskBytesMax: number
  readonly everyMs?: number
  /** The sink's: nothing is dropped while it looks. */
  readonly exclusive: <T>(work: () => Promise<T>) => Promise<T>
}

const EVERY_MS = 30_000
const TIMEOUT_MS = 60_000

/** In this order, groups of tables whose oldest partition goes together. */
const ROWS: readonly Table[] = [...ROW_TABLES, 'spans']
const DROP_ORDER: readonly (readonly Table[])[] = [ROWS, METRIC_TABLES, ['latency_1m'], ['latency_1h', 'latency_1d']]
/** Groups whose rows the sink looks up, with the fact that tells it which are gone. */
const DROPPED_BEFORE: readonly (readonly [tables: readonly Table[], state: StateName])[] = [
  [ROWS, 'rows_dropped_before'],
  [METRIC_TABLES, 'metrics_dropped_before'],
]

export function createStoreRetention(options: StoreRetentionOptions): StoreRetention {
  return new BudgetedStore(options)
}

interface Partition {
  readonly table: Table
  readonly partition: string
  readonly bytes: number
  readonly rows: number
}

class BudgetedStore implements StoreRetention {
  readonly name = 'retention'
  readonly #options: StoreRetentionOptions
  readonly #stopping = new AbortController()
  #loop: Promise<void> | undefined
  #usage: Usage
  #bytesMax: number

  constructor(options: StoreRetentionOptions) {
    this.#options = options
    this.#bytesMax = options.diskBytesMax
    this.#usage = { bytes: 0, bytesMax: options.diskBytesMax, over: false, partitionsDropped: 0, rowsDropped: 0 }
  }

  setBytesMax(bytesMax: number): void {
    this.#bytesMax = bytesMax
  }

  get usage(): Usage {
    return this.#usage
  }

  async start(): Promise<void> {
    this.#loop ??= this.#run()
  }

  async stop(_deadline: AbortSignal): Promise<void> {
    this.#stopping.abort()
    await this.#loop
  }

  async #run(): Promise<void> {
    const { clock, log, everyMs } = this.#options
    const { signal } = this.#stopping
    let failing = false
    while (!signal.aborted) {
      try {
        await this.enforce(signal)
        failing = false
      } catch (error) {
        if (!failing && !signal.aborted) log.warn({ error }, 'The size of the store cannot be looked at')
        failing = true
      }
      await clock.sleep(everyMs ?? EVERY_MS, signal)
    }
  }

  async enforce(signal: AbortSignal): Promise<Usage> {
    return await this.#options.exclusive(() => this.#enforce(signal))
  }

  async #enforce(signal: AbortSignal): Promise<Usage> {
    const diskBytesMax = this.#bytesMax
    const partitions = await this.#partitions(signal)
    let bytes = partitions.reduce((sum, partition) => sum + partition.bytes, 0)
    let { partitionsDropped, rowsDropped } = this.#usage
    while (bytes > diskBytesMax) {
      const oldest = oldestOf(partitions)
      if (oldest.length === 0) break
      await this.#drop(oldest, signal)
      for (const partition of oldest) {
        partitions.splice(partitions.indexOf(partition), 1)
        bytes -= partition.bytes
        partitionsDropped++
        rowsDropped += partition.rows
      }
    }
    const over = bytes > diskBytesMax
    if (over && !this.#usage.over) {
      this.#options.log.error(
        { bytes, bytesMax: diskBytesMax },
        'The newest day alone is larger than store.disk.max: raise it, or keep fewer rows',
      )
    }
    this.#usage = { bytes, bytesMax: diskBytesMax, over, partitionsDropped, rowsDropped }
    return this.#usage
  }

  async #drop(partitions: readonly Partition[], signal: AbortSignal): Promise<void> {
    const { clickhouse, log } = this.#options
    const { partition, table } = partitions[0]!
    for (const [tables, state] of DROPPED_BEFORE) {
      if (!tables.includes(table)) continue
      // First said, then done: rows that are said to be dropped and are not do no harm.
      const before = Math.max(dayOf(partition) + 1, await droppedBefore(clickhouse, state, signal))
      await writeState(clickhouse, state, String(before), signal)
    }
    for (const one of partitions) {
      await clickhouse.execute(
        {
          sql: `ALTER TABLE ${quoteName(clickhouse.database)}.${one.table} DROP PARTITION ID '${one.partition}'`,
          params: {},
        },
        { signal, timeoutMs: TIMEOUT_MS, settings: { max_partition_size_to_drop: 0 } },
      )
    }
    const rows = partitions.reduce((sum, one) => sum + one.rows, 0)
    const tables = partitions.map((one) => one.table)
    log.warn({ partition, tables, rows }, 'Dropped the oldest rows: the store is larger than store.disk.max')
  }

  async #partitions(signal: AbortSignal): Promise<Partition[]> {
    const { clickhouse } = this.#options
    const { rows } = await clickhouse.query<Partition>(
      {
        sql: `SELECT table, partition_id AS partition, sum(p.bytes_on_disk) AS bytes, sum(p.rows) AS rows
          FROM system.parts AS p WHERE active AND database = {database:String} GROUP BY table, partition_id`,
        params: { database: clickhouse.database },
      },
      { signal, timeoutMs: TIMEOUT_MS },
    )
    return rows.filter(({ table }) => TABLES.includes(table))
  }

  async oldestRow(table: Table, signal: AbortSignal): Promise<number | null> {
    const { clickhouse } = this.#options
    // Answered from the parts' own minima, without reading rows.
    const { column } = TABLE_TIME[table]
    const fine = column === 'end_time' || column === 'time'
    const time = fine ? `toUnixTimestamp64Milli(min(${column}))` : `toInt64(min(${column})) * 1000`
    try {
      const { rows } = await clickhouse.query<{ n: number; oldest: number }>(
        {
          sql: `SELECT count() AS n, ${time} AS oldest FROM ${quoteName(clickhouse.database)}.${table}`,
          params: {},
        },
        { signal, timeoutMs: TIMEOUT_MS },
      )
      const row = rows[0]
      return row === undefined || Number(row.n) === 0 ? null : Number(row.oldest)
    } catch (error) {
      throw storeError(error, `the oldest row of ${table} is not known`)
    }
  }
}

/** Day since the epoch before which rows were dropped for want of room; 0 when none were. */
export async function rowsDroppedBefore(clickhouse: ClickHouse, signal: AbortSignal): Promise<number> {
  return await droppedBefore(clickhouse, 'rows_dropped_before', signal)
}

/** The same for stats. */
export async function metricsDroppedBefore(clickhouse: ClickHouse, signal: AbortSignal): Promise<number> {
  return await droppedBefore(clickhouse, 'metrics_dropped_before', signal)
}

async function droppedBefore(clickhouse: ClickHouse, state: StateName, signal: AbortSignal): Promise<number> {
  return Number((await readState(clickhouse, state, signal)) ?? 0)
}

/** The partitions that go next: the oldest of the first group that has more than its newest. */
function oldestOf(partitions: readonly Partition[]): readonly Partition[] {
  for (const tables of DROP_ORDER) {
    const group = partitions.filter((one) => tables.includes(one.table) && one.rows > 0)
    const ids = [...new Set(group.map((one) => one.partition))].sort()
    if (ids.length > 1) return group.filter((one) => one.partition === ids[0])
  }
  return []
}

/** `20261121` as a day since the epoch. */
function dayOf(partition: string): number {
  const iso = `${partition.slice(0, 4)}-${partition.slice(4, 6)}-${partition.slice(6, 8)}T00:00:00Z`
  return Date.parse(iso) / 1000 / SECONDS_PER_DAY
}
