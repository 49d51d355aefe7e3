import { resolve } from 'node:path'
import { rowsDroppedBefore } from './adapters/clickhouse/retention.ts'
import { rowsByNode } from './adapters/clickhouse/rows-by-node.ts'
import { openPrometheus } from './adapters/prometheus/open.ts'
import { createAdapters } from './adapters.ts'
import { openAlerts } from './alerts/open.ts'
import type { Config, LoadedConfig } from './config.ts'
import { createIdentityResolver } from './ingest/als/identity.ts'
import { systemClock } from './lib/clock.ts'
import { parseBytes, parseDuration } from './lib/units.ts'
import { boundsOf, liveParts, queryLimits, retentionOf } from './live.ts'
import { createMetricStore } from './metrics/metric-store.ts'
import { createOwnSampler } from './metrics/own.ts'
import { createBatchBuilder } from './model/batch-builder.ts'
import { openJournal } from './pipeline/journal.ts'
import { createLane } from './pipeline/lane.ts'
import { createLedger } from './pipeline/ledger.ts'
import { createServedLedger } from './pipeline/ledger-served.ts'
import { createPrimarySources } from './pipeline/primary-source.ts'
import { createRollup } from './pipeline/rollup.ts'
import { rollupBlockOfRows } from './pipeline/rollup-of-rows.ts'
import { createSpanStore } from './pipeline/spans.ts'
import { createStages } from './pipeline/stages.ts'
import { createQueryServer } from './query/server.ts'
import { openSlos } from './query/slo/book.ts'
import { createBurnReader } from './query/slo/burn.ts'
import { createReceivers, type ReceiverAddresses } from './receivers.ts'
import { createReload, type Reload } from './reload.ts'
import { openStore } from './roles/store.ts'
import { createSafety } from './safety.ts'
import { createStatus } from './status.ts'
import type { Log } from './telemetry/log.ts'
import { createMetrics } from './telemetry/metrics.ts'
import { VERSION } from './version.ts'
import { createWeb } from './web/serve.ts'

/** The whole product, on one screen: what there is, who gets what from whom, and in which order it starts and stops. */
export interface App {
  readonly addresses: { readonly http: string } & ReceiverAddresses
  /** Another configuration, as a difference: what `load` gives now. */
  readonly reload: Reload
  /** Drains within `STOP_MS`: what is not delivered by then waits in the journal. Safe twice. */
  stop(): Promise<void>
}

const STOP_MS = 20_000
const RETENTION_MS = 60_000
const MS_PER_DAY = 86_400_000
/** Rows of one batch: 16-bit dictionary codes allow 65 535; half of that keeps a block in the processor's cache. */
const REQUEST_ROWS = 32_768
const OTHER_ROWS = 8192

export interface AppOptions {
  readonly config: Config
  /** Reads the configuration again; absent: only the files that it names are read again. */
  readonly load?: () => LoadedConfig
  /** An edge has no store: everything goes to Kafka. */
  readonly role?: 'all' | 'edge'
  readonly log: Log
}

