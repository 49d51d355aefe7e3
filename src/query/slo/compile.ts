import { bucketOf, upperEdge } from '../../model/buckets.ts'
import { ROLLUP_METRICS, type RollupMetric } from '../../model/schema.ts'
import { type Filter, parseFilters } from '../filters.ts'
import type { View } from '../schemas.ts'
import { readDuration } from '../time.ts'
import type { Indicator } from './slo.ts'

/** An indicator, ready to be asked. */
export interface CompiledIndicator {
  readonly total: readonly Filter[]
  readonly exclude: readonly Filter[]
  readonly match: readonly Filter[]
  readonly matches: 'good' | 'bad'
  readonly view: View
  /** How rollups count it; null when they lack a column that it names. */
  readonly rollups: RollupMatch | null
}

export interface RollupMatch {
  /** Conditions of `match` over keys. */
  readonly keys: readonly Filter[]
  readonly threshold: Threshold | null
}

/**
 * A bound on a duration. Rollups count what is at most `ns` by buckets: up to `below` for sure, and in the one bucket
 * after it, where the bound falls inside, some. `inside` is then the share of that bucket's width below the bound.
 */
export interface Threshold {
  readonly metric: RollupMetric
  /** Whole ns; −1 when nothing is that short. */
  readonly ns: number
  /** Whether what is longer is asked for. */
  readonly above: boolean
  readonly below: number
  /** 0 when the bound is the upper edge of a bucket, and the count exact. */
  readonly inside: number
}

/** Throws a `Problem` when a condition cannot be read. */
export function compileIndicator(indicator: Indicator): CompiledIndicator {
  const [total, exclude, match] = [indicator.total, indicator.exclude, indicator.match].map((where) =>
    parseFilters(where),
  ) as [readonly Filter[], readonly Filter[], readonly Filter[]]
  const selecting = [...total, ...exclude]
  return {
    total,
    exclude,
    match,
    matches: indicator.matches,
    view: indicator.view,
    rollups: selecting.every((filter) => filter.column.inRollups) ? rollupMatch(match) : null,
  }
}

function rollupMatch(match: readonly Filter[]): RollupMatch | null {
  const keys = match.filter((filter) => filter.column.inRollups)
  const others = match.filter((filter) => !keys.includes(filter))
  if (others.length === 0) return { keys, threshold: null }
  const threshold = others.length === 1 ? thresholdOf(others[0]!) : null
  return threshold === null ? null : { keys, threshold }
}

/** Whole ns that doubles hold, and that buckets tell apart: 104 days. */
const NS_MAX = 2n ** 53n

export function thresholdOf({ column, operator, value }: Filter): Threshold | null {
  const metric = ROLLUP_METRICS.find((name) => column.name === columnOf(name))
  if (metric === undefined || !['<', '<=', '>', '>='].includes(operator)) return null
  const asked = /^\d+$/.test(value) ? BigInt(value) : readDuration(value)
  if (asked === null || asked >= NS_MAX) return null
  // Durations are whole ns: below 5 is at most 4.
  const ns = Number(asked) - (operator === '<' || operator === '>=' ? 1 : 0)
  const above = operator.startsWith('>')
  if (ns < 0) return { metric, ns, above, below: Number.MIN_SAFE_INTEGER, inside: 0 }
  const bucket = bucketOf(ns)
  const [low, high] = [upperEdge(bucket - 1), upperEdge(bucket)]
  if (ns === high) return { metric, ns, above, below: bucket, inside: 0 }
  return { metric, ns, above, below: bucket - 1, inside: (ns - low) / (high - low) }
}

function columnOf(metric: RollupMetric): string {
  return metric === 'total' ? 'duration_ns' : `phase_${metric}_ns`
}
