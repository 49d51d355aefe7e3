import { type Document, isMap, isNode, isScalar, LineCounter, parseAllDocuments } from 'yaml'

/** Something wrong in an SLO file, with the place a person can open in an editor. */
export interface SloFinding {
  readonly severity: 'error' | 'warning'
  /** `file:line:column`. */
  readonly place: string
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

  /** `file:line`. */
  get line(): string {
    const { file, lines } = this.#source
    return `${file}:${lines.linePos(this.#offset()).line}`
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
    findings.push({ severity, place: `${file}:${line}:${col}`, message: `\`${this.name}\` ${message}`, help })
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

/** The documents of one file; those that are not YAML are findings. */
export function readDocuments(file: string, text: string, findings: SloFinding[]): Field[] {
  const lines = new LineCounter()
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true })
  const fields: Field[] = []
  for (const document of 'empty' in documents ? [] : documents) {
    for (const error of document.errors) {
      const { line, col } = lines.linePos(error.pos[0])
      const [message] = error.message.split('\n')
      findings.push({
        severity: 'error',
        place: `${file}:${line}:${col}`,
        message: `not YAML: ${message}`,
        help: 'correct it there',
      })
    }
    if (document.errors.length > 0 || document.contents === null) continue
    fields.push(new Field({ file, document, lines, findings }, [], document.toJS({ maxAliasCount: 100 })))
  }
  return fields
}
