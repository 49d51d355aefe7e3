import kafkajs from 'kafkajs'
import { registerCodecs, saslOf, typeOf } from './kafkajs-driver.ts'
import { bytesOf, type KafkaProducer, type KafkaProducerOptions, type OutRecord, RecordTooLarge } from './producer.ts'

/** `kafkajs` behind the interface. */
export function createKafkajsProducer(options: KafkaProducerOptions): KafkaProducer {
  registerCodecs()
  return new KafkajsProducer(options)
}

const CODECS = {
  none: kafkajs.CompressionTypes.None,
  gzip: kafkajs.CompressionTypes.GZIP,
  snappy: kafkajs.CompressionTypes.Snappy,
  lz4: kafkajs.CompressionTypes.LZ4,
  zstd: kafkajs.CompressionTypes.ZSTD,
} as const
const REQUEST_MS = 15_000

class KafkajsProducer implements KafkaProducer {
  readonly name = 'kafkajs'
  failures = 0
  readonly #options: KafkaProducerOptions
  readonly #kafka: kafkajs.Kafka
  readonly #partitions = new Map<string, number>()
  #producer: kafkajs.Producer | null = null
  #closed = false

  constructor(options: KafkaProducerOptions) {
    this.#options = options
    const { clientId, brokers, tls, sasl } = options
    this.#kafka = new kafkajs.Kafka({
      clientId,
      brokers: [...brokers],
      ...(tls === undefined ? {} : { ssl: tls }),
      ...(sasl === undefined ? {} : { sasl: saslOf(sasl) }),
      requestTimeout: REQUEST_MS,
      // What fails is told by the error that the caller gets.
      logLevel: kafkajs.logLevel.NOTHING,
      retry: { initialRetryTime: 250, retries: 3 },
    })
  }

  async partitions(topic: string): Promise<number> {
    const known = this.#partitions.get(topic)
    if (known !== undefined) return known
    const admin = this.#kafka.admin()
    try {
      await admin.connect()
      const { create } = this.#options
      if (create !== null && !(await admin.listTopics()).includes(topic)) {
        const { partitions: numPartitions, replicas: replicationFactor } = create
        await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor }], waitForLeaders: false })
      }
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
      const count = topics[0]?.partitions.length
      if (!count) throw new Error(`the topic ${topic} has no partitions yet`)
      this.#partitions.set(topic, count)
      return count
    } finally {
      await admin.disconnect().catch(() => {})
    }
  }

  async send(records: readonly OutRecord[]): Promise<void> {
    if (this.#closed) throw new Error('the producer is closed')
    try {
      this.#producer ??= await this.#connected()
      const byTopic = Map.groupBy(records, ({ topic }) => topic)
      await this.#producer.sendBatch({
        acks: -1,
        compression: CODECS[this.#options.compression],
        topicMessages: [...byTopic].map(([topic, some]) => ({
          topic,
          messages: some.map(({ partition, key, value, headers }) => ({ partition, key, value, headers })),
        })),
      })
    } catch (error) {
      this.failures++
      await this.#discard()
      if (TOO_LARGE.has(typeOf(error))) throw new RecordTooLarge(bytesOf(records), error)
      throw error
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#discard()
  }

  async #connected(): Promise<kafkajs.Producer> {
    const producer = this.#kafka.producer({
      idempotent: true,
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
      createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
    })
    await producer.connect()
    return producer
  }

  async #discard(): Promise<void> {
    const producer = this.#producer
    this.#producer = null
    this.#partitions.clear()
    await producer?.disconnect().catch(() => {})
  }
}

const TOO_LARGE = new Set(['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE'])
