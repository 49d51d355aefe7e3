import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { type ClickHouse, createClickHouse } from '../../../src/adapters/clickhouse/client.ts'
import { MIGRATIONS, migrate } from '../../../src/adapters/clickhouse/migrations.ts'
import { ROW_TABLES, SIDE_TABLES, TABLES } from '../../../src/model/schema.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { never, RETENTION } from '../../support/clickhouse.ts'
import { startTestStore, type TestStore } from '../../support/store.ts'

let test: TestStore
let databases = 0

beforeAll(async () => {
  test = await startTestStore({ keep: true })
})
afterAll(async () => {
  await test?.stop()
})

const NEWEST = MIGRATIONS.at(-1)!.version

function empty(): ClickHouse {
  const clickhouse = createClickHouse({
    url: () => test.store.url,
    database: `migrations ${++databases}`,
    ...test.store.credentials.writer,
    log: silentLog,
  })
  onTestFinished(() => clickhouse.close())
  return clickhouse
}
const run = (clickhouse: ClickHouse, sql: string) => clickhouse.execute({ sql, params: {} }, { signal: never })
const rows = async <Row>(clickhouse: ClickHouse, sql: string) =>
  (await clickhouse.query<Row>({ sql, params: {} }, { signal: never })).rows
const up = (clickhouse: ClickHouse, more: Partial<Parameters<typeof migrate>[0]> = {}) =>
  migrate({ clickhouse, retention: RETENTION, log: silentLog, signal: never, ...more })

it('makes every table, and changes nothing the second time', async () => {
  const clickhouse = empty()
  expect(await up(clickhouse)).toEqual({ from: 0, to: NEWEST, changed: [] })
  const names = await rows<{ name: string }>(
    clickhouse,
    'SELECT name FROM system.tables WHERE database = currentDatabase()',
  )
  expect(names.map(({ name }) => name).sort()).toEqual([...TABLES, 'latency_1h_from_1m', 'migrations', 'state'].sort())
  expect(await up(clickhouse)).toEqual({ from: NEWEST, to: NEWEST, changed: [] })
})

it('may be run by several processes at once', async () => {
  const database = empty()
  const all = await Promise.all([1, 2, 3].map(() => up(database)))
  expect(all.map(({ to }) => to)).toEqual([NEWEST, NEWEST, NEWEST])
  expect(await up(database)).toEqual({ from: NEWEST, to: NEWEST, changed: [] })
})

it('refuses data of a newer program, by name', async () => {
  const clickhouse = empty()
  await up(clickhouse)
  await run(clickhouse, "INSERT INTO migrations (version, name) SELECT 77, 'histograms of bytes'")
  await expect(up(clickhouse)).rejects.toMatchObject({
    code: 'SC3102',
    message: expect.stringContaining('histograms of bytes'),
  })
})

it('goes on from the layout it finds', async () => {
  const clickhouse = empty()
  await up(clickhouse)
  const next = {
    version: NEWEST + 1,
    name: 'another table',
    statements: (db: string) => [`CREATE TABLE \`${db}\`.more (a UInt8) ENGINE = MergeTree ORDER BY a`],
  }
  expect(await up(clickhouse, { migrations: [...MIGRATIONS, next] })).toEqual({
    from: NEWEST,
    to: NEWEST + 1,
    changed: [],
  })
  expect(await rows(clickhouse, 'SELECT count() AS n FROM more')).toEqual([{ n: 0 }])
})

it('adds the tables of stats and spans to a store of the first layout', async () => {
  const clickhouse = empty()
  const first = MIGRATIONS.slice(0, 1)
  await clickhouse.createDatabase(never)
  const statements = first.flatMap(({ statements }) => statements(clickhouse.database, RETENTION))
  for (const sql of statements) await run(clickhouse, sql)
  const before = await rows<{ name: string }>(clickhouse, 'SHOW TABLES')
  expect(before.map(({ name }) => name)).not.toContain('samples')
  await up(clickhouse)
  for (const table of SIDE_TABLES) {
    expect(await rows(clickhouse, `SELECT count() AS n FROM ${table}`)).toEqual([{ n: 0 }])
  }
})

