import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import kafkajs from 'kafkajs'
import { KAFKA_DRIVERS } from '../src/kafka/driver.ts'
import { startKafka } from '../test/support/kafka.ts'
import { startKafkaWorker } from '../test/support/kafka-worker.ts'

/**
 * What does a record cost until it is fsynced and committed, by driver? One broker, four partitions, one line of 500 bytes
 * in each record (as shippers send them) or a hundred, uncompressed and zstd. CPU of this process alone, start and join
 * included.
 */
const RECORDS = Number(process.env.RECORDS ?? 100_000)
const PARTITIONS = 4
const BATCH = 2000
const FILL = 'x'.repeat(440)

const broker = await startKafka()
const dir = mkdtempSync(join(tmpdir(), 'sidecast-bench-kafka-'))
const results: object[] = []
try {
  for (const { name, lines, codec } of [
    { name: 'a line in a record', lines: 1, codec: kafkajs.CompressionTypes.None },
    { name: 'a line in a record, zstd', lines: 1, codec: kafkajs.CompressionTypes.ZSTD },
    { name: 'a hundred lines in a record', lines: 100, codec: kafkajs.CompressionTypes.None },
  ]) {
    const topic = `bench-${lines}-${codec}`
    await broker.createTopic(topic, PARTITIONS)
    const records = Math.ceil(RECORDS / lines)
    const batch = Math.ceil(BATCH / lines)
    for (let at = 0; at < records; at += batch) {
      const messages = Array.from({ length: Math.min(batch, records - at) }, (_, k) => {
        const value = Array.from({ length: lines }, (_, n) => `{"id":"${at + k}-${n}-${FILL}"}`).join('\n')
        return { value, partition: (at + k) % PARTITIONS }
      })
      await broker.send(topic, messages, codec)
    }
    // The first pass of each warms up; the second is told, median of three.
    for (const driver of KAFKA_DRIVERS) {
      const passes: { seconds: number; micros: number; batches: number }[] = []
      for (let pass = 0; pass < 4; pass++) {
        const group = `${driver}-${topic}-${pass}`
        const given = { dir: join(dir, group), brokers: [broker.address], group, topics: [topic], driver }
        const [cpu, time] = [process.cpuUsage(), performance.now()]
        const worker = await startKafkaWorker({ ...given, rowsMax: 32_768, fetchBytesMax: 1 << 20 })
        const { counters } = worker.receiver
        while (counters.rows < records * lines) await new Promise((resolve) => setTimeout(resolve, 5))
        const { user, system } = process.cpuUsage(cpu)
        const seconds = (performance.now() - time) / 1000
        passes.push({ seconds, micros: (user + system) / (records * lines), batches: counters.claims })
        await worker.stop()
      }
      const [, ...told] = passes
      const { seconds, micros, batches } = told.sort((x, y) => x.micros - y.micros)[1]!
      const rowsPerSecond = Math.round((records * lines) / seconds)
      results.push({ values: name, driver, rowsPerSecond, cpuMicrosPerRow: Number(micros.toFixed(2)), batches })
    }
  }
  process.stdout.write(`${JSON.stringify({ records: RECORDS, results }, null, 2)}\n`)
} finally {
  await broker.stop()
  rmSync(dir, { recursive: true, force: true })
}
