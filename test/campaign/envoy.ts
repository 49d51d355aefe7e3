import { parseArgs } from 'node:util'
import { compareWithEnvoy } from '../support/compare-envoy.ts'
import { startSidecast } from '../support/sidecast.ts'

/** A real Envoy through all faults of the rig, row for row: `node test/campaign/envoy.ts [--count 20000] [--seed 1]`. */
const { values } = parseArgs({
  options: { count: { type: 'string', default: '20000' }, seed: { type: 'string', default: '1' } },
})
const sidecast = await startSidecast()
try {
  const result = await compareWithEnvoy(sidecast, { count: Number(values.count), seed: Number(values.seed) })
  console.log(JSON.stringify({ campaign: 'envoy', seed: Number(values.seed), ...result }, null, 1))
  process.exitCode = result.differences.length === 0 ? 0 : 1
} finally {
  await sidecast.close()
}
