import { nearest } from '../lib/nearest.ts'
import { FLAGS } from '../model/schema.ts'
import { FLAGS_SQL, KIND_NAMES, type KnownColumn, requireColumn } from './columns.ts'
import { Problem, shown } from './problem.ts'
import type { Bindings, BoundType } from './sql.ts'
import { type Nanos, readDuration, readTime } from './time.ts'

/**
 * Filters: `COLUMN OP VALUE` as text, and as SQL over the row tables and the rollups.
 *
 * A missing value compares like the empty text: it is not equal to anything else, and neither below nor above anything.
 */
export type Operator = '=' | '!=' | '=~' | '!~' | '<' | '<=' | '>' | '>='

export interface Filter {
  readonly column: KnownColumn
  /** Key of a map column: `request_headers[x-user]`. */
  readonly key?: string
  readonly operator: Operator
  readonly value: string
}

export const FILTERS_MAX = 20
const VALUE_LENGTH_MAX = 2000
const PATTERN_LENGTH_MAX = 1000

const SHAPE = /^\s*([A-Za-z_]\w*)\s*(?:\[([^\]]*)\])?\s*(=~|!~|!=|<=|>=|=|<|>)\s*(.*)$/s

/** Reads all `where` parameters. A value in double quotes is JSON text; it can begin and end with spaces. */
export function parseFilters(where: readonly string[], parameter = 'where'): readonly Filter[] {
  if (where.length > FILTERS_MAX) {
    throw new Problem('bad_filter', `${where.length} filters are given, ${FILTERS_MAX} at most are allowed`, {
      parameter,
    })
  }
  return where.map((text) => parseFilter(text, parameter))
}

function parseFilter(text: string, parameter: string): Filter {
  const match = SHAPE.exec(text)
  if (match === null) {
    throw new Problem('bad_filter', `${shown(text)} is not COLUMN OP VALUE`, {
      parameter,
      help: 'OP is one of = != =~ !~ < <= > >=, for example destination_service=checkout',
    })
  }
  const [, name, key, operator, rest] = match
  const column = requireColumn(name!, parameter)
  const value = unquote(rest!.trim(), parameter)
  if (value.length > VALUE_LENGTH_MAX) {
    throw new Problem('bad_filter', `a value has ${value.length} characters, ${VALUE_LENGTH_MAX} at most are allowed`, {
      parameter,
    })
  }
  if (column.kind === 'map' && key === undefined) {
    throw new Problem('bad_filter', `${column.name} is a map`, { parameter, help: `write ${column.name}[KEY]=VALUE` })
  }
  if (column.kind !== 'map' && key !== undefined) {
    throw new Problem('bad_filter', `${column.name} is no map and has no keys`, { parameter })
  }
  const filter = { column, operator: operator as Operator, value, ...(key === undefined ? {} : { key: key.trim() }) }
  check(filter, parameter)
  return filter
}

function unquote(text: string, parameter: string): string {
  if (text.length < 2 || !text.startsWith('"') || !text.endsWith('"')) return text
  try {
    return JSON.parse(text) as string
  } catch (cause) {
    throw new Problem('bad_filter', `${shown(text)} is not a quoted text`, {
      parameter,
      help: 'inside double quotes, write \\" and \\\\ for " and \\',
      cause,
    })
  }
}

