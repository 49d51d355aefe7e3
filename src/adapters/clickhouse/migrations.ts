import { createHash } from 'node:crypto'
import { SidecastError } from '../../errors.ts'
import { systemClock } from '../../lib/clock.ts'
import {
  type Column,
  ROW_COLUMNS,
  ROW_TABLES,
  type RollupTable,
  SIDE_TABLES,
  type SideTable,
  TABLES,
  type Table,
} from '../../model/schema.ts'
import { SIDE_COLUMNS } from '../../model/side-columns.ts'
import type { Log } from '../../telemetry/log.ts'
import type { ClickHouse } from './client.ts'
import {
  columnSql,
  createDayStatements,
  createSideStatements,
  createStatements,
  engineSql,
  type Layout,
  onCluster,
  quoteName,
  type Retention,
  rollupColumns,
  TABLE_TIME,
  tableSettings,
  ttlSql,
} from './ddl.ts'
import { exceptionCode } from './failure.ts'
import { stateTable } from './state.ts'

/**
 * Brings the database to the layout of this program. Safe to run twice, and by several processes at once: every step
 * leaves alone what is there already, and says so to the table `migrations` after it is done. What a server refuses because
 * another process does the same just then is tried again.
 *
 * Columns need no migration: what the schema has and a table lacks is added, and expressions that changed are set again.
 * A numbered migration is for what that cannot do: other keys, other partitions, moved data.
 */
export interface Migration {
  readonly version: number
  readonly name: string
  readonly statements: (database: string, retention: Retention, layout?: Layout) => readonly string[]
}

export const MIGRATIONS: readonly Migration[] = [
  {
    version: 1,
    name: 'tables of rows and rollups',
    statements: (database, retention, layout) => [
      stateTable(database, layout),
      ...createStatements(database, retention, layout),
    ],
  },
  { version: 2, name: 'tables of stats and spans', statements: createSideStatements },
  { version: 3, name: 'rollup of days', statements: createDayStatements },
  // One of the tables of version 2 came later.
  { version: 4, name: 'exemplars of stats', statements: createSideStatements },
]

export interface MigrateOptions {
  readonly clickhouse: ClickHouse
  readonly retention: Retention
  readonly log: Log
  readonly signal: AbortSignal
  /** On each server of a cluster; on the one server alone when absent. */
  readonly layout?: Layout | undefined
  readonly migrations?: readonly Migration[]
}

export interface Migrated {
  readonly from: number
  readonly to: number
  /** Columns added, expressions set, TTLs and settings changed: `requests.sni`, `requests TTL`. */
  readonly changed: readonly string[]
}

/** ALTER of a large table with many parts. */
const TIMEOUT_MS = 600_000

/** Throws SC3102 when the database was written by a newer program, SC4103 when a statement is refused. */
export async function migrate(options: MigrateOptions): Promise<Migrated> {
  const { clickhouse, retention, log, layout } = options
  const { database } = clickhouse
  const migrations = options.migrations ?? MIGRATIONS
  const run = (sql: string) => runDdl({ ...options, sql })
  await clickhouse.createDatabase(options.signal, onCluster(layout))
  await run(migrationsTable(database, layout))
  const before = await appliedVersion(options)
  const newest = Math.max(...migrations.map(({ version }) => version))
  if (before.version > newest) {
    throw new SidecastError(
      'SC3102',
      `database ${database} has layout ${before.version} (${before.name}), this program knows ${newest}`,
      {
        help: 'start the program that wrote it, or a newer one; or name another database in store.clickhouse.database',
      },
    )
  }
  for (const { version, name, statements } of migrations) {
    if (version <= before.version) continue
    for (const sql of statements(database, retention, layout)) await run(sql)
    await clickhouse.execute(
      {
        sql: `INSERT INTO ${quoteName(database)}.migrations (version, name) SELECT {version:UInt32}, {name:String}`,
        params: { version, name },
      },
      { signal: options.signal, timeoutMs: TIMEOUT_MS },
    )
    log.info({ database, version, name }, 'The store has a new layout')
  }
  const changed = await reconcile(options, run)
  if (changed.length > 0) log.info({ database, changed }, 'The store was brought up to date')
  return { from: before.version, to: newest, changed }
}

/** Refusals that say that another process does the same, or that its work has not arrived at every replica. */
const TRANSIENT = new Set([
  57, // TABLE_ALREADY_EXISTS, though IF NOT EXISTS was said
  82, // DATABASE_ALREADY_EXISTS
  253, // REPLICA_ALREADY_EXISTS
  44, // ILLEGAL_COLUMN: it was added in between
  517, // CANNOT_ASSIGN_ALTER: metadata in Keeper has moved on
  529, // NOT_INITIALIZED
])
const TRIES = 20
const AGAIN_MS = 250

export interface Ddl {
  readonly clickhouse: ClickHouse
  readonly sql: string
  readonly signal: AbortSignal
  readonly layout?: Layout | undefined
}

/** Runs a statement that may be run again. On a cluster it is done when every server that is up has done it. */
export async function runDdl({ clickhouse, sql, signal, layout }: Ddl): Promise<void> {
  for (let left = TRIES; ; left--) {
    try {
      const settings = layout === undefined ? {} : DISTRIBUTED_DDL
      return await clickhouse.execute({ sql, params: {} }, { signal, timeoutMs: TIMEOUT_MS, settings })
    } catch (error) {
      if (left <= 1 || signal.aborted || !TRANSIENT.has(exceptionCode(error) ?? 0)) throw error
      await systemClock.sleep(AGAIN_MS * (0.5 + Math.random()), signal)
    }
  }
}

