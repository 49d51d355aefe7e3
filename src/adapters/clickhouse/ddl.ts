import { ROLLUP_COLUMNS, ROLLUP_TIME, ROLLUP_TIMES } from '../../model/rollup-columns.ts'
import {
  type Column,
  ROLLUP_KEYS,
  ROLLUP_TABLES,
  ROW_COLUMNS,
  ROW_TABLES,
  type RollupTable,
  type RowTable,
  SIDE_TABLES,
  type SideTable,
  type Table,
} from '../../model/schema.ts'
import { SIDE_COLUMNS, SIDE_MEANING } from '../../model/side-columns.ts'

/**
 * The store's tables as statements, made from the one table of columns.
 *
 *   requests attempts progress connections     MergeTree         a partition for each day of end_time
 *   latency_1m ─ view ─► latency_1h            SummingMergeTree  a partition for each day, each month
 *   latency_1d                                 SummingMergeTree  a partition for each month; made of hours (`days.ts`)
 *   series samples histograms exemplars spans  MergeTree         a partition for each day of time, of end_time
 *
 * Sorting by (destination_service, route, end_time) costs what sorting by time does (2 µs a row, a full merge included) and
 * takes 97 in place of 102 bytes a row; questions about one service read a part of the table. Ids are found by Bloom
 * filters: 10 bits a row and id, 2.5 bytes and 0.2 µs a row in all (`bench/insert.ts`).
 */
export interface Retention {
  /** Rows of single requests, ms. */
  readonly rowsMs: number
  readonly minutesMs: number
  readonly hoursMs: number
  /** Stats: samples, histograms and their series. */
  readonly metricsMs: number
}

/**
 * How many blocks a table remembers for `insert_deduplication_token`, 0 (off) by default. Every partition that an INSERT
 * touches counts, not the INSERT: a segment over 300 days is 300. A token is of use only while the same segment is tried
 * again, before the next one is sent; afterwards the sink looks up what is stored. So three such segments, rounded up.
 */
export const DEDUPLICATION_WINDOW = 1000

/**
 * The engine does not fsync: the kernel writes parts back within 30 s (`vm.dirty_expire_centisecs`) plus 5. Merged parts
 * keep their sources for longer than that, so a power cut finds one or the other whole; segments are kept longer still
 * (`journal.keepAfterAck`), and looked up when the engine starts. With `fsync_after_insert` and
 * `fsync_part_directory` the same insert took 1.6 times as long.
 */
const OLD_PARTS_LIFETIME_SECONDS = 90

/**
 * The same of a replicated table, whose blocks are remembered in Keeper for a whole shard, so every writer's count. A token
 * has to live until its segment is accepted; after an outage of all replicas that is as long as writers take to try again
 * (5 s), and 300 s leave room for slow ones: 20 segments a second (20 writers of one shard) · 1.4 partitions (late rows,
 * midnight) · 300 s = 8400. Age counts too, and an outage can last: 7 days. What is older is looked up by its id anyway.
 * Keeper holds some 200 B of each: 2 MB a table.
 */
export const REPLICATED_DEDUPLICATION_WINDOW = 10_000
export const REPLICATED_DEDUPLICATION_SECONDS = 7 * 86_400

const WINDOWS = { non_replicated_deduplication_window: DEDUPLICATION_WINDOW }
const REPLICATED_WINDOWS = {
  replicated_deduplication_window: REPLICATED_DEDUPLICATION_WINDOW,
  replicated_deduplication_window_seconds: REPLICATED_DEDUPLICATION_SECONDS,
}

const MERGE_TREE_SETTINGS: Readonly<Record<string, number | string>> = {
  // Whole parts expire, so that expiry never rewrites one; parts of one day expire together.
  ttl_only_drop_parts: 1,
  // A changed TTL is written into the parts' own files alone.
  materialize_ttl_recalculate_only: 1,
  old_parts_lifetime: OLD_PARTS_LIFETIME_SECONDS,
  // What comes by one INSERT (a segment, 262 144 rows at most) is one file for all columns, not one for each: creating
  // and removing some 250 files a second took more time than sorting and compressing what is in them.
  min_rows_for_wide_part: 300_000,
  // By default a merge counts the distinct values of every column anew, for a planner that our questions leave no choice: a
  // sixth of what merging costs.
  auto_statistics_types: "''",
}

