import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { QUERIES, type Query } from '../../dashboards/queries.ts'
import { expandSql, type GrafanaVariables } from '../support/grafana.ts'
import { createQueryDatabase, type QueryDatabase } from '../support/query.ts'
import { makeRows, type OracleRow, onceEach, storedRow } from '../support/query-oracle.ts'
import { startTestStore, type TestStore } from '../support/store.ts'

/** The ClickHouse set on the embedded engine, over an hour of requests and of Sidecast's own samples. */
const START = Date.parse('2026-01-10T10:00:00Z') / 1000
const TIME = { from: START, to: START + 3600, intervalSeconds: 60 }
const rows: OracleRow[] = makeRows(3, 6000, START, 1)

let store: TestStore
let db: QueryDatabase
const queries: [string, Query][] = Object.entries(QUERIES)

beforeAll(async () => {
  store = await startTestStore({ keep: true })
  db = await createQueryDatabase(store, 'dashboards')
  await db.insert(rows.map(storedRow))
  await db.rollUp(START, START + 3600)
  await ownSamples()
})
afterAll(() => store?.stop())

/** Every own metric that a query names, as two processes sample it: each minute, counters by 60 and a restart. */
async function ownSamples(): Promise<void> {
  const names = new Set(queries.flatMap(([, query]) => query.clickhouse.flatMap(({ sql }) => nameOf(sql) ?? [])))
  expect(names.size).toBeGreaterThan(15)
  const list = [...names].map((name) => `'${name}'`).join(', ')
  await db.execute(`INSERT INTO ${db.name}.series (id, name, job, instance, labels, time)
    SELECT number + 1, name, 'sidecast', 'a:8080', map('table', 'requests', 'adapter', 'clickhouse', 'result', 'delivered'), toDateTime64('2026-01-10 10:00:00', 3)
    FROM (SELECT arrayJoin(arrayEnumerate([${list}])) AS number, [${list}][number] AS name)`)
  await db.execute(`INSERT INTO ${db.name}.samples (series, time, value)
    SELECT number + 1, toDateTime64('2026-01-10 10:00:30', 3) + toIntervalMinute(minute), if(minute < 30, minute * 60, (minute - 29) * 60)
    FROM (SELECT arrayJoin(arrayEnumerate([${list}])) AS number) AS n CROSS JOIN (SELECT number AS minute FROM numbers(60)) AS m`)
}

const nameOf = (sql: string) => /FROM series WHERE job = 'sidecast' AND name = '(\w+)'/.exec(sql)?.[1]

async function ask(sql: string, variables: GrafanaVariables = {}): Promise<Record<string, unknown>[]> {
  const result = await db.reader.query<Record<string, unknown>>(
    { sql: expandSql(sql, TIME, variables), params: {} },
    { signal: AbortSignal.timeout(30_000) },
  )
  return result.rows
}

const numbers = (row: Record<string, unknown>) => Object.values(row).filter((value) => typeof value === 'number')

describe('the dashboards of the ClickHouse set', () => {
  it('have no query that the engine refuses or has no rows for', async () => {
    for (const [name, query] of queries) {
      for (const { sql } of query.clickhouse) {
        const found = await ask(sql).catch((error: unknown) => {
          throw new Error(`${name}: ${error}\n${sql}`)
        })
        expect(found.length, name).toBeGreaterThan(0)
        for (const row of found) {
          expect(numbers(row).length, name).toBeGreaterThan(0)
          for (const value of numbers(row)) expect(value, name).toSatisfy(Number.isFinite)
        }
      }
    }
  })

  it('show each request once, and quantiles within 0.55 %', async () => {
    const truth = onceEach(rows)
    const points = await ask(QUERIES.mesh_rate.clickhouse[0]!.sql)
    const requests = points.reduce((sum, point) => sum + Number(point.requests) * 60, 0)
    expect(requests).toBeCloseTo(truth.length, 6)
    for (const row of await ask(QUERIES.mesh_services.clickhouse[0]!.sql)) {
      const mine = truth.filter((one) => one.service === row.destination_service)
      expect(Number(row.rate) * 3600).toBeCloseTo(mine.length, 6)
      expect(row.failed).toBeCloseTo(mine.filter((one) => one.class === 'server_error').length / mine.length, 9)
      const sorted = mine.map((one) => one.duration / 1e6).sort((a, b) => a - b)
      for (const [name, q] of [
        ['p50', 0.5],
        ['p99', 0.99],
      ] as const) {
        const value = sorted[Math.ceil(q * sorted.length) - 1]!
        expect(Math.abs(Number(row[name]) - value), name).toBeLessThanOrEqual(value * 0.00542 + 1e-6)
      }
    }
  })

  it('choose by variables, whose values are quoted', async () => {
    const { sql } = QUERIES.edge_figures.clickhouse[0]!
    const source = `it's "quoted"\\`
    const found = await ask(sql, { source: [source], service: ['both', 'solo'] })
    expect(new Set(found.map((row) => row.source_workload))).toEqual(new Set([source]))
    expect(new Set(found.map((row) => row.destination_service))).toEqual(new Set(['both', 'solo']))
  })

  it('take a counter that began again for what it shows, and not for a loss', async () => {
    const [target] = QUERIES.self_memory.clickhouse
    expect((await ask(target!.sql)).at(-1)).toMatchObject({ label: 'main process', value: 1800 })
    const rates = await ask(QUERIES.self_cpu.clickhouse[0]!.sql)
    expect(rates.slice(1).map((row) => row.value)).toEqual(Array(59).fill(1))
  })
})
