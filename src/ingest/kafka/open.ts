import type { ConnectionOptions } from 'node:tls'
import type { KafkaDriverName, KafkaSasl } from '../../kafka/driver.ts'
import { createKafkaDriver } from '../../kafka/drivers.ts'
import { ownerOf } from '../../kafka/owner.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Origin } from '../../model/batch.ts'
import type { RowTable } from '../../model/schema.ts'
import type { Note } from '../../pipeline/journal-format.ts'
import type { Lane } from '../../pipeline/lane.ts'
import type { Log } from '../../telemetry/log.ts'
import type { AlsDecoder } from '../als/decode.ts'
import type { EntryWriter } from '../entry/entry.ts'
import type { Origins } from '../entry/origins.ts'
import type { LineParser } from '../lines/parser.ts'
import { createAlsRecords } from './als-records.ts'
import { createLineRecords } from './line-records.ts'
import { createOtlpRecords, type OtlpLogs } from './otlp-records.ts'
import { createKafkaReceiver, type KafkaReceiver, type RecordCallbacks } from './receiver.ts'
import type { RecordDecoder } from './records.ts'

/** What a record's value is. */
export const KAFKA_ENCODINGS = ['json', 'text', 'otlp', 'als', 'als-delimited'] as const
export type KafkaEncoding = (typeof KAFKA_ENCODINGS)[number]

/** One entry of `ingest.kafka`, parsed. */
export interface KafkaSource {
  readonly brokers: readonly string[]
  readonly topics: readonly string[]
  readonly group: string
  readonly encoding: KafkaEncoding
  readonly driver: KafkaDriverName
  /** Of lines: reads them. */
  readonly parser: LineParser
  /** Node id of rows that do not say whose they are; '' for `kafka:<topic>`. */
  readonly node: string
  readonly from: 'earliest' | 'latest'
  readonly sessionMs: number
  readonly takeoverMs: number
  readonly fetchBytesMax: number
  readonly tls?: ConnectionOptions
  readonly sasl?: KafkaSasl
}

/** What receivers of Kafka need of the rest of the product. */
export interface KafkaParts {
  readonly lane: Pick<Lane, 'flush' | 'gate' | 'synced' | 'addNoteSource'>
  readonly journal: { notes(prefix: string): Iterable<Note> }
  /** The data directory: holds who we are to other consumers. */
  readonly data: string
  /** A decoder of its own for each receiver, with what it does with identifiers. */
  readonly alsDecoder: (onIdentifier: (bytes: Uint8Array, start: number, end: number) => Origin) => AlsDecoder
  /** Reads `StreamAccessLogsMessage.Identifier`. */
  readonly readNode: (bytes: Uint8Array, start: number, end: number) => Origin
  readonly entryWriter: (decoder: AlsDecoder) => EntryWriter
  readonly origins: Origins
  readonly otlpLogs: (writer: EntryWriter) => OtlpLogs
  readonly otlpFromJson: (text: string) => Uint8Array | null
  readonly onDecoded: (nodeId: string, decoded: number, rejected: number) => void
  readonly clock: Clock
  readonly log: Log
}

const FETCH_WAIT_MS = 250

/** A receiver for each source. */
export function openKafka(sources: readonly KafkaSource[], parts: KafkaParts): KafkaReceiver[] {
  if (sources.length === 0) return []
  const owner = ownerOf(parts.data)
  return sources.map((source) => {
    const { brokers, topics, group, from, sessionMs, takeoverMs, fetchBytesMax, tls, sasl } = source
    const { lane, journal, clock, log } = parts
    const driver = createKafkaDriver(source.driver, {
      clientId: `sidecast-${owner}`,
      brokers,
      topics,
      group,
      from,
      sessionMs,
      fetchBytesMax,
      fetchWaitMs: FETCH_WAIT_MS,
      ...(tls === undefined ? {} : { tls }),
      ...(sasl === undefined ? {} : { sasl }),
      log,
    })
    const decoder = (callbacks: RecordCallbacks) => decoderOf(source, parts, callbacks)
    return createKafkaReceiver({ group, topics, driver, decoder, lane, journal, owner, takeoverMs, clock, log })
  })
}

function decoderOf(source: KafkaSource, parts: KafkaParts, callbacks: RecordCallbacks): RecordDecoder {
  const { encoding, parser, node } = source
  const { origins, onDecoded, readNode, lane, clock } = parts
  const known = new WeakMap<Origin, Origin>()
  // The same node may send by other ways as well: the source tells its rows apart.
  const readIdentifier = (bytes: Uint8Array, start: number, end: number): Origin => {
    const read = readNode(bytes, start, end)
    const found = known.get(read) ?? { ...read, source: 'kafka' }
    known.set(read, found)
    return found
  }
  const alsDecoder = parts.alsDecoder(readIdentifier)
  if (encoding === 'als' || encoding === 'als-delimited') {
    const unnamed = (topic: string) => origins.of({ source: 'kafka', precisionNs: 1, nodeId: node || `kafka:${topic}` })
    return createAlsRecords({
      decoder: alsDecoder,
      readIdentifier,
      unnamed,
      delimited: encoding === 'als-delimited',
      flush: (table: RowTable) => lane.flush(table),
      clock: () => clock.now(),
      onDecoded,
      ...callbacks,
    })
  }
  const writer = parts.entryWriter(alsDecoder)
  if (encoding === 'otlp') {
    const { otlpLogs: logs, otlpFromJson: fromJson } = parts
    return createOtlpRecords({ writer, logs, fromJson, node, onDecoded, ...callbacks })
  }
  return createLineRecords({ parser, writer, origins, node, onDecoded, ...callbacks })
}
