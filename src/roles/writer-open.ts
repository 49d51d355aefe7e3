import { join } from 'node:path'
import { SEGMENTS_TOPIC } from '../adapters/kafka/open.ts'
import type { Config } from '../config.ts'
import { createSegmentReceiver, type SegmentReceiver } from '../ingest/segments/receiver.ts'
import { createSpool, type Spool } from '../ingest/segments/spool.ts'
import { kafkaConnection } from '../kafka/connection.ts'
import { createKafkaDriver } from '../kafka/drivers.ts'
import { ownerOf } from '../kafka/owner.ts'
import { createKafkaProducer } from '../kafka/producers.ts'
import type { Clock } from '../lib/clock.ts'
import { parseBytes, parseDuration } from '../lib/units.ts'
import type { SegmentSink } from '../pipeline/sink.ts'
import type { Log } from '../telemetry/log.ts'

/** What a writer has between Kafka and the store. */
export interface WriterOptions {
  readonly config: Config
  /** The data directory. */
  readonly data: string
  readonly sink: SegmentSink
  readonly spool: Spool
  readonly clock: Clock
  readonly log: Log
}

const FETCH_WAIT_MS = 250

/** `local`: the store is an engine on this machine. */
export function openSpool(config: Config, options: { data: string; local: boolean; clock: Clock }): Spool {
  const { data, local, clock } = options
  const bytesMax = parseBytes(config.writer.disk.max)!
  return createSpool({
    dir: join(data, 'writer'),
    keepMs: parseDuration(config.journal.keepAfterAck)!,
    bytesMax,
    deadLetterBytesMax: bytesMax,
    sync: local,
    clock,
  })
}

/** `writer` and the connection of `adapters.kafka`. */
export function openWriter({ config, data, sink, spool, clock, log }: WriterOptions): SegmentReceiver {
  const { writer } = config
  const { topicPrefix, driver, create } = config.adapters.kafka
  const connection = kafkaConnection(config.adapters.kafka, 'adapters.kafka')
  const clientId = `sidecast-${ownerOf(data)}`
  const topic = `${topicPrefix}${SEGMENTS_TOPIC}`
  return createSegmentReceiver({
    group: writer.group,
    topic,
    driver: createKafkaDriver(driver, {
      ...connection,
      clientId,
      group: writer.group,
      topics: [topic],
      from: 'earliest',
      sessionMs: parseDuration(writer.session)!,
      fetchBytesMax: parseBytes(writer.fetchMax)!,
      fetchWaitMs: FETCH_WAIT_MS,
      headers: true,
      log,
    }),
    async prepare() {
      const made = create.enabled ? { partitions: create.partitions, replicas: create.replicas } : null
      const producer = await createKafkaProducer(driver, {
        ...connection,
        clientId,
        compression: 'none',
        create: made,
        log,
      })
      await producer.partitions(topic).finally(() => producer.close())
    },
    spool,
    sink,
    abandonMs: parseDuration(writer.abandonAfter)!,
    clock,
    log,
  })
}
