import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Segment } from '../../../src/pipeline/segment.ts'
import {
  createTestDatabase,
  disagreements,
  never,
  rowsOf,
  startCuttingProxy,
  storedBySegment,
} from '../../support/clickhouse.ts'
import { createSegmentMaker, type SegmentMaker, type SegmentOptions } from '../../support/segments.ts'
import { startTestStore, type TestStore } from '../../support/store.ts'

let test: TestStore
let maker: SegmentMaker
let sequence = 0

beforeAll(async () => {
  test = await startTestStore({ keep: true })
  maker = await createSegmentMaker(test.writer, test.dir)
})
afterAll(async () => {
  await test?.stop()
})

const DAY = 86_400
/** Not far from now, so that nothing expires; the same day of the week for a whole run. */
const now = Math.floor(Date.now() / 1000)

/** A segment that no process before this one can have sent. */
async function segment(options: Partial<SegmentOptions> = {}): Promise<Segment> {
  return await maker.make({
    seq: ++sequence,
    rows: 1000,
    fromSeconds: now - 600,
    spanSeconds: 90,
    openedMs: Date.now() + 60_000,
    ...options,
  })
}

const ACCEPTED = { status: 'accepted' }

describe('a new segment', () => {
  it('is stored with its rollups, in minutes and hours', async () => {
    const database = await createTestDatabase(test)
    const sink = await database.sink()
    const one = await segment({ tables: ['requests', 'attempts', 'progress', 'connections'], blocks: 3 })
    expect(await sink.send(one, never)).toEqual(ACCEPTED)
    for (const table of ['requests', 'attempts', 'progress', 'connections']) {
      expect([...(await storedBySegment(database, table))]).toEqual([[one.id, 1000]])
    }
    expect(await disagreements(database)).toEqual([])
    expect(sink.counters).toMatchObject({
      segments: 1,
      lookups: 0,
      retries: 0,
      rows: { requests: 1000, attempts: 1000 },
    })
  })

  it('becomes one part for each partition, however many blocks its file has', async () => {
    const database = await createTestDatabase(test)
    const sink = await database.sink()
    expect(
      await sink.send(await segment({ rows: 3000, days: 4, fromSeconds: now - 4 * DAY, blocks: 7 }), never),
    ).toEqual(ACCEPTED)
    const parts = await database.rows<{ n: number }>(
      `SELECT count() AS n FROM system.parts WHERE database = currentDatabase() AND table = 'requests' AND level = 0 GROUP BY partition`,
    )
    expect(parts.map(({ n }) => Number(n))).toEqual([1, 1, 1, 1])
    expect(await disagreements(database)).toEqual([])
  })

  it('goes as a stream to an engine that cannot read our files', async () => {
    const database = await createTestDatabase(test)
    const sink = await database.sink({ readsFiles: false })
    const one = await segment({ blocks: 3 })
    expect(await sink.send(one, never)).toEqual(ACCEPTED)
    expect([...(await storedBySegment(database))]).toEqual([[one.id, 1000]])
    expect(await disagreements(database)).toEqual([])
  })

  it('may have 300 day-partitions', async () => {
    const database = await createTestDatabase(test, { retention: LONG })
    const sink = await database.sink({ retention: LONG })
    const one = await segment({ rows: 3000, fromSeconds: now - 300 * DAY, spanSeconds: 60, days: 300 })
    expect(one.tables[0]!.days.size).toBe(300)
    expect(await sink.send(one, never)).toEqual(ACCEPTED)
    expect([...(await storedBySegment(database))]).toEqual([[one.id, 3000]])
    expect(await disagreements(database)).toEqual([])
  })
})

const LONG = {
  rowsMs: 400 * DAY * 1000,
  minutesMs: 500 * DAY * 1000,
  hoursMs: 1095 * DAY * 1000,
  metricsMs: 400 * DAY * 1000,
}

