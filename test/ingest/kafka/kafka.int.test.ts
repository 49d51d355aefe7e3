import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import kafkajs from 'kafkajs'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { KAFKA_DRIVERS } from '../../../src/kafka/driver.ts'
import { type KafkaBroker, startKafka } from '../../support/kafka.ts'
import { startKafkaWorker } from '../../support/kafka-worker.ts'
import { idsIn, killKafka } from '../../support/kill-kafka.ts'
import { type ContractWorld, receiverContract } from '../../support/receiver-contract.ts'
import { startSidecast } from '../../support/sidecast.ts'

let broker: KafkaBroker

beforeAll(async () => {
  broker = await startKafka()
})
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
    await expect.poll(() => first.receiver.counters.rows, { timeout: 60_000 }).toBe(1000)
    await expect.poll(() => broker.lag(given.group, topic), { timeout: 60_000 }).toBe(0)
    expect(first.receiver.counters).toMatchObject({ records: 1010, tombstones: 5, fenced: 0 })
    expect([...first.receiver.counters.rejected]).toEqual([['unmatched', 5]])
    await first.stop()
    await first.stop()
    await broker.send(topic, [{ value: line('later'), partition: 1 }])
    const second = await startKafkaWorker(given)
    await expect.poll(() => second.receiver.counters.rows, { timeout: 60_000 }).toBe(1)
    await second.stop()
    expect(sorted(await idsIn(given.dir))).toEqual(sorted([...sent, 'later']))
  },
)

test.each(KAFKA_DRIVERS)('%s: two consumers, killed and stopped at seeded moments: every line once', async (driver) => {
  const result = await killKafka({ broker, dir: folder(), seed: 7, kills: 2, stops: 1, driver })
  expect(result).toMatchObject({ twice: 0, missing: 0 })
  expect(result.stored).toBe(result.written)
  expect(Math.min(...result.shares)).toBeGreaterThan(0)
})

const topicOf = ({ dir }: ContractWorld): string => `contract-${basename(dir)}`

receiverContract('Kafka', {
  name: 'kafka contract',
  async options(world) {
    await broker.createTopic(topicOf(world), 1)
    const source = { brokers: [broker.address], topics: [topicOf(world)], group: 'contract', session: '3s' }
    return [`ingest.kafka=${JSON.stringify([{ ...source, encoding: 'text', preset: 'envoy-text' }])}`]
  },
  metrics: {
    taken: 'sidecast_kafka_rows_total{group="contract"}',
    rejected: 'sidecast_kafka_rejected_total{group="contract",reason="unmatched"}',
  },
  problem: /^unmatched from kafka:contract-\S+$/,
  makes: 'rows',
  connect(_, world) {
    const send = (value: string): Promise<void> => broker.send(topicOf(world), [{ value }])
    const logged = (name: string): string =>
      `[2026-11-21T11:59:58.000Z] "GET /${name} HTTP/1.1" 200 - 0 3 12 11 "-" "curl/8.5.0" "id-1" "shop" "10.0.0.7:80"`
    return {
      async good(names) {
        await send(names.map(logged).join('\n'))
        return false
      },
      bad: () => send('nothing that a proxy logs'),
      close() {},
    }
  },
})

test('a whole Sidecast reads lines, OTLP and ALS messages from topics, and answers with their rows', async () => {
  const topics = ['e2e-json', 'e2e-otlp', 'e2e-als']
  for (const topic of topics) await broker.createTopic(topic, 1)
  const start = new Date(Date.now() - 5000).toISOString()
  const lines = Array.from({ length: 50 }, (_, k) =>
    JSON.stringify({
      start_time: start,
      method: 'GET',
      path: `/json/${k}`,
      response_code: 200,
      duration: 5,
      protocol: 'HTTP/1.1',
    }),
  )
  await broker.send('e2e-json', [
    { value: lines.slice(0, 30).join('\n') },
    ...lines.slice(30).map((value) => ({ value })),
  ])
  const attribute = (key: string, stringValue: string) => ({ key, value: { stringValue } })
  const log = {
    timeUnixNano: `${Date.now()}000000`,
    attributes: [
      attribute('http.request.method', 'GET'),
      attribute('url.path', '/otlp'),
      attribute('http.response.status_code', '503'),
    ],
  }
  await broker.send('e2e-otlp', [
    { value: JSON.stringify({ resourceLogs: [{ scopeLogs: [{ logRecords: [log, log] }] }] }) },
  ])
  // The first message of a stream says whose it is: four bytes of length, then the message.
  const recorded = readFileSync(new URL('../../fixtures/als/als-http.bin', import.meta.url))
  await broker.send('e2e-als', [{ value: recorded.subarray(4, 4 + recorded.readUInt32LE(0)) }])

  const source = (encoding: string, topic: string) => ({
    brokers: [broker.address],
    topics: [topic],
    group: `e2e-${encoding}`,
    encoding,
  })
  const config = [source('json', 'e2e-json'), source('otlp', 'e2e-otlp'), source('als', 'e2e-als')]
  const sidecast = await startSidecast({ set: [`ingest.kafka=${JSON.stringify(config)}`] })
  onTestFinished(() => sidecast.close())
  type Rows = { rows: { path: string; source: string; node_id: string; response_code: number }[] }
  const rowsOf = async (where: string) => {
    const query = new URLSearchParams({ from: '-1h', to: 'now', where, limit: '1000', view: 'all' })
    return (await sidecast.get<Rows>(`/api/v1/requests?${query}`)).rows
  }
  await expect.poll(async () => (await rowsOf('node_id=kafka:e2e-json')).length, { timeout: 60_000 }).toBe(50)
  const json = await rowsOf('node_id=kafka:e2e-json')
  expect(new Set(json.map(({ path }) => path)).size).toBe(50)
  expect(json[0]).toMatchObject({ source: 'kafka', response_code: 200 })
  await expect.poll(async () => (await rowsOf('path=/otlp')).length, { timeout: 60_000 }).toBe(2)
  expect((await rowsOf('path=/otlp'))[0]).toMatchObject({ source: 'kafka', response_code: 503 })
  // Recorded long ago: no window of the API reaches there, but the ledger counts them.
  const received = async (): Promise<number> => {
    const { rows } = await sidecast.get<{ rows: { node: string; received: number }[] }>('/api/v1/ledger')
    return rows.find(({ node }) => node === 'edge-1')?.received ?? 0
  }
  await expect.poll(received, { timeout: 60_000 }).toBeGreaterThan(0)
  const metrics = await (await fetch(`http://${sidecast.http}/metrics`)).text()
  expect(metrics).toMatch(/^sidecast_kafka_rows_total\{group="e2e-json"\} 50$/m)
  expect(metrics).toMatch(/^sidecast_kafka_lag_records\{group="e2e-otlp"\} 0$/m)
})
