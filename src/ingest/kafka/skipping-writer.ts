import type { CommitResult, EntryWriter } from '../entry/entry.ts'

/** An entry writer that leaves the first `skip` entries out: those of a record that are stored already. */
export interface SkippingWriter extends EntryWriter {
  /** Entries still to be left out. */
  skip: number
}

export function createSkippingWriter(writer: EntryWriter): SkippingWriter {
  return {
    skip: 0,
    entry: writer.entry,
    add(origin) {
      if (this.skip === 0) return writer.add(origin)
      this.skip--
      writer.entry.reset()
      return true
    },
    commit: (): Readonly<CommitResult> => writer.commit(),
    get pending() {
      return writer.pending
    },
    get added() {
      return writer.added
    },
    get taken() {
      return writer.taken
    },
  }
}
