import type { AccessEntry } from '../entry/entry.ts'

/** Reads lines of one form. Made once per form, not per sender; it keeps nothing between lines. */
export interface LineParser {
  /** Of the form, for counters and messages: `istio-text`, or what the configuration calls it. */
  readonly name: string
  /** Resolution of the durations that the form has, ns: 1 000 000 unless it says more. Belongs into `Origin.precisionNs`. */
  readonly precisionNs: number
  /** What `Origin.source` of its rows is. */
  readonly source: 'json' | 'text'
  /**
   * Fills `entry`, which is empty, from a line without its end of line. Null when that is done; else the reason, and the
   * entry may hold part of what was read: `entry.reset()` before it is used again. Never throws.
   */
  parse(line: string, entry: AccessEntry): LineFault | null
  /**
   * The same for a line as it came, which something may stand around. True: nothing does, for sure, and `entry` is filled.
   * False says nothing, and `entry` is empty. For forms that can tell at a glance.
   */
  parseBare?(line: string, entry: AccessEntry): boolean
}

/** Why a line is not an entry. */
export type LineFault =
  /** Not of this form. */
  | 'unmatched'
  /** Of this form, with a value that is not of its type. */
  | 'bad_value'
  /** JSON that is broken off or not JSON. */
  | 'bad_json'
  /** Longer or deeper than the limits. */
  | 'too_large'
  /** Something else than an access log entry, told for sure: a start-up message, a comment, an empty line. */
  | 'not_an_entry'
