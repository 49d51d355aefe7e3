import type { ClickHouse } from '../adapters/clickhouse/client.ts'
import type { StoreRetention } from '../adapters/clickhouse/retention.ts'
import type { SegmentReceiver } from '../ingest/segments/receiver.ts'
import type { Spool } from '../ingest/segments/spool.ts'
import type { Clock } from '../lib/clock.ts'
import { freeBytes } from '../lib/free-bytes.ts'
import type { AdapterLedger } from '../pipeline/ledger.ts'
import type { StatusReport } from '../query/schemas.ts'
import type { Reload } from '../reload.ts'
import { configOf, type Status } from '../status.ts'
import type { Store } from '../store/supervisor.ts'
import { VERSION } from '../version.ts'

/**
 * Status and ledger of a process that has a store and no Envoys. What edges still hold is known to them alone: so `through`
 * is not known here, and coverage neither.
 */
export interface CentralStatusParts {
  readonly role: 'writer' | 'query'
  readonly clock: Clock
  readonly data: string
  readonly embedded: Store | undefined
  readonly store: ClickHouse
  readonly disk: StoreRetention
  readonly spool: Spool | null
  readonly segments: SegmentReceiver | null
  readonly reload: Reload
  readonly httpAddress: () => string
}

const PING_MS = 900

export function createCentralStatus(parts: CentralStatusParts): Status {
  const startedMs = parts.clock.now()
  const { segments } = parts
  return {
    ledger: {
      through: () => null,
      coverage: () => null,
      precisionNs: () => null,
      nodes: () => [],
      adapters: () => (segments === null ? [] : [accountOf(segments)]),
      since: () => null,
    },
    status: {
      report: (signal) => report(parts, startedMs, signal),
      unhealthy: () => [],
      async unready(signal) {
        const reasons: string[] = []
        if (parts.disk.usage.over) reasons.push('store: its disk budget is used up and nothing more may be dropped')
        if (!(await ping(parts, signal)).ready) reasons.push('store: no answer')
        return reasons
      },
    },
  }
}

/** received = delivered + rejected + dropped + held, in rows since the start; what an edge sent again is none of them. */
function accountOf({ counters }: SegmentReceiver): AdapterLedger {
  const received = counters.wholeRows - counters.againRows
  const { storedRows: delivered, refusedRows: rejected } = counters
  return { adapter: 'clickhouse', received, delivered, rejected, dropped: 0, held: received - delivered - rejected }
}

async function ping(parts: CentralStatusParts, signal: AbortSignal): Promise<{ ready: boolean; ms: number | null }> {
  const began = performance.now()
  const ready = await parts.store.ping(AbortSignal.any([signal, AbortSignal.timeout(PING_MS)]))
  return { ready, ms: ready ? performance.now() - began : null }
}

async function report(parts: CentralStatusParts, startedMs: number, signal: AbortSignal): Promise<StatusReport> {
  const { role, clock, embedded, disk, spool, segments, reload, httpAddress } = parts
  const [answer, free] = await Promise.all([ping(parts, signal), freeBytes(parts.data)])
  const held = segments === null ? 0 : accountOf(segments).held
  const iso = (ms: number) => (ms === 0 ? null : new Date(ms).toISOString())
  return {
    version: VERSION,
    started: new Date(startedMs).toISOString(),
    config: configOf(reload),
    listeners: [{ name: 'http', address: httpAddress(), state: 'listening', error: null }],
    receivers:
      segments === null
        ? []
        : [
            {
              name: 'segments',
              kind: 'requests',
              last_row: iso(segments.counters.lastMs),
              rows: segments.counters.wholeRows,
              rejected: segments.counters.refusedRows,
              last_error: segments.trouble,
            },
          ],
    nodes: { connected: 0, seen: 0, list: [] },
    store: {
      kind: embedded === undefined ? 'clickhouse' : 'embedded',
      ready: answer.ready,
      ping_ms: answer.ms,
      waiting_rows: held,
      waiting_segments: segments === null ? 0 : segments.partitions().reduce((sum, one) => sum + one.unfinished, 0),
      restarts: embedded?.restarts ?? 0,
      error: segments?.trouble ?? null,
    },
    adapters: [],
    disk: {
      journal_bytes: spool?.bytes ?? 0,
      journal_bytes_max: spool?.bytesMax ?? 0,
      store_bytes: disk.usage.bytes,
      store_bytes_max: disk.usage.bytesMax,
      free_bytes: free,
      full: false,
      days_left: null,
    },
    first_run: [
      {
        step: 'store',
        title: `store answers to this ${role}`,
        done: answer.ready,
        at: answer.ready ? new Date(clock.now()).toISOString() : null,
        seen: answer.ready ? null : 'no answer',
        help: answer.ready ? null : 'the log says why',
      },
    ],
  }
}
