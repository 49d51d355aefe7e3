import { KAFKA_DRIVERS } from '../../src/kafka/driver.ts'
import { startKafka } from '../support/kafka.ts'
import { killRoles } from '../support/kill-roles.ts'

/**
 * `node test/campaign/kill-roles.ts [kills=100] [restarts=20] [seed] [driver] [minutes]`: edge, writer and engine killed, the broker
 * restarted, at seeded moments; every line that the edge answered for is in the store once. Prints JSON; exits 1 when not.
 */
const kills = Number(process.argv[2] ?? 100)
const restarts = Number(process.argv[3] ?? 20)
const seed = Number(process.argv[4] ?? Math.floor(Math.random() * 1e6))
const driver = KAFKA_DRIVERS.find((name) => name === process.argv[5]) ?? 'platformatic'
/** No further faults after this long. */
const minutes = Number(process.argv[6] ?? Number.POSITIVE_INFINITY)
const broker = await startKafka()
try {
  const onFault = (text: string) => process.stderr.write(`${text}\n`)
  const result = await killRoles({ broker, seed, kills, restarts, driver, faultsMsMax: minutes * 60_000, onFault })
  process.stdout.write(`${JSON.stringify({ campaign: 'kill-roles', ...result })}\n`)
  if (result.differences.length > 0) process.exitCode = 1
} finally {
  await broker.stop()
}
