import { Backoff } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import type { Stage } from '../pipeline/sink.ts'
import type { Log } from '../telemetry/log.ts'
import type { Alert } from './alert.ts'
import type { PostJson } from './post.ts'

/**
 * One Alertmanager, of version 2 of its API. It is told the state and not the history: what is sent after an outage is what
 * holds then, so there is no queue, and at most as many alerts wait as there are.
 *
 * ```
 *   alerts ─► due: never told, told otherwise, or told `resend` ago ─► POST, 256 at a time ─┬─► told
 *                                                                                          └─► later, again what is due then
 * ```
 *
 * A firing alert ends by itself four times `resend` after it was last told: so when we are gone nobody is woken for ever.
 */
export interface AlertmanagerPeer extends Stage {
  /** For people, without what is secret in it. */
  readonly url: string
  readonly counters: PeerCounters
  readonly lastError: string | null
  /** Unix ms of the last time that alerts were taken; 0: never. */
  readonly lastSentMs: number
  /** Looks at once whether something is due. */
  wake(): void
}

export interface PeerCounters {
  /** Alerts that were taken. */
  sent: number
  /** Alerts that it will not have. They are told again when they change, or after `resend`. */
  rejected: number
  /** Requests that failed, and were tried again. */
  failed: number
}

export interface PeerOptions {
  readonly url: string
  readonly post: PostJson & { close(): void }
  /** Those that are firing or were resolved lately. */
  readonly alerts: () => Iterable<Alert>
  readonly generatorUrl: (alert: Alert) => string
  readonly resendMs: number
  readonly clock: Clock
  readonly log: Log
  readonly random?: () => number
}

/** As Prometheus has it. */
const BATCH = 256
const FIRST_MS = 1000
const LONGEST_MS = 30_000
const ENDS_AFTER = 4

interface Told {
  readonly state: Alert['state']
  readonly activeMs: number
  readonly atMs: number
}

export function createAlertmanagerPeer(options: PeerOptions): AlertmanagerPeer {
  return new Peer(options)
}

class Peer implements AlertmanagerPeer {
  readonly name = 'alertmanager'
  readonly counters: PeerCounters = { sent: 0, rejected: 0, failed: 0 }
  lastError: string | null = null
  lastSentMs = 0
  readonly #options: PeerOptions
  readonly #told = new Map<string, Told>()
  readonly #backoff: Backoff
  readonly #stopping = new AbortController()
  #waiting = new AbortController()
  #running: Promise<void> = Promise.resolve()

  constructor(options: PeerOptions) {
    this.#options = options
    this.#backoff = new Backoff({ firstMs: FIRST_MS, maxMs: LONGEST_MS, random: options.random ?? Math.random })
  }

  get url(): string {
    return this.#options.url
  }

  async start(): Promise<void> {
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#waiting.abort()
    await this.#running
    this.#options.post.close()
  }

  wake(): void {
    // Who failed waits its time, however often something changes.
    if (this.#backoff.failures === 0) this.#waiting.abort()
  }

  async #run(): Promise<void> {
    const { clock, resendMs } = this.#options
    const { signal } = this.#stopping
    while (!signal.aborted) {
      this.#waiting = new AbortController()
      const waitMs = await this.#tell(signal)
      const idleMs = waitMs ?? resendMs / 4
      if (!signal.aborted) await clock.sleep(idleMs, AbortSignal.any([signal, this.#waiting.signal]))
    }
  }

  /** Tells what is due. How long to wait before trying again; null: all is told. */
  async #tell(signal: AbortSignal): Promise<number | null> {
    const { clock, post } = this.#options
    const due = this.#due(clock.now())
    for (let from = 0; from < due.length; from += BATCH) {
      const batch = due.slice(from, from + BATCH)
      const now = clock.now()
      const answer = await post(JSON.stringify(batch.map((alert) => this.#encode(alert, now))), signal)
      if (signal.aborted) return null
      const refused = answer.answered && answer.status >= 400 && answer.status < 500 && !isTransient(answer.status)
      if (answer.answered && (refused || (answer.status >= 200 && answer.status < 300))) {
        for (const { id, state, activeMs } of batch) this.#told.set(id, { state, activeMs, atMs: now })
        this.counters[refused ? 'rejected' : 'sent'] += batch.length
        if (!refused) this.lastSentMs = now
        this.#said(refused ? `${answer.status} ${answer.text}` : null, 'refuses alerts')
        this.#backoff.reset()
        continue
      }
      this.counters.failed++
      this.#said(answer.answered ? `${answer.status} ${answer.text}` : answer.error.message, 'does not take alerts')
      return this.#backoff.nextMs(answer.answered ? answer.afterMs : undefined)
    }
    return null
  }

  #due(now: number): Alert[] {
    const { alerts, resendMs } = this.#options
    const known = new Set<string>()
    const due: Alert[] = []
    for (const alert of alerts()) {
      known.add(alert.id)
      const told = this.#told.get(alert.id)
      const same = told !== undefined && told.state === alert.state && told.activeMs === alert.activeMs
      if (!same || now - told.atMs >= resendMs || now < told.atMs) due.push(alert)
    }
    for (const id of this.#told.keys()) if (!known.has(id)) this.#told.delete(id)
    return due
  }

  #encode(alert: Alert, now: number): object {
    const { resendMs, generatorUrl } = this.#options
    const endsMs = alert.resolvedMs ?? now + ENDS_AFTER * resendMs
    return {
      labels: alert.labels,
      annotations: alert.annotations,
      startsAt: new Date(alert.firedMs ?? alert.activeMs).toISOString(),
      endsAt: new Date(endsMs).toISOString(),
      generatorURL: generatorUrl(alert),
    }
  }

  /** Once for each change, not for each attempt. */
  #said(error: string | null, what: string): void {
    const { log } = this.#options
    const before = this.lastError
    this.lastError = error
    if (error !== null && before === null) log.warn({ url: this.url, error }, `An Alertmanager ${what}`)
    if (error === null && before !== null) log.info({ url: this.url }, 'An Alertmanager takes alerts again')
  }
}

/** Answers of 4xx that mean another time, not another request. */
function isTransient(status: number): boolean {
  return status === 408 || status === 429
}
