import type { KnownColumn } from './columns.ts'
import type { QueryContext } from './context.ts'
import type { Doubts, Group } from './distribution.ts'
import type { Filter } from './filters.ts'
import type { Horizon } from './horizon.ts'
import { type Plan, planRollups, planRows, sourceOf, withEverySource } from './plan.ts'
import { Problem } from './problem.ts'
import type { Quantile } from './quantiles.ts'
import { inRollups } from './quantities.ts'
import type { Question } from './question.ts'
import { readRollups } from './read-rollups.ts'
import { readRows } from './read-rows.ts'
import type { Quantity, View } from './schemas.ts'
import type { Interval, Nanos } from './time.ts'
import { type Census, effectiveView, NO_CENSUS, resolveView, takeCensus } from './view.ts'
import { readWholeDays } from './whole-days.ts'

/** What a route wants measured. */
export interface Wanted {
  readonly interval: Interval
  readonly now: Nanos
  readonly filters: readonly Filter[]
  readonly groups: readonly KnownColumn[]
  readonly view: View | undefined
  readonly method: 'auto' | 'exact' | 'histogram'
  readonly step: Nanos | null
  readonly quantities: readonly Quantity[]
  readonly quantiles: readonly Quantile[]
  readonly breakdown?: boolean
  readonly countUnknown?: boolean
  readonly slowest?: number | undefined
  /** Given the plan, because loss is looked up over what is really read. */
  readonly doubts?: (plan: Plan) => Doubts
  readonly groupsMax: number
}

export interface Measured {
  /** By labels, then by point. */
  readonly groups: readonly Group[]
  readonly interval: Interval
  readonly method: 'exact' | 'histogram'
  readonly source: string
  readonly view: View
  /** Requests that the figures were made from. */
  readonly stored: number
  readonly precisionNs: number | null
}

/** With this many reports in the interval, `auto` does not read rows even when few of them match. */
const SCAN_FACTOR = 20
/** Where some requests stand under the key `overflow`, rows tell more, and are worth this much more work. */
const OVERFLOW_FACTOR = 10

export async function measure(context: QueryContext, question: Question, wanted: Wanted): Promise<Measured> {
  const { filters, now, step, quantities } = wanted
  const horizon = await context.horizon.read(question)
  const wholeDays = wanted.method === 'exact' ? [] : await readWholeDays(question, wanted.interval, step)
  const groupNames = wanted.groups.map((column) => column.name)
  const view = effectiveView(wanted.view, filters, groupNames)
  const censusNeeded = view === 'auto' || view === 'server' || wanted.method === 'auto'
  const named = [...filters.map((filter) => filter.column.name), ...groupNames]
  const censusPlan = withEverySource(planRollups(wanted.interval, null, horizon, wholeDays)!, named)
  let census = censusNeeded ? await takeCensus(question, censusPlan, filters, now) : NO_CENSUS
  const { method, ...chosen } = choose(context, wanted, { horizon, wholeDays, census })
  const plan = withEverySource(chosen.plan, named)
  let viewPlan = censusPlan
  if (census.overflow && method === 'exact') {
    // Rollups do not name every service there is, and the rows to be read do.
    viewPlan = plan
    census = await takeCensus(question, plan, filters, now)
  }
  const ask = {
    plan,
    filters,
    view: resolveView(view, census, viewPlan, filters, now),
    groups: wanted.groups,
    step,
    quantities,
    quantiles: wanted.quantiles,
    breakdown: wanted.breakdown ?? false,
    countUnknown: wanted.countUnknown ?? false,
    now,
    groupsMax: wanted.groupsMax,
  }
  const doubts = wanted.doubts?.(plan) ?? { few: false }
  const groups =
    method === 'exact'
      ? await readRows(question, ask, doubts, { slowest: wanted.slowest })
      : await readRollups(question, ask, doubts)
  const precisions = groups.flatMap((group) => (group.precisionNs === null ? [] : [group.precisionNs]))
  return {
    groups: groups.toSorted(byLabelsAndPoint),
    interval: plan.interval,
    method,
    source: sourceOf(plan),
    view,
    stored: groups.reduce((sum, group) => sum + group.requests, 0),
    precisionNs:
      groups.length === 0 ? null : method === 'exact' ? Math.max(...precisions) : context.ledger.precisionNs(),
  }
}

function choose(
  context: QueryContext,
  wanted: Wanted,
  {
    horizon,
    wholeDays,
    census,
  }: { readonly horizon: Horizon; readonly wholeDays: readonly Interval[]; readonly census: Census },
): { readonly plan: Plan; readonly method: 'exact' | 'histogram' } {
  const { interval, step } = wanted
  const rowsOnly = whyRowsOnly(wanted)
  if (wanted.method === 'exact') {
    return { plan: planRows(interval, horizon, 'method=exact reads rows'), method: 'exact' }
  }
  if (wanted.method === 'histogram') {
    if (rowsOnly?.exactOnly === true) {
      throw new Problem('needs_rows', rowsOnly.why, { parameter: 'method', help: 'use method=exact or auto' })
    }
    const plan = rowsOnly === null ? planRollups(interval, step, horizon, wholeDays) : null
    return { plan: plan ?? planRows(interval, horizon, rowsOnly?.why ?? STEP_WHY), method: 'histogram' }
  }
  if (rowsOnly !== null) return { plan: planRows(interval, horizon, rowsOnly.why), method: 'exact' }
  const selective = wanted.filters.length > 0 || wanted.groups.length > 0
  const rowsMax = context.limits.autoRowsMax * (census.overflow && selective ? OVERFLOW_FACTOR : 1)
  const fewRows = census.matching <= rowsMax && census.reports <= rowsMax * SCAN_FACTOR
  if (fewRows && interval.from >= horizon.rows) return { plan: planRows(interval, horizon, ''), method: 'exact' }
  const plan = planRollups(interval, step, horizon, wholeDays)
  if (plan === null) return { plan: planRows(interval, horizon, STEP_WHY), method: 'exact' }
  return { plan, method: 'histogram' }
}

const STEP_WHY = 'a step that is not whole minutes is read from rows'

/** Why rollups cannot answer; null when they can. `exactOnly`: nor can histograms made from rows. */
function whyRowsOnly(wanted: Wanted): { readonly why: string; readonly exactOnly: boolean } | null {
  const quantity = wanted.quantities.find((candidate) => !inRollups(candidate))
  if (quantity !== undefined) return { why: `${quantity} is measured from rows alone`, exactOnly: true }
  if (wanted.slowest !== undefined) return { why: 'the slowest requests are picked from rows', exactOnly: true }
  const filter = wanted.filters.find((candidate) => !candidate.column.inRollups)
  if (filter !== undefined) return { why: `rollups do not have ${filter.column.name}`, exactOnly: false }
  const group = wanted.groups.find((column) => !column.inRollups)
  if (group !== undefined) return { why: `rollups do not have ${group.name}`, exactOnly: false }
  return null
}

function byLabelsAndPoint(a: Group, b: Group): number {
  for (const [k, label] of a.labels.entries()) {
    const other = b.labels[k]!
    if (label !== other) return label < other ? -1 : 1
  }
  return a.point < b.point ? -1 : a.point > b.point ? 1 : 0
}
