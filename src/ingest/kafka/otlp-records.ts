import type { EntryWriter } from '../entry/entry.ts'
import { createEntryRecords } from './entry-records.ts'
import type { OnRejected, RecordDecoder, RecordSource } from './records.ts'
import { createSkippingWriter } from './skipping-writer.ts'

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

const BRACE = 0x7b

export function createOtlpRecords(options: OtlpRecordsOptions): RecordDecoder {
  const { node, fromJson, onRejected, onDecoded } = options
  const writer = createSkippingWriter(options.writer)
  const logs = options.logs(writer)
  const add = (value: Buffer, source: RecordSource): void => {
    const bytes = value[0] === BRACE ? fromJson(value.toString()) : value
    const peer = `kafka:${source.topic}`
    const nodeId = node || peer
    if (bytes === null) {
      onRejected({ reason: 'bad_json', count: 1, source, nodeId, bytes: value, offset: 0 })
      onDecoded(nodeId, 0, 1)
      return
    }
    const { rejected, reason, offset } = logs.decode(bytes, 0, bytes.length, { peer, node })
    if (rejected === 0) return
    onRejected({ reason: reason || 'malformed', count: rejected, source, nodeId, bytes, offset })
    onDecoded(nodeId, 0, rejected)
  }
  return createEntryRecords({ ...options, writer, add })
}
