import { ROLLUP_COLUMNS } from '../../model/rollup-columns.ts'
import { ROW_COLUMNS, ROW_TABLES, type SideTable, SOURCE_TABLES, type SourceTable } from '../../model/schema.ts'
import { SIDE_COLUMNS } from '../../model/side-columns.ts'
import type { SegmentTable } from '../../pipeline/segment.ts'
import { quoteName, TABLE_TIME } from './ddl.ts'
import { FILE_LAYOUT } from './stored.ts'

/**
 * A copy of what arrives, in other tables than ours: an expression over our columns for each of theirs. The server works
 * them out from the segment's own bytes; nothing is unpacked here.
 *
 *   segment file ─► INSERT INTO theirs (a, b, …) SELECT <expressions> FROM input(<our columns>) FORMAT Native
 */
export interface Copy {
  /** Part of the token; the same for ever. */
  readonly name: string
  readonly from: SegmentTable['table']
  readonly into: { readonly database: string; readonly table: string }
  readonly columns: readonly CopyColumn[]
  /** Rows that are copied, as a condition; all when empty. */
  readonly where: string
  /** Column of theirs that has the segment's id: what was stored can be found by it. Null: the token alone has to do. */
  readonly segmentColumn: string | null
}

export interface CopyColumn {
  readonly name: string
  /** Over the columns of `from`, those among them that are computed, and `segment`. */
  readonly sql: string
}

/** As an expression: the id of the segment. Rollups have no column with it. */
export const SEGMENT_OF = '{segment id}'

/** Columns of a segment's file, and those that are computed from them. */
export interface CopySource {
  readonly structure: string
  /** `expression AS name`. */
  readonly computed: readonly string[]
  /** Day of a row: segments of many days are sent in parts. */
  readonly day: string
}

const ROLLUP_SOURCE: CopySource = {
  structure: ROLLUP_COLUMNS.map((column) => `${quoteName(column.name)} ${column.nativeType}`).join(', '),
  computed: [],
  day: 'toDate(minute)',
}

export function sourceOf(table: SegmentTable['table']): CopySource {
  if (table === 'latency_1m') return ROLLUP_SOURCE
  const columns = isRow(table) ? ROW_COLUMNS : SIDE_COLUMNS[table as SideTable]
  return {
    structure: FILE_LAYOUT[table].structure,
    computed: columns.filter(({ expr }) => expr !== undefined).map(({ name, expr }) => `${expr} AS ${quoteName(name)}`),
    day: `toDate(${TABLE_TIME[table].column})`,
  }
}

/** Tables that can be copied. */
export const COPY_SOURCES: readonly SegmentTable['table'][] = [...SOURCE_TABLES, 'latency_1m']

const isRow = (table: SourceTable): boolean => (ROW_TABLES as readonly string[]).includes(table)
