import { ROLLUP_COLUMNS } from '../../model/rollup-columns.ts'
import type { Segment } from '../../pipeline/segment.ts'
import { quoteName } from './ddl.ts'
import type { Inserts } from './insert.ts'
import { rollupNames } from './rollup-sql.ts'
import { dateOf, partsOf, tableOf } from './stored.ts'

const NAMES = rollupNames('latency_1m')
const STRUCTURE = ROLLUP_COLUMNS.map((column) => `${quoteName(column.name)} ${column.nativeType}`).join(', ')
const IN_DAYS = 'toDate(minute) IN (SELECT arrayJoin({days:Array(Date)}))'

/**
 * Stores the rollup of a segment as it stands in its file, in statements of few days each; nothing where it has none.
 * `attempt` ends the tokens: '' for the first one.
 */
export async function insertRollup(
  inserts: Inserts,
  { segment, attempt, timeoutMs }: { readonly segment: Segment; readonly attempt: string; readonly timeoutMs: number },
  signal: AbortSignal,
): Promise<void> {
  const block = tableOf(segment, 'latency_1m')
  if (block === undefined) return
  const parts = partsOf(block.days.keys())
  for (const [index, days] of parts.entries()) {
    await inserts.file(
      {
        table: 'latency_1m',
        path: block.file,
        columns: NAMES,
        structure: STRUCTURE,
        token: `${segment.id}/latency_1m/${index}${attempt}`,
        timeoutMs,
        ...(parts.length === 1 ? {} : { only: { condition: IN_DAYS, params: { days: days.map(dateOf) } } }),
        ...(segment.hold === undefined ? {} : { hold: segment.hold }),
      },
      signal,
    )
  }
}