/** Everything about a value that can be told without the store, so that a filter that got this far has a meaning. */
function check({ column, operator, value }: Filter, parameter: string): void {
  const wrong = (detail: string, help?: string) =>
    new Problem('bad_filter', detail, { parameter, ...(help === undefined ? {} : { help }) })
  if (isPattern(operator)) {
    if (column.kind === 'time') throw wrong(`${column.name} is a time and has no text to match`)
    const fault = patternFault(value)
    if (fault !== null) throw wrong(`${shown(value)} is not an RE2 pattern: ${fault}`)
    return
  }
  if (isOrder(operator) && ['id', 'flags', 'bool', 'map'].includes(column.kind)) {
    throw wrong(`${column.name} is a ${KIND_NAMES[column.kind]} and has no order`, 'use =, !=, =~ or !~')
  }
  if (value === '' && column.nullable && !isOrder(operator)) return
  switch (column.kind) {
    case 'number':
      if (readNumber(column, value) === null) {
        const range = column.max === null ? 'a number' : `a whole number from 0 to ${column.max}`
        throw wrong(`${column.name} is a number and ${shown(value)} is not ${range}`)
      }
      return
    case 'duration':
      if (readNs(value) === null) {
        throw wrong(`${column.name} is a duration and ${shown(value)} is not`, 'write 250ms, 1.5s, or a number of ns')
      }
      return
    case 'time':
      if (readTime(value, 0n) === null && readTime(value, NOON_2020) === null) {
        throw wrong(`${column.name} is a time and ${shown(value)} is not`, 'write RFC 3339, Unix seconds, or -15m')
      }
      return
    case 'bool':
      if (readBool(value) === null) throw wrong(`${column.name} is true or false, not ${shown(value)}`)
      return
    case 'flags':
      for (const name of value === '' ? [] : value.split(',')) {
        if (FLAGS.includes(name.trim() as (typeof FLAGS)[number])) continue
        const guess = nearest(name.trim().toUpperCase(), FLAGS)
        throw wrong(
          `there is no response flag ${shown(name)}`,
          guess === undefined ? `flags are ${FLAGS.join(', ')}` : `did you mean ${guess}?`,
        )
      }
      return
  }
}

/** Any time late enough that a relative one does not go below 1970. */
const NOON_2020: Nanos = 1_577_880_000_000_000_000n

/** The filter as a condition that is never NULL. `now` is what relative times are relative to. */
export function filterSql(filter: Filter, bindings: Bindings, now: Nanos): string {
  const { column, operator, value } = filter
  if (isPattern(operator)) {
    const matches = `match(${textSql(filter, bindings)}, ${bindings.bind(`^(?:${value})$`, 'String')})`
    return operator === '=~' ? matches : `NOT ${matches}`
  }
  if (operator === '!=') return `NOT (${filterSql({ ...filter, operator: '=' }, bindings, now)})`
  if (column.nullable && value === '') return `isNull(${column.name})`
  const compare = (literal: string, type: BoundType | null = null): string => {
    const right = type === null ? literal : bindings.bind(literal, type)
    const comparison = `${column.name} ${operator} ${right}`
    return column.nullable ? `ifNull(${comparison}, 0)` : comparison
  }
  switch (column.kind) {
    case 'text':
      return compare(value, 'String')
    case 'map':
      return `${textSql(filter, bindings)} ${operator} ${bindings.bind(value, 'String')}`
    case 'number':
      return compare(readNumber(column, value)!, column.max === null ? 'Float64' : 'UInt64')
    case 'duration':
      return compare(readNs(value)!.toString(), 'UInt64')
    case 'time':
      return compare(timeSql(readTime(value, now) ?? 0n, bindings))
    case 'bool':
      return compare(readBool(value) === true ? 'true' : 'false')
    case 'flags':
      return flagsSql(value)
    case 'id':
      return idSql(column.name, value, bindings)
  }
}

/** A bound time as the store's DateTime64(9). */
export function timeSql(time: Nanos, bindings: Bindings): string {
  return `fromUnixTimestamp64Nano(${bindings.bind(time, 'Int64')}, 'UTC')`
}

/** The value as text, for patterns; a missing one is empty. */
function textSql({ column, key }: Filter, bindings: Bindings): string {
  if (column.kind === 'flags') return FLAGS_SQL
  if (column.kind === 'map') return `${column.name}[${bindings.bind(key!, 'String')}]`
  if (column.kind === 'text' || column.kind === 'id') return column.name
  return column.nullable ? `ifNull(toString(${column.name}), '')` : `toString(${column.name})`
}

