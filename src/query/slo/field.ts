import { type Document, isMap, isNode, isScalar, LineCounter, parseAllDocuments } from 'yaml'

/** Something wrong in an SLO file, with the place a person can open in an editor. */
export interface SloFinding {
  readonly severity: 'error' | 'warning'
  /** `file:line:column`. */
  readonly place: string
  readonly file: string
  /** From 1. */
  readonly line: number
  readonly column: number
  /** Path of the value in the document; empty where it is no value. */
  readonly field: string
  readonly message: string
  readonly help: string
}

/** A value of a YAML document that knows where it stands. What is wrong with it is collected, not thrown. */
export class Field {
  readonly value: unknown
  readonly path: readonly (string | number)[]
  readonly #source: Source

  constructor(source: Source, path: readonly (string | number)[], value: unknown) {
    this.#source = source
    this.path = path
    this.value = value
  }

  get name(): string {
    return this.path
      .map((key) => (typeof key === 'number' ? `[${key}]` : `.${key}`))
      .join('')
      .slice(1)
  }

  get isMissing(): boolean {
    return this.value === undefined || this.value === null
  }

  get file(): string {
    return this.#source.file
  }

  /** `file:line`. */
  get line(): string {
    return `${this.file}:${this.lineNumber}`
  }

  /** From 1. */
  get lineNumber(): number {
    return this.#source.lines.linePos(this.#offset()).line
  }

  child(key: string | number): Field {
    const { value } = this
    const holds = typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    return new Field(this.#source, [...this.path, key], holds ? (value as Record<string, unknown>)[key] : undefined)
  }

  wrong(message: string, help: string): void {
    this.#find('error', message, help)
  }

  warn(message: string, help: string): void {
    this.#find('warning', message, help)
  }

  #find(severity: SloFinding['severity'], message: string, help: string): void {
    const { file, lines, findings } = this.#source
    const { line, col } = lines.linePos(this.#offset())
    const field = this.name
    findings.push(findingAt({ severity, file, line, column: col, field, message: `\`${field}\` ${message}`, help }))
  }

  /** A set of keys, of which all are known; what is not is named. */
  map(known: readonly string[]): boolean {
    if (typeof this.value !== 'object' || this.value === null || Array.isArray(this.value)) {
      this.wrong(this.isMissing ? 'is missing' : 'is not a set of keys', `it has the keys ${known.join(', ')}`)
      return false
    }
    for (const key of Object.keys(this.value)) {
      if (!known.includes(key)) this.child(key).wrong('is not known', `known are ${known.join(', ')}`)
    }
    return true
  }

  text(lengthMax = 1050): string {
    const { value } = this
    if (typeof value === 'string' && value.length <= lengthMax) return value
    if (typeof value === 'number' || typeof value === 'boolean') return String(value)
    this.wrong(this.isMissing ? 'is missing' : `is not a text of at most ${lengthMax} characters`, 'write a text')
    return ''
  }

  optionalText(lengthMax?: number): string {
    return this.isMissing ? '' : this.text(lengthMax)
  }

  items(countMax: number): readonly Field[] {
    if (this.isMissing) return []
    if (!Array.isArray(this.value) || this.value.length > countMax) {
      this.wrong(`is not a list of at most ${countMax}`, 'write a list, each item after a dash')
      return []
    }
    return this.value.map((_, k) => this.child(k))
  }

  /** Of the node, or of the nearest one around it that is there. */
  #offset(): number {
    const { document } = this.#source
    for (let depth = this.path.length; depth > 0; depth--) {
      const path = this.path.slice(0, depth)
      const parent = document.getIn(path.slice(0, -1), true)
      const pair = isMap(parent)
        ? parent.items.find((item) => isScalar(item.key) && String(item.key.value) === String(path.at(-1)))
        : undefined
      const node = pair?.key ?? document.getIn(path, true)
      if (isNode(node) && node.range) return node.range[0]
    }
    return isNode(document.contents) ? (document.contents.range?.[0] ?? 0) : 0
  }
}

interface Source {
  readonly file: string
  readonly document: Document
  readonly lines: LineCounter
  readonly findings: SloFinding[]
}

/** A value in a message: short, and of any shape. */
export function shownValue(value: unknown): string {
  const isPlain = typeof value !== 'object' || value === null
  return isPlain ? JSON.stringify(String(value ?? 'nothing').slice(0, 100)) : Array.isArray(value) ? 'a list' : 'keys'
}

/** A single value as text; empty for lists and sets of keys, which cannot all be made text. */
export function plainText(value: unknown): string {
  return typeof value === 'object' || value === undefined ? '' : String(value)
}

export function findingAt(finding: Omit<SloFinding, 'place'>): SloFinding {
  return { ...finding, place: `${finding.file}:${finding.line}:${finding.column}` }
}

/** Deeper than any document of ours by far. The parser calls itself for each level. */
const DEPTH_MAX = 100

/** The documents of one file; those that are not YAML are findings. */
export function readDocuments(file: string, text: string, findings: SloFinding[]): Field[] {
  const lines = new LineCounter()
  const wrong = (offset: number, message: string) => {
    const { line, col } = lines.linePos(offset)
    const place = { file, line: Math.max(1, line), column: Math.max(1, col), field: '' }
    findings.push(findingAt({ severity: 'error', ...place, message, help: 'correct it there' }))
  }
  const deep = tooDeep(text)
  if (deep !== null) {
    findings.push(
      findingAt({
        severity: 'error',
        file,
        line: text.slice(0, deep).split('\n').length,
        column: deep - text.lastIndexOf('\n', deep - 1),
        field: '',
        message: `is nested deeper than ${DEPTH_MAX}`,
        help: 'write it flatter',
      }),
    )
    return []
  }
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true })
  const fields: Field[] = []
  for (const document of 'empty' in documents ? [] : documents) {
    for (const error of document.errors) wrong(error.pos[0], `not YAML: ${error.message.split('\n')[0]}`)
    if (document.errors.length > 0 || document.contents === null) continue
    try {
      // Aliases that were never named, or would make a document of any size, are found here.
      fields.push(new Field({ file, document, lines, findings }, [], document.toJS({ maxAliasCount: 100 })))
    } catch (error) {
      if (!(error instanceof ReferenceError)) throw error
      wrong(document.range?.[0] ?? 0, `not YAML that is read here: ${error.message}`)
    }
  }
  return fields
}

/**
 * Where a text opens more brackets than it closes, or starts more lists in a line, or indents further than is read; null:
 * nowhere. Brackets in texts and comments count as well, which no real document comes near.
 */
function tooDeep(text: string): number | null {
  let open = 0
  let dashes = 0
  let indent = 0
  let lineStart = true
  for (let at = 0; at < text.length; at++) {
    const char = text[at]
    if (char === '\n') {
      dashes = indent = 0
      lineStart = true
      continue
    }
    if (char === '[' || char === '{') open++
    else if ((char === ']' || char === '}') && open > 0) open--
    if (lineStart) {
      if (char === '-' || char === '?') dashes++
      else if (char === ' ') indent++
      else lineStart = false
    }
    if (open > DEPTH_MAX || dashes > DEPTH_MAX || indent > DEPTH_MAX * 8) return at
  }
  return null
}
