import { AccessEntry } from '../../src/ingest/entry/entry.ts'
import type { LineFault, LineParser } from '../../src/ingest/lines/parser.ts'
import type { RowTable } from '../../src/model/schema.ts'
import { createWriting, TEXT_ORIGIN } from './entry-writing.ts'
import type { ReadRow } from './native-rows.ts'

/** The parser of a format that is known to be right. */
export function parserOf<T extends LineParser>(compiled: T | { readonly error: string }): T {
  if ('error' in compiled) throw new Error(compiled.error)
  return compiled
}

/** What a line says, or why it is no entry. */
export function entryOf(parser: LineParser, line: string): AccessEntry | LineFault {
  const entry = new AccessEntry()
  return parser.parse(line, entry) ?? entry
}

/** Rows of lines by table, in order, by way of the writer and the decoder. */
export function rowsOfLines(parser: LineParser, lines: readonly string[]): Record<RowTable, ReadRow[]> {
  const writing = createWriting()
  const origin = { ...TEXT_ORIGIN, source: parser.source, precisionNs: parser.precisionNs }
  for (const line of lines) {
    const fault = parser.parse(line, writing.writer.entry)
    if (fault !== null) throw new Error(`${fault}: ${line}`)
    writing.writer.add(origin)
  }
  const { rejected } = writing.writer.commit()
  if (rejected > 0) throw new Error(`${rejected} entries were rejected`)
  return writing.take()
}
