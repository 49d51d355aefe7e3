import type { Config } from '../../config.ts'
import { SidecastError } from '../../errors.ts'
import { kafkaConnection } from '../../kafka/connection.ts'
import { ownerOf } from '../../kafka/owner.ts'
import type { OutRecord } from '../../kafka/producer.ts'
import { createKafkaProducer } from '../../kafka/producers.ts'
import { parseBytes } from '../../lib/units.ts'
import { findColumn } from '../../model/where.ts'
import type { Adapter, AdapterShared } from '../../pipeline/adapter.ts'
import { createDelivery } from '../../pipeline/delivery.ts'
import { parseSegmentId } from '../../pipeline/journal-format.ts'
import { requireRowFilter } from '../../pipeline/row-filter.ts'
import type { Segment } from '../../pipeline/segment.ts'
import { JSON_COLUMNS } from './row-json.ts'
import { jsonRecords, otlpRecords } from './rows.ts'
import { segmentRecords } from './segments.ts'
import { type Attempt, createKafkaSink } from './sink.ts'

export type KafkaOutConfig = Config['adapters']['kafka']

/** Topic of whole segments, after the prefix. */
export const SEGMENTS_TOPIC = 'segments'

/** `adapters.kafka`; null without brokers. */
export async function openKafkaOut(config: KafkaOutConfig, shared: AdapterShared): Promise<Adapter | null> {
  const { brokers, driver, compression, create, encoding } = config
  if (brokers.length === 0) return null
  const { journal, clock, log, data } = shared
  const connection = kafkaConnection(config, 'adapters.kafka')
  const sink = createKafkaSink({
    producer: () =>
      createKafkaProducer(driver, {
        ...connection,
        clientId: `sidecast-${ownerOf(data)}`,
        // Slices of segments are compressed one by one.
        compression: encoding === 'native' ? 'none' : compression,
        create: create.enabled ? { partitions: create.partitions, replicas: create.replicas } : null,
        log,
      }),
    encode: encoding === 'native' ? segmentEncoder(config, shared) : rowEncoder(config, shared),
    batchBytesMax: parseBytes(config.batchMax)!,
    clock,
  })
  const delivery = createDelivery({ sink, journal, clock, log })
  return {
    name: 'kafka',
    endpoint: brokers.join(','),
    stages: [sink, delivery],
    deliveries: [delivery],
    counters: () => {
      const { records, bytes, batches, tooLarge, failures, refused, batchBytesMax } = sink.counters
      return {
        records_total: records,
        bytes_total: bytes,
        batches_total: batches,
        batches_too_large_total: tooLarge,
        failures_total: failures,
        refused_tls_total: refused.tls,
        refused_sasl_total: refused.sasl,
        batch_bytes_max: batchBytesMax,
      }
    },
  }
}

type Encode = (segment: Segment, attempt: Attempt) => AsyncIterable<readonly OutRecord[]>

function segmentEncoder(
  { topicPrefix, node, compression }: KafkaOutConfig,
  { data, host, journal }: AdapterShared,
): Encode {
  const topic = `${topicPrefix}${SEGMENTS_TOPIC}`
  const edge = ownerOf(data)
  const { epoch } = parseSegmentId(journal.segmentId)!
  return async function* (segment, { producer, batchBytesMax, doubt, number }) {
    const partitions = await producer.partitions(topic)
    const send = { epoch, number }
    const from = { edge, node: node || host, send, doubt }
    yield* segmentRecords(segment, { topic, partitions, ...from, compression, batchBytesMax })
  }
}

function rowEncoder(config: KafkaOutConfig, { clock, data, host, version }: AdapterShared): Encode {
  const { topicPrefix, key, encoding, tables, signals } = config
  const filter = requireRowFilter('adapters.kafka.where', config.where, clock)
  const columns = config.columns.length === 0 ? JSON_COLUMNS : config.columns
  for (const name of config.columns) {
    const found = findColumn(name)
    if ('fault' in found) throw new SidecastError('SC1205', `adapters.kafka.columns: ${found.detail}`)
  }
  const edge = ownerOf(data)
  const node = config.node || host
  return (segment, { producer, batchBytesMax, onDropped }) => {
    const partitions = (topic: string) => producer.partitions(topic)
    const rows = { partitions, topicPrefix, key, filter, edge, node, batchBytesMax, onDropped }
    return encoding === 'json'
      ? jsonRecords(segment, { ...rows, tables, columns })
      : otlpRecords(segment, { ...rows, signals, version })
  }
}
