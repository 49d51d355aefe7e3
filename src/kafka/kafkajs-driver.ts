import { setTimeout as sleep } from 'node:timers/promises'
import { compressionsAlgorithms } from '@platformatic/kafka'
import kafkajs from 'kafkajs'
import {
  type BeginAt,
  type CommittedPosition,
  type KafkaDriver,
  type KafkaDriverOptions,
  type KafkaHandlers,
  partitionKey,
  type RecordBatch,
} from './driver.ts'

/**
 * `kafkajs` behind the interface. Its consumer fetches and calls back with one batch of one partition after another, and
 * rejoins between them, so that a batch is committed before the partition goes to somebody else.
 *
 *   GROUP_JOIN ─► begin ─► seek, pause            eachBatch waits for that, then ─► records ─► resolveOffset
 *
 * The library has had no release since 2023. It brings gzip alone; the other codecs are those of `@platformatic/kafka`.
 */
export function createKafkajsDriver(options: KafkaDriverOptions): KafkaDriver {
  registerCodecs()
  return new KafkajsDriver(options)
}

const HEARTBEAT_MS = 1000
/** Commits that fail for these were not taken. */
const FENCED = new Set(['ILLEGAL_GENERATION', 'UNKNOWN_MEMBER_ID', 'REBALANCE_IN_PROGRESS', 'FENCED_INSTANCE_ID'])
const PUBLISH_MS = 30_000
const JOINED_MS = 100
const REVIVE_MS = 1000

class KafkajsDriver implements KafkaDriver {
  readonly name = 'kafkajs'
  readonly errors = new Map<string, number>()
  readonly #options: KafkaDriverOptions
  readonly #config: kafkajs.KafkaConfig
  readonly #consumer: kafkajs.Consumer
  readonly #admin: kafkajs.Admin
  /** Grows with every membership. */
  #generation = 0
  /** Where the partitions of the present generation begin; resolved before a batch is looked at. */
  #begun: Promise<Map<string, BeginAt['at']>> = Promise.resolve(new Map())
  /** The present generation is over, and the next has not begun. */
  #ended = false
  readonly #waiting = new Set<string>()
  /** Handlers run one after another. */
  #busy: Promise<void> = Promise.resolve()
  #listening = false
  /** Starts of a consumer that has ended, one after another. */
  #reviving: Promise<void> = Promise.resolve()
  readonly #leaving = new AbortController()
  #left: Promise<void> | undefined

