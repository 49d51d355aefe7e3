import { encode } from '@msgpack/msgpack'
import type { Access } from '../../lib/access.ts'
import { createGenerations } from '../../lib/generations.ts'
import type { Origin } from '../../model/batch.ts'
import type { LaneGate } from '../../pipeline/lane.ts'
import type { Stage } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import type { EntryWriter } from '../entry/entry.ts'
import type { Origins, Sender } from '../entry/origins.ts'
import { createGateWait } from '../lines/gate.ts'
import type { LineParser } from '../lines/parser.ts'
import { createRejectedLines, type RejectedLinesGroup } from '../lines/rejected-lines.ts'
import { createUnwrapper, type Hints, type Unwrapper } from '../lines/unwrap/index.ts'
import { createStreamListener, type StreamCounters, type StreamHandler, type StreamPeer } from '../stream/listener.ts'
import { type ForwardEvent, type ForwardMessage, jsonOf, readMessage } from './message.ts'
import { type ScanLimits, ValueScanner } from './scan.ts'

/**
 * The Fluentd forward protocol: Envoy's Fluentd access logger, Fluentd, Fluent Bit. A record is read as the same map in a JSON
 * log would be; what collectors put around a line is taken away.
 *
 *   bytes ─► one message after the other ─► events ─► parser ─► EntryWriter ─► fsync ─► { ack: chunk }
 */
export interface FluentdReceiver extends Stage {
  readonly address: string
  readonly counters: Readonly<FluentdCounters>
  readonly connections: Readonly<StreamCounters>
  rejected(): RejectedLinesGroup[]
}

export interface FluentdCounters {
  messages: number
  events: number
  /** Events that became rows. */
  rows: number
  /** Events and messages that did not, by reason. */
  readonly rejected: Map<string, number>
  acks: number
  /** Chunks that came again after they had been stored, and were only acknowledged. */
  repeated: number
  /** Wall clock, ms, of the last message; 0 before the first. */
  lastMs: number
}

export interface FluentdReceiverOptions {
  readonly listen: string
  /** Everybody's, without TLS, where it is absent. */
  readonly access?: Access
  /** A parser for one connection: it may remember which form came last. */
  readonly createParser: () => LineParser
  readonly writer: EntryWriter
  readonly origins: Origins
  /** Node id of rows that do not say whose they are; '' for the address of the sender. */
  readonly node: string
  /** What is known of all senders. */
  readonly sender?: Pick<Sender, 'mesh' | 'self' | 'nodeType'>
  /** Resolves when everything committed is fsynced. Rejects when the journal has no room. */
  readonly synced: () => Promise<void>
  readonly gate: LaneGate
  readonly onDecoded?: (nodeId: string, decoded: number, rejected: number) => void
  readonly log: Log
  readonly limits?: Partial<FluentdLimits>
  readonly clock?: () => number
}

export interface FluentdLimits extends ScanLimits {
  readonly connectionsMax: number
  /** Messages that have not ended, over all connections. */
  readonly bufferedBytesMax: number
  readonly stallMs: number
  readonly sweepMs: number
  /** Chunks remembered after they were stored. */
  readonly chunksMax: number
}

/** Fluent Bit sends 2 MiB at once, Fluentd's default chunk is 8 MiB; both compressed to a tenth at most. */
const LIMITS: FluentdLimits = {
  bytesMax: 32 * 1024 * 1024,
  depthMax: 32,
  valuesMax: 1_000_000,
  connectionsMax: 2000,
  bufferedBytesMax: 256 * 1024 * 1024,
  stallMs: 30_000,
  sweepMs: 1000,
  chunksMax: 20_000,
}
const CHUNK_CHARS_MAX = 256
/** Events between two commits: the writer may hold little more. */
const COMMIT_EVENTS = 1000

export function createFluentdReceiver(options: FluentdReceiverOptions): FluentdReceiver {
  const limits: FluentdLimits = { ...LIMITS, ...options.limits }
  const counters: FluentdCounters = {
    messages: 0,
    events: 0,
    rows: 0,
    rejected: new Map(),
    acks: 0,
    repeated: 0,
    lastMs: 0,
  }
  const stopping = new AbortController()
  const shared: Shared = {
    options,
    limits,
    counters,
    rejectedLines: createRejectedLines(),
    buffered: { bytes: 0 },
    chunks: createGenerations(limits.chunksMax),
    whenOpen: createGateWait(options.gate),
    stopping: stopping.signal,
    clock: options.clock ?? Date.now,
    committing: Promise.resolve(),
  }
  const listener = createStreamListener({
    name: 'fluentd',
    listen: options.listen,
    option: 'ingest.fluentd.listen',
    ...(options.access && { access: options.access }),
    log: options.log,
    connectionsMax: limits.connectionsMax,
    stallMs: limits.stallMs,
    sweepMs: limits.sweepMs,
    open: (peer) => new ForwardConnection(shared, peer),
  })
  return {
    name: 'fluentd',
    counters,
    connections: listener.counters,
    get address() {
      return listener.address
    },
    rejected: () => shared.rejectedLines.list(),
    start: () => listener.start(),
    async stop(deadline) {
      const give = (): void => stopping.abort()
      if (deadline.aborted) give()
      deadline.addEventListener('abort', give, { once: true })
      await listener.stop(deadline)
      give()
      deadline.removeEventListener('abort', give)
    },
  }
}

