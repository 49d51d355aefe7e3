import { writeSync } from 'node:fs'
import { openMetricsLane } from './metrics-lane.ts'

/**
 * A process to be killed: `node metrics-writer.ts DIR FROM_MS FIRST`. Number n is written at FROM_MS + 10 n to each of some
 * series: as the absolute value n + 1 of counters, as an increase by 1 of one sum, and as an observation of one histogram.
 *
 *   w <n>    n is about to be written
 *   s <n>    everything up to n is on disk
 */
const [dir, from, first] = process.argv.slice(2) as [string, string, string]
const fromMs = Number(from)
const COUNTERS = 20

const say = (line: string): void => {
  writeSync(1, `${line}\n`)
}

const opened = await openMetricsLane(dir)
opened.journal.reader('clickhouse')
await opened.start()
const { metrics } = opened
const of = (name: string, type: 'counter' | 'histogram', k: number) =>
  metrics.series({ job: 'test', instance: `node-${k}`, name, labels: [['k', String(k)]], type })
const counters = Array.from({ length: COUNTERS }, (_, k) => of('absolute_total', 'counter', k))
const sum = of('sum_total', 'counter', 0)
const observed = of('observed', 'histogram', 0)

for (let n = Number(first); ; n++) {
  const timeMs = fromMs + 10 * n
  say(`w ${n}`)
  for (const series of counters) metrics.setCounter(series, timeMs, n + 1)
  metrics.addCounter(sum, timeMs, 1)
  metrics.distribution(observed, timeMs, { kind: 'values', values: [0.25] })
  await metrics.synced()
  say(`s ${n}`)
}
