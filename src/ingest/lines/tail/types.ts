import type { Sender } from '../../entry/origins.ts'
import type { LineParser } from '../parser.ts'

export interface FilesGroup {
  readonly paths: readonly string[]
  readonly exclude: readonly string[]
  readonly rotated: boolean
  /** Where a log begins that is there at the very first start: its begin, or its end. */
  readonly start: 'beginning' | 'end'
  /** A new one for each file: some remember the form of the last line. */
  readonly parser: () => LineParser
  readonly sender: Omit<Sender, 'source' | 'precisionNs'>
}

export interface FilesLimits {
  readonly lineBytesMax: number
  /** Files of one group; of more, those that were written to last. */
  readonly filesMax: number
  /** Kept open between turns. */
  readonly openMax: number
  readonly pollMs: number
  readonly scanMs: number
  /** The last line of a rotated file counts without its end when nothing was added for this long. */
  readonly finalMs: number
  /** A log whose file is gone is forgotten when no copy of it turned up for this long. */
  readonly forgetMs: number
}

export interface FilesCounters {
  lines: number
  bytes: number
  rows: number
  readonly rejected: Map<string, number>
  /** Logs that began anew in a file: emptied, or written over. */
  truncated: number
  /** Logs found again in another file, by their content. */
  followed: number
  /** Files that hold what another one holds. */
  copies: number
  /** Logs of which no file is left. What was not read of them is not known. */
  vanished: number
  /** Files beyond `filesMax`, in the last look. */
  over: number
  /** Compressed files that are damaged or not complete. */
  damaged: number
  /** Files that could not be read. */
  failed: number
  /** Wall clock, ms, of the last row; 0 before the first. */
  lastMs: number
}
