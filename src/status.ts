import type { ClickHouse } from './adapters/clickhouse/client.ts'
import type { StoreRetention } from './adapters/clickhouse/retention.ts'
import type { ClickHouseSink } from './adapters/clickhouse/sink.ts'
import type { AlsStream } from './ingest/als/receiver.ts'
import type { Clock } from './lib/clock.ts'
import { freeBytes } from './lib/free-bytes.ts'
import { TLS_REFUSALS } from './lib/tls.ts'
import type { Adapter } from './pipeline/adapter.ts'
import type { Delivery } from './pipeline/delivery.ts'
import type { Journal } from './pipeline/journal.ts'
import type { Lane } from './pipeline/lane.ts'
import type { Ledger } from './pipeline/ledger.ts'
import type { ServedLedger } from './pipeline/ledger-served.ts'
import type { LedgerSource, StatusSource } from './query/ports.ts'
import type { StatusReport } from './query/schemas.ts'
import type { Reload } from './reload.ts'
import type { Safety } from './safety.ts'
import { listenersOf, receiversOf, rowsOf, type StatusReceivers } from './status-receivers.ts'
import type { Store } from './store/supervisor.ts'
import { VERSION } from './version.ts'

/** What the parts of the process say of themselves, put into the words of the API. */
export interface StatusParts extends StatusReceivers {
  readonly clock: Clock
  readonly data: string
  readonly embedded: Store | undefined
  readonly store: ClickHouse
  /** The sink that makes rows safe: the store's, or Kafka's. */
  readonly stored: string
  readonly journal: Journal
  readonly bounds: { readonly journalBytesMax: number }
  readonly delivery: Delivery
  readonly adapters: { readonly list: readonly Adapter[] }
  readonly sink: ClickHouseSink
  readonly disk: StoreRetention
  readonly ledger: Ledger
  readonly served: ServedLedger
  readonly lane: Lane
  readonly reload: Reload
  readonly safety: Safety
  /** Of the HTTP server, once it listens. */
  readonly httpAddress: () => string
}

export interface Status {
  readonly ledger: LedgerSource
  readonly status: StatusSource
}

const NODES_LISTED = 1000
const PING_MS = 900

export function createStatus(parts: StatusParts): Status {
  const startedMs = parts.clock.now()
  const firsts = new Firsts(parts)
  return {
    ledger: {
      through: () => throughMs(parts),
      coverage: (fromMs, toMs) => parts.served.coverage(fromMs, toMs),
      precisionNs: () => (rowsOf(parts.als) > 0 || parts.ledger.since() !== null ? 1 : null),
      nodes: () => parts.ledger.nodes(),
      adapters: () => parts.ledger.adapters(),
      since: () => parts.ledger.since(),
    },
    status: {
      report: (signal) => report(parts, startedMs, firsts, signal),
      unhealthy: () => [],
      async unready(signal) {
        const reasons: string[] = []
        if (parts.journal.state !== 'ok') reasons.push(`journal: ${parts.journal.reason ?? parts.journal.state}`)
        if (parts.disk.usage.over) reasons.push('store: its disk budget is used up and nothing more may be dropped')
        if (!(await ping(parts, signal)).ready) {
          reasons.push(`store: no answer${parts.embedded === undefined ? '' : ` (${parts.embedded.state})`}`)
        }
        return reasons
      },
    },
  }
}

/** Everything that arrived before this moment is in the store. Null before the first row. */
function throughMs({ clock, journal, lane, ledger, stored }: StatusParts): number | null {
  if (ledger.since() === null) return null
  return Math.min(journal.oldestUnacked(stored) ?? Number.POSITIVE_INFINITY, lane.pendingSinceMs ?? clock.now())
}

async function ping(parts: StatusParts, signal: AbortSignal): Promise<{ ready: boolean; ms: number | null }> {
  const began = performance.now()
  const ready = await parts.store.ping(AbortSignal.any([signal, AbortSignal.timeout(PING_MS)]))
  return { ready, ms: ready ? performance.now() - began : null }
}

const iso = (ms: number | null): string | null => (ms === null || ms === 0 ? null : new Date(ms).toISOString())

