import { HOUR, MINUTE, type Nanos } from '../time.ts'

/** Windows that burn is told for, shortest first: those that the alerts below compare, as Sloth and others have them. */
export const BURN_WINDOWS = ['5m', '30m', '1h', '2h', '6h', '1d', '3d'] as const
export type BurnWindow = (typeof BURN_WINDOWS)[number]

export const WINDOW_NS: Readonly<Record<BurnWindow, Nanos>> = {
  '5m': 5n * MINUTE,
  '30m': 30n * MINUTE,
  '1h': HOUR,
  '2h': 2n * HOUR,
  '6h': 6n * HOUR,
  '1d': 24n * HOUR,
  '3d': 72n * HOUR,
}

/**
 * One way to notice that a budget burns too fast: in a long window, and in a short one as well, so that the alert ends
 * soon after its cause. From "Alerting on SLOs" in Google's SRE Workbook; the third is Sloth's.
 */
export interface Tier {
  readonly severity: 'page' | 'ticket'
  readonly long: BurnWindow
  readonly short: BurnWindow
  /** Share of the period's budget that is gone when the long window has burnt at the threshold. */
  readonly budget: number
}

export const TIERS: readonly Tier[] = [
  { severity: 'page', long: '1h', short: '5m', budget: 0.02 },
  { severity: 'page', long: '6h', short: '30m', budget: 0.05 },
  { severity: 'ticket', long: '1d', short: '2h', budget: 0.1 },
  { severity: 'ticket', long: '3d', short: '6h', budget: 0.1 },
]

/**
 * Burn above which a tier fires: 14.4, 6, 3 and 1 for 30 days. Never below 1: a budget that lasts for its period is no
 * reason to wake anybody, however short the period. Tiers whose long window is longer than the period are not for it.
 */
export function burnThreshold(tier: Tier, period: Nanos): number {
  const threshold = (tier.budget * Number(period)) / Number(WINDOW_NS[tier.long])
  return Math.max(1, Number(threshold.toPrecision(12)))
}

export function tiersOf(period: Nanos): readonly Tier[] {
  return TIERS.filter((tier) => WINDOW_NS[tier.long] <= period)
}

/** Whether errors can ever be that many: a burn of 1/(1 − target) is all requests. */
export function isReachable(threshold: number, target: number): boolean {
  return threshold * (1 - target) < 1
}
