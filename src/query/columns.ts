import { FLAGS } from '../model/schema.ts'
import { findColumn, KIND_NAMES, KNOWN_COLUMNS, type KnownColumn } from '../model/where.ts'
import { Problem } from './problem.ts'

export { type ColumnKind, flagNames, KIND_NAMES, type KnownColumn } from '../model/where.ts'

/** Columns as questions name them. The name of a column enters SQL only when it was found here. */
export const COLUMN_NAMES: readonly string[] = [...KNOWN_COLUMNS.keys()]

/** The column of that name, or a problem that names the nearest one. */
export function requireColumn(name: string, parameter: string): KnownColumn {
  const column = findColumn(name)
  if (!('fault' in column)) return column
  const { fault, detail, help } = column
  throw new Problem(fault, detail, { parameter, ...(help === undefined ? {} : { help }) })
}

export const GROUP_COLUMNS_MAX = 5

/** The columns of `by=`: a bounded number, each once, each of a kind that makes sense as a label. */
export function parseGroups(text: string | undefined): readonly KnownColumn[] {
  if (text === undefined || text.trim() === '') return []
  const columns = text.split(',').map((name) => requireColumn(name.trim(), 'by'))
  if (columns.length > GROUP_COLUMNS_MAX) {
    throw new Problem('bad_parameter', `by has ${columns.length} columns, ${GROUP_COLUMNS_MAX} at most are allowed`, {
      parameter: 'by',
    })
  }
  for (const [k, column] of columns.entries()) {
    if (columns.indexOf(column) !== k) {
      throw new Problem('bad_parameter', `by names ${column.name} twice`, { parameter: 'by' })
    }
    if (column.kind === 'map' || column.kind === 'time' || column.kind === 'duration') {
      throw new Problem('bad_parameter', `${column.name} is a ${KIND_NAMES[column.kind]} and cannot be grouped by`, {
        parameter: 'by',
        ...(column.kind === 'time' ? { help: 'use step for points over time' } : {}),
      })
    }
  }
  return columns
}

const FLAG_LIST = `[${FLAGS.map((flag) => `'${flag}'`).join(',')}]`

/** The response flags as text, `UF,URX`, in the order of their bits. */
export const FLAGS_SQL = `arrayStringConcat(arrayMap(bit -> ${FLAG_LIST}[bit + 1], bitPositionsToArray(response_flags)), ',')`

/** A column as a label: text, empty where the value is missing. Low-cardinality texts stay what they are, which is faster. */
export function labelSql(column: KnownColumn): string {
  if (column.kind === 'flags') return FLAGS_SQL
  if (column.kind === 'text' || column.kind === 'id') return column.name
  return column.nullable ? `ifNull(toString(${column.name}), '')` : `toString(${column.name})`
}
