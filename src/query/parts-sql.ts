import { ROLLUP_TIMES } from '../model/rollup-columns.ts'
import { timeSql } from './filters.ts'
import type { Part } from './plan.ts'
import type { Bindings } from './sql.ts'
import { MS, type Nanos, SECOND } from './time.ts'

/** Parts by the table they are read from: one pass over each, whose other columns are then read once. */
export function partsByTable(parts: readonly Part[]): readonly (readonly [Part, ...Part[]])[] {
  return [...Map.groupBy(parts, ({ table }) => table).values()] as [Part, ...Part[]][]
}

/** The condition that a row, or a rollup, lies in one of the parts. */
export function partsSql(parts: readonly Part[], bindings: Bindings): string {
  return parts.map((part) => `(${partSql(part, bindings)})`).join(' OR ')
}

/** The condition that a row, or a rollup, lies in the part. */
export function partSql(part: Part, bindings: Bindings): string {
  if (part.table === 'requests') {
    const counts = part.everySource === true ? '' : 'NOT secondary AND '
    return `${counts}end_time >= ${timeSql(part.from, bindings)} AND end_time < ${timeSql(part.to, bindings)}`
  }
  const seconds = (time: Nanos) => `toDateTime(${bindings.bind(time / SECOND, 'Int64')}, 'UTC')`
  const column = ROLLUP_TIMES[part.table]
  return `${column} >= ${seconds(part.from)} AND ${column} < ${seconds(part.to)}`
}

/** Number of the point that a row, or a rollup, belongs to: its time over the step, rounded down. */
export function stepSql(part: Part, step: Nanos | null, bindings: Bindings): string {
  if (step === null) return 'toInt64(0)'
  const width = bindings.bind(step, 'Int64')
  if (part.table === 'requests') return `intDiv(toUnixTimestamp64Nano(end_time), ${width})`
  return `intDiv(toInt64(toUnixTimestamp(${ROLLUP_TIMES[part.table]})) * ${SECOND}, ${width})`
}

/** Steps below this are refused. */
export const STEP_MIN: Nanos = MS
