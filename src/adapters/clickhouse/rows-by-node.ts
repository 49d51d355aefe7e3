import { ROW_TABLES } from '../../model/schema.ts'
import type { ClickHouse } from './client.ts'
import { quoteName } from './ddl.ts'

/** Rows that the store holds by node id, over all tables of rows. Reads one small column of each. */
export async function rowsByNode(clickhouse: ClickHouse, signal: AbortSignal): Promise<Map<string, number>> {
  const tables = ROW_TABLES.map(
    (table) => `SELECT node_id FROM ${quoteName(clickhouse.database)}.${quoteName(table)}`,
  ).join(' UNION ALL ')
  const { rows } = await clickhouse.query<{ node: string; rows: string }>(
    { sql: `SELECT node_id AS node, count() AS rows FROM (${tables}) GROUP BY node_id`, params: {} },
    { signal, timeoutMs: 60_000 },
  )
  return new Map(rows.map(({ node, rows }) => [node, Number(rows)]))
}
