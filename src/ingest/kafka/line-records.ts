import type { EntryWriter } from '../entry/entry.ts'
import type { Origins } from '../entry/origins.ts'
import type { LineParser } from '../lines/parser.ts'
import { createLineReader, type LineReader } from '../lines/read-line.ts'
import { createUnwrapper, type Unwrapper } from '../lines/unwrap/index.ts'
import { createEntryRecords } from './entry-records.ts'
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

const LINE_BYTES_MAX = 1 << 20
const NEWLINE = 10
const RETURN = 13

export function createLineRecords(options: LineRecordsOptions): RecordDecoder {
  const writer = createSkippingWriter(options.writer)
  const lines = new Lines(options, writer)
  return createEntryRecords({ ...options, writer, add: (value, source) => lines.add(value, source) })
}

class Lines {
  readonly #options: LineRecordsOptions
  readonly #writer: SkippingWriter
  readonly #unwrapper: Unwrapper = createUnwrapper()
  /** By topic: it names senders that nothing else does. */
  readonly #readers = new Map<string, LineReader>()

  constructor(options: LineRecordsOptions, writer: SkippingWriter) {
    this.#options = options
    this.#writer = writer
  }

  add(value: Buffer, source: RecordSource): void {
    for (let at = 0; at < value.length; ) {
      const found = value.indexOf(NEWLINE, at)
      const next = found < 0 ? value.length : found
      const end = next > at && value[next - 1] === RETURN ? next - 1 : next
      if (end > at) this.#line(value, at, end, source)
      at = next + 1
    }
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

  #refuse(reason: string, source: RecordSource, bytes: Buffer, offset: number): void {
    const { node, onRejected, onDecoded } = this.#options
    onRejected({ reason, count: 1, source, nodeId: node, bytes, offset })
    onDecoded(node || `kafka:${source.topic}`, 0, 1)
  }
}