async function report(
  parts: StatusParts,
  startedMs: number,
  firsts: Firsts,
  signal: AbortSignal,
): Promise<StatusReport> {
  const { als, journal, delivery, disk, embedded, ledger } = parts
  const [answer, free] = await Promise.all([ping(parts, signal), freeBytes(parts.data)])
  const streams = als.streams()
  const backlog = delivery.backlog()
  const stats = delivery.stats()
  return {
    version: VERSION,
    started: new Date(startedMs).toISOString(),
    config: configOf(parts.reload),
    listeners: [{ name: 'http', address: parts.httpAddress(), state: 'listening', error: null }, ...listenersOf(parts)],
    receivers: receiversOf(parts),
    nodes: nodesOf(streams, ledger),
    store: {
      kind: parts.stored === 'kafka' ? 'none' : embedded === undefined ? 'clickhouse' : 'embedded',
      ready: answer.ready,
      ping_ms: answer.ms,
      waiting_rows: backlog.rows,
      waiting_segments: backlog.segments,
      restarts: embedded?.restarts ?? 0,
      error: stats.failures > 0 ? stats.lastError : null,
    },
    adapters: parts.adapters.list.flatMap(adapterOf),
    disk: {
      journal_bytes: journal.stats().bytesOnDisk,
      journal_bytes_max: parts.bounds.journalBytesMax,
      store_bytes: disk.usage.bytes,
      store_bytes_max: disk.usage.bytesMax,
      free_bytes: free,
      full: journal.state !== 'ok',
      days_left: null,
    },
    first_run: firsts.steps(answer.ready, streams),
  }
}

export function configOf({ last, counters, takenMs }: Reload): StatusReport['config'] {
  return {
    taken: new Date(takenMs).toISOString(),
    reloads_taken: counters.taken,
    reloads_refused: counters.refused,
    last_reload:
      last === null
        ? null
        : {
            time: new Date(last.timeMs).toISOString(),
            trigger: last.trigger,
            taken: last.taken,
            changes: last.changes.map(({ text }) => text),
            reasons: [...last.reasons],
          },
  }
}

/** One entry for each sink of an adapter. */
function adapterOf({ name, endpoint, deliveries }: Adapter): StatusReport['adapters'] {
  return deliveries.map((delivery) => {
    const { circuit, lastError, lastAcceptedMs } = delivery.stats()
    const { segments, bytes, oldestMs } = delivery.backlog()
    return {
      name,
      sink: delivery.sink,
      endpoint,
      circuit: circuit.state,
      failures: circuit.failures,
      failing_since: iso(circuit.sinceMs),
      next_attempt: iso(circuit.nextAttemptMs),
      last_accepted: iso(lastAcceptedMs),
      last_error: lastError,
      ...delivery.account(),
      held_segments: segments,
      held_bytes: bytes,
      held_since: iso(oldestMs),
    }
  })
}

/** Nodes with open streams first, those heard last at the top. */
function nodesOf(streams: readonly AlsStream[], ledger: Ledger): StatusReport['nodes'] {
  const open = new Map<string, { cluster: string; lastMs: number }>()
  for (const { origin, lastMs } of streams) {
    if (origin === null) continue
    const known = open.get(origin.nodeId)
    if (known === undefined || known.lastMs < lastMs) open.set(origin.nodeId, { cluster: origin.nodeCluster, lastMs })
  }
  const counted = ledger.nodes()
  const rows = new Map(counted.map((node) => [node.node, node.decoded]))
  const connected = [...open]
    .sort(([, a], [, b]) => b.lastMs - a.lastMs)
    .map(([node, { cluster, lastMs }]) => ({
      node,
      cluster,
      connected: true,
      last_row: (rows.get(node) ?? 0) > 0 ? iso(lastMs) : null,
      rows: rows.get(node) ?? 0,
    }))
  const gone = counted
    .filter(({ node }) => !open.has(node))
    .map(({ node, decoded }) => ({ node, cluster: '', connected: false, last_row: null, rows: decoded }))
  return { connected: open.size, seen: counted.length, list: [...connected, ...gone].slice(0, NODES_LISTED) }
}

/** The steps of the first ten minutes, and when each was first seen to be done. */
class Firsts {
  readonly #parts: StatusParts
  readonly #at = new Map<string, number>()

