import { copyFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { openKafkaOut } from '../../../src/adapters/kafka/open.ts'
import { requireConfig } from '../../../src/config.ts'
import { kafkaConnection } from '../../../src/kafka/connection.ts'
import { KAFKA_DRIVERS, type KafkaDriver, type KafkaDriverName } from '../../../src/kafka/driver.ts'
import { createKafkaDriver } from '../../../src/kafka/drivers.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { type CertificateName, type Certificates, makeCertificates } from '../../support/certificates.ts'
import { type KafkaBroker, startKafka } from '../../support/kafka.ts'
import { openRequestsRig, type RequestsRig } from '../../support/requests-rig.ts'

// A real broker that asks who comes, by certificate on one listener and by password on another.

const USER = 'sidecast'
const PASSWORD = 'correct horse'

let certificates: Certificates
let broker: KafkaBroker
beforeAll(async () => {
  certificates = makeCertificates()
  const { cert, key } = certificates.pair('server')
  const keystore = certificates.path('broker-keystore.pem')
  writeFileSync(keystore, Buffer.concat([certificates.read(key), certificates.read(cert)]))
  const secure = { keystore, truststore: certificates.ca, user: USER, password: PASSWORD }
  broker = await startKafka({ secure })
})
afterAll(async () => {
  await broker?.stop()
  certificates?.remove()
})

/** Files that a configuration names, and what lies in them now. */
function ownFiles(name: string) {
  const [cert, key, ca] = ['pem', 'key', 'ca'].map((end) => certificates.path(`${name}.own.${end}`)) as [
    string,
    string,
    string,
  ]
  return {
    cert,
    key,
    ca,
    put(certificate: CertificateName) {
      const from = certificates.pair(certificate)
      copyFileSync(from.cert, cert)
      copyFileSync(from.key, key)
    },
    trust: (authority: 'ca' | 'other-ca') => copyFileSync(certificates.path(`${authority}.pem`), ca),
  }
}

let topics = 0

async function openEdge(rig: RequestsRig, prefix: string, more: Readonly<Record<string, unknown>>) {
  const set = Object.entries({ topicPrefix: prefix, encoding: 'json', 'create.partitions': 1, ...more })
  const { config } = requireConfig({
    set: set.map(([key, value]) => `adapters.kafka.${key}=${JSON.stringify(value)}`),
    env: {},
  })
  const shared = {
    journal: rig.journal,
    clock: systemClock,
    log: silentLog,
    data: rig.dir,
    host: 'e',
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

/** Reads a topic for as long as the test goes on. */
async function openReader(driver: KafkaDriverName, topic: string, address: string, more: object) {
  const connection = kafkaConnection(
    { brokers: [address], tls: { enabled: false }, sasl: { mechanism: '', username: '', password: '' }, ...more },
    'ingest.kafka[0]',
  )
  const ids: string[] = []
  const reader: KafkaDriver = createKafkaDriver(driver, {
    ...connection,
    clientId: 'sidecast-test-reader',
    group: `read-${topic}`,
    topics: [topic],
    from: 'earliest',
    sessionMs: 6000,
    fetchBytesMax: 1 << 20,
    fetchWaitMs: 100,
    log: silentLog,
  })
  const handlers = {
    begin: async (partitions: readonly { topic: string; partition: number }[]) => {
      const committed = await reader.committed(`read-${topic}`, [topic])
      return partitions.map((at) => ({ ...at, at: committed[0]?.offset ?? null }))
    },
    async records(batches: Parameters<Parameters<KafkaDriver['start']>[0]['records']>[0]) {
      for (const { records } of batches) {
        for (const { value } of records) ids.push((JSON.parse(String(value)) as { request_id: string }).request_id)
      }
      const done = batches.map(({ topic, partition, nextOffset }) => ({
        topic,
        partition,
        offset: nextOffset,
        metadata: '',
      }))
      return (await reader.commit(done)) === 'ok'
    },
    revoked() {},
  }
  onTestFinished(async () => {
    await reader.leave()
    await reader.close()
  })
  return { ids, reader, start: () => reader.start(handlers) }
}

async function until(what: () => boolean, why: () => unknown): Promise<void> {
  for (const end = Date.now() + 60_000; !what(); await sleep(50)) {
    if (Date.now() > end) throw new Error(`still not: ${JSON.stringify(why())}`)
  }
}

describe.each(KAFKA_DRIVERS)('%s', (driver) => {
  test('certificates of the wrong authority are refused and counted; replaced under way, nothing is lost', async () => {
    const rig = await openRequestsRig()
    const prefix = `tls${++topics}-${driver}.`
    const topic = `${prefix}requests`
    await broker.createTopic(topic, 1)
    const files = ownFiles(`edge-${driver}`)
    files.put('stranger')
    files.trust('ca')
    const tls = { enabled: true, ca: files.ca, cert: files.cert, key: files.key }
    const adapter = await openEdge(rig, prefix, { driver, brokers: [broker.tls], tls })
    const figures = adapter.counters!
    const { ids, reader, start } = await openReader(driver, topic, broker.tls, { tls })
    await rig.seal(50)
    await until(() => figures().refused_tls_total! >= 1, figures)
    await expect(start()).rejects.toThrow()
    expect(adapter.deliveries[0]!.account()).toMatchObject({ delivered: 0, held: 50 })

    // The same paths, the same process.
    files.put('client')
    await until(() => adapter.deliveries[0]!.account().delivered === 50, figures)
    for (;;) {
      try {
        await start()
        break
      } catch {
        await sleep(500)
      }
    }
    await until(
      () => ids.length >= 50,
      () => [...reader.errors],
    )

    // Replaced while rows come, and no connection survives.
    const { failures_total: before } = figures()
    files.put('renewed')
    for (let k = 0; k < 10; k++) {
      await rig.seal(20)
      if (k === 3) void broker.restart('SIGKILL')
      await sleep(100)
    }
    await until(
      () => adapter.deliveries[0]!.account().delivered === rig.added,
      () => ({ before, ...figures() }),
    )
    await until(
      () => new Set(ids).size >= rig.added,
      () => [ids.length, ...reader.errors],
    )
    expect(new Set(ids).size).toBe(rig.added)
  })

  test('a broker of an authority that is not trusted gets nothing', async () => {
    const rig = await openRequestsRig()
    const files = ownFiles(`wary-${driver}`)
    files.put('client')
    files.trust('other-ca')
    const tls = { enabled: true, ca: files.ca, cert: files.cert, key: files.key }
    const adapter = await openEdge(rig, `tls${++topics}.`, { driver, brokers: [broker.tls], tls })
    await rig.seal(10)
    await until(() => adapter.counters!().refused_tls_total! >= 1, adapter.counters!)
    expect(adapter.deliveries[0]!.account()).toMatchObject({ delivered: 0, held: 10 })
  })

  test.each(['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'])(
    '%s: in and out; a wrong password is refused',
    async (mechanism) => {
      const rig = await openRequestsRig()
      const prefix = `sasl${++topics}-${driver}.`
      const topic = `${prefix}requests`
      const tls = { enabled: true, ca: certificates.ca }
      const sasl = { mechanism, username: USER, password: PASSWORD }
      const adapter = await openEdge(rig, prefix, { driver, brokers: [broker.sasl], tls, sasl })
      await rig.seal(20)
      await until(() => adapter.deliveries[0]!.account().delivered === 20, adapter.counters!)
      const { ids, reader, start } = await openReader(driver, topic, broker.sasl, { tls, sasl })
      await start()
      await until(
        () => ids.length >= 20,
        () => [...reader.errors],
      )
      expect(adapter.counters!()).toMatchObject({ refused_sasl_total: 0 })

      const wrong = await openRequestsRig()
      const other = await openEdge(wrong, prefix, {
        driver,
        brokers: [broker.sasl],
        tls,
        sasl: { ...sasl, password: 'battery' },
      })
      await wrong.seal(5)
      await until(() => other.counters!().refused_sasl_total! >= 1, other.counters!)
      expect(other.deliveries[0]!.account()).toMatchObject({ delivered: 0, held: 5 })
    },
  )
})
