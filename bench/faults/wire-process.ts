import { setTimeout as sleep } from 'node:timers/promises'
import { SidecastError } from '../../src/errors.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { createMetricStore } from '../../src/metrics/metric-store.ts'
import type { Adapter, AdapterShared } from '../../src/pipeline/adapter.ts'
import { openJournal } from '../../src/pipeline/journal.ts'
import type { Stage } from '../../src/pipeline/sink.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { type LinesRig, openLinesRig } from '../../test/support/lines-rig.ts'
import { request } from '../support/made-request.ts'
import { MortalFiles } from './files.ts'

/** Waits are over ten times as fast as they say, so that back-offs of seconds fit a run. The wall clock can be moved. */
export class RunClock implements Clock {
  offsetMs = 0

  now(): number {
    return Date.now() + this.offsetMs
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) return
    await sleep(Math.max(1, ms / 10), undefined, signal === undefined ? {} : { signal }).catch(() => {})
  }
}

/** One process of a run: everything between the decoder and the adapters' sockets, in this one. */
export interface WireProcess {
  readonly adapters: readonly Adapter[]
  readonly files: MortalFiles
  readonly rowsLost: number
  /** Adds requests with these numbers. True when they, and all that were added before, are fsynced. */
  write(from: number, count: number): Promise<boolean>
  /** What was added is fsynced now. */
  sync(): Promise<boolean>
  seal(): void
  /** Whether another process is kept off. */
  keepsOthersOff(): Promise<boolean>
  /** From one moment to the next it changes nothing any more. */
  kill(): Promise<void>
  stop(): Promise<void>
}

const LIMITS = { segmentBytesMax: 1 << 20, segmentRowsMax: 2000, segmentAgeMsMax: 60, diskBytesMax: 64 << 20 }
const NODE = 'sidecar~10.0.0.7~web-1.shop~shop.svc.cluster.local'

export async function startWireProcess(options: {
  readonly dir: string
  readonly clock: RunClock
  readonly open: (shared: AdapterShared) => Promise<(Adapter | null)[]>
}): Promise<WireProcess> {
  const { dir, clock, open } = options
  const files = new MortalFiles()
  const ofJournal = { files, clock, limits: LIMITS, keepAfterAckMs: 500 }
  let metrics: ReturnType<typeof createMetricStore> | undefined
  const rig: LinesRig = await openLinesRig(dir, {
    rowsMax: 200,
    flushMs: 10,
    clock: () => clock.now(),
    journal: ofJournal,
    sides: (lane) => {
      const beside = { flush: () => lane().flushSides(), synced: () => lane().synced(), clock }
      metrics = createMetricStore({ ...beside, seriesMax: 100_000, keepMs: 1e12 })
      return [metrics]
    },
  })
  const shared = { journal: rig.journal, clock, log: silentLog, data: `${dir}-data`, host: 'host-1', version: '0.0.0' }
  const adapters = (await open(shared)).filter((adapter) => adapter !== null)
  const stages = adapters.flatMap((adapter) => adapter.stages)
  for (const stage of stages) await stage.start()
  const origin = rig.origins.of({ source: 'als', nodeId: NODE, precisionNs: 1 })

  const sync = async (): Promise<boolean> => {
    rig.writer.commit()
    try {
      await rig.lane.synced()
    } catch {
      return false
    }
    return rig.writer.pending === 0
  }
  return {
    adapters,
    files,
    get rowsLost() {
      return rig.journal.stats().rowsLost
    },
    async write(from, count) {
      for (let number = from; number < from + count; number++) {
        request(rig.writer.entry, number, clock.now())
        if (!rig.writer.add(origin)) return false
        const labels = [['path', `/item/${number}`]] as const
        const of = {
          job: 'sidecast-mesh',
          instance: 'host-1',
          name: 'requests_total',
          labels,
          type: 'counter',
        } as const
        metrics!.setCounter(metrics!.series(of), clock.now(), number, clock.now() - 1000)
      }
      return sync()
    },
    sync,
    seal: () => void rig.journal.seal(),
    async keepsOthersOff() {
      try {
        const other = await openJournal({ dir, worker: 0, ...ofJournal })
        await other.stop(AbortSignal.abort())
        return false
      } catch (error) {
        return error instanceof SidecastError && error.code === 'SC4105'
      }
    },
    async kill() {
      files.dead = true
      await stopAll(stages, AbortSignal.abort())
      // It finds that it cannot write; what it still had in memory is gone.
      await rig.lane.stop(AbortSignal.abort()).catch(() => {})
      await rig.journal.stop(AbortSignal.abort())
    },
    async stop() {
      await rig.lane.stop(new AbortController().signal)
      await stopAll(stages, new AbortController().signal)
      await rig.stop()
    },
  }
}

async function stopAll(stages: readonly Stage[], deadline: AbortSignal): Promise<void> {
  for (const stage of stages.toReversed()) await stage.stop(deadline)
}
