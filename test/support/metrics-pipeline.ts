import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '../../src/lib/clock.ts'
import { createDelivery } from '../../src/pipeline/delivery.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import type { TestDatabase } from './clickhouse.ts'
import { openMetricsLane } from './metrics-lane.ts'
import type { TestStore } from './store.ts'

/** The pipeline on a real store: journal, lane and delivery as in the product. */
export async function startMetricsPipeline(test: TestStore, dir: string, database: TestDatabase) {
  const opened = await openMetricsLane(dir)
  const sink = await database.sink({ kept: () => [...opened.journal.segments({ ackedBy: 'clickhouse' })] })
  test.store.onRestart(() => sink.engineStarted())
  const delivery = createDelivery({
    sink,
    journal: opened.journal,
    clock: systemClock,
    log: silentLog,
    retryFirstMs: 20,
    retryMaxMs: 200,
  })
  await opened.start()
  await delivery.start()
  return {
    ...opened,
    sink,
    delivery,
    async stop() {
      await opened.stop()
      for (const deadline = Date.now() + 20_000; delivery.backlog().segments > 0; await sleep(10)) {
        if (Date.now() > deadline) throw new Error('the store does not take what is in the journal')
      }
      await delivery.stop(AbortSignal.timeout(20_000))
      await opened.journal.stop(AbortSignal.timeout(5000))
    },
  }
}
