import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type ClickHouse, createClickHouse } from '../../../src/adapters/clickhouse/client.ts'
import type { DayRollups } from '../../../src/adapters/clickhouse/days.ts'
import { correctDaySql } from '../../../src/adapters/clickhouse/rollup-sql.ts'
import { seededRandom } from '../../../src/lib/random.ts'
import { ROLLUP_COLUMNS, ROLLUP_TIME, ROLLUP_TIMES } from '../../../src/model/rollup-columns.ts'
import { ROLLUP_KEYS, type RollupTable } from '../../../src/model/schema.ts'
import type { LatencyAnswer, PhasesAnswer, ServicesAnswer } from '../../../src/query/schemas.ts'
import type { QueryServer } from '../../../src/query/server.ts'
import { readOpenSlo } from '../../../src/query/slo/openslo.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { never, startCuttingProxy } from '../../support/clickhouse.ts'
import { clockAt, createQueryDatabase, createTestServer, type QueryDatabase } from '../../support/query.ts'
import { makeRows, type OracleRow, onceEach, storedRow, within } from '../../support/query-oracle.ts'
import { startTestStore, type TestStore } from '../../support/store.ts'

/** The end of the 8th, the 9th, the 10th, and the 11th until now. */
const START = Date.parse('2026-01-08T20:00:00Z') / 1000
const HOURS = 60
const NOW = '2026-01-11T09:00:00Z'
const DAY_SECONDS = 86_400
const [DAY_8, DAY_9, DAY_10] = [8, 9, 10].map((day) => Date.UTC(2026, 0, day) / 1000) as [number, number, number]
const RANGE = 'from=2026-01-08T20:17:31.5Z&to=2026-01-11T07:42:07.25Z'
const [FROM, TO] = [Date.parse('2026-01-08T20:17:31.5Z'), Date.parse('2026-01-11T07:42:07.25Z')]

/** An objective that rollups alone count, in pieces of its own. */
const part = (where: readonly string[]) => ({ metricSource: { type: 'sidecast', spec: { where } } })
const { slos: SLOS } = readOpenSlo([
  {
    name: 'test.yaml',
    text: JSON.stringify({
      apiVersion: 'openslo/v1',
      kind: 'SLO',
      metadata: { name: 'available' },
      spec: {
        indicator: { spec: { ratioMetric: { total: part([]), good: part(['class!=server_error']) } } },
        timeWindow: [{ duration: '3d', isRolling: true }],
        objectives: [{ target: 0.99 }],
      },
    }),
  },
])

let store: TestStore
let db: QueryDatabase
let server: QueryServer
/** One that has seen nothing yet, in each test; all tests have one database, whose days are unmade before each. */
let days: DayRollups
/** All that is stored. */
let rows: readonly OracleRow[] = makeRows(17, 6000, START, HOURS)

beforeAll(async () => {
  store = await startTestStore({ keep: true })
  db = await createQueryDatabase(store, 'days')
  await db.insert(rows.map(storedRow))
  await db.rollUp(START, START + HOURS * 3600)
  server = createTestServer(db.reader, { clock: clockAt(NOW), slos: { slos: () => SLOS } })
}, 120_000)
afterAll(async () => {
  await server?.stop(AbortSignal.timeout(5000))
  await Promise.all([db?.writer.close(), db?.reader.close()])
  await store?.stop()
})
beforeEach(async () => {
  await db.execute('TRUNCATE TABLE latency_1d')
  days = db.days(clockAt(NOW))
})

const ask = async <Answer>(path: string): Promise<Answer> => {
  const answer = await server.app.inject(`/api/v1/${path}`)
  expect(answer.statusCode, answer.body).toBe(200)
  return answer.json<Answer>()
}
const query = async <Row>(sql: string) => (await db.writer.query<Row>({ sql, params: {} }, { signal: never })).rows

/** Everything that a table holds of a time, by key, for whole UTC days: one text for each key and day. */
async function contents(table: RollupTable, from: number, to: number): Promise<string[]> {
  const time = ROLLUP_TIMES[table]
  const values = ROLLUP_COLUMNS.filter(({ merge }) => merge !== 'key').flatMap(({ name, merge }) => {
    if (merge !== 'map') return [`${merge}(${name})`]
    const [map, part] = name.split('.')
    return part === 'count'
      ? [`toString(sumMap(\`${map}.${map === 'flagsMap' ? 'flag' : 'bucket'}\`, \`${name}\`))`]
      : []
  })
  const keys = ROLLUP_KEYS.join(', ')
  const found = await query<{ all: string }>(
    `SELECT toString((toStartOfDay(${table}.${time}) AS of, ${keys}, ${values.join(', ')})) AS all FROM ${table}
      WHERE ${time} >= toDateTime(${from}, 'UTC') AND ${time} < toDateTime(${to}, 'UTC')
      GROUP BY of, ${keys} HAVING sum(n) != 0 ORDER BY of, ${keys}`,
  )
  return found.map(({ all }) => all)
}