interface Shared {
  readonly options: FluentdReceiverOptions
  readonly limits: FluentdLimits
  readonly counters: FluentdCounters
  readonly rejectedLines: ReturnType<typeof createRejectedLines>
  readonly buffered: { bytes: number }
  /** Chunks that have been stored. */
  readonly chunks: ReturnType<typeof createGenerations<string, true>>
  readonly whenOpen: (signal: AbortSignal) => Promise<void>
  readonly stopping: AbortSignal
  readonly clock: () => number
  /** Messages of different connections use one writer, one after the other. */
  committing: Promise<void>
}

class ForwardConnection implements StreamHandler {
  readonly #shared: Shared
  readonly #peer: StreamPeer
  readonly #scanner: ValueScanner
  readonly #parser: LineParser
  readonly #unwrapper: Unwrapper = createUnwrapper()
  readonly #origins = new Map<string, WeakMap<Hints, Origin>>()
  #bytes: Buffer = NOTHING

  constructor(shared: Shared, peer: StreamPeer) {
    this.#shared = shared
    this.#peer = peer
    this.#scanner = new ValueScanner(shared.limits)
    this.#parser = shared.options.createParser()
  }

  get holds(): boolean {
    return this.#bytes.length > 0
  }

  async onChunk(chunk: Buffer): Promise<boolean> {
    const { buffered, limits } = this.#shared
    buffered.bytes -= this.#bytes.length
    this.#bytes = this.#bytes.length === 0 ? chunk : this.#append(chunk)
    for (;;) {
      const length = this.#bytes.length === 0 ? 0 : this.#scanner.scan(this.#bytes)
      if (typeof length === 'string') {
        // Where the next message begins cannot be told.
        this.#reject(length, 1, '')
        this.#bytes = NOTHING
        return false
      }
      if (length === 0) break
      const message = this.#bytes.subarray(0, length)
      this.#bytes = this.#bytes.subarray(length)
      await this.#message(message)
      if (this.#shared.stopping.aborted) return false
    }
    buffered.bytes += this.#bytes.length
    if (buffered.bytes > limits.bufferedBytesMax) {
      this.#reject('memory', 1, '')
      buffered.bytes -= this.#bytes.length
      this.#bytes = NOTHING
      return false
    }
    return true
  }

  async onEnd(): Promise<void> {
    if (this.#bytes.length > 0) this.#reject('cut_off', 1, '')
    this.#shared.buffered.bytes -= this.#bytes.length
    this.#bytes = NOTHING
  }

  /** Twice as large each time: a message that comes in thousands of pieces must not be copied for each of them. */
  #append(chunk: Buffer): Buffer {
    const used = this.#bytes.length
    const room = this.#bytes.buffer.byteLength - this.#bytes.byteOffset
    if (this.#owned === this.#bytes.buffer && room >= used + chunk.length) {
      const larger = Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset, used + chunk.length)
      larger.set(chunk, used)
      return larger
    }
    const grown = new ArrayBuffer(Math.max(2 * (used + chunk.length), 4096))
    this.#owned = grown
    const bytes = Buffer.from(grown, 0, used + chunk.length)
    bytes.set(this.#bytes, 0)
    bytes.set(chunk, used)
    return bytes
  }
  #owned: ArrayBufferLike | undefined

  async #message(bytes: Buffer): Promise<void> {
    const { limits, counters, clock, chunks } = this.#shared
    counters.messages++
    counters.lastMs = clock()
    const message = await readMessage(bytes, limits)
    if (message === null) return
    if (typeof message === 'string') {
      this.#reject(message, 1, '')
      return
    }
    for (const reason of new Set(message.rejected)) {
      this.#reject(reason, message.rejected.filter((one) => one === reason).length, '')
    }
    const chunk = message.chunk.slice(0, CHUNK_CHARS_MAX)
    if (chunk !== '' && chunks.get(chunk) === true) {
      counters.repeated++
      this.#acknowledge(message.chunk)
      return
    }
    // One message at a time holds the writer.
    const before = this.#shared.committing
    let leave = (): void => {}
    this.#shared.committing = new Promise((resolve) => {
      leave = resolve
    })
    try {
      await before
      if (!(await this.#store(message))) return
    } finally {
      leave()
    }
    if (chunk === '' || !(await this.#synced())) return
    chunks.set(chunk, true)
    this.#acknowledge(message.chunk)
  }

  /** False: shut down before all of it was rows. */
  async #store({ events, tag }: ForwardMessage): Promise<boolean> {
    const { counters, stopping } = this.#shared
    for (let from = 0; from < events.length; from += COMMIT_EVENTS) {
      const part = events.slice(from, from + COMMIT_EVENTS)
      counters.events += part.length
      let refused = 0
      for (const event of part) if (!this.#event(event, tag)) refused++
      if (refused > 0) this.#shared.options.onDecoded?.(this.#nodeId, 0, refused)
      if (!(await this.#commit())) return false
    }
    return !stopping.aborted
  }

  async #commit(): Promise<boolean> {
    const { options, counters, whenOpen, stopping } = this.#shared
    for (;;) {
      const { added, rejected, reasons, pending } = options.writer.commit()
      counters.rows += added
      if (rejected > 0) for (const [reason, count] of reasons) this.#reject(reason, count, '')
      if (pending === 0) return true
      if (stopping.aborted) return false
      await whenOpen(stopping)
    }
  }

  async #synced(): Promise<boolean> {
    const { options, whenOpen, stopping } = this.#shared
    for (;;) {
      try {
        await options.synced()
        return true
      } catch {
        // No room: the gate is closed until there is.
        if (stopping.aborted) return false
        await whenOpen(stopping)
      }
    }
  }

  /** False: it is no entry. */
  #event(event: ForwardEvent, tag: string): boolean {
    const { entry } = this.#shared.options.writer
    const text = jsonOf(event.record)
    const line = this.#unwrapper.unwrap(text)
    if (line === null) return true // Part of a line; the rest comes in another event.
    const fault = this.#parser.parse(line.text, entry)
    if (fault !== null) {
      entry.reset()
      this.#reject(fault, 1, line.text)
      return false
    }
    if (entry.startSeconds === 0 && entry.endSeconds === 0) {
      // The protocol's own time is that of writing, which is when the request ended.
      const known = line.seconds > 0
      entry.endSeconds = known ? line.seconds : event.seconds
      entry.endNanos = known ? line.nanos : event.nanos
    }
    if (this.#shared.options.writer.add(this.#originOf(line.hints, tag))) return true
    this.#reject('no_room', 1, '')
    return false
  }

  get #nodeId(): string {
    return this.#shared.options.node || this.#peer.host
  }

  #originOf(hints: Hints, tag: string): Origin {
    const parser = this.#parser
    const form = `${parser.source} ${parser.precisionNs} ${tag}`
    let known = this.#origins.get(form)
    if (known === undefined) {
      known = new WeakMap()
      if (this.#origins.size >= TAGS_MAX) this.#origins.clear()
      this.#origins.set(form, known)
    }
    let origin = known.get(hints)
    if (origin === undefined) {
      const { origins, sender } = this.#shared.options
      const pod = hints.pod === '' || hints.namespace === '' ? hints.pod : `${hints.pod}.${hints.namespace}`
      origin = origins.of({
        source: parser.source,
        precisionNs: parser.precisionNs,
        nodeId: pod || this.#nodeId,
        logName: tag,
        ...sender,
        self: {
          namespace: hints.namespace,
          service: hints.service,
          version: hints.version,
          app: hints.app,
          cluster: hints.cluster,
          ...sender?.self,
        },
      })
      known.set(hints, origin)
    }
    return origin
  }

  #acknowledge(chunk: string): void {
    const { socket } = this.#peer
    if (socket.destroyed || !socket.writable) return
    this.#shared.counters.acks++
    socket.write(encode({ ack: chunk }))
  }

  #reject(reason: string, count: number, text: string): void {
    const { counters, rejectedLines, clock } = this.#shared
    counters.rejected.set(reason, (counters.rejected.get(reason) ?? 0) + count)
    rejectedLines.add({ reason, source: this.#peer.host, position: counters.events, text, timeMs: clock() })
  }
}

const NOTHING: Buffer = Buffer.alloc(0)
/** Tags of one connection that origins are remembered for. */
const TAGS_MAX = 256
