import type { QueryContext } from '../context.ts'
import { type Part, type Plan, planRollups, tablesOf, withEverySource } from '../plan.ts'
import type { Question } from '../question.ts'
import type { View } from '../schemas.ts'
import { type Interval, minOf, type Nanos } from '../time.ts'
import { type Census, effectiveView, takeCensus } from '../view.ts'
import { readWholeDays } from '../whole-days.ts'
import type { Counts } from './budget.ts'
import { compileIndicator } from './compile.ts'
import { countPieces, type Piece, type SegmentCounts } from './count-pieces.ts'
import { cutAt, segmentsOf } from './segments.ts'
import type { Slo } from './slo.ts'
import { BURN_WINDOWS, type BurnWindow, WINDOW_NS } from './windows.ts'

/** What was counted of one time. */
export interface WindowCounts extends Counts {
  readonly good: number
  readonly excluded: number
  /** The time that was counted. */
  readonly interval: Interval
  /** false: rows that would be needed of an earlier part have expired, or are too many. */
  readonly complete: boolean
  readonly exact: boolean
  /** Tables read, with commas. */
  readonly source: string
}

export interface SloCounts {
  /** Whose report counted. */
  readonly view: View
  readonly whole: WindowCounts
  readonly windows: Readonly<Record<BurnWindow, WindowCounts>>
}

/** Rows that are read for one objective, where rollups leave a doubt; about a second for 100 million. */
const ROWS_MAX = 100_000_000

/**
 * Counts the requests of objectives, all windows at once. Rollups first, with rows at the ends of windows that lie inside
 * a minute: exact for everything but a threshold inside of a bucket. Where that leaves a doubt, or rollups lack a column,
 * rows are counted, as far as they are kept; further back the doubt is stated.
 */
export function createSloCounter(context: Pick<QueryContext, 'horizon'>, question: Question, at: Nanos, now: Nanos) {
  const horizon = context.horizon.read(question)
  // Awaited by each objective; where there is none, its failure is nobody's.
  horizon.catch(() => {})
  const pieces = new Map<string, Promise<readonly Piece[]>>()

  /**
   * Segments of a period, and who reported what in them: the same for all objectives with that period. The last six
   * hours are looked at together: in five minutes of little traffic, a kind of report may be missing by chance.
   */
  async function piecesOf(period: Nanos, everySource: readonly string[]): Promise<readonly Piece[]> {
    const key = `${period} ${everySource.length > 0}`
    const known = pieces.get(key)
    if (known !== undefined) return known
    const made = (async () => {
      const kept = await horizon
      const wholeDays = await readWholeDays(question, { from: cutAt(at - period, kept), to: at }, null)
      const segments = segmentsOf(at, period, kept)
      const recent = segments.filter((segment) => segment.from >= cutAt(at - WINDOW_NS['6h'], kept))
      const groups = [...segments.slice(0, segments.length - recent.length).map((segment) => [segment]), recent]
      const planned = groups.map(async (group): Promise<Piece[]> => {
        if (group.length === 0) return []
        const plan = (interval: Interval) => withEverySource(planRollups(interval, null, kept, wholeDays)!, everySource)
        const interval = { from: group[0]!.from, to: group.at(-1)!.to }
        const rows = (of: Interval) => (of.from >= kept.rows ? rowsOf(of, everySource) : null)
        const reports = await reportsIn(plan(interval), rows(interval))
        return group.map((segment) => ({ segment, plan: plan(segment), rows: rows(segment), reports }))
      })
      return (await Promise.all(planned)).flat()
    })()
    pieces.set(key, made)
    return made
  }

  /** Rollups do not name every service there is where they have an overflow key; the rows that are read then do. */
  async function reportsIn(rollups: Plan, rows: Plan | null): Promise<Piece['reports']> {
    const census = await takeCensus(question, rollups, [], now)
    if (!census.overflow || rows === null) return { plan: rollups, census, overflow: census.overflow }
    return { plan: rows, census: await takeCensus(question, rows, [], now), overflow: true }
  }

  return async (slo: Slo): Promise<SloCounts> => {
    const indicator = compileIndicator(slo.indicator)
    const filters = [...indicator.total, ...indicator.exclude, ...indicator.match]
    const named = filters.map((filter) => filter.column.name)
    const view = slo.indicator.view === 'auto' ? effectiveView(undefined, filters, []) : slo.indicator.view
    const everySource = named.filter((name) => name === 'source' || name === 'secondary')
    const all = await piecesOf(slo.period.ns, everySource)
    const ask = { indicator, view, now }
    const rough = indicator.rollups === null ? [] : await countPieces(question, ask, all, 'rollups')
    const doubtful = all.filter((piece, k) => isDoubtful(piece, rough[k]))
    const readable = withinRows(doubtful)
    const fine = readable.length === 0 ? [] : await countPieces(question, ask, readable, 'rows')
    const counted = all.map((piece, k): SegmentCounts | null => {
      const exact = fine[readable.indexOf(piece)]
      if (exact !== undefined) return exact
      const one = rough[k]
      if (one === undefined) return null
      return piece.reports.overflow ? withOverflow(one) : one
    })
    const kept = await horizon
    const sum = (width: Nanos) => sumFrom(cutAt(at - width, kept), cutAt(at, kept), all, counted)
    return {
      view,
      whole: sum(slo.period.ns),
      windows: Object.fromEntries(
        BURN_WINDOWS.map((window) => [window, sum(minOf(WINDOW_NS[window], slo.period.ns))]),
      ) as SloCounts['windows'],
    }
  }
}

function isDoubtful(piece: Piece, rough: SegmentCounts | undefined): boolean {
  return rough === undefined || rough.badLow !== rough.badHigh || piece.reports.overflow
}

/** The newest ones first, as long as there are rows and not too many of them. */
function withinRows(pieces: readonly Piece[]): readonly Piece[] {
  const read = new Set<Census>()
  const readable: Piece[] = []
  for (const piece of pieces.toReversed()) {
    read.add(piece.reports.census)
    const rows = [...read].reduce((sum, { reports }) => sum + reports, 0)
    if (piece.rows === null || rows > ROWS_MAX) break
    readable.push(piece)
  }
  return readable
}

/** Requests under the overflow key may be of this objective, and then good or bad, or not. */
function withOverflow(counts: SegmentCounts): SegmentCounts {
  return { ...counts, badHigh: counts.badHigh + counts.overflow }
}

/** From the end back to `from`, or to a segment that could not be counted. */
function sumFrom(
  from: Nanos,
  to: Nanos,
  pieces: readonly Piece[],
  counted: readonly (SegmentCounts | null)[],
): WindowCounts {
  const sum = { total: 0, excluded: 0, bad: 0, badLow: 0, badHigh: 0 }
  const tables = new Set<Part['table']>()
  let begins = to
  let complete = true
  for (let k = pieces.length - 1; k >= 0 && pieces[k]!.segment.from >= from; k--) {
    const counts = counted[k]!
    complete = counts !== null
    if (!complete) break
    for (const name of ['total', 'excluded', 'bad', 'badLow', 'badHigh'] as const) sum[name] += counts[name]
    for (const table of counts.tables) tables.add(table)
    begins = pieces[k]!.segment.from
  }
  return {
    ...sum,
    good: sum.total - sum.bad,
    interval: { from: begins, to },
    complete,
    exact: sum.badLow === sum.badHigh,
    source: tablesOf(tables),
  }
}

function rowsOf(interval: Interval, named: readonly string[]): Plan {
  return withEverySource({ interval, parts: [{ table: 'requests', ...interval }] }, named)
}
