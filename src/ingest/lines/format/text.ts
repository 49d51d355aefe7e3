import { isJson } from '../../../lib/json.ts'
import type { AccessEntry } from '../../entry/entry.ts'
import type { LineFault, LineParser } from '../parser.ts'
import { readNumber } from './digits.ts'
import { Filling } from './filling.ts'
import { type FormatError, isFormatError, type Operator, parseFormat } from './grammar.ts'
import { isAt } from './json-text.ts'
import { compileStraight, type StraightValue } from './straight.ts'
import type { Shape, Target, TargetOptions } from './targets.ts'
import { targetOf } from './targets.ts'
import { isDigit, type TimeReader } from './time.ts'

/**
 * A parser of the lines that one of Envoy's format strings makes.
 *
 * Envoy escapes nothing in text, so a line can be read in several ways when a header holds what the format has between
 * two operators. The line is taken apart from left to right: each value ends at the next place where the following
 * literal stands and the value has the shape of its operator; where the rest then fits nowhere, the next place is tried.
 * Lines that fit nowhere are tried once more with shapes relaxed to "anything", but for times, numbers, flags and
 * protocols, which no client has a say in. What is tried is bounded.
 */
export interface TextFormatOptions extends TargetOptions {
  readonly name?: string
}

/** Operators of a format that have no column, by what becomes of them. */
export interface FormatParser extends LineParser {
  /** Operators kept as custom tags. */
  readonly tagged: readonly string[]
  /** Operators whose values are not kept. */
  readonly ignored: readonly string[]
}

export function compileTextFormat(format: string, options: TextFormatOptions = {}): FormatParser | FormatError {
  const matcher = compileMatcher(format.replace(LINE_END, ''), options)
  if (isFormatError(matcher)) return matcher
  return new TextParser(options.name ?? 'format', matcher)
}

/** The end of the line, as it stands in a configuration: a line feed or, not unescaped, `\n`. */
const LINE_END = /(?:\r?\n|\\n)+$/
/** Longer lines are refused: Envoy's headers are below 60 KiB all together. */
const LINE_MAX = 256 << 10

class TextParser implements FormatParser {
  readonly name: string
  readonly precisionNs: number
  readonly source = 'text'
  readonly tagged: readonly string[]
  readonly ignored: readonly string[]
  readonly #matcher: Matcher
  readonly #filling = new Filling()

  constructor(name: string, matcher: Matcher) {
    this.name = name
    this.#matcher = matcher
    this.precisionNs = precisionOf(matcher.targets)
    this.tagged = matcher.operators.filter((_, k) => matcher.targets[k]!.kind === 'tag').map(({ text }) => text)
    this.ignored = matcher.operators.filter((_, k) => matcher.targets[k]!.kind === 'ignored').map(({ text }) => text)
  }

  parse(line: string, entry: AccessEntry): LineFault | null {
    if (line.length > LINE_MAX) return 'too_large'
    const filling = this.#filling
    filling.begin(entry)
    const fault = this.#matcher.read(line, filling)
    if (fault !== null) return fault
    filling.finish()
    return null
  }
}

/** Resolution of what a format says of durations: the coarsest; 1 ms when it says nothing. */
export function precisionOf(targets: readonly Target[]): number {
  const durations = targets.map((target) => (target.kind === 'number' ? target.precisionNs : 0))
  const coarsest = Math.max(0, ...durations)
  return coarsest === 0 ? 1_000_000 : coarsest
}

export interface Matcher {
  readonly operators: readonly Operator[]
  readonly targets: readonly Target[]
  /** Takes `text` apart and fills in what it says. */
  read(text: string, into: Filling): LineFault | null
}

export interface MatcherOptions extends TargetOptions {
  /** False: without the straight way, which finds the same, faster. */
  readonly straight?: boolean
}

