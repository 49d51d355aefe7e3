import kafkajs from 'kafkajs'
import { freePort, type KafkaBroker, startKafka } from '../../test/support/kafka.ts'
import { type FaultProxy, startFaultProxy } from './proxy.ts'
import type { Took } from './targets.ts'

/** A real broker for all runs, and what breaks the connections to it. A run has topics of its own. */
export interface KafkaTarget {
  readonly broker: KafkaBroker
  readonly proxy: FaultProxy
  settings(seed: number): string[]
  /** Reads the rows of a run from the first record on. */
  took(seed: number): Promise<Took>
  stop(): Promise<void>
}

const IDLE_MS = 1500

export async function startKafkaTarget(): Promise<KafkaTarget> {
  const listen = await freePort()
  const proxy = await startFaultProxy(() => listen)
  const broker = await startKafka({ detour: { listen, advertise: proxy.port } })
  const prefixOf = (seed: number): string => `faults-${process.pid}-${seed}.`
  return {
    broker,
    proxy,
    settings: (seed) => [
      `adapters.kafka.brokers=["127.0.0.1:${proxy.port}"]`,
      `adapters.kafka.topicPrefix=${prefixOf(seed)}`,
      'adapters.kafka.encoding=json',
      'adapters.kafka.create.partitions=3',
    ],
    took: (seed) => readPaths(broker.address, `${prefixOf(seed)}requests`, `check-${seed}`),
    async stop() {
      await proxy.close()
      await broker.stop()
    },
  }
}

async function readPaths(address: string, topic: string, groupId: string): Promise<Took> {
  const client = new kafkajs.Kafka({ brokers: [address], logLevel: kafkajs.logLevel.NOTHING })
  const consumer = client.consumer({ groupId })
  const numbers = new Set<number>()
  let total = 0
  let lastMs = Date.now()
  await consumer.connect()
  try {
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({
      async eachMessage({ message }) {
        const { path } = JSON.parse(String(message.value)) as { path: string }
        numbers.add(Number(path.slice('/item/'.length)))
        total++
        lastMs = Date.now()
      },
    })
    // Members of a group get nothing for their first moment.
    while (Date.now() - lastMs < (total === 0 ? 10 * IDLE_MS : IDLE_MS))
      await new Promise((done) => setTimeout(done, 100))
  } finally {
    await consumer.disconnect()
  }
  return { numbers, total, once: false }
}
