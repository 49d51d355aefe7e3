import { isJson } from '../../../lib/json.ts'
import type { AccessEntry } from '../../entry/entry.ts'
import { FlatJson, type FlatValues } from '../flat-json.ts'
import type { LineFault } from '../parser.ts'
import { isAccessLog } from '../unwrap/json-envelope.ts'
import { readNumber } from './digits.ts'
import { Filling } from './filling.ts'
import { type FormatError, isFormatError, parseFormat } from './grammar.ts'
import { endOfNested, endOfScalar, endOfText, isAt, skipBlanks, unescaped } from './json-text.ts'
import { type Target, type TargetOptions, targetOf } from './targets.ts'
import { compileMatcher, type FormatParser, fillTime, type Matcher, precisionOf } from './text.ts'

/**
 * A parser of the JSON lines that one of Envoy's `json_format` dictionaries makes, typed or not, with objects and lists in
 * it as deep as they are in the format.
 *
 * The line is read once from left to right and no objects are made of it. Envoy writes keys in their order, so the next
 * key is nearly always the one that is expected; any other order costs a look-up. Keys that the format does not have
 * become custom tags: somebody between Envoy and here has put them there.
 */
export interface JsonFormatOptions extends TargetOptions {
  readonly name?: string
}

export type JsonFormat = { readonly [key: string]: JsonFormatValue }
export type JsonFormatValue = string | number | boolean | null | JsonFormat | readonly JsonFormatValue[]

export function compileJsonFormat(format: JsonFormat, options: JsonFormatOptions = {}): FormatParser | FormatError {
  const compiled = compileGroup(format, options, '', 0)
  if (isFormatError(compiled)) return compiled
  if (targetsOf(compiled).length === 0) return { error: 'the format has no operator' }
  return new JsonParser(options.name ?? 'json-format', compiled)
}

/** What stands under a key. */
export type JsonField =
  | { readonly kind: 'value'; readonly target: Target; readonly operator: string }
  /** Text around operators, or several operators. */
  | { readonly kind: 'mixed'; readonly matcher: Matcher }
  | { readonly kind: 'group'; readonly group: Group }
  | { readonly kind: 'ignored' }

/** An object of the format. */
export class Group {
  /** In the order Envoy writes them. */
  readonly #names: readonly string[]

  readonly #quoted: readonly string[]
  readonly #fields: readonly JsonField[]
  readonly #index: ReadonlyMap<string, number>

  constructor(fields: Readonly<Record<string, JsonField>> | ReadonlyMap<string, JsonField>) {
    const entries = fields instanceof Map ? [...fields] : Object.entries(fields)
    const sorted = entries.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    this.#names = sorted.map(([name]) => name)
    this.#quoted = this.#names.map((name) => JSON.stringify(name))
    this.#fields = sorted.map(([, field]) => field)
    this.#index = new Map(this.#names.map((name, k) => [name, k]))
  }

  get fields(): readonly JsonField[] {
    return this.#fields
  }

  get names(): readonly string[] {
    return this.#names
  }

  /** Whether the key that begins at `at` is number `k`. */
  isNext(k: number, line: string, at: number): boolean {
    return k < this.#quoted.length && isAt(line, at, this.#quoted[k]!)
  }

  /** Length of key `k` with its quotes. */
  width(k: number): number {
    return this.#quoted[k]!.length
  }

  find(name: string): number {
    return this.#index.get(name) ?? -1
  }
}

/** Deeper formats are nobody's. */
const FORMAT_DEPTH_MAX = 16

function compileGroup(format: JsonFormat, options: TargetOptions, path: string, depth: number): Group | FormatError {
  if (depth > FORMAT_DEPTH_MAX) return { error: `${path}: nested deeper than ${FORMAT_DEPTH_MAX}` }
  const fields = new Map<string, JsonField>()
  for (const [key, value] of Object.entries(format)) {
    const field = compileValue(value, options, path === '' ? key : `${path}.${key}`, depth)
    if (isFormatError(field)) return field
    fields.set(key, field)
  }
  return new Group(fields)
}