describe('a segment that was sent before', () => {
  it('is found stored by the next process, and is not stored again', async () => {
    const database = await createTestDatabase(test)
    const one = await segment({ openedMs: Date.now() - 1000, tables: ['requests', 'attempts'] })
    expect(await (await database.sink()).send(one, never)).toEqual(ACCEPTED)
    const next = await database.sink()
    expect(await next.send(one, never)).toEqual(ACCEPTED)
    expect(next.counters.lookups).toBe(2)
    expect([...(await storedBySegment(database, 'attempts'))]).toEqual([[one.id, 1000]])
    expect(await disagreements(database)).toEqual([])
  })

  it.each([
    ['INSERT INTO', 'requests', 'before'],
    ['INSERT INTO', 'requests', 'after'],
    ['INSERT INTO', 'attempts', 'before'],
    ['INSERT INTO', 'attempts', 'after'],
    ['INSERT INTO', 'latency_1m', 'before'],
    ['INSERT INTO', 'latency_1m', 'after'],
  ] as const)('is whole after the connection broke at %s %s, %s it was carried out', async (verb, table, when) => {
    const proxy = await startCuttingProxy(() => test.store.url)
    const database = await createTestDatabase(test, { url: () => proxy.url })
    const sink = await database.sink()
    const one = await segment({ tables: ['requests', 'attempts'], fromSeconds: now - 2 * DAY, days: 2 })
    expect(await sink.send(await segment(), never)).toEqual(ACCEPTED)
    proxy.cut(`${verb} \`${database.clickhouse.database}\`.${table}`, when)
    expect((await sink.send(one, never)).status).toBe('retry')
    expect(proxy.cuts).toBe(1)
    expect(await sink.send(one, never)).toEqual(ACCEPTED)
    expect((await storedBySegment(database)).get(one.id)).toBe(1000)
    expect((await storedBySegment(database, 'attempts')).get(one.id)).toBe(1000)
    expect(await disagreements(database)).toEqual([])
  })

  it('is made whole where some partitions of it are stored, in part or twice', async () => {
    const database = await createTestDatabase(test)
    const one = await segment({ openedMs: 0, rows: 4000, fromSeconds: now - 4 * DAY, days: 4 })
    await (await database.sink()).send(one, never)
    const days = [...one.tables[0]!.days.keys()].sort((a, b) => a - b)
    const table = `\`${database.clickhouse.database}\`.requests`
    const run = (sql: string) =>
      database.clickhouse.execute({ sql, params: {} }, { signal: never, settings: { mutations_sync: 1 } })
    await run(`ALTER TABLE ${table} DROP PARTITION '${date(days[0]!)}'`)
    await run(
      `ALTER TABLE ${table} DELETE WHERE toDate(end_time) = '${date(days[1]!)}' AND cityHash64(request_uuid) % 3 = 0`,
    )
    await run(`INSERT INTO ${table} SELECT * FROM ${table} WHERE toDate(end_time) = '${date(days[2]!)}'`)
    expect(await disagreements(database)).not.toEqual([])
    const sink = await database.sink()
    expect(await sink.send(one, never)).toEqual(ACCEPTED)
    expect(sink.counters).toMatchObject({ daysMissing: 1, daysWrong: 2 })
    expect((await storedBySegment(database)).get(one.id)).toBe(4000)
    expect(await disagreements(database)).toEqual([])
  })

  it('is not lost to a deduplication log that knows a block whose part is not there', async () => {
    const database = await createTestDatabase(test)
    const one = await segment({ openedMs: 0 })
    await (await database.sink()).send(one, never)
    const drop = `ALTER TABLE \`${database.clickhouse.database}\`.requests DROP PARTITION '${date([...one.tables[0]!.days.keys()][0]!)}'`
    await database.clickhouse.execute({ sql: drop, params: {} }, { signal: never })
    const sink = await database.sink()
    expect(await sink.send(one, never)).toEqual(ACCEPTED)
    expect((await storedBySegment(database)).get(one.id)).toBe(1000)
    expect(await disagreements(database)).toEqual([])
  })

  it('counts as stored where its days were dropped for want of room', async () => {
    const database = await createTestDatabase(test)
    const one = await segment({ openedMs: 0, fromSeconds: now - 3 * DAY, spanSeconds: 60 })
    await (await database.sink()).send(one, never)
    const day = [...one.tables[0]!.days.keys()][0]!
    const name = database.clickhouse.database
    const run = (sql: string) => database.clickhouse.execute({ sql, params: {} }, { signal: never })
    await run(`ALTER TABLE \`${name}\`.requests DROP PARTITION '${date(day)}'`)
    await run(`INSERT INTO \`${name}\`.state (name, value) SELECT 'rows_dropped_before', '${day + 1}'`)
    const sink = await database.sink()
    expect(await sink.send(one, never)).toEqual(ACCEPTED)
    expect(await storedBySegment(database)).toEqual(new Map())
    expect(await database.rows('SELECT sum(n) AS n FROM latency_1m')).toEqual([{ n: 1000 }])
  })
})

