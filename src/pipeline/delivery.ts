import type { Clock } from '../lib/clock.ts'
import type { Log } from '../telemetry/log.ts'
import type { CircuitStats } from './circuit.ts'
import { DeliveryLife, rowsOf } from './delivery-life.ts'
import type { Journal } from './journal.ts'
import type { Account, Backlog } from './journal-reader.ts'
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

export function createDelivery(options: DeliveryOptions): Delivery {
  return new SegmentDelivery(options)
}

class SegmentDelivery implements Delivery {
  readonly name: string
  readonly sink: string
  readonly #options: DeliveryOptions
  readonly #life: DeliveryLife

  constructor(options: DeliveryOptions) {
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

  account(): Account {
    return this.#life.reader.account()
  }

  backlog(): Backlog {
    return this.#life.reader.backlog()
  }

  async #run(): Promise<void> {
    const { drain, abort, reader } = this.#life
    const { freshFirst = false, clock } = this.#options
    while (!abort.aborted) {
      if (drain.aborted && !reader.ready) return
      // Asked for anew before each attempt: what is damaged meanwhile is replaced by what could be saved of it.
      const segment = await reader.next(drain.aborted ? abort : drain, { freshFirst })
      if (segment === null) {
        if (drain.aborted) continue
        return
      }
      const outcome = await this.#life.attempt([segment], () => this.#send(segment))
      if (outcome.status !== 'retry') {
        this.#settle(segment, outcome)
        continue
      }
      // While draining, what fails waits for the next start.
      if (drain.aborted) return
      await clock.sleep(this.#life.failed('a segment', outcome.error, outcome.afterMs), drain)
    }
  }

  async #send(segment: Segment): Promise<Outcome> {
    const { sink, journal } = this.#options
    const outcome = await this.#life.untilAborted(sink.send(segment, this.#life.abort))
    if (outcome.status === 'rejected') journal.deadLetter(sink.name, segment, outcome.error)
    return outcome
  }

  #settle(segment: Segment, outcome: Exclude<Outcome, { status: 'retry' }>): void {
    if (outcome.status === 'accepted') {
      this.#life.accepted([segment], outcome.dropped)
      return
    }
    const { log } = this.#options
    const { error } = outcome
    log.error(
      { sink: this.sink, segment: segment.id, rows: rowsOf([segment]), error },
      'a segment was refused for good and kept as a dead letter',
    )
    this.#life.circuit.succeeded()
    this.#life.rejected([segment], error)
  }
}
