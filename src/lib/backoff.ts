export interface BackoffOptions {
  readonly firstMs: number
  readonly maxMs: number
  /** In [0, 1); an argument so that tests decide. */
  readonly random: () => number
}

/**
 * Exponential back-off with full jitter on the upper half: the n-th wait is between half and all of
 * min(maxMs, firstMs · 2ⁿ), so that many who failed together do not come back together.
 */
export class Backoff {
  readonly #options: BackoffOptions
  #failures = 0

  constructor(options: BackoffOptions) {
    this.#options = options
  }

  /** Failures since the last `reset`. */
  get failures(): number {
    return this.#failures
  }

  /** The next wait in ms. A wait the other side asked for (`afterMs`) is a lower bound, and may exceed `maxMs`. */
  nextMs(afterMs = 0): number {
    const { firstMs, maxMs, random } = this.#options
    // 2 ** 30 ms is 12 days: past every cap, and far from losing integers.
    const whole = Math.min(maxMs, firstMs * 2 ** Math.min(this.#failures, 30))
    this.#failures++
    return Math.max(afterMs, Math.round(whole / 2 + (whole / 2) * random()))
  }

  reset(): void {
    this.#failures = 0
  }
}
