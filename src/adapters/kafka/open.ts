import type { Config } from '../../config.ts'
import { kafkaConnection } from '../../kafka/connection.ts'
import { ownerOf } from '../../kafka/owner.ts'
import { createKafkaProducer } from '../../kafka/producers.ts'
import { parseBytes } from '../../lib/units.ts'
import type { Adapter, AdapterShared } from '../../pipeline/adapter.ts'
import { createDelivery } from '../../pipeline/delivery.ts'
import { parseSegmentId } from '../../pipeline/journal-format.ts'
import { segmentRecords } from './segments.ts'
import { type Attempt, createKafkaSink } from './sink.ts'

/** Topic of whole segments, after the prefix. */
export const SEGMENTS_TOPIC = 'segments'

/** `adapters.kafka`; null without brokers. */
export async function openKafkaOut(
  config: Config['adapters']['kafka'],
  shared: AdapterShared,
): Promise<Adapter | null> {
  const { brokers, topicPrefix, driver, compression, create } = config
  if (brokers.length === 0) return null
  const { journal, clock, log, data, host } = shared
  const edge = ownerOf(data)
  const connection = kafkaConnection(config, 'adapters.kafka')
  const epoch = parseSegmentId(journal.segmentId)!.epoch
  const topic = `${topicPrefix}${SEGMENTS_TOPIC}`
  const node = config.node || host
  const sink = createKafkaSink({
    producer: () =>
      createKafkaProducer(driver, {
        ...connection,
        clientId: `sidecast-${edge}`,
        compression,
        create: create.enabled ? { partitions: create.partitions, replicas: create.replicas } : null,
        log,
      }),
    encode: async function* (segment, { producer, batchBytesMax, doubt, number }: Attempt) {
      const partitions = await producer.partitions(topic)
      const send = { epoch, number }
      yield* segmentRecords(segment, { topic, partitions, edge, node, send, doubt, batchBytesMax })
    },
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
      const { records, bytes, batches, tooLarge, batchBytesMax } = sink.counters
      return {
        records_total: records,
        bytes_total: bytes,
        batches_total: batches,
        batches_too_large_total: tooLarge,
        batch_bytes_max: batchBytesMax,
      }
    },
  }
}
