/**
 * What a statement is, without parsing it: its first word, where its `FORMAT` clause stands, whether data follows.
 * Needed because the engine takes whole statements only, and files where a server takes streams (`spool.ts`).
 *
 * The tokens are those of ClickHouse's `src/Parsers/Lexer.cpp`: quotes with backslash and doubled-quote escapes, `--`,
 * `#` and C comments. Only words outside brackets decide, so a subquery never does. What the engine reads in ways of its
 * own (heredocs, typographic quotes, `//`, comments in comments, `\G`) is called odd and refused, so that nothing can be
 * a quote to one of the two and a statement to the other.
 */
export interface StatementShape {
  /** First word in upper case; `(` for a parenthesised SELECT; empty for an empty statement. */
  readonly verb: string
  /** Where the statement ends: a trailing semicolon, white space and comments are not part of it. */
  readonly end: number
  /** The `FORMAT Name` clause, if there is one. */
  readonly format: FormatClause | undefined
  /** For an INSERT that takes data; undefined for every other statement, `INSERT … SELECT` included. */
  readonly data: InsertData | undefined
  /** More than one statement in the text. */
  readonly multiple: boolean
  /** `INTO OUTFILE` or `FROM INFILE` anywhere: files of this machine, which no caller may name that way. */
  readonly files: boolean
  /** `input(…)` anywhere: the data would have to be a stream. */
  readonly input: boolean
  /** The first thing that the engine might read otherwise than we do. */
  readonly odd: string | undefined
}

export interface FormatClause {
  readonly name: string
  readonly at: number
}

export interface InsertData {
  readonly format: string
  /** Where the data begins, when it follows in the same text. */
  readonly start: number
  /** Where `FROM INFILE` has to be put: before SETTINGS and FORMAT. */
  readonly infileAt: number
}

export interface Token {
  /** Words in upper case, a bracket or sign as it is, and a quote sign for anything quoted. */
  readonly text: string
  readonly isWord: boolean
  readonly at: number
  readonly end: number
}

export function shapeOf(sql: string): StatementShape {
  const top: Token[] = []
  let depth = 0
  let end = 0
  let previous = ''
  let [files, input, multiple] = [false, false, false]
  let head: InsertHead = 'open'
  let odd: string | undefined
  for (let at = skipBlanks(sql, 0); at < sql.length; at = skipBlanks(sql, end)) {
    const token = readToken(sql, at)
    const { text } = token
    odd ??= oddIn(sql, end, token)
    if (text === ';') {
      // Further semicolons and comments may follow, nothing else.
      multiple = !isOver(sql, token.end)
      odd ??= oddComment(sql.slice(token.end))
      break
    }
    end = token.end
    files ||= (text === 'OUTFILE' && previous === 'INTO') || (text === 'INFILE' && previous === 'FROM')
    input ||= text === '(' && previous === 'INPUT'
    previous = text
    if (CLOSING.has(text)) depth = Math.max(0, depth - 1)
    else if (depth === 0) top.push(token)
    if (OPENING.has(text)) depth++
    if (head === 'open' && depth === 0) {
      head = top[0]?.text === 'INSERT' ? insertHead(sql, top) : 'none'
      if (typeof head === 'object') break
    }
  }
  const data = typeof head === 'object' ? head : undefined
  if (data === undefined) odd ??= oddComment(sql.slice(end))
  return {
    verb: top[0]?.text ?? '',
    end,
    format: data === undefined ? formatClause(sql, top) : undefined,
    data,
    multiple,
    files,
    input,
    odd,
  }
}

type InsertHead = InsertData | 'open' | 'none'

