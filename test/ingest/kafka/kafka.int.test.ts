import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import kafkajs from 'kafkajs'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { KAFKA_DRIVERS } from '../../../src/ingest/kafka/driver.ts'
import { type KafkaBroker, startKafka } from '../../support/kafka.ts'
import { startKafkaWorker } from '../../support/kafka-worker.ts'
import { idsIn, killKafka } from '../../support/kill-kafka.ts'

let broker: KafkaBroker

beforeAll(async () => {
  broker = await startKafka()
}, 120_000)
afterAll(() => broker?.stop())

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-kafka-test-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

const line = (id: string): string => `{"id":"${id}"}`
const sorted = (ids: readonly string[]): string[] => [...ids].sort()

test.each(KAFKA_DRIVERS)(
  '%s: every codec, tombstones and poison; a second life begins behind the first',
  async (driver) => {
    const topic = `codecs-${driver}`
    await broker.createTopic(topic, 2)
    const given = { dir: folder(), brokers: [broker.address], group: `g-${driver}`, topics: [topic], driver }
    const first = await startKafkaWorker(given)
    const { None, GZIP, Snappy, LZ4, ZSTD } = kafkajs.CompressionTypes
    const codecs = { none: None, gzip: GZIP, snappy: Snappy, lz4: LZ4, zstd: ZSTD }
    const sent: string[] = []
    for (const [name, codec] of Object.entries(codecs)) {
      const ids = Array.from({ length: 200 }, (_, k) => `${name}-${k}`)
      sent.push(...ids)
      const messages = ids.map((id, k) => ({ value: line(id), partition: k % 2 }))
      await broker.send(topic, [...messages, { value: 'poison', partition: 0 }, { value: null, partition: 1 }], codec)
    }
    await expect.poll(() => first.receiver.counters.rows, { timeout: 15_000 }).toBe(1000)
    await expect.poll(() => broker.lag(given.group, topic), { timeout: 5000 }).toBe(0)
    expect(first.receiver.counters).toMatchObject({ records: 1010, tombstones: 5, fenced: 0 })
    expect([...first.receiver.counters.rejected]).toEqual([['unmatched', 5]])
    await first.stop()
    await first.stop()
    await broker.send(topic, [{ value: line('later'), partition: 1 }])
    const second = await startKafkaWorker(given)
    await expect.poll(() => second.receiver.counters.rows, { timeout: 15_000 }).toBe(1)
    await second.stop()
    expect(sorted(await idsIn(given.dir))).toEqual(sorted([...sent, 'later']))
  },
  60_000,
)

test.each(KAFKA_DRIVERS)(
  '%s: two consumers, killed and stopped at seeded moments: every line once',
  async (driver) => {
    const result = await killKafka({ broker, dir: folder(), seed: 7, kills: 2, stops: 1, driver })
    expect(result).toMatchObject({ twice: 0, missing: 0 })
    expect(result.stored).toBe(result.written)
    expect(Math.min(...result.shares)).toBeGreaterThan(0)
  },
  90_000,
)
