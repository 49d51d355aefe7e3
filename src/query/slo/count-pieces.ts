import { filterSql } from '../filters.ts'
import { partSql } from '../parts-sql.ts'
import type { Part, Plan } from '../plan.ts'
import type { Question } from '../question.ts'
import type { View } from '../schemas.ts'
import { allOf, Bindings } from '../sql.ts'
import type { Interval, Nanos } from '../time.ts'
import { type Census, resolveView } from '../view.ts'
import type { CompiledIndicator, Threshold } from './compile.ts'

/** Good and bad requests of several pieces of time, as one statement. */

/** A segment, and the two ways to count it. */
export interface Piece {
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

export interface SegmentCounts {
  readonly total: number
  readonly excluded: number
  readonly bad: number
  readonly badLow: number
  readonly badHigh: number
  /** Requests that rollups keep under the overflow key: whose they are is not known. */
  readonly overflow: number
  readonly tables: readonly Part['table'][]
}

export interface Ask {
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
export async function countPieces(
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
