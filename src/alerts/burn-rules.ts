import { alertLabels, alertSummary, BURN_ALERT } from '../query/slo/alert-labels.ts'
import type { SloBurn, TierBurn } from '../query/slo/burn.ts'
import type { Slo } from '../query/slo/slo.ts'
import { tiersOf } from '../query/slo/windows.ts'
import type { Condition } from './alert.ts'

/** One alerting rule: an objective, and a severity. It holds when both windows of one of its tiers burn too fast. */
export interface BurnRule {
  readonly slo: Slo
  readonly severity: 'page' | 'ticket'
}

export const SEVERITIES = ['page', 'ticket'] as const

/** Rules of an objective: those severities that have a tier within its period. */
export function rulesOf(slos: readonly Slo[]): BurnRule[] {
  return slos.flatMap((slo) =>
    SEVERITIES.filter((severity) => tiersOf(slo.period.ns).some((tier) => tier.severity === severity)).map(
      (severity) => ({ slo, severity }),
    ),
  )
}

/** What was found for a rule when it was looked at last. */
export interface BurnFinding {
  readonly tiers: readonly TierBurn[]
  readonly holds: boolean | null
  /** Why it is not known; null when it is. */
  readonly reason: string | null
}

export function findingOf(burn: SloBurn, severity: BurnRule['severity']): BurnFinding {
  if (burn.tiers === null) return { tiers: [], holds: null, reason: burn.reason }
  const tiers = burn.tiers.filter(({ tier }) => tier.severity === severity)
  if (tiers.some(({ exceeds }) => exceeds === true)) return { tiers, holds: true, reason: null }
  if (tiers.some(({ exceeds }) => exceeds === null)) {
    return { tiers, holds: null, reason: 'rows that only can tell have expired in one of its windows' }
  }
  return { tiers, holds: false, reason: null }
}

export interface ConditionContext {
  /** Labels of every alert. */
  readonly further: Readonly<Record<string, string>>
  /** Requests of the whole mesh in the last hour that are in no count; null where that is not known. */
  readonly lost: number | null
}

export function conditionOf(
  { slo, severity }: BurnRule,
  finding: BurnFinding,
  { further, lost }: ConditionContext,
): Condition {
  return {
    slo: slo.name,
    labels: { ...further, alertname: BURN_ALERT, ...alertLabels(slo, severity) },
    annotations: { summary: alertSummary(slo), description: description(slo, finding, lost) },
    holds: finding.holds,
  }
}

/** Of the first tier that burns too fast, which is the most urgent one. */
function description(slo: Slo, { tiers }: BurnFinding, lost: number | null): string {
  const found = tiers.find(({ exceeds }) => exceeds === true) ?? tiers[0]
  const allowed = `The objective of ${slo.target} over ${slo.period.text} allows ${share(1 - slo.target)}.`
  if (found === undefined) return allowed
  const missing = lost ? ` ${lost} requests of the whole mesh were lost in the last hour, and are not counted.` : ''
  const { long, short, threshold } = found
  const part = ({ window, bad, total, burn }: TierBurn['long']) =>
    `${bad} of ${total} requests of ${window} (${share(total === 0 ? 0 : bad / total)}, ${figure(burn ?? 0)} times too fast)`
  return `Bad were ${part(long)} and ${part(short)}; an alert is above ${figure(threshold)}. ${allowed}${missing}`
}

function share(ratio: number): string {
  return `${figure(ratio * 100)} %`
}

function figure(value: number): string {
  return String(Number(value.toPrecision(3)))
}
