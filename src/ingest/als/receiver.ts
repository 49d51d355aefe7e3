import type { Origin } from '../../model/batch.ts'
import type { RowTable } from '../../model/schema.ts'
import type { CallInfo, Gate, GrpcService, StreamHandler } from '../grpc/index.ts'
import type { AlsDecoder, AlsStreamState } from './decode.ts'
import { createRejectedLog, type RejectedGroup } from './rejected.ts'

/**
 * `envoy.service.accesslog.v3.AccessLogService` on the gRPC port: messages of a stream go to the decoder, with the
 * identity that the stream's first message gave. Envoy is never answered before it half-closes, and reads no answer.
 *
 * A message that cannot be read costs what cannot be read of it: it is counted, kept as a sample, and the stream lives
 * on, since ending it would cost everything under way.
 */
export interface AlsReceiver {
  readonly services: readonly GrpcService[]
  /** What was refused lately, latest first. */
  rejected(): RejectedGroup[]
  /** Open streams, oldest first. */
  streams(): AlsStream[]
  readonly counters: Readonly<AlsCounters>
}

export interface AlsReceiverOptions {
  readonly decoder: AlsDecoder
  /** Hands on the builder of a table that is full. False: there is no room, and `gate` is closed now. */
  readonly flush: (table: RowTable) => boolean
  readonly gate: Gate
  /** What arrived of a node, after every message. */
  readonly onDecoded?: (nodeId: string, decoded: number, rejected: number) => void
  /** Wall clock, ms. */
  readonly clock?: () => number
}

export interface AlsCounters {
  messages: number
  bytes: number
  requests: number
  attempts: number
  progress: number
  connections: number
  /** Entries, by reason. */
  readonly rejected: Map<string, number>
  /** Strings cut, map entries and nested values left out. */
  cut: number
  /** Entries without a usable start time. */
  untimed: number
  /** Wall clock, ms, of the last message; 0 before the first. */
  lastMs: number
}

export interface AlsStream {
  readonly peer: string
  /** Null until the stream has said who it is. */
  readonly origin: Origin | null
  readonly sinceMs: number
  readonly lastMs: number
  readonly messages: number
  readonly bytes: number
  readonly entries: number
  readonly rejected: number
}

const METHOD = 'StreamAccessLogs'
/** v2 is gone from Envoy since 1.18; its messages have the same fields as far as they go. */
const SERVICES = ['envoy.service.accesslog.v3.AccessLogService', 'envoy.service.accesslog.v2.AccessLogService']

export function createAlsReceiver(options: AlsReceiverOptions): AlsReceiver {
  const { gate } = options
  const counters: AlsCounters = {
    messages: 0,
    bytes: 0,
    requests: 0,
    attempts: 0,
    progress: 0,
    connections: 0,
    rejected: new Map(),
    cut: 0,
    untimed: 0,
    lastMs: 0,
  }
  const shared: Shared = {
    ...options,
    clock: options.clock ?? Date.now,
    counters,
    rejectedLog: createRejectedLog(),
    streams: new Set(),
  }
  const open = (call: CallInfo): StreamHandler => new ReceivedStream(shared, call)
  return {
    services: SERVICES.map((name) => ({ name, gate, methods: { [METHOD]: { kind: 'streaming', open } } })),
    rejected: () => shared.rejectedLog.list(),
    streams: () => [...shared.streams].map((stream) => stream.describe()),
    counters,
  }
}

interface Shared extends Omit<AlsReceiverOptions, 'clock'> {
  readonly clock: () => number
  readonly counters: AlsCounters
  readonly rejectedLog: ReturnType<typeof createRejectedLog>
  readonly streams: Set<ReceivedStream>
}

/** StreamAccessLogsResponse has no fields. */
const RESPONSE = new Uint8Array(0)

class ReceivedStream implements StreamHandler, AlsStreamState {
  /** Set by the decoder when a message has an identifier. */
  origin: Origin | null = null
  readonly #shared: Shared
  readonly #call: CallInfo
  #messages = 0
  #bytes = 0
  #entries = 0
  #rejected = 0
  #lastMs: number
  /**
   * Where to go on in a message that was left half-way because there was no room, after its start: it may lie elsewhere
   * when it is given again. −1 otherwise.
   */
  #resume = -1

  constructor(shared: Shared, call: CallInfo) {
    this.#shared = shared
    this.#call = call
    this.#lastMs = call.openedMs
    shared.streams.add(this)
  }

  onMessage(bytes: Uint8Array, start: number, end: number): 'again' | null {
    const { decoder, flush, counters, onDecoded } = this.#shared
    const now = this.#shared.clock()
    let from = this.#resume < 0 ? undefined : start + this.#resume
    this.#resume = -1
    let decoded = 0
    let rejected = 0
    let verdict: 'again' | null = null
    for (;;) {
      const result = decoder.decode(bytes, start, end, this, now, from)
      const rows = result.requests + result.attempts + result.progress + result.connections
      decoded += rows
      counters.requests += result.requests
      counters.attempts += result.attempts
      counters.progress += result.progress
      counters.connections += result.connections
      counters.cut += result.cut
      counters.untimed += result.untimed
      if (result.rejected > 0) {
        rejected += result.rejected
        this.#reject(result.reason ?? 'malformed', result.rejected, now, bytes, start, end, result.offset)
      }
      if (result.full === null) break
      from = result.resume
      if (flush(result.full)) continue
      this.#resume = from - start
      verdict = 'again'
      break
    }
    this.#entries += decoded
    this.#rejected += rejected
    onDecoded?.(this.origin?.nodeId ?? '', decoded, rejected)
    if (verdict !== null) return verdict
    this.#messages++
    this.#bytes += end - start
    this.#lastMs = now
    counters.messages++
    counters.bytes += end - start
    counters.lastMs = now
    return null
  }

  onEnd(): Uint8Array {
    return RESPONSE
  }

  onClose(): void {
    this.#shared.streams.delete(this)
  }

  describe(): AlsStream {
    return {
      peer: this.#call.peer,
      origin: this.origin,
      sinceMs: this.#call.openedMs,
      lastMs: this.#lastMs,
      messages: this.#messages,
      bytes: this.#bytes,
      entries: this.#entries,
      rejected: this.#rejected,
    }
  }

  #reject(
    reason: string,
    count: number,
    timeMs: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    offset: number,
  ): void {
    const { counters, rejectedLog } = this.#shared
    counters.rejected.set(reason, (counters.rejected.get(reason) ?? 0) + count)
    const { nodeId = '', logName = '' } = this.origin ?? {}
    const { peer } = this.#call
    rejectedLog.add({ timeMs, reason, peer, nodeId, logName, count, bytes, start, end, offset })
  }
}
