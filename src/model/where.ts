import { type Nanos, readDuration, readTime } from '../lib/nanos.ts'
import { nearest } from '../lib/nearest.ts'
import { type Column, FLAGS, PUBLIC_ROW_COLUMNS, ROLLUP_KEYS } from './schema.ts'

/**
 * Filters as people write them, `COLUMN OP VALUE`, over the public columns of the row tables. Their meaning stands twice:
 * as SQL in `query/filters.ts`, and over blocks in `pipeline/row-filter.ts`; a test holds the two against each other.
 *
 * A missing value compares like the empty text: it is not equal to anything else, and neither below nor above anything.
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

export type Operator = '=' | '!=' | '=~' | '!~' | '<' | '<=' | '>' | '>='

export interface Filter {
  readonly column: KnownColumn
  /** Key of a map column: `request_headers[x-user]`. */
  readonly key?: string
  readonly operator: Operator
  readonly value: string
}

/** Why a text is no filter. */
export interface FilterFault {
  readonly fault: 'bad_filter' | 'unknown_column'
  readonly detail: string
  readonly help?: string
}

/** Columns stored as the halves of an id. */
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

/** What can be done with each public column, derived from its type in the schema. */
export const KNOWN_COLUMNS: ReadonlyMap<string, KnownColumn> = new Map(
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

const VALUE_LENGTH_MAX = 2000
const PATTERN_LENGTH_MAX = 1000

const SHAPE = /^\s*([A-Za-z_]\w*)\s*(?:\[([^\]]*)\])?\s*(=~|!~|!=|<=|>=|=|<|>)\s*(.*)$/s

/** Reads one filter. A value in double quotes is JSON text; it can begin and end with spaces. */
export function readFilter(text: string): Filter | FilterFault {
  const match = SHAPE.exec(text)
  if (match === null) {
    return wrong(
      `${shown(text)} is not COLUMN OP VALUE`,
      'OP is one of = != =~ !~ < <= > >=, for example destination_service=checkout',
    )
  }
  const [, name, key, operator, rest] = match
  const column = findColumn(name!)
  if ('fault' in column) return column
  const value = unquote(rest!.trim())
  if (typeof value !== 'string') return value
  if (value.length > VALUE_LENGTH_MAX) {
    return wrong(`a value has ${value.length} characters, ${VALUE_LENGTH_MAX} at most are allowed`)
  }
  if (column.kind === 'map' && key === undefined) {
    return wrong(`${column.name} is a map`, `write ${column.name}[KEY]=VALUE`)
  }
  if (column.kind !== 'map' && key !== undefined) return wrong(`${column.name} is no map and has no keys`)
  const filter = { column, operator: operator as Operator, value, ...(key === undefined ? {} : { key: key.trim() }) }
  return faultOf(filter) ?? filter
}

/** The column of that name, or a fault that names the nearest one. */
export function findColumn(name: string): KnownColumn | FilterFault {
  const column = KNOWN_COLUMNS.get(name)
  if (column !== undefined) return column
  const guess = nearest(name.slice(0, 64), KNOWN_COLUMNS.keys())
  return {
    fault: 'unknown_column',
    detail: `there is no column ${shown(name)}`,
    help: guess === undefined ? 'GET /api/v1/schema lists the columns' : `did you mean ${guess}?`,
  }
}

const wrong = (detail: string, help?: string): FilterFault => ({
  fault: 'bad_filter',
  detail,
  ...(help === undefined ? {} : { help }),
})