/** All flags named are set; none at all for the empty text. Bits of names that were checked. */
function flagsSql(value: string): string {
  if (value === '') return 'response_flags = 0'
  const mask = value
    .split(',')
    .reduce((bits, name) => bits | (1n << BigInt(FLAGS.indexOf(name.trim() as (typeof FLAGS)[number]))), 0n)
  return `bitAnd(response_flags, ${mask}) = ${mask}`
}

const CANONICAL_UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const ZERO_UUID = '00000000-0000-0000-0000-000000000000'

/**
 * Equality of an id, over the stored halves rather than over the text that they make, so that the skip indexes of the
 * halves tell which blocks cannot have it: any id is found without reading the column.
 */
function idSql(name: string, value: string, bindings: Bindings): string {
  const uuid = (text: string) => bindings.bind(text, 'UUID')
  switch (name) {
    case 'request_id':
      return halvesSql('request', value, bindings)
    case 'stream_id':
      // A stream id that equals the request id is stored once, as the request id.
      return `(stream_is_request = 0 AND ${halvesSql('stream', value, bindings)}) OR (stream_is_request = 1 AND ${halvesSql('request', value, bindings)})`
    case 'trace_id': {
      const hex = value.toLowerCase()
      if (hex === '') return `trace_uuid = ${uuid(ZERO_UUID)}`
      if (!/^[0-9a-f]{32}$/.test(hex) || /^0+$/.test(hex)) return '0'
      return `trace_uuid = ${uuid(hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'))}`
    }
    default: {
      const hex = value.toLowerCase()
      if (hex === '') return 'span_number = 0'
      if (!/^[0-9a-f]{16}$/.test(hex) || /^0+$/.test(hex)) return '0'
      return `span_number = ${bindings.bind(BigInt(`0x${hex}`), 'UInt64')}`
    }
  }
}

function halvesSql(stem: 'request' | 'stream', value: string, bindings: Bindings): string {
  if (CANONICAL_UUID.test(value) && value !== ZERO_UUID) {
    return `(${stem}_uuid = ${bindings.bind(value, 'UUID')} AND ${stem}_text = '')`
  }
  if (value === '') return `(${stem}_text = '' AND ${stem}_uuid = ${bindings.bind(ZERO_UUID, 'UUID')})`
  return `${stem}_text = ${bindings.bind(value, 'String')}`
}

function isPattern(operator: Operator): boolean {
  return operator === '=~' || operator === '!~'
}

function isOrder(operator: Operator): boolean {
  return operator.startsWith('<') || operator.startsWith('>')
}

/** A number as it is bound; null when it is none, or out of range. */
function readNumber(column: KnownColumn, value: string): string | null {
  if (column.max === null) return /^\d{1,15}(?:\.\d{1,15})?$/.test(value) ? value : null
  return /^\d{1,20}$/.test(value) && BigInt(value) <= column.max ? value : null
}

function readNs(value: string): bigint | null {
  return /^\d{1,18}$/.test(value) ? BigInt(value) : readDuration(value)
}

function readBool(value: string): boolean | null {
  if (value === 'true' || value === '1') return true
  return value === 'false' || value === '0' ? false : null
}

/** What RE2 lacks and people expect. Other faults of a pattern are found by the store, and answered as the same problem. */
function patternFault(pattern: string): string | null {
  if (pattern.length > PATTERN_LENGTH_MAX) return `it has ${pattern.length} characters, ${PATTERN_LENGTH_MAX} at most`
  if (pattern.includes('\0')) return 'it has a zero byte'
  if (/\(\?<?[=!]/.test(pattern)) return 'lookahead and lookbehind are not in RE2'
  if (/(?:^|[^\\])(?:\\\\)*\\[1-9]/.test(pattern)) return 'back references are not in RE2'
  return null
}
