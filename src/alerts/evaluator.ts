import type { Clock } from '../lib/clock.ts'
import type { Stage } from '../pipeline/sink.ts'
import type { BurnReader } from '../query/slo/burn.ts'
import type { Slo } from '../query/slo/slo.ts'
import { HOUR, MS, type Nanos } from '../query/time.ts'
import type { Log } from '../telemetry/log.ts'
import { type Alert, type Condition, nextAlerts } from './alert.ts'
import { type BurnFinding, type BurnRule, conditionOf, findingOf, rulesOf, SEVERITIES } from './burn-rules.ts'
import { loadAlerts, saveAlerts } from './saved.ts'

/**
 * Looks at all objectives again and again, and keeps the alerts that come of it.
 *
 * ```
 *   each `every`:  pages (windows of 6h at most) ─┐
 *   each 5 min:    tickets (up to 3d)             ├─► conditions ─► alerts ─► disk, Alertmanagers
 *                                                 ┘
 * ```
 *
 * The windows end where the store has everything that arrived (`through`), not at the clock: what is on its way to the store
 * is no reason to say that nothing is wrong. When that lies too far back, nothing is known, and no alert begins or ends.
 */
export interface Evaluator extends Stage {
  readonly counters: EvaluatorCounters
  alerts(): Iterable<Alert>
  rules(): readonly RuleReport[]
  readonly last: Evaluation | null
  setTiming(timing: EvaluatorTiming): void
}

export interface EvaluatorCounters {
  /** Looks at all rules, by how they went. */
  known: number
  unknown: number
  failed: number
}

export interface Evaluation {
  /** Unix ms. */
  readonly startedMs: number
  readonly tookMs: number
  /** End of the windows, Unix ms; null when nothing was counted. */
  readonly atMs: number | null
  /** Why nothing is known; null when it is. */
  readonly reason: string | null
}

export interface RuleReport extends BurnRule {
  /** Null before the first time. */
  readonly finding: BurnFinding | null
  /** Unix ms of that. */
  readonly atMs: number | null
  readonly alert: Alert | undefined
}

export interface EvaluatorTiming {
  readonly everyMs: number
  readonly forMs: number
  /** Further labels of every alert. */
  readonly labels: Readonly<Record<string, string>>
}

export interface EvaluatorOptions {
  readonly reader: BurnReader
  readonly slos: () => readonly Slo[]
  /** Unix ms up to which the store has all that arrived; null: nothing has arrived yet, or nobody here can know. */
  readonly through: () => number | null
  /** Requests that Envoy served in this time (Unix ms) and that never arrived; null where that is not known. */
  readonly lost: (fromMs: number, toMs: number) => number | null
  /** Where alerts are kept. */
  readonly path: string
  readonly timing: EvaluatorTiming
  /** Called after each look. */
  readonly onAlerts: () => void
  readonly clock: Clock
  readonly log: Log
}

const TICKETS_EVERY_MS = 300_000
const PAGES_REACH: Nanos = 6n * HOUR
const TICKETS_REACH: Nanos = 72n * HOUR
/** How far the store may be behind; then it is the store that is in trouble. */
const BEHIND_MS = 60_000
/** Of one look, which is then given up. */
const LONGEST_MS = 60_000
/** Ended alerts are told of for as long as Prometheus does. */
const RESOLVED_MS = 900_000
/** Time that what was lost is told for. */
const LOST_MS = 3_600_000
const NOTHING_FOUND: BurnFinding = { tiers: [], holds: null, reason: 'it was not looked at yet' }

export function createEvaluator(options: EvaluatorOptions): Evaluator {
  return new BurnEvaluator(options)
}

class BurnEvaluator implements Evaluator {
  readonly name = 'alerts'
  readonly counters: EvaluatorCounters = { known: 0, unknown: 0, failed: 0 }
  last: Evaluation | null = null
  readonly #options: EvaluatorOptions
  #timing: EvaluatorTiming
  #alerts = new Map<string, Alert>()
  #saved = ''
  /** By objective and severity. */
  #findings = new Map<string, { readonly finding: BurnFinding; readonly atMs: number }>()
  #ticketsMs = Number.NEGATIVE_INFINITY
  readonly #stopping = new AbortController()
  #running: Promise<void> = Promise.resolve()

  constructor(options: EvaluatorOptions) {
    this.#options = options
    this.#timing = options.timing
  }

