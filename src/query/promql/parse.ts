import { parseDuration } from '../../lib/units.ts'
import {
  AGGREGATIONS,
  type Aggregation,
  type BinaryOp,
  type Expr,
  type Matcher,
  PromError,
  type Selector,
} from './ast.ts'

/**
 * Parses PromQL: numbers, strings, selectors with ranges, offset and @, arithmetic, comparisons, sets, aggregations, and
 * calls of functions. Not yet: subqueries, `group_left` and `group_right`, and aggregations other than `AGGREGATIONS`.
 */
export function parse(query: string): Expr {
  return new Parser(tokenize(query)).all()
}

interface Token {
  readonly kind: 'number' | 'duration' | 'string' | 'word' | 'op' | 'end'
  readonly text: string
  readonly at: number
}

const QUERY_MAX = 100_000
const DEPTH_MAX = 100
const SPACE = /(?:\s|#[^\n]*)+/y
const DURATION = /(?:\d+(?:ms|[smhdwy]))+(?![\w.])/y
const NUMBER = /0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?/y
const WORD = /[a-zA-Z_:][a-zA-Z0-9_:.]*/y
const OP = /==|!=|>=|<=|=~|!~|[-+*/%^=<>(){}[\],@:]/y

function tokenize(query: string): Token[] {
  if (query.length > QUERY_MAX) throw new PromError('bad_data', `the query is longer than ${QUERY_MAX} characters`)
  const tokens: Token[] = []
  let at = 0
  const take = (pattern: RegExp): string | null => {
    pattern.lastIndex = at
    const found = pattern.exec(query)
    return found === null ? null : found[0]
  }
  const kinds = [
    ['duration', DURATION],
    ['number', NUMBER],
    ['word', WORD],
    ['op', OP],
  ] as const
  for (;;) {
    at += take(SPACE)?.length ?? 0
    if (at >= query.length) break
    const quote = query[at]!
    if (quote === '"' || quote === "'" || quote === '`') {
      const { value, end } = readString(query, at)
      tokens.push({ kind: 'string', text: value, at })
      at = end
      continue
    }
    let found = false
    for (const [kind, pattern] of kinds) {
      const text = take(pattern)
      if (text === null) continue
      tokens.push({ kind, text, at })
      at += text.length
      found = true
      break
    }
    if (!found)
      throw new PromError('bad_data', `parse error at char ${at + 1}: unexpected character ${JSON.stringify(quote)}`)
  }
  tokens.push({ kind: 'end', text: 'end of input', at })
  return tokens
}

const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  a: '\u0007',
  b: '\b',
  f: '\f',
  v: '\v',
  '\\': '\\',
  '"': '"',
  "'": "'",
}

function readString(query: string, start: number): { value: string; end: number } {
  const quote = query[start]!
  let value = ''
  for (let at = start + 1; at < query.length; at++) {
    const char = query[at]!
    if (char === quote) return { value, end: at + 1 }
    if (char !== '\\' || quote === '`') {
      value += char
      continue
    }
    const next = query[++at] ?? ''
    const hex = /^(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4}))/.exec(query.slice(at, at + 5))
    if (hex !== null) {
      value += String.fromCharCode(Number.parseInt(hex[1] ?? hex[2]!, 16))
      at += hex[0].length - 1
    } else if (next in ESCAPES) value += ESCAPES[next]
    else throw new PromError('bad_data', `parse error at char ${at + 1}: unknown escape sequence`)
  }
  throw new PromError('bad_data', `parse error at char ${start + 1}: unterminated string`)
}

/** `1h30m`, in ms. Null when it is none: PromQL knows no fractions. */
export function parsePromDuration(text: string): number | null {
  return text.includes('.') ? null : parseDuration(text)
}

/** The higher binds more; `^` alone binds to the right. */
const PRECEDENCE: Readonly<Record<string, number>> = {
  or: 1,
  and: 2,
  unless: 2,
  '==': 3,
  '!=': 3,
  '<': 3,
  '>': 3,
  '<=': 3,
  '>=': 3,
  '+': 4,
  '-': 4,
  '*': 5,
  '/': 5,
  '%': 5,
  '^': 6,
}
const COMPARING = 3

