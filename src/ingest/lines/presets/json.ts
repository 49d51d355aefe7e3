import { isRecord } from '../../../lib/json.ts'
import type { AccessEntry } from '../../entry/entry.ts'
import type { FlatValues } from '../flat-json.ts'
import type { LineFault, LineParser } from '../parser.ts'

export type JsonRecord = Readonly<Record<string, unknown>>

/** Access logs in JSON of one product, as its keys. */
export interface JsonForm {
  readonly name: string
  /** Resolution of its durations, ns. */
  readonly precisionNs: number
  /** Whether an object is of this form, by keys that no other form has. */
  detects(record: JsonRecord): boolean
  /** Fills `entry`, which is empty, as a `LineParser` does. */
  fill(record: JsonRecord, entry: AccessEntry): LineFault | null
  /** The same, made once for lines with these keys and no objects in them. Absent: of such lines objects are made too. */
  readonly flat?: (keys: readonly string[]) => FlatFill
}

/** True: `entry` has all that `fill` would have filled in. False: in part, and what is wrong is for `fill` to say. */
export type FlatFill = (values: FlatValues, entry: AccessEntry) => boolean

/** Null: not an object in JSON. */
export function parseRecord(line: string): JsonRecord | null {
  try {
    const value: unknown = JSON.parse(line)
    return isRecord(value) ? value : null
  } catch {
    return null
  }
}

/** A text, a number as text, or '' for everything else. */
export function textOf(record: JsonRecord, key: string): string {
  const value = record[key]
  return typeof value === 'string' ? value : typeof value === 'number' ? String(value) : ''
}

/** The object at a key; an empty one where there is none. */
export function recordOf(record: JsonRecord, key: string): JsonRecord {
  const value = record[key]
  return isRecord(value) ? value : EMPTY
}

const EMPTY: JsonRecord = {}

export function createJsonParser(form: JsonForm): LineParser {
  return {
    name: form.name,
    precisionNs: form.precisionNs,
    source: 'json',
    parse(line, entry) {
      if (!line.startsWith('{')) return line.startsWith('[') ? 'unmatched' : 'not_an_entry'
      const record = parseRecord(line)
      return record === null ? 'bad_json' : form.fill(record, entry)
    },
  }
}
