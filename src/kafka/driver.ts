import type { ConnectionOptions as TlsOptions } from 'node:tls'
import type { Log } from '../telemetry/log.ts'

/**
 * What the receiver needs of a Kafka client, and no more: members of a group, records in order, and commits that carry a
 * text. Both clients are behind it; what they do differently stays in their files.
 *
 *   start ─► joined ─► begin(partitions) ─► records, records, … ─► revoked ─► joined ─► …
 *
 * A generation is one membership: between two `begin` calls nobody else in the group has these partitions. The driver
 * calls its handlers one after another, never two at a time, and never with records of a generation that has ended.
 */
export interface KafkaDriver {
  readonly name: KafkaDriverName
  /** Connects and joins; resolves when the first request was answered. Rejects when no broker can be reached or it refuses us. */
  start(handlers: KafkaHandlers): Promise<void>
  /** Leaves the group, after the handler that runs has returned. `committed` and `publish` go on. Safe twice, and before start. */
  leave(): Promise<void>
  /** Closes every connection, after `leave`. */
  close(): Promise<void>

  /** Commits as the member of the present generation. 'fenced': the generation is over, nothing was committed. */
  commit(positions: readonly CommittedPosition[]): Promise<'ok' | 'fenced'>
  /** What a group committed for all partitions of the topics; partitions without a commit are left out. */
  committed(group: string, topics: readonly string[]): Promise<CommittedPosition[]>
  /** Commits for a group that has no members. */
  publish(group: string, positions: readonly CommittedPosition[]): Promise<void>

  /** Goes on at this offset, also with a partition that `begin` said must wait. No effect when it is not ours. */
  resume(topic: string, partition: number, offset: bigint | null): void
  /** Failures of the connection or the group, by what failed, since the start. */
  readonly errors: ReadonlyMap<string, number>
}

export const KAFKA_DRIVERS = ['platformatic', 'kafkajs'] as const
export type KafkaDriverName = (typeof KAFKA_DRIVERS)[number]

export interface KafkaHandlers {
  /**
   * Partitions are ours. Resolves to where each begins: an offset, null for where the group's `from` says (nothing was
   * committed), or 'wait' until `resume`.
   */
  begin(partitions: readonly TopicPartition[]): Promise<BeginAt[]>
  /** Records of some partitions, each from where it is. False: stopped before all were taken, nothing more is wanted. */
  records(batches: readonly RecordBatch[]): Promise<boolean>
  /** The generation is over. The partitions may be ours again in the next one. */
  revoked(): void
}

export interface TopicPartition {
  readonly topic: string
  readonly partition: number
}

export interface BeginAt extends TopicPartition {
  readonly at: bigint | null | 'wait'
}

export interface CommittedPosition extends TopicPartition {
  /** The next offset to read. */
  readonly offset: bigint
  /** '' when there is none. */
  readonly metadata: string
}

export interface RecordBatch extends TopicPartition {
  /** In order. Values are valid until the handler has returned. */
  readonly records: readonly KafkaRecord[]
  /** The offset after the last one, markers of transactions included. */
  readonly nextOffset: bigint
  /** The offset that the next record written to the partition gets. */
  readonly endOffset: bigint
}

export interface KafkaRecord {
  readonly offset: bigint
  /** Null: a tombstone. */
  readonly value: Buffer | null
  /** As UTF-8; there when they were asked for. The last of several with one name. */
  readonly headers?: ReadonlyMap<string, string>
}

export interface KafkaDriverOptions {
  readonly clientId: string
  /** `host:port`. */
  readonly brokers: readonly string[]
  readonly group: string
  readonly topics: readonly string[]
  /** Where partitions begin for which the group has no position. */
  readonly from: 'earliest' | 'latest'
  /** After this long without a heartbeat the group gives the partitions to others. */
  readonly sessionMs: number
  /** Bytes of one answer, and of one partition in it. */
  readonly fetchBytesMax: number
  /** How long the broker waits for records before it answers with none. */
  readonly fetchWaitMs: number
  /** Records bring their headers. */
  readonly headers?: boolean
  readonly tls?: TlsOptions
  readonly sasl?: KafkaSasl
  readonly log: Log
}

export interface KafkaSasl {
  readonly mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512'
  readonly username: string
  readonly password: string
}

export const partitionKey = (topic: string, partition: number): string => `${topic}/${partition}`