class Parser {
  readonly #tokens: readonly Token[]
  #at = 0
  #depth = 0

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens
  }

  all(): Expr {
    if (this.#atEnd) throw new PromError('bad_data', 'no expression found in input')
    const expr = this.#binary(1)
    if (!this.#atEnd) throw this.#unexpected('end of input')
    return expr
  }

  get #peek(): Token {
    return this.#tokens[this.#at]!
  }

  get #atEnd(): boolean {
    return this.#peek.kind === 'end'
  }

  #next(): Token {
    const token = this.#peek
    if (token.kind !== 'end') this.#at++
    return token
  }

  #isOp(text: string): boolean {
    return this.#peek.kind === 'op' && this.#peek.text === text
  }

  #accept(text: string): boolean {
    if (!this.#isOp(text)) return false
    this.#at++
    return true
  }

  #expect(text: string): void {
    if (!this.#accept(text)) throw this.#unexpected(`"${text}"`)
  }

  #keyword(...words: readonly string[]): string | null {
    const { kind, text } = this.#peek
    const word = text.toLowerCase()
    return kind === 'word' && words.includes(word) ? word : null
  }

  #unexpected(wanted: string): PromError {
    const { text, at } = this.#peek
    return new PromError('bad_data', `parse error at char ${at + 1}: unexpected "${text}", expected ${wanted}`)
  }

  #binary(lowest: number): Expr {
    if (++this.#depth > DEPTH_MAX) throw new PromError('bad_data', 'the query is nested too deeply')
    let left = this.#unary()
    for (;;) {
      const op = this.#peek.kind === 'op' ? this.#peek.text : this.#keyword('and', 'or', 'unless')
      const precedence = op === null ? undefined : PRECEDENCE[op]
      if (op === null || precedence === undefined || precedence < lowest) break
      this.#at++
      const bool = precedence === COMPARING && this.#keyword('bool') !== null
      if (bool) this.#at++
      const matching = this.#keyword('on', 'ignoring')
      if (matching !== null) this.#at++
      const labels = matching === null ? [] : this.#labels()
      if (this.#keyword('group_left', 'group_right') !== null) {
        throw new PromError('execution', `${this.#peek.text} is not supported yet`)
      }
      const right = this.#binary(op === '^' ? precedence : precedence + 1)
      left = { kind: 'binary', op: op as BinaryOp, left, right, bool, on: matching === 'on', labels }
    }
    this.#depth--
    return left
  }

  #unary(): Expr {
    if (this.#accept('-')) return { kind: 'unary', expr: this.#binary(PRECEDENCE['^']!) }
    if (this.#accept('+')) return this.#binary(PRECEDENCE['^']!)
    return this.#modified(this.#primary())
  }

  /** Range, offset and @ after a selector. */
  #modified(primary: Expr): Expr {
    let expr = primary
    for (;;) {
      if (this.#isOp('[')) {
        const selector = this.#selectorOf(expr, 'a range')
        if (selector.rangeMs !== null) throw this.#unexpected('an operator')
        this.#at++
        const rangeMs = this.#duration()
        // A colon may begin a name.
        if (this.#peek.text.startsWith(':')) throw new PromError('execution', 'subqueries are not supported yet')
        this.#expect(']')
        if (rangeMs <= 0) throw new PromError('bad_data', 'duration must be greater than 0')
        expr = { ...selector, rangeMs }
      } else if (this.#keyword('offset') !== null) {
        const selector = this.#selectorOf(expr, 'offset')
        this.#at++
        const sign = this.#accept('-') ? -1 : 1
        expr = { ...selector, offsetMs: sign * this.#duration() }
      } else if (this.#isOp('@')) {
        const selector = this.#selectorOf(expr, '@')
        this.#at++
        const sign = this.#accept('-') ? -1 : 1
        if (this.#peek.kind !== 'number') throw this.#unexpected('a timestamp')
        expr = { ...selector, atMs: Math.round(sign * Number(this.#next().text) * 1000) }
      } else return expr
    }
  }

  #selectorOf(expr: Expr, what: string): Selector {
    if (expr.kind === 'selector') return expr
    throw new PromError(
      'bad_data',
      `parse error at char ${this.#peek.at + 1}: ${what} is allowed after a selector only`,
    )
  }

  #duration(): number {
    const token = this.#next()
    const ms = token.kind === 'number' ? Number(token.text) * 1000 : parsePromDuration(token.text)
    if (ms === null || (token.kind !== 'duration' && token.kind !== 'number')) {
      this.#at--
      throw this.#unexpected('a duration')
    }
    return Math.round(ms)
  }

  #primary(): Expr {
    const token = this.#next()
    if (token.kind === 'number') return { kind: 'number', value: Number(token.text) }
    if (token.kind === 'duration') return { kind: 'number', value: parsePromDuration(token.text)! / 1000 }
    if (token.kind === 'string') return { kind: 'string', value: token.text }
    if (token.kind === 'op' && token.text === '(') {
      const expr = this.#binary(1)
      this.#expect(')')
      return expr
    }
    if (token.kind === 'op' && token.text === '{') return this.#selector(null)
    if (token.kind !== 'word') {
      this.#at -= token.kind === 'end' ? 0 : 1
      throw this.#unexpected('an expression')
    }
    const word = token.text.toLowerCase()
    const calls = this.#isOp('(')
    if (word === 'inf' && !calls) return { kind: 'number', value: Number.POSITIVE_INFINITY }
    if (word === 'nan' && !calls) return { kind: 'number', value: Number.NaN }
    const op = AGGREGATIONS.find((one) => one === word)
    if (op !== undefined && (calls || this.#keyword('by', 'without') !== null)) return this.#aggregation(op)
    if (calls) return this.#call(token.text)
    return this.#selector(token.text)
  }

  #call(name: string): Expr {
    this.#expect('(')
    const args: Expr[] = []
    while (!this.#isOp(')')) {
      args.push(this.#binary(1))
      if (!this.#accept(',')) break
    }
    this.#expect(')')
    return { kind: 'call', name, args }
  }

  #aggregation(op: Aggregation['op']): Expr {
    let grouping = this.#grouping()
    this.#expect('(')
    const first = this.#binary(1)
    const takesParam = op === 'topk' || op === 'bottomk'
    if (takesParam) this.#expect(',')
    const expr = takesParam ? this.#binary(1) : first
    this.#expect(')')
    grouping ??= this.#grouping()
    const { without = false, labels = [] } = grouping ?? {}
    return { kind: 'aggregation', op, expr, param: takesParam ? first : null, without, labels }
  }

  #grouping(): { without: boolean; labels: string[] } | null {
    const word = this.#keyword('by', 'without')
    if (word === null) return null
    this.#at++
    return { without: word === 'without', labels: this.#labels() }
  }

  #labels(): string[] {
    this.#expect('(')
    const labels: string[] = []
    while (!this.#isOp(')')) {
      if (this.#peek.kind !== 'word' && this.#peek.kind !== 'string') throw this.#unexpected('a label')
      labels.push(this.#next().text)
      if (!this.#accept(',')) break
    }
    this.#expect(')')
    return labels
  }

  #selector(name: string | null): Expr {
    const matchers: Matcher[] = name === null ? [] : [{ label: '__name__', op: '=', value: name }]
    if (name === null || this.#accept('{')) {
      while (!this.#isOp('}')) {
        matchers.push(this.#matcher())
        if (!this.#accept(',')) break
      }
      this.#expect('}')
    }
    if (!matchers.some(refusesEmpty)) {
      throw new PromError('bad_data', 'vector selector must contain at least one non-empty matcher')
    }
    return { kind: 'selector', matchers, rangeMs: null, offsetMs: 0, atMs: null }
  }

  #matcher(): Matcher {
    const label = this.#next()
    // `{"name"}`: a metric name that is no word.
    if (label.kind === 'string' && (this.#isOp(',') || this.#isOp('}'))) {
      return { label: '__name__', op: '=', value: label.text }
    }
    if (label.kind !== 'word' && label.kind !== 'string') {
      this.#at--
      throw this.#unexpected('a label')
    }
    const op = this.#next()
    if (op.kind !== 'op' || !['=', '!=', '=~', '!~'].includes(op.text)) {
      this.#at--
      throw this.#unexpected('a label matching operator')
    }
    const value = this.#next()
    if (value.kind !== 'string') {
      this.#at--
      throw this.#unexpected('a string')
    }
    return { label: label.text, op: op.text as Matcher['op'], value: value.text }
  }
}

/** Regular expressions that a JavaScript one is not like are told by the store, later. */
function refusesEmpty({ op, value }: Matcher): boolean {
  if (op === '=') return value !== ''
  if (op === '!=') return value === ''
  try {
    const matches = new RegExp(`^(?:${value.replace(/^\(\?[a-zA-Z]+\)/, '')})$`, 's').test('')
    return op === '=~' ? !matches : matches
  } catch {
    return true
  }
}
