import { CLASSES, FLAGS, OUTCOMES } from '../model/schema.ts'
import { labelSql } from './columns.ts'
import { EXPANSION_ERROR_MAX, NORMAL, rankInterval } from './confidence.ts'
import type { Ask, Distribution, DoubtedNs, Doubts, Group } from './distribution.ts'
import { filterSql } from './filters.ts'
import { partSql, stepSql } from './parts-sql.ts'
import { Problem } from './problem.ts'
import { EXACT_ROWS_MAX, exactLevel, fractionOf, type Quantile, slowestLevel } from './quantiles.ts'
import { rowQuantity } from './quantities.ts'
import type { Question } from './question.ts'
import { record } from './read-rollups.ts'
import { allOf, Bindings } from './sql.ts'

interface CellRow {
  readonly [label: `l${number}`]: string
  readonly [count: `n${number}` | `lo${number}` | `hi${number}` | `k${number}`]: number
  readonly [sum: `s${number}`]: string
  readonly [quantiles: `q${number}`]: number[]
  readonly t: number | string
  readonly requests: number
  readonly precision: number
  readonly doubts?: DoubtRow[]
}

export interface RowsOptions {
  /** Only this share of the requests of each label set, the slowest ones. */
  readonly slowest?: number | undefined
}

/** Distributions from single rows: every figure is exact. Doubts are told for the first quantity only. */
export async function readRows(
  question: Question,
  ask: Ask,
  doubts: Doubts,
  options: RowsOptions = {},
): Promise<Group[]> {
  const bindings = new Bindings()
  const labels = ask.groups.map((_, k) => `l${k}`)
  // Without points there is one time: a label alone is grouped by its dictionary, for a quarter less than beside a number.
  const keys = ask.step === null && labels.length > 0 ? labels : [...labels, 't']
  const rows = options.slowest === undefined ? rowsSql(ask, bindings) : slowestSql(ask, bindings, options.slowest)
  const figures = [
    ...labels,
    keys.includes('t') ? 't' : 'toInt64(0) AS t',
    'count() AS requests',
    'max(precision_ns) AS precision',
    ...ask.quantities.flatMap((_, m) => figuresSql(m, ask)),
    ...(ask.breakdown ? BREAKDOWN.map((condition, k) => `countIf(${condition}) AS k${k}`) : []),
  ]
  const doubting = doubts.few || doubts.loss !== undefined
  if (doubting) figures.push('arraySort(groupArray(v0)) AS sorted', `arraySort(groupArrayIf(v0, ${CUT_SHORT})) AS cuts`)
  const grouped = `SELECT ${figures.join(', ')} FROM (${rows}) GROUP BY ${keys.join(', ')} LIMIT ${ask.groupsMax + 1}`
  const sql = doubting
    ? `SELECT * EXCEPT (sorted, cuts), ${doubtsSql(ask, doubts)} AS doubts FROM (${grouped})`
    : grouped
  const tooMany = ask.step === null ? 'too_many_series' : 'too_many_points'
  const cells = await question.run<CellRow>(bindings.statement(sql), ask.groupsMax, tooMany)
  return cells.map((cell) => groupOf(cell, ask, doubts))
}

const BREAKDOWN: readonly string[] = [
  ...CLASSES.map((name) => `class = '${name}'`),
  ...OUTCOMES.map((name) => `outcome = '${name}'`),
]

/** The true duration of such a request would have been longer: it was given up by a client or by a timer. */
const CUT_SHORT = `class = 'aborted' OR bitAnd(response_flags, ${['UT', 'SI', 'UMSDR', 'DT']
  .map((flag) => 1n << BigInt(FLAGS.indexOf(flag as (typeof FLAGS)[number])))
  .reduce((mask, bit) => mask | bit, 0n)}) != 0`