function compileValue(
  value: JsonFormatValue,
  options: TargetOptions,
  path: string,
  depth: number,
): JsonField | FormatError {
  if (typeof value === 'string') return compileString(value, options, path)
  if (typeof value !== 'object' || value === null) return { kind: 'ignored' }
  const members: JsonFormat = Object.fromEntries(Object.entries(value))
  const group = compileGroup(members, options, path, depth + 1)
  return isFormatError(group) ? group : { kind: 'group', group }
}

/** A value of one operator keeps its type, and becomes a tag under its key when no column is for it. */
export function compileString(text: string, options: TargetOptions, path: string): JsonField | FormatError {
  const parts = parseFormat(text)
  if (isFormatError(parts)) return { error: `${path}: ${parts.error}` }
  const [first] = parts
  if (parts.length === 1 && first !== undefined && typeof first !== 'string') {
    const target = targetOf(first, options)
    const named: Target = target.kind === 'tag' ? { ...target, name: path } : target
    return { kind: 'value', target: named, operator: first.text }
  }
  if (parts.every((part) => typeof part === 'string')) return { kind: 'ignored' }
  const matcher = compileMatcher(text, options)
  return isFormatError(matcher) ? { error: `${path}: ${matcher.error}` } : { kind: 'mixed', matcher }
}

function targetsOf(group: Group): readonly { readonly operator: string; readonly target: Target }[] {
  return group.fields.flatMap((field) => {
    if (field.kind === 'value') return [field]
    if (field.kind === 'group') return targetsOf(field.group)
    if (field.kind === 'ignored') return []
    return field.matcher.operators.map(({ text }, k) => ({ operator: text, target: field.matcher.targets[k]! }))
  })
}

/** What the keys of a line without objects mean. */
interface FlatFields {
  readonly names: readonly string[]
  readonly fields: readonly (JsonField | undefined)[]
  /** Nothing can stand around such a line. */
  readonly bare: boolean
}

const LINE_MAX = 256 << 10
const KEYS_REMEMBERED = 64
const MISSES_MAX = 10_000
/** Names of a line that are no field are kept up to this length. */
const TAG_NAME_MAX = 256

export interface JsonParserOptions {
  /** Fields of keys that the format does not have; remembered by the caller. */
  readonly resolve?: (path: string) => JsonField | undefined
}

export class JsonParser implements FormatParser {
  readonly name: string
  readonly source = 'json'
  readonly precisionNs: number
  readonly tagged: readonly string[]
  readonly ignored: readonly string[]
  readonly #root: Group
  readonly #resolve: ((path: string) => JsonField | undefined) | undefined
  readonly #filling = new Filling()
  /**
   * Keys of an earlier line that no field of the format is for, with their quotes, and what they mean: the next line has
   * nearly always the same keys in the same order. Learned again when too many are not where they are expected.
   */
  readonly #lastKeys: string[] = []
  readonly #lastNames: string[] = []
  readonly #lastFields: (JsonField | undefined)[] = []
  #learning = true
  #misses = 0
  #at = 0
  /** Whether the line has a backslash anywhere. */
  #escapes = false
  /** Values of fields in the line under way. */
  #known = 0
  readonly #flat: FlatJson<FlatFields>

  constructor(name: string, root: Group, options: JsonParserOptions = {}) {
    const targets = targetsOf(root)
    this.name = name
    this.#root = root
    this.#resolve = options.resolve
    this.#flat = new FlatJson((keys) => this.#fieldsOf(keys))
    this.precisionNs = precisionOf(targets.map(({ target }) => target))
    this.tagged = targets.filter(({ target }) => target.kind === 'tag').map(({ operator }) => operator)
    this.ignored = targets.filter(({ target }) => target.kind === 'ignored').map(({ operator }) => operator)
  }

