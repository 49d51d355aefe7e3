import { Admin, findErrorBy } from '@platformatic/kafka'
import { PlatformaticRefusals } from './platformatic-refusals.ts'
import { openSender, type PlatformaticSender, RETRIES, RETRY_MS } from './platformatic-sender.ts'
import { bytesOf, type KafkaProducer, type KafkaProducerOptions, type OutRecord, RecordTooLarge } from './producer.ts'

/** `@platformatic/kafka` behind the interface. */
export function createPlatformaticProducer(options: KafkaProducerOptions): KafkaProducer {
  return new PlatformaticProducer(options)
}

const REQUEST_MS = 15_000
const CLOSE_MS = 2000

class PlatformaticProducer implements KafkaProducer {
  readonly name = 'platformatic'
  failures = 0
  readonly #options: KafkaProducerOptions
  readonly #base: ConstructorParameters<typeof Admin>[0]
  readonly #partitions = new Map<string, number>()
  readonly #refusals = new PlatformaticRefusals()
  #sender: PlatformaticSender | null = null
  #closed = false

  constructor(options: KafkaProducerOptions) {
    this.#options = options
    const { clientId, brokers, tls, sasl } = options
    this.#base = {
      clientId,
      context: this.#refusals.context,
      bootstrapBrokers: [...brokers],
      retries: RETRIES,
      retryDelay: RETRY_MS,
      requestTimeout: REQUEST_MS,
      ...(tls === undefined ? {} : { tls }),
      ...(sasl === undefined ? {} : { sasl: { ...sasl } }),
    }
  }

  async partitions(topic: string): Promise<number> {
    const known = this.#partitions.get(topic)
    if (known !== undefined) return known
    const admin = new Admin(this.#base)
    try {
      const { create } = this.#options
      if (create !== null && !(await admin.listTopics()).includes(topic)) {
        await admin
          .createTopics({ topics: [topic], partitions: create.partitions, replicas: create.replicas })
          .catch((error: unknown) => {
            if (!findErrorBy(error as Error, 'apiId', 'TOPIC_ALREADY_EXISTS')) throw error
          })
      }
      const count = (await admin.metadata({ topics: [topic], forceUpdate: true })).topics.get(topic)?.partitionsCount
      if (!count) throw new Error(`the topic ${topic} has no partitions yet`)
      this.#partitions.set(topic, count)
      return count
    } catch (error) {
      throw this.#refusals.explain(error)
    } finally {
      await admin.close().catch(() => {})
    }
  }

  async send(records: readonly OutRecord[]): Promise<void> {
    if (this.#closed) throw new Error('the producer is closed')
    try {
      this.#sender ??= await openSender(this.#base, this.#options.compression)
      await this.#sender.send(records)
    } catch (error) {
      this.failures++
      await this.#discard()
      if (tooLarge(error)) throw new RecordTooLarge(bytesOf(records), error)
      throw this.#refusals.explain(error)
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#discard()
    this.#refusals.close()
  }

  async #discard(): Promise<void> {
    const sender = this.#sender
    this.#sender = null
    // Partitions may have been added, or the topic made anew.
    this.#partitions.clear()
    if (sender === null) return
    // A connection that does not answer must not hold the next attempt.
    await Promise.race([sender.close(), new Promise((done) => setTimeout(done, CLOSE_MS))])
  }
}

const tooLarge = (error: unknown): boolean =>
  ['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE'].some((id) => findErrorBy(error as Error, 'apiId', id) !== null)
