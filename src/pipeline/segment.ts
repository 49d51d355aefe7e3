import type { SegmentTableName } from '../model/schema.ts'

/**
 * A sealed segment: a folder with one file of Native blocks for each table it touches, and a manifest. It is never
 * changed again, and stays until every durable sink has taken it.
 */
export interface Segment {
  /** `<worker>-<epoch>-<seq>`, unique for ever in one data directory. Value of the column `segment`. */
  readonly id: string
  readonly worker: number
  readonly epoch: string
  readonly seq: number
  /** Wall clock, ms: first row appended, sealed. */
  readonly openedMs: number
  readonly sealedMs: number
  readonly tables: readonly SegmentTable[]
  /**
   * Put together from what was left after a crash or damage: it has row tables alone, and fewer rows than were sent to
   * a sink before, perhaps. Whoever stores it computes the rollups of the minutes it touches from the stored rows.
   */
  readonly recovered?: boolean
  /**
   * Somebody else may have sent it to the store already. Absent where segments come from a journal of this machine: then
   * the time it was opened says so.
   */
  readonly mayBeStored?: boolean
  /**
   * Keeps the files as they are until the returned function is called (safe twice). A sink calls it before it gives a
   * file to a statement whose end it may not learn: files of deleted segments are overwritten in place.
   */
  readonly hold?: () => () => void
}

export interface SegmentTable {
  readonly table: SegmentTableName
  /** Absolute path of a file that is a valid sequence of Native blocks and nothing else. */
  readonly file: string
  readonly bytes: number
  readonly rows: number
  readonly blocks: number
  /** Rows by day of the partition key (days since the epoch). */
  readonly days: ReadonlyMap<number, number>
  /** Rows by node id; empty for rollups. */
  readonly nodes: ReadonlyMap<string, number>
}
