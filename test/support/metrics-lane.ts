import { createIdentityResolver } from '../../src/ingest/als/identity.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { createMetricStore } from '../../src/metrics/metric-store.ts'
import { createBatchBuilder } from '../../src/model/batch-builder.ts'
import { openJournal } from '../../src/pipeline/journal.ts'
import { createLane } from '../../src/pipeline/lane.ts'
import { createRollup } from '../../src/pipeline/rollup.ts'
import { createSpanStore } from '../../src/pipeline/spans.ts'
import { silentLog } from '../../src/telemetry/log.ts'

/** Journal, lane, metric store and span store, wired as in `src/app.ts`, in `dir`. Call `start` once readers are asked for. */
export async function openMetricsLane(dir: string, limits: { ageMs?: number; rows?: number; diskBytes?: number } = {}) {
  const clock = systemClock
  const journal = await openJournal({
    dir,
    worker: 0,
    limits: {
      segmentBytesMax: 8 << 20,
      segmentRowsMax: limits.rows ?? 20_000,
      segmentAgeMsMax: limits.ageMs ?? 100,
      diskBytesMax: limits.diskBytes ?? 1 << 30,
    },
    clock,
  })
  const beside = { flush: () => lane.flushSides(), synced: () => lane.synced(), clock }
  const metrics = createMetricStore({ ...beside, seriesMax: 100_000, keepMs: 15 * 86_400_000 })
  const spans = createSpanStore(beside)
  const resolver = createIdentityResolver()
  const lane = createLane({
    builders: {
      requests: createBatchBuilder({ table: 'requests', rowsMax: 1000, resolver }),
      attempts: createBatchBuilder({ table: 'attempts', rowsMax: 1000, resolver }),
      progress: createBatchBuilder({ table: 'progress', rowsMax: 1000, resolver }),
      connections: createBatchBuilder({ table: 'connections', rowsMax: 1000, resolver }),
    },
    journal,
    rollup: createRollup(),
    ledger: { journaled: () => {}, dropped: () => {} },
    live: [],
    sides: [metrics, spans],
    log: silentLog,
  })
  return {
    journal,
    lane,
    metrics,
    spans,
    async start() {
      await journal.start()
      await lane.start()
    },
    async stop() {
      const deadline = new AbortController().signal
      await lane.stop(deadline)
      await journal.settled()
    },
  }
}
