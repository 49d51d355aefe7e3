import { SidecastError } from '../../errors.ts'
import { COPY_SOURCES, type Copy, sourceOf } from './copies.ts'

/**
 * Users' own tables, by a map of columns in the configuration:
 *
 *     tables:
 *       - from: requests
 *         into: warehouse.http_requests
 *         columns: { at: end_time, svc: destination_service, ms: duration_ns / 1e6, batch: segment }
 *         where: class = 'server_error'
 *
 * Each value is an expression of ClickHouse over the columns of docs/schema.md. They are the configuration's, so whoever
 * may write it decides what runs; what they may do is bounded by the grants of the user.
 */
export interface TableConfig {
  readonly from: string
  readonly into: string
  readonly columns: Readonly<Record<string, string>>
  readonly where: string
}

const OPTION = 'adapters.clickhouse.tables'

/** Throws SC1205 for what can be seen without a server. */
export function mappedCopies(tables: readonly TableConfig[], database: string): Copy[] {
  return tables.map((table, index) => {
    const from = COPY_SOURCES.find((name) => name === table.from)
    if (from === undefined) throw fault(index, `from: there is no table ${table.from}`, COPY_SOURCES.join(', '))
    const columns = Object.entries(table.columns).map(([name, sql]) => ({ name, sql: sql.trim() }))
    if (columns.length === 0) throw fault(index, 'columns: there are none', 'name: expression')
    for (const { name, sql } of columns) {
      if (!balanced(sql))
        throw fault(index, `columns.${name}: ${JSON.stringify(sql)} is no expression`, 'one expression')
    }
    if (!balanced(table.where))
      throw fault(index, `where: ${JSON.stringify(table.where)} is no condition`, 'one condition')
    const parts = table.into.split('.')
    if (parts.length > 2 || parts.includes('')) throw fault(index, `into: ${table.into} is no table`, 'database.table')
    return {
      name: `table/${index}/${table.into}`,
      from,
      into: { database: parts.length === 2 ? parts[0]! : database, table: parts.at(-1)! },
      columns,
      where: table.where.trim(),
      segmentColumn: columns.find(({ sql }) => sql === 'segment')?.name ?? null,
    }
  })
}

/** Statement that fails where an expression or a column is wrong, and reads and writes nothing. */
export function checkStatement(copy: Copy): string {
  const { structure, computed } = sourceOf(copy.from)
  const escaped = structure.replaceAll('\\', '\\\\').replaceAll("'", "\\'")
  const expressions = copy.columns.map(({ sql }, k) => `(${sql}) AS c${k}`)
  const rows = [`*`, ...computed].join(', ')
  const where = copy.where === '' ? '' : ` WHERE (${copy.where})`
  return `SELECT ${expressions.join(', ')} FROM (SELECT ${rows} FROM null('${escaped}'))${where} LIMIT 0`
}

/** Brackets and quotes are closed, and nothing follows the end: what stands here stays what it is inside a statement. */
function balanced(sql: string): boolean {
  const plain = sql.replaceAll(/'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.)*`|"(?:[^"\\]|\\.)*"/g, '')
  if (/['"`;]|--|\/\*|#/.test(plain)) return false
  let depth = 0
  for (const sign of plain) {
    if ('([{'.includes(sign)) depth++
    if (')]}'.includes(sign) && --depth < 0) return false
  }
  return depth === 0
}

function fault(index: number, what: string, help: string): SidecastError {
  return new SidecastError('SC1205', `${OPTION}[${index}]: ${what}`, { help })
}