  constructor(options: KafkaDriverOptions) {
    this.#options = options
    const { clientId, brokers, tls, sasl, log } = options
    this.#config = {
      clientId,
      brokers: [...brokers],
      ...(tls === undefined ? {} : { ssl: tls }),
      ...(sasl === undefined ? {} : { sasl: saslOf(sasl) }),
      retry: { initialRetryTime: 250, retries: 5 },
      logLevel: kafkajs.logLevel.ERROR,
      logCreator: () => (entry) => {
        const { message, error, groupId } = entry.log
        // The first one and each power of two: a broker that is away for an hour is not news every second.
        const count = this.#count('log')
        if ((count & (count - 1)) === 0) log.warn({ count, error, group: groupId }, `kafkajs: ${message}`)
      },
    }
    const kafka = new kafkajs.Kafka(this.#config)
    this.#consumer = kafka.consumer({
      groupId: options.group,
      sessionTimeout: options.sessionMs,
      rebalanceTimeout: options.sessionMs,
      heartbeatInterval: Math.floor(options.sessionMs / 10),
      maxBytes: options.fetchBytesMax,
      maxBytesPerPartition: options.fetchBytesMax,
      maxWaitTimeInMs: options.fetchWaitMs,
      // Trouble is never a reason to give up.
      retry: { restartOnFailure: async () => this.#left === undefined },
    })
    this.#admin = kafka.admin()
  }

  async start(handlers: KafkaHandlers): Promise<void> {
    const { topics, from } = this.#options
    this.#listen(handlers)
    await this.#admin.connect()
    await this.#consumer.connect()
    await this.#consumer.subscribe({ topics: [...topics], fromBeginning: from === 'earliest' })
    await this.#run(handlers)
  }

  #run(handlers: KafkaHandlers): Promise<void> {
    return this.#consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: 1,
      eachBatch: (payload) => this.#each(handlers, payload),
    })
  }

  /** Once, however often the start has to be tried. */
  #listen(handlers: KafkaHandlers): void {
    if (this.#listening) return
    this.#listening = true
    const { GROUP_JOIN, REBALANCING, CRASH } = this.#consumer.events
    this.#consumer.on(GROUP_JOIN, ({ payload }) => this.#join(handlers, payload.memberAssignment))
    this.#consumer.on(REBALANCING, () => this.#end(handlers))
    this.#consumer.on(CRASH, ({ payload }) => {
      this.#end(handlers)
      this.#count('crash')
      this.#options.log.warn({ error: payload.error, restart: payload.restart }, 'kafkajs: the consumer stopped')
      if (!payload.restart) this.#reviving = this.#reviving.then(() => this.#revive(handlers))
    })
  }

  /**
   * The library ends the consumer at what it takes for hopeless, with its connections. A coordinator that is not found is
   * among that, and it is not found for a moment whenever a broker starts.
   */
  async #revive(handlers: KafkaHandlers): Promise<void> {
    while (this.#left === undefined) {
      await sleep(REVIVE_MS, undefined, { signal: this.#leaving.signal }).catch(() => {})
      if (this.#left !== undefined) return
      try {
        await this.#consumer.connect()
        return await this.#run(handlers)
      } catch (error) {
        this.#count('revive')
        this.#options.log.warn({ error }, 'kafkajs: the consumer does not start; trying again')
      }
    }
  }

  leave(): Promise<void> {
    this.#left ??= (async () => {
      this.#leaving.abort()
      await this.#reviving
      await this.#consumer.disconnect().catch(() => this.#count('close'))
    })()
    return this.#left
  }

  async close(): Promise<void> {
    await this.leave()
    await this.#admin.disconnect().catch(() => this.#count('close'))
  }

  async commit(positions: readonly CommittedPosition[]): Promise<'ok' | 'fenced'> {
    if (this.#generation === 0 || this.#ended) return 'fenced'
    try {
      await this.#consumer.commitOffsets(positions.map(toKafkajs))
      return 'ok'
    } catch (error) {
      if (FENCED.has(typeOf(error))) return 'fenced'
      throw error
    }
  }

  async committed(group: string, topics: readonly string[]): Promise<CommittedPosition[]> {
    const found = await this.#admin.fetchOffsets({ groupId: group, topics: [...topics] })
    return found.flatMap(({ topic, partitions }) =>
      partitions
        .map(({ partition, offset, metadata }) => ({
          topic,
          partition,
          offset: BigInt(offset),
          metadata: metadata ?? '',
        }))
        .filter(({ offset }) => offset >= 0n),
    )
  }

  /** The library commits for members alone: we join for a moment. */
  async publish(group: string, positions: readonly CommittedPosition[]): Promise<void> {
    const kafka = new kafkajs.Kafka({ ...this.#config, logLevel: kafkajs.logLevel.NOTHING })
    const consumer = kafka.consumer({
      groupId: group,
      maxWaitTimeInMs: 100,
      retry: { restartOnFailure: async () => false },
    })
    try {
      await consumer.connect()
      await consumer.subscribe({ topics: [...new Set(positions.map(({ topic }) => topic))] })
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`the group ${group} did not answer`)), PUBLISH_MS)
        consumer.on(consumer.events.GROUP_JOIN, () => {
          clearTimeout(timer)
          // The event comes a moment before commits are sent at all; until then they are dropped without a word.
          setTimeout(() => consumer.commitOffsets(positions.map(toKafkajs)).then(resolve, reject), JOINED_MS)
        })
        consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
        consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch: async () => {} }).catch(reject)
      })
    } finally {
      await consumer.disconnect().catch(() => this.#count('close'))
    }
    const said = byPlace(await this.committed(group, [...new Set(positions.map(({ topic }) => topic))]))
    for (const position of positions) {
      if (said.get(partitionKey(position.topic, position.partition)) !== position.metadata) {
        throw new Error(`the group ${group} did not take a commit`)
      }
    }
  }

  resume(topic: string, partition: number, offset: bigint | null): void {
    if (!this.#waiting.delete(partitionKey(topic, partition))) return
    if (offset !== null) this.#consumer.seek({ topic, partition, offset: String(offset) })
    this.#consumer.resume([{ topic, partitions: [partition] }])
  }

  #join(handlers: KafkaHandlers, assignment: Readonly<Record<string, number[]>>): void {
    this.#end(handlers)
    this.#ended = false
    this.#generation++
    const partitions = Object.entries(assignment).flatMap(([topic, partitions]) =>
      partitions.map((partition) => ({ topic, partition })),
    )
    this.#begun = this.#alone(() => handlers.begin(partitions)).then((begins) => {
      const at = new Map<string, BeginAt['at']>()
      this.#waiting.clear()
      for (const { topic, partition, at: where } of begins) {
        at.set(partitionKey(topic, partition), where)
        if (where === 'wait') {
          this.#waiting.add(partitionKey(topic, partition))
          this.#consumer.pause([{ topic, partitions: [partition] }])
        } else if (where !== null) this.#consumer.seek({ topic, partition, offset: String(where) })
      }
      return at
    })
    // Whoever awaits it in `#each` learns of the failure, and the group is joined again.
    this.#begun.catch(() => this.#count('begin'))
  }

  #end(handlers: KafkaHandlers): void {
    if (this.#generation === 0 || this.#ended) return
    this.#ended = true
    handlers.revoked()
  }

  async #each(handlers: KafkaHandlers, payload: kafkajs.EachBatchPayload): Promise<void> {
    const { batch, heartbeat, resolveOffset, isRunning, isStale } = payload
    const generation = this.#generation
    const begun = await this.#begun
    const at = begun.get(partitionKey(batch.topic, batch.partition))
    // Stale: it was fetched before it was known where to begin, and comes again from there.
    if (!isRunning() || isStale() || at === undefined || at === 'wait') return
    const one: RecordBatch = {
      topic: batch.topic,
      partition: batch.partition,
      records: batch.messages.map(({ offset, value, headers }) =>
        this.#options.headers === true
          ? { offset: BigInt(offset), value, headers: headersOf(headers) }
          : { offset: BigInt(offset), value },
      ),
      nextOffset: BigInt(batch.lastOffset()) + 1n,
      endOffset: BigInt(batch.highWatermark),
    }
    const beating = setInterval(() => heartbeat().catch(() => {}), HEARTBEAT_MS)
    try {
      const taken = await this.#alone(async () => {
        if (generation !== this.#generation || this.#ended) return false
        return handlers.records([one])
      })
      if (taken) resolveOffset(batch.lastOffset())
    } finally {
      clearInterval(beating)
    }
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#busy.then(work)
    this.#busy = result.then(
      () => {},
      () => {},
    )
    return result
  }

  #count(what: string): number {
    const count = (this.errors.get(what) ?? 0) + 1
    this.errors.set(what, count)
    return count
  }
}