it('adds the rollup of days to a store of the second layout, and keeps it as long as hours', async () => {
  const clickhouse = empty()
  await clickhouse.createDatabase(never)
  await up(clickhouse, { migrations: MIGRATIONS.slice(0, 2) }).catch(() => {})
  await run(clickhouse, 'DROP TABLE IF EXISTS latency_1d')
  expect(await up(clickhouse)).toMatchObject({ from: 2, to: NEWEST })
  expect(await rows(clickhouse, 'SELECT count() AS n FROM latency_1d')).toEqual([{ n: 0 }])
  const hoursMs = 10 * 86_400_000
  const { changed } = await up(clickhouse, { retention: { ...RETENTION, hoursMs } })
  expect([...changed].sort()).toEqual(['latency_1d TTL', 'latency_1h TTL'])
})

it('brings settings of an older store to what they are now', async () => {
  const clickhouse = empty()
  await up(clickhouse)
  await run(clickhouse, "ALTER TABLE requests MODIFY SETTING merge_selector_base = 12, auto_statistics_types = 'uniq'")
  await run(clickhouse, 'ALTER TABLE latency_1m RESET SETTING auto_statistics_types')
  const { changed } = await up(clickhouse)
  expect([...changed].sort()).toEqual([
    'latency_1m auto_statistics_types',
    'requests auto_statistics_types',
    'requests merge_selector_base',
  ])
  expect((await up(clickhouse)).changed).toEqual([])
})

it('adds a column that is new, and sets expressions again when they changed', async () => {
  const clickhouse = empty()
  await up(clickhouse)
  await run(clickhouse, 'ALTER TABLE requests DROP COLUMN tls_session')
  await run(
    clickhouse,
    "INSERT INTO migrations (version, name, fingerprint, applied) SELECT 0, 'expressions', 'of another program', now() + 1",
  )
  const { changed } = await up(clickhouse)
  expect(changed).toContain('requests.tls_session')
  expect(changed).toContain('requests.phase_upstream_wait_ns')
  expect(changed.filter((name) => name.endsWith('.request_id'))).toHaveLength(ROW_TABLES.length)
  await run(clickhouse, "INSERT INTO requests (end_time, tls_session) SELECT now64(9), 'x'")
  expect(await rows(clickhouse, 'SELECT tls_session FROM requests')).toEqual([{ tls_session: 'x' }])
})

it('changes how long rows are kept', async () => {
  const clickhouse = empty()
  await up(clickhouse)
  const retention = { ...RETENTION, rowsMs: 3 * 86_400_000 }
  const { changed } = await up(clickhouse, { retention })
  expect([...changed].sort()).toEqual([...ROW_TABLES, 'spans'].map((table) => `${table} TTL`).sort())
  expect(await up(clickhouse, { retention })).toMatchObject({ changed: [] })
  const [table] = await rows<{ engine: string }>(
    clickhouse,
    "SELECT engine_full AS engine FROM system.tables WHERE database = currentDatabase() AND name = 'requests'",
  )
  expect(table!.engine).toContain('toIntervalSecond(259200)')
})

it('drops rows that are older than the new limit', async () => {
  const clickhouse = empty()
  await up(clickhouse)
  await run(
    clickhouse,
    "INSERT INTO requests (end_time, destination_service) SELECT now64(9) - INTERVAL number DAY, 'a' FROM numbers(6)",
  )
  expect(await rows(clickhouse, 'SELECT count() AS n FROM requests')).toEqual([{ n: 6 }])
  await up(clickhouse, { retention: { ...RETENTION, rowsMs: 2.5 * 86_400_000 } })
  await expect
    .poll(
      async () => {
        await run(clickhouse, 'OPTIMIZE TABLE requests FINAL')
        return await rows(clickhouse, 'SELECT count() AS n FROM requests')
      },
      { timeout: 60_000 },
    )
    .toEqual([{ n: 3 }])
})