export function compileMatcher(format: string, options: MatcherOptions): Matcher | FormatError {
  const parts = parseFormat(format)
  if (isFormatError(parts)) return parts
  const operators: Operator[] = []
  const literals: string[] = ['']
  for (const part of parts) {
    if (typeof part === 'string') literals[literals.length - 1] = part
    else {
      operators.push(part)
      literals.push('')
    }
  }
  if (operators.length === 0) return { error: 'the format has no operator' }
  const targets = operators.map((operator) => targetOf(operator, options))
  const straight =
    options.straight === false ? null : compileStraight(operators.map(straightValueOf(targets)), literals)
  return new BacktrackingMatcher(operators, literals, targets, straight)
}

const straightValueOf =
  (targets: readonly Target[]) =>
  ({ lengthMax }: Operator, k: number): StraightValue => {
    const target = targets[k]!
    if (target.kind === 'time') return { shape: 'time', timeFormat: target.reader.format, lengthMax }
    return { shape: shapeOf(target), lengthMax }
  }

/** Places tried in one line, in each of the two passes. */
const TRIES_MAX = 4096
/** Characters looked at in one pass, for each that the line has: a line that fits needs one or two. */
const LOOKS_PER_CHARACTER = 16
/** Short lines may go back and forth as `TRIES_MAX` allows. */
const LOOKS_LEAST = 64 << 10

class BacktrackingMatcher implements Matcher {
  readonly operators: readonly Operator[]
  readonly targets: readonly Target[]
  /** `literals[k]` stands before operator k, the last one after all of them. */
  readonly #literals: readonly string[]
  /** First character of each literal. */
  readonly #firsts: Int32Array
  readonly #shapes: Uint8Array
  readonly #relaxed: Uint8Array
  readonly #lengths: readonly number[]
  readonly #times: readonly (TimeReader | null)[]
  readonly #starts: Int32Array
  readonly #ends: Int32Array
  readonly #straight: RegExp | null
  /** Characters that may still be looked at. */
  #looks = 0

  constructor(
    operators: readonly Operator[],
    literals: readonly string[],
    targets: readonly Target[],
    straight: RegExp | null,
  ) {
    this.operators = operators
    this.targets = targets
    this.#literals = literals
    this.#firsts = Int32Array.from(literals, (literal) => (literal === '' ? -1 : literal.charCodeAt(0)))
    this.#shapes = Uint8Array.from(targets, (target) => CODES[shapeOf(target)])
    this.#relaxed = this.#shapes.map((shape) => (isStrict(shape) ? shape : TEXT))
    this.#times = targets.map((target) => (target.kind === 'time' ? target.reader : null))
    this.#lengths = operators.map(({ lengthMax }) => lengthMax)
    this.#starts = new Int32Array(operators.length)
    this.#ends = new Int32Array(operators.length)
    this.#straight = straight
  }

  read(line: string, into: Filling): LineFault | null {
    const values = this.#straight?.exec(line) ?? null
    if (values !== null) return this.#fill(values, into)
    if (!this.#split(line, this.#shapes) && !this.#split(line, this.#relaxed)) return 'unmatched'
    const { targets } = this
    for (let k = 0; k < targets.length; k++) {
      const start = this.#starts[k]!
      const end = this.#ends[k]!
      if (isAbsent(line, start, end)) continue
      if (!fill(targets[k]!, line, start, end, into)) return 'bad_value'
    }
    return null
  }

  /** Of the straight way: value k is at k + 1. */
  #fill(values: readonly string[], into: Filling): LineFault | null {
    const { targets } = this
    for (let k = 0; k < targets.length; k++) {
      const value = values[k + 1]!
      const { length } = value
      if (length === 0 || (length === 1 && value === '-')) continue
      if (!fill(targets[k]!, value, 0, length, into)) return 'bad_value'
    }
    return null
  }

