import type { ConnectionOptions as TlsOptions } from 'node:tls'
import type { Log } from '../telemetry/log.ts'
import type { KafkaDriverName, KafkaSasl } from './driver.ts'

/**
 * What the adapter needs of a Kafka client, and no more: records on partitions that it chose, acknowledged by all in-sync
 * replicas, by an idempotent producer. Both clients are behind it.
 *
 * One `send` at a time. A producer whose send has failed is thrown away: the broker tells batches apart by producer and
 * sequence alone, so another batch under the number of one that did arrive would be answered and never be stored.
 */
export interface KafkaProducer {
  readonly name: KafkaDriverName
  /** Partitions of a topic, which is made when it does not exist and `create` is given. Rejects when it has none. */
  partitions(topic: string): Promise<number>
  /**
   * Resolves when all records are acknowledged. Rejects with `RecordTooLarge`, which no repetition mends; after any other
   * error it is not known what arrived. Records of one partition are one batch, and bounded by the broker's
   * `message.max.bytes` together, compressed.
   */
  send(records: readonly OutRecord[]): Promise<void>
  /** Closes every connection. Safe twice. */
  close(): Promise<void>
  /** Sends that failed, since the start. */
  readonly failures: number
}

export interface OutRecord {
  readonly topic: string
  readonly partition: number
  readonly key: Buffer | null
  readonly value: Buffer
  /** Texts, in UTF-8 on the wire. */
  readonly headers: Readonly<Record<string, string>>
}

export const COMPRESSIONS = ['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const
export type Compression = (typeof COMPRESSIONS)[number]

export interface KafkaProducerOptions {
  readonly clientId: string
  /** `host:port`. */
  readonly brokers: readonly string[]
  readonly compression: Compression
  /** For topics that do not exist; null: they are left to whoever runs the cluster. `replicas` −1: as the broker says. */
  readonly create: { readonly partitions: number; readonly replicas: number } | null
  readonly tls?: TlsOptions
  readonly sasl?: KafkaSasl
  readonly log: Log
}

/** The broker takes no batch of this size. */
export class RecordTooLarge extends Error {
  constructor(bytes: number, cause: unknown) {
    super(`the broker takes no batch of ${bytes} bytes`, { cause })
    this.name = 'RecordTooLarge'
  }
}

export const bytesOf = (records: readonly OutRecord[]): number =>
  records.reduce((sum, { value, key }) => sum + value.length + (key?.length ?? 0), 0)
