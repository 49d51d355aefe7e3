import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { KafkaDriverName } from '../../src/kafka/driver.ts'
import { seededRandom } from '../../src/lib/random.ts'
import { openJournal } from '../../src/pipeline/journal.ts'
import type { KafkaBroker } from './kafka.ts'
import { readBlocks } from './native-rows.ts'

/**
 * Two consumers of one group, each with a data directory of its own, while records are written all the time. At seeded
 * moments one is killed with SIGKILL, or stopped politely and so makes the group share anew; either comes back. At the end
 * the ids in both journals are those that were written: each once.
 */
export interface KillKafkaResult {
  readonly kills: number
  readonly stops: number
  readonly written: number
  readonly stored: number
  readonly twice: number
  readonly missing: number
  /** Rows that each of the two stored. */
  readonly shares: readonly number[]
}

export interface KillKafkaOptions {
  readonly broker: KafkaBroker
  readonly dir: string
  readonly seed: number
  readonly kills: number
  readonly stops: number
  readonly driver: KafkaDriverName
  /** Values per second. */
  readonly rate?: number
  readonly onRound?: (text: string) => void
}

const WORKER = join(import.meta.dirname, 'kafka-worker.ts')
const PARTITIONS = 4
const DRAIN_MS = 120_000

export async function killKafka(options: KillKafkaOptions): Promise<KillKafkaResult> {
  const { broker, dir, seed, kills, stops, driver, rate = 200, onRound = () => {} } = options
  const random = seededRandom(seed)
  const topic = `ids-${seed}-${Date.now()}`
  await broker.createTopic(topic, PARTITIONS)
  const given = { brokers: [broker.address], group: `group-${topic}`, topics: [topic], driver }
  const consumers = [new Consumer(join(dir, 'a'), given), new Consumer(join(dir, 'b'), given)]
  const writing = new Writing(broker, topic, rate, random)
  try {
    await Promise.all(consumers.map((consumer) => consumer.start()))
    // Each has its share before the first fault.
    await Promise.all(consumers.map((consumer) => consumer.stored))
    const faults = [...Array<'kill'>(kills).fill('kill'), ...Array<'stop'>(stops).fill('stop')]
    for (let k = faults.length - 1; k > 0; k--) {
      const other = Math.floor(random() * (k + 1))
      const one = faults[k]!
      faults[k] = faults[other]!
      faults[other] = one
    }
    for (const [k, fault] of faults.entries()) {
      await sleep(200 + random() * 1500)
      const consumer = consumers[random() < 0.5 ? 0 : 1]!
      if (fault === 'kill') await consumer.kill()
      else await consumer.stop()
      // Sometimes back at once, sometimes after the group has given its partitions away.
      await sleep(random() < 0.5 ? random() * 200 : random() * 4000)
      await consumer.start()
      onRound(`${k + 1}/${faults.length} ${fault}, ${writing.count} records`)
    }
    await writing.stop()
    const until = Date.now() + DRAIN_MS
    while (Date.now() < until && (await broker.lag(given.group, topic)) > 0) await sleep(300)
    await Promise.all(consumers.map((consumer) => consumer.stop()))
    const ids = await idsOf(consumers)
    return { kills, stops, written: writing.ids, ...compare(ids, writing.ids) }
  } finally {
    await writing.stop().catch(() => {})
    for (const consumer of consumers) await consumer.kill()
  }
}

function compare(ids: readonly (readonly string[])[], written: number) {
  const seen = new Map<string, number>()
  for (const id of ids.flat()) seen.set(id, (seen.get(id) ?? 0) + 1)
  let twice = 0
  for (const count of seen.values()) twice += count - 1
  let missing = 0
  for (let k = 0; k < written; k++) if (!seen.has(`id-${k}`)) missing++
  const shares = ids.map((one) => one.length)
  return { stored: shares.reduce((sum, n) => sum + n, 0), twice, missing, shares }
}

/** Values of one to many lines, the longest longer than a builder. */
class Writing {
  ids = 0
  count = 0
  #on = true
  readonly #done: Promise<void>

  constructor(broker: KafkaBroker, topic: string, rate: number, random: () => number) {
    this.#done = (async () => {
      while (this.#on) {
        const messages = Array.from({ length: Math.ceil(rate / 20) }, () => {
          const lines = random() < 0.01 ? 1000 : 1 + Math.floor(random() * 5)
          const value = Array.from({ length: lines }, () => `{"id":"id-${this.ids++}"}`).join('\n')
          return { value, partition: Math.floor(random() * PARTITIONS) }
        })
        // Poison, now and then: it must stop nothing.
        if (random() < 0.1) messages.push({ value: 'not a line of ours', partition: 0 })
        this.count += messages.length
        await broker.send(topic, messages)
        await sleep(50)
      }
    })()
  }

  async stop(): Promise<void> {
    this.#on = false
    await this.#done
  }
}

class Consumer {
  readonly dir: string
  readonly #given: object
  #child: ChildProcess | null = null
  readonly #stored = Promise.withResolvers<void>()

  /** Resolves when it first has stored something. */
  get stored(): Promise<void> {
    return this.#stored.promise
  }

  constructor(dir: string, given: object) {
    this.dir = dir
    this.#given = given
  }

  async start(): Promise<void> {
    const child = spawn(process.execPath, [WORKER, JSON.stringify({ ...this.#given, dir: this.dir })], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    this.#child = child
    await new Promise<void>((resolve, reject) => {
      child.once('exit', (code) => reject(new Error(`the consumer ended with code ${code}`)))
      let said = ''
      child.stdout!.on('data', (text) => {
        said += text
        resolve()
        if (said.includes('stored')) this.#stored.resolve()
      })
    })
  }

  kill(): Promise<void> {
    return this.#end('SIGKILL')
  }

  stop(): Promise<void> {
    return this.#end('SIGTERM')
  }

  async #end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const child = this.#child
    this.#child = null
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    child.removeAllListeners('exit')
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill(signal)
    await ended
  }
}

async function idsOf(consumers: readonly Consumer[]): Promise<string[][]> {
  const all: string[][] = []
  for (const { dir } of consumers) all.push(await idsIn(dir))
  return all
}

/** Request ids of every row in the journal of a consumer that does not run. */
export async function idsIn(dir: string): Promise<string[]> {
  const limits = { segmentBytesMax: 1 << 30, segmentRowsMax: 1e9, segmentAgeMsMax: 1e9, diskBytesMax: 2 ** 40 }
  const journal = await openJournal({ dir: join(dir, 'journal'), worker: 0, limits, keepAfterAckMs: 1e9 })
  journal.reader('nobody')
  const ids: string[] = []
  try {
    for (const segment of journal.segments()) {
      for (const { table, file } of segment.tables) {
        if (table !== 'requests') continue
        for (const { rows } of readBlocks([readFileSync(file)])) {
          for (const row of rows) ids.push(String(row.request_text))
        }
      }
    }
  } finally {
    await journal.stop(AbortSignal.timeout(5000))
  }
  return ids
}
