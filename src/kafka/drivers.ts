import type { CommittedPosition, KafkaDriver, KafkaDriverName, KafkaDriverOptions, KafkaHandlers } from './driver.ts'

/** The driver of this name. Its client library is loaded when it starts: most processes read no topic, and one takes 40 MB. */
export function createKafkaDriver(name: KafkaDriverName, options: KafkaDriverOptions): KafkaDriver {
  return new DriverLoadedAtStart(name, options)
}

class DriverLoadedAtStart implements KafkaDriver {
  readonly name: KafkaDriverName
  readonly #options: KafkaDriverOptions
  #driver: KafkaDriver | null = null

  constructor(name: KafkaDriverName, options: KafkaDriverOptions) {
    this.name = name
    this.#options = options
  }

  async start(handlers: KafkaHandlers): Promise<void> {
    this.#driver ??=
      this.name === 'kafkajs'
        ? (await import('./kafkajs-driver.ts')).createKafkajsDriver(this.#options)
        : (await import('./platformatic-driver.ts')).createPlatformaticDriver(this.#options)
    await this.#driver.start(handlers)
  }

  async leave(): Promise<void> {
    await this.#driver?.leave()
  }

  async close(): Promise<void> {
    await this.#driver?.close()
  }

  commit(positions: readonly CommittedPosition[]): Promise<'ok' | 'fenced'> {
    return this.#started.commit(positions)
  }

  committed(group: string, topics: readonly string[]): Promise<CommittedPosition[]> {
    return this.#started.committed(group, topics)
  }

  publish(group: string, positions: readonly CommittedPosition[]): Promise<void> {
    return this.#started.publish(group, positions)
  }

  resume(topic: string, partition: number, offset: bigint | null): void {
    this.#driver?.resume(topic, partition, offset)
  }

  get errors(): ReadonlyMap<string, number> {
    return this.#driver?.errors ?? NONE
  }

  get #started(): KafkaDriver {
    if (this.#driver === null) throw new Error('the Kafka driver is asked before its start')
    return this.#driver
  }
}

const NONE: ReadonlyMap<string, number> = new Map()
