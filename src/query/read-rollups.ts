import { Histogram, rankOf } from '../model/histogram.ts'
import { bucketSql } from '../model/histogram-sql.ts'
import { CLASSES, OUTCOMES } from '../model/schema.ts'
import { labelSql } from './columns.ts'
import { rankInterval } from './confidence.ts'
import type { Ask, Distribution, DoubtedNs, Doubts, Group } from './distribution.ts'
import { filterSql } from './filters.ts'
import { partSql, stepSql } from './parts-sql.ts'
import type { Part } from './plan.ts'
import { isRows, rollupQuantity, rowQuantity } from './quantities.ts'
import type { Question } from './question.ts'
import { allOf, Bindings } from './sql.ts'

interface CellRow {
  readonly [label: `l${number}`]: string
  readonly [count: `k${number}`]: number
  readonly t: number | string
  readonly m: number
  readonly n: number
  readonly s: string
  readonly lo: number
  readonly hi: number
  readonly bs: number[]
  readonly cs: number[]
}

/**
 * Distributions from histograms: those of the rollups inside, and at the edges the same buckets made from rows. Buckets
 * are added in the store; ranks are looked up here.
 *
 *   rollups, rows ──► totals by (labels, point, quantity)  ──┐
 *                └──► counts by (…, bucket) ──► arrays by (…) ──► one row by (labels, point, quantity)
 */
export async function readRollups(question: Question, ask: Ask, doubts: Doubts): Promise<Group[]> {
  const bindings = new Bindings()
  const keys = [...ask.groups.map((_, k) => `l${k}`), 't', 'm']
  const extras = ask.breakdown ? BREAKDOWN.map((_, k) => `k${k}`) : []
  const totals = ask.plan.parts.map((part) => totalsSql(part, ask, bindings, extras))
  const buckets = ask.plan.parts.map((part) => bucketsSql(part, ask, bindings))
  const sql = `
SELECT ${keys.join(', ')}, sum(n) AS n, toString(sum(s)) AS s, min(lo) AS lo, max(hi) AS hi, groupArrayArray(bs) AS bs, groupArrayArray(cs) AS cs${extras.map((k) => `, sum(${k}) AS ${k}`).join('')}
FROM (
  SELECT ${keys.join(', ')}, sum(n) AS n, sum(s) AS s, min(lo) AS lo, max(hi) AS hi, emptyArrayInt16() AS bs, emptyArrayUInt64() AS cs${extras.map((k) => `, sum(${k}) AS ${k}`).join('')}
  FROM (${totals.join('\n    UNION ALL ')})
  GROUP BY ${keys.join(', ')}
  UNION ALL
  SELECT ${keys.join(', ')}, toUInt64(0), toInt128(0), toUInt64(${NEUTRAL_MIN}), toUInt64(0), groupArray(b), groupArray(c)${extras.map(() => ', toUInt64(0)').join('')}
  FROM (
    SELECT ${keys.join(', ')}, b, sum(c) AS c
    FROM (${buckets.join('\n      UNION ALL ')})
    GROUP BY ${keys.join(', ')}, b HAVING c != 0
  )
  GROUP BY ${keys.join(', ')}
)
GROUP BY ${keys.join(', ')} HAVING n != 0
LIMIT ${ask.groupsMax * ask.quantities.length + 1}`
  const tooMany = ask.step === null ? 'too_many_series' : 'too_many_points'
  const rows = await question.run<CellRow>(bindings.statement(sql), ask.groupsMax * ask.quantities.length, tooMany)
  return gather(rows, ask, doubts)
}

/** What is neither smallest nor largest: the rows that have only buckets must not decide. */
const NEUTRAL_MIN = '18446744073709551615'

const BREAKDOWN: readonly string[] = [
  ...CLASSES.map((name) => `class = '${name}'`),
  ...OUTCOMES.map((name) => `outcome = '${name}'`),
]

/** Labels and point of a row or a rollup, as l0 …, t. */
function keysSql(part: Part, ask: Ask, bindings: Bindings): string {
  const labels = ask.groups.map((column, k) => `toString(${labelSql(column)}) AS l${k}`)
  return [...labels, `${stepSql(part, ask.step, bindings)} AS t`].join(', ')
}

function whereSql(part: Part, ask: Ask, bindings: Bindings): string {
  return allOf([
    partSql(part, bindings),
    ...ask.filters.map((filter) => filterSql(filter, bindings, ask.now)),
    ask.view.condition(bindings),
  ])
}

/** Rows of (keys, m, value): one for each quantity that a request has. */
function valuesSql(part: Part, ask: Ask, bindings: Bindings, extras: string): string {
  const quantities = ask.quantities.map(rowQuantity)
  const arrays = (pick: (k: number) => string) => `[${quantities.map((_, k) => pick(k)).join(', ')}]`
  const known = quantities.every((quantity) => quantity.known === '1')
    ? arrays((k) => `toUInt8(${k})`)
    : `arrayFilter((m, known) -> known, ${arrays((k) => `toUInt8(${k})`)}, ${arrays((k) => `toUInt8(${quantities[k]!.known})`)})`
  const values = arrays((k) => `toUInt64(${quantities[k]!.value})`)
  return `SELECT *, m, vs[m + 1] AS value FROM (SELECT ${keysSql(part, ask, bindings)}${extras}, ${known} AS ms, ${values} AS vs FROM requests WHERE ${whereSql(part, ask, bindings)}) ARRAY JOIN ms AS m`
}

