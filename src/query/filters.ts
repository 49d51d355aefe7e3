import { type Filter, flagBits, isPattern, readBool, readFilter, readNs, readNumber } from '../model/where.ts'
import { FLAGS_SQL } from './columns.ts'
import { Problem } from './problem.ts'
import type { Bindings, BoundType } from './sql.ts'
import { type Nanos, readTime } from './time.ts'

export type { Filter, Operator } from '../model/where.ts'

/** Filters as SQL over the row tables and the rollups. What they mean is said in `model/where.ts`. */
export const FILTERS_MAX = 20

/** Reads all `where` parameters. A value in double quotes is JSON text; it can begin and end with spaces. */
export function parseFilters(where: readonly string[], parameter = 'where'): readonly Filter[] {
  if (where.length > FILTERS_MAX) {
    throw new Problem('bad_filter', `${where.length} filters are given, ${FILTERS_MAX} at most are allowed`, {
      parameter,
    })
  }
  return where.map((text) => {
    const filter = readFilter(text)
    if (!('fault' in filter)) return filter
    const { fault, detail, help } = filter
    throw new Problem(fault, detail, { parameter, ...(help === undefined ? {} : { help }) })
  })
}

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
  const mask = flagBits(value)
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
