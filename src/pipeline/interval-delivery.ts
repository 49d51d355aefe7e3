import type { Clock } from '../lib/clock.ts'
import type { Log } from '../telemetry/log.ts'
import type { Delivery, DeliveryStats } from './delivery.ts'
import { DeliveryLife, rowsOf } from './delivery-life.ts'
import type { Journal } from './journal.ts'
import type { Account, Backlog } from './journal-reader.ts'
import type { Segment } from './segment.ts'
import type { Outcome, Stage } from './sink.ts'

/**
 * Brings what the segments of an interval add up to, to one durable sink.
 *
 *   next ─► add ─► … the interval is over, or a bound reached ─► flush ─► accepted ─► all its segments acknowledged at once
 *                                                                  ▲      retry ────► wait, flush the same again
 *                                                                  └──────────────────┘
 *                                                                         rejected ─► dead letters, acknowledged
 *
 * Segments are acknowledged after the flush and not when they are read, so a killed process reads them again: nothing is
 * lost. Which interval a segment belongs to follows from when it was sealed, not from when it is read: after an outage or
 * a restart a backlog is sent interval by interval, as it would have been. An interval is sent twice when the process
 * dies between the target's answer and the cursor; it has the same segments then, and the same times.
 *
 * At a stop the open interval is sent as far as it has come; what comes later of it is sent as a further part.
 */
export interface Aggregate {
  /** Adds one segment. After a rejection the aggregate is thrown away, and its segments are read again into a new one. */
  add(segment: Segment, signal: AbortSignal): Promise<void>
  /** A bound is reached: the interval is sent before its time is over, and goes on in a further part. */
  readonly full: boolean
}

/** Segments that were sealed from `fromMs` up to and without `toMs`, by our clock; both are multiples of the interval. */
export interface Interval {
  readonly fromMs: number
  readonly toMs: number
  /** Ids, in order: what identifies the content. */
  readonly segments: readonly string[]
  /** Rows of them. */
  readonly rows: number
  /** 0 for the first flush of this interval since the process started, 1 for the second, … */
  readonly part: number
}

export interface IntervalSink<A extends Aggregate> extends Stage {
  /** Called for one interval at a time, in order, again after `retry` with the same one. Expected failures are values. */
  flush(aggregate: A, interval: Interval, signal: AbortSignal): Promise<Outcome>
}

export interface IntervalDeliveryOptions<A extends Aggregate> {
  readonly sink: IntervalSink<A>
  /** An empty aggregate. */
  readonly create: () => A
  readonly journal: Journal
  readonly clock: Clock
  readonly log: Log
  /** Intervals begin at multiples of it since 1970. */
  readonly intervalMs: number
  /** How long after its end an interval waits for segments that are on their way to the disk; at most its own length. */
  readonly graceMs?: number
  /** Segments of one part: bounds what a restart reads again. */
  readonly segmentsMax?: number
  readonly retryFirstMs?: number
  readonly retryMaxMs?: number
  readonly random?: () => number
}

/** A segment is published some 10 ms after it was sealed; a busy disk takes longer. */
const GRACE_MS = 1500
const SEGMENTS_MAX = 1000
/** A segment that cannot be read so often is set aside. */
const READS_MAX = 3

export function createIntervalDelivery<A extends Aggregate>(options: IntervalDeliveryOptions<A>): Delivery {
  return new IntervalDelivery(options)
}

interface Open<A> {
  readonly index: number
  aggregate: A
  readonly segments: Segment[]
  readonly part: number
}

class IntervalDelivery<A extends Aggregate> implements Delivery {
  readonly name: string
  readonly sink: string
  readonly #options: IntervalDeliveryOptions<A>
  readonly #life: DeliveryLife
  #open: Open<A> | null = null
  /** The segment that could not be read last, and how often: those before it are read again each time. */
  #unread = { id: '', failures: 0 }
  /** The interval that was flushed last, and how often. */
  #last = { index: -1, parts: 0 }

  constructor(options: IntervalDeliveryOptions<A>) {
    this.name = `delivery of ${options.sink.name}`
    this.sink = options.sink.name
    this.#options = options
    this.#life = new DeliveryLife(options)
  }

  async start(): Promise<void> {
    this.#life.start(() => this.#run())
  }

  stop(deadline: AbortSignal): Promise<void> {
    return this.#life.stop(deadline)
  }

  stats(): DeliveryStats {
    return this.#life.stats()
  }

  backlog(): Backlog {
    return this.#life.reader.backlog()
  }

  account(): Account {
    return this.#life.reader.account()
  }