const byPlace = (positions: readonly CommittedPosition[]): Map<string, string> =>
  new Map(positions.map(({ topic, partition, metadata }) => [partitionKey(topic, partition), metadata]))

function headersOf(headers: kafkajs.IHeaders | undefined): Map<string, string> {
  const last = (value: kafkajs.IHeaders[string]) => String((Array.isArray(value) ? value.at(-1) : value) ?? '')
  return new Map(Object.entries(headers ?? {}).map(([name, value]) => [name, last(value)]))
}

const toKafkajs = ({ topic, partition, offset, metadata }: CommittedPosition) => ({
  topic,
  partition,
  offset: String(offset),
  metadata,
})

export function typeOf(error: unknown): string {
  if (typeof error !== 'object' || error === null) return ''
  if ('type' in error && typeof error.type === 'string') return error.type
  return 'cause' in error ? typeOf(error.cause) : ''
}

export function saslOf({
  mechanism,
  username,
  password,
}: NonNullable<KafkaDriverOptions['sasl']>): kafkajs.SASLOptions {
  switch (mechanism) {
    case 'PLAIN':
      return { mechanism: 'plain', username, password }
    case 'SCRAM-SHA-256':
      return { mechanism: 'scram-sha-256', username, password }
    case 'SCRAM-SHA-512':
      return { mechanism: 'scram-sha-512', username, password }
  }
}

/** The table of codecs belongs to the library and the process: filled once, the same each time. */
export function registerCodecs(): void {
  const { CompressionTypes, CompressionCodecs } = kafkajs
  const codecs = [
    [CompressionTypes.Snappy, compressionsAlgorithms.snappy],
    [CompressionTypes.LZ4, compressionsAlgorithms.lz4],
    [CompressionTypes.ZSTD, compressionsAlgorithms.zstd],
  ] as const
  for (const [type, { compressSync, decompressSync }] of codecs) {
    CompressionCodecs[type] = () => ({
      compress: async (encoder: { readonly buffer: Buffer }) => compressSync(encoder.buffer),
      decompress: async (bytes: Buffer) => decompressSync(bytes),
    })
  }
}
