import { resolve } from 'node:path'
import { openClickHouse } from '../adapters/clickhouse/open.ts'
import { rowsDroppedBefore } from '../adapters/clickhouse/retention.ts'
import { openAlerts } from '../alerts/open.ts'
import type { AppOptions } from '../app.ts'
import { systemClock } from '../lib/clock.ts'
import { parseDuration } from '../lib/units.ts'
import { boundsOf, queryLimits, retentionOf } from '../live.ts'
import { createStages } from '../pipeline/stages.ts'
import { createQueryServer } from '../query/server.ts'
import { openSlos } from '../query/slo/book.ts'
import { createBurnReader } from '../query/slo/burn.ts'
import { createReload } from '../reload.ts'
import type { Running } from '../roles.ts'
import { createSafety } from '../safety.ts'
import { VERSION } from '../version.ts'
import { createWeb } from '../web/serve.ts'
import { createCentralStatus } from './central-status.ts'
import { openEngine } from './engine.ts'
import { createCentralMetrics } from './writer-metrics.ts'
import { openSpool, openWriter } from './writer-open.ts'

/**
 * A process without receivers: it has the store and answers questions. As `writer` it fills the store from Kafka, as `query`
 * it does nothing else.
 */
export interface CentralOptions extends Omit<AppOptions, 'role'> {
  readonly role: 'writer' | 'query'
}

const STOP_MS = 20_000
const MS_PER_DAY = 86_400_000

export async function startCentral({ config, load, log, role }: CentralOptions): Promise<Running> {
  const clock = systemClock
  const data = resolve(config.data)
  const retention = retentionOf(config)
  const bounds = boundsOf(config)
  const writes = role === 'writer'
  const safety = createSafety({ config, log })
  const slos = await openSlos({ files: config.slo.files, dir: resolve(data, 'slos'), log })

  // The store. Several writers at one time take a replicated cluster: docs/roles.md.
  const embedded = openEngine(config, log)
  const spool = writes ? openSpool(config, { data, local: embedded !== undefined, clock }) : null
  const store = await openClickHouse({
    config: config.store.clickhouse,
    embedded,
    data,
    retention,
    diskBytesMax: bounds.storeBytesMax,
    insertTimeoutMs: parseDuration(config.store.clickhouse.insertTimeout)!,
    keysMax: config.rollup.keysMax,
    kept: () => spool?.kept() ?? [],
    clock,
    log,
    signal: AbortSignal.timeout(60_000),
  })
  const { reader, sink, disk, days } = store
  const segments = spool === null ? null : openWriter({ config, data, sink, spool, clock, log })

  // Answers.
  const dropped = async (signal: AbortSignal) => (await rowsDroppedBefore(reader, signal)) * MS_PER_DAY
  const alerts = openAlerts({
    config: config.alertmanager,
    reader: createBurnReader({ store: reader, retention, rowsDroppedBefore: dropped, clock }),
    slos: slos.slos,
    // What edges still hold is not known here.
    through: () => null,
    lost: () => null,
    data,
    httpAddress: () => query.address,
    version: VERSION,
    clock,
    log,
  })
  const reload = createReload({
    config,
    load: load ?? (() => ({ config, findings: [] })),
    // Files under the same names may say something else.
    parts: [
      { paths: ['slo.files'], always: true, prepare: ({ slo }) => slos.prepare(slo.files) },
      { paths: ['alertmanager'], prepare: (next) => alerts.prepare(next.alertmanager) },
    ],
    after: () => safety.refresh(),
    clock,
    log,
  })
  const status = createCentralStatus({
    role,
    clock,
    data,
    embedded,
    store: reader,
    disk,
    spool,
    segments,
    reload,
    httpAddress: () => query.address,
  })
  const query = createQueryServer({
    listen: config.http.listen,
    store: reader,
    ...status,
    metrics: createCentralMetrics({ version: VERSION, role, segments, spool, sink, alerts }),
    mesh: () => ({ type: 'text/plain; version=0.0.4; charset=utf-8', body: '# Edges have this page.\n' }),
    web: createWeb(),
    access: safety.access('http'),
    hostNames: config.http.hostNames,
    slos: { slos: slos.slos, documents: slos },
    alerts,
    reload,
    retention,
    rowsDroppedBefore: dropped,
    limits: queryLimits(config),
    clock,
    log,
  })

  const stages = createStages({ stopMs: STOP_MS })
  const stop = async (): Promise<void> => {
    await stages.stop()
    await store.close()
  }
  try {
    if (embedded !== undefined) await stages.start(embedded)
    if (writes) {
      spool?.open()
      await store.migrate(AbortSignal.timeout(600_000))
      sink.engineStarted()
    }
    for (const stage of segments === null ? [query] : [query, sink, disk, days, segments]) await stages.start(stage)
    await stages.start(alerts)
  } catch (error) {
    await stop()
    throw error
  }
  return { addresses: { http: query.address }, reload, stop }
}
