import type { Clock } from '../lib/clock.ts'
import { startAttempt } from '../telemetry/delivery-span.ts'
import type { Log } from '../telemetry/log.ts'
import { Circuit } from './circuit.ts'
import type { DeliveryStats } from './delivery.ts'
import type { Journal } from './journal.ts'
import { isRowTable } from './journal-format.ts'
import type { SegmentReader } from './journal-reader.ts'
import type { Segment } from './segment.ts'
import type { Outcome } from './sink.ts'

/**
 * What every delivery has, whatever it makes of segments: the reader of its sink, the circuit, figures, attempts that end
 * at the deadline, and how it starts and stops.
 */
export interface DeliveryLifeOptions {
  readonly sink: { readonly name: string }
  readonly journal: Journal
  readonly clock: Clock
  readonly log: Log
  readonly retryFirstMs?: number
  readonly retryMaxMs?: number
  readonly random?: () => number
}

const RETRY_FIRST_MS = 100
/** A store that comes back waits this long at most for its backlog. */
const RETRY_MAX_MS = 5000

export class DeliveryLife {
  readonly sink: string
  readonly reader: SegmentReader
  readonly circuit: Circuit
  readonly #options: DeliveryLifeOptions
  readonly #abort = new AbortController()
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

  constructor(options: DeliveryLifeOptions) {
    const { sink, journal, clock, random = Math.random } = options
    const { retryFirstMs: firstMs = RETRY_FIRST_MS, retryMaxMs: maxMs = RETRY_MAX_MS } = options
    this.sink = sink.name
    this.#options = options
    this.reader = journal.reader(sink.name)
    this.circuit = new Circuit({ firstMs, maxMs, random, clock })
  }

  /** Ends attempts under way. */
  get abort(): AbortSignal {
    return this.#abort.signal
  }

  /** Ends waiting: for a segment, for the end of an interval, before the next attempt. */
  get drain(): AbortSignal {
    return this.#drain.signal
  }

  start(run: () => Promise<void>): void {
    this.#loop ??= run()
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
    const { segments, rows } = this.reader.backlog()
    if (segments > 0)
      this.#options.log.info({ sink: this.sink, segments, rows }, 'left in the journal for the next start')
  }

  stats(): DeliveryStats {
    return {
      ...this.#counts,
      failures: this.circuit.failures,
      lastError: this.#lastError,
      lastAcceptedMs: this.#lastAcceptedMs,
      circuit: this.circuit.stats(),
    }
  }

  /** Whatever is thrown is a bug in the sink, or no room for what it refuses; neither may cost rows, so it is `retry`. */
  async attempt(segments: readonly Segment[], work: () => Promise<Outcome>): Promise<Outcome> {
    const attempt = this.circuit.failures + 1
    const told = startAttempt({ sink: this.sink, segments, rows: rowsOf(segments), attempt })
    this.#counts.attempts++
    this.circuit.begin()
    let outcome: Outcome
    try {
      outcome = await work()
    } catch (error) {
      outcome = { status: 'retry', error: error instanceof Error ? error : new Error(String(error)) }
    }
    told.end(outcome)
    return outcome
  }

  /** A sink that does not heed the signal must not keep the process from ending. */
  untilAborted(sent: Promise<Outcome>): Promise<Outcome> {
    const { signal } = this.#abort
    return new Promise((resolve, reject) => {
      const ended = () => resolve({ status: 'retry', error: new Error('the deadline of the shutdown came') })
      signal.addEventListener('abort', ended, { once: true })
      sent.then(resolve, reject).finally(() => signal.removeEventListener('abort', ended))
    })
  }

  accepted(segments: readonly Segment[], dropped: number | undefined): void {
    const { log, clock } = this.#options
    if (this.circuit.failures > 0) log.info({ sink: this.sink, attempts: this.circuit.failures }, 'delivering again')
    this.#counts.deliveredSegments += segments.length
    this.#counts.deliveredRows += rowsOf(segments)
    this.#lastAcceptedMs = clock.now()
    this.#lastError = null
    this.circuit.succeeded()
    this.#cursor = this.reader.ackAll(segments, 'accepted', dropped)
  }

  /** They are kept as dead letters. What that says of the circuit is up to the caller. */
  rejected(segments: readonly Segment[], error: Error): void {
    this.#counts.rejectedSegments += segments.length
    this.#counts.rejectedRows += rowsOf(segments)
    this.#lastError = error.message
    this.#cursor = this.reader.ackAll(segments, 'rejected')
  }

  /** How long to wait, in ms. `what` could not be delivered. */
  failed(what: string, error: Error, afterMs?: number): number {
    this.#counts.retries++
    if (this.circuit.failures === 0)
      this.#options.log.warn({ sink: this.sink, error }, `${what} could not be delivered; trying again`)
    this.#lastError = error.message
    return this.circuit.failed(afterMs)
  }
}

/** Rows of requests and the like; rollups and stats do not count. */
export function rowsOf(segments: readonly Segment[]): number {
  let rows = 0
  for (const { tables } of segments) for (const table of tables) if (isRowTable(table.table)) rows += table.rows
  return rows
}