  parse(line: string, entry: AccessEntry): LineFault | null {
    if (line.length > LINE_MAX) return 'too_large'
    if (this.#parseFlat(line, entry, false)) return null
    const fault = this.#parseAny(line, entry)
    if (fault === null) this.#flat.learn(line)
    return fault
  }

  parseBare(line: string, entry: AccessEntry): boolean {
    return line.length <= LINE_MAX && this.#parseFlat(line, entry, true)
  }

  /** A line like an earlier one. False: it is none, or not sound, and the entry is empty. */
  #parseFlat(line: string, entry: AccessEntry, bare: boolean): boolean {
    const values = this.#flat.read(line)
    if (values === null) return false
    const { meaning } = this.#flat
    if (bare && !meaning.bare) return false
    this.#filling.begin(entry)
    this.#known = 0
    if (this.#fillFlat(values, meaning) && this.#known > 0 && tellsOfTraffic(entry)) {
      this.#filling.finish()
      return true
    }
    entry.reset()
    return false
  }

  #fieldsOf(keys: readonly string[]): FlatFields {
    const fields = keys.map((key) => {
      const k = this.#root.find(key)
      return k >= 0 ? this.#root.fields[k] : this.#resolve?.(key)
    })
    return { names: keys, fields, bare: isAccessLog(keys) }
  }

  #fillFlat(values: FlatValues, { names, fields }: FlatFields): boolean {
    const into = this.#filling
    for (let k = 0; k < fields.length; k++) {
      const field = fields[k]
      const text = values[2 * k + 1]
      const scalar = text === undefined ? values[2 * k + 2] : undefined
      // Nothing, or `-`: not known.
      const absent = text === undefined ? scalar === undefined : text === '' || text === '-'
      if (field !== undefined) this.#known++
      if (absent) continue
      const value = text ?? scalar!
      if (field === undefined) {
        if (names[k]!.length <= TAG_NAME_MAX) into.entry.customTags.add(names[k]!, value)
      } else if (field.kind === 'value') {
        const { target } = field
        if (scalar !== undefined && target.kind === 'json') target.set(into, scalar)
        else if (!fillText(target, value, into)) return false
      } else if (field.kind === 'mixed') {
        if (scalar === undefined && field.matcher.read(value, into) !== null) return false
      }
    }
    return true
  }

  #parseAny(line: string, entry: AccessEntry): LineFault | null {
    const at = skipBlanks(line, 0)
    if (at === line.length) return 'not_an_entry'
    if (line.charCodeAt(at) !== OPEN) return 'unmatched'
    const filling = this.#filling
    filling.begin(entry)
    this.#known = 0
    this.#at = 0
    this.#learning = this.#lastKeys.length === 0
    if (this.#misses > MISSES_MAX) this.#forget()
    this.#escapes = line.includes('\\')
    const end = this.#object(line, at, this.#root, '', 0)
    if (end < 0) return FAULTS[-end]!
    if (skipBlanks(line, end) !== line.length) return 'bad_json'
    if (this.#known === 0 || !tellsOfTraffic(entry)) return 'unmatched'
    filling.finish()
    return null
  }

  /** Reads the object that begins at `at`. Returns the place behind it, or a fault. */
  #object(line: string, at: number, group: Group | null, path: string, depth: number): number {
    at = skipBlanks(line, at + 1)
    if (line.charCodeAt(at) === CLOSE) return at + 1
    let next = 0
    for (;;) {
      if (line.charCodeAt(at) !== QUOTE) return BAD_JSON
      let field: JsonField | undefined
      let name = ''
      if (group?.isNext(next, line, at) === true) {
        field = group.fields[next]
        at += group.width(next++)
      } else if (depth === 0 && this.#at < this.#lastKeys.length && isAt(line, at, this.#lastKeys[this.#at]!)) {
        name = this.#lastNames[this.#at]!
        field = this.#lastFields[this.#at]
        at += this.#lastKeys[this.#at++]!.length
      } else {
        const end = this.#endOfText(line, at)
        if (end < 0) return BAD_JSON
        const key = this.#escapes ? unescaped(line, at + 1, end) : line.slice(at + 1, end)
        if (key === null) return BAD_JSON
        const k = group === null ? -1 : group.find(key)
        if (k >= 0) {
          field = group!.fields[k]
          next = k + 1
        } else {
          name = path === '' ? key : `${path}.${key}`
          field = this.#resolve?.(name)
          if (depth === 0) this.#unexpected(line, at, end + 1, name, field)
        }
        at = end + 1
      }
      if (line.charCodeAt(at) !== COLON) at = skipBlanks(line, at)
      if (line.charCodeAt(at) !== COLON) return BAD_JSON
      at++
      if (line.charCodeAt(at) <= 32) at = skipBlanks(line, at)
      at = this.#value(line, at, field, name, depth)
      if (at < 0) return at
      let unit = line.charCodeAt(at)
      if (unit <= 32) {
        at = skipBlanks(line, at)
        unit = line.charCodeAt(at)
      }
      if (unit === CLOSE) return at + 1
      if (unit !== COMMA) return BAD_JSON
      at++
      if (line.charCodeAt(at) <= 32) at = skipBlanks(line, at)
    }
  }

  /** A key that is not the one that was expected, if any was. Those remembered are not many, and not long. */
  #unexpected(line: string, start: number, end: number, name: string, field: JsonField | undefined): void {
    if (!this.#learning) {
      this.#misses++
      const known = this.#lastNames.indexOf(name, this.#at)
      if (known >= 0) this.#at = known + 1
      return
    }
    if (this.#lastKeys.length >= KEYS_REMEMBERED || end - start > TAG_NAME_MAX) return
    // Copies of their own: a slice would keep the line.
    this.#lastKeys.push(Buffer.from(line.slice(start, end)).toString())
    this.#lastNames.push(Buffer.from(name).toString())
    this.#lastFields.push(field)
    this.#at = this.#lastKeys.length
  }

  #forget(): void {
    this.#misses = 0
    this.#learning = true
    this.#lastKeys.length = 0
    this.#lastNames.length = 0
    this.#lastFields.length = 0
  }

  #endOfText(line: string, at: number): number {
    return this.#escapes ? endOfText(line, at) : line.indexOf('"', at + 1)
  }

  #value(line: string, at: number, field: JsonField | undefined, name: string, depth: number): number {
    const unit = line.charCodeAt(at)
    if (unit === QUOTE) {
      const end = this.#endOfText(line, at)
      if (end < 0) return BAD_JSON
      if (end === at + 1 || (end === at + 2 && line.charCodeAt(at + 1) === DASH)) {
        // Nothing, or `-`: not known.
        if (field !== undefined) this.#known++
        return end + 1
      }
      return this.#text(line, at + 1, end, field, name)
    }
    if (unit === OPEN || unit === OPEN_LIST) return this.#nested(line, at, field, name, depth)
    const end = endOfScalar(line, at)
    if (end < 0) return BAD_JSON
    return this.#scalar(line, at, end, field, name)
  }

  #text(line: string, start: number, end: number, field: JsonField | undefined, name: string): number {
    const into = this.#filling
    if (field?.kind === 'value' && field.target.kind === 'number') {
      const number = readNumber(line, start, end)
      this.#known++
      return !Number.isNaN(number) && field.target.set(into, number) !== false ? end + 1 : BAD_VALUE
    }
    const text = this.#escapes ? unescaped(line, start, end) : line.slice(start, end)
    if (text === null) return BAD_JSON
    if (field === undefined) {
      if (name.length <= TAG_NAME_MAX) into.entry.customTags.add(name, text)
      return end + 1
    }
    this.#known++
    if (field.kind === 'mixed') return field.matcher.read(text, into) === null ? end + 1 : BAD_VALUE
    if (field.kind !== 'value') return end + 1
    return fillText(field.target, text, into) ? end + 1 : BAD_VALUE
  }

  #scalar(line: string, start: number, end: number, field: JsonField | undefined, name: string): number {
    const unit = line.charCodeAt(start)
    if (unit === 110 && end - start === 4 && line.startsWith('null', start)) {
      if (field !== undefined) this.#known++
      return end
    }
    const isNumber = unit === DASH || (unit >= 48 && unit <= 57)
    const number = isNumber ? readNumber(line, start, end) : Number.NaN
    if (isNumber ? Number.isNaN(number) : !line.startsWith('true', start) && !line.startsWith('false', start)) {
      return BAD_JSON
    }
    const into = this.#filling
    if (field === undefined) {
      if (name.length <= TAG_NAME_MAX) into.entry.customTags.add(name, line.slice(start, end))
      return end
    }
    this.#known++
    if (field.kind !== 'value') return end
    const { target } = field
    if (target.kind === 'number') return isNumber && target.set(into, number) !== false ? end : BAD_VALUE
    if (target.kind === 'json') {
      target.set(into, line.slice(start, end))
      return end
    }
    return fillText(target, line.slice(start, end), into) ? end : BAD_VALUE
  }

  #nested(line: string, at: number, field: JsonField | undefined, name: string, depth: number): number {
    if (line.charCodeAt(at) === OPEN && depth < FORMAT_DEPTH_MAX) {
      if (field?.kind === 'group') return this.#object(line, at, field.group, name, depth + 1)
      // What others put around: their names are joined with points. A name that is known may be the begin of longer ones.
      if (field === undefined || (name !== '' && field.kind === 'value' && isScalar(field.target)))
        return this.#object(line, at, null, name, depth + 1)
    }
    const end = endOfNested(line, at)
    if (end < 0) return end === -2 ? TOO_LARGE : BAD_JSON
    if (field === undefined) return end
    this.#known++
    const text = line.slice(at, end)
    if (field.kind === 'group') return this.#list(text, field.group) ? end : BAD_JSON
    if (field.kind !== 'value') return end
    if (!isJson(text)) return BAD_JSON
    const { target } = field
    if (target.kind === 'json') target.set(this.#filling, text)
    else if (target.kind === 'tag') this.#filling.entry.customTags.add(target.name, text)
    else if (target.kind !== 'ignored') return BAD_VALUE
    return end
  }

  /** A list of the format: rare, so its values are made. */
  #list(text: string, group: Group): boolean {
    let values: unknown
    try {
      values = JSON.parse(text)
    } catch {
      return false
    }
    if (!Array.isArray(values)) return true
    for (const [k, value] of values.entries()) {
      const index = group.find(String(k))
      const field = index < 0 ? undefined : group.fields[index]
      if (field === undefined || value === null) continue
      const json = JSON.stringify(value)
      const read = this.#value(json, 0, field, '', FORMAT_DEPTH_MAX)
      if (read < 0) return false
    }
    return true
  }
}

