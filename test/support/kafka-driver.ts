import type { CommittedPosition, KafkaDriver, KafkaHandlers, KafkaRecord, RecordBatch } from '../../src/kafka/driver.ts'

/** Offsets of a Kafka cluster, shared by drivers that pretend to be its consumers. */
export class FakeCluster {
  readonly committed = new Map<string, CommittedPosition>()
  readonly log: string[] = []

  of(group: string): CommittedPosition[] {
    return [...this.committed].filter(([key]) => key.startsWith(`${group}\n`)).map(([, position]) => position)
  }

  put(group: string, positions: readonly CommittedPosition[]): void {
    for (const position of positions) {
      this.committed.set(`${group}\n${position.topic}/${position.partition}`, position)
      this.log.push(`${group} ${position.partition} ${position.offset} ${position.metadata}`)
    }
  }
}

/** A consumer whose assignments and records the test decides. */
export class FakeDriver implements KafkaDriver {
  readonly name = 'platformatic'
  readonly errors = new Map<string, number>()
  readonly resumed: (readonly [number, bigint | null])[] = []
  /** The next commits fail with this, or are fenced. */
  fenced = false
  failures = 0
  handlers!: KafkaHandlers
  readonly #cluster: FakeCluster
  readonly #group: string

  constructor(cluster: FakeCluster, group: string) {
    this.#cluster = cluster
    this.#group = group
  }

  async start(handlers: KafkaHandlers): Promise<void> {
    this.handlers = handlers
  }

  async leave(): Promise<void> {}
  async close(): Promise<void> {}

  async commit(positions: readonly CommittedPosition[]): Promise<'ok' | 'fenced'> {
    if (this.failures > 0) {
      this.failures--
      throw new Error('the broker is away')
    }
    if (this.fenced) return 'fenced'
    this.#cluster.put(this.#group, positions)
    return 'ok'
  }

  async committed(group: string): Promise<CommittedPosition[]> {
    return this.#cluster.of(group)
  }

  async publish(group: string, positions: readonly CommittedPosition[]): Promise<void> {
    this.#cluster.put(group, positions)
  }

  resume(_topic: string, partition: number, offset: bigint | null): void {
    this.resumed.push([partition, offset])
  }

  /** Records of one partition from an offset on, as texts. */
  batch(partition: number, from: number, values: readonly (string | Buffer | null)[]): RecordBatch {
    const records: KafkaRecord[] = values.map((value, k) => ({
      offset: BigInt(from + k),
      value: typeof value === 'string' ? Buffer.from(value) : value,
    }))
    const nextOffset = BigInt(from + values.length)
    return { topic: 't', partition, records, nextOffset, endOffset: nextOffset + 5n }
  }
}
