import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { beforeAll, describe, expect, it } from 'vitest'
import { distributedStatement } from '../../../src/adapters/clickhouse/cluster.ts'
import {
  createDayStatements,
  createSideStatements,
  createStatements,
  type Layout,
  quoteText,
} from '../../../src/adapters/clickhouse/ddl.ts'
import { grantStatements, WRITER } from '../../../src/adapters/clickhouse/grants.ts'
import { stateTable } from '../../../src/adapters/clickhouse/state.ts'
import { TABLES } from '../../../src/model/schema.ts'
import { RETENTION } from '../../support/clickhouse.ts'

const ENGINE = new URL('../../support/replicated-engine.ts', import.meta.url).pathname

const layout: Layout = {
  cluster: 'mesh',
  replicated: true,
  keeperPath: '/clickhouse/tables/{shard}/{database}/{table}',
  replicaName: '{replica}',
}
const local = 'sidecast_local'
const statements = [
  stateTable(local, layout),
  ...createStatements(local, RETENTION, layout),
  ...createSideStatements(local, RETENTION, layout),
  ...createDayStatements(local, RETENTION, layout),
]
const distributed = [...TABLES, 'state'].map((table) =>
  distributedStatement(table, { database: 'sidecast', localDatabase: local, layout }),
)
const grants = [
  ...grantStatements({ database: 'sidecast', localDatabase: local, cluster: 'mesh' }),
  ...grantStatements({ database: 'sidecast' }),
]

interface Answer {
  readonly rows?: readonly Record<string, string>[]
  readonly error?: string
}

async function run(statements: readonly string[], granted: readonly string[] = []): Promise<readonly Answer[]> {
  const child = spawn(process.execPath, [ENGINE], { stdio: ['pipe', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  child.stdin.end(JSON.stringify({ statements, grants: granted }))
  await once(child, 'close')
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Answer)
}

/** The library has no queue that would bring a statement to other servers. */
const here = (sql: string) => sql.replace(' ON CLUSTER `mesh`', '')

describe('the layout of a cluster', () => {
  const all = [...statements, ...distributed]
  let answers: readonly Answer[]
  let parsed: readonly Answer[]
  let formatted: readonly Answer[]
  let tables: readonly Record<string, string>[]

  beforeAll(async () => {
    const made = ['CREATE DATABASE sidecast_local', 'CREATE DATABASE sidecast', ...all.map(here)]
    const explained = all.map((sql) => `EXPLAIN AST ${sql}`)
    const found = await run([
      ...made,
      ...explained,
      ...grants.map((sql) => `SELECT formatQuery(${quoteText(sql)}) AS sql`),
      "SELECT database, name, engine, engine_full FROM system.tables WHERE database IN ('sidecast', 'sidecast_local')",
    ])
    answers = found.slice(0, made.length)
    parsed = found.slice(made.length, made.length + explained.length)
    formatted = found.slice(made.length + explained.length, -1)
    tables = found.at(-1)!.rows ?? []
  }, 60_000)

  it('says ON CLUSTER in every statement, and the engine parses them all', () => {
    expect(all.filter((sql) => !sql.includes(' ON CLUSTER `mesh`'))).toEqual([])
    expect(parsed.filter(({ error }) => error !== undefined)).toEqual([])
  })

  it('is made by the engine: replicated tables on a server, Distributed ones beside them', () => {
    expect(answers.filter(({ error }) => error !== undefined)).toEqual([])
    const engines = (database: string) =>
      Object.fromEntries(
        tables.filter((table) => table.database === database).map(({ name, engine }) => [name, engine]),
      )
    expect(engines(local)).toEqual({
      ...Object.fromEntries(TABLES.map((table) => [table, 'ReplicatedMergeTree'])),
      latency_1m: 'ReplicatedSummingMergeTree',
      latency_1h: 'ReplicatedSummingMergeTree',
      latency_1d: 'ReplicatedSummingMergeTree',
      latency_1h_from_1m: 'MaterializedView',
      state: 'ReplicatedReplacingMergeTree',
    })
    expect(engines('sidecast')).toEqual(Object.fromEntries([...TABLES, 'state'].map((table) => [table, 'Distributed'])))
  })

  it('remembers blocks for deduplication, and is sharded by the segment', () => {
    const full = (database: string, table: string) =>
      tables.find((one) => one.database === database && one.name === table)!.engine_full
    for (const table of TABLES) {
      expect(full(local, table)).toContain('replicated_deduplication_window = 10000')
      expect(full(local, table)).toContain('replicated_deduplication_window_seconds = 604800')
      expect(full(local, table)).toContain(`'/clickhouse/tables/{shard}/${local}/${table}', '{replica}'`)
    }
    expect(full('sidecast', 'requests')).toBe("Distributed('mesh', 'sidecast_local', 'requests', CRC32(segment))")
    expect(full('sidecast', 'latency_1m')).toContain('rand()')
  })

  it('has users whose grants are statements', () => {
    expect(formatted.filter(({ error }) => error !== undefined)).toEqual([])
  })

  it('is made and kept by a user that has the documented grants and no others', async () => {
    const of = (user: string) =>
      grants
        .filter((sql) => sql.startsWith('GRANT') && sql.endsWith(` TO ${user}`))
        .map((sql) => here(sql).replace(` TO ${user}`, ''))
    // Without replicas, so that rows can be written.
    const plain = { ...layout, replicated: false }
    const made = [
      'CREATE DATABASE sidecast_local',
      'CREATE DATABASE sidecast',
      ...createStatements(local, RETENTION, plain).map(here),
      // Twice: they are made anew when columns are added.
      ...[...distributed, ...distributed].filter((sql) => sql.includes('`requests`')).map(here),
    ]
    const kept = [
      "INSERT INTO sidecast_local.requests (segment, end_time) SELECT 'a', now64(9)",
      'INSERT INTO sidecast_local.latency_1m (minute, n) SELECT now(), 1 FROM sidecast_local.requests',
      "ALTER TABLE sidecast_local.requests DELETE IN PARTITION ID '20240101' WHERE segment = 'a'",
      "ALTER TABLE sidecast_local.requests DROP PARTITION ID '20240101'",
      'ALTER TABLE sidecast_local.requests ADD COLUMN later UInt8',
      'ALTER TABLE sidecast_local.requests MODIFY COLUMN later UInt16',
      'ALTER TABLE sidecast_local.requests MODIFY TTL toDateTime(end_time) + toIntervalSecond(60)',
      'ALTER TABLE sidecast_local.requests MODIFY SETTING merge_selector_base = 11',
      'SELECT count() FROM sidecast_local.requests',
      "SELECT count() FROM system.parts WHERE database = 'sidecast_local'",
      "SELECT count() FROM system.processes WHERE query_id = 'x'",
      "SELECT count() FROM system.clusters WHERE cluster = 'mesh'",
      "KILL QUERY WHERE query_id = 'x' ASYNC",
    ]
    const refused = [
      'CREATE DATABASE other',
      'SELECT count() FROM system.users',
      'CREATE TABLE default.t (x UInt8) ENGINE = Memory',
    ]
    const found = await run([...made, ...kept, ...refused], [...of(WRITER), 'GRANT TABLE ENGINE ON *'])
    const errors = found.slice(0, made.length + kept.length).filter(({ error }) => error !== undefined)
    expect(errors).toEqual([])
    expect(found.slice(-refused.length).map(({ error }) => error)).toEqual(
      refused.map(() => expect.stringContaining('ACCESS_DENIED')),
    )
  }, 60_000)
})
