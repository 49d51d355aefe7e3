import { ROLLUP_TABLES, ROW_TABLES, SIDE_TABLES, type Table } from '../../model/schema.ts'
import type { Log } from '../../telemetry/log.ts'
import type { ClickHouse } from './client.ts'
import { type Layout, onCluster, quoteName, quoteText } from './ddl.ts'
import { runDdl } from './migrations.ts'
import { SHARDING_KEY } from './topology.ts'

/**
 * The database that questions are put to: for each table of the local database a Distributed one of the same name, on
 * every server. They hold nothing, so they are made anew when their columns are not those of the local table.
 */
export interface DistributedOptions {
  /** Any server of the cluster; its database is the one of the Distributed tables. */
  readonly clickhouse: ClickHouse
  readonly localDatabase: string
  readonly layout: Layout
  readonly log: Log
  readonly signal: AbortSignal
}

const BY_SEGMENT: readonly string[] = [...ROW_TABLES, ...SIDE_TABLES] satisfies readonly Table[]
const DISTRIBUTED: readonly string[] = [...BY_SEGMENT, ...ROLLUP_TABLES, 'state', 'migrations']

export function distributedStatement(
  table: string,
  options: Pick<DistributedOptions, 'layout' | 'localDatabase'> & { readonly database: string },
): string {
  const { database, localDatabase, layout } = options
  // Rollups know no segment. Nothing is inserted here by us; whoever does it should reach each shard.
  const key = BY_SEGMENT.includes(table) ? SHARDING_KEY : 'rand()'
  return [
    `CREATE OR REPLACE TABLE ${quoteName(database)}.${quoteName(table)}${onCluster(layout)}`,
    `AS ${quoteName(localDatabase)}.${quoteName(table)}`,
    `ENGINE = Distributed(${[layout.cluster, localDatabase, table].map(quoteText).join(', ')}, ${key})`,
  ].join(' ')
}

/** Names of the tables that were made or made anew. */
export async function migrateDistributed(options: DistributedOptions): Promise<readonly string[]> {
  const { clickhouse, localDatabase, layout, signal, log } = options
  const { database } = clickhouse
  await clickhouse.createDatabase(signal, onCluster(layout))
  const { rows } = await clickhouse.query<{ table: string; here: string; there: string }>(
    {
      sql: `SELECT table, minIf(columns, database = {database:String}) AS here, minIf(columns, database = {local:String}) AS there
        FROM (SELECT database, table,
          toString(groupArray((name, type, default_kind, default_expression, comment))) AS columns
          FROM (SELECT * FROM system.columns WHERE database IN ({database:String}, {local:String})
            ORDER BY database, table, position)
          GROUP BY database, table)
        GROUP BY table`,
      params: { database, local: localDatabase },
    },
    { signal },
  )
  const changed: string[] = []
  for (const { table, here, there } of rows) {
    if (!DISTRIBUTED.includes(table) || here === there) continue
    await runDdl({ clickhouse, sql: distributedStatement(table, { database, localDatabase, layout }), signal, layout })
    changed.push(table)
  }
  if (changed.length > 0) log.info({ database, tables: changed }, 'Distributed tables were made')
  return changed
}

/**
 * Settings of questions to Distributed tables: what is asked inside IN or JOIN is asked once, of all shards, and a shard
 * that does not answer is an error, not a smaller number.
 */
export const CLUSTER_READ_SETTINGS = {
  distributed_product_mode: 'global',
  skip_unavailable_shards: 0,
  optimize_skip_unused_shards: 1,
  fallback_to_stale_replicas_for_distributed_queries: 1,
} as const
