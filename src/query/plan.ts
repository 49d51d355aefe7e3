import { ROLLUP_TABLES, type RollupTable } from '../model/schema.ts'
import type { Horizon } from './horizon.ts'
import { Problem } from './problem.ts'
import { ceilTo, DAY, floorTo, formatTime, HOUR, type Interval, MINUTE, maxOf, minOf, type Nanos } from './time.ts'

/** A piece of an interval, and the table it is read from. */
export interface Part extends Interval {
  readonly table: 'requests' | RollupTable
  /** Rows that do not count, because their proxy told them in a better way, are wanted too. */
  readonly everySource?: boolean
}

export interface Plan {
  /** What the parts cover together; wider than what was asked where only coarser tables are left. */
  readonly interval: Interval
  readonly parts: readonly Part[]
}

/** The plan for a question that names `source` or `secondary`: it wants to see every way a proxy logs by. */
export function withEverySource(plan: Plan, columns: readonly string[]): Plan {
  if (!columns.includes('source') && !columns.includes('secondary')) return plan
  return { ...plan, parts: plan.parts.map((part) => ({ ...part, everySource: true })) }
}

/** Everything from the rows. */
export function planRows(interval: Interval, horizon: Horizon, why: string): Plan {
  if (interval.from < horizon.rows) {
    throw new Problem('rows_expired', `${why}, and rows before ${formatTime(horizon.rows)} are no longer kept`, {
      parameter: 'from',
      help: `use from=${formatTime(horizon.rows)} or later`,
      figures: { oldest: formatTime(horizon.rows) },
    })
  }
  return { interval, parts: [{ table: 'requests', ...interval }] }
}

/**
 * The coarsest table for the inside, finer ones towards the edges:
 *
 *   from │ rows │ minutes │ hours │ days … days │ hours │ minutes │ rows │ to
 *
 * Days are read where `wholeDays` has them, which are whole UTC days; hours elsewhere. An edge whose finer table has expired moves outward to the start or end of its minute, or hour. With a step, only
 * tables that its points are whole multiples of are used. Null when rows alone can answer.
 */
export function planRollups(
  asked: Interval,
  step: Nanos | null,
  horizon: Horizon,
  wholeDays: readonly Interval[] = [],
): Plan | null {
  const useHours = step === null || step % HOUR === 0n
  const useMinutes = step === null || step % MINUTE === 0n
  if (!useMinutes) return null
  const interval = widened(asked, useHours, horizon)
  const parts: Part[] = []
  const add = (table: Part['table'], from: Nanos, to: Nanos) => {
    if (from < to) parts.push({ table, from, to })
  }
  const minutes = (from: Nanos, to: Nanos) => {
    const [first, end] = [ceilTo(from, MINUTE), floorTo(to, MINUTE)]
    if (first > end) return add('requests', from, to)
    add('requests', from, first)
    add('latency_1m', first, end)
    add('requests', end, to)
  }
  const hours = (from: Nanos, to: Nanos) => {
    let at = from
    for (const days of step === null || step % DAY === 0n ? wholeDays : []) {
      const [first, end] = [maxOf(days.from, ceilTo(from, DAY)), minOf(days.to, floorTo(to, DAY))]
      if (first >= end) continue
      add('latency_1h', at, first)
      add('latency_1d', first, end)
      at = end
    }
    add('latency_1h', at, to)
  }
  const [first, end] = [ceilTo(interval.from, HOUR), floorTo(interval.to, HOUR)]
  if (!useHours || first >= end) minutes(interval.from, interval.to)
  else {
    minutes(interval.from, first)
    hours(first, end)
    minutes(end, interval.to)
  }
  return { interval, parts }
}

function widened(asked: Interval, useHours: boolean, horizon: Horizon): Interval {
  let { from, to } = asked
  if (from % MINUTE !== 0n && from < horizon.rows) from = floorTo(from, MINUTE)
  if (to % MINUTE !== 0n && maxOf(floorTo(to, MINUTE), from) < horizon.rows) to = ceilTo(to, MINUTE)
  if (!useHours) {
    if (from >= horizon.minutes) return { from, to }
    const oldest = formatTime(ceilTo(horizon.minutes, MINUTE))
    throw new Problem('rows_expired', `minutes before ${oldest} are no longer kept, only hours`, {
      parameter: 'step',
      help: `use a step of whole hours, or from=${oldest} or later`,
      figures: { oldest },
    })
  }
  if (from % HOUR !== 0n && from < horizon.minutes) from = floorTo(from, HOUR)
  if (to % HOUR !== 0n && maxOf(floorTo(to, HOUR), from) < horizon.minutes) to = ceilTo(to, HOUR)
  return { from, to }
}

/** Tables of a plan, with commas, in the order of the schema. */
export function sourceOf(plan: Plan): string {
  return tablesOf(plan.parts.map((part) => part.table))
}

/** The same of parts of several plans. */
export function tablesOf(read: Iterable<Part['table']>): string {
  const tables = new Set(read)
  return (['requests', ...ROLLUP_TABLES] as const).filter((table) => tables.has(table)).join(',')
}
