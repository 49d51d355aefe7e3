import type { Clock } from '../lib/clock.ts'
import { startAttempt } from '../telemetry/delivery-span.ts'
import type { Log } from '../telemetry/log.ts'
import { Circuit, type CircuitStats } from './circuit.ts'
import type { Journal } from './journal.ts'
import { isRowTable } from './journal-format.ts'
import type { Account, Backlog, SegmentReader } from './journal-reader.ts'
import type { Segment } from './segment.ts'
import type { Outcome, SegmentSink, Stage } from './sink.ts'

/**
 * Brings sealed segments to one durable sink, one at a time, oldest first. Each sink has a delivery and a cursor of its
 * own, so a slow or dead one holds its segments and nobody else's.
 *
 *   next ─► send ─► accepted ─► ack
 *    ▲               retry ───► wait (exponential, jittered, at least what the sink asks for) ─┐
 *    │               rejected ► dead letter ─► ack                                             │
 *    └─────────────────────────────────────────────────────────────────────────────────────────┘
 *
 * Received = delivered + rejected + dropped + lost + held (`Account`): nothing is ever given up by itself.
 */
export interface Delivery extends Stage {
  /** Name of the sink, its reader and its cursor. */
  readonly sink: string
  stats(): DeliveryStats
  backlog(): Backlog
  /** Rows, by what became of them. */
  account(): Account
}

export interface DeliveryStats {
  readonly deliveredSegments: number
  readonly deliveredRows: number
  /** Refused for good, and kept as dead letters. */
  readonly rejectedSegments: number
  readonly rejectedRows: number
  readonly attempts: number
  readonly retries: number
  /** Failed attempts since the last success; 0 while all is well. */
  readonly failures: number
  readonly lastError: string | null
  /** Wall clock, ms, of the last segment that the sink accepted; null before. */
  readonly lastAcceptedMs: number | null
  readonly circuit: CircuitStats
}

export interface DeliveryOptions {
  readonly sink: SegmentSink
  readonly journal: Journal
  readonly clock: Clock
  readonly log: Log
  /** What was sealed within the last seconds goes before a backlog. Default: oldest first. */
  readonly freshFirst?: boolean
  readonly retryFirstMs?: number
  readonly retryMaxMs?: number
  readonly random?: () => number
}

export const RETRY_FIRST_MS = 100
/** A store that comes back waits this long at most for its backlog. */
export const RETRY_MAX_MS = 5000

export function createDelivery(options: DeliveryOptions): Delivery {
  return new SegmentDelivery(options)
}

class SegmentDelivery implements Delivery {
  readonly name: string
  readonly sink: string
  readonly #options: DeliveryOptions
  readonly #reader: SegmentReader
  readonly #circuit: Circuit
  /** Ends attempts under way. */
  readonly #abort = new AbortController()
  /** Ends waiting: for a segment, and before the next attempt. */
  readonly #drain = new AbortController()
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

  constructor(options: DeliveryOptions) {
    const { sink, journal, clock, random = Math.random } = options
    this.name = `delivery of ${sink.name}`
    this.sink = sink.name
    this.#options = options
    this.#reader = journal.reader(sink.name)
    const { retryFirstMs: firstMs = RETRY_FIRST_MS, retryMaxMs: maxMs = RETRY_MAX_MS } = options
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
      this.#options.log.info(
        { sink: this.#options.sink.name, segments, rows },
        'left in the journal for the next start',
      )
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

  account(): Account {
    return this.#reader.account()
  }

  backlog(): Backlog {
    return this.#reader.backlog()
  }

  async #run(): Promise<void> {
    const drain = this.#drain.signal
    const abort = this.#abort.signal
    const { freshFirst = false } = this.#options
    while (!abort.aborted) {
      if (drain.aborted && !this.#reader.ready) return
      // Asked for anew before each attempt: what is damaged meanwhile is replaced by what could be saved of it.
      const segment = await this.#reader.next(drain.aborted ? abort : drain, { freshFirst })
      if (segment === null) {
        if (drain.aborted) continue
        return
      }
      const told = startAttempt({
        sink: this.sink,
        segments: [segment],
        rows: rowsOf(segment),
        attempt: this.#circuit.failures + 1,
      })
      const outcome = await this.#attempt(segment)
      told.end(outcome)
      if (outcome.status !== 'retry') {
        this.#settle(segment, outcome)
        continue
      }
      // While draining, what fails waits for the next start.
      if (drain.aborted) return
      await this.#options.clock.sleep(this.#fail(outcome), drain)
    }
  }

  async #attempt(segment: Segment): Promise<Outcome> {
    const { sink, journal } = this.#options
    this.#counts.attempts++
    this.#circuit.begin()
    try {
      const outcome = await this.#untilAborted(sink.send(segment, this.#abort.signal))
      if (outcome.status === 'rejected') journal.deadLetter(sink.name, segment, outcome.error)
      return outcome
    } catch (error) {
      // A bug in the sink, or no room for a dead letter. Neither may cost rows.
      return { status: 'retry', error: error instanceof Error ? error : new Error(String(error)) }
    }
  }

  /** A sink that does not heed the signal must not keep the process from ending. */
  #untilAborted(sent: Promise<Outcome>): Promise<Outcome> {
    const { signal } = this.#abort
    return new Promise((resolve, reject) => {
      const ended = () => resolve({ status: 'retry', error: new Error('the deadline of the shutdown came') })
      signal.addEventListener('abort', ended, { once: true })
      sent.then(resolve, reject).finally(() => signal.removeEventListener('abort', ended))
    })
  }

  #settle(segment: Segment, outcome: Exclude<Outcome, { status: 'retry' }>): void {
    const { sink, log, clock } = this.#options
    const rows = rowsOf(segment)
    if (outcome.status === 'accepted') {
      if (this.#circuit.failures > 0)
        log.info({ sink: sink.name, attempts: this.#circuit.failures }, 'delivering again')
      this.#counts.deliveredSegments++
      this.#counts.deliveredRows += rows
      this.#lastAcceptedMs = clock.now()
      this.#lastError = null
    } else {
      log.error(
        { sink: sink.name, segment: segment.id, rows, error: outcome.error },
        'a segment was refused for good and kept as a dead letter',
      )
      this.#counts.rejectedSegments++
      this.#counts.rejectedRows += rows
      this.#lastError = outcome.error.message
    }
    this.#circuit.succeeded()
    const dropped = outcome.status === 'accepted' ? outcome.dropped : 0
    this.#cursor = this.#reader.ack(segment, outcome.status, dropped)
  }

  #fail({ error, afterMs }: { readonly error: Error; readonly afterMs?: number }): number {
    const { sink, log } = this.#options
    this.#counts.retries++
    if (this.#circuit.failures === 0)
      log.warn({ sink: sink.name, error }, 'a segment could not be delivered; trying again')
    this.#lastError = error.message
    return this.#circuit.failed(afterMs)
  }
}

const rowsOf = ({ tables }: Segment): number =>
  tables.reduce((sum, { table, rows }) => sum + (isRowTable(table) ? rows : 0), 0)
