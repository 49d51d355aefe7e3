import { SidecastError } from '../../errors.ts'
import { createRejectedLog, type RejectedGroup } from '../als/rejected.ts'
import type { EntryWriter } from '../entry/entry.ts'
import { count, createSignalCounters, type Decoded, type SignalCounters } from './counters.ts'
import { createGroupSync, type GroupSync } from './group-sync.ts'
import type { LogsDecoder } from './logs.ts'
import type { Signal } from './messages.ts'
import type { MetricsDecoder } from './metrics.ts'
import type { Sender } from './resource.ts'
import type { TracesDecoder } from './traces.ts'

/**
 * The one `Export` behind gRPC and HTTP: decodes a request at once, and answers when all that was in it is fsynced.
 *
 * ```
 *   gate closed ──────────────────────────────────────────────▶ unavailable, nothing was read
 *   decode ─┬─ nothing of it can be read ─────────────────────▶ invalid
 *           └─ rows ─▶ synced ─┬──────────────────────────────▶ ok, with the number of items rejected
 *                              └─ journal full ─▶ gate opens ─▶ synced again; after `WAIT_MS` unavailable
 * ```
 *
 * Invariant: rows of a request whose answer is `ok` survive a power cut. OTLP has no request ids: a sender that never
 * got its answer and sends again is stored twice.
 */
export interface Exporter {
  export(signal: Signal, bytes: Uint8Array, start: number, end: number, sender: Sender): Promise<Answer>
  /** A request that never reached the decoder: too large, not JSON, … Counted, with a sample. */
  refused(signal: Signal, reason: string, sender: Sender, bytes?: Uint8Array): void
  readonly closed: boolean
  readonly counters: Readonly<Record<Signal, SignalCounters>>
  /** What was refused lately, latest first. */
  rejected(): RejectedGroup[]
}

export type Answer =
  | { readonly status: 'ok'; readonly rejected: number; readonly message: string }
  | { readonly status: 'invalid' | 'unavailable'; readonly message: string }

export interface ExporterOptions {
  readonly logs: LogsDecoder
  readonly writer: EntryWriter
  readonly metrics: MetricsDecoder
  readonly traces: TracesDecoder
  readonly gate: { readonly closed: boolean; onOpen(listener: () => void): void }
  /** Hands on rows and spans, and resolves when they are fsynced. Rejects with SC4104 when there is no room. */
  readonly rowsSynced: () => Promise<void>
  /** The same for metrics. */
  readonly metricsSynced: () => Promise<void>
  /** Wall clock, ms. */
  readonly clock?: () => number
  readonly waitMs?: number
  readonly restMs?: number
}

/** How long a request whose rows are already taken waits for room. Senders give up earlier: SDKs after 10 s. */
const WAIT_MS = 30_000
const AGAIN_MS = 20
/** Senders wait this much longer, and a block has so many more rows: its cost is shared. */
const REST_MS = 25

export function createExporter(options: ExporterOptions): Exporter {
  return new OtlpExporter(options)
}

class OtlpExporter implements Exporter {
  readonly counters: Record<Signal, SignalCounters> = {
    logs: createSignalCounters(),
    metrics: createSignalCounters(),
    traces: createSignalCounters(),
  }
  readonly #options: ExporterOptions
  readonly #clock: () => number
  readonly #rejectedLog = createRejectedLog()
  readonly #rowsSynced: GroupSync
  readonly #metricsSynced: GroupSync
  /** Called when the gate opens. */
  #waiting: (() => void)[] = []

