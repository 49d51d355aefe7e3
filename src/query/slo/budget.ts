import { type Nanos, SECOND } from '../time.ts'
import { BURN_WINDOWS, type BurnWindow, burnThreshold, isReachable, type Tier, tiersOf } from './windows.ts'

/** Requests of a time, by what they are to an objective. */
export interface Counts {
  /** good + bad. */
  readonly total: number
  readonly bad: number
  /** The truth is within these; they are `bad` where it is exact. */
  readonly badLow: number
  readonly badHigh: number
}

export interface Budget {
  /** Requests that may be bad: (1 − target) · total. */
  readonly allowed: number
  /** Share of the budget that is left; below 0 when more than all is spent. Null without requests. */
  readonly left: number | null
  readonly leftLow: number | null
  readonly leftHigh: number | null
  /** Until it is gone, at the burn of the last hour, s. Null when it does not burn, 0 when it is gone. */
  readonly lastsSeconds: number | null
}

export interface Alert {
  readonly tier: Tier
  readonly threshold: number
  readonly firing: boolean
  readonly reachable: boolean
}

export type SloState = 'no_data' | 'ok' | 'ticket' | 'page'

export interface Verdict {
  readonly budget: Budget
  readonly burn: Readonly<Record<BurnWindow, number | null>>
  readonly alerts: readonly Alert[]
  readonly state: SloState
}

export interface Judged {
  readonly target: number
  readonly period: Nanos
  readonly whole: Counts
  readonly windows: Readonly<Record<BurnWindow, Counts>>
}

/** What counts mean: pure arithmetic. */
export function judge({ target, period, whole, windows }: Judged): Verdict {
  const burn = Object.fromEntries(
    BURN_WINDOWS.map((window) => [window, burnOf(windows[window], target)]),
  ) as Verdict['burn']
  const alerts = tiersOf(period).map((tier): Alert => {
    const threshold = burnThreshold(tier, period)
    const exceeds = (window: BurnWindow) => (burn[window] ?? 0) > threshold
    return {
      tier,
      threshold,
      firing: exceeds(tier.long) && exceeds(tier.short),
      reachable: isReachable(threshold, target),
    }
  })
  const fires = (severity: Tier['severity']) => alerts.some((alert) => alert.firing && alert.tier.severity === severity)
  const state = whole.total === 0 ? 'no_data' : fires('page') ? 'page' : fires('ticket') ? 'ticket' : 'ok'
  return { budget: budgetOf(whole, target, period, burn['1h']), burn, alerts, state }
}

/** Share of bad requests; null without requests. */
export function errorRatio({ total, bad }: Counts): number | null {
  return total === 0 ? null : bad / total
}

/** How many times too fast: 1 spends the budget in exactly its period. */
export function burnOf(counts: Counts, target: number): number | null {
  const ratio = errorRatio(counts)
  return ratio === null ? null : tidy(ratio / (1 - target))
}

function budgetOf(counts: Counts, target: number, period: Nanos, burn: number | null): Budget {
  const allowed = tidy((1 - target) * counts.total)
  const left = (bad: number) => (counts.total === 0 ? null : tidy(1 - bad / allowed))
  const now = left(counts.bad)
  const periodSeconds = Number(period / SECOND)
  const lastsSeconds =
    now === null ? null : now <= 0 ? 0 : burn === null || burn === 0 ? null : tidy((now * periodSeconds) / burn)
  return { allowed, left: now, leftLow: left(counts.badHigh), leftHigh: left(counts.badLow), lastsSeconds }
}

/** 1 − 0.999 is not 0.001 in doubles: twelve digits are what figures here are worth. */
function tidy(value: number): number {
  return Number(value.toPrecision(12))
}
