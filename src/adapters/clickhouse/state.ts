import type { ClickHouse } from './client.ts'
import { engineSql, type Layout, onCluster, quoteName } from './ddl.ts'

/**
 * A few facts about the store that have to be kept with it, because they go where its data goes.
 *
 * rows_dropped_before      day (since the epoch) before which rows were dropped for want of room, and so are not missing
 * metrics_dropped_before   the same for stats
 */
export type StateName = 'rows_dropped_before' | 'metrics_dropped_before'

const TIMEOUT_MS = 30_000

export function stateTable(database: string, layout?: Layout): string {
  return `CREATE TABLE IF NOT EXISTS ${quoteName(database)}.state${onCluster(layout)} (
  name String COMMENT 'What',
  value String COMMENT 'Its value; of several rows, and shards, the largest day counts',
  changed DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'Since when'
)
ENGINE = ${engineSql(layout, 'ReplacingMergeTree', 'changed')}
ORDER BY name
COMMENT 'Facts about the store that are kept with it'`
}

export async function readState(
  clickhouse: ClickHouse,
  name: StateName,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { rows } = await clickhouse.query<{ value: string }>(
    {
      sql: `SELECT toString(max(toUInt32OrZero(s.value))) AS value FROM ${quoteName(clickhouse.database)}.state AS s
        WHERE name = {name:String} GROUP BY name`,
      params: { name },
    },
    { signal, timeoutMs: TIMEOUT_MS },
  )
  return rows[0]?.value
}

export async function writeState(
  clickhouse: ClickHouse,
  name: StateName,
  value: string,
  signal: AbortSignal,
): Promise<void> {
  await clickhouse.execute(
    {
      sql: `INSERT INTO ${quoteName(clickhouse.database)}.state (name, value) SELECT {name:String}, {value:String}`,
      params: { name, value },
    },
    { signal, timeoutMs: TIMEOUT_MS },
  )
}