/**
 * Rows are rewritten by every merge that they go through, and that is what storing costs most: a merge takes 3 to 4 µs a row,
 * the insert 2. A merge costs something for every column of every part as well, so few large ones are better than many. The
 * engine lowers this number with every part above ten that a day has, so that there are 20 to 40 parts, and after two
 * hours of a segment a second a row was rewritten 2.5 times; with 12 there were 16 to 28 parts and 3.7 times, with 5 10 to
 * 18 and 4.4. Rollups, whose merges add rows up, keep to five.
 */
const ROW_TABLE_SETTINGS: Readonly<Record<string, number | string>> = {
  ...MERGE_TREE_SETTINGS,
  merge_selector_base: 30,
}

/** Settings that may change in the life of a table; values as SQL. */
export const tableSettings = (table: Table, layout?: Layout): Readonly<Record<string, number | string>> => ({
  ...(layout?.replicated === true ? REPLICATED_WINDOWS : WINDOWS),
  ...((ROLLUP_TABLES as readonly string[]).includes(table) ? MERGE_TREE_SETTINGS : ROW_TABLE_SETTINGS),
  ...(table === 'latency_1h' ? HOUR_TABLE_SETTINGS : {}),
})

/**
 * A month of hours is sorted by key first, and a question may want a few hours of each: with small granules, and a file for
 * each column of parts that were merged, it reads these and not the whole month (120 in place of 330 ms of CPU for two
 * broken days of 200 keys). The size of granules cannot be changed later.
 */
const HOUR_TABLE_SETTINGS = { min_rows_for_wide_part: 50_000 }
const HOUR_GRANULE_BYTES = 1024 ** 2

/** Where a table's rows go by, and how long they stay. */
export interface TableTime {
  readonly column: string
  /** SQL of the partition key. */
  readonly partition: string
  readonly keepMs: (retention: Retention) => number
}

const METRIC_TIME: TableTime = { column: 'time', partition: 'toDate(time)', keepMs: (r) => r.metricsMs }
const ROW_TIME: TableTime = { column: 'end_time', partition: 'toDate(end_time)', keepMs: (r) => r.rowsMs }
export const TABLE_TIME: Readonly<Record<Table, TableTime>> = {
  ...(Object.fromEntries(ROW_TABLES.map((table) => [table, ROW_TIME])) as Record<RowTable, TableTime>),
  latency_1m: { column: ROLLUP_TIMES.latency_1m, partition: 'toDate(minute)', keepMs: (r) => r.minutesMs },
  latency_1h: { column: ROLLUP_TIMES.latency_1h, partition: 'toYYYYMM(hour)', keepMs: (r) => r.hoursMs },
  latency_1d: { column: ROLLUP_TIMES.latency_1d, partition: 'toYYYYMM(day)', keepMs: (r) => r.hoursMs },
  series: METRIC_TIME,
  samples: METRIC_TIME,
  histograms: METRIC_TIME,
  exemplars: METRIC_TIME,
  spans: ROW_TIME,
}

const TABLE_COMMENT: Readonly<Record<Table, string>> = {
  requests: 'One row per finished request or connection',
  attempts: 'One row per finished attempt at an upstream',
  progress: 'Start and periodic entries of what is not finished',
  connections: 'One row per downstream connection, as listeners log them',
  latency_1m: 'Counts and histograms of requests by minute',
  latency_1h: 'Counts and histograms of requests by hour',
  latency_1d: 'Counts and histograms of requests by UTC day, of days that are over',
  ...SIDE_MEANING,
}

/**
 * Where tables are made: on one server (nothing here), or on each server of a cluster.
 *
 * On a cluster every shard is a store of its own: the tables below in a local database, which segments are inserted into
 * (`topology.ts`), and of which rollups are made on the same shard. Beside it a database with Distributed tables of the
 * same names, which questions are put to (`cluster.ts`).
 */
