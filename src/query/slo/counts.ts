import type { QueryContext } from '../context.ts'
import { filterSql } from '../filters.ts'
import { partSql } from '../parts-sql.ts'
import { type Part, type Plan, planRollups, withEverySource } from '../plan.ts'
import type { Question } from '../question.ts'
import type { View } from '../schemas.ts'
import { allOf, Bindings } from '../sql.ts'
import { type Interval, minOf, type Nanos } from '../time.ts'
import { type Census, effectiveView, resolveView, takeCensus } from '../view.ts'
import type { Counts } from './budget.ts'
import { type CompiledIndicator, compileIndicator, type Threshold } from './compile.ts'
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
export function createSloCounter(context: QueryContext, question: Question, at: Nanos, now: Nanos) {
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
      const segments = segmentsOf(at, period, kept)
      const recent = segments.filter((segment) => segment.from >= cutAt(at - WINDOW_NS['6h'], kept))
      const groups = [...segments.slice(0, segments.length - recent.length).map((segment) => [segment]), recent]
      const planned = groups.map(async (group): Promise<Piece[]> => {
        if (group.length === 0) return []
        const plan = (interval: Interval) => withEverySource(planRollups(interval, null, kept)!, everySource)
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
    const rough = indicator.rollups === null ? [] : await count(question, ask, all, 'rollups')
    const doubtful = all.filter((piece, k) => isDoubtful(piece, rough[k]))
    const readable = withinRows(doubtful)
    const fine = readable.length === 0 ? [] : await count(question, ask, readable, 'rows')
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

/** A segment, and the two ways to count it. */
interface Piece {
  readonly segment: Interval
  readonly plan: Plan
  /** Null where rows have expired. */
  readonly rows: Plan | null
  /** What lies in the time around it. */
  readonly reports: {
    readonly plan: Plan
    readonly census: Census
    /** Whether rollups hold requests there whose keys are not known. */
    readonly overflow: boolean
  }
}

interface SegmentCounts {
  readonly total: number
  readonly excluded: number
  readonly bad: number
  readonly badLow: number
  readonly badHigh: number
  /** Requests that rollups keep under the overflow key: whose they are is not known. */
  readonly overflow: number
  readonly tables: readonly Part['table'][]
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

interface Ask {
  readonly indicator: CompiledIndicator
  readonly view: View
  readonly now: Nanos
}

interface CountRow {
  readonly piece: number
  readonly all: string
  readonly excluded: string
  readonly low: string
  readonly high: string
  readonly overflow: string
}

/** One statement, with as few passes over tables as there are kinds of them: a row for each piece. */
async function count(
  question: Question,
  ask: Ask,
  pieces: readonly Piece[],
  from: 'rollups' | 'rows',
): Promise<SegmentCounts[]> {
  const { indicator, now } = ask
  const bindings = new Bindings()
  const sql = (filters: CompiledIndicator['total']) => filters.map((filter) => filterSql(filter, bindings, now))
  // Bound once for all parts: values travel in an address.
  const conditions: Conditions = {
    total: allOf(sql(indicator.total)),
    excluded: anyOf(sql(indicator.exclude)),
    match: allOf(sql(indicator.match)),
    keys: allOf(sql(indicator.rollups?.keys ?? [])),
    threshold: indicator.rollups?.threshold ?? null,
  }
  const selects = gather(pieces, from).map(({ reports, table, places }) => {
    const view = resolveView(ask.view, reports.census, reports.plan, [], now).condition(bindings)
    const placed = places.map(({ piece, part }) => [piece, partSql(part, bindings)] as const)
    return tableCounts(table, placed, { ...conditions, view, overflow: reports.overflow })
  })
  const figures = ['all', 'excluded', 'low', 'high', 'overflow'].map((name) => `toString(sum(part_${name})) AS ${name}`)
  const statement = bindings.statement(
    `SELECT piece, ${figures.join(', ')} FROM (${selects.join(' UNION ALL ')}) GROUP BY piece`,
  )
  const found = await question.run<CountRow>(statement, pieces.length, 'too_many_series')
  const byPiece = new Map(found.map((row) => [Number(row.piece), row]))
  return pieces.map((piece, k) => countsOf(byPiece.get(k), indicator, planOf(piece, from).parts))
}

function rowsOf(interval: Interval, named: readonly string[]): Plan {
  return withEverySource({ interval, parts: [{ table: 'requests', ...interval }] }, named)
}

function planOf(piece: Piece, from: 'rollups' | 'rows'): Plan {
  return from === 'rows' ? piece.rows! : piece.plan
}

interface Conditions {
  readonly total: string
  readonly excluded: string
  /** Over rows. */
  readonly match: string
  /** Over the keys of rollups. */
  readonly keys: string
  readonly threshold: Threshold | null
}

interface PieceConditions extends Conditions {
  readonly view: string
  readonly overflow: boolean
}

/** The parts of all pieces that one SELECT can read: of one table, and under one view. */
interface Gathered {
  readonly reports: Piece['reports']
  readonly table: Part['table']
  readonly places: { readonly piece: number; readonly part: Part }[]
}

function gather(pieces: readonly Piece[], from: 'rollups' | 'rows'): Gathered[] {
  const gathered: Gathered[] = []
  for (const [k, piece] of pieces.entries()) {
    for (const part of planOf(piece, from).parts) {
      const { reports } = piece
      const place = { piece: k, part }
      const one = gathered.find((other) => other.reports === reports && other.table === part.table)
      if (one === undefined) gathered.push({ reports, table: part.table, places: [place] })
      else one.places.push(place)
    }
  }
  return gathered
}

function tableCounts(
  table: Part['table'],
  places: readonly (readonly [piece: number, condition: string])[],
  conditions: PieceConditions,
): string {
  const { view, total, excluded, match, keys, threshold, overflow } = conditions
  const place = anyOf(places.map(([, condition]) => condition))
  const cases = places.slice(0, -1).map(([piece, condition]) => `${condition}, ${piece}, `)
  const last = places.at(-1)![0]
  const piece = `${cases.length === 0 ? last : `multiIf(${cases.join('')}${last})`} AS piece`
  const select = (figures: readonly string[], where: string) =>
    `SELECT ${[piece, ...figures].join(', ')} FROM ${table} WHERE ${where} GROUP BY piece`
  if (table === 'requests') {
    const figures = [
      'toInt64(count()) AS part_all',
      `toInt64(countIf(${excluded})) AS part_excluded`,
      `toInt64(countIf(NOT (${excluded}) AND ${match})) AS part_low`,
      'part_low AS part_high',
      'toInt64(0) AS part_overflow',
    ]
    return select(figures, allOf([place, view, total]))
  }
  // What is under the overflow key is counted apart, so it must not be left out before.
  const known = overflow ? allOf([`reporter != 'overflow'`, view, total]) : '1'
  // Counts add modulo 2^64: a correction is a negative difference.
  const sum = (n: string, condition: string) => `toInt64(sumIf(${n}, ${known} AND ${condition}))`
  const figures = [
    `${sum('n', '1')} AS part_all`,
    `${sum('n', `(${excluded})`)} AS part_excluded`,
    ...(['low', 'high'] as const).map(
      (end) => `${sum(matchSql(threshold, end), `NOT (${excluded}) AND ${keys}`)} AS part_${end}`,
    ),
    `toInt64(sumIf(n, reporter = 'overflow')) AS part_overflow`,
  ]
  return select(figures, overflow ? place : allOf([place, view, total]))
}

/** Requests of a row of a rollup that a threshold holds for, at least or at most. */
function matchSql(threshold: Threshold | null, end: 'low' | 'high'): string {
  if (threshold === null) return 'n'
  const { metric, above, below, inside } = threshold
  const n = metric === 'total' ? 'n' : 'phases_n'
  // What is longer is all but what is at most that long, so its least is all but the most.
  const bucket = below + (inside > 0 && (end === 'high') !== above ? 1 : 0)
  const short = `arraySum(arrayMap((b, c) -> if(b <= ${bucket}, c, 0), \`${metric}Map.bucket\`, \`${metric}Map.count\`))`
  return above ? `${n} - ${short}` : short
}

function countsOf(
  row: CountRow | undefined,
  { matches, rollups }: CompiledIndicator,
  parts: readonly Part[],
): SegmentCounts {
  const number = (name: Exclude<keyof CountRow, 'piece'>) => (row === undefined ? 0 : Number(row[name]))
  const excluded = number('excluded')
  const total = number('all') - excluded
  const [low, high] = [number('low'), number('high')]
  // Requests are taken to be spread evenly over a bucket, which is 1.1 % wide.
  const inside = rollups?.threshold?.inside ?? 0
  const above = rollups?.threshold?.above ?? false
  const match = low + Math.round((high - low) * (above ? 1 - inside : inside))
  const bad = (match: number) => (matches === 'bad' ? match : total - match)
  const [badLow, badHigh] = matches === 'bad' ? [low, high] : [bad(high), bad(low)]
  return {
    total,
    excluded,
    bad: bad(match),
    badLow,
    badHigh,
    overflow: number('overflow'),
    tables: parts.map((part) => part.table),
  }
}

function anyOf(conditions: readonly string[]): string {
  return conditions.length === 0 ? '0' : conditions.map((condition) => `(${condition})`).join(' OR ')
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
    source: (['requests', 'latency_1m', 'latency_1h'] as const).filter((table) => tables.has(table)).join(','),
  }
}
