import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClickHouse } from '../src/adapters/clickhouse/client.ts'
import { migrate } from '../src/adapters/clickhouse/migrations.ts'
import { createClickHouseSink } from '../src/adapters/clickhouse/sink.ts'
import { systemClock } from '../src/lib/clock.ts'
import { createDelivery } from '../src/pipeline/delivery.ts'
import { startStore } from '../src/store/supervisor.ts'
import { silentLog } from '../src/telemetry/log.ts'
import { openMetricsLane } from '../test/support/metrics-lane.ts'

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
const DAY_MS = 86_400_000
const EVERY_MS = 15_000
const BOUNDS = [0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000]

const dir = await mkdtemp(join(tmpdir(), 'sidecast-bench-metrics-'))
const store = await startStore({ dir: join(dir, 'store'), log: silentLog })
const clickhouse = createClickHouse({
  url: () => store.url,
  database: 'bench',
  ...store.credentials.writer,
  log: silentLog,
})
try {
  const retention = { rowsMs: 30 * DAY_MS, minutesMs: 90 * DAY_MS, hoursMs: 900 * DAY_MS, metricsMs: 30 * DAY_MS }
  await migrate({ clickhouse, retention, log: silentLog, signal })
  const opened = await openMetricsLane(join(dir, 'journal'), { ageMs: 1000, rows: 262_144, diskBytes: 4 * 2 ** 30 })
  const sink = createClickHouseSink({
    clickhouse,
    log: silentLog,
    clock: systemClock,
    readsFiles: true,
    retention,
    kept: () => [],
    keysMax: 1000,
  })
  await sink.start()
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
  for (let quiet = 0; quiet < 4; quiet++) {
    while ((await count('SELECT count() AS n FROM system.merges')) > 0) {
      quiet = 0
      await sleep(200)
    }
    await sleep(300)
  }
  const merged = await cpu()
  await delivery.stop(AbortSignal.timeout(10_000))
  await opened.journal.stop(signal)
  const values = metrics.counters.samples + metrics.counters.histograms
  const found = (await count('SELECT count() AS n FROM samples')) + (await count('SELECT count() AS n FROM histograms'))
  if (found !== values) throw new Error(`${values} values written, ${found} found`)
  const { rows: parts } = await clickhouse.query<{ table: string; bytes: number; rows: number }>(
    {
      sql: `SELECT table, sum(p.bytes_on_disk) AS bytes, sum(p.rows) AS rows FROM system.parts AS p
        WHERE active AND database = 'bench' AND table IN ('series', 'samples', 'histograms') GROUP BY table`,
      params: {},
    },
    { signal },
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
  await clickhouse.close()
  await store.stop(AbortSignal.timeout(10_000))
  await rm(dir, { recursive: true, force: true })
}
process.exit(0)

async function count(sql: string): Promise<number> {
  const { rows } = await clickhouse.query<{ n: number }>({ sql, params: {} }, { signal })
  return Number(rows[0]!.n)
}

interface Cpu {
  readonly own: number
  readonly store: number
}

/** CPU ms: utime and stime of proc_pid_stat(5), in ticks of 10 ms, and our own. */
async function cpu(): Promise<Cpu> {
  const text = await readFile(`/proc/${store.pid}/stat`, 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const { user, system } = process.cpuUsage()
  return { store: (Number(fields[11]) + Number(fields[12])) * 10, own: (user + system) / 1000 }
}
