import { parseArgs } from 'node:util'
import { fullDisk, stoppedStore } from '../support/outages.ts'

/** `node test/campaign/outages.ts [--seconds 60] [--rate 20000]`: the store stands still; the disk fills up. */
const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '60' }, rate: { type: 'string', default: '20000' } },
})
const stopped = await stoppedStore({ seconds: Number(values.seconds), rate: Number(values.rate) })
console.log(JSON.stringify({ campaign: 'stopped-store', ...stopped }))
const disk = await fullDisk({ rate: Number(values.rate) / 4 })
console.log(JSON.stringify({ campaign: 'full-disk', ...disk }))
process.exit(0)
