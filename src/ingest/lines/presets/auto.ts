import type { AccessEntry, EntryReporter } from '../../entry/entry.ts'
import { FlatJson } from '../flat-json.ts'
import type { LineFault, LineParser } from '../parser.ts'
import { isAccessLog } from '../unwrap/json-envelope.ts'
import { type FlatFill, type JsonForm, parseRecord } from './json.ts'
import { isOwnLog } from './not-access.ts'

/**
 * Reads lines of whatever form. Lines of one source are mostly of one form, so of the text parsers the one that matched
 * last is tried first, and a source pays for the search once. JSON is parsed once and its keys name the form. One for each
 * source; the forms themselves keep nothing.
 *
 * `precisionNs` and `source` are those of the last entry.
 */
export interface AutoParser extends LineParser {
  /** Name of the form of the last line that was an entry; '' before that. */
  readonly form: string
}

export interface AutoParserOptions {
  readonly name?: string
  /** The more columns a form has, the earlier: a shorter one must not take a longer one's line. */
  readonly text: readonly LineParser[]
  /** The last one takes whatever no other detects. */
  readonly json: readonly JsonForm[]
  /** Of products that are only gateways: what they write without saying so. */
  readonly reporter?: EntryReporter
}

export function createAutoParser({ name = 'auto', text, json, reporter = '' }: AutoParserOptions): AutoParser {
  let lastText: LineParser | null = null
  let form = ''
  let precisionNs = 1_000_000
  let source: 'json' | 'text' = 'text'

  const flat = new FlatJson<FlatForm>((keys) => flatFormOf(keys, json))
  /** A line like an earlier one. Null: it is none, or not sound. */
  const parseFlat = (line: string, entry: AccessEntry, bare: boolean): FlatForm | null => {
    const values = flat.read(line)
    if (values === null) return null
    const found = flat.meaning
    if (bare && !found.bare) return null
    if (found.fill(values, entry)) return found
    entry.reset()
    return null
  }
  const took = (found: JsonForm): void => {
    form = found.name
    precisionNs = found.precisionNs
    source = 'json'
  }
  const parseJson = (line: string, entry: AccessEntry): LineFault | null => {
    const alike = parseFlat(line, entry, false)
    if (alike !== null) {
      took(alike.form)
      return null
    }
    const record = parseRecord(line)
    if (record === null) return 'bad_json'
    const found = json.find((candidate) => candidate.detects(record))
    if (found === undefined) return 'unmatched'
    const fault = found.fill(record, entry)
    if (fault === null) {
      took(found)
      if (found.flat !== undefined) flat.learn(line)
    }
    return fault
  }
  const matched = (parser: LineParser): null => {
    lastText = parser
    form = parser.name
    precisionNs = parser.precisionNs
    source = parser.source
    return null
  }
  const tryText = (line: string, entry: AccessEntry): LineFault | null => {
    let gravest: LineFault = 'unmatched'
    const first = lastText
    if (first !== null) {
      const fault = first.parse(line, entry)
      if (fault === null) return matched(first)
      gravest = graver(gravest, fault)
      entry.reset()
    }
    for (const parser of text) {
      if (parser === first) continue
      const fault = parser.parse(line, entry)
      if (fault === null) return matched(parser)
      gravest = graver(gravest, fault)
      entry.reset()
    }
    return gravest
  }
  const parseText = (line: string, entry: AccessEntry): LineFault | null => {
    const fault = tryText(line, entry)
    if (fault !== 'unmatched') return fault
    if (isOwnLog(line)) return 'not_an_entry'
    const straight = straighten(line)
    if (straight === null || tryText(straight, entry) !== null) return 'unmatched'
    entry.customTags.add('repaired', 'typography')
    return null
  }

  return {
    name,
    get precisionNs() {
      return precisionNs
    },
    get source() {
      return source
    },
    get form() {
      return form
    },
    parse(line, entry) {
      if (line === '') return 'not_an_entry'
      const fault = line.startsWith('{') ? parseJson(line, entry) : parseText(line, entry)
      if (fault === null && entry.reporter === '') entry.reporter = reporter
      return fault
    },
    parseBare(line, entry) {
      if (line.charCodeAt(0) !== OPEN) return false
      const found = parseFlat(line, entry, true)
      if (found === null) return false
      took(found.form)
      if (entry.reporter === '') entry.reporter = reporter
      return true
    },
  }
}

const OPEN = 0x7b

/** What lines with certain keys and no objects in them are. */
interface FlatForm {
  readonly form: JsonForm
  readonly fill: FlatFill
  /** Nothing can stand around such a line: it is no envelope either. */
  readonly bare: boolean
}

/** Forms are told by keys, and by what a form without `flat` asks of texts: a line with all keys as texts shows which it is. */
function flatFormOf(keys: readonly string[], forms: readonly JsonForm[]): FlatForm | null {
  const record = Object.fromEntries(keys.map((key) => [key, '']))
  const form = forms.find((candidate) => candidate.detects(record))
  return form?.flat === undefined ? null : { form, fill: form.flat(keys), bare: isAccessLog(keys) }
}

const CURLY = /[\u2013\u2014\u2018\u2019\u201c\u201d]/
const STRAIGHT: readonly (readonly [RegExp, string])[] = [
  [/[\u2013\u2014]/g, '-'],
  [/[\u2018\u2019]/g, "'"],
  [/[\u201c\u201d]/g, '"'],
  [/ {2,}/g, ' '],
]

/**
 * Lines that came through a web form or a document have typographic dashes and quotes, and blanks doubled. Where a line
 * fits no form as it is but does when these are undone, it is read so, and its row says that it was. Null: it has none.
 */
function straighten(line: string): string | null {
  if (!CURLY.test(line)) return null
  return STRAIGHT.reduce((text, [found, by]) => text.replace(found, by), line)
}

/** A parser that knew the line's form knows best why it is no entry. */
const GRAVITY: Readonly<Record<LineFault, number>> = {
  unmatched: 0,
  not_an_entry: 1,
  bad_json: 2,
  bad_value: 3,
  too_large: 4,
}

function graver(one: LineFault, other: LineFault): LineFault {
  return GRAVITY[other] > GRAVITY[one] ? other : one
}
