import { Histogram, rankOf } from '../model/histogram.ts'
import { bucketSql } from '../model/histogram-sql.ts'
import { ROLLUP_MIN_NONE } from '../model/rollup-columns.ts'
import { CLASSES, OUTCOMES } from '../model/schema.ts'
import { labelSql } from './columns.ts'
import { rankInterval } from './confidence.ts'
import type { Ask, Distribution, DoubtedNs, Doubts, Group } from './distribution.ts'
import { filterSql } from './filters.ts'
import { partsByTable, partsSql, stepSql } from './parts-sql.ts'
import type { Part } from './plan.ts'
import { isRows, rollupQuantity, rowQuantity } from './quantities.ts'
import type { Question } from './question.ts'
import { allOf, Bindings } from './sql.ts'

interface CellRow {
  readonly [label: `l${number}`]: string
  readonly [count: `n${number}` | `lo${number}` | `hi${number}` | `k${number}`]: number
  readonly [sum: `s${number}`]: string
  readonly [buckets: `b${number}` | `c${number}`]: number[]
  readonly t: number | string
  readonly requests: number
}

/**
 * Distributions from histograms: those of the rollups inside, and at the edges the same buckets made from rows. Buckets
 * are added in the store, as maps: a third of the time that ARRAY JOIN and GROUP BY take, and a fifth of `sumMap` over
 * pairs of arrays. Ranks are looked up here.
 */
export async function readRollups(question: Question, ask: Ask, doubts: Doubts): Promise<Group[]> {
  const bindings = new Bindings()
  const keys = [...ask.groups.map((_, k) => `l${k}`), 't'].join(', ')
  const figures = [
    'sum(n) AS requests',
    ...ask.quantities.flatMap((_, m) => [
      `sum(qn${m}) AS n${m}`,
      `toString(sum(qs${m})) AS s${m}`,
      `min(qlo${m}) AS lo${m}`,
      `max(qhi${m}) AS hi${m}`,
      `sumMap(qh${m}) AS h${m}`,
      `mapKeys(h${m}) AS b${m}`,
      `mapValues(h${m}) AS c${m}`,
    ]),
    ...(ask.breakdown ? BREAKDOWN.map((_, k) => `sum(qk${k}) AS k${k}`) : []),
  ]
  const parts = partsByTable(ask.plan.parts).map((some) =>
    isRows(some[0]) ? fromRows(some, ask, bindings) : fromRollups(some, ask, bindings),
  )
  const maps = ask.quantities.map((_, m) => `h${m}`).join(', ')
  const sql = `SELECT * EXCEPT (${maps}) FROM (SELECT ${keys}, ${figures.join(', ')} FROM (${parts.join(' UNION ALL ')}) GROUP BY ${keys} HAVING requests != 0 LIMIT ${ask.groupsMax + 1})`
  const tooMany = ask.step === null ? 'too_many_series' : 'too_many_points'
  const cells = await question.run<CellRow>(bindings.statement(sql), ask.groupsMax, tooMany)
  return cells.map((cell) => groupOf(cell, ask, doubts))
}

const BREAKDOWN: readonly string[] = [
  ...CLASSES.map((name) => `class = '${name}'`),
  ...OUTCOMES.map((name) => `outcome = '${name}'`),
]

type OfOneTable = readonly [Part, ...Part[]]

function fromRollups(parts: OfOneTable, ask: Ask, bindings: Bindings): string {
  const figures = ask.quantities.flatMap((quantity, m) => {
    const { n, sum, min, max, buckets, counts } = rollupQuantity(quantity)
    return [
      `${n} AS qn${m}`,
      // Sums of one row are below 2^63; a correction of the rollup is a negative one, modulo 2^64.
      `toInt128(toInt64(${sum})) AS qs${m}`,
      `${min} AS qlo${m}`,
      `${max} AS qhi${m}`,
      `mapFromArrays(${buckets}, ${counts}) AS qh${m}`,
    ]
  })
  const breakdown = ask.breakdown ? BREAKDOWN.map((condition, k) => `if(${condition}, n, 0) AS qk${k}`) : []
  return selectSql(parts, ask, bindings, ['n', ...figures, ...breakdown])
}

