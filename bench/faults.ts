import { parseArgs } from 'node:util'
import { startKafkaTarget } from './faults/kafka-target.ts'
import { createPlan } from './faults/plan.ts'
import { runReal } from './faults/real.ts'
import { createRealPlan } from './faults/real-plan.ts'
import { type RunResult, runWire } from './faults/wire.ts'

/**
 * Seeded faults, and what must hold after each run:
 *
 *   node bench/faults.ts [--runs 100] [--seed 1] [--level wire|real] [--kafka] [--seconds 600] [--verbose]
 *
 * Prints a line of JSON for each run that fails, with the command that repeats it, and one for all at the end; how far it
 * is goes to standard error. An interrupt ends it after the present run.
 */
const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '100' },
    seed: { type: 'string', default: '1' },
    level: { type: 'string', default: 'wire' },
    kafka: { type: 'boolean', default: false },
    seconds: { type: 'string', default: 'Infinity' },
    verbose: { type: 'boolean', default: false },
  },
})
const { level } = values
const kafka = values.kafka ? await startKafkaTarget() : null
const planOf = (seed: number) => (level === 'real' ? createRealPlan(seed, values.kafka) : createPlan(seed))
const run = (seed: number): Promise<RunResult> =>
  level === 'real' ? runReal(createRealPlan(seed, values.kafka), kafka) : runWire(createPlan(seed))
const first = Number(values.seed)
const runs = Number(values.runs)
const began = performance.now()
const total = { written: 0, fsynced: 0, kills: 0, damaged: 0, rowsLost: 0, repeated: 0 }
const failed: number[] = []
let interrupted = false
process.once('SIGINT', () => {
  interrupted = true
})
const inTime = (): boolean => !interrupted && performance.now() - began < Number(values.seconds) * 1000
let done = 0
for (; done < runs && inTime(); done++) {
  const seed = first + done
  const result = await run(seed)
  total.written += result.written
  total.fsynced += result.fsynced
  total.kills += result.kills
  total.damaged += result.damage.length
  total.rowsLost += result.rowsLost
  total.repeated += Object.values(result.repeated).reduce((sum, n) => sum + n, 0)
  const again = `node bench/faults.ts --level ${level}${values.kafka ? ' --kafka' : ''} --runs 1 --seed ${seed} --verbose`
  if (result.differences.length > 0) {
    failed.push(seed)
    console.log(JSON.stringify({ ...result, again, plan: planOf(seed) }))
  }
  if (values.verbose) console.error(JSON.stringify(result))
  else if (done % 25 === 24) console.error(`${done + 1} of ${runs}, up to seed ${seed}; failed: ${failed.length}`)
}
const seconds = Math.round((performance.now() - began) / 1000)
console.log(
  JSON.stringify({
    bench: 'faults',
    level,
    runs: done,
    seeds: [first, first + done - 1],
    seconds,
    ...total,
    failed,
  }),
)
await kafka?.stop()
// Connections that targets hold open would keep it from ending.
process.exit(failed.length === 0 ? 0 : 1)
