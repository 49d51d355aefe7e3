import type { OnRejected, RecordDecoder, RecordSource } from './records.ts'
import type { SkippingWriter } from './skipping-writer.ts'

/** A decoder that turns values into entries: its places count entries of the writer, and the writer makes the rows. */
export interface EntryRecordsOptions {
  readonly writer: SkippingWriter
  /** For rejections that are of no record in particular. */
  readonly node: string
  readonly onRejected: OnRejected
  readonly onRows: (rows: number) => void
  /** Adds the entries of a value to the writer, which leaves out those that are stored already. */
  readonly add: (value: Buffer, source: RecordSource) => void
}

const DUE_ENTRIES = 512

export function createEntryRecords(options: EntryRecordsOptions): RecordDecoder {
  const { writer, node, onRejected, onRows, add } = options
  return {
    get added() {
      return writer.added
    },
    get taken() {
      return writer.taken
    },
    within: (start, base) => base + Math.max(0, writer.taken - start),
    get due() {
      return writer.pending >= DUE_ENTRIES
    },
    add(value, source, within) {
      writer.skip = within
      add(value, source)
    },
    commit() {
      const { added, rejected, reasons, pending } = writer.commit()
      onRows(added)
      if (rejected > 0) {
        for (const [reason, count] of reasons) {
          onRejected({ reason, count, source: NOWHERE, nodeId: node, bytes: NOTHING, offset: 0 })
        }
      }
      return pending === 0
    },
  }
}

/** Entries that the writer refuses are not known by record. */
const NOWHERE: RecordSource = { topic: '', partition: -1, offset: -1n }
const NOTHING = new Uint8Array(0)
