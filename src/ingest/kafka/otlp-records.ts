import type { EntryWriter } from '../entry/entry.ts'
import type { OnRejected, RecordDecoder, RecordSource } from './records.ts'
import { createSkippingWriter, type SkippingWriter } from './skipping-writer.ts'

/** Access log records of one `ExportLogsServiceRequest` into entries of a writer. Shaped like the OTLP receiver's decoder. */
export interface OtlpLogs {
  decode(
    bytes: Uint8Array,
    start: number,
    end: number,
    sender: { readonly peer: string; readonly node: string },
  ): { readonly items: number; readonly rejected: number; readonly reason: string; readonly offset: number }
}

/**
 * Values that are `ExportLogsServiceRequest`: protobuf, or JSON when the first byte is a brace, as the Kafka exporter of the
 * OpenTelemetry Collector writes them (`otlp_proto`, `otlp_json`).
 */
export interface OtlpRecordsOptions {
  readonly writer: EntryWriter
  /** A decoder that adds to the given writer. */
  readonly logs: (writer: EntryWriter) => OtlpLogs
  /** OTLP JSON as protobuf; null when it is not that. */
  readonly fromJson: (text: string) => Uint8Array | null
  /** Node id of rows whose resource does not say; '' for the topic. */
  readonly node: string
  readonly onRejected: OnRejected
  readonly onRows: (rows: number) => void
  readonly onDecoded: (nodeId: string, decoded: number, rejected: number) => void
}

const DUE_ENTRIES = 512
const BRACE = 0x7b

export function createOtlpRecords(options: OtlpRecordsOptions): RecordDecoder {
  return new OtlpRecords(options)
}

class OtlpRecords implements RecordDecoder {
  readonly #options: OtlpRecordsOptions
  readonly #writer: SkippingWriter
  readonly #logs: OtlpLogs

  constructor(options: OtlpRecordsOptions) {
    this.#options = options
    this.#writer = createSkippingWriter(options.writer)
    this.#logs = options.logs(this.#writer)
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
    const { node, fromJson, onRejected, onDecoded } = this.#options
    const bytes = value[0] === BRACE ? fromJson(value.toString()) : value
    const nodeId = node || `kafka:${source.topic}`
    if (bytes === null) {
      onRejected({ reason: 'bad_json', count: 1, source, nodeId, bytes: value, offset: 0 })
      onDecoded(nodeId, 0, 1)
      return
    }
    this.#writer.skip = within
    const { rejected, reason, offset } = this.#logs.decode(bytes, 0, bytes.length, {
      peer: `kafka:${source.topic}`,
      node,
    })
    if (rejected === 0) return
    onRejected({ reason: reason || 'malformed', count: rejected, source, nodeId, bytes, offset })
    onDecoded(nodeId, 0, rejected)
  }

  commit(): boolean {
    const { added, rejected, reasons, pending } = this.#writer.commit()
    const { onRows, onRejected, node } = this.#options
    onRows(added)
    if (rejected > 0) {
      for (const [reason, count] of reasons) {
        onRejected({ reason, count, source: NOWHERE, nodeId: node, bytes: NOTHING, offset: 0 })
      }
    }
    return pending === 0
  }
}

const NOWHERE: RecordSource = { topic: '', partition: -1, offset: -1n }
const NOTHING = new Uint8Array(0)