describe('a recovered segment', () => {
  it('gets its rollup from its rows', async () => {
    const database = await createTestDatabase(test)
    const sink = await database.sink()
    expect(await sink.send(await segment(), never)).toEqual(ACCEPTED)
    expect(await sink.send(await segment({ recovered: true }), never)).toEqual(ACCEPTED)
    expect(await database.rows('SELECT count() AS n FROM requests')).toEqual([{ n: 2000 }])
    expect(await disagreements(database)).toEqual([])
  })

  it('puts keys beyond the bound of a minute under the overflow key, and totals stay exact', async () => {
    const database = await createTestDatabase(test)
    const sink = await database.sink({ keysMax: 5 })
    expect(await sink.send(await segment({ recovered: true, days: 2, fromSeconds: now - DAY - 600 }), never)).toEqual(
      ACCEPTED,
    )
    expect(await disagreements(database)).toEqual([])
    const keys = await database.rows<{ keys: number; overflow: number }>(
      `SELECT count() AS keys, countIf(destination_service = 'overflow' AND method = 'overflow') AS overflow FROM latency_1m GROUP BY minute`,
    )
    expect(keys.length).toBeGreaterThanOrEqual(4)
    for (const minute of keys) expect(minute).toEqual({ keys: 6, overflow: 1 })
  })

  it('takes nothing away that was stored before it was damaged', async () => {
    const database = await createTestDatabase(test)
    const whole = await segment()
    await (await database.sink()).send(whole, never)
    const less = await maker.make({
      seq: whole.seq,
      rows: 400,
      fromSeconds: now - 600,
      spanSeconds: 36,
      recovered: true,
    })
    expect(await (await database.sink()).send(less, never)).toEqual(ACCEPTED)
    expect([...(await storedBySegment(database))]).toEqual([[whole.id, 1000]])
    expect(await disagreements(database)).toEqual([])
  })
})

describe('when the engine starts', () => {
  it('looks up segments that were accepted before and repairs them and their rollups', async () => {
    const database = await createTestDatabase(test)
    const kept: Segment[] = []
    const sink = await database.sink({ kept: () => kept })
    for (let k = 0; k < 3; k++) {
      const one = await segment({ fromSeconds: now - DAY, days: 2 })
      expect(await sink.send(one, never)).toEqual(ACCEPTED)
      kept.push(one)
    }
    const name = database.clickhouse.database
    const run = (sql: string) =>
      database.clickhouse.execute({ sql, params: {} }, { signal: never, settings: { mutations_sync: 1 } })
    await run(`ALTER TABLE \`${name}\`.requests DELETE WHERE segment = '${kept[1]!.id}'`)
    await run(`ALTER TABLE \`${name}\`.latency_1m DELETE WHERE destination_service = 'svc-3'`)
    await run(`ALTER TABLE \`${name}\`.latency_1h DELETE WHERE destination_service = 'svc-5'`)
    sink.engineStarted()
    expect(await sink.settle(never)).toEqual(ACCEPTED)
    expect(await storedBySegment(database)).toEqual(new Map(kept.map((one) => [one.id, 1000])))
    expect(await disagreements(database)).toEqual([])
    expect(sink.counters.minutesCorrected).toBeGreaterThan(0)
    expect(sink.counters.hoursCorrected).toBeGreaterThan(0)
  })

  it('takes off again what a rollup has too much', async () => {
    const database = await createTestDatabase(test)
    const one = await segment()
    const sink = await database.sink({ kept: () => [one] })
    await sink.send(one, never)
    const name = database.clickhouse.database
    await database.clickhouse.execute(
      { sql: `INSERT INTO \`${name}\`.latency_1m SELECT * FROM \`${name}\`.latency_1m`, params: {} },
      { signal: never },
    )
    expect(await disagreements(database)).not.toEqual([])
    sink.engineStarted({ powerLost: true })
    expect(await sink.settle(never)).toEqual(ACCEPTED)
    expect(await disagreements(database)).toEqual([])
    for (const table of ['latency_1m', 'latency_1h']) {
      await database.clickhouse.execute(
        { sql: `OPTIMIZE TABLE \`${name}\`.${table} FINAL`, params: {} },
        { signal: never },
      )
    }
    expect(await disagreements(database)).toEqual([])
  })
})