  constructor(options: ExporterOptions) {
    this.#options = options
    this.#clock = options.clock ?? Date.now
    const restMs = options.restMs ?? REST_MS
    this.#rowsSynced = createGroupSync({ sync: options.rowsSynced, restMs })
    this.#metricsSynced = createGroupSync({ sync: options.metricsSynced, restMs })
    options.gate.onOpen(() => this.#onOpen())
  }

  get closed(): boolean {
    return this.#options.gate.closed
  }

  rejected(): RejectedGroup[] {
    return this.#rejectedLog.list()
  }

  refused(signal: Signal, reason: string, sender: Sender, bytes: Uint8Array = NOTHING): void {
    count(this.counters[signal].refused, reason)
    this.#sample(signal, reason, 1, sender, bytes, 0, bytes.length, 0)
  }

  async export(signal: Signal, bytes: Uint8Array, start: number, end: number, sender: Sender): Promise<Answer> {
    const counters = this.counters[signal]
    const now = this.#clock()
    counters.requests++
    counters.bytes += end - start
    counters.lastMs = now
    if (this.closed) {
      count(counters.refused, 'no_room')
      return { status: 'unavailable', message: NO_ROOM }
    }
    const decoded = this.#decode(signal, bytes, start, end, sender, now)
    counters.items += decoded.items
    const rejected = decoded.rejected
    // Where framing is lost the rest of the items cannot be counted: there may be more rejected than were seen.
    const accepted = Math.max(0, decoded.items - Math.min(rejected, decoded.items))
    counters.accepted += accepted
    if (rejected > 0) {
      count(counters.rejected, decoded.reason, rejected)
      this.#sample(signal, decoded.reason, rejected, sender, bytes, start, end, decoded.offset)
    }
    if (decoded.malformed && accepted === 0) {
      count(counters.refused, 'malformed')
      return { status: 'invalid', message: `not a valid Export request: ${describe(decoded)}` }
    }
    if (decoded.reason === 'no_room') {
      count(counters.refused, 'no_room')
      return { status: 'unavailable', message: NO_ROOM }
    }
    if (accepted > 0 && !(await this.#synced(signal, now))) {
      count(counters.refused, 'no_room')
      return { status: 'unavailable', message: NO_ROOM }
    }
    return { status: 'ok', rejected, message: rejected === 0 ? '' : describe(decoded) }
  }

  #decode(signal: Signal, bytes: Uint8Array, start: number, end: number, sender: Sender, now: number): Decoded {
    const { logs, writer, metrics, traces } = this.#options
    if (signal === 'metrics') return metrics.decode(bytes, start, end, sender, now)
    if (signal === 'traces') return traces.decode(bytes, start, end, sender, now)
    const decoded = logs.decode(bytes, start, end, sender)
    const committed = writer.commit()
    if (committed.rejected === 0) return decoded
    const [reason = 'malformed'] = committed.reasons.keys()
    return {
      ...decoded,
      rejected: decoded.rejected + committed.rejected,
      reason: decoded.reason || reason,
    }
  }

  /** False: there was no room for too long. What was decoded stays, and is stored when there is room. */
  async #synced(signal: Signal, sinceMs: number): Promise<boolean> {
    const { writer, waitMs = WAIT_MS } = this.#options
    const { added } = writer
    const synced = signal === 'metrics' ? this.#metricsSynced : this.#rowsSynced
    for (;;) {
      if (signal !== 'logs' || writer.taken >= added) {
        try {
          await synced()
          return true
        } catch (error) {
          if (!(error instanceof SidecastError) || error.code !== 'SC4104') throw error
        }
      }
      const left = sinceMs + waitMs - this.#clock()
      if (left <= 0) return false
      await this.#room(left)
    }
  }

  /** Resolves when the gate is open, or after `ms`. Never at once: it may have closed and opened meanwhile. */
  async #room(ms: number): Promise<void> {
    if (!this.closed && this.#options.writer.pending === 0) {
      await new Promise((resolve) => setTimeout(resolve, Math.min(ms, AGAIN_MS)))
      return
    }
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#waiting.push(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }

  #onOpen(): void {
    if (this.#options.writer.pending > 0) this.#options.writer.commit()
    if (this.closed) return
    const waiting = this.#waiting
    this.#waiting = []
    for (const resume of waiting) resume()
  }

  #sample(
    signal: Signal,
    reason: string,
    items: number,
    sender: Sender,
    bytes: Uint8Array,
    start: number,
    end: number,
    offset: number,
  ): void {
    this.#rejectedLog.add({
      timeMs: this.#clock(),
      reason,
      peer: sender.peer,
      nodeId: sender.node,
      logName: `otlp ${signal}`,
      count: items,
      bytes,
      start,
      end,
      offset,
    })
  }
}

const NOTHING = new Uint8Array(0)
const NO_ROOM = 'the journal is full, try again later'

function describe({ rejected, reason, offset }: Decoded): string {
  return `${rejected} rejected: ${MEANINGS[reason] ?? reason} (first at byte ${offset})`
}

const MEANINGS: Readonly<Record<string, string>> = {
  malformed: 'cannot be read as protobuf',
  not_access_log: 'log records that are no access log entries',
  entry_too_large: 'an entry is larger than 1 MiB',
  no_room: 'too much waits to be stored',
  no_ids: 'spans without a trace id or span id',
  no_name: 'metrics without a name',
  no_value: 'data points without a value',
  no_temporality: 'sums or histograms without an aggregation temporality',
  not_a_number: 'counters that are not a number',
  negative: 'monotonic sums below zero',
  bad_buckets: 'histograms whose bounds do not ascend or do not fit their counts',
  bad_scale: 'exponential histograms with a scale outside −10 … 20',
  bad_quantile: 'summaries with quantiles outside 0 … 1',
  too_many_buckets: 'histograms with too many buckets',
}