/** One row per request: labels, point, values v0 …, and what groups are made from. */
function rowsSql(ask: Ask, bindings: Bindings): string {
  const quantities = ask.quantities.map(rowQuantity)
  const columns = [
    ...ask.groups.map((column, k) => `${labelSql(column)} AS l${k}`),
    ...quantities.map(({ value }, m) => `${value} AS v${m}`),
    `${ask.countUnknown ? knownSql(ask) : '1'} AS known`,
    'precision_ns, class, outcome, response_flags, duration_ns',
  ]
  const selects = ask.plan.parts.map((part) => {
    const where = allOf([
      partSql(part, bindings),
      ...ask.filters.map((filter) => filterSql(filter, bindings, ask.now)),
      ask.view.condition(bindings),
      ...(ask.countUnknown ? [] : [knownSql(ask)]),
    ])
    return `SELECT ${[...columns, `${stepSql(part, ask.step, bindings)} AS t`].join(', ')} FROM requests WHERE ${where}`
  })
  return selects.join(' UNION ALL ')
}

/** Rows that have every quantity that is asked. */
function knownSql(ask: Ask): string {
  return allOf([...new Set(ask.quantities.map((quantity) => rowQuantity(quantity).known))].filter((sql) => sql !== '1'))
}

/** The rows whose duration is not below that of the ⌈share·n⌉-th slowest of their label set; equal ones are all in. */
function slowestSql(ask: Ask, bindings: Bindings, share: number): string {
  const keys = [...ask.groups.map((_, k) => `l${k}`), 't'].join(', ')
  const rows = rowsSql(ask, bindings)
  const least = `SELECT ${keys}, quantileExact(${slowestLevel(share)})(duration_ns) AS least FROM (${rows}) GROUP BY ${keys}`
  return `SELECT * FROM (${rows}) AS rows INNER JOIN (${least}) AS slowest USING (${keys}) WHERE duration_ns >= least`
}

function figuresSql(m: number, ask: Ask): string[] {
  const v = `v${m}`
  const [suffix, condition] = ask.countUnknown ? ['If', ', known'] : ['', '']
  const figures = [
    `count${suffix}(${ask.countUnknown ? 'known' : ''}) AS n${m}`,
    `toString(sum${suffix}(toInt128(${v})${condition})) AS s${m}`,
    `min${suffix}(${v}${condition}) AS lo${m}`,
    `max${suffix}(${v}${condition}) AS hi${m}`,
  ]
  const levels = ask.quantiles.map(({ q }) => exactLevel(q)).join(', ')
  if (levels !== '') figures.push(`quantilesExact${suffix}(${levels})(${v}${condition}) AS q${m}`)
  return figures
}

function groupOf(cell: CellRow, ask: Ask, doubts: Doubts): Group {
  return {
    labels: ask.groups.map((_, k) => cell[`l${k}`]!),
    point: BigInt(cell.t),
    requests: Number(cell.requests),
    distributions: ask.quantities.map((_, m) => distributionOf(cell, m, ask, doubts)),
    classes: ask.breakdown ? record(CLASSES, (k) => Number(cell[`k${k}`])) : null,
    outcomes: ask.breakdown ? record(OUTCOMES, (k) => Number(cell[`k${CLASSES.length + k}`])) : null,
    precisionNs: Number(cell.precision),
  }
}

function distributionOf(cell: CellRow, m: number, ask: Ask, doubts: Doubts): Distribution {
  const n = Number(cell[`n${m}`])
  if (n > EXACT_ROWS_MAX) {
    throw new Problem('query_rows', `${n} rows in one group, ${EXACT_ROWS_MAX} at most can be ranked exactly`, {
      parameter: 'method',
      help: 'use method=histogram, or a shorter interval',
    })
  }
  const distribution = { n, sum: BigInt(cell[`s${m}`]!), min: Number(cell[`lo${m}`]), max: Number(cell[`hi${m}`]) }
  const quantiles = n === 0 || ask.quantiles.length === 0 ? [] : cell[`q${m}`]!.map(Number)
  return {
    ...distribution,
    quantiles: quantiles.map((value, k) => ({
      value,
      low: value,
      high: value,
      ...(m === 0 && cell.doubts !== undefined ? doubted(cell.doubts[k]!, ask.quantiles[k]!, n, doubts) : {}),
    })),
  }
}

// ---- doubts

