import { SidecastError } from '../errors.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import { MS, type Nanos, readTime } from '../lib/nanos.ts'
import type { NativeBlockColumns } from '../model/native-read.ts'
import {
  type Filter,
  type FilterFault,
  flagBits,
  isOrder,
  isPattern,
  readBool,
  readFilter,
  readNs,
  readNumber,
} from '../model/where.ts'
import { type RowColumn, rowColumn } from './row-values.ts'

/**
 * Which rows a sink gets: `where` of its configuration, in the syntax of the API; all filters must hold. What is left out
 * is the user's choice, and is counted as `dropped` of the sink.
 *
 * Patterns are RE2 where the store runs them. Here they are JavaScript's: what both have means the same, and a pattern
 * that only one of them has is refused when the configuration is read.
 */
export interface RowFilter {
  /** Every row passes. */
  readonly all: boolean
  /** 1 for each row of the block that passes; null when all do. */
  select(block: NativeBlockColumns): Uint8Array | null
}

export type RowFilterFault = FilterFault & { readonly filter: string }

/** At most as many as the API takes. */
const FILTERS_MAX = 20

/** `clock` is what relative times (`-15m`) are relative to. */
export function createRowFilter(where: readonly string[], clock: Clock = systemClock): RowFilter | RowFilterFault {
  if (where.length > FILTERS_MAX) {
    return { fault: 'bad_filter', detail: `${where.length} filters, ${FILTERS_MAX} at most`, filter: where.at(-1)! }
  }
  const filters: Filter[] = []
  for (const text of where) {
    const filter = readFilter(text)
    if ('fault' in filter) return { ...filter, filter: text }
    if (isPattern(filter.operator) && toRegExp(filter.value) === null) {
      return { fault: 'bad_filter', detail: `${JSON.stringify(filter.value)} is no pattern`, filter: text }
    }
    filters.push(filter)
  }
  return {
    all: filters.length === 0,
    select(block) {
      let selected: Uint8Array | null = null
      const now = BigInt(Math.trunc(clock.now())) * MS
      for (const filter of filters) {
        const passes = predicate(filter, rowColumn(block, filter.column.name), now)
        selected ??= new Uint8Array(block.rows).fill(1)
        for (let row = 0; row < block.rows; row++) if (selected[row] === 1 && !passes(row)) selected[row] = 0
      }
      return selected
    },
  }
}

/** The same of an option of the configuration: throws SC1205 with its path. */
export function requireRowFilter(option: string, where: readonly string[], clock?: Clock): RowFilter {
  const filter = createRowFilter(where, clock)
  if (!isFilterFault(filter)) return filter
  throw new SidecastError('SC1205', `${option}: ${JSON.stringify(filter.filter)}: ${filter.detail}`, {
    help: filter.help ?? 'COLUMN OP VALUE, as `where` of the API',
  })
}

export const isFilterFault = (value: RowFilter | RowFilterFault): value is RowFilterFault => 'fault' in value

type Predicate = (row: number) => boolean

function predicate(filter: Filter, column: RowColumn, now: Nanos): Predicate {
  const { operator, value, key } = filter
  if (isPattern(operator)) {
    const pattern = toRegExp(value)!
    const wanted = operator === '=~'
    if (column.dictionary !== null) return byCode(column.dictionary, (text) => pattern.test(text) === wanted)
    const text = key === undefined ? column.text : (row: number) => column.get(row, key)
    return (row) => pattern.test(text(row)) === wanted
  }
  if (operator === '!=') {
    const equal = predicate({ ...filter, operator: '=' }, column, now)
    return (row) => !equal(row)
  }
  if (value === '' && column.kind !== 'text' && filter.column.nullable && !isOrder(operator)) return column.isNull
  switch (filter.column.kind) {
    case 'text': {
      if (column.dictionary !== null) return byCode(column.dictionary, (text) => compareTexts(text, operator, value))
      return (row) => compareTexts(column.text(row), operator, value)
    }
    case 'map':
      return (row) => column.get(row, key!) === value
    case 'id': {
      // Trace and span ids are written in any case; the others are texts.
      const wanted = column.name === 'trace_id' || column.name === 'span_id' ? value.toLowerCase() : value
      return (row) => column.text(row) === wanted
    }
    case 'bool': {
      const wanted = readBool(value) === true ? 1 : 0
      return (row) => column.number(row) === wanted
    }
    case 'flags': {
      const bits = flagBits(value)
      return (row) => (bits === 0n ? column.bigint(row) === 0n : (column.bigint(row) & bits) === bits)
    }
    case 'time': {
      const wanted = readTime(value, now) ?? 0n
      return (row) => compare(column.bigint(row), operator, wanted)
    }
    case 'duration': {
      const wanted = readNs(value)!
      return (row) => !column.isNull(row) && compare(column.bigint(row), operator, wanted)
    }
    case 'number': {
      const text = readNumber(filter.column, value)!
      if (filter.column.max === null) return (row) => compare(column.number(row), operator, Number(text))
      const wanted = BigInt(text)
      return (row) => !column.isNull(row) && compare(column.bigint(row), operator, wanted)
    }
  }
}

/** One answer for each text of a dictionary, however many rows have it. */
function byCode(dictionary: NonNullable<RowColumn['dictionary']>, passes: (text: string) => boolean): Predicate {
  const { codes, texts } = dictionary
  const answers = Uint8Array.from(texts, (text) => (passes(text) ? 1 : 0))
  return (row) => answers[codes[row]!] === 1
}

/** Order of texts is that of their bytes, as the store has it. */
function compareTexts(text: string, operator: Filter['operator'], value: string): boolean {
  if (operator === '=') return text === value
  return compare(Buffer.compare(Buffer.from(text), Buffer.from(value)), operator, 0)
}

function compare<T extends number | bigint>(left: T, operator: Filter['operator'], right: T): boolean {
  switch (operator) {
    case '<':
      return left < right
    case '<=':
      return left <= right
    case '>':
      return left > right
    case '>=':
      return left >= right
    default:
      return left === right
  }
}

/**
 * An RE2 pattern as a regular expression, anchored at both ends; null where JavaScript has no such pattern. As in RE2, a
 * dot is any character but a line feed unless `(?s)` is in front, a pattern may begin with flags, and punctuation may
 * be escaped that has no meaning.
 */
function toRegExp(pattern: string): RegExp | null {
  const [whole, flags] = /^\(\?([ims]+)\)/.exec(pattern) ?? ['', '']
  // Named classes would be read as a set of letters.
  if (pattern.includes('[[:')) return null
  const body = pattern
    .slice(whole.length)
    .replaceAll('(?P<', '(?<')
    .replace(/\\([\\#%&,:;<=>@_`~'"! -])/g, (escaped, character: string) =>
      character === '\\' ? escaped : `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
    )
  try {
    return new RegExp(`^(?:${body})$`, [...new Set(`u${flags}`)].join(''))
  } catch {
    return null
  }
}