/** A server that is down finds the statement in the queue when it comes back; nobody waits for it. */
const DISTRIBUTED_DDL = { distributed_ddl_task_timeout: 180, distributed_ddl_output_mode: 'throw_only_active' }

function migrationsTable(database: string, layout: Layout | undefined): string {
  return `CREATE TABLE IF NOT EXISTS ${quoteName(database)}.migrations${onCluster(layout)} (
  version UInt32 COMMENT 'Layout of the tables; the largest counts',
  name String COMMENT 'What it brought; "expressions" for rows that only tell the state of computed columns',
  fingerprint String DEFAULT '' COMMENT 'Hash of the computed columns that were set',
  applied DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When'
)
ENGINE = ${engineSql(layout, 'MergeTree')}
ORDER BY version
COMMENT 'Which layout the tables have'`
}

interface Applied {
  readonly version: number
  readonly name: string
  readonly fingerprint: string
}

async function appliedVersion(options: MigrateOptions): Promise<Applied> {
  const { rows } = await options.clickhouse.query<Applied>(
    {
      sql: `SELECT max(m.version) AS version, argMax(m.name, m.version) AS name,
          argMaxIf(m.fingerprint, m.applied, m.fingerprint != '') AS fingerprint
        FROM ${quoteName(options.clickhouse.database)}.migrations AS m`,
      params: {},
    },
    { signal: options.signal, timeoutMs: TIMEOUT_MS },
  )
  return rows[0] ?? { version: 0, name: '', fingerprint: '' }
}

interface Existing {
  readonly table: string
  readonly name: string
  readonly kind: string
}

/** Columns, expressions, TTLs and settings as the schema and the configuration want them. */
async function reconcile(options: MigrateOptions, run: (sql: string) => Promise<void>): Promise<string[]> {
  const { clickhouse, retention, signal, layout } = options
  const { database } = clickhouse
  const changed: string[] = []
  const alter = async (table: Table, what: string, sql: string) => {
    await run(`ALTER TABLE ${quoteName(database)}.${table}${onCluster(layout)} ${sql}`)
    changed.push(`${table}${what}`)
  }

  const columns = await clickhouse.query<Existing>(
    {
      sql: 'SELECT table, name, default_kind AS kind FROM system.columns WHERE database = {database:String}',
      params: { database },
    },
    { signal, timeoutMs: TIMEOUT_MS },
  )
  const existing = new Set(columns.rows.map(({ table, name }) => `${table}.${name}`))
  const { fingerprint } = await appliedVersion(options)
  const wanted = fingerprintOf()
  for (const table of TABLES) {
    for (const column of columnsOf(table)) {
      if (!existing.has(`${table}.${column.name}`)) {
        await alter(table, `.${column.name}`, `ADD COLUMN IF NOT EXISTS ${columnSql(column)}`)
      } else if (column.expr !== undefined && fingerprint !== '' && fingerprint !== wanted) {
        await alter(table, `.${column.name}`, `MODIFY COLUMN ${columnSql(column)}`)
      }
    }
  }
  if (fingerprint !== wanted) {
    await clickhouse.execute(
      {
        sql: `INSERT INTO ${quoteName(database)}.migrations (version, name, fingerprint)
          SELECT 0, 'expressions', {fingerprint:String}`,
        params: { fingerprint: wanted },
      },
      { signal, timeoutMs: TIMEOUT_MS },
    )
  }

  const tables = await clickhouse.query<{ name: Table; engine: string }>(
    {
      sql: 'SELECT name, engine_full AS engine FROM system.tables WHERE database = {database:String}',
      params: { database },
    },
    { signal, timeoutMs: TIMEOUT_MS },
  )
  for (const { name, engine } of tables.rows) {
    if (!TABLES.includes(name)) continue
    const ttl = ttlSql(name, TABLE_TIME[name].keepMs(retention))
    if (!engine.includes(`TTL ${ttl} `)) await alter(name, ' TTL', `MODIFY TTL ${ttl}`)
    for (const [setting, value] of Object.entries(tableSettings(name, layout))) {
      if (!engine.includes(`${setting} = ${value}`)) {
        await alter(name, ` ${setting}`, `MODIFY SETTING ${setting} = ${value}`)
      }
    }
  }
  return changed
}

function columnsOf(table: Table): readonly Column[] {
  if ((ROW_TABLES as readonly string[]).includes(table)) return ROW_COLUMNS
  if ((SIDE_TABLES as readonly string[]).includes(table)) return SIDE_COLUMNS[table as SideTable]
  return rollupColumns(table as RollupTable)
}

/** The engine keeps expressions in words of its own, so whether they changed is told by a hash of ours. */
function fingerprintOf(): string {
  const columns = [...ROW_COLUMNS, ...SIDE_TABLES.flatMap((table) => SIDE_COLUMNS[table])]
  const computed = columns.filter((column) => column.expr !== undefined).map(columnSql)
  return createHash('sha256').update(computed.join('\n')).digest('hex').slice(0, 32)
}
