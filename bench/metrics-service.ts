import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { createNodeReader } from '../src/ingest/als/node.ts'
import type { StreamingMethod } from '../src/ingest/grpc/service.ts'
import { createMetricsServiceReceiver } from '../src/ingest/metrics-service/receiver.ts'
import { createEnvoyNames } from '../src/metrics/envoy-names.ts'
import { openMetricsLane } from '../test/support/metrics-lane.ts'
import { type FamilyParts, metricsMessage } from '../test/support/metrics-message.ts'
import { identifier } from '../test/support/wire.ts'

/**
 * What the messages of a large proxy cost: 150 stats for each of its clusters, full names or labels, into the metric store.
 *
 *     node bench/metrics-service.ts [--clusters 600] [--labels] [--messages 4]
 *
 * The first message makes the series, later ones find them. `blockedMs` is how long nothing else could run.
 */
const { values } = parseArgs({
  options: {
    clusters: { type: 'string', default: '600' },
    messages: { type: 'string', default: '4' },
    labels: { type: 'boolean', default: false },
  },
})
const STATS = 150
const dir = await mkdtemp(join(tmpdir(), 'sidecast-bench-metrics-'))
const { lane, metrics, start, stop } = await openMetricsLane(dir, {
  ageMs: 1000,
  rows: 262_144,
  diskBytes: 8 * 2 ** 30,
})
await start()
const receiver = createMetricsServiceReceiver({
  metrics,
  nodes: createNodeReader(),
  names: { envoy: createEnvoyNames(), istio: createEnvoyNames() },
  gate: lane.gate,
})
const method = receiver.services[0]!.methods.StreamMetrics as StreamingMethod
const stream = method.open({ peer: '10.0.0.1:4000', path: '', headers: {}, openedMs: Date.now() })
const round = (value: number): number => Number(value.toFixed(2))
const blocked: number[] = []
const cpu: number[] = []
let bytes = 0
let families = 0
for (let k = 0; k <= Number(values.messages); k++) {
  const message = flush(k)
  bytes = message.length
  const usage = process.cpuUsage()
  const began = performance.now()
  stream.onMessage(message, 0, message.length)
  blocked.push(performance.now() - began)
  await metrics.synced()
  const { user, system } = process.cpuUsage(usage)
  cpu.push((user + system) / 1e6)
}
families = receiver.counters.families / blocked.length
const later = blocked.slice(1).sort((a, b) => a - b)
const cpuLater = cpu.slice(1).reduce((sum, one) => sum + one, 0) / (cpu.length - 1)
process.stdout.write(
  `${JSON.stringify({
    bench: 'metrics-service',
    labels: values.labels,
    families,
    messageMb: round(bytes / 1e6),
    cpuSecondsFirst: round(cpu[0]!),
    blockedMsFirst: round(blocked[0]!),
    blockedMsMedian: round(later[later.length >> 1]!),
    cpuSecondsPerMillion: round((cpuLater / families) * 1e6),
    rssMb: round(process.memoryUsage().rss / 1e6),
    series: metrics.counters.series,
    overflow: metrics.counters.overflow,
  })}\n`,
)
await stop()
await rm(dir, { recursive: true, force: true })
process.exit(0)

function flush(k: number): Uint8Array {
  const all: FamilyParts[] = []
  const timestampMs = Date.now() + k
  for (let cluster = 0; cluster < Number(values.clusters); cluster++) {
    const name = `outbound|${8000 + cluster}||service-${cluster}_shop_svc_cluster_local`
    for (let stat = 0; stat < STATS; stat++) {
      const type = stat % 10 === 0 ? 'gauge' : 'counter'
      const labels = values.labels ? ([['envoy.cluster_name', name]] as const) : []
      all.push({
        name: values.labels ? `cluster.upstream_stat_${stat}` : `cluster.${name}.upstream_stat_${stat}`,
        type,
        labels,
        value: k + stat,
        timestampMs,
      })
    }
  }
  return metricsMessage(all, k === 0 ? identifier({ id: 'edge-1' }) : undefined)
}
