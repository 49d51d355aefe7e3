import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { openKafkaOut } from '../../../src/adapters/kafka/open.ts'
import { requireConfig } from '../../../src/config.ts'
import {
  KAFKA_DRIVERS,
  type KafkaDriverName,
  type KafkaDriverOptions,
  type KafkaRecord,
} from '../../../src/kafka/driver.ts'
import { createKafkaDriver } from '../../../src/kafka/drivers.ts'
import { COMPRESSIONS } from '../../../src/kafka/producer.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { createTestDatabase, type TestDatabase } from '../../support/clickhouse.ts'
import { type KafkaBroker, startKafka } from '../../support/kafka.ts'
import { startTestWriter, type TestWriter } from '../../support/kafka-writer.ts'
import { openRequestsRig, type RequestsRig } from '../../support/requests-rig.ts'
import { startTestStore, type TestStore } from '../../support/store.ts'

let broker: KafkaBroker
let store: TestStore
beforeAll(async () => {
  ;[broker, store] = await Promise.all([startKafka(), startTestStore({ keep: true })])
})
afterAll(() => Promise.all([broker?.stop(), store?.stop()]))

let topics = 0
const prefixOf = (): string => `t${process.pid}-${++topics}.`

async function openEdge(rig: RequestsRig, prefix: string, more: Readonly<Record<string, unknown>> = {}) {
  const { config } = requireConfig({
    set: [
      `adapters.kafka.brokers=["${broker.address}"]`,
      `adapters.kafka.topicPrefix=${prefix}`,
      'adapters.kafka.create.partitions=2',
      ...Object.entries(more).map(([key, value]) => `adapters.kafka.${key}=${JSON.stringify(value)}`),
    ],
    env: {},
  })
  const shared = {
    journal: rig.journal,
    clock: systemClock,
    log: silentLog,
    data: rig.dir,
    host: 'edge-1',
    version: '0.0.0',
  }
  const adapter = await openKafkaOut(config.adapters.kafka, shared)
  if (adapter === null) throw new Error('not configured')
  for (const stage of adapter.stages) await stage.start()
  onTestFinished(async () => {
    for (const stage of adapter.stages.toReversed()) await stage.stop(AbortSignal.timeout(5000))
  })
  return adapter
}

async function openWriter(database: TestDatabase, prefix: string, driver: KafkaDriverName, group = `g-${prefix}`) {
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-kafka-writer-'))
  const writer = await startTestWriter({
    broker: broker.address,
    topic: `${prefix}segments`,
    group,
    driver,
    dir,
    sink: (spool) => database.sink({ kept: () => spool.kept() }),
  })
  onTestFinished(async () => {
    await writer.stop()
    rmSync(dir, { recursive: true, force: true })
  })
  return writer
}

async function until(what: () => boolean | Promise<boolean>, why: () => unknown): Promise<void> {
  for (const end = Date.now() + 60_000; !(await what()); await sleep(50)) {
    if (Date.now() > end) throw new Error(`still not: ${JSON.stringify(why())}`)
  }
}

const stored = (writer: TestWriter, rows: number) =>
  until(
    () => writer.receiver.counters.storedRows >= rows,
    () => ({ ...writer.receiver.counters, trouble: writer.receiver.trouble }),
  )

const consumerOptions = (topic: string): KafkaDriverOptions => ({
  clientId: 'sidecast-test-reader',
  brokers: [broker.address],
  group: `read-${topic}`,
  topics: [topic],
  from: 'earliest',
  sessionMs: 3000,
  fetchBytesMax: 1 << 20,
  fetchWaitMs: 100,
  headers: true,
  log: silentLog,
})

/** So many records of a topic, as a consumer gets them. */
async function collect(driver: KafkaDriverName, topic: string, count: number) {
  await until(
    async () => (await broker.topics()).includes(topic),
    () => topic,
  )
  const found: (KafkaRecord & { readonly partition: number })[] = []
  const consumer = createKafkaDriver(driver, consumerOptions(topic))
  await consumer.start({
    begin: async (partitions) => partitions.map((at) => ({ ...at, at: null })),
    async records(batches) {
      for (const { records, partition } of batches) {
        for (const record of records) found.push({ ...record, value: Buffer.from(record.value!), partition })
      }
      return true
    },
    revoked() {},
  })
  await until(
    () => found.length >= count,
    () => `${found.length} of ${count}`,
  )
  await consumer.leave()
  await consumer.close()
  expect(found).toHaveLength(count)
  return found
}

