import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '../src/lib/clock.ts'
import { createDelivery } from '../src/pipeline/delivery.ts'
import { silentLog } from '../src/telemetry/log.ts'
import { openMetricsLane } from '../test/support/metrics-lane.ts'
import { type Cpu, openBenchStore } from './support/bench-store.ts'

/**
 * What stats cost from the call of a receiver until no merge runs any more: CPU µs per value of our process and of the
 * store's, and bytes per value on disk. Counters of which a third changes, as an Envoy's do, and one histogram in twenty
 * series. The receiver itself is not in it: see `bench/scrape.ts` and `bench/statsd.ts`.
 *
 *     node bench/metrics.ts [--nodes 50] [--series 1000] [--rounds 20] [--kind set|add]
 */
const argument = (name: string, fallback: string): string => {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : process.argv[at + 1]!
}
const nodes = Number(argument('nodes', '50'))
const perNode = Number(argument('series', '1000'))
const rounds = Number(argument('rounds', '20'))
const kind = argument('kind', 'set')
const round = (value: number, digits = 3): number => Number(value.toFixed(digits))
const signal = new AbortController().signal
const EVERY_MS = 15_000
const BOUNDS = [0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000]

const bench = await openBenchStore('metrics', { keysMax: 1000 })
const { dir, sink, cpu } = bench
try {
  const opened = await openMetricsLane(join(dir, 'journal'), { ageMs: 1000, rows: 262_144, diskBytes: 4 * 2 ** 30 })
  const delivery = createDelivery({ sink, journal: opened.journal, clock: systemClock, log: silentLog })
  await opened.start()
  await delivery.start()

  const { metrics } = opened
  const series = Array.from({ length: nodes * perNode }, (_, k) =>
    metrics.series({
      job: 'envoy-scrape',
      instance: `sidecar~10.0.0.${k % nodes}~pod-${k % nodes}.default`,
      name: `envoy_cluster_stat_${Math.floor(k / nodes) % 250}`,
      labels: [['envoy_cluster_name', `outbound|80||svc-${Math.floor(k / nodes / 250)}.default.svc.cluster.local`]],
      type: Math.floor(k / nodes) % 20 === 0 ? 'histogram' : 'counter',
    }),
  )
  const fromMs = Date.now() - rounds * EVERY_MS
  const counts = new Float64Array(BOUNDS.length + 1)
  const before = await cpu()
  for (let n = 0; n < rounds; n++) {
    const timeMs = fromMs + n * EVERY_MS
    for (let k = 0; k < series.length; k++) {
      const one = series[k]!
      if (one.type === 'histogram') {
        counts.fill(n)
        metrics.distribution(one, timeMs, {
          kind: 'explicit',
          temporality: 'cumulative',
          bounds: BOUNDS,
          counts,
          sum: n,
        })
      } else if (kind === 'add') metrics.addCounter(one, timeMs, k % 3 === 0 ? 1 : 0)
      else metrics.setCounter(one, timeMs, k % 3 === 0 ? n * k : k)
    }
    await metrics.synced()
  }
  const ingested = await cpu()
  await opened.stop()
  while (delivery.backlog().segments > 0) await sleep(20)
  const stored = await cpu()
  await bench.quiet()
  const merged = await cpu()
  await delivery.stop(AbortSignal.timeout(10_000))
  await opened.journal.stop(signal)
  const values = metrics.counters.samples + metrics.counters.histograms
  const found = (await count('samples')) + (await count('histograms'))
  if (found !== values) throw new Error(`${values} values written, ${found} found`)
  const parts = await bench.rows<{ table: string; bytes: number; rows: number }>(
    `SELECT table, sum(p.bytes_on_disk) AS bytes, sum(p.rows) AS rows FROM system.parts AS p
      WHERE active AND database = 'bench' AND table IN ('series', 'samples', 'histograms') GROUP BY table`,
  )
  const micros = (from: Cpu, to: Cpu, of: keyof Cpu) => round(((to[of] - from[of]) * 1000) / values)
  console.log(
    JSON.stringify({
      bench: 'metrics',
      kind,
      series: series.length,
      values,
      histograms: metrics.counters.histograms,
      cpuMicrosPerValue: {
        own: micros(before, stored, 'own'),
        store: micros(before, stored, 'store'),
        mergingAfterwards: micros(stored, merged, 'store'),
        whole: round(micros(before, stored, 'own') + micros(before, merged, 'store')),
        ingestAlone: micros(before, ingested, 'own'),
      },
      diskBytesPerRow: Object.fromEntries(parts.map(({ table, bytes, rows }) => [table, round(bytes / rows, 2)])),
      rssMb: Math.round(process.memoryUsage.rss() / 1e6),
    }),
  )
} finally {
  await bench.close()
}
process.exit(0)

async function count(table: string): Promise<number> {
  return Number((await bench.rows<{ n: number }>(`SELECT count() AS n FROM ${table}`))[0]!.n)
}