async function expectDaysAreTheirHours(): Promise<void> {
  const hours = await contents('latency_1h', DAY_8, DAY_10 + DAY_SECONDS)
  expect(hours.length).toBeGreaterThan(100)
  expect(await contents('latency_1d', DAY_8, DAY_10 + DAY_SECONDS)).toEqual(hours)
  expect(await contents('latency_1m', DAY_8, DAY_10 + DAY_SECONDS)).toEqual(hours)
}

/** Answers of every kind, without what tells which tables were read. */
async function answers() {
  const figures = (answer: unknown): unknown =>
    JSON.parse(JSON.stringify(answer, (key, value) => (key === 'source' ? undefined : value)))
  const asked = [
    'by=destination_service',
    'by=class,route&view=all',
    'step=1d',
    'where=method=GET',
    'phase=upstream_wait',
  ]
  const latency = await Promise.all(
    asked.map((more) => ask<LatencyAnswer>(`latency?${RANGE}&method=histogram&q=0,0.5,0.99,1&${more}`)),
  )
  const services = await ask<ServicesAnswer>(`services?${RANGE}&method=histogram`)
  const phases = await ask<PhasesAnswer>(`phases?${RANGE}&method=histogram&by=destination_service`)
  const objective = await ask<unknown>('slos/available')
  return {
    sources: new Set([...latency, services, phases].map(({ source }) => source)),
    objective: JSON.stringify(objective),
    figures: [...latency.map(figures), figures(services), figures(phases), figures(objective)],
  }
}

/** Rows of the 9th come late. */
async function comeLate(seed: number, count: number): Promise<void> {
  const late = makeRows(seed, count, DAY_9 + 3600, 2).map((row, k) => ({ ...row, requestId: `late ${seed} ${k}` }))
  await db.insert(late.map(storedRow))
  await db.rollUp(DAY_9 + 3600, DAY_9 + 3 * 3600)
  rows = [...rows, ...late]
}

const ALL = 'requests,latency_1m,latency_1h,latency_1d'
const WITHOUT_DAYS = 'requests,latency_1m,latency_1h'
const counted = () => onceEach(within(rows, BigInt(FROM) * 1_000_000n, BigInt(TO) * 1_000_000n)).length
const count = async () => {
  const { coverage, source } = await ask<LatencyAnswer>(`latency?${RANGE}&method=histogram`)
  return [coverage.stored, source]
}

