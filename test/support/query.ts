import { type ClickHouse, createClickHouse } from '../../src/adapters/clickhouse/client.ts'
import { createDayRollups, type DayRollups } from '../../src/adapters/clickhouse/days.ts'
import { createInserts } from '../../src/adapters/clickhouse/insert.ts'
import { migrate } from '../../src/adapters/clickhouse/migrations.ts'
import { createRollups } from '../../src/adapters/clickhouse/rollups.ts'
import { type Clock, systemClock } from '../../src/lib/clock.ts'
import type { QueryStore } from '../../src/model/query.ts'
import type { LedgerSource, StatusSource } from '../../src/query/ports.ts'
import type { StatusReport } from '../../src/query/schemas.ts'
import { createQueryServer, type QueryServer, type QueryServerOptions } from '../../src/query/server.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { createWeb } from '../../src/web/serve.ts'
import type { TestStore } from './store.ts'

/** Tables of these tests keep everything: their rows are of a fixed time, and expiry goes by the real one. */
const FOR_EVER_MS = 50 * 365 * 86_400_000
const signal = new AbortController().signal

export interface QueryDatabase {
  readonly name: string
  readonly writer: ClickHouse
  readonly reader: ClickHouse
  /** Rows of `requests`: columns that are left out have their default. */
  insert(rows: readonly Readonly<Record<string, unknown>>[]): Promise<void>
  execute(sql: string): Promise<void>
  /** Makes the rollups what the rows say, for whole hours (Unix seconds). */
  rollUp(fromSeconds: number, toSeconds: number, keysMax?: number): Promise<void>
  /** What makes the rollups of days that are over at that time. */
  days(clock: Clock, clickhouse?: ClickHouse): DayRollups
}

export async function createQueryDatabase(test: TestStore, name: string): Promise<QueryDatabase> {
  const client = (user: 'reader' | 'writer') =>
    createClickHouse({ url: () => test.store.url, database: name, ...test.store.credentials[user], log: silentLog })
  const [writer, reader] = [client('writer'), client('reader')]
  const retention = { rowsMs: FOR_EVER_MS, minutesMs: FOR_EVER_MS, hoursMs: FOR_EVER_MS, metricsMs: FOR_EVER_MS }
  await migrate({ clickhouse: writer, retention, log: silentLog, signal })
  const execute = (sql: string, params: Readonly<Record<string, unknown>> = {}, settings = {}) =>
    writer.execute({ sql, params }, { signal, timeoutMs: 120_000, settings })
  return {
    name,
    writer,
    reader,
    async insert(rows) {
      for (let k = 0; k < rows.length; k += 10_000) {
        await test.writer.insert({
          table: `${name}.requests`,
          values: rows.slice(k, k + 10_000),
          format: 'JSONEachRow',
          clickhouse_settings: { date_time_input_format: 'best_effort' },
        })
      }
    },
    execute: (sql) => execute(sql),
    days: (clock, clickhouse = writer) =>
      createDayRollups({
        clickhouse,
        inserts: createInserts({ clickhouse, readsFiles: true }),
        retention,
        clock,
        log: silentLog,
      }),
    async rollUp(fromSeconds, toSeconds, keysMax = 1_000_000) {
      const rollups = createRollups({
        clickhouse: writer,
        inserts: createInserts({ clickhouse: writer, readsFiles: true }),
        log: silentLog,
        keysMax,
        timeoutMs: 120_000,
        complete: async () => ({ rows: 0, minutes: 0 }),
        onCorrected: () => {},
      })
      const minutes = Array.from({ length: Math.ceil((toSeconds - fromSeconds) / 60) }, (_, k) => fromSeconds + k * 60)
      rollups.doubt(minutes)
      await rollups.settle(signal)
    },
  }
}

export const QUIET_LEDGER: LedgerSource = {
  through: () => null,
  coverage: () => null,
  precisionNs: () => 1,
  nodes: () => [],
  adapters: () => [],
  since: () => null,
}

export const STATUS_REPORT: StatusReport = {
  version: '0.0.0',
  started: '2026-01-10T00:00:00Z',
  config: { taken: '2026-11-21T12:00:00.000Z', reloads_taken: 0, reloads_refused: 0, last_reload: null },
  listeners: [{ name: 'http', address: '127.0.0.1:8080', state: 'listening', error: null }],
  receivers: [{ name: 'als', kind: 'requests', last_row: null, rows: 0, rejected: 0, last_error: null }],
  nodes: { connected: 0, seen: 0, list: [] },
  store: {
    kind: 'embedded',
    ready: true,
    ping_ms: 1.5,
    waiting_rows: 0,
    waiting_segments: 0,
    restarts: 0,
    error: null,
  },
  adapters: [],
  disk: {
    journal_bytes: 0,
    journal_bytes_max: 1,
    store_bytes: null,
    store_bytes_max: null,
    free_bytes: null,
    full: false,
    days_left: null,
  },
  first_run: [{ step: 'listening', title: 'Listening', done: true, at: null, seen: null, help: null }],
}

export const WELL: StatusSource = {
  report: async () => STATUS_REPORT,
  unhealthy: () => [],
  unready: async () => [],
}

export function createTestServer(store: QueryStore, options: Partial<QueryServerOptions> = {}): QueryServer {
  return createQueryServer({
    listen: '127.0.0.1:0',
    store,
    ledger: QUIET_LEDGER,
    status: WELL,
    metrics: () => ({ type: 'text/plain; version=0.0.4', body: 'sidecast_up 1\n' }),
    mesh: () => ({ type: 'text/plain; version=0.0.4', body: '' }),
    web: createWeb(),
    retention: { rowsMs: null, minutesMs: null, hoursMs: null },
    log: silentLog,
    clock: systemClock,
    ...options,
  })
}

/** A clock that stands still. */
export function clockAt(time: string): Clock {
  const ms = Date.parse(time)
  return { ...systemClock, now: () => ms }
}