/** The head of an INSERT with data is complete at its VALUES or FORMAT; a SELECT before that means there is no data. */
function insertHead(sql: string, top: readonly Token[]): InsertHead {
  let index = 1
  if (top[index]?.text === 'INTO') index++
  if (top[index]?.text === 'TABLE' || top[index]?.text === 'FUNCTION') index++
  // The table's own name may be any word: `database.table`.
  index++
  while (top[index]?.text === '.') index += 2
  let infileAt: number | undefined
  for (; index < top.length; index++) {
    const { text, at, end } = top[index]!
    if (text === 'SELECT' || text === 'WITH' || text === 'FROM') return 'none'
    if (text === 'SETTINGS') infileAt = at
    if (text === 'VALUES') return { format: 'Values', start: dataStart(sql, end), infileAt: infileAt ?? at }
    const name = top[index + 1]
    if (text === 'FORMAT' && name?.isWord) {
      return { format: wordAt(sql, name), start: dataStart(sql, name.end), infileAt: infileAt ?? at }
    }
  }
  return 'open'
}

/** The `FORMAT Name` that ends the statement or is followed by its SETTINGS only. */
function formatClause(sql: string, top: readonly Token[]): FormatClause | undefined {
  for (let index = top.length - 2; index > 0; index--) {
    const token = top[index]!
    const name = top[index + 1]!
    const after = top[index + 2]
    if (token.text === 'FORMAT' && name.isWord && (after === undefined || after.text === 'SETTINGS')) {
      return { name: wordAt(sql, name), at: token.at }
    }
  }
  return undefined
}

const wordAt = (sql: string, token: Token): string => sql.slice(token.at, token.end)

const OPENING = new Set(['(', '[', '{'])
const CLOSING = new Set([')', ']', '}'])
const WORD = /\w+/y
const COMMENTS = /--[^\n]*|#[ !][^\n]*|\/\*[\s\S]*?(?:\*\/|$)/g
const BLANKS = /(?:\s|--[^\n]*|#[ !][^\n]*|\/\*[\s\S]*?(?:\*\/|$))+/y
const BLANKS_AND_ONE_LINE_BREAK = /[ \t\r\f\v]*\n?/y

function readToken(sql: string, at: number): Token {
  const first = sql[at]!
  if (first === "'" || first === '"' || first === '`') {
    return { text: first, isWord: false, at, end: endOfQuoted(sql, at, first) }
  }
  const word = matchAt(WORD, sql, at)
  if (word === '') return { text: first, isWord: false, at, end: at + 1 }
  return { text: word.toUpperCase(), isWord: true, at, end: at + word.length }
}

/** A token, or the blanks before it, of which we cannot be sure. */
function oddIn(sql: string, before: number, token: Token): string | undefined {
  const sign = /[$\\]|\P{ASCII}/u.test(token.text) || (token.text === '/' && sql[token.end] === '/')
  return sign ? token.text : oddComment(sql.slice(before, token.at))
}

/** A comment that begins in a comment. */
function oddComment(blanks: string): string | undefined {
  return /\/\*(?:(?!\*\/)[\s\S])*\/\*/.test(blanks) || /\P{ASCII}/u.test(blanks.replace(COMMENTS, ''))
    ? '/*'
    : undefined
}

function endOfQuoted(sql: string, at: number, quote: string): number {
  for (let index = at + 1; index < sql.length; index++) {
    if (sql[index] === '\\') index++
    else if (sql[index] === quote) {
      if (sql[index + 1] !== quote) return index + 1
      index++
    }
  }
  return sql.length
}

function isOver(sql: string, from: number): boolean {
  let at = skipBlanks(sql, from)
  while (sql[at] === ';') at = skipBlanks(sql, at + 1)
  return at >= sql.length
}

const skipBlanks = (sql: string, at: number): number => at + matchAt(BLANKS, sql, at).length

/** All tokens of the text, which must not have data at its end. */
export function* tokensOf(sql: string): Generator<Token> {
  for (let at = skipBlanks(sql, 0); at < sql.length; ) {
    const token = readToken(sql, at)
    yield token
    at = skipBlanks(sql, token.end)
  }
}

/** ClickHouse skips blanks and one line break between `FORMAT Name` and the data. */
const dataStart = (sql: string, at: number): number => at + matchAt(BLANKS_AND_ONE_LINE_BREAK, sql, at).length

function matchAt(pattern: RegExp, sql: string, at: number): string {
  pattern.lastIndex = at
  return pattern.exec(sql)?.[0] ?? ''
}
