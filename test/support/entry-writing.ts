import type { AccessEntry, EntryWriter } from '../../src/ingest/entry/entry.ts'
import { createEntryWriter, type EntryWriterOptions } from '../../src/ingest/entry/writer.ts'
import type { RowTable } from '../../src/model/schema.ts'
import { createDecoding, type DecodingOptions, originOf, RECEIVED_MS, rowsOf } from './als-decoding.ts'
import type { ReadRow } from './native-rows.ts'

export interface Writing {
  readonly writer: EntryWriter
  /** While true, full builders are not taken. */
  closed: boolean
  /** Adds one entry. */
  add(fill: (entry: AccessEntry) => void, origin?: ReturnType<typeof originOf>): boolean
  /** Rows so far by table, through Native and back; resets the builders. */
  take(): Record<RowTable, ReadRow[]>
}

export const TEXT_ORIGIN = { ...originOf('edge-1'), source: 'text' as const, precisionNs: 1_000_000 }

/** An entry writer with real builders behind it. */
export function createWriting(options: DecodingOptions & { writer?: Partial<EntryWriterOptions> } = {}): Writing {
  const decoding = createDecoding(options)
  const rows: Record<RowTable, ReadRow[]> = { requests: [], attempts: [], progress: [], connections: [] }
  const flush = (table: RowTable): boolean => {
    if (writing.closed) return false
    rows[table].push(...rowsOf(decoding.builders[table]))
    decoding.builders[table].reset()
    return true
  }
  const writer = createEntryWriter({ decoder: decoding.decoder, flush, clock: () => RECEIVED_MS, ...options.writer })
  const writing: Writing = {
    writer,
    closed: false,
    add(fill, origin = TEXT_ORIGIN) {
      fill(writer.entry)
      return writer.add(origin)
    },
    take() {
      const last = decoding.take()
      const taken = { ...rows }
      for (const table of Object.keys(rows) as RowTable[]) {
        taken[table] = [...rows[table], ...last[table]]
        rows[table] = []
      }
      return taken
    },
  }
  return writing
}