  async start(): Promise<void> {
    this.#alerts = await loadAlerts(this.#options.path)
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  setTiming(timing: EvaluatorTiming): void {
    this.#timing = timing
  }

  alerts(): Iterable<Alert> {
    return this.#alerts.values()
  }

  rules(): readonly RuleReport[] {
    const byName = new Map<string, Alert>()
    for (const alert of this.#alerts.values()) {
      const key = `${alert.slo}/${alert.labels.severity}`
      if (byName.get(key) === undefined || alert.state !== 'resolved') byName.set(key, alert)
    }
    return rulesOf(this.#options.slos()).map((rule): RuleReport => {
      const key = keyOf(rule)
      const found = this.#findings.get(key)
      return { ...rule, finding: found?.finding ?? null, atMs: found?.atMs ?? null, alert: byName.get(key) }
    })
  }

  async #run(): Promise<void> {
    const { clock } = this.#options
    const { signal } = this.#stopping
    while (!signal.aborted) {
      const began = clock.now()
      await this.#look(signal)
      // A clock that was set back must not make this wait for it.
      const took = Math.min(Math.max(0, clock.now() - began), this.#timing.everyMs)
      await clock.sleep(this.#timing.everyMs - took || 1, signal)
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { clock, slos, through, log } = this.#options
    const now = clock.now()
    const began = performance.now()
    const said = (atMs: number | null, reason: string | null) => {
      const before = this.last?.reason ?? null
      this.last = { startedMs: now, tookMs: performance.now() - began, atMs, reason }
      if (reason !== null && before === null) log.warn({ reason }, 'Alerts stay as they are: burn is not known')
      if (reason === null && before !== null) log.info({}, 'Burn is known again')
    }
    const all = slos()
    const at = Math.min(now, through() ?? now)
    if (all.length > 0 && now - at > BEHIND_MS) {
      this.counters.unknown++
      said(null, `the store has everything until ${new Date(at).toISOString()} only`)
      this.#options.onAlerts()
      return
    }
    const tickets = now - this.#ticketsMs >= TICKETS_EVERY_MS || now < this.#ticketsMs
    let known = false
    try {
      await this.#find(all, at, tickets, signal)
      if (signal.aborted) return
      known = true
      if (tickets) this.#ticketsMs = now
      this.counters.known++
      said(at, null)
    } catch (error) {
      if (signal.aborted) return
      this.counters.failed++
      said(null, error instanceof Error ? error.message : String(error))
    }
    await this.#conclude(all, at, known)
    this.#options.onAlerts()
  }

  async #find(slos: readonly Slo[], at: number, tickets: boolean, signal: AbortSignal): Promise<void> {
    // Objectives that came since have their tickets looked at at once.
    const isNew = (slo: Slo) => !this.#findings.has(keyOf({ slo, severity: 'ticket' }))
    const far = slos.filter((slo) => tickets || isNew(slo))
    const near = slos.filter((slo) => !far.includes(slo))
    for (const [group, reach, severities] of [
      [near, PAGES_REACH, ['page']],
      [far, TICKETS_REACH, ['page', 'ticket']],
    ] as const) {
      if (group.length === 0) continue
      const burns = await this.#options.reader.read({
        slos: group,
        at: BigInt(at) * MS,
        reach,
        signal: AbortSignal.any([signal, AbortSignal.timeout(LONGEST_MS)]),
      })
      for (const burn of burns) {
        for (const severity of severities) {
          this.#findings.set(keyOf({ slo: burn.slo, severity }), { finding: findingOf(burn, severity), atMs: at })
        }
      }
    }
  }

  /** From what was found to alerts, which are kept before anybody hears of them. */
  async #conclude(slos: readonly Slo[], at: number, known: boolean): Promise<void> {
    const rules = rulesOf(slos)
    const lost = this.#options.lost(at - LOST_MS, at)
    const conditions = rules.map((rule): Condition => {
      const finding = this.#findings.get(keyOf(rule))?.finding ?? NOTHING_FOUND
      return conditionOf(rule, known ? finding : { ...finding, holds: null }, { further: this.#timing.labels, lost })
    })
    const names = new Set(slos.flatMap((slo) => SEVERITIES.map((severity) => keyOf({ slo, severity }))))
    for (const key of this.#findings.keys()) if (!names.has(key)) this.#findings.delete(key)
    this.#alerts = nextAlerts(this.#alerts, conditions, at, { forMs: this.#timing.forMs, resolvedMs: RESOLVED_MS })
    const text = JSON.stringify([...this.#alerts.values()].map(({ id, state, activeMs }) => [id, state, activeMs]))
    if (text === this.#saved) return
    try {
      await saveAlerts(this.#options.path, this.#alerts.values())
      this.#saved = text
    } catch (error) {
      this.#options.log.warn({ error }, 'alerts cannot be kept on disk; after a restart they begin anew')
    }
  }
}

function keyOf({ slo, severity }: BurnRule): string {
  return `${slo.name}/${severity}`
}