/** A time, ids and tags alone are in any program's log. */
function tellsOfTraffic(entry: AccessEntry): boolean {
  if (entry.code >= 0 || entry.durationNs >= 0 || entry.requestBodyBytes > 0 || entry.responseBodyBytes > 0) return true
  if (entry.method !== '' || entry.path !== '' || entry.protocol !== '' || entry.flags !== '') return true
  if (entry.upstreamHost !== '' || entry.upstreamCluster !== '' || entry.downstreamRemote !== '') return true
  return entry.authority !== '' || entry.type > 0 || entry.sni !== '' || entry.responseCodeDetails !== ''
}

const isScalar = ({ kind }: Target): boolean => kind === 'text' || kind === 'number' || kind === 'time'

/** A text, or the text of a scalar, for any target. */
function fillText(target: Target, text: string, into: Filling): boolean {
  switch (target.kind) {
    case 'text':
      target.set(into, text)
      return true
    case 'time':
      return target.reader.read(text, 0) === text.length && fillTime(target, text, 0, into)
    case 'json': {
      const first = text.charCodeAt(0)
      target.set(into, (first === OPEN || first === OPEN_LIST) && isJson(text) ? text : JSON.stringify(text))
      return true
    }
    case 'tag':
      into.entry.customTags.add(target.name, text)
      return true
    case 'number': {
      const number = readNumber(text, 0, text.length)
      return !Number.isNaN(number) && target.set(into, number) !== false
    }
    case 'ignored':
      return true
  }
}

const OPEN = 123
const CLOSE = 125
const OPEN_LIST = 91
const QUOTE = 34
const COLON = 58
const COMMA = 44
const DASH = 45

/** Faults, as negative places. */
const BAD_JSON = -1
const BAD_VALUE = -2
const TOO_LARGE = -3
const FAULTS: readonly LineFault[] = ['bad_json', 'bad_json', 'bad_value', 'too_large']
