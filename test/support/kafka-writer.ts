import { join } from 'node:path'
import { createSegmentReceiver, type SegmentReceiver } from '../../src/ingest/segments/receiver.ts'
import { createSpool, type Spool } from '../../src/ingest/segments/spool.ts'
import type { KafkaDriverName } from '../../src/kafka/driver.ts'
import { createKafkaDriver } from '../../src/kafka/drivers.ts'
import { type Clock, systemClock } from '../../src/lib/clock.ts'
import type { SegmentSink } from '../../src/pipeline/sink.ts'
import { silentLog } from '../../src/telemetry/log.ts'

/** What the role `writer` does between Kafka and a sink, without the rest of the process. */
export interface TestWriterOptions {
  readonly broker: string
  readonly topic: string
  readonly group: string
  readonly driver?: KafkaDriverName
  readonly dir: string
  readonly sink: (spool: Spool) => Promise<SegmentSink>
  readonly abandonMs?: number
  readonly fetchBytesMax?: number
  readonly clock?: Clock
}

export interface TestWriter {
  readonly receiver: SegmentReceiver
  readonly spool: Spool
  stop(): Promise<void>
}

export async function startTestWriter(options: TestWriterOptions): Promise<TestWriter> {
  const { broker, topic, group, dir, driver = 'platformatic', clock = systemClock } = options
  const spool = createSpool({
    dir: join(dir, 'writer'),
    keepMs: 120_000,
    bytesMax: 1 << 30,
    deadLetterBytesMax: 1 << 30,
    sync: true,
    clock,
  })
  const receiver = createSegmentReceiver({
    group,
    topic,
    driver: createKafkaDriver(driver, {
      clientId: 'sidecast-test-writer',
      brokers: [broker],
      group,
      topics: [topic],
      from: 'earliest',
      sessionMs: 3000,
      fetchBytesMax: options.fetchBytesMax ?? 8 << 20,
      fetchWaitMs: 100,
      headers: true,
      log: silentLog,
    }),
    prepare: async () => {},
    spool,
    sink: await options.sink(spool),
    abandonMs: options.abandonMs ?? 900_000,
    clock,
    log: silentLog,
  })
  spool.open()
  await receiver.start()
  return { receiver, spool, stop: () => receiver.stop(AbortSignal.timeout(5000)) }
}