describe('rows at a strange time', () => {
  it('are kept, marked and counted', async () => {
    const database = await createTestDatabase(test)
    const sink = await database.sink()
    const late = await segment({ rows: 100, fromSeconds: now - 30 * DAY, spanSeconds: 60 })
    const future = await segment({ rows: 50, fromSeconds: now + 2 * DAY, spanSeconds: 60 })
    for (const one of [late, future, await segment()]) expect(await sink.send(one, never)).toEqual(ACCEPTED)
    expect(sink.counters).toMatchObject({ rowsLate: 100, rowsFuture: 50 })
    expect(await database.rows('SELECT countIf(in_future) AS n FROM requests')).toEqual([{ n: 50 }])
    expect(await database.rows('SELECT sum(n) AS n FROM latency_1m')).toEqual([{ n: 1150 }])
  })
})

describe('failures', () => {
  it('are a retry while the store is away, or the sender stops', async () => {
    let url = test.store.url
    const database = await createTestDatabase(test, { url: () => url })
    const sink = await database.sink()
    const one = await segment()
    url = 'http://127.0.0.1:1'
    expect(await sink.send(one, never)).toMatchObject({ status: 'retry', error: { code: 'SC4103' } })
    url = test.store.url
    expect(await sink.send(one, AbortSignal.abort())).toMatchObject({ status: 'retry' })
    expect(await sink.send(one, never)).toEqual(ACCEPTED)
    expect(sink.counters.retries).toBe(2)
    expect(await disagreements(database)).toEqual([])
  })

  it('are a rejection where the data cannot be read, and nothing of it is stored', async () => {
    const database = await createTestDatabase(test)
    const sink = await database.sink()
    const one = await segment()
    const path = join(test.dir, 'torn.native')
    await writeFile(path, Buffer.from('\x02\x05not a block at all'))
    const torn: Segment = { ...one, tables: [{ ...one.tables[0]!, file: path }] }
    expect(await sink.send(torn, never)).toMatchObject({ status: 'rejected', error: { code: 'SC4103' } })
    expect(await storedBySegment(database)).toEqual(new Map())
    const good = await segment()
    expect(await sink.send(good, never)).toEqual(ACCEPTED)
  })

  it('are a retry where a table is missing: the data is not at fault', async () => {
    const database = await createTestDatabase(test)
    const sink = await database.sink()
    await sink.send(await segment(), never)
    await database.clickhouse.execute(
      { sql: `DROP TABLE \`${database.clickhouse.database}\`.attempts SYNC`, params: {} },
      { signal: never },
    )
    expect(await sink.send(await segment({ tables: ['requests', 'attempts'] }), never)).toMatchObject({
      status: 'retry',
    })
  })

  it('release the files of a segment only when no statement can be reading them', async () => {
    const proxy = await startCuttingProxy(() => test.store.url)
    const database = await createTestDatabase(test, { url: () => proxy.url })
    const sink = await database.sink()
    let held = 0
    const hold = () => {
      held++
      return () => {
        held--
      }
    }
    const one: Segment = { ...(await segment()), hold }
    proxy.cut(`INSERT INTO \`${database.clickhouse.database}\`.requests`, 'after')
    expect((await sink.send(one, never)).status).toBe('retry')
    expect(held).toBe(1)
    expect(await sink.send(one, never)).toEqual(ACCEPTED)
    expect(held).toBe(0)
    expect(rowsOf(one)).toBe(1000)
  })
})

function date(day: number): string {
  return new Date(day * DAY * 1000).toISOString().slice(0, 10)
}