  constructor(parts: StatusParts) {
    this.#parts = parts
  }

  steps(storeReady: boolean, streams: readonly AlsStream[]): StatusReport['first_run'] {
    const { grpc, als, ledger, clock, httpAddress } = this.#parts
    const { counters } = grpc
    const through = throughMs(this.#parts)
    const since = ledger.since()
    const identified = streams.find(({ origin }) => origin !== null)?.origin
    const step = (id: string, title: string, done: boolean, seen: string | null, help: string | null) => {
      if (done && !this.#at.has(id)) this.#at.set(id, clock.now())
      const at = this.#at.get(id)
      return {
        step: id,
        title,
        done: at !== undefined,
        at: at === undefined ? null : iso(at),
        seen: at === undefined ? seen : null,
        help: at === undefined ? help : null,
      }
    }
    const strangers = this.#strangers()
    const rejected = als.rejected()[0]
    return [
      step(
        'listening',
        `listening on ${grpc.address} (ALS over gRPC) and ${httpAddress()} (this page)`,
        true,
        null,
        null,
      ),
      step(
        'store',
        'store answers',
        storeReady,
        'no answer',
        'the log says why; what arrives meanwhile waits in the journal',
      ),
      step(
        'connected',
        'a proxy is connected',
        counters.streamsOpened > 0,
        strangers?.seen ?? 'no connection yet',
        strangers?.help ?? `point an access log service (envoy.access_loggers.http_grpc) at ${grpc.address}`,
      ),
      step(
        'identified',
        identified === undefined
          ? 'it has said who it is'
          : `it is ${identified?.nodeId || identified?.nodeCluster || 'without a name'}`,
        identified !== undefined,
        rejected === undefined ? 'streams without an identifier' : `${rejected.reason} from ${rejected.peer}`,
        'Envoy sends its identifier with the first entries; send a request through the proxy',
      ),
      step(
        'first_row',
        'the first row is here',
        since !== null,
        'a stream without entries',
        'send a request through the proxy; it is flushed within a second, or as buffer_flush_interval says',
      ),
      step(
        'first_minute',
        'the first minute is complete',
        since !== null && through !== null && Math.floor(through / 60_000) > Math.floor(since / 60_000),
        since === null ? 'no row yet' : 'the first minute is not over',
        'wait for the minute to end',
      ),
      step(
        'stats',
        "Envoy's own counters for the ledger",
        false,
        'no counters',
        'this version takes access logs only: what was served and never logged is not known',
      ),
    ]
  }

  /** What connected and was not gRPC, and what to do about it. */
  #strangers(): { seen: string; help: string } | null {
    const { counters, address } = this.#parts.grpc
    const {
      connectionsTls: tls,
      connectionsHttp1: http1,
      connectionsOther: other,
      streamsUnimplemented: unknown,
    } = counters
    const refused = this.#parts.safety.guards.get('grpc')?.counters.refused
    if (refused !== undefined && refused.plaintext > 0) {
      return { seen: `${refused.plaintext} connections spoke no TLS`, help: 'the cluster needs a transport_socket' }
    }
    const why = TLS_REFUSALS.find((reason) => (refused?.[reason] ?? 0) > 0)
    if (refused !== undefined && why !== undefined) {
      return { seen: `${refused[why]} connections were refused: ${why}`, help: 'docs/safety.md says what each means' }
    }
    if (counters.streamsUnauthorized > 0) {
      const seen = `${counters.streamsUnauthorized} streams had no token that allows ingest`
      return { seen, help: 'initial_metadata of the grpc_service has to have authorization: Bearer TOKEN' }
    }
    if (tls > 0)
      return { seen: `${tls} connections spoke TLS`, help: `${address} is without TLS: remove the transport socket` }
    if (http1 > 0) {
      return { seen: `${http1} connections spoke HTTP/1`, help: 'the cluster needs http2_protocol_options: {}' }
    }
    if (unknown > 0) return { seen: `${unknown} calls of services that are not here`, help: 'this version takes ALS' }
    if (other > 0) return { seen: `${other} connections spoke something else`, help: 'the port takes gRPC' }
    return null
  }
}
