import { createPrometheusAdapter } from '../src/adapters/prometheus/adapter.ts'
import { nativeCodeOf } from '../src/adapters/prometheus/native.ts'
import { systemClock } from '../src/lib/clock.ts'
import { normal, seededRandom } from '../src/lib/random.ts'
import type { Batch } from '../src/model/batch.ts'
import { codeOf, Histogram, RELATIVE_ERROR_MAX, rankOf } from '../src/model/histogram.ts'
import { createRollup } from '../src/pipeline/rollup.ts'
import { batchOf, identity, party, type Row } from '../test/support/batch.ts'
import { DISTRIBUTIONS, drawDistribution } from '../test/support/distributions.ts'

/**
 * How exact the histogram is, and what histograms cost.
 *
 *     node bench/histogram.ts [values per distribution] [seed]
 *
 * Prints one JSON object:
 *   accuracy   per distribution the worst relative error of p0.1 … p99.99 against nearest rank, in percent, and whether
 *              the true value was inside the bounds every time
 *   ns         of CPU to find one bucket (scale 6 and Prometheus schema 8), and to record one value in a histogram
 *   usPerRow   of CPU for `latency_1m` (adding, and sealing a segment of 196 608 requests) and for Istio's metrics
 *   rollup     rows, buckets and bytes of such a segment per request
 */
const values = Number(process.argv[2] ?? 200_000)
const seed = Number(process.argv[3] ?? 1)
const QUANTILES = [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999]

const accuracy = Object.fromEntries(Object.keys(DISTRIBUTIONS).map((name) => [name, accuracyOf(name)]))
const rollup = rollupCost()
console.log(
  JSON.stringify(
    {
      bench: 'histogram',
      node: process.version,
      values,
      seed,
      boundPercent: round(100 * RELATIVE_ERROR_MAX, 4),
      worstPercent: Math.max(...Object.values(accuracy).map(({ worstPercent }) => worstPercent)),
      alwaysInside: Object.values(accuracy).every(({ inside }) => inside),
      accuracy,
      ns: { codeOf: nsPerCall(codeOf), nativeCodeOf: nsPerCall(nativeCodeOf), record: nsPerRecord() },
      usPerRow: { rollupAdd: rollup.add, rollupSeal: rollup.seal, istioMetrics: istioCost() },
      rollup: rollup.size,
    },
    null,
    1,
  ),
)

function accuracyOf(name: string): { worstPercent: number; inside: boolean } {
  const drawn = drawDistribution(name, values, seed)
  const histogram = new Histogram()
  for (const value of drawn) histogram.record(value)
  const sorted = drawn.toSorted()
  let worst = 0
  let inside = true
  for (const q of QUANTILES) {
    const truth = sorted[rankOf(q, values) - 1]!
    const { value, low, high } = histogram.quantile(q)
    inside &&= low <= truth && truth <= high
    if (truth > 0) worst = Math.max(worst, Math.abs(value - truth) / truth)
  }
  return { worstPercent: round(100 * worst, 4), inside }
}

/** Durations as proxies see them: some milliseconds, a long tail. */
function durations(n: number): Float64Array {
  const random = seededRandom(seed)
  return Float64Array.from({ length: n }, () => Math.ceil(9e6 * Math.exp(1.2 * normal(random))))
}

function nsPerCall(bucketOf: (ns: number) => number): number {
  const drawn = durations(65_536)
  let sum = 0
  return best(() => {
    for (let round = 0; round < 50; round++) for (let k = 0; k < drawn.length; k++) sum += bucketOf(drawn[k]!)
    if (sum === 0) throw new Error('no bucket')
    return 50 * drawn.length
  }, 1e3)
}

function nsPerRecord(): number {
  const drawn = durations(65_536)
  const histogram = new Histogram()
  return best(() => {
    for (let round = 0; round < 20; round++) for (let k = 0; k < drawn.length; k++) histogram.record(drawn[k]!)
    return 20 * drawn.length
  }, 1e3)
}

/** Six batches of 32 768 requests over 400 edges, 180 routes, two methods, with all seven points. */
function batches(): Batch[] {
  const random = seededRandom(seed)
  const identities = Array.from({ length: 400 }, (_, k) =>
    identity({
      reporter: k % 2 ? 'source' : 'destination',
      source: party({ workload: `w${k % 40}`, namespace: 'shop' }),
      destination: party({ service: `s${k % 60}`, workload: `d${k % 60}`, namespace: 'shop', version: 'v1' }),
    }),
  )
  const drawn = durations(6 * 32_768)
  const end = Date.UTC(2026, 0, 1)
  return Array.from({ length: 6 }, (_, b) =>
    batchOf(
      Array.from({ length: 32_768 }, (_, k): Row => {
        const duration = drawn[b * 32_768 + k]!
        const [r, u0, u1, v0, d0, v1, d1] = Array.from({ length: 7 }, () => Math.floor(random() * duration)).toSorted(
          (x, y) => x - y,
        )
        const who = Math.floor(random() * random() * 400)
        return {
          identity: identities[who]!,
          end,
          duration,
          points: [r!, u0!, u1!, v0!, v1!, d0!, d1!],
          route: `route-${who % 60}-${Math.floor(random() * 3)}`,
          method: random() < 0.8 ? 'GET' : 'POST',
          code: random() < 0.95 ? 200 : 503,
          class: random() < 0.95 ? 'success' : 'server_error',
          flags: random() < 0.02 ? 4 : 0,
          received: 300 + Math.floor(random() * 1000),
          sent: Math.floor(random() * 20_000),
        }
      }),
    ),
  )
}

function rollupCost() {
  const all = batches()
  const rollup = createRollup()
  const rows = all.reduce((sum, batch) => sum + batch.rows, 0)
  const adds: number[] = []
  const seals: number[] = []
  const size = { keys: 0, bucketsPerRequest: 0, bytesPerRequest: 0 }
  for (let round = 0; round < 12; round++) {
    const before = { ...rollup.stats }
    adds.push(
      cpuUs(() => {
        for (const batch of all) rollup.add(batch)
      }) / rows,
    )
    seals.push(cpuUs(() => void rollup.seal()) / rows)
    size.keys = rollup.stats.keys - before.keys
    size.bucketsPerRequest = round2((rollup.stats.cells - before.cells) / rows)
    size.bytesPerRequest = round2((rollup.stats.bytes - before.bytes) / rows)
  }
  return { add: round(median(adds), 3), seal: round(median(seals), 3), size }
}

function istioCost(): number {
  const all = batches()
  const adapter = createPrometheusAdapter({ clock: systemClock })
  const rows = all.reduce((sum, batch) => sum + batch.rows, 0)
  const costs = Array.from(
    { length: 12 },
    () =>
      cpuUs(() => {
        for (const batch of all) adapter.take(batch)
      }) / rows,
  )
  return round(median(costs), 3)
}

/** The least of several measurements, in `perUs`-ths of a µs per call. */
function best(run: () => number, perUs: number): number {
  let least = Number.POSITIVE_INFINITY
  for (let k = 0; k < 8; k++) {
    let calls = 1
    const us = cpuUs(() => {
      calls = run()
    })
    least = Math.min(least, (us * perUs) / calls)
  }
  return round(least, 2)
}

function cpuUs(run: () => void): number {
  const before = process.threadCpuUsage()
  run()
  const { user, system } = process.threadCpuUsage(before)
  return user + system
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits))
}

function round2(value: number): number {
  return round(value, 2)
}
