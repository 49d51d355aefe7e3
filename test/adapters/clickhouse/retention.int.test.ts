import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  createStoreRetention,
  metricsDroppedBefore,
  rowsDroppedBefore,
} from '../../../src/adapters/clickhouse/retention.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { createTestDatabase, never, type TestDatabase } from '../../support/clickhouse.ts'
import { startTestStore, type TestStore } from '../../support/store.ts'

let test: TestStore

beforeAll(async () => {
  test = await startTestStore({ keep: true })
})
afterAll(async () => {
  await test?.stop()
})

const DAY_MS = 86_400_000
const today = Math.floor(Date.now() / DAY_MS)

/** 10 000 rows a day of requests, and 100 of attempts, today and `days - 1` days before. */
async function filled(days: number): Promise<TestDatabase> {
  const database = await createTestDatabase(test)
  for (const [table, rows] of [
    ['requests', 10_000],
    ['attempts', 100],
  ] as const) {
    await database.clickhouse.execute(
      {
        sql: `INSERT INTO ${table} (end_time, request_uuid) SELECT toDateTime64(toDate(${today}) - number % ${days}, 9, 'UTC') + INTERVAL 1 HOUR, generateUUIDv4() FROM numbers(${rows * days})`,
        params: {},
      },
      { signal: never },
    )
  }
  return database
}

const retention = (database: TestDatabase, diskBytesMax: number, more: { everyMs?: number } = {}) =>
  createStoreRetention({
    clickhouse: database.clickhouse,
    log: silentLog,
    clock: systemClock,
    diskBytesMax,
    exclusive: (work) => work(),
    ...more,
  })

it('drops nothing within its room', async () => {
  const database = await filled(4)
  const usage = await retention(database, 2 ** 40).enforce(never)
  expect(usage).toMatchObject({ over: false, partitionsDropped: 0, rowsDropped: 0 })
  expect(usage.bytes).toBeGreaterThan(40_000 * 16)
  expect(await rowsDroppedBefore(database.clickhouse, never)).toBe(0)
})

it('drops the oldest days first, of all row tables, counts them and remembers it', async () => {
  const database = await filled(5)
  const all = (await retention(database, 2 ** 40).enforce(never)).bytes
  const usage = await retention(database, all * 0.5).enforce(never)
  expect(usage).toMatchObject({ over: false, partitionsDropped: 6, rowsDropped: 30_300 })
  expect(usage.bytes).toBeLessThanOrEqual(all * 0.5)
  expect(await rowsDroppedBefore(database.clickhouse, never)).toBe(today - 1)
  expect(await database.rows('SELECT count() AS n, toString(toDate(min(end_time))) AS day FROM requests')).toEqual([
    { n: 20_000, day: new Date((today - 1) * DAY_MS).toISOString().slice(0, 10) },
  ])
  expect(await database.rows('SELECT count() AS n FROM attempts')).toEqual([{ n: 200 }])
})

it('drops days of stats once there is one day of rows left', async () => {
  const database = await filled(2)
  for (const table of ['samples', 'histograms', 'exemplars', 'series']) {
    await database.clickhouse.execute(
      {
        sql: `INSERT INTO ${table} (time, segment) SELECT toDateTime64(toDate(${today}) - number % 3, 3, 'UTC'), '' FROM numbers(30)`,
        params: {},
      },
      { signal: never },
    )
  }
  expect(await retention(database, 1000).enforce(never)).toMatchObject({ over: true, partitionsDropped: 2 + 8 })
  expect(await metricsDroppedBefore(database.clickhouse, never)).toBe(today)
  expect(await rowsDroppedBefore(database.clickhouse, never)).toBe(today)
  for (const table of ['samples', 'histograms', 'exemplars', 'series']) {
    expect(await database.rows(`SELECT count() AS n FROM ${table}`)).toEqual([{ n: 10 }])
  }
})

it('keeps the newest day, and says that the store is over its room', async () => {
  const database = await filled(3)
  const store = retention(database, 1000)
  expect(await store.enforce(never)).toMatchObject({ over: true, partitionsDropped: 4 })
  expect(store.usage.over).toBe(true)
  expect(await database.rows('SELECT count() AS n FROM requests')).toEqual([{ n: 10_000 }])
})

it('drops months of hours with those of their days, and keeps the newest', async () => {
  const database = await createTestDatabase(test)
  for (const [table, time] of [
    ['latency_1h', 'hour'],
    ['latency_1d', 'day'],
  ]) {
    const sql = `INSERT INTO ${table} (${time}, n) SELECT toStartOfMonth(now()) - toIntervalMonth(number), 1 FROM numbers(3)`
    await database.clickhouse.execute({ sql, params: {} }, { signal: never })
  }
  expect(await retention(database, 1).enforce(never)).toMatchObject({
    over: true,
    partitionsDropped: 4,
    rowsDropped: 4,
  })
  for (const table of ['latency_1h', 'latency_1d']) {
    expect(await database.rows(`SELECT count() AS n FROM ${table}`)).toEqual([{ n: 1 }])
  }
})

it('tells the oldest row of a table', async () => {
  const database = await filled(3)
  const store = retention(database, 2 ** 40)
  expect(await store.oldestRow('requests', never)).toBe((today - 2) * DAY_MS + 3_600_000)
  expect(await store.oldestRow('latency_1h', never)).toBeNull()
})

it('looks by itself until it is stopped', async () => {
  const database = await filled(3)
  const store = retention(database, 1000, { everyMs: 50 })
  await store.start()
  await expect.poll(() => store.usage.partitionsDropped, { timeout: 60_000 }).toBe(4)
  await store.stop(AbortSignal.timeout(1000))
  await store.stop(AbortSignal.timeout(1000))
})
