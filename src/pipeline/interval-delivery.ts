import type { Clock } from '../lib/clock.ts'
import { startAttempt } from '../telemetry/delivery-span.ts'
import type { Log } from '../telemetry/log.ts'
import { Circuit } from './circuit.ts'
import { type Delivery, type DeliveryStats, RETRY_FIRST_MS, RETRY_MAX_MS } from './delivery.ts'
import type { Journal } from './journal.ts'
import { isRowTable } from './journal-format.ts'
import type { Account, Backlog, SegmentReader } from './journal-reader.ts'
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
  readonly #reader: SegmentReader
  readonly #circuit: Circuit
  /** Ends attempts under way. */
  readonly #abort = new AbortController()
  /** Ends waiting: for a segment, for the end of an interval, before the next attempt. */
  readonly #drain = new AbortController()
  #open: Open<A> | null = null
  /** The segment that could not be read last, and how often: those before it are read again each time. */
  #unread = { id: '', failures: 0 }
  /** The interval that was flushed last, and how often. */
  #last = { index: -1, parts: 0 }
  #loop: Promise<void> | null = null
  #stopped: Promise<void> | null = null
  #cursor: Promise<void> = Promise.resolve()
  #lastError: string | null = null
  #lastAcceptedMs: number | null = null
  readonly #counts = {
    deliveredSegments: 0,
    deliveredRows: 0,
    rejectedSegments: 0,
    rejectedRows: 0,
    attempts: 0,
    retries: 0,
  }

  constructor(options: IntervalDeliveryOptions<A>) {
    const { sink, journal, clock, random = Math.random } = options
    const { retryFirstMs: firstMs = RETRY_FIRST_MS, retryMaxMs: maxMs = RETRY_MAX_MS } = options
    this.name = `delivery of ${sink.name}`
    this.sink = sink.name
    this.#options = options
    this.#reader = journal.reader(sink.name)
    this.#circuit = new Circuit({ firstMs, maxMs, random, clock })
  }

  async start(): Promise<void> {
    this.#loop ??= this.#run()
  }

  /** Called after the last seal. Goes on until all is delivered, the sink fails once, or the deadline comes. */
  stop(deadline: AbortSignal): Promise<void> {
    this.#stopped ??= this.#end(deadline)
    return this.#stopped
  }

  async #end(deadline: AbortSignal): Promise<void> {
    const abort = () => this.#abort.abort()
    if (deadline.aborted) abort()
    deadline.addEventListener('abort', abort, { once: true })
    if (this.#loop !== null) await this.#options.journal.settled()
    this.#drain.abort()
    await this.#loop
    await this.#cursor
    deadline.removeEventListener('abort', abort)
    const { segments, rows } = this.#reader.backlog()
    if (segments > 0)
      this.#options.log.info({ sink: this.sink, segments, rows }, 'left in the journal for the next start')
  }

  stats(): DeliveryStats {
    return {
      ...this.#counts,
      failures: this.#circuit.failures,
      lastError: this.#lastError,
      lastAcceptedMs: this.#lastAcceptedMs,
      circuit: this.#circuit.stats(),
    }
  }

  backlog(): Backlog {
    return this.#reader.backlog()
  }

  account(): Account {
    return this.#reader.account()
  }

  async #run(): Promise<void> {
    const abort = this.#abort.signal
    while (!abort.aborted) {
      const open = this.#open
      const segment = open !== null && this.#isFull(open) ? null : await this.#next()
      if (open !== null && (segment === null || this.#indexOf(segment) !== open.index)) {
        // The segment at hand stays with the reader: it is the first one after this interval.
        if (!(await this.#flush(open))) return
        continue
      }
      if (segment === null) {
        if (this.#drain.signal.aborted) return
        continue
      }
      await this.#add(segment)
    }
  }

  /** The segment after those of the open interval; null when the interval's time is over, or the process stops. */
  async #next(): Promise<Segment | null> {
    const drain = this.#drain.signal
    const open = this.#open
    if (open === null) {
      if (drain.aborted && !this.#reader.ready) return null
      return this.#reader.next(drain.aborted ? this.#abort.signal : drain)
    }
    const after = open.segments.at(-1)!.id
    if (this.#reader.readyAfter(after)) return this.#reader.next(this.#abort.signal, { after })
    const leftMs = this.#closesMs(open) - this.#options.clock.now()
    if (drain.aborted || leftMs <= 0) return null
    const over = new AbortController()
    const end = () => over.abort()
    drain.addEventListener('abort', end, { once: true })
    try {
      const timer = this.#options.clock.sleep(leftMs, over.signal).then(end)
      const segment = await this.#reader.next(over.signal, { after })
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
      await open.aggregate.add(segment, this.#abort.signal)
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
    if (this.#abort.signal.aborted) return
    const error = cause instanceof Error ? cause : new Error(String(cause))
    if (this.#unread.id !== segment.id) this.#unread = { id: segment.id, failures: 0 }
    if (++this.#unread.failures < READS_MAX) {
      const waitMs = this.#fail(error)
      await this.#options.clock.sleep(waitMs, this.#drain.signal)
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
    while (!this.#abort.signal.aborted) {
      this.#counts.attempts++
      this.#circuit.begin()
      const attempt = this.#circuit.failures + 1
      const told = startAttempt({ sink: this.sink, segments, rows: interval.rows, attempt })
      const outcome = await this.#attempt(() => sink.flush(aggregate, interval, this.#abort.signal))
      told.end(outcome)
      if (outcome.status === 'retry') {
        const waitMs = this.#fail(outcome.error, outcome.afterMs)
        if (this.#drain.signal.aborted) return false
        await clock.sleep(waitMs, this.#drain.signal)
        continue
      }
      this.#open = null
      this.#last = { index, parts: part + 1 }
      if (outcome.status === 'rejected') await this.#reject(segments, outcome.error)
      else this.#accept(segments, interval.rows, outcome.dropped)
      return true
    }
    return false
  }

  async #attempt(work: () => Promise<Outcome>): Promise<Outcome> {
    const { signal } = this.#abort
    return new Promise((resolve) => {
      // A sink that does not heed the signal must not keep the process from ending.
      const ended = () => resolve({ status: 'retry', error: new Error('the deadline of the shutdown came') })
      signal.addEventListener('abort', ended, { once: true })
      const failed = (error: unknown) =>
        resolve({ status: 'retry', error: error instanceof Error ? error : new Error(String(error)) })
      // Within a promise: a sink that throws at once is as bad as one that rejects.
      Promise.resolve()
        .then(work)
        .then(resolve, failed)
        .finally(() => signal.removeEventListener('abort', ended))
    })
  }

  #accept(segments: readonly Segment[], rows: number, dropped: number | undefined): void {
    const { log, clock } = this.#options
    if (this.#circuit.failures > 0) log.info({ sink: this.sink, attempts: this.#circuit.failures }, 'delivering again')
    this.#counts.deliveredSegments += segments.length
    this.#counts.deliveredRows += rows
    this.#lastAcceptedMs = clock.now()
    this.#lastError = null
    this.#circuit.succeeded()
    this.#cursor = this.#reader.ackAll(segments, 'accepted', dropped)
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
    this.#counts.rejectedSegments += kept.length
    this.#counts.rejectedRows += rows
    this.#lastError = error.message
    this.#cursor = this.#reader.ackAll(kept, 'rejected')
    if (kept.length === segments.length) this.#circuit.succeeded()
    else await clock.sleep(this.#circuit.failed(), this.#drain.signal)
  }

  #fail(error: Error, afterMs?: number): number {
    this.#counts.retries++
    if (this.#circuit.failures === 0)
      this.#options.log.warn({ sink: this.sink, error }, 'an interval could not be delivered; trying again')
    this.#lastError = error.message
    return this.#circuit.failed(afterMs)
  }
}

function rowsOf(segments: readonly Segment[]): number {
  let rows = 0
  for (const { tables } of segments) for (const table of tables) if (isRowTable(table.table)) rows += table.rows
  return rows
}
