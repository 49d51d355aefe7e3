import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KAFKA_DRIVERS } from '../../src/kafka/driver.ts'
import { startKafka } from '../support/kafka.ts'
import { killKafka } from '../support/kill-kafka.ts'

/**
 * `node test/campaign/kill-kafka.ts [kills=30] [stops=20] [seed] [driver]`: two consumers of one group on a real broker,
 * killed and stopped at seeded moments; every line is stored once. Prints JSON; exits 1 when one is missing or twice.
 */
const kills = Number(process.argv[2] ?? 30)
const stops = Number(process.argv[3] ?? 20)
const seed = Number(process.argv[4] ?? Math.floor(Math.random() * 1e6))
const driver = KAFKA_DRIVERS.find((name) => name === process.argv[5]) ?? 'platformatic'
const dir = mkdtempSync(join(tmpdir(), 'sidecast-kafka-campaign-'))
const broker = await startKafka()
try {
  const onRound = (text: string) => process.stderr.write(`${text}\n`)
  const result = await killKafka({ broker, dir, seed, kills, stops, driver, onRound })
  process.stdout.write(`${JSON.stringify({ campaign: 'kill-kafka', seed, driver, ...result })}\n`)
  if (result.twice > 0 || result.missing > 0 || result.stored !== result.written) process.exitCode = 1
} finally {
  await broker.stop()
  rmSync(dir, { recursive: true, force: true })
}
