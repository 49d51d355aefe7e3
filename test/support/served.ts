import type { Batch, Origin } from '../../src/model/batch.ts'
import { createServedLedger, type SavedServed, type ServedLedger } from '../../src/pipeline/ledger-served.ts'
import type { StatsSample } from '../../src/pipeline/ledger-stats.ts'
import { ManualClock } from './journal.ts'

/** Counters of one Envoy as a metric store has them, and rows as a lane brings them; the test moves time. */
export class ServedWorld {
  readonly clock: ManualClock
  readonly series = new Map<string, StatsSample>()
  readonly counts = { requests: 0, others: 0, rejected: 0 }
  ledger: ServedLedger

  constructor(nowMs = 1_700_000_000_000, saved: readonly SavedServed[] = []) {
    this.clock = new ManualClock(nowMs)
    this.ledger = this.#open()
    this.ledger.restore(saved)
  }

  #open(): ServedLedger {
    const latest = ({ name }: { name: string }) =>
      [...this.series].flatMap(([key, one]) => (key.startsWith(`${name}{`) ? [one] : []))
    return createServedLedger({ stats: { latest }, counts: () => ({ ...this.counts }), clock: this.clock })
  }

  /** Sets counters of `edge-1`, at this moment. `name{label=value}` or `name`. */
  stats(values: Readonly<Record<string, number>>, options: { job?: string; timeMs?: number } = {}): void {
    const { job = 'envoy-metrics-service', timeMs = this.clock.now() } = options
    for (const [key, value] of Object.entries(values)) {
      const [name, rest = ''] = key.split('{')
      const labels = rest
        .replace('}', '')
        .split(',')
        .filter(Boolean)
        .map((pair) => pair.split('=') as [string, string])
      this.series.set(`${name}{${rest}${job}`, {
        series: { job, instance: 'edge-1', labels },
        timeMs,
        value,
        stale: false,
      })
    }
  }

  /** Rows of `edge-1` that ended now. */
  rows(
    count: number,
    options: { endMs?: number; tcp?: boolean; source?: Origin['source']; failed?: boolean } = {},
  ): void {
    const { endMs = this.clock.now(), tcp = false, source = 'als', failed = false } = options
    this.counts.requests += count
    const batch = {
      table: 'requests',
      rows: count,
      streams: [{ nodeId: 'edge-1', source }],
      stream: new Uint16Array(count),
      endSeconds: new Uint32Array(count).fill(Math.floor(endMs / 1000)),
      endNanos: new Uint32Array(count).fill((endMs % 1000) * 1e6),
      kind: new Uint8Array(count).fill(tcp ? 1 : 0),
      responseClass: new Uint8Array(count).fill(failed ? 2 : 0),
    }
    this.ledger.take(batch as unknown as Batch)
  }

  /** Seconds pass, the ledger looks each second. */
  pass(seconds: number): void {
    for (let k = 0; k < seconds; k++) {
      this.clock.set(this.clock.now() + 1000)
      this.ledger.observe(this.clock.now())
    }
  }

  /** A process that is killed and starts again with what was saved. */
  restart(saved: readonly SavedServed[] = this.ledger.save()): void {
    this.series.clear()
    this.ledger = this.#open()
    this.ledger.restore(saved)
  }

  get edge() {
    return this.ledger.of('edge-1')
  }
}
