/**
 * Several servers that can answer the same, and which of them is asked.
 *
 *   asked ── fails ──► rests 1 s, 2 s … 30 s; meanwhile the next of the list is asked
 *     ▲                  │
 *     └── rested, and whoever is asked instead fails as well ◄┘
 *
 * One stays until it fails: what was written is read back at the same place, and connections stay open.
 */
export interface Endpoints {
  readonly urls: readonly string[]
  /** The one to ask. With all of them failing, the one that has rested most. */
  current(): string
  /** It did not answer, or cannot do its work now. */
  failed(url: string): void
  answered(url: string): void
  /** How often another one was asked than before. */
  readonly switches: number
}

export interface EndpointsOptions {
  /** At least one. */
  readonly urls: readonly string[]
  /** Monotonic, ms. */
  readonly now?: () => number
  /** Which one is asked first: many processes that begin at different ones share the work. */
  readonly first?: number
}

const REST_FIRST_MS = 1000
const REST_MAX_MS = 30_000

export function createEndpoints(options: EndpointsOptions): Endpoints {
  const { urls, now = () => performance.now(), first = 0 } = options
  const states = urls.map(() => ({ failures: 0, untilMs: Number.NEGATIVE_INFINITY }))
  let at = first % urls.length
  let switches = 0

  function current(): string {
    const ms = now()
    if (states[at]!.untilMs > ms) {
      const order = urls.map((_, k) => (at + k) % urls.length)
      const rested = order.find((k) => states[k]!.untilMs <= ms)
      const next = rested ?? order.reduce((best, k) => (states[k]!.untilMs < states[best]!.untilMs ? k : best))
      if (next !== at) switches++
      at = next
    }
    return urls[at]!
  }

  return {
    urls,
    current,
    failed(url) {
      const state = states[urls.indexOf(url)]
      if (state === undefined) return
      state.untilMs = now() + Math.min(REST_MAX_MS, REST_FIRST_MS * 2 ** Math.min(state.failures, 10))
      state.failures++
    },
    answered(url) {
      const state = states[urls.indexOf(url)]
      if (state === undefined) return
      state.failures = 0
      state.untilMs = Number.NEGATIVE_INFINITY
    },
    get switches() {
      return switches
    },
  }
}