  /** Finds where every value begins and ends. */
  #split(line: string, shapes: Uint8Array): boolean {
    const literals = this.#literals
    const starts = this.#starts
    const ends = this.#ends
    const count = shapes.length
    if (!line.startsWith(literals[0]!)) return false
    this.#looks = LOOKS_PER_CHARACTER * line.length + LOOKS_LEAST
    let k = 0
    let from = literals[0]!.length
    starts[0] = from
    for (let tries = 0; tries < TRIES_MAX && this.#looks > 0; tries++) {
      const end = this.#end(line, k, from, shapes)
      if (end < 0) {
        // Nothing fits here: the value before must be longer.
        if (--k < 0) return false
        from = ends[k]! + 1
        continue
      }
      ends[k] = end
      if (++k === count) return true
      from = end + literals[k]!.length
      starts[k] = from
    }
    return false
  }

  /** The first place from `from` on where value k may end; −1 when there is none. */
  #end(line: string, k: number, from: number, shapes: Uint8Array): number {
    const start = this.#starts[k]!
    const literal = this.#literals[k + 1]!
    const last = k + 1 === shapes.length
    if (this.#times[k] !== null) return from > start ? -1 : this.#endOfTime(line, this.#times[k]!, start, literal, last)
    const shape = shapes[k]!
    const lengthMax = this.#lengths[k]!
    // No value of the shape is longer than this.
    let limit = endOfShape(line, start, shape)
    if (shape !== TEXT) this.#looks -= limit - start
    if (lengthMax > 0 && start + lengthMax < limit) limit = start + lengthMax
    if (last) {
      const end = line.length - literal.length
      return end >= from && end <= limit && line.endsWith(literal) && isOfShape(line, start, end, shape) ? end : -1
    }
    const width = literal.length
    const first = this.#firsts[k + 1]!
    if (limit < from) return -1
    // Tokens nearly always end where the literal begins.
    if (limit < line.length && line.charCodeAt(limit) === first && (first <= 32 || first === 34) && isClosed(shape)) {
      return isAt(line, limit, literal) && isOfShape(line, start, limit, shape) ? limit : -1
    }
    for (let end = from; end <= limit && this.#looks > 0; end++) {
      const at = end
      this.#looks--
      if (width > 0) {
        if (width === 1) end = line.indexOf(literal, end)
        else {
          while (end <= limit && line.charCodeAt(end) !== first) end++
          if (end <= limit && !isAt(line, end, literal)) {
            this.#looks -= end - at
            continue
          }
        }
        if (end < 0 || end > limit) {
          this.#looks -= limit - at
          return -1
        }
      }
      this.#looks -= end - (shape === TEXT ? at : start)
      if (isOfShape(line, start, end, shape)) return end
    }
    return -1
  }

  #endOfTime(line: string, reader: TimeReader, start: number, literal: string, last: boolean): number {
    let end = reader.read(line, start)
    if (end < 0) end = isDash(line, start) ? start + 1 : start
    if (!line.startsWith(literal, end) || (last && end + literal.length !== line.length)) return -1
    return end
  }
}

/** Shapes that hold no blank and no quote. */
const isClosed = (shape: number): boolean => shape >= 1 && shape <= 5

const isDash = (line: string, start: number, end = start + 1): boolean =>
  end - start === 1 && line.charCodeAt(start) === 45

/** `-`, or nothing where the format leaves out what is missing. */
export function isAbsent(line: string, start: number, end: number): boolean {
  return end === start || isDash(line, start, end)
}

/** Shapes as numbers, for the switch that every value goes through. */
const CODES: Readonly<Record<Shape, number>> = {
  text: 0,
  token: 1,
  address: 2,
  number: 3,
  flags: 4,
  protocol: 5,
  balanced: 6,
  json: 7,
}
const TEXT = 0
/** Numbers, flags and protocols: no client has a say in them. */
const isStrict = (shape: number): boolean => shape >= 3 && shape <= 5

export function shapeOf(target: Target): Shape {
  if (target.kind === 'number') return 'number'
  if (target.kind === 'json') return 'json'
  return target.kind === 'time' ? 'token' : target.shape
}

