import { bytesOf, type KafkaProducer, type OutRecord, RecordTooLarge } from '../../kafka/producer.ts'
import { type KafkaRefusal, refusalOf } from '../../kafka/refusal.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Segment } from '../../pipeline/segment.ts'
import type { Outcome, SegmentSink } from '../../pipeline/sink.ts'

/**
 * Brings segments to Kafka, by whatever encoder: one batch after another, each acknowledged by all in-sync replicas before
 * the next. The segment is accepted when its last batch is.
 *
 *   segment ─► encode ─► batch, batch, … ─► accepted
 *                          │ too large for the broker: smaller batches from now on, the segment from its beginning
 *                          │ anything else: retry, the segment from its beginning
 *
 * What of a failed attempt did arrive stays in the topic. Whoever reads it tells attempts apart by the header
 * `sidecast-send`, or rows by the segment's id and their place in it.
 */
export interface KafkaSink extends SegmentSink {
  readonly counters: Readonly<KafkaSinkCounters>
}

export interface KafkaSinkCounters {
  segments: number
  records: number
  /** Of keys and values, before compression. */
  bytes: number
  batches: number
  /** Times that the broker found a batch too large. */
  tooLarge: number
  /** Attempts that failed for anything else. */
  failures: number
  /** Of these: the broker does not trust us, or we do not trust it, by certificate or password. */
  refused: Record<KafkaRefusal, number>
  /** Bytes of one batch as it is now. */
  batchBytesMax: number
}

export interface KafkaSinkOptions {
  /** Connects to nothing before it is called. */
  readonly producer: () => Promise<KafkaProducer>
  readonly encode: (segment: Segment, attempt: Attempt) => AsyncIterable<readonly OutRecord[]>
  readonly batchBytesMax: number
  readonly clock: Clock
}

export interface Attempt {
  readonly producer: KafkaProducer
  readonly batchBytesMax: number
  /** The segment may have been sent before: by us, or by a process before us. */
  readonly doubt: boolean
  /** Attempts of this process, from 1. */
  readonly number: number
  /** The encoder tells how many rows of the segment it leaves out. */
  readonly onDropped: (rows: number) => void
}

/** A batch that is too large although it has no more bytes than this will not get through: no broker is set to less. */
export const BATCH_BYTES_MIN = 16 << 10
/** After this long the segment begins anew. Readers count on it: what stands in the topic unfinished for longer stays so. */
export const SEND_MS_MAX = 120_000

export function createKafkaSink(options: KafkaSinkOptions): KafkaSink {
  return new Sink(options)
}

class Sink implements KafkaSink {
  readonly name = 'kafka'
  readonly counters: KafkaSinkCounters
  readonly #options: KafkaSinkOptions
  #producer: Promise<KafkaProducer> | null = null
  #attempts = 0
  /** The one segment that was tried and not accepted; deliveries bring one at a time. */
  #tried: string | null = null
  /** Wall clock, ms: a segment opened before may have been sent by a process before us. */
  #startedMs = Number.POSITIVE_INFINITY
  #stopped: Promise<void> | undefined

  constructor(options: KafkaSinkOptions) {
    this.#options = options
    const { batchBytesMax } = options
    const refused = { tls: 0, sasl: 0 }
    this.counters = { segments: 0, records: 0, bytes: 0, batches: 0, tooLarge: 0, failures: 0, refused, batchBytesMax }
  }

  async start(): Promise<void> {
    this.#startedMs = this.#options.clock.now()
  }

  stop(_deadline: AbortSignal): Promise<void> {
    this.#stopped ??= (async () => {
      const producer = await this.#producer?.catch(() => null)
      await producer?.close()
    })()
    return this.#stopped
  }

  async send(segment: Segment, signal: AbortSignal): Promise<Outcome> {
    const doubt = this.#tried === segment.id || segment.openedMs <= this.#startedMs || segment.recovered === true
    this.#tried = segment.id
    let dropped = 0
    const onDropped = (rows: number) => {
      dropped = rows
    }
    for (;;) {
      try {
        await this.#send(segment, { doubt, onDropped }, signal)
      } catch (error) {
        if (error instanceof RecordTooLarge && this.#smaller()) continue
        return this.#failed(error)
      }
      this.#tried = null
      this.counters.segments++
      return { status: 'accepted', dropped }
    }
  }

  async #send(segment: Segment, more: Pick<Attempt, 'doubt' | 'onDropped'>, signal: AbortSignal): Promise<void> {
    const { encode } = this.#options
    const { counters } = this
    this.#producer ??= this.#options.producer()
    const producer = await this.#producer
    const number = ++this.#attempts
    const beganMs = performance.now()
    for await (const records of encode(segment, { producer, batchBytesMax: counters.batchBytesMax, number, ...more })) {
      signal.throwIfAborted()
      if (performance.now() - beganMs > SEND_MS_MAX) throw new Error(`Kafka took no segment within ${SEND_MS_MAX} ms`)
      await producer.send(records)
      counters.batches++
      counters.records += records.length
      counters.bytes += bytesOf(records)
    }
  }

  /** False: it cannot be made smaller. */
  #smaller(): boolean {
    const { counters } = this
    counters.tooLarge++
    if (counters.batchBytesMax <= BATCH_BYTES_MIN) return false
    counters.batchBytesMax = Math.max(BATCH_BYTES_MIN, Math.floor(counters.batchBytesMax / 2))
    return true
  }

  #failed(error: unknown): Outcome {
    const failure = error instanceof Error ? error : new Error(String(error))
    if (!(failure instanceof RecordTooLarge)) {
      const refusal = refusalOf(failure)
      this.counters.failures++
      if (refusal !== null) this.counters.refused[refusal]++
      return { status: 'retry', error: failure }
    }
    // The next segment may be another matter.
    this.counters.batchBytesMax = this.#options.batchBytesMax
    return { status: 'rejected', error: failure }
  }
}
