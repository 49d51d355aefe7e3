import { parseArgs } from 'node:util'
import { killMain } from '../support/kill-main.ts'

/** `node test/campaign/kill-main.ts [--kills 300] [--seed 1] [--rate 10000]`: see `test/support/kill-main.ts`. */
const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '300' },
    seed: { type: 'string', default: '1' },
    rate: { type: 'string', default: '10000' },
  },
})
const result = await killMain({
  kills: Number(values.kills),
  seed: Number(values.seed),
  rate: Number(values.rate),
  onRound: (round, startMs, sent) => console.error(`round ${round}: ready in ${Math.round(startMs)} ms, ${sent} sent`),
})
console.log(JSON.stringify({ campaign: 'kill-main', ...result }, null, 1))
process.exitCode = result.differences.length === 0 ? 0 : 1