  async #run(): Promise<void> {
    const abort = this.#life.abort
    while (!abort.aborted) {
      const open = this.#open
      const segment = open !== null && this.#isFull(open) ? null : await this.#next()
      if (open !== null && (segment === null || this.#indexOf(segment) !== open.index)) {
        // The segment at hand stays with the reader: it is the first one after this interval.
        if (!(await this.#flush(open))) return
        continue
      }
      if (segment === null) {
        if (this.#life.drain.aborted) return
        continue
      }
      await this.#add(segment)
    }
  }

  /** The segment after those of the open interval; null when the interval's time is over, or the process stops. */
  async #next(): Promise<Segment | null> {
    const drain = this.#life.drain
    const open = this.#open
    if (open === null) {
      if (drain.aborted && !this.#life.reader.ready) return null
      return this.#life.reader.next(drain.aborted ? this.#life.abort : drain)
    }
    const after = open.segments.at(-1)!.id
    if (this.#life.reader.readyAfter(after)) return this.#life.reader.next(this.#life.abort, { after })
    const leftMs = this.#closesMs(open) - this.#options.clock.now()
    if (drain.aborted || leftMs <= 0) return null
    const over = new AbortController()
    const end = () => over.abort()
    drain.addEventListener('abort', end, { once: true })
    try {
      const timer = this.#options.clock.sleep(leftMs, over.signal).then(end)
      const segment = await this.#life.reader.next(over.signal, { after })
      over.abort()
      await timer
      return segment
    } finally {
      drain.removeEventListener('abort', end)
    }
  }

  /** Never more than one interval and its grace from now: a clock that went back does not keep an interval open. */
  #closesMs({ index }: Open<A>): number {
    const { intervalMs, clock } = this.#options
    const { graceMs = Math.min(GRACE_MS, intervalMs) } = this.#options
    const closesMs = (index + 1) * intervalMs + graceMs
    return closesMs - clock.now() > intervalMs + graceMs ? clock.now() : closesMs
  }

  #indexOf({ sealedMs }: Segment): number {
    return Math.floor(sealedMs / this.#options.intervalMs)
  }

  #isFull({ aggregate, segments }: Open<A>): boolean {
    return aggregate.full || segments.length >= (this.#options.segmentsMax ?? SEGMENTS_MAX)
  }

  async #add(segment: Segment): Promise<void> {
    const { create } = this.#options
    const index = this.#indexOf(segment)
    this.#open ??= {
      index,
      aggregate: create(),
      segments: [],
      part: index === this.#last.index ? this.#last.parts : 0,
    }
    const open = this.#open
    const release = segment.hold?.()
    try {
      await open.aggregate.add(segment, this.#life.abort)
      open.segments.push(segment)
    } catch (error) {
      // Half of the segment may be in the aggregate: what was read before is read again.
      this.#open = null
      await this.#failRead(segment, error)
    } finally {
      release?.()
    }
  }

  /** A segment that is no sequence of our blocks, though its CRCs hold, must not stop those after it. */
  async #failRead(segment: Segment, cause: unknown): Promise<void> {
    if (this.#life.abort.aborted) return
    const error = cause instanceof Error ? cause : new Error(String(cause))
    if (this.#unread.id !== segment.id) this.#unread = { id: segment.id, failures: 0 }
    if (++this.#unread.failures < READS_MAX) {
      const waitMs = this.#fail(error)
      await this.#options.clock.sleep(waitMs, this.#life.drain)
      return
    }
    this.#unread = { id: '', failures: 0 }
    await this.#reject([segment], error)
  }

  /** False when the process stops and the interval is left for the next start. */
  async #flush(open: Open<A>): Promise<boolean> {
    const { sink, clock, intervalMs } = this.#options
    const { aggregate, segments, index, part } = open
    const interval: Interval = {
      fromMs: index * intervalMs,
      toMs: (index + 1) * intervalMs,
      segments: segments.map(({ id }) => id),
      rows: rowsOf(segments),
      part,
    }
    while (!this.#life.abort.aborted) {
      const outcome = await this.#life.attempt(segments, () =>
        this.#life.untilAborted(sink.flush(aggregate, interval, this.#life.abort)),
      )
      if (outcome.status === 'retry') {
        const waitMs = this.#fail(outcome.error, outcome.afterMs)
        if (this.#life.drain.aborted) return false
        await clock.sleep(waitMs, this.#life.drain)
        continue
      }
      this.#open = null
      this.#last = { index, parts: part + 1 }
      if (outcome.status === 'rejected') await this.#reject(segments, outcome.error)
      else this.#life.accepted(segments, outcome.dropped)
      return true
    }
    return false
  }

  async #reject(segments: readonly Segment[], error: Error): Promise<void> {
    const { journal, log, clock } = this.#options
    const kept: Segment[] = []
    for (const segment of segments) {
      try {
        journal.deadLetter(this.sink, segment, error)
        kept.push(segment)
      } catch (cause) {
        // No room for a dead letter: the segment stays, and is tried again.
        log.warn({ sink: this.sink, segment: segment.id, error: cause }, 'a refused segment could not be set aside')
      }
    }
    const rows = rowsOf(kept)
    log.error({ sink: this.sink, segments: kept.length, rows, error }, 'refused for good and kept as dead letters')
    this.#life.rejected(kept, error)
    if (kept.length === segments.length) this.#life.circuit.succeeded()
    else await clock.sleep(this.#life.circuit.failed(), this.#life.drain)
  }

  #fail(error: Error, afterMs?: number): number {
    return this.#life.failed('an interval', error, afterMs)
  }
}
