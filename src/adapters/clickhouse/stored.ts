import {
  type Column,
  ROW_TABLES,
  type RowTable,
  SIDE_TABLES,
  type SideTable,
  type SourceTable,
  STORED_ROW_COLUMNS,
} from '../../model/schema.ts'
import { storedSideColumns } from '../../model/side-columns.ts'
import type { Segment, SegmentTable } from '../../pipeline/segment.ts'
import type { ClickHouse } from './client.ts'
import { quoteName, quoteText, TABLE_TIME } from './ddl.ts'

/**
 * What the store holds of a segment, by the column `segment`, held against what the segment's manifest says. This and not
 * the engine's answer decides: after a crash its deduplication log can know a block whose part is not there.
 */
export interface Difference {
  /** Days with none of the segment's rows. */
  readonly missing: readonly number[]
  /** Days with some of them, or too many: what is there has to go first. */
  readonly wrong: readonly number[]
}

export const SECONDS_PER_DAY = 86_400
/** Of `max_partitions_per_insert_block` 100, above which an INSERT fails for ever. */
export const PARTITIONS_PER_INSERT = 50
/** Segments in one look-up: their ids travel in the URL. */
const SEGMENTS_PER_LOOKUP = 200
const LOOKUP_TIMEOUT_MS = 60_000

/** Rows stored of each segment by day: `<segment id>` → day → rows. */
export async function storedRows(
  clickhouse: ClickHouse,
  table: SourceTable,
  segments: readonly Segment[],
  signal: AbortSignal,
): Promise<Map<string, Map<number, number>>> {
  const found = new Map<string, Map<number, number>>()
  for (let from = 0; from < segments.length; from += SEGMENTS_PER_LOOKUP) {
    const some = segments.slice(from, from + SEGMENTS_PER_LOOKUP)
    const { rows } = await clickhouse.query<{ segment: string; day: number; n: number }>(
      {
        sql: `SELECT segment, toInt32(toDate(${TABLE_TIME[table].column})) AS day, count() AS n
          FROM ${quoteName(clickhouse.database)}.${table}
          WHERE segment IN ({segments:Array(String)}) AND ${inDays(table)} GROUP BY segment, day`,
        params: { segments: some.map((segment) => segment.id), days: [...daysOf(some, table)].map(dateOf) },
      },
      { signal, timeoutMs: LOOKUP_TIMEOUT_MS },
    )
    for (const { segment, day, n } of rows) {
      const days = found.get(segment) ?? new Map<number, number>()
      found.set(segment, days.set(Number(day), Number(n)))
    }
  }
  return found
}

function daysOf(segments: readonly Segment[], table: SourceTable): Set<number> {
  return new Set(segments.flatMap((segment) => [...(tableOf(segment, table)?.days.keys() ?? [])]))
}

export function tableOf(segment: Segment, table: SegmentTable['table']): SegmentTable | undefined {
  return segment.tables.find((one) => one.table === table)
}

/** `oldestDay`: days before it have been dropped, by age or for want of room, and are not missing. */
export function differenceOf(
  table: SegmentTable,
  stored: ReadonlyMap<number, number> | undefined,
  oldestDay: number,
): Difference {
  const missing: number[] = []
  const wrong: number[] = []
  for (const [day, rows] of table.days) {
    const n = stored?.get(day) ?? 0
    if (n === rows || day < oldestDay) continue
    if (n === 0) missing.push(day)
    else wrong.push(day)
  }
  return { missing, wrong }
}

/** Condition on the days of an INSERT or a look-up, and its parameter. */
export const inDays = (table: SourceTable): string =>
  `toDate(${TABLE_TIME[table].column}) IN (SELECT arrayJoin({days:Array(Date)}))`

/** A day since the epoch as a date literal. */
export function dateOf(day: number): string {
  return new Date(day * SECONDS_PER_DAY * 1000).toISOString().slice(0, 10)
}

/** Days in parts that one INSERT may touch, oldest first. */
export function partsOf(days: Iterable<number>): number[][] {
  const sorted = [...days].sort((a, b) => a - b)
  const parts: number[][] = []
  for (let from = 0; from < sorted.length; from += PARTITIONS_PER_INSERT) {
    parts.push(sorted.slice(from, from + PARTITIONS_PER_INSERT))
  }
  return parts
}

/** Columns of a table's segment file with their types. A block may leave columns out, which then have their default. */
export interface FileLayout {
  readonly columns: readonly string[]
  readonly structure: string
}

const ROW_LAYOUT = layoutOf(STORED_ROW_COLUMNS)
export const FILE_LAYOUT: Readonly<Record<SourceTable, FileLayout>> = {
  ...(Object.fromEntries(ROW_TABLES.map((table) => [table, ROW_LAYOUT])) as Record<RowTable, FileLayout>),
  ...(Object.fromEntries(SIDE_TABLES.map((table) => [table, layoutOf(storedSideColumns(table))])) as Record<
    SideTable,
    FileLayout
  >),
}

function layoutOf(columns: readonly Column[]): FileLayout {
  return {
    columns: columns.map((column) => quoteName(column.name)),
    structure: columns.map((column) => `${quoteName(column.name)} ${column.type}`).join(', '),
  }
}

/** A file as a table, read by the engine itself. */
export function fileSource(path: string, structure: string): string {
  return `file(${quoteText(path)}, 'Native', ${quoteText(structure)})`
}