describe('days', () => {
  it('hold what their hours, minutes and rows hold, and change no answer', async () => {
    const before = await answers()
    expect(before.sources).toEqual(new Set([WITHOUT_DAYS]))
    expect(await days.settle(never)).toBe(3)
    await expectDaysAreTheirHours()
    const after = await answers()
    expect(after.sources).toEqual(new Set([ALL]))
    expect([before, after].map(({ objective }) => objective.includes('latency_1d'))).toEqual([false, true])
    expect(after.figures).toEqual(before.figures)
    expect(await count()).toEqual([counted(), ALL])
    expect(await days.settle(never)).toBe(0)
  })

  it('are made of days that are over, and of no others', async () => {
    const early = db.days(clockAt('2026-01-10T00:05:00Z'))
    expect(await early.settle(never)).toBe(1)
    expect(await query('SELECT DISTINCT toUInt32(day) AS day FROM latency_1d')).toEqual([{ day: DAY_8 }])
    expect(await db.days(clockAt('2026-01-10T00:11:00Z')).settle(never)).toBe(1)
    expect(await days.settle(never)).toBe(1)
  })

  it('are read from hours after late rows, at once, until they are made anew', async () => {
    await days.settle(never)
    await comeLate(5, 300)
    expect(await count()).toEqual([counted(), ALL])
    const parts = await ask<LatencyAnswer>('latency?from=2026-01-09T00:00:00Z&to=2026-01-10T00:00:00Z&method=histogram')
    expect(parts.source).toBe('latency_1h')
    const before = await answers()
    expect(await days.settle(never)).toBe(1)
    await expectDaysAreTheirHours()
    expect((await answers()).figures).toEqual(before.figures)
    expect(await count()).toEqual([counted(), ALL])
  })

  it('are right again after one was made in part', async () => {
    const half = { from: DAY_9, to: DAY_9 + DAY_SECONDS, shares: 2, share: 1 }
    await db.writer.execute({ sql: correctDaySql(db.name), params: half }, { signal: never })
    expect(await count()).toEqual([counted(), WITHOUT_DAYS])
    expect(await days.settle(never)).toBe(3)
    await expectDaysAreTheirHours()
  })

  it('are made once by two at the same time, and by one whose predecessor still runs', async () => {
    const other = db.days(clockAt(NOW))
    await Promise.all([days.settle(never), other.settle(never)])
    expect(await days.settle(never)).toBe(0)
    await expectDaysAreTheirHours()
    await comeLate(6, 50)
    await Promise.all([days.settle(never), other.settle(never), db.days(clockAt(NOW)).settle(never)])
    expect(await days.settle(never)).toBe(0)
    await expectDaysAreTheirHours()
  })

  it('come though the engine takes their token for known', async () => {
    await days.settle(never)
    // As much again with a minus, so that nothing is stored, as before the first time.
    const back = ROLLUP_COLUMNS.map(({ name, merge }) => {
      if (merge === 'key') return name === ROLLUP_TIME ? 'day' : name
      if (merge === 'sum') return `toUInt64(negate(${name}))`
      if (!name.endsWith('.count')) return `\`${name}\``
      return `arrayMap(c -> toUInt64(negate(c)), \`${name}\`)`
    })
    await db.execute(`INSERT INTO latency_1d SELECT ${back.join(', ')} FROM latency_1d`)
    const stored = async () => (await query<{ n: string }>('SELECT toString(sum(n)) AS n FROM latency_1d'))[0]!.n
    expect(await stored()).toBe('0')
    await days.settle(never)
    expect(await stored()).toBe('0')
    expect(await count()).toEqual([counted(), WITHOUT_DAYS])
    await days.settle(never)
    await expectDaysAreTheirHours()
  })

  it('survive connections that break before and after a statement', async () => {
    const proxy = await startCuttingProxy(() => store.store.url)
    const through: ClickHouse = createClickHouse({
      url: proxy.url,
      database: db.name,
      ...store.store.credentials.writer,
      log: silentLog,
    })
    const shaky = db.days(clockAt(NOW), through)
    for (const [when, made] of [
      ['before', 0],
      ['after', 1],
    ] as const) {
      proxy.cut('latency_1d (`day`', when)
      await expect(shaky.settle(never)).rejects.toThrow()
      expect((await query('SELECT DISTINCT day FROM latency_1d')).length).toBe(made)
    }
    expect(proxy.cuts).toBe(2)
    expect(await count()).toEqual([counted(), ALL])
    expect(await shaky.settle(never)).toBe(2)
    await expectDaysAreTheirHours()
    await through.close()
  })

  it('survive the end of the engine in the middle, at any moment', async () => {
    const random = seededRandom(20_260_111)
    let seed = 100
    for (let round = 0; round < 2; round++) {
      await comeLate(++seed, 40)
      const { pid } = store.store
      const making = days.settle(never).catch(() => 0)
      await new Promise((resolve) => setTimeout(resolve, random() * 250))
      process.kill(pid!, 'SIGKILL')
      await making
      while (store.store.pid === pid || store.store.state !== 'ready')
        await new Promise((resolve) => setTimeout(resolve, 10))
      const [hours] = await query<{ n: string }>('SELECT sum(n) AS n FROM latency_1h')
      const [stored] = await query<{ n: string }>('SELECT count() AS n FROM requests')
      expect(Number(hours!.n)).toBe(Number(stored!.n))
      expect((await count())[0]).toBe(counted())
      await days.settle(never)
      await days.settle(never)
      await expectDaysAreTheirHours()
      expect(await count()).toEqual([counted(), ALL])
    }
  })

  it('follow hours that were stored twice and are corrected', async () => {
    const hour = DAY_9 + 9 * 3600
    const twice = `hour >= toDateTime(${hour}, 'UTC') AND hour < toDateTime(${hour + 3600}, 'UTC')`
    await db.execute(`INSERT INTO latency_1h SELECT * FROM latency_1h WHERE ${twice}`)
    expect(await days.settle(never)).toBe(3)
    const [more] = await count()
    expect(more).toBeGreaterThan(counted())
    await db.rollUp(hour, hour + 3600)
    expect(await count()).toEqual([counted(), ALL])
    expect(await days.settle(never)).toBe(1)
    await expectDaysAreTheirHours()
    expect(await count()).toEqual([counted(), ALL])
  })
})
