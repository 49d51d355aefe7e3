import { nearest } from '../lib/nearest.ts'
import { type Column, FLAGS, PUBLIC_ROW_COLUMNS, ROLLUP_KEYS } from '../model/schema.ts'
import { Problem, shown } from './problem.ts'

/**
 * What can be done with each public column, derived from its type in the schema. The name of a column enters SQL only
 * when it was found here.
 */
export type ColumnKind = 'text' | 'id' | 'number' | 'duration' | 'time' | 'bool' | 'flags' | 'map'

export interface KnownColumn {
  readonly name: string
  readonly kind: ColumnKind
  readonly nullable: boolean
  /** Largest value of a whole number; null for other numbers. */
  readonly max: bigint | null
  /** Rollups are keyed by it, so that filters and groups by it work for as long as rollups are kept. */
  readonly inRollups: boolean
  readonly column: Column
}

/** Columns stored as the halves of an id; see `filters.ts`. */
const IDS: ReadonlySet<string> = new Set(['request_id', 'stream_id', 'trace_id', 'span_id'])

const KEYS: ReadonlySet<string> = new Set(ROLLUP_KEYS)

function kindOf(column: Column): ColumnKind {
  if (IDS.has(column.name)) return 'id'
  if (column.name === 'response_flags') return 'flags'
  if (column.type.startsWith('Map(')) return 'map'
  if (column.type.startsWith('DateTime')) return 'time'
  if (column.type === 'Bool') return 'bool'
  if (column.unit === 'ns') return 'duration'
  if (/Int\d|Float\d/.test(column.type)) return 'number'
  return 'text'
}

const COLUMNS: ReadonlyMap<string, KnownColumn> = new Map(
  PUBLIC_ROW_COLUMNS.map((column) => [
    column.name,
    {
      name: column.name,
      kind: kindOf(column),
      nullable: column.type.startsWith('Nullable('),
      max: column.type.includes('Float') ? null : 2n ** BigInt(/Int(\d+)/.exec(column.type)?.[1] ?? 64) - 1n,
      inRollups: KEYS.has(column.name),
      column,
    },
  ]),
)

export const COLUMN_NAMES: readonly string[] = [...COLUMNS.keys()]

/** The column of that name, or a problem that names the nearest one. */
export function requireColumn(name: string, parameter: string): KnownColumn {
  const column = COLUMNS.get(name)
  if (column !== undefined) return column
  const guess = nearest(name.slice(0, 64), COLUMN_NAMES)
  throw new Problem('unknown_column', `there is no column ${shown(name)}`, {
    parameter,
    help: guess === undefined ? 'GET /api/v1/schema lists the columns' : `did you mean ${guess}?`,
  })
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

export const KIND_NAMES: Readonly<Record<ColumnKind, string>> = {
  text: 'text',
  id: 'id',
  number: 'number',
  duration: 'duration',
  time: 'time',
  bool: 'boolean',
  flags: 'set of flags',
  map: 'map',
}

const FLAG_LIST = `[${FLAGS.map((flag) => `'${flag}'`).join(',')}]`

/** The response flags as text, `UF,URX`, in the order of their bits. */
export const FLAGS_SQL = `arrayStringConcat(arrayMap(bit -> ${FLAG_LIST}[bit + 1], bitPositionsToArray(response_flags)), ',')`

/** Names of the bits of `response_flags`, in the order of the bits. */
export function flagNames(bits: number | bigint): string {
  const set = BigInt(bits)
  const names: string[] = []
  for (let bit = 0; set >> BigInt(bit) > 0n; bit++) {
    if (((set >> BigInt(bit)) & 1n) === 1n) names.push(FLAGS[bit] ?? `bit${bit}`)
  }
  return names.join(',')
}

/** A column as a label: text, empty where the value is missing. Low-cardinality texts stay what they are, which is faster. */
export function labelSql(column: KnownColumn): string {
  if (column.kind === 'flags') return FLAGS_SQL
  if (column.kind === 'text' || column.kind === 'id') return column.name
  return column.nullable ? `ifNull(toString(${column.name}), '')` : `toString(${column.name})`
}
