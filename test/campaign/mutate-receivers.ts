import { parseArgs } from 'node:util'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import {
  MUTATED,
  type Mutated,
  type ReceiverMutationReport,
  runReceiverMutations,
} from '../support/receiver-mutation.ts'

/**
 * Damaged scrape pages, Fluentd messages and syslog streams: no crash, no hang, nothing before the damage lost.
 *
 *     node test/campaign/mutate-receivers.ts [--seed 1] [--count 1000000] [--what text]
 *
 * Prints one JSON line for each; exits 1 and names the seed and the input when something is wrong. A round that takes more than a
 * minute is a hang.
 */
const HANG_MS = 60_000
const ROUND = 10_000

if (isMainThread) {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: '1' },
      count: { type: 'string', default: '1000000' },
      what: { type: 'string', default: '' },
    },
  })
  for (const what of MUTATED) {
    if (values.what !== '' && values.what !== what) continue
    const report = await campaign(what, Number(values.seed), Number(values.count))
    console.log(JSON.stringify(report))
    if (report.failure !== null) process.exitCode = 1
  }
} else {
  const { what, seed, count } = workerData as { what: Mutated; seed: number; count: number }
  for (let done = 0; done < count; done += ROUND) {
    const round = Math.min(ROUND, count - done)
    const report = await runReceiverMutations(what, { seed: seed + done / ROUND, count: round })
    parentPort!.postMessage({ ...report, heapMb: Math.round(process.memoryUsage().heapUsed / 1e6) })
    if (report.failure !== null) break
  }
}

async function campaign(what: Mutated, seed: number, count: number) {
  const began = performance.now()
  const worker = new Worker(new URL(import.meta.url), { workerData: { what, seed, count } })
  const sum = { done: 0, rejected: 0, heapMbMax: 0, failure: null as string | null }
  let lastAt = performance.now()
  const watchdog = setInterval(() => {
    if (performance.now() - lastAt < HANG_MS) return
    sum.failure ??= `hang in the round after ${sum.done} inputs (seed ${seed + sum.done / ROUND})`
    void worker.terminate()
  }, 500)
  worker.on('message', (report: ReceiverMutationReport & { heapMb: number }) => {
    lastAt = performance.now()
    sum.done += report.count
    sum.rejected += report.rejected
    sum.heapMbMax = Math.max(sum.heapMbMax, report.heapMb)
    sum.failure ??= report.failure
  })
  await new Promise<void>((resolve) => {
    worker.on('error', (error) => {
      sum.failure ??= error instanceof Error ? String(error.stack) : String(error)
    })
    worker.on('exit', () => resolve())
  })
  clearInterval(watchdog)
  return { campaign: 'mutate-receivers', what, seed, ...sum, seconds: Math.round((performance.now() - began) / 1000) }
}
