import type { EntryWriter } from '../entry/entry.ts'
import type { Origins } from '../entry/origins.ts'
import type { LineParser } from '../lines/parser.ts'
import { createLineReader, type LineReader } from '../lines/read-line.ts'
import { createUnwrapper, type Unwrapper } from '../lines/unwrap/index.ts'
import type { OnRejected, RecordDecoder, RecordSource } from './records.ts'
import { createSkippingWriter, type SkippingWriter } from './skipping-writer.ts'

/**
 * Values that are log lines, JSON or text, one or several with line ends between them. What stands around a line is taken
 * away, and says who wrote it; where nothing does, the sender is `node`, or the topic.
 */
export interface LineRecordsOptions {
  readonly parser: LineParser
  readonly writer: EntryWriter
  readonly origins: Origins
  /** Node id of rows whose line does not say; '' for `kafka:<topic>`. */
  readonly node: string
  readonly onRejected: OnRejected
  readonly onRows: (rows: number) => void
  readonly onDecoded: (nodeId: string, decoded: number, rejected: number) => void
  readonly lineBytesMax?: number
}

const DUE_ENTRIES = 512
const LINE_BYTES_MAX = 1 << 20
const NEWLINE = 10
const RETURN = 13

export function createLineRecords(options: LineRecordsOptions): RecordDecoder {
  return new LineRecords(options)
}

class LineRecords implements RecordDecoder {
  readonly #options: LineRecordsOptions
  readonly #writer: SkippingWriter
  readonly #unwrapper: Unwrapper = createUnwrapper()
  /** By topic: it names senders that nothing else does. */
  readonly #readers = new Map<string, LineReader>()

  constructor(options: LineRecordsOptions) {
    this.#options = options
    this.#writer = createSkippingWriter(options.writer)
  }

  get added(): number {
    return this.#writer.added
  }

  get taken(): number {
    return this.#writer.taken
  }

  within(start: number, base: number): number {
    return base + Math.max(0, this.#writer.taken - start)
  }

  get due(): boolean {
    return this.#writer.pending >= DUE_ENTRIES
  }

  add(value: Buffer, source: RecordSource, within: number): void {
    this.#writer.skip = within
    for (let at = 0; at < value.length; ) {
      const found = value.indexOf(NEWLINE, at)
      const next = found < 0 ? value.length : found
      const end = next > at && value[next - 1] === RETURN ? next - 1 : next
      if (end > at) this.#line(value, at, end, source)
      at = next + 1
    }
  }

  commit(): boolean {
    const { added, rejected, reasons, pending } = this.#writer.commit()
    this.#options.onRows(added)
    if (rejected > 0) {
      for (const [reason, count] of reasons) this.#reject(reason, count, NOWHERE, NOTHING, 0)
    }
    return pending === 0
  }

  #line(value: Buffer, start: number, end: number, source: RecordSource): void {
    const { lineBytesMax = LINE_BYTES_MAX } = this.#options
    if (end - start > lineBytesMax) {
      this.#refuse('too_large', source, value, start)
      return
    }
    const skipping = this.#writer.skip > 0
    const outcome = this.#readerOf(source.topic).read(value.toString('utf8', start, end))
    // What is left out because it is stored already looks to the reader like an entry that the writer did not want.
    if (outcome === 'added' || (skipping && outcome === 'too_large_entry')) return
    if (outcome === 'held') {
      // Part of a line whose rest would be in another record: those have no order among each other.
      this.#unwrapper.end()
      this.#refuse('partial_line', source, value, start)
      return
    }
    // Counted by the writer, and told at the next commit.
    if (outcome === 'too_large_entry' || outcome === 'no_room') return
    this.#refuse(outcome, source, value, start)
  }

  #readerOf(topic: string): LineReader {
    const known = this.#readers.get(topic)
    if (known !== undefined) return known
    const { parser, origins, node } = this.#options
    const reader = createLineReader({
      parser,
      unwrapper: this.#unwrapper,
      writer: this.#writer,
      // Rows say that they came by Kafka; which form the lines had is the log's name.
      origins: { of: (sender) => origins.of({ ...sender, source: 'kafka' }) },
      sender: { nodeId: node || `kafka:${topic}`, logName: parser.name },
    })
    this.#readers.set(topic, reader)
    return reader
  }

  #refuse(reason: string, source: RecordSource, value: Buffer, offset: number): void {
    this.#reject(reason, 1, source, value, offset)
    const { node, onDecoded } = this.#options
    onDecoded(node || `kafka:${source.topic}`, 0, 1)
  }

  #reject(reason: string, count: number, source: RecordSource, bytes: Uint8Array, offset: number): void {
    this.#options.onRejected({ reason, count, source, nodeId: this.#options.node, bytes, offset })
  }
}

/** Entries that the writer refuses are not known by record. */
const NOWHERE: RecordSource = { topic: '', partition: -1, offset: -1n }
const NOTHING = new Uint8Array(0)