function fromRows(parts: OfOneTable, ask: Ask, bindings: Bindings): string {
  const figures = ask.quantities.flatMap((quantity, m) => {
    const { value, known } = rowQuantity(quantity)
    const ns = `toUInt64(${value})`
    const [one, bucket] = ['toUInt64(1)', bucketSql(ns)]
    if (known === '1') {
      return [
        `${one} AS qn${m}`,
        `toInt128(${ns}) AS qs${m}`,
        `${ns} AS qlo${m}`,
        `${ns} AS qhi${m}`,
        `map(${bucket}, ${one}) AS qh${m}`,
      ]
    }
    return [
      `toUInt64(${known}) AS qn${m}`,
      `if(${known}, toInt128(${ns}), toInt128(0)) AS qs${m}`,
      `if(${known}, ${ns}, toUInt64(${ROLLUP_MIN_NONE})) AS qlo${m}`,
      `if(${known}, ${ns}, toUInt64(0)) AS qhi${m}`,
      `mapFromArrays(if(${known}, [${bucket}], emptyArrayInt16()), if(${known}, [${one}], emptyArrayUInt64())) AS qh${m}`,
    ]
  })
  const breakdown = ask.breakdown ? BREAKDOWN.map((condition, k) => `toUInt64(${condition}) AS qk${k}`) : []
  return selectSql(parts, ask, bindings, ['toUInt64(1) AS n', ...figures, ...breakdown])
}

function selectSql(parts: OfOneTable, ask: Ask, bindings: Bindings, figures: readonly string[]): string {
  const keys = [
    ...ask.groups.map((column, k) => `${labelSql(column)} AS l${k}`),
    `${stepSql(parts[0], ask.step, bindings)} AS t`,
  ]
  const where = allOf([
    partsSql(parts, bindings),
    ...ask.filters.map((filter) => filterSql(filter, bindings, ask.now)),
    ask.view.condition(bindings),
  ])
  return `SELECT ${[...keys, ...figures].join(', ')} FROM ${parts[0].table} WHERE ${where}`
}

function groupOf(cell: CellRow, ask: Ask, doubts: Doubts): Group {
  const point = BigInt(cell.t)
  return {
    labels: ask.groups.map((_, k) => cell[`l${k}`]!),
    point,
    requests: Number(cell.requests),
    distributions: ask.quantities.map((_, m) => distributionOf(cell, m, ask, doubts, point)),
    classes: ask.breakdown ? record(CLASSES, (k) => Number(cell[`k${k}`])) : null,
    outcomes: ask.breakdown ? record(OUTCOMES, (k) => Number(cell[`k${CLASSES.length + k}`])) : null,
    precisionNs: null,
  }
}

const EMPTY: Distribution = { n: 0, sum: 0n, min: 0, max: 0, quantiles: [] }

function distributionOf(cell: CellRow, m: number, ask: Ask, doubts: Doubts, point: bigint): Distribution {
  if (Number(cell[`n${m}`]) === 0) return EMPTY
  const sum = BigInt(cell[`s${m}`]!)
  const [min, max] = [Number(cell[`lo${m}`]), Number(cell[`hi${m}`])]
  const histogram = Histogram.from({ buckets: cell[`b${m}`]!, counts: cell[`c${m}`]!, sum, min, max })
  const n = histogram.count
  if (n === 0) return EMPTY
  return { n, sum, min, max, quantiles: ask.quantiles.map(({ q }) => doubted(histogram, q, n, doubts, point)) }
}

function doubted(histogram: Histogram, q: number, n: number, doubts: Doubts, point: bigint): DoubtedNs {
  const loss = (): Partial<DoubtedNs> => {
    const lost = doubts.loss!(point)
    if (lost === null) return { lossLow: null, lossHigh: null }
    const rank = rankOf(q, n + lost)
    return {
      lossLow: histogram.atRank(Math.max(1, rank - lost)).low,
      lossHigh: rank > n ? null : histogram.atRank(rank).high,
    }
  }
  const few = (): Partial<DoubtedNs> => {
    const { low, high } = rankInterval(q, n)
    return {
      ciLow: low === null ? null : histogram.atRank(low).low,
      ciHigh: high === null ? null : histogram.atRank(high).high,
      // Rollups keep no histogram of the requests that timed out.
      cutShort: null,
    }
  }
  return {
    ...histogram.quantile(q),
    ...(doubts.loss === undefined ? {} : loss()),
    ...(doubts.few ? few() : {}),
  }
}

export function record<const Name extends string>(
  names: readonly Name[],
  value: (k: number) => number,
): Record<Name, number> {
  return Object.fromEntries(names.map((name, k) => [name, value(k)])) as Record<Name, number>
}
