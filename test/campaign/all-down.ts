import { parseArgs } from 'node:util'
import { allDown } from '../support/all-down.ts'

/** `node test/campaign/all-down.ts [--seconds 600] [--rate 50000]`: store and all adapters' targets are away, then come back. */
const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '600' }, rate: { type: 'string', default: '50000' } },
})
const result = await allDown({ seconds: Number(values.seconds), rate: Number(values.rate) })
console.log(JSON.stringify({ campaign: 'all-down', ...result }))
process.exit(0)
