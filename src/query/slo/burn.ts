import type { QueryStore } from '../../model/query.ts'
import { createHorizonReader } from '../horizon.ts'
import { DEFAULT_LIMITS, type QueryLimits, type Retention } from '../ports.ts'
import { createQuestions } from '../question.ts'
import { MS, maxOf, type Nanos } from '../time.ts'
import { burnOf } from './budget.ts'
import { createSloCounter, type WindowCounts } from './counts.ts'
import type { Slo } from './slo.ts'
import { type BurnWindow, burnThreshold, isReachable, type Tier, tiersOf, WINDOW_NS } from './windows.ts'

/** How an objective burns in the two windows of one tier. */
export interface TierBurn {
  readonly tier: Tier
  readonly threshold: number
  /** false: not even if all requests fail. */
  readonly reachable: boolean
  readonly long: WindowBurn
  readonly short: WindowBurn
  /** Whether both windows burn above the threshold; null: a part of them cannot be counted any more. */
  readonly exceeds: boolean | null
}

export interface WindowBurn extends Pick<WindowCounts, 'total' | 'bad'> {
  readonly window: BurnWindow
  /** Null without requests. */
  readonly burn: number | null
}

/** What was found of one objective: its tiers that were asked for, most urgent first; or why it cannot be told. */
export type SloBurn = { readonly slo: Slo } & (
  | { readonly tiers: readonly TierBurn[] }
  | { readonly tiers: null; readonly reason: string }
)

export interface BurnQuestion {
  readonly slos: readonly Slo[]
  /** End of all windows. */
  readonly at: Nanos
  /** Tiers whose long window is no longer than this. */
  readonly reach: Nanos
  readonly signal: AbortSignal
}

export interface BurnReader {
  read(question: BurnQuestion): Promise<readonly SloBurn[]>
}

export interface BurnReaderOptions {
  readonly store: QueryStore
  readonly retention: Retention
  readonly rowsDroppedBefore?: (signal: AbortSignal) => Promise<number>
  /** Those of the API are for people; these leave room for them. */
  readonly limits?: Partial<QueryLimits>
  readonly clock: { now(): number }
}

/** Two at a time, so that questions of people find places in the store. */
const STATEMENTS_MAX = 2

/**
 * Reads what alerts are judged by: the same counts as `/api/v1/slos` gives, of no more time than the windows need, which
 * is hours where the period of an objective is weeks.
 */
export function createBurnReader({
  store,
  retention,
  rowsDroppedBefore,
  limits,
  clock,
}: BurnReaderOptions): BurnReader {
  const bounds = { ...DEFAULT_LIMITS, ...limits, statementsMax: STATEMENTS_MAX, queriesMax: 1 }
  const questions = createQuestions(store, bounds, () => performance.now())
  const horizon = createHorizonReader(retention, () => clock.now(), rowsDroppedBefore)
  return {
    async read({ slos, at, reach, signal }) {
      const question = questions.open(signal)
      try {
        const count = createSloCounter({ horizon }, question, at, BigInt(Math.trunc(clock.now())) * MS)
        return await Promise.all(
          slos.map(async (slo): Promise<SloBurn> => {
            const tiers = tiersOf(slo.period.ns).filter((tier) => WINDOW_NS[tier.long] <= reach)
            if (tiers.length === 0) return { slo, tiers: [] }
            const width = tiers.map((tier) => WINDOW_NS[tier.long]).reduce(maxOf)
            try {
              const { windows } = await count({ ...slo, period: { ...slo.period, ns: width } })
              return { slo, tiers: tiers.map((tier) => tierBurn(slo, tier, windows)) }
            } catch (error) {
              if (signal.aborted) throw error
              return { slo, tiers: null, reason: error instanceof Error ? error.message : String(error) }
            }
          }),
        )
      } finally {
        question.close()
      }
    },
  }
}

function tierBurn(slo: Slo, tier: Tier, windows: Readonly<Record<BurnWindow, WindowCounts>>): TierBurn {
  const threshold = burnThreshold(tier, slo.period.ns)
  const [long, short] = [tier.long, tier.short].map((window): WindowBurn => {
    const { total, bad } = windows[window]
    return { window, total, bad, burn: burnOf(windows[window], slo.target) }
  }) as [WindowBurn, WindowBurn]
  const complete = windows[tier.long].complete && windows[tier.short].complete
  const above = ({ burn }: WindowBurn) => (burn ?? 0) > threshold
  return {
    tier,
    threshold,
    reachable: isReachable(threshold, slo.target),
    long,
    short,
    exceeds: complete ? above(long) && above(short) : null,
  }
}
