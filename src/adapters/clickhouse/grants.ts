import { quoteName } from './ddl.ts'

/**
 * The least that the users of a ClickHouse server need, as statements for its administrator.
 *
 *   sidecast          what migrates, inserts, looks up and drops, in our own databases alone
 *   sidecast_reader   what answers questions; may set limits of its own statements (`readonly = 2`)
 */
export interface GrantsOptions {
  readonly database: string
  /** Of a cluster. */
  readonly localDatabase?: string
  readonly cluster?: string
}

export const WRITER = 'sidecast'
export const READER = 'sidecast_reader'

/** On tables of ours: what each is for stands in docs/adapters/clickhouse.md. */
const ON_TABLES = [
  'SELECT',
  'INSERT',
  'CREATE TABLE',
  'CREATE VIEW',
  'ALTER ADD COLUMN',
  'ALTER MODIFY COLUMN',
  'ALTER TTL',
  'ALTER SETTINGS',
  'ALTER DELETE',
] as const

/** Users first; passwords are set by whoever runs this. */
export function grantStatements(options: GrantsOptions): string[] {
  const { database, localDatabase, cluster } = options
  const on = cluster === undefined ? '' : ` ON CLUSTER ${quoteName(cluster)}`
  const databases = [...(localDatabase === undefined ? [] : [localDatabase]), database].map(quoteName)
  const clustered = cluster !== undefined
  return [
    `CREATE USER IF NOT EXISTS ${WRITER}${on} IDENTIFIED WITH sha256_password BY '…'`,
    `CREATE USER IF NOT EXISTS ${READER}${on} IDENTIFIED WITH sha256_password BY '…' SETTINGS readonly = 2`,
    ...databases.flatMap((name) => [
      `GRANT${on} CREATE DATABASE, ${ON_TABLES.join(', ')} ON ${name}.* TO ${WRITER}`,
      `GRANT${on} SELECT ON ${name}.* TO ${READER}`,
    ]),
    ...(clustered
      ? [
          // Distributed tables hold nothing, and are made anew when columns are added.
          `GRANT${on} DROP TABLE ON ${quoteName(database)}.* TO ${WRITER}`,
          `GRANT${on} SYSTEM SYNC REPLICA ON ${databases[0]!}.* TO ${WRITER}`,
          `GRANT${on} CLUSTER, REMOTE ON *.* TO ${WRITER}`,
          `GRANT${on} REMOTE ON *.* TO ${READER}`,
        ]
      : []),
    ...['processes', 'parts', 'tables', 'columns', ...(clustered ? ['clusters'] : [])].map(
      (table) => `GRANT${on} SELECT ON system.${table} TO ${WRITER}`,
    ),
    `GRANT${on} KILL QUERY ON *.* TO ${WRITER}`,
    `GRANT${on} SELECT ON system.processes TO ${READER}`,
  ]
}