export interface Layout {
  /** Name of the cluster in `remote_servers`; the servers' own queue of DDL brings statements to all of them. */
  readonly cluster: string
  /** Tables are replicated between the servers of a shard. */
  readonly replicated: boolean
  /** Path of a table in Keeper; macros are the servers'. */
  readonly keeperPath: string
  /** Name of a replica, as a rule a macro of the servers. */
  readonly replicaName: string
}

/** ` ON CLUSTER …`, or nothing. */
export function onCluster(layout: Layout | undefined): string {
  return layout === undefined ? '' : ` ON CLUSTER ${quoteName(layout.cluster)}`
}

/** `MergeTree`, or its replicated form with path and name. */
export function engineSql(layout: Layout | undefined, engine: string, ...rest: readonly string[]): string {
  if (layout?.replicated !== true) return rest.length === 0 ? engine : `${engine}(${rest.join(', ')})`
  return `Replicated${engine}(${[quoteText(layout.keeperPath), quoteText(layout.replicaName), ...rest].join(', ')})`
}

/** Statements that make every table and view that is not there. Safe to run again. */
export function createStatements(database: string, retention: Retention, layout?: Layout): string[] {
  return [
    ...ROW_TABLES.map((table) => rowTable(database, table, retention, layout)),
    rollupTable(database, 'latency_1m', retention, layout),
    rollupTable(database, 'latency_1h', retention, layout),
    hourView(database, layout),
  ]
}

/** The rollup of days. Safe to run again. */
export function createDayStatements(database: string, retention: Retention, layout?: Layout): string[] {
  return [rollupTable(database, 'latency_1d', retention, layout)]
}

/** The tables of stats and spans. Safe to run again. */
export function createSideStatements(database: string, retention: Retention, layout?: Layout): string[] {
  return SIDE_TABLES.map((table) =>
    create(database, table, {
      columns: [...SIDE_COLUMNS[table].map(columnSql), ...SIDE_LAYOUT[table].indexes],
      engine: 'MergeTree',
      order: `ORDER BY ${SIDE_LAYOUT[table].order}`,
      retention,
      layout,
    }),
  )
}

const BLOOM = 'TYPE bloom_filter(0.01) GRANULARITY 1'
const ROW_INDEXES = [
  `INDEX by_request_uuid request_uuid ${BLOOM}`,
  `INDEX by_request_text request_text ${BLOOM}`,
  `INDEX by_trace trace_uuid ${BLOOM}`,
  `INDEX by_segment segment ${BLOOM}`,
  'INDEX by_received received TYPE minmax GRANULARITY 4',
]

/**
 * Rows of a granule, twice the engine's default: for each of the hundred columns a granule is a block, marks and a call, by insert
 * and by every merge. 3.1 in place of 3.7 µs a row and merge. Who looks for an id reads one granule. It cannot be changed later,
 * so a store that is there keeps what it has.
 */
const ROW_GRANULE = 16_384

function rowTable(database: string, table: RowTable, retention: Retention, layout: Layout | undefined): string {
  return create(database, table, {
    columns: [...ROW_COLUMNS.map(columnSql), ...ROW_INDEXES],
    engine: 'MergeTree',
    fixed: [`index_granularity = ${ROW_GRANULE}`],
    order: 'ORDER BY (destination_service, route, end_time)',
    retention,
    layout,
  })
}

/** Values of one series lie together, and series of one name next to each other: their ids begin with a hash of it. */
const SIDE_LAYOUT: Readonly<Record<SideTable, { readonly order: string; readonly indexes: readonly string[] }>> = {
  series: { order: '(name, id, time)', indexes: [] },
  samples: { order: '(series, time)', indexes: [] },
  histograms: { order: '(series, time)', indexes: [] },
  exemplars: { order: '(series, time)', indexes: [] },
  spans: {
    order: '(service, name, end_time)',
    indexes: [`INDEX by_trace trace_uuid ${BLOOM}`, `INDEX by_segment segment ${BLOOM}`],
  },
}

/** Keys in the order of sorting: what questions ask for first, then time, then what tells rows apart. */
const LEADING_KEYS = ['destination_service', 'route'] as const
const OTHER_KEYS = ROLLUP_KEYS.filter((key) => !(LEADING_KEYS as readonly string[]).includes(key))