async function expectOnce(database: TestDatabase, rig: RequestsRig): Promise<void> {
  const [found] = await database.rows<{ n: number; ids: number }>(
    'SELECT toUInt32(count()) AS n, toUInt32(uniqExact(request_uuid)) AS ids FROM requests',
  )
  expect(found).toEqual({ n: rig.added, ids: rig.added })
  const [rollup] = await database.rows<{ n: number }>('SELECT toUInt32(sum(n)) AS n FROM latency_1m')
  expect(rollup).toEqual({ n: rig.added })
}

describe.each(KAFKA_DRIVERS)('%s', (driver) => {
  test('every row of an edge is in the store once', async () => {
    const rig = await openRequestsRig()
    const prefix = prefixOf()
    const database = await createTestDatabase(store)
    const adapter = await openEdge(rig, prefix, { driver, batchMax: '64 KiB' })
    const writer = await openWriter(database, prefix, driver)
    for (let k = 0; k < 4; k++) await rig.seal(500 * (k + 1))
    await stored(writer, rig.added)
    await expectOnce(database, rig)
    expect(adapter.deliveries[0]!.account()).toMatchObject({ received: 5000, delivered: 5000, held: 0 })
    expect(adapter.counters!()).toMatchObject({ batches_too_large_total: 0 })
    const { counters } = writer.receiver
    expect(counters).toMatchObject({ whole: 4, stored: 4, refused: 0, again: 0, fenced: 0 })
    expect(counters.records).toBeGreaterThan(20)
    await until(
      async () => (await broker.lag(`g-${prefix}`, `${prefix}segments`)) === 0,
      () => 'lag',
    )
  })

  test('a consumer goes on after its group could not begin', async () => {
    const topic = `${prefixOf()}begin`
    await broker.createTopic(topic, 1)
    await broker.send(topic, [{ value: 'one' }, { value: 'two' }])
    const consumer = createKafkaDriver(driver, consumerOptions(topic))
    const found: string[] = []
    let begun = 0
    await consumer.start({
      async begin(partitions) {
        if (++begun === 1) throw new Error('not yet')
        return partitions.map((at) => ({ ...at, at: null }))
      },
      async records(batches) {
        for (const { records } of batches) for (const { value } of records) found.push(String(value))
        return true
      },
      revoked() {},
    })
    await until(
      () => found.length >= 2,
      () => ({ begun, errors: [...consumer.errors] }),
    )
    await consumer.leave()
    await consumer.close()
    expect(found).toEqual(['one', 'two'])
    expect(begun).toBeGreaterThan(1)
  })

  test('rows as JSON by every codec, each once and on the partition of its node', async () => {
    for (const compression of COMPRESSIONS) {
      const rig = await openRequestsRig()
      const prefix = prefixOf()
      const adapter = await openEdge(rig, prefix, { driver, compression, encoding: 'json', where: ['path!=/item/7'] })
      await rig.seal(100)
      const records = await collect(driver, `${prefix}requests`, 99)
      const ids = records.map(({ value }) => (JSON.parse(String(value)) as { request_id: string }).request_id)
      expect(new Set(ids).size).toBe(99)
      expect(new Set(records.map(({ partition }) => partition)).size).toBe(1)
      expect(records[0]!.headers!.get('sidecast-row')).toMatch(/^requests\/\d+$/)
      await until(
        () => adapter.deliveries[0]!.account().delivered === 99,
        () => adapter.deliveries[0]!.account(),
      )
      expect(adapter.deliveries[0]!.account()).toMatchObject({ received: 100, delivered: 99, dropped: 1, held: 0 })
      await rig.stop()
    }
  })

  test('rows as OTLP in the topics that collectors read', async () => {
    const rig = await openRequestsRig()
    const prefix = prefixOf()
    await openEdge(rig, prefix, { driver, encoding: 'otlp' })
    const segment = await rig.seal(100)
    const [spans] = await collect(driver, `${prefix}otlp_spans`, 1)
    const [logs] = await collect(driver, `${prefix}otlp_logs`, 1)
    for (const { headers, value } of [spans!, logs!]) {
      expect(headers!.get('content-type')).toBe('application/x-protobuf')
      expect(headers!.get('sidecast-segment')).toBe(segment.id)
      expect(value!.includes('outbound|80||checkout.shop.svc.cluster.local')).toBe(true)
    }
  })
})