export async function startApp({ config, load, role = 'all', log }: AppOptions): Promise<App> {
  const clock = systemClock
  const data = resolve(config.data)
  const retention = retentionOf(config)
  const bounds = boundsOf(config)

  // Certificates and objectives first: what is wrong in their files is told before anything runs.
  const safety = createSafety({ config, log })
  const slos = await openSlos({ files: config.slo.files, dir: resolve(data, 'slos'), log })

  // Journal, and the store that reads it: the embedded engine, a server or a cluster.
  const journal = await openJournal({
    dir: resolve(data, 'journal'),
    worker: 0,
    limits: {
      segmentBytesMax: parseBytes(config.journal.segment.bytes)!,
      segmentRowsMax: config.journal.segment.rows,
      segmentAgeMsMax: parseDuration(config.journal.segment.age)!,
      get diskBytesMax() {
        return bounds.journalBytesMax
      },
    },
    keepAfterAckMs: parseDuration(config.journal.keepAfterAck)!,
    rollupOf: (requests) => rollupBlockOfRows(requests, { keysPerMinuteMax: config.rollup.keysMax }),
    clock,
    log,
  })
  const { store, embedded, delivery, stored } = await openStore({
    role,
    config,
    data,
    journal,
    retention,
    bounds,
    clock,
    log,
  })
  const { reader, sink, disk, days } = store
  const adapters = await createAdapters({ config, data, journal, clock, log })

  // Ingest: one lane, and the receivers that fill it.
  const ledger = createLedger({ journal, dir: data, store: stored, live: ['prometheus'], clock, log })
  const mesh = openPrometheus(config.adapters.prometheus, clock)
  const resolver = createIdentityResolver({ rules: config.identity.rules })
  const secondary = createPrimarySources({
    order: config.identity.primary.sources,
    fallbackMs: parseDuration(config.identity.primary.fallback)!,
    dir: data,
    clock,
    log,
  })
  const rollup = createRollup({
    keysPerMinuteMax: config.rollup.keysMax,
    ...(config.adapters.prometheus.enabled ? { onBlock: (parts) => mesh.takeRollup(parts) } : {}),
  })
  const beside = { flush: () => lane.flushSides(), synced: () => lane.synced(), clock }
  const metrics = createMetricStore({
    ...beside,
    seriesMax: config.metrics.seriesMax,
    get keepMs() {
      return retention.metricsMs
    },
  })
  const spans = createSpanStore(beside)
  const served = createServedLedger({ stats: metrics, counts: (node) => ledger.countsOf(node), clock })
  ledger.follow(served)
  const lane = createLane({
    builders: {
      requests: createBatchBuilder({ table: 'requests', rowsMax: REQUEST_ROWS, resolver, secondary }),
      attempts: createBatchBuilder({ table: 'attempts', rowsMax: OTHER_ROWS, resolver }),
      progress: createBatchBuilder({ table: 'progress', rowsMax: OTHER_ROWS, resolver }),
      connections: createBatchBuilder({ table: 'connections', rowsMax: OTHER_ROWS, resolver }),
    },
    journal,
    rollup,
    ledger,
    live: config.adapters.prometheus.enabled ? [mesh, served] : [served],
    sides: [metrics, spans],
    log,
  })
  const receivers = createReceivers({ config, data, lane, journal, ledger, metrics, spans, safety, clock, log })

  // Answers.
  const dropped = async (signal: AbortSignal) => (await rowsDroppedBefore(reader, signal)) * MS_PER_DAY
  const alerts = openAlerts({
    config: config.alertmanager,
    reader: createBurnReader({ store: reader, retention, rowsDroppedBefore: dropped, clock }),
    slos: slos.slos,
    through: () => status.ledger.through(),
    lost: (fromMs, toMs) => status.ledger.coverage(fromMs, toMs)?.lost ?? null,
    data,
    httpAddress: () => query.address,
    version: VERSION,
    clock,
    log,
  })
  // An edge has nothing to count from.
  const watches = role === 'all' ? { alerts } : {}
  const parts = {
    clock,
    stored,
    data,
    embedded,
    safety,
    store: reader,
    journal,
    delivery,
    adapters,
    sink,
    disk,
    ledger,
    served,
    lane,
    rollup,
    mesh,
    metrics,
    spans,
    ...receivers,
  }
  const reload = createReload({
    config,
    load: load ?? (() => ({ config, findings: [] })),
    parts: liveParts({
      ...receivers,
      safety,
      adapters,
      slos,
      alerts,
      bounds,
      disk,
      retention,
      applyRetention: () => store.migrate(AbortSignal.timeout(RETENTION_MS)),
      query: { setLimits: (limits) => query.setLimits(limits) },
    }),
    after: () => safety.refresh(),
    clock,
    log,
  })
  const pages = createMetrics({ ...parts, ...watches, reload, version: VERSION })
  const status = createStatus({
    ...parts,
    reload,
    bounds,
    httpAddress: () => query.address,
  })
  const query = createQueryServer({
    listen: config.http.listen,
    store: reader,
    ...status,
    metrics: pages.page,
    mesh: (accept) => {
      const { contentType: type, body } = mesh.scrape(accept)
      return { type, body }
    },
    web: createWeb(),
    access: safety.access('http'),
    hostNames: config.http.hostNames,
    logs: receivers.logs,
    slos: { slos: slos.slos, documents: slos },
    ...watches,
    remoteWrite: receivers.remoteWrite,
    reload,
    retention,
    rowsDroppedBefore: dropped,
    limits: queryLimits(config),
    clock,
    log,
  })

  const own = createOwnSampler({
    store: metrics,
    clock,
    log,
    everyMs: parseDuration(config.metrics.sampleEvery)!,
    instance: () => query.address,
    process: pages.read,
    mesh: config.adapters.prometheus.enabled
      ? () => mesh.series(reload.config.adapters.prometheus.remoteWrite.nativeHistograms)
      : null,
    meshSeriesMax: config.metrics.meshSeriesMax,
    startedMs: clock.now(),
  })

  // Downstream first; a failure takes back what has started.
  const stages = createStages({ stopMs: STOP_MS })
  const stop = async (): Promise<void> => {
    receivers.setServing(false)
    await stages.stop()
    await store.close()
  }
  try {
    if (embedded !== undefined) await stages.start(embedded)
    await store.migrate(AbortSignal.timeout(600_000))
    if (role === 'all') ledger.reconcile(await rowsByNode(store.all, AbortSignal.timeout(60_000)))
    for (const stage of [query, sink, journal, ledger, delivery, adapters, disk, days, mesh, lane, served, own])
      await stages.start(stage)
    for (const stage of receivers.stages) await stages.start(stage)
    if (role === 'all') await stages.start(alerts)
  } catch (error) {
    await stop()
    throw error
  }
  sink.engineStarted()
  receivers.setServing(true)
  return { addresses: { http: query.address, ...receivers.addresses() }, reload, stop }
}