/** The end of the characters that a shape can have at all, from `at` on. */
function endOfShape(line: string, at: number, shape: number): number {
  const { length } = line
  switch (shape) {
    case 1:
    case 2:
    case 5:
      for (; at < length; at++) {
        const unit = line.charCodeAt(at)
        if (unit <= 32 || unit === 34) break
      }
      return at
    case 3:
      for (; at < length; at++) {
        const unit = line.charCodeAt(at)
        if ((unit < 48 || unit > 57) && unit !== 46 && unit !== 45 && unit !== 43 && (unit | 32) !== 101) break
      }
      return at
    case 4:
      for (; at < length; at++) {
        const unit = line.charCodeAt(at)
        const letter = (unit | 32) >= 97 && (unit | 32) <= 122
        if (!letter && unit !== 44 && unit !== 95 && unit !== 45 && (unit < 48 || unit > 57)) break
      }
      return at
  }
  return length
}

/** Whether a value of characters that the shape can have is one. */
function isOfShape(line: string, start: number, end: number, shape: number): boolean {
  if (end === start || isDash(line, start, end)) return true
  switch (shape) {
    case 2:
      for (let at = start; at < end; at++) {
        const unit = line.charCodeAt(at)
        if (unit === 46 || unit === 58 || unit === 47) return true
      }
      return false
    case 3:
      return !Number.isNaN(readNumber(line, start, end))
    case 4:
      return line.charCodeAt(start) !== 45
    case 5:
      return isProtocol(line, start, end)
    case 6:
      return isBalanced(line, start, end)
    case 7: {
      const first = line.charCodeAt(start)
      if (first !== 123 && first !== 91) return true
      return line.charCodeAt(end - 1) === first + 2 && isJson(line.slice(start, end))
    }
  }
  return true
}

/** `HTTP/2`, `HTTP/1.1`. */
function isProtocol(line: string, start: number, end: number): boolean {
  if (!line.startsWith('HTTP/', start) || !isDigit(line.charCodeAt(start + 5))) return false
  if (end - start === 6) return true
  return end - start === 8 && line.charCodeAt(start + 6) === 46 && isDigit(line.charCodeAt(start + 7))
}

function isBalanced(line: string, start: number, end: number): boolean {
  let depth = 0
  for (let at = start; at < end; at++) {
    const unit = line.charCodeAt(at)
    if (unit === 123 || unit === 91 || unit === 40) depth++
    else if (unit === 125 || unit === 93 || unit === 41) depth--
  }
  return depth === 0
}

/** Fills in the value `line[start … end − 1]`. False: it is not of its type. */
export function fill(target: Target, line: string, start: number, end: number, into: Filling): boolean {
  switch (target.kind) {
    case 'text':
      target.set(into, line.slice(start, end))
      return true
    case 'number': {
      const value = readNumber(line, start, end)
      return !Number.isNaN(value) && target.set(into, value) !== false
    }
    case 'json': {
      const text = line.slice(start, end)
      const first = text.charCodeAt(0)
      target.set(into, (first === 123 || first === 91) && isJson(text) ? text : JSON.stringify(text))
      return true
    }
    case 'time':
      return fillTime(target, line, start, into)
    case 'tag':
      into.entry.customTags.add(target.name, line.slice(start, end))
      return true
    case 'ignored':
      return true
  }
}

export function fillTime(target: Target & { kind: 'time' }, line: string, start: number, into: Filling): boolean {
  const { reader, end } = target
  if (reader.read(line, start) < 0) return false
  const { entry } = into
  if (end) {
    entry.endSeconds = reader.seconds
    entry.endNanos = reader.nanos
  } else if (entry.startSeconds === 0) {
    entry.startSeconds = reader.seconds
    entry.startNanos = reader.nanos
  } else if (reader.seconds === entry.startSeconds || reader.seconds === 0) {
    // The same time in several operators: `%START_TIME(%s)%` and `%START_TIME(%3f)%`.
    entry.startNanos = Math.max(entry.startNanos, reader.nanos)
  }
  return true
}
