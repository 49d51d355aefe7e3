import { Admin, type ClusterMetadata, Consumer, type FetchOptions, IS_CONTROL } from '@platformatic/kafka'
import {
  type BeginAt,
  type CommittedPosition,
  type KafkaDriver,
  type KafkaDriverOptions,
  type KafkaHandlers,
  type KafkaRecord,
  partitionKey,
  type RecordBatch,
} from './driver.ts'
import { hasCode, type Membership, NOBODY, PlatformaticOffsets } from './platformatic-offsets.ts'
import { PlatformaticRefusals } from './platformatic-refusals.ts'

/**
 * `@platformatic/kafka` behind the interface. Of its consumer the group is used, and single fetches; where each partition
 * is, and when to fetch, is decided here, because its stream of messages takes positions from commits alone.
 *
 *   heartbeat, rejoin: by the library, at any time ──► 'group:join' ──► the loop: begin, fetch, records, fetch, records …
 *
 * One loop, so one handler at a time. When the library rejoins in the middle of one, what that one commits is fenced.
 */
export function createPlatformaticDriver(options: KafkaDriverOptions): KafkaDriver {
  return new PlatformaticDriver(options)
}

type FetchRequestTopic = FetchOptions<Buffer, Buffer, Buffer, Buffer>['topics'][number]
type FetchResponse = Awaited<ReturnType<Consumer['fetch']>>
type FetchResponsePartition = FetchResponse['responses'][number]['partitions'][number]

interface Position {
  readonly topic: string
  readonly partition: number
  /** Null: it waits for `resume`. */
  offset: bigint | null
}

/** While there is nothing to fetch: no partition, or all wait. */
const IDLE_MS = 50
const RETRY_MS = 500
/** Members that the library has lost are brought back after this. */
const REJOIN_MS = 2000

class PlatformaticDriver implements KafkaDriver {
  readonly name = 'platformatic'
  readonly errors = new Map<string, number>()
  readonly #options: KafkaDriverOptions
  readonly #consumer: Consumer
  readonly #admin: Admin
  readonly #offsets: PlatformaticOffsets
  readonly #refusals = new PlatformaticRefusals()
  readonly #stopping = new AbortController()
  #handlers: KafkaHandlers | undefined
  #loop: Promise<void> = Promise.resolve()
  #positions = new Map<string, Position>()
  /** Of the partitions that are being read; null between generations. */
  #membership: Membership | null = null
  /** The library has joined anew. */
  #joined = false
  /** Wall clock, ms, since when the library is not a member; null while it is. */
  #lostMs: number | null = null
  #wake: (() => void) | undefined
  #left: Promise<void> | undefined

