import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createPrometheusAdapter } from '../src/adapters/prometheus/adapter.ts'
import { createAlsDecoder } from '../src/ingest/als/decode.ts'
import { createIdentityResolver } from '../src/ingest/als/identity.ts'
import { createOrigins } from '../src/ingest/entry/origins.ts'
import { createEntryWriter } from '../src/ingest/entry/writer.ts'
import { ALLOCATOR_ENV } from '../src/lib/allocator.ts'
import { systemClock } from '../src/lib/clock.ts'
import { seededRandom } from '../src/lib/random.ts'
import { createBatchBuilder } from '../src/model/batch-builder.ts'
import { ROW_TABLES, type RowTable } from '../src/model/schema.ts'
import { createRedaction } from '../src/pipeline/redact.ts'
import { createRollup } from '../src/pipeline/rollup.ts'
import { request } from './support/made-request.ts'

/**
 * Hostile labels: every request of most comes for a service that nobody has seen before, and a few services come again and
 * again. Through decoder, identities, live metrics and rollups as in the product, without a journal. How much more memory
 * that takes than 200 services do, whether totals stay exact, and whether the heaviest of what has no room are named.
 * The allocator is set as in the product, unless MALLOC_ARENA_MAX is.
 *
 *     node bench/cardinality.ts [--values 10000000]
 */
if (process.env.MALLOC_ARENA_MAX === undefined) {
  const { execPath, argv0, execArgv, argv, env } = process
  process.execve!(execPath, [argv0, ...execArgv, ...argv.slice(1)], { ...env, ...ALLOCATOR_ENV })
}
const argument = (name: string, fallback: number): number => {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : Number(process.argv[at + 1])
}
const values = argument('values', 10_000_000)
const SEGMENT_ROWS = 200_000
const PAGE_EVERY = 2_000_000
/** Requests of a mesh as it should be, before memory is looked at: the heap has grown to what such work needs. */
const WARM_ROWS = 2_000_000
/** Share of the requests of each service that comes again, in thousandths. */
const HEAVY = [50, 40, 30, 20, 15, 12, 11, 10]

// As main.ts has it.
setFlagsFromString('--semi-space-growth-factor=1')
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void
/** MB after a collection: what is held, and what the operating system counts, which has freed pages in it. */
function memory(): { live: number; rss: number } {
  collect()
  collect()
  const { heapUsed, external, rss } = process.memoryUsage()
  return { live: (heapUsed + external) / 1e6, rss: rss / 1e6 }
}

const resolver = createIdentityResolver()
const builders = Object.fromEntries(
  ROW_TABLES.map((table) => [
    table,
    createBatchBuilder({ table, rowsMax: table === 'requests' ? 32_768 : 8192, resolver }),
  ]),
) as Record<RowTable, ReturnType<typeof createBatchBuilder>>
// However long it takes, nothing is idle: what expires is no longer on the page, and would be missing from its totals.
const mesh = createPrometheusAdapter({ clock: systemClock, expiryMs: 86_400_000 })
const rollup = createRollup({ keysPerMinuteMax: 50_000, onBlock: (parts) => mesh.takeRollup(parts) })
const flush = (table: RowTable): boolean => {
  if (builders[table].rows === 0) return true
  const batch = builders[table].seal()
  mesh.take(batch)
  rollup.add(batch)
  builders[table].reset()
  return true
}
const decoder = createAlsDecoder({ builders, redaction: createRedaction(), onIdentifier: () => ({}) as never })
const writer = createEntryWriter({ decoder, flush })
const origin = createOrigins().of({
  source: 'als',
  nodeId: 'sidecar~10.0.0.7~web-1.shop~shop.svc.cluster.local',
  precisionNs: 1,
})

let sent = 0
function send(service: string): void {
  const { entry } = writer
  request(entry, sent % 100_000, Date.now())
  const host = `${service}.evil.svc.cluster.local`
  entry.authority = host
  entry.upstreamCluster = `outbound|80||${host}`
  writer.add(origin)
  sent++
  if (sent % 1000 === 0) writer.commit()
  if (sent % SEGMENT_ROWS === 0) {
    flush('requests')
    rollup.seal()
  }
}
async function page(): Promise<number> {
  let bytes = 0
  for await (const part of mesh.scrape('text/plain').body) bytes += part.length
  return bytes
}

// Everything has run once before memory is looked at: services as a mesh has them.
for (let k = 0; k < WARM_ROWS; k++) send(`known-${k % 200}`)
await page()
const before = memory()
let most = before

type Memory = ReturnType<typeof memory>
function larger(a: Memory, b: Memory): Memory {
  return { live: Math.max(a.live, b.live), rss: Math.max(a.rss, b.rss) }
}
function rounded({ live, rss }: Memory): Memory {
  return { live: Math.round(live), rss: Math.round(rss) }
}

const random = seededRandom(1)
const truth = new Map<string, number>()
const beganMs = performance.now()
const cpu = process.cpuUsage()
let distinct = 0
while (distinct < values) {
  let draw = random() * 1000
  let service = ''
  // Once the newcomers have taken all the room there is: what is named are those that do not fit.
  if (distinct > values / 20) {
    for (let k = 0; k < HEAVY.length && service === ''; k++) {
      draw -= HEAVY[k]!
      if (draw < 0) service = `heavy-${k}`
    }
  }
  if (service === '') service = `h${(distinct++).toString(36)}-${Math.floor(random() * 1e9).toString(36)}`
  else truth.set(service, (truth.get(service) ?? 0) + 1)
  send(service)
  if (sent % PAGE_EVERY === 0) {
    await page()
    most = larger(most, memory())
  }
}
const { user, system } = process.cpuUsage(cpu)
writer.commit()
flush('requests')
rollup.seal()
const after = memory()
most = larger(most, after)

let requests = 0
let own = 0
for (const one of mesh.series()) {
  for (const metric of one.metrics()) {
    if (metric.type !== 'counter') continue
    if (metric.name === 'istio_requests_total') requests += metric.value
    if (metric.name === 'sidecast_requests_total') own += metric.value
  }
}
const stats = mesh.stats()
const offenders = [...truth]
  .sort(([, a], [, b]) => b - a)
  .map(([service, rows]) => {
    const named = stats.offenders.find(({ identity }) => identity.includes(`${service}.`))
    return {
      service,
      rows,
      named: named?.rows ?? 0,
      errorPercent: Number((((named?.rows ?? 0) / rows - 1) * 100).toFixed(3)),
    }
  })
console.log(
  JSON.stringify({
    bench: 'cardinality',
    distinct,
    sent,
    memoryMb: {
      before: rounded(before),
      most: rounded(most),
      more: rounded({ live: most.live - before.live, rss: most.rss - before.rss }),
    },
    totals: { istio: requests === sent, sidecast: own === sent },
    overflowRows: stats.overflowRows,
    labelSets: stats.series,
    pairs: stats.pairs,
    worstOffenderErrorPercent: Math.max(...offenders.map(({ errorPercent }) => Math.abs(errorPercent))),
    offenders,
    labels: stats.overflowLabels.slice(0, 3),
    cpuMicrosPerRequest: Number(((user + system) / (sent - WARM_ROWS)).toFixed(2)),
    seconds: Math.round((performance.now() - beganMs) / 1000),
  }),
)