/** For one quantile: values around the ranks that doubts can name, as (rank of the first, values). */
type DoubtRow = [
  lossLow: number | null,
  lossHigh: number | null,
  lowStart: number,
  lowValues: number[],
  highStart: number,
  highValues: number[],
  cutShort: number,
]

/** Values on either side of the expansion of a rank, so that the exact rank is among them. */
const AROUND = EXPANSION_ERROR_MAX + 1

/**
 * An array with one DoubtRow per quantile, over `sorted` and `cuts` of a group with `n0` rows. The ranks of the loss are
 * computed here with whole numbers; those of the interval by an expansion, and the exact ones are picked in TypeScript.
 */
function doubtsSql(ask: Ask, doubts: Doubts): string {
  const lost = lostSql(ask, doubts)
  const rows = ask.quantiles.map(({ q }, k) => {
    const { numerator, denominator } = fractionOf(q)
    const rank = `toInt64(greatest(1, intDiv(toInt128(${numerator}) * (n0 + lost) + ${denominator - 1n}, ${denominator})))`
    const skew = ((1 - 2 * q) * (NORMAL * NORMAL - 1)) / 6
    const start = (side: '-' | '+') =>
      `greatest(1, least(toInt64(n0), toInt64(floor(n0 * ${q} ${side} ${NORMAL} * sqrt(n0 * ${q * (1 - q)}) + (${skew})))) - ${AROUND})`
    const slice = (side: '-' | '+') => `arraySlice(sorted, ${start(side)}, ${2 * AROUND + 2})`
    return `tuple(${[
      `if(lost < 0, NULL, sorted[greatest(1, ${rank} - lost)])`,
      `if(lost < 0 OR ${rank} > n0, NULL, sorted[${rank}])`,
      start('-'),
      slice('-'),
      start('+'),
      slice('+'),
      `arrayCount(value -> value >= q0[${k + 1}], cuts)`,
    ].join(', ')})`
  })
  return `[${rows.map((row) => row.replaceAll(/\blost\b/g, `(${lost})`)).join(', ')}]`
}

/** Requests lost in the point `t`, −1 where it is not known. Points and counts are whole numbers of ours. */
function lostSql(ask: Ask, doubts: Doubts): string {
  if (doubts.loss === undefined) return 'toInt64(-1)'
  if (ask.step === null) return `toInt64(${doubts.loss(0n) ?? -1})`
  const { from, to } = ask.plan.interval
  const [points, counts]: [bigint[], number[]] = [[], []]
  for (let point = from / ask.step; point * ask.step < to; point++) {
    const lost = doubts.loss(point) ?? -1
    if (lost === 0) continue
    points.push(point)
    counts.push(lost)
  }
  if (counts.every((lost) => lost === -1) && BigInt(counts.length) === (to - 1n) / ask.step - from / ask.step + 1n) {
    return 'toInt64(-1)'
  }
  if (points.length === 0) return 'toInt64(0)'
  return `transform(toInt64(t), [${points.map((point) => `toInt64(${point})`).join(',')}], [${counts.map((lost) => `toInt64(${lost})`).join(',')}], toInt64(0))`
}

function doubted(row: DoubtRow, { q }: Quantile, n: number, doubts: Doubts): Partial<DoubtedNs> {
  const [lossLow, lossHigh, lowStart, lowValues, highStart, highValues, cutShort] = row
  const number = (value: number | null): number | null => (value === null ? null : Number(value))
  const atRank = (rank: number | null, start: number, values: readonly number[]): number | null => {
    if (rank === null) return null
    const value = values[rank - Number(start)]
    if (value === undefined) throw new Error(`rank ${rank} of ${n} at ${q} is not among ${values.length} from ${start}`)
    return Number(value)
  }
  const few = (): Partial<DoubtedNs> => {
    const { low, high } = rankInterval(q, n)
    return {
      ciLow: atRank(low, lowStart, lowValues),
      ciHigh: atRank(high, highStart, highValues),
      cutShort: Number(cutShort),
    }
  }
  return {
    ...(doubts.loss === undefined ? {} : { lossLow: number(lossLow), lossHigh: number(lossHigh) }),
    ...(doubts.few ? few() : {}),
  }
}
