import { DEFAULT_TIME } from './time.ts'

/**
 * The straight way through a format string: one regular expression for the lines in which every value ends at the first
 * place where it can, which is nearly all of them. It finds what the search with its ways back would find first, several
 * times as fast; what it does not match is for that search.
 *
 * No value can end in two places: not at a later one, since it does not hold the first character of what follows it, or
 * ends where its characters do.
 */
export interface StraightValue {
  /** Of the operator; `time` for times. */
  readonly shape: StraightShape
  /** Format of a time. */
  readonly timeFormat?: string
  /** Longest value that the operator prints; 0: as long as it is. */
  readonly lengthMax: number
}

export type StraightShape =
  | 'number'
  | 'flags'
  | 'protocol'
  | 'token'
  | 'address'
  | 'balanced'
  | 'json'
  | 'text'
  | 'time'

/** Captures the values. `literals[k]` stands before value k, the last one after all of them. Null: there is no such way. */
export function compileStraight(values: readonly StraightValue[], literals: readonly string[]): RegExp | null {
  let source = escaped(literals[0]!)
  for (const [k, value] of values.entries()) {
    const pattern = patternOf(value, literals[k + 1]!, k === values.length - 1)
    if (pattern === null) return null
    source += `(${pattern})${escaped(literals[k + 1]!)}`
  }
  return new RegExp(`^${source}$`)
}

function patternOf({ shape, timeFormat, lengthMax }: StraightValue, literal: string, last: boolean): string | null {
  if (lengthMax > 0) return null
  if (shape === 'time') return timeFormat === DEFAULT_TIME ? TIME : null
  // What a value must not hold. Values at the end hold anything.
  const first = literal.charAt(0)
  if (first === '' && !last) return null
  const not = last ? '' : first.replace(/[\\\]^-]/, '\\$&')
  switch (shape) {
    case 'text':
      return last ? '[\\s\\S]*' : `[^${not}]*`
    case 'json':
      return last ? '(?:[^{[][\\s\\S]*)?' : `(?:[^${not}{[][^${not}]*)?`
    case 'balanced': {
      const inner = `[^${not}(){}[\\]]*`
      return `${inner}(?:\\{${inner}\\})?`
    }
    default:
      // These end at a blank or a quote, and nowhere else when one follows.
      return last || first === '"' || first.charCodeAt(0) <= 0x20 ? CLOSED[shape] : null
  }
}

const CLOSED: Readonly<Record<'number' | 'flags' | 'protocol' | 'token' | 'address', string>> = {
  number: '\\d{1,15}|-|',
  flags: '-|[A-Za-z0-9,_][A-Za-z0-9,_-]*|',
  protocol: 'HTTP/\\d(?:\\.\\d)?|-|',
  token: '[^\\x00-\\x20"]*',
  address: '-|[^\\x00-\\x20".:/]*[.:/][^\\x00-\\x20"]*|',
}
/** `2026-01-01T00:00:00.250Z`, in all its ranges. */
const TIME =
  '(?:19[7-9]\\d|[2-9]\\d{3})-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\\d|3[01])T(?:[01]\\d|2[0-3]):[0-5]\\d:(?:[0-5]\\d|60)\\.\\d{3}Z'

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
