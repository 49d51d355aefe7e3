import { afterAll, beforeAll, expect, test } from 'vitest'
import { BUCKET_MAX, bucketOf, codeOf, exactEdge, ZERO_BUCKET } from '../../src/model/buckets.ts'
import { bucketCodeSql, bucketSql } from '../../src/model/histogram-sql.ts'
import { DISTRIBUTIONS, drawDistribution } from '../support/distributions.ts'
import { startTestStore, type TestStore } from '../support/store.ts'

let engine: TestStore
beforeAll(async () => {
  engine = await startTestStore({ keep: true })
  await engine.writer.command({ query: 'CREATE TABLE numbers_ns (ns UInt64) ENGINE = MergeTree ORDER BY tuple()' })
})
afterAll(() => engine.stop())

/** What the engine makes of values that are sent as text, in order. */
async function inSql(values: readonly bigint[]): Promise<{ code: number; bucket: number }[]> {
  await engine.writer.command({ query: 'TRUNCATE TABLE numbers_ns' })
  await engine.writer.insert({
    table: 'numbers_ns',
    values: values.map((ns) => ({ ns: String(ns) })),
    format: 'JSONEachRow',
  })
  const result = await engine.reader.query({
    query: `SELECT toString(ns) AS value, ${bucketCodeSql('ns')} AS code, ${bucketSql('ns')} AS bucket FROM numbers_ns`,
    format: 'JSONEachRow',
  })
  const rows = await result.json<{ value: string; code: number; bucket: number }>()
  const found = new Map(rows.map((row) => [row.value, row]))
  return values.map((value) => found.get(String(value))!)
}

test('the engine and TypeScript agree at every edge and its neighbours', async () => {
  const values = new Set([0n, 1n, 2n ** 64n - 1n])
  for (let i = ZERO_BUCKET; i < BUCKET_MAX; i++) {
    // Above 2^53 ns a double has the value that the engine compares: the nearest one.
    for (const d of [-1n, 0n, 1n]) if (exactEdge(i) + d >= 0n) values.add(exactEdge(i) + d)
  }
  const list = [...values]
  const rows = await inSql(list)
  list.forEach((value, k) => {
    expect([value, rows[k]!.code, rows[k]!.bucket]).toEqual([value, codeOf(Number(value)), bucketOf(Number(value))])
  })
})

test('the engine and TypeScript agree on every distribution', async () => {
  const values = new Set<number>()
  for (const name of Object.keys(DISTRIBUTIONS)) for (const value of drawDistribution(name, 2000, 7)) values.add(value)
  const list = [...values]
  const rows = await inSql(list.map(BigInt))
  expect(rows.map((row) => row.bucket)).toEqual(list.map(bucketOf))
})
