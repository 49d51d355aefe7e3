import type { ExportRequest } from '../../otlp/row-requests.ts'
import { splitRequest } from '../../otlp/split.ts'
import type { Outcome } from '../../pipeline/sink.ts'
import type { OtlpClient, OtlpSignal } from './client.ts'

/**
 * Sends the requests of one segment or interval, one after the other, and knows how far it came: after a `retry` it goes
 * on with the request that failed.
 *
 *   request ─► taken ─────────► next; what the target rejected of it is counted and never sent again
 *              retry ─────────► stays at the head
 *              too large ─────► halves; one item that is too large by itself is counted as rejected
 *              refused ───────► counted as rejected; next, and in the end the whole segment is said to be rejected
 *              not allowed ───► the same at once: the next one would fare no better
 *
 * Items made = accepted + rejected + those that wait here. A signal that the target does not implement is left alone for
 * a while: its items are counted as rejected without asking again each time, and `unimplemented` says so.
 */
export interface Exporter {
  /** Takes requests from `source` until it ends, or one has to wait. */
  run(source: AsyncIterator<ExportRequest>, signal: AbortSignal): Promise<ExportOutcome>
  /** Forgets what waits: its segment is gone, or comes again from its start. */
  forget(): void
  readonly counters: Readonly<ExportCounters>
  /** What the target said last that was not plain success. */
  readonly lastMessage: string
}

/** `unimplemented`: at least one request met with a target that does not take this signal. */
export type ExportOutcome =
  | { readonly status: 'done'; readonly unimplemented: boolean }
  | Extract<Outcome, { status: 'retry' | 'rejected' }>

export interface ExportCounters {
  requests: number
  /** Before compression. */
  bytes: number
  /** Spans, log records or data points. */
  itemsAccepted: number
  itemsRejected: number
  /** Requests that the target answered with a partial success, or refused for good. */
  partial: number
  refused: number
  /** Requests that were halved. */
  split: number
}

export interface ExporterOptions {
  readonly client: OtlpClient
  readonly signal: OtlpSignal
  readonly onTrouble: (message: string, error: Error | null) => void
  /** Monotonic, ms. */
  readonly now?: () => number
}

/** A target that does not implement a signal is asked again after this. */
const UNIMPLEMENTED_MS = 60_000

export function createExporter(options: ExporterOptions): Exporter {
  return new SignalExporter(options)
}

class SignalExporter implements Exporter {
  readonly counters: ExportCounters = {
    requests: 0,
    bytes: 0,
    itemsAccepted: 0,
    itemsRejected: 0,
    partial: 0,
    refused: 0,
    split: 0,
  }
  lastMessage = ''
  readonly #options: ExporterOptions
  readonly #now: () => number
  #waiting: ExportRequest[] = []
  /** Of the segment at hand. */
  #refusal: Error | null = null
  #unimplemented = false
  #silentUntilMs = Number.NEGATIVE_INFINITY

  constructor(options: ExporterOptions) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
  }

  async run(source: AsyncIterator<ExportRequest>, signal: AbortSignal): Promise<ExportOutcome> {
    for (;;) {
      const request = this.#waiting[0]
      if (request === undefined) {
        const next = await source.next()
        if (next.done === true) return this.#finish()
        this.#waiting.push(next.value)
        continue
      }
      const outcome = await this.#send(request, signal)
      if (outcome !== null) return outcome
    }
  }

  forget(): void {
    this.#waiting = []
    this.#refusal = null
    this.#unimplemented = false
  }

  #finish(): ExportOutcome {
    const refusal = this.#refusal
    const unimplemented = this.#unimplemented
    this.forget()
    return refusal === null ? { status: 'done', unimplemented } : { status: 'rejected', error: refusal }
  }

  /** Null: the request is settled, or replaced by its halves. */
  async #send(request: ExportRequest, signal: AbortSignal): Promise<ExportOutcome | null> {
    if (this.#now() < this.#silentUntilMs) {
      this.#unimplemented = true
      this.#settle(0, request.items)
      return null
    }
    this.counters.requests++
    this.counters.bytes += request.bytes.length
    const answer = await this.#options.client.export(this.#options.signal, request.bytes, signal)
    switch (answer.status) {
      case 'retry':
        return answer
      case 'ok':
        this.#taken(request, answer.rejected, answer.message)
        return null
      case 'too-large':
        this.#halve(request, answer.error)
        return null
      case 'refused':
        this.counters.refused++
        this.#trouble(`the target refused ${this.#options.signal} for good`, answer.error)
        this.#settle(0, request.items)
        if (answer.because === 'unimplemented') {
          this.#silentUntilMs = this.#now() + UNIMPLEMENTED_MS
          this.#unimplemented = true
          return null
        }
        this.#refusal ??= answer.error
        return answer.because === 'not-allowed' ? this.#finish() : null
    }
  }

  #taken(request: ExportRequest, rejected: number, message: string): void {
    const lost = Math.min(rejected, request.items)
    if (lost > 0) {
      this.counters.partial++
      this.#trouble(`the target rejected some of the ${this.#options.signal}`, new Error(message || 'no reason given'))
    } else if (message !== '') this.lastMessage = message
    this.#settle(request.items - lost, lost)
  }

  #halve(request: ExportRequest, error: Error): void {
    const halves = splitRequest(request)
    if (halves === null) {
      this.#trouble(`one of the ${this.#options.signal} is larger than the target takes`, error)
      this.#settle(0, request.items)
      return
    }
    this.counters.split++
    this.#waiting.splice(0, 1, ...halves)
  }

  #settle(accepted: number, rejected: number): void {
    this.counters.itemsAccepted += accepted
    this.counters.itemsRejected += rejected
    this.#waiting.shift()
  }

  #trouble(message: string, error: Error): void {
    this.lastMessage = error.message
    this.#options.onTrouble(message, error)
  }
}
