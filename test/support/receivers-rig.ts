import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { requireConfig } from '../../src/config.ts'
import { createIdentityResolver } from '../../src/ingest/als/identity.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { createMetricStore } from '../../src/metrics/metric-store.ts'
import type { MetricStore } from '../../src/metrics/store.ts'
import { createBatchBuilder } from '../../src/model/batch-builder.ts'
import { openJournal } from '../../src/pipeline/journal.ts'
import { createLane, type Lane } from '../../src/pipeline/lane.ts'
import { createLedger } from '../../src/pipeline/ledger.ts'
import { createRollup } from '../../src/pipeline/rollup.ts'
import type { Stage } from '../../src/pipeline/sink.ts'
import { createSpanStore } from '../../src/pipeline/spans.ts'
import { createReceivers } from '../../src/receivers.ts'
import { createSafety } from '../../src/safety.ts'
import { listenersOf, receiversOf } from '../../src/status-receivers.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { unsyncedFiles } from './journal.ts'
import { storedPaths } from './lines-rig.ts'

/**
 * Every receiver as `src/receivers.ts` makes them of a configuration, on a real lane and journal, with no store behind: what
 * is stored is what the journal has. Nothing is started yet.
 */
export interface ReceiversRig {
  readonly receivers: ReturnType<typeof createReceivers>
  readonly metrics: MetricStore
  start(): Promise<void>
  /** Receivers first, then the lane, as the process does. Safe twice. */
  stop(deadline: AbortSignal): Promise<void>
  listeners(): ReturnType<typeof listenersOf>
  status(): ReturnType<typeof receiversOf>
  /** The value of one sample of `/metrics`, by its name with its labels; 0 where it is not there. */
  sample(name: string): Promise<number>
  /** Paths of all rows in the journal. Seals. */
  paths(): Promise<string[]>
}

const LIMITS = {
  segmentBytesMax: 64 << 20,
  segmentRowsMax: 1_000_000,
  segmentAgeMsMax: 3_600_000,
  diskBytesMax: 2 ** 32,
}

/** `set` as in `--set`. Listeners that are there by default have port 0, where `set` says nothing else. */
export async function openReceiversRig(dir: string, set: readonly string[]): Promise<ReceiversRig> {
  const local = ['ingest.grpc.listen', 'ingest.otlpHttp.listen', 'ingest.statsd.udp', 'ingest.statsd.tcp']
  const { config } = requireConfig({ set: [...local.map((path) => `${path}=127.0.0.1:0`), ...set], env: {} })
  const [log, clock] = [silentLog, systemClock]
  const data = join(dir, 'data')
  mkdirSync(data, { recursive: true })
  const journal = await openJournal({
    dir: join(dir, 'journal'),
    worker: 0,
    limits: LIMITS,
    files: unsyncedFiles,
    clock,
  })
  // Somebody has to want the segments.
  journal.reader('nobody')
  const beside = { flush: () => lane.flushSides(), synced: () => lane.synced(), clock }
  const metrics = createMetricStore({ ...beside, seriesMax: 10_000, keepMs: 86_400_000 })
  const spans = createSpanStore(beside)
  const ledger = createLedger({ journal, dir: data, store: 'nobody', clock, log })
  const resolver = createIdentityResolver()
  const builder = (table: 'requests' | 'attempts' | 'progress' | 'connections') =>
    createBatchBuilder({ table, rowsMax: 1000, resolver })
  const lane: Lane = createLane({
    builders: {
      requests: builder('requests'),
      attempts: builder('attempts'),
      progress: builder('progress'),
      connections: builder('connections'),
    },
    journal,
    rollup: createRollup(),
    ledger,
    live: [],
    sides: [metrics, spans],
    log,
  })
  const safety = createSafety({ config, log })
  const receivers = createReceivers({ config, data, lane, journal, ledger, metrics, spans, safety, clock, log })
  const started: Stage[] = []
  const page = createMetrics({ ...receivers, ...NOTHING_ELSE, journal, safety, metrics, spans, clock })
  return {
    receivers,
    metrics,
    async start() {
      for (const stage of [journal, lane, ...receivers.stages]) {
        // One that failed has to be stopped as well.
        started.unshift(stage)
        await stage.start()
      }
    },
    async stop(deadline) {
      for (const stage of started) if (stage !== journal) await stage.stop(deadline)
    },
    listeners: () => listenersOf(receivers),
    status: () => receiversOf(receivers),
    async sample(name) {
      const { body } = await page.page()
      const line = body.split('\n').find((one) => one.startsWith(`${name} `))
      return line === undefined ? 0 : Number(line.slice(name.length + 1))
    },
    async paths() {
      journal.seal()
      await journal.settled()
      return storedPaths(journal)
    },
  }
}

/** The rest of the process, for the page of metrics. */
const NOTHING_ELSE: Omit<
  Parameters<typeof createMetrics>[0],
  keyof ReturnType<typeof createReceivers> | 'journal' | 'safety' | 'metrics' | 'spans' | 'clock'
> = {
  version: 'test',
  reload: { counters: { taken: 0, refused: 0 }, takenMs: 0, last: null },
  delivery: { stats: () => ({}), backlog: () => ({ segments: 0, bytes: 0, rows: 0, oldestMs: null }) },
  sink: { counters: {} },
  adapters: { list: [] },
  ledger: { adapters: () => [], drops: new Map() },
  served: {
    totals: () => ({
      nodes: 0,
      served: 0,
      filtered: 0,
      lost: 0,
      unexplained: 0,
      nodesWithLoss: 0,
      restarts: 0,
    }),
  },
  rollup: { stats: {} },
  mesh: { stats: () => ({ offenders: [], overflowLabels: [] }) },
  disk: { usage: { bytes: 0, bytesMax: 0, partitionsDropped: 0, rowsDropped: 0 } },
  embedded: undefined,
}