/** A text that was given, short enough to be told back. */
const shown = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 79)}…` : text)

function unquote(text: string): string | FilterFault {
  if (text.length < 2 || !text.startsWith('"') || !text.endsWith('"')) return text
  try {
    return JSON.parse(text) as string
  } catch {
    return wrong(`${shown(text)} is not a quoted text`, 'inside double quotes, write \\" and \\\\ for " and \\')
  }
}

/** Everything about a value that can be told without the rows, so that a filter that got this far has a meaning. */
function faultOf({ column, operator, value }: Filter): FilterFault | null {
  if (isPattern(operator)) {
    if (column.kind === 'time') return wrong(`${column.name} is a time and has no text to match`)
    const fault = patternFault(value)
    return fault === null ? null : wrong(`${shown(value)} is not an RE2 pattern: ${fault}`)
  }
  if (isOrder(operator) && ['id', 'flags', 'bool', 'map'].includes(column.kind)) {
    return wrong(`${column.name} is a ${KIND_NAMES[column.kind]} and has no order`, 'use =, !=, =~ or !~')
  }
  if (value === '' && column.nullable && !isOrder(operator)) return null
  switch (column.kind) {
    case 'number': {
      if (readNumber(column, value) !== null) return null
      const range = column.max === null ? 'a number' : `a whole number from 0 to ${column.max}`
      return wrong(`${column.name} is a number and ${shown(value)} is not ${range}`)
    }
    case 'duration':
      if (readNs(value) !== null) return null
      return wrong(`${column.name} is a duration and ${shown(value)} is not`, 'write 250ms, 1.5s, or a number of ns')
    case 'time':
      if (readTime(value, 0n) !== null || readTime(value, NOON_2020) !== null) return null
      return wrong(`${column.name} is a time and ${shown(value)} is not`, 'write RFC 3339, Unix seconds, or -15m')
    case 'bool':
      return readBool(value) !== null ? null : wrong(`${column.name} is true or false, not ${shown(value)}`)
    case 'flags':
      return flagsFault(value)
    default:
      return null
  }
}

function flagsFault(value: string): FilterFault | null {
  for (const name of value === '' ? [] : value.split(',')) {
    if (FLAGS.includes(name.trim() as (typeof FLAGS)[number])) continue
    const guess = nearest(name.trim().toUpperCase(), FLAGS)
    return wrong(
      `there is no response flag ${shown(name)}`,
      guess === undefined ? `flags are ${FLAGS.join(', ')}` : `did you mean ${guess}?`,
    )
  }
  return null
}

/** Any time late enough that a relative one does not go below 1970. */
const NOON_2020: Nanos = 1_577_880_000_000_000_000n

export function isPattern(operator: Operator): boolean {
  return operator === '=~' || operator === '!~'
}

export function isOrder(operator: Operator): boolean {
  return operator.startsWith('<') || operator.startsWith('>')
}

/** A number as text that is one; null when it is none, or out of range. */
export function readNumber(column: KnownColumn, value: string): string | null {
  if (column.max === null) return /^\d{1,15}(?:\.\d{1,15})?$/.test(value) ? value : null
  return /^\d{1,20}$/.test(value) && BigInt(value) <= column.max ? value : null
}

/** A duration in ns. */
export function readNs(value: string): bigint | null {
  return /^\d{1,18}$/.test(value) ? BigInt(value) : readDuration(value)
}

export function readBool(value: string): boolean | null {
  if (value === 'true' || value === '1') return true
  return value === 'false' || value === '0' ? false : null
}

/** All bits of the flags named, which were checked. */
export function flagBits(value: string): bigint {
  if (value === '') return 0n
  return value
    .split(',')
    .reduce((bits, name) => bits | (1n << BigInt(FLAGS.indexOf(name.trim() as (typeof FLAGS)[number]))), 0n)
}

/** Names of the bits of `response_flags`, in the order of the bits: `UF,URX`. */
export function flagNames(bits: number | bigint): string {
  const set = BigInt(bits)
  const names: string[] = []
  for (let bit = 0; set >> BigInt(bit) > 0n; bit++) {
    if (((set >> BigInt(bit)) & 1n) === 1n) names.push(FLAGS[bit] ?? `bit${bit}`)
  }
  return names.join(',')
}

/** What RE2 lacks and people expect. Other faults of a pattern are found when it is used. */
function patternFault(pattern: string): string | null {
  if (pattern.length > PATTERN_LENGTH_MAX) return `it has ${pattern.length} characters, ${PATTERN_LENGTH_MAX} at most`
  if (pattern.includes('\0')) return 'it has a zero byte'
  if (/\(\?<?[=!]/.test(pattern)) return 'lookahead and lookbehind are not in RE2'
  if (/(?:^|[^\\])(?:\\\\)*\\[1-9]/.test(pattern)) return 'back references are not in RE2'
  return null
}
