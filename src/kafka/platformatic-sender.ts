import { setTimeout as sleep } from 'node:timers/promises'
import {
  type Broker,
  type ClusterMetadata,
  type Connection,
  ConnectionPool,
  findErrorBy,
  Producer,
  type ProducerOptions,
  produceV7,
  Writer,
} from '@platformatic/kafka'
import { partitionKey } from './driver.ts'
import type { Compression, OutRecord } from './producer.ts'
import { RecordBatches } from './record-batch.ts'

/**
 * One life of an idempotent producer: its id, its sequences and its connections. Of the library everything is used but how
 * it makes record batches.
 *
 *   records ─► a batch for each partition ─► a request for each leader ─► answers
 *                                                 ▲                          │ anything that time mends: the very same bytes
 *                                                 └──── new metadata ────────┘ again, so that the broker knows them
 *
 * After a failure nothing is known of the sequences: whoever has it makes a new one.
 */
export interface PlatformaticSender {
  /** One at a time. Resolves when all in-sync replicas have all records. */
  send(records: readonly OutRecord[]): Promise<void>
  /** Never rejects. */
  close(): Promise<void>
}

export type SenderBase = Pick<
  ProducerOptions<Buffer, Buffer, Buffer, Buffer>,
  'clientId' | 'context' | 'bootstrapBrokers' | 'retries' | 'retryDelay' | 'requestTimeout' | 'tls' | 'sasl'
>

export const RETRIES = 3
export const RETRY_MS = 250

export async function openSender(base: SenderBase, compression: Compression): Promise<PlatformaticSender> {
  const client = new Producer({ ...base, idempotent: true, acks: ALL })
  try {
    const { producerId, producerEpoch } = await client.initIdempotentProducer({})
    return new Sender(client, base, { producerId, producerEpoch, compression })
  } catch (error) {
    await client.close(true).catch(() => {})
    throw error
  }
}

interface Batch {
  readonly topic: string
  readonly partition: number
  readonly bytes: Buffer
}

interface Origin {
  readonly producerId: bigint
  readonly producerEpoch: number
  readonly compression: Compression
}

/** Of the request: version 7 is of Kafka 2.1, and the first with zstd. */
const PRODUCE = 0
const PRODUCE_VERSION = 7
/** `acks`: of all in-sync replicas. */
const ALL = -1
/** Sequences begin anew after 2³¹ − 1. */
const SEQUENCES = 2 ** 31

class Sender implements PlatformaticSender {
  readonly #client: Producer
  readonly #pool: ConnectionPool
  readonly #requestMs: number
  readonly #origin: Origin
  readonly #sequences = new Map<string, number>()
  readonly #batches = new RecordBatches()

  constructor(client: Producer, base: SenderBase, origin: Origin) {
    const { clientId, context, requestTimeout, tls, sasl } = base
    this.#client = client
    this.#requestMs = Number(requestTimeout)
    this.#origin = origin
    this.#pool = new ConnectionPool(clientId, {
      context,
      requestTimeout: this.#requestMs,
      ...(tls === undefined ? {} : { tls }),
      ...(sasl === undefined ? {} : { sasl }),
    })
  }

  async send(records: readonly OutRecord[]): Promise<void> {
    const nowMs = Date.now()
    this.#batches.clear()
    const topics = [...new Set(records.map(({ topic }) => topic))]
    const byPartition = Map.groupBy(records, ({ topic, partition }) => partitionKey(topic, partition))
    let batches = [...byPartition].map(([key, some]) => this.#batch(key, some, nowMs))
    for (let attempt = 0; ; attempt++) {
      const metadata = await this.#client.metadata({ topics, forceUpdate: attempt > 0 })
      const failed: Batch[] = []
      let failure: unknown
      const requests = [...byLeader(metadata, batches)].map(async ([leader, some]) => {
        try {
          const connection = await this.#pool.get(leader)
          await this.#produce(connection, some)
        } catch (error) {
          failure = error
          failed.push(...some)
        }
      })
      await Promise.all(requests)
      if (failed.length === 0) return
      if (attempt === RETRIES || findErrorBy(failure as Error, 'canRetry', false) !== null) throw failure
      batches = failed
      await sleep(RETRY_MS)
    }
  }

  async close(): Promise<void> {
    await Promise.allSettled([this.#pool.close(), this.#client.close(true)])
  }

  #batch(key: string, records: readonly OutRecord[], nowMs: number): Batch {
    const sequence = this.#sequences.get(key) ?? 0
    this.#sequences.set(key, (sequence + records.length) % SEQUENCES)
    const { topic, partition } = records[0]!
    return { topic, partition, bytes: this.#batches.add(records, { ...this.#origin, sequence, nowMs }) }
  }

  #produce(connection: Connection, batches: readonly Batch[]): Promise<void> {
    const request = (): Writer =>
      Writer.create()
        .appendString(null, false)
        .appendInt16(ALL)
        .appendInt32(this.#requestMs)
        .appendArray(
          [...Map.groupBy(batches, ({ topic }) => topic)],
          (of, [topic, some]) => {
            of.appendString(topic, false).appendArray(
              some,
              (into, { partition, bytes }) => into.appendInt32(partition).appendInt32(bytes.length).append(bytes),
              false,
              false,
            )
          },
          false,
          false,
        )
    return new Promise((resolve, reject) => {
      const done = (error: Error | null) => (error === null ? resolve() : reject(error))
      connection.send(PRODUCE, PRODUCE_VERSION, request, produceV7.parseResponse, false, false, done)
    })
  }
}

/** Throws when a partition has no leader that is known: the connection to none says that it can be tried again. */
function byLeader(metadata: ClusterMetadata, batches: readonly Batch[]): Map<Broker, Batch[]> {
  return Map.groupBy(batches, ({ topic, partition }) => {
    const leader = metadata.topics.get(topic)?.partitions[partition]?.leader
    return metadata.brokers.get(leader ?? -1) as Broker
  })
}
