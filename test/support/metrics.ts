import { createMetricStore } from '../../src/metrics/metric-store.ts'
import type { SeriesIdentity } from '../../src/metrics/store.ts'
import { type NativeRow, readNative } from './native-reader.ts'

export const NOW_MS = Date.UTC(2026, 10, 21, 12)

/** A metric store with a clock of its own, whose rows are read back from the blocks it makes. */
export function metricsRig(options: { seriesMax?: number; rowsMax?: number } = {}) {
  const clock = {
    ms: NOW_MS,
    now: () => clock.ms,
  }
  const tables: Record<'series' | 'samples' | 'histograms' | 'exemplars', NativeRow[]> = {
    series: [],
    samples: [],
    histograms: [],
    exemplars: [],
  }
  const journal = { full: false, blocks: 0 }
  const flush = (all = false): boolean => {
    const gathered = metrics.gather(all)
    if (journal.full) return false
    for (const builder of metrics.builders) {
      if (builder.rows === 0) continue
      const block = builder.encode('0-abc-1')
      const rows = readNative(Buffer.concat(block.buffers))
      let days = 0
      for (const count of block.days.values()) days += count
      if (rows.length !== block.rows || days !== block.rows) throw new Error('the block is not what it says')
      for (const row of rows) tables[builder.table as 'samples'].push(row)
      builder.reset()
      journal.blocks++
    }
    return gathered || flush(all)
  }
  const metrics = createMetricStore({
    flush: () => flush(),
    synced: async () => {
      if (!flush(true)) throw new Error('no room')
    },
    clock,
    seriesMax: options.seriesMax ?? 1000,
    keepMs: 15 * 86_400_000,
    ...(options.rowsMax === undefined ? {} : { rowsMax: options.rowsMax }),
  })
  return {
    metrics,
    clock,
    journal,
    tables,
    flush,
    /** Of one series, in the order of writing: what a test compares. */
    samples: () => tables.samples.map((row) => ({ at: Number(row.time) - NOW_MS, value: row.value ?? 0 })),
  }
}

export const identity = (more: Partial<SeriesIdentity> = {}): SeriesIdentity => ({
  job: 'envoy-statsd',
  instance: 'node-1',
  name: 'envoy_cluster_upstream_rq_total',
  labels: [['envoy_cluster_name', 'backend']],
  type: 'counter',
  ...more,
})