  constructor(options: KafkaDriverOptions) {
    this.#options = options
    const { sasl, tls, clientId, brokers } = options
    const base = {
      clientId,
      context: this.#refusals.context,
      bootstrapBrokers: [...brokers],
      retries: 3,
      retryDelay: 250,
      requestTimeout: 15_000,
      ...(tls === undefined ? {} : { tls }),
      ...(sasl === undefined ? {} : { sasl: { ...sasl } }),
    }
    this.#consumer = new Consumer({
      ...base,
      groupId: options.group,
      autocommit: false,
      sessionTimeout: options.sessionMs,
      rebalanceTimeout: options.sessionMs,
      heartbeatInterval: Math.floor(options.sessionMs / 10),
      maxBytes: options.fetchBytesMax,
      maxWaitTime: options.fetchWaitMs,
      minBytes: 1,
    })
    this.#admin = new Admin(base)
    this.#offsets = new PlatformaticOffsets(this.#admin)
    this.#consumer.on('consumer:group:join', () => {
      this.#joined = true
      this.#lostMs = null
      this.#wake?.()
    })
    this.#consumer.on('error', (error: Error) => this.#failed('group', error))
  }

  async start(handlers: KafkaHandlers): Promise<void> {
    this.#handlers = handlers
    const { topics } = this.#options
    await this.#admin.metadata({ topics: [...topics] }).catch((error: unknown) => {
      throw this.#refusals.explain(error)
    })
    for (const topic of topics) this.#consumer.topics.track(topic)
    this.#loop = this.#run(handlers)
  }

  leave(): Promise<void> {
    this.#left ??= (async () => {
      this.#stopping.abort()
      this.#wake?.()
      await this.#loop
      await this.#consumer.close(true).catch((error: unknown) => this.#failed('close', error))
    })()
    return this.#left
  }

  async close(): Promise<void> {
    await this.leave()
    await this.#admin.close().catch((error: unknown) => this.#failed('close', error))
    this.#refusals.close()
  }

  async commit(positions: readonly CommittedPosition[]): Promise<'ok' | 'fenced'> {
    const membership = this.#membership
    if (membership === null || this.#consumer.generationId !== membership.generation) return 'fenced'
    return this.#offsets.commit(this.#options.group, membership, positions)
  }

  async committed(group: string, topics: readonly string[]): Promise<CommittedPosition[]> {
    const metadata = await this.#admin.metadata({ topics: [...topics] })
    const partitions = topics.map((name) => {
      const { partitionsCount = 0 } = metadata.topics.get(name) ?? {}
      return { name, partitionIndexes: Array.from({ length: partitionsCount }, (_, k) => k) }
    })
    return this.#offsets.fetch(group, partitions)
  }

  async publish(group: string, positions: readonly CommittedPosition[]): Promise<void> {
    const answer = await this.#offsets.commit(group, NOBODY, positions)
    if (answer === 'fenced') throw new Error(`the group ${group} has members`)
  }

  resume(topic: string, partition: number, offset: bigint | null): void {
    const position = this.#positions.get(partitionKey(topic, partition))
    if (position === undefined) return
    if (offset === null) {
      void this.#defaultOffset(topic, partition).then(
        (found) => {
          position.offset = found
          this.#wake?.()
        },
        (error: unknown) => this.#failed('offsets', error),
      )
      return
    }
    position.offset = offset
    this.#wake?.()
  }

  async #run(handlers: KafkaHandlers): Promise<void> {
    const { signal } = this.#stopping
    this.#lostMs = 0
    while (!signal.aborted) {
      try {
        if (this.#joined) await this.#begin(handlers)
        else if (!this.#consumer.isActive()) await this.#rejoin()
        else if (this.#membership === null) await this.#sleep(IDLE_MS)
        else if (!(await this.#fetch(handlers))) await this.#sleep(IDLE_MS)
      } catch (error) {
        this.#failed('fetch', error)
        await this.#sleep(RETRY_MS)
      }
    }
    this.#end()
  }

  /** The library stops trying when a join has failed; and it is not a member at the beginning. */
  async #rejoin(): Promise<void> {
    const now = Date.now()
    this.#lostMs ??= now
    if (now - this.#lostMs < REJOIN_MS) return this.#sleep(IDLE_MS)
    this.#lostMs = now
    await this.#consumer.joinGroup({})
  }

  async #begin(handlers: KafkaHandlers): Promise<void> {
    this.#end()
    this.#joined = false
    const { assignments, generationId, memberId } = this.#consumer
    const partitions = (assignments ?? []).flatMap(({ topic, partitions }) =>
      partitions.map((partition) => ({ topic, partition })),
    )
    this.#membership = { generation: generationId, member: memberId ?? '' }
    let begins: readonly BeginAt[]
    try {
      begins = await handlers.begin(partitions)
    } catch (error) {
      // Tried again: what is not known where to begin is not read.
      this.#joined = true
      throw error
    }
    if (this.#joined) return
    for (const { topic, partition, at } of begins) {
      const offset = at === 'wait' ? null : (at ?? (await this.#defaultOffset(topic, partition)))
      this.#positions.set(partitionKey(topic, partition), { topic, partition, offset })
    }
  }

  #end(): void {
    if (this.#membership === null) return
    this.#membership = null
    this.#positions = new Map()
    this.#handlers?.revoked()
  }

  /** One fetch from every broker that leads partitions of ours. False: there was nothing to ask for. */
  async #fetch(handlers: KafkaHandlers): Promise<boolean> {
    const metadata = await this.#consumer.metadata({ topics: [...this.#options.topics] })
    const requests = this.#requests(metadata)
    if (requests.size === 0) return false
    const answers = await Promise.all(
      [...requests].map(([node, topics]) =>
        this.#consumer.fetch({ node, topics }).catch((error: unknown) => this.#recover(error)),
      ),
    )
    if (this.#joined || this.#stopping.signal.aborted) return true
    const names = new Map([...metadata.topics].map(([name, { id }]) => [id, name]))
    const batches: RecordBatch[] = []
    for (const answer of answers) {
      for (const { topicId, partitions } of answer?.responses ?? []) {
        const topic = names.get(topicId)
        if (topic === undefined) continue
        for (const partition of partitions) this.#take(topic, partition, batches)
      }
    }
    if (batches.length === 0) return true
    const taken = await handlers.records(batches)
    // Fenced, or there is no room: the group or the gate will say.
    if (!taken) return false
    for (const { topic, partition, nextOffset } of batches) {
      const position = this.#positions.get(partitionKey(topic, partition))
      if (position !== undefined && position.offset !== null) position.offset = nextOffset
    }
    return true
  }

  #requests(metadata: ClusterMetadata): Map<number, FetchRequestTopic[]> {
    const requests = new Map<number, FetchRequestTopic[]>()
    for (const { topic, partition, offset } of this.#positions.values()) {
      const known = metadata.topics.get(topic)
      const leader = known?.partitions[partition]?.leader
      if (known === undefined || leader === undefined || offset === null) continue
      const topics = requests.get(leader) ?? []
      requests.set(leader, topics)
      let request = topics.find(({ topicId }) => topicId === known.id)
      if (request === undefined) {
        request = { topicId: known.id, partitions: [] }
        topics.push(request)
      }
      request.partitions.push({
        partition,
        fetchOffset: offset,
        partitionMaxBytes: this.#options.fetchBytesMax,
        currentLeaderEpoch: -1,
        lastFetchedEpoch: -1,
      })
    }
    return requests
  }

  #take(topic: string, answer: FetchResponsePartition, into: RecordBatch[]): void {
    const { partitionIndex: partition, records: batches, highWatermark } = answer
    const from = this.#positions.get(partitionKey(topic, partition))?.offset
    if (from === undefined || from === null || !batches || batches.length === 0) return
    const records: KafkaRecord[] = []
    let nextOffset = from
    for (const batch of batches) {
      const end = batch.firstOffset + BigInt(batch.lastOffsetDelta) + 1n
      // An incremental session may bring what was asked for before.
      if (end <= nextOffset) continue
      if ((batch.attributes & IS_CONTROL) === 0) {
        for (const { offsetDelta, value, headers } of batch.records) {
          const offset = batch.firstOffset + BigInt(offsetDelta)
          if (offset < from) continue
          records.push(
            this.#options.headers === true ? { offset, value, headers: headersOf(headers) } : { offset, value },
          )
        }
      }
      nextOffset = end
    }
    if (nextOffset > from) into.push({ topic, partition, records, nextOffset, endOffset: highWatermark })
  }

  /** Positions that the topic no longer has begin where `from` says; everything else is tried again. */
  async #recover(error: unknown): Promise<undefined> {
    if (!hasCode(error, 'OFFSET_OUT_OF_RANGE')) throw error
    this.#failed('offset_out_of_range', error)
    for (const position of this.#positions.values()) {
      if (position.offset === null) continue
      const { topic, partition } = position
      const first = await this.#offsetAt(topic, partition, EARLIEST)
      const last = await this.#offsetAt(topic, partition, LATEST)
      if (position.offset < first || position.offset > last) {
        position.offset = this.#options.from === 'earliest' ? first : last
      }
    }
    return undefined
  }

  #defaultOffset(topic: string, partition: number): Promise<bigint> {
    return this.#offsetAt(topic, partition, this.#options.from === 'earliest' ? EARLIEST : LATEST)
  }

  async #offsetAt(topic: string, partition: number, timestamp: bigint): Promise<bigint> {
    const found = await this.#consumer.listOffsets({ topics: [topic], partitions: { [topic]: [partition] }, timestamp })
    const offset = found.get(topic)?.[partition]
    if (offset === undefined) throw new Error(`no offsets of ${partitionKey(topic, partition)}`)
    return offset
  }

  #failed(what: string, error: unknown): void {
    const count = (this.errors.get(what) ?? 0) + 1
    this.errors.set(what, count)
    // The first one and each power of two: a broker that is away for an hour is not news every second.
    if ((count & (count - 1)) !== 0) return
    this.#options.log.warn(
      { what, count, error: this.#refusals.explain(error) },
      'Kafka: a request failed; trying again',
    )
  }

  #sleep(ms: number): Promise<void> {
    if (this.#stopping.signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#wake = undefined
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.#wake = done
    })
  }
}

const headersOf = (headers: readonly (readonly [Buffer | null, Buffer | null])[]): Map<string, string> =>
  new Map(headers.map(([name, value]) => [name?.toString() ?? '', value?.toString() ?? '']))

const LATEST = -1n
const EARLIEST = -2n
