import { parseArgs } from 'node:util'
import { compareWays } from '../support/compare-ways.ts'

/** The same requests by every way that one Envoy has to tell them: `node test/campaign/everything.ts [--count 5000] [--seed 1]`. */
const { values } = parseArgs({
  options: { count: { type: 'string', default: '5000' }, seed: { type: 'string', default: '1' } },
})
const [count, seed] = [Number(values.count), Number(values.seed)]
const result = await compareWays({ count, seed })
console.log(JSON.stringify({ campaign: 'everything', seed, ...result }, null, 1))
process.exitCode = result.differences.length === 0 ? 0 : 1
