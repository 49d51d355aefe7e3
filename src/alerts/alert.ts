/**
 * The life of an alert:
 *
 * ```
 *              true                 true for `for`             false
 *   inactive ────────► pending ─────────────────────► firing ────────► resolved ── 15 min ──► gone
 *       ▲                 │ false                        │ unknown         │ true
 *       └─────────────────┘                              └─► firing        └────► pending, anew
 * ```
 *
 * What is not known changes nothing: neither does an alert begin by it, nor end.
 */
export interface Alert {
  /** Of the labels; the same for as long as they are. */
  readonly id: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly state: AlertState
  /** Since when the condition holds, Unix ms. */
  readonly activeMs: number
  /** Null while it is pending. */
  readonly firedMs: number | null
  /** Null until then. */
  readonly resolvedMs: number | null
  /** Name of the objective. */
  readonly slo: string
}

export const ALERT_STATES = ['pending', 'firing', 'resolved'] as const
export type AlertState = (typeof ALERT_STATES)[number]

/** What one rule says at one time. */
export interface Condition {
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly slo: string
  /** Null: not known. */
  readonly holds: boolean | null
}

export interface Timing {
  /** How long a condition has to hold before it fires. */
  readonly forMs: number
  /** How long one that has ended is still told of. */
  readonly resolvedMs: number
}

/** Alerts after conditions were looked at: those of rules that are gone end. `now` is the time that the conditions are of. */
export function nextAlerts(
  alerts: ReadonlyMap<string, Alert>,
  conditions: readonly Condition[],
  now: number,
  timing: Timing,
): Map<string, Alert> {
  const next = new Map<string, Alert>()
  const named = new Set<string>()
  for (const condition of conditions) {
    const id = alertId(condition.labels)
    named.add(id)
    const alert = nextAlert(alerts.get(id), { ...condition, id }, now, timing)
    if (alert !== null) next.set(id, alert)
  }
  for (const [id, alert] of alerts) {
    if (named.has(id)) continue
    const ended = endedAlert(alert, now, timing)
    if (ended !== null) next.set(id, ended)
  }
  return next
}

function nextAlert(
  alert: Alert | undefined,
  { id, labels, annotations, slo, holds }: Condition & { readonly id: string },
  now: number,
  timing: Timing,
): Alert | null {
  if (holds === null) return alert === undefined ? null : agedAlert(alert, now, timing)
  if (!holds) return alert === undefined ? null : endedAlert(alert, now, timing)
  const isNew = alert === undefined || alert.state === 'resolved'
  const activeMs = isNew ? now : alert.activeMs
  const said = { id, labels, annotations, slo, activeMs, resolvedMs: null }
  if (!isNew && alert.state === 'firing') return { ...said, state: 'firing', firedMs: alert.firedMs }
  return now - activeMs >= timing.forMs
    ? { ...said, state: 'firing', firedMs: now }
    : { ...said, state: 'pending', firedMs: null }
}

/** The condition does not hold any more. */
function endedAlert(alert: Alert, now: number, timing: Timing): Alert | null {
  if (alert.state === 'pending') return null
  if (alert.state === 'resolved') return agedAlert(alert, now, timing)
  // The store's time may go back a little; an end is never before its beginning.
  return { ...alert, state: 'resolved', resolvedMs: Math.max(now, alert.firedMs! + 1) }
}

function agedAlert(alert: Alert, now: number, timing: Timing): Alert | null {
  return alert.state === 'resolved' && now - alert.resolvedMs! >= timing.resolvedMs ? null : alert
}

/** Empty values are no labels. */
export function alertId(labels: Readonly<Record<string, string>>): string {
  return JSON.stringify(
    Object.entries(labels)
      .filter(([, value]) => value !== '')
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  )
}
