import { openRemoteWrite, type RemoteWriteConfig } from '../../../src/adapters/remote-write/open.ts'
import { createMetricStore } from '../../../src/metrics/metric-store.ts'
import type { MetricStore } from '../../../src/metrics/store.ts'
import { startFakeReceiver } from '../../support/remote-write.ts'
import { openRequestsRig, type RequestsRig } from '../../support/requests-rig.ts'
import { sinkContract } from '../../support/sink-contract.ts'
import { remoteWriteConfig } from './config.ts'

/** With each request that is sealed, one sample of a series of its own. */
async function openStatsRig({ dir }: { readonly dir: string }): Promise<RequestsRig> {
  let metrics: MetricStore | undefined
  const rig = await openRequestsRig({
    dir,
    sides: (lane) => {
      const store = createMetricStore({
        flush: () => lane().flushSides(),
        synced: () => lane().synced(),
        clock: Date,
        seriesMax: 10_000,
        keepMs: 86_400_000,
      })
      metrics = store
      return [store]
    },
  })
  let series = 0
  return {
    ...rig,
    get added() {
      return rig.added
    },
    async seal(count, fill) {
      for (let k = 0; k < count; k++) {
        const labels = [['path', `/item/${series++}`]] as const
        const name = 'istio_requests_total'
        const of = { job: 'sidecast-mesh', instance: '127.0.0.1:8080', name, labels, type: 'counter' } as const
        metrics!.setCounter(metrics!.series(of), Date.now(), k, Date.now() - 1000)
      }
      // Into the segment that the requests go to.
      rig.lane.flushSides()
      return rig.seal(count, fill)
    },
  }
}

sinkContract('remote write', {
  start: () => startFakeReceiver(),
  open: (shared, target) => openRemoteWrite(remoteWriteConfig({ url: target.url }) satisfies RemoteWriteConfig, shared),
  openRig: openStatsRig,
})
