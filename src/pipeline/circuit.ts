import { Backoff } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'

/**
 * Whether a target is worth another attempt, and when.
 *
 *   closed ─ failures in a row ─► open ─ the wait is over ─► half_open ─ the attempt fails ─► open
 *      ▲                                                        │
 *      └──────────────────────────── it works ──────────────────┘
 *
 * Waits grow and are jittered, so that senders that failed together do not come back together. What the target asks for
 * (Retry-After) is the least that is waited, up to `askedMaxMs`: a mistaken header must not end delivery for a day.
 */
export type CircuitState = 'closed' | 'open' | 'half_open'

export interface CircuitStats {
  readonly state: CircuitState
  /** Failed attempts since the last that worked. */
  readonly failures: number
  /** Wall clock, ms: since when nothing works; when the next attempt is due. Null while closed. */
  readonly sinceMs: number | null
  readonly nextAttemptMs: number | null
}

export interface CircuitOptions {
  readonly firstMs: number
  readonly maxMs: number
  readonly random: () => number
  readonly clock: Pick<Clock, 'now'>
  readonly failuresMax?: number
  readonly askedMaxMs?: number
}

/** Two failures may be bad luck. */
const FAILURES_MAX = 3
const ASKED_MAX_MS = 300_000

export class Circuit {
  readonly #backoff: Backoff
  readonly #clock: Pick<Clock, 'now'>
  readonly #failuresMax: number
  readonly #askedMaxMs: number
  #sinceMs: number | null = null
  #nextAttemptMs: number | null = null
  #trying = false

  constructor(options: CircuitOptions) {
    const { firstMs, maxMs, random, clock } = options
    this.#backoff = new Backoff({ firstMs, maxMs, random })
    this.#clock = clock
    this.#failuresMax = options.failuresMax ?? FAILURES_MAX
    this.#askedMaxMs = options.askedMaxMs ?? ASKED_MAX_MS
  }

  get failures(): number {
    return this.#backoff.failures
  }

  stats(): CircuitStats {
    const { failures } = this
    const open = failures >= this.#failuresMax
    return {
      state: open ? (this.#trying ? 'half_open' : 'open') : 'closed',
      failures,
      sinceMs: open ? this.#sinceMs : null,
      nextAttemptMs: open ? this.#nextAttemptMs : null,
    }
  }

  /** An attempt begins. */
  begin(): void {
    this.#trying = true
  }

  succeeded(): void {
    this.#backoff.reset()
    this.#trying = false
    this.#sinceMs = null
    this.#nextAttemptMs = null
  }

  /** How long to wait, in ms. */
  failed(askedMs = 0): number {
    const now = this.#clock.now()
    this.#trying = false
    this.#sinceMs ??= now
    const waitMs = this.#backoff.nextMs(Math.min(Math.max(0, askedMs), this.#askedMaxMs))
    this.#nextAttemptMs = now + waitMs
    return waitMs
  }
}