function rollupTable(database: string, table: RollupTable, retention: Retention, layout: Layout | undefined): string {
  const { column } = TABLE_TIME[table]
  const leading = `${LEADING_KEYS.join(', ')}, ${column}`
  return create(database, table, {
    columns: rollupColumns(table).map(columnSql),
    engine: 'SummingMergeTree',
    ...(table === 'latency_1h' ? { fixed: [`index_granularity_bytes = ${HOUR_GRANULE_BYTES}`] } : {}),
    // All keys sort, so that rows of one key are added; a few are enough to find the place.
    order: `PRIMARY KEY (${leading}) ORDER BY (${leading}, ${OTHER_KEYS.join(', ')})`,
    retention,
    layout,
  })
}

/** Columns of a rollup table, in the shape of the row tables' columns. */
export function rollupColumns(table: RollupTable): Column[] {
  return ROLLUP_COLUMNS.map((column) => {
    const isTime = column.name === ROLLUP_TIME
    return {
      name: isTime ? ROLLUP_TIMES[table] : column.name,
      type: column.type,
      group: column.merge === 'key' ? 'key' : 'value',
      meaning: isTime ? `Start of the ${ROLLUP_TIMES[table]} that end_time is in` : column.meaning,
      codec: column.codec,
    }
  })
}

export const HOUR_VIEW = 'latency_1h_from_1m'

function hourView(database: string, layout: Layout | undefined): string {
  const rest = ROLLUP_COLUMNS.filter((column) => column.name !== ROLLUP_TIME).map((column) => quoteName(column.name))
  return [
    `CREATE MATERIALIZED VIEW IF NOT EXISTS ${quoteName(database)}.${HOUR_VIEW}${onCluster(layout)} TO ${quoteName(database)}.latency_1h AS`,
    `SELECT toStartOfHour(minute) AS ${ROLLUP_TIMES.latency_1h}, ${rest.join(', ')} FROM ${quoteName(database)}.latency_1m`,
  ].join(' ')
}

interface TableParts {
  readonly columns: readonly string[]
  readonly engine: string
  readonly order: string
  /** Settings that cannot be changed later. */
  readonly fixed?: readonly string[]
  readonly retention: Retention
  readonly layout: Layout | undefined
}

function create(database: string, table: Table, parts: TableParts): string {
  const { partition, keepMs } = TABLE_TIME[table]
  const settings = Object.entries(tableSettings(table, parts.layout)).map(([name, value]) => `${name} = ${value}`)
  return [
    `CREATE TABLE IF NOT EXISTS ${quoteName(database)}.${table}${onCluster(parts.layout)} (\n  ${parts.columns.join(',\n  ')}\n)`,
    `ENGINE = ${engineSql(parts.layout, parts.engine)}`,
    `PARTITION BY ${partition}`,
    parts.order,
    `TTL ${ttlSql(table, keepMs(parts.retention))}`,
    `SETTINGS ${[...(parts.fixed ?? []), ...settings].join(', ')}`,
    `COMMENT ${quoteText(TABLE_COMMENT[table])}`,
  ].join('\n')
}

/** The TTL expression of a table; also what `ALTER TABLE … MODIFY TTL` takes. */
export function ttlSql(table: Table, keepMs: number): string {
  const { column } = TABLE_TIME[table]
  const time = column === 'end_time' || column === 'time' ? `toDateTime(${column})` : column
  return `${time} + toIntervalSecond(${Math.ceil(keepMs / 1000)})`
}

/** A column as CREATE TABLE and ALTER TABLE … ADD COLUMN take it. */
export function columnSql(column: Column): string {
  const parts = [quoteName(column.name), column.type]
  if (column.expr !== undefined) parts.push(`ALIAS ${column.expr}`)
  parts.push(`COMMENT ${quoteText(column.meaning)}`)
  if (column.codec !== undefined && column.expr === undefined) parts.push(`CODEC(${column.codec})`)
  return parts.join(' ')
}

export function quoteName(name: string): string {
  return `\`${name.replaceAll('\\', '\\\\').replaceAll('`', '\\`')}\``
}

export function quoteText(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}
