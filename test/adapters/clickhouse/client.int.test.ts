import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { type ClickHouse, type ClickHouseOptions, createClickHouse } from '../../../src/adapters/clickhouse/client.ts'
import { exceptionCode, failureKind } from '../../../src/adapters/clickhouse/failure.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { never } from '../../support/clickhouse.ts'
import { startTestStore, type TestStore } from '../../support/store.ts'

let test: TestStore

beforeAll(async () => {
  test = await startTestStore({ keep: true })
})
afterAll(async () => {
  await test?.stop()
})

function client(user: 'reader' | 'writer' = 'reader', more: Partial<ClickHouseOptions> = {}): ClickHouse {
  const clickhouse = createClickHouse({
    url: () => test.store.url,
    database: 'default',
    ...test.store.credentials[user],
    log: silentLog,
    ...more,
  })
  onTestFinished(() => clickhouse.close())
  return clickhouse
}

async function failure(work: Promise<unknown>): Promise<{ code: number | undefined; kind: string }> {
  try {
    await work
  } catch (error) {
    expect(error).toMatchObject({ name: 'SidecastError' })
    return { code: exceptionCode(error), kind: failureKind(error) }
  }
  throw new Error('it did not fail')
}

/** Statements of the engine whose text contains this, apart from the one that asks. */
async function running(text: string): Promise<number> {
  const { rows } = await client('writer').query<{ n: number }>(
    {
      sql: `SELECT count() AS n FROM system.processes WHERE position(query, {text:String}) > 0 AND query NOT LIKE '%system.processes%'`,
      params: { text },
    },
    { signal: never },
  )
  return Number(rows[0]!.n)
}

async function goneWithin(text: string, ms: number): Promise<boolean> {
  const began = performance.now()
  while (performance.now() - began < ms) {
    if ((await running(text)) === 0) return true
    await sleep(20)
  }
  return false
}

/** Runs for minutes without sending anything. `mark` tells it from others. */
const endless = (mark: string): string => `SELECT sum(cityHash64(number, '${mark}')) AS s FROM numbers(1000000000000)`

describe('a query', () => {
  it('binds its values, and tells what it read', async () => {
    const text = "it's \\ 'quoted' {x:String} \n\t ü"
    const result = await client().query(
      {
        sql: 'SELECT {text:String} AS text, {n:UInt64} AS n, {list:Array(String)} AS list FROM numbers(10) LIMIT 1',
        params: { text, n: 7, list: ["a'b", 'c'] },
      },
      { signal: never },
    )
    expect(result.rows).toEqual([{ text, n: 7, list: ["a'b", 'c'] }])
    expect(result.rowsRead).toBeGreaterThan(0)
    expect(result.elapsedMs).toBeGreaterThan(0)
  })

  it.each([
    ['too many rows', 'SELECT number FROM numbers(1000)', { resultRowsMax: 10 }, 396],
    ['too much memory', 'SELECT groupArray(number) FROM numbers(100000000)', { memoryBytesMax: 20_000_000 }, 241],
    ['too much time', endless('time'), { timeoutMs: 300 }, 159],
    ['bad SQL', 'SELECT (1', {}, 62],
    ['a table that is not there', 'SELECT 1 FROM nothing', {}, 60],
    ['a change', 'CREATE TABLE t (a UInt8) ENGINE = Memory', {}, 164],
  ])('fails by code for %s', async (_name, sql, limits, code) => {
    expect((await failure(client().query({ sql, params: {} }, { signal: never, ...limits }))).code).toBe(code)
  })

  it('is unreachable where nothing listens', async () => {
    const clickhouse = client('reader', { url: 'http://127.0.0.1:1' })
    expect(await failure(clickhouse.query({ sql: 'SELECT 1', params: {} }, { signal: never }))).toEqual({
      code: undefined,
      kind: 'unreachable',
    })
    expect(await clickhouse.ping(never)).toBe(false)
    expect(await client().ping(never)).toBe(true)
  })

  it('is gone from the engine within a second after its caller left', async () => {
    const leaving = new AbortController()
    const clickhouse = client()
    const query = failure(
      clickhouse.query({ sql: endless('leaving'), params: {} }, { signal: leaving.signal, timeoutMs: 60_000 }),
    )
    while ((await running("'leaving'")) === 0) await sleep(20)
    leaving.abort()
    expect(await goneWithin("'leaving'", 5000)).toBe(true)
    expect((await query).kind).toBe('ended')
  })

  it('is not sent when its caller has left before', async () => {
    const { kind } = await failure(client().query({ sql: 'SELECT 1', params: {} }, { signal: AbortSignal.abort() }))
    expect(kind).toBe('ended')
  })
})

describe('a stream', () => {
  it('brings all rows, in more than one piece', async () => {
    let [rows, pieces, sum] = [0, 0, 0]
    for await (const some of client().stream<{ number: number }>(
      { sql: 'SELECT number FROM numbers(200000)', params: {} },
      { signal: never },
    )) {
      pieces++
      rows += some.length
      for (const { number } of some) sum += number
    }
    expect([rows, sum, pieces > 1]).toEqual([200_000, 19_999_900_000, true])
  })

  it('ends its statement when the reader stops', async () => {
    const sql = `SELECT number, repeat('stopping', 100) AS t FROM numbers(100000000)`
    for await (const some of client().stream(
      { sql, params: {} },
      { signal: never, resultRowsMax: 2 ** 40, timeoutMs: 60_000 },
    )) {
      expect(some.length).toBeGreaterThan(0)
      break
    }
    expect(await goneWithin('stopping', 5000)).toBe(true)
  })

  it('fails like a query', async () => {
    const read = async () => {
      for await (const _some of client().stream({ sql: 'SELECT (1', params: {} }, { signal: never }));
    }
    expect((await failure(read())).code).toBe(62)
  })
})

it('follows the engine to another port', async () => {
  let url = 'http://127.0.0.1:1'
  const clickhouse = client('reader', { url: () => url })
  expect(await clickhouse.ping(never)).toBe(false)
  url = test.store.url
  expect(await clickhouse.ping(never)).toBe(true)
})

it('ends a statement by its id, and says whether it is gone', async () => {
  const clickhouse = client('writer')
  const statement = failure(
    clickhouse.execute(
      { sql: `INSERT INTO FUNCTION null('s UInt64') ${endless('by id')}`, params: {} },
      { signal: never, queryId: 'the-one', timeoutMs: 60_000 },
    ),
  )
  while ((await running("'by id'")) === 0) await sleep(20)
  expect(await clickhouse.end('the-one', never)).toBe(true)
  expect((await statement).kind).toBe('ended')
  expect(await clickhouse.end('never-was', never)).toBe(true)
})