function totalsSql(part: Part, ask: Ask, bindings: Bindings, extras: readonly string[]): string {
  const out = `${ask.groups.map((_, k) => `l${k}, `).join('')}t, m`
  if (isRows(part)) {
    const counts = extras.map((k, i) => `, toUInt64(${BREAKDOWN[i]}) AS ${k}`).join('')
    const values = valuesSql(part, ask, bindings, counts)
    return `SELECT ${out}, toUInt64(1) AS n, toInt128(value) AS s, value AS lo, value AS hi${extras.map((k) => `, ${k}`).join('')} FROM (${values})`
  }
  // Sums of one row are below 2^63; a correction of the rollup is a negative one, modulo 2^64.
  const quantities = ask.quantities.map(rollupQuantity)
  const columns = [
    `[${quantities.map((_, m) => `toUInt8(${m})`).join(', ')}] AS m`,
    `[${quantities.map(({ n }) => n).join(', ')}] AS n`,
    `[${quantities.map(({ sum }) => `toInt128(toInt64(${sum}))`).join(', ')}] AS s`,
    `[${quantities.map(({ min }) => min).join(', ')}] AS lo`,
    `[${quantities.map(({ max }) => max).join(', ')}] AS hi`,
  ]
  const counts = extras.map((k, i) => `, if(${BREAKDOWN[i]}, n, 0) AS ${k}`).join('')
  const keys = keysSql(part, ask, bindings)
  const where = whereSql(part, ask, bindings)
  if (quantities.length === 1) {
    const [{ n, sum, min, max }] = quantities as [ReturnType<typeof rollupQuantity>]
    return `SELECT ${keys}, toUInt8(0) AS m, ${n} AS n, toInt128(toInt64(${sum})) AS s, ${min} AS lo, ${max} AS hi${counts} FROM ${part.table} WHERE ${where}`
  }
  return `SELECT * FROM (SELECT ${keys}, ${columns.join(', ')}${counts} FROM ${part.table} WHERE ${where}) ARRAY JOIN m, n, s, lo, hi`
}

function bucketsSql(part: Part, ask: Ask, bindings: Bindings): string {
  const out = `${ask.groups.map((_, k) => `l${k}, `).join('')}t, m`
  if (isRows(part)) {
    return `SELECT ${out}, ${bucketSql('value')} AS b, toUInt64(1) AS c FROM (${valuesSql(part, ask, bindings, '')})`
  }
  const keys = keysSql(part, ask, bindings)
  const where = whereSql(part, ask, bindings)
  const quantities = ask.quantities.map(rollupQuantity)
  if (quantities.length === 1) {
    const [{ buckets, counts }] = quantities as [ReturnType<typeof rollupQuantity>]
    return `SELECT ${keys}, toUInt8(0) AS m, b, c FROM ${part.table} ARRAY JOIN ${buckets} AS b, ${counts} AS c WHERE ${where}`
  }
  // All histograms of a rollup one behind the other, each bucket with its quantity.
  const m = `arrayFlatten([${quantities.map(({ buckets }, k) => `arrayWithConstant(length(${buckets}), toUInt8(${k}))`).join(', ')}])`
  const b = `arrayConcat(${quantities.map(({ buckets }) => buckets).join(', ')})`
  const c = `arrayConcat(${quantities.map(({ counts }) => counts).join(', ')})`
  return `SELECT ${keys}, m, b, c FROM ${part.table} ARRAY JOIN ${m} AS m, ${b} AS b, ${c} AS c WHERE ${where}`
}

function gather(rows: readonly CellRow[], ask: Ask, doubts: Doubts): Group[] {
  const groups = new Map<string, { group: Group; distributions: Distribution[] }>()
  for (const row of rows) {
    const labels = ask.groups.map((_, k) => row[`l${k}`]!)
    const point = BigInt(row.t)
    const id = JSON.stringify([labels, String(point)])
    let entry = groups.get(id)
    if (entry === undefined) {
      const distributions = ask.quantities.map(() => EMPTY)
      const group = { labels, point, requests: 0, distributions, classes: null, outcomes: null, precisionNs: null }
      entry = { group, distributions }
      groups.set(id, entry)
    }
    entry.distributions[row.m] = distributionOf(row, ask, doubts, point)
    if (ask.quantities[row.m] !== 'total') continue
    const counted = ask.breakdown
      ? {
          classes: record(CLASSES, (k) => Number(row[`k${k}`])),
          outcomes: record(OUTCOMES, (k) => Number(row[`k${CLASSES.length + k}`])),
        }
      : {}
    entry.group = { ...entry.group, requests: Number(row.n), ...counted }
  }
  return [...groups.values()].map(({ group, distributions }) => {
    const most = Math.max(...distributions.map(({ n }) => n))
    return { ...group, requests: Math.max(group.requests, most) }
  })
}

const EMPTY: Distribution = { n: 0, sum: 0n, min: 0, max: 0, quantiles: [] }

function distributionOf(row: CellRow, ask: Ask, doubts: Doubts, point: bigint): Distribution {
  const sum = BigInt(row.s)
  const [min, max] = [Number(row.lo), Number(row.hi)]
  const histogram = Histogram.from({ buckets: row.bs, counts: row.cs, sum, min, max })
  const n = histogram.count
  if (n === 0) return EMPTY
  return {
    n,
    sum,
    min,
    max,
    quantiles: ask.quantiles.map(({ q }) => doubted(histogram, q, n, doubts, point)),
  }
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
