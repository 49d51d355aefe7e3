import type { Origin } from './batch.ts'

/** Tells rows that repeat what their proxy logs in a better way as well. */
export interface SecondaryRows {
  /**
   * Sets `marks[row]` of the first `rows` rows to 1 or 0, and answers true; or answers false when no row is secondary, and
   * leaves `marks` alone. `stream[row]` indexes `origins`; `kind[row]` indexes `KINDS`.
   */
  mark(rows: number, origins: readonly Origin[], stream: Uint16Array, kind: Uint8Array, marks: Uint8Array): boolean
}
