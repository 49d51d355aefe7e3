import { BUCKET_MAX, ZERO_BUCKET } from '../src/model/buckets.ts'
import { FLAGS, type RollupMetric } from '../src/model/schema.ts'

/**
 * Pieces of ClickHouse SQL that the queries are made of, with the macros of Grafana's ClickHouse datasource. Everything
 * is read from `latency_1m`, so panels have points of a minute at least.
 */

/** Whose report of a request counts, by destination service: the first kind that there is, as in `view=auto` of the API. */
const ONCE = `(destination_service, reporter) IN (
  SELECT destination_service, argMin(reporter, indexOf(['destination', 'waypoint', 'gateway', 'source', 'unknown'], reporter))
  FROM latency_1m WHERE $__timeFilter(minute) GROUP BY destination_service)`

/** A variable of the dashboard that chooses values of a column; with All, nothing is filtered. */
export const chosen = (column: string, variable: string): string =>
  `$__conditionalAll(${column} IN (\${${variable}:singlequote}), $${variable})`

export interface Select {
  /** Columns of the answer beside time, `expression AS name`. */
  readonly figures: readonly string[]
  /** Columns to group by beside time. */
  readonly by?: readonly string[]
  readonly where?: readonly string[]
  /** Joined to the rows: `ARRAY JOIN …`. */
  readonly join?: string
  readonly order?: string
  readonly limit?: number
  /** Every report counts, not one for each request. */
  readonly everyReport?: boolean
}

/** Points over time. */
export function overTime(select: Select): string {
  return statement(
    { ...select, figures: ['$__timeInterval(minute) AS time', ...(select.by ?? []), ...select.figures] },
    ['time', ...(select.by ?? [])],
  )
}

/** One row for each group, over the whole time of the dashboard. */
export function table(select: Select): string {
  return statement({ ...select, figures: [...(select.by ?? []), ...select.figures] }, select.by ?? [])
}

function statement(select: Select, keys: readonly string[]): string {
  const where = ['$__timeFilter(minute)', ...(select.everyReport === true ? [] : [ONCE]), ...(select.where ?? [])]
  const names = keys.map((key) => key.split(' AS ').at(-1)!)
  return [
    `SELECT ${select.figures.join(', ')}`,
    `FROM latency_1m${select.join === undefined ? '' : ` ${select.join}`}`,
    `WHERE ${where.join('\n  AND ')}`,
    ...(names.length === 0 ? [] : [`GROUP BY ${names.join(', ')}`]),
    ...(select.order === undefined
      ? names.length === 0
        ? []
        : [`ORDER BY ${names.join(', ')}`]
      : [`ORDER BY ${select.order}`]),
    ...(select.limit === undefined ? [] : [`LIMIT ${select.limit}`]),
  ].join('\n')
}

/** Requests a second in a point. */
export const PER_SECOND = 'sum(n) / $__interval_s'
/** Seconds of the dashboard's time, for rates in tables. */
export const RANGE_SECONDS = '($__toTime - $__fromTime)'

/** Part of the requests that a condition holds for. */
export const part = (condition: string): string => `sumIf(n, ${condition}) / greatest(sum(n), 1)`

/** Value that stands for a bucket, ms: the harmonic mean of its edges, 0.55 % from the truth at most. */
const BUCKET_MS = 2000 / (1 + 2 ** (1 / 64))

/** Quantiles of a metric of the rollups in ms, each with its name. */
export function quantilesMs(metric: RollupMetric, quantiles: Readonly<Record<string, number>>): string[] {
  const histogram = `sumMap(mapFromArrays(\`${metric}Map.bucket\`, \`${metric}Map.count\`))`
  const counts = `mapValues(${histogram})`
  return Object.entries(quantiles).map(([name, q]) => {
    const rank = `arrayFirstIndex(below -> below >= greatest(1, ceil(${q} * arraySum(${counts}))), arrayCumSum(${counts}))`
    const bucket = `mapKeys(${histogram})[${rank}]`
    return `if(${bucket} = ${ZERO_BUCKET}, 0, exp2(least(${bucket}, ${BUCKET_MAX}) / 64) * ${BUCKET_MS}) AS ${name}`
  })
}

const FLAG_LIST = `[${FLAGS.map((flag) => `'${flag}'`).join(', ')}]`
/** Requests by response flag: a row of `latency_1m` for each flag in it, with `flag` and `flagged`. */
export const FLAG_JOIN = '`flagsMap.flag` AS flag_bit, `flagsMap.count` AS flagged'
export const FLAG = `${FLAG_LIST}[flag_bit + 1] AS flag`

// ---- our own metrics, as `samples` keeps them

interface Own {
  readonly name: string
  /** Name of a series without labels. */
  readonly legend: string
  /** Labels whose values name the series. */
  readonly labels: readonly string[]
  readonly where: string
}

const labelSql = ({ legend, labels }: Own): string => {
  const values = labels.map((label) => `labels['${label}']`)
  return values.length === 0 ? `'${legend}'` : values.length === 1 ? values[0]! : `concat(${values.join(", ' ', ")})`
}

const series = (own: Own): string =>
  `(SELECT id, any(${labelSql(own)}) AS label FROM series WHERE job = 'sidecast' AND name = '${own.name}' AND ${own.where} GROUP BY id) AS own`

const lastValues = (own: Own): string =>
  `SELECT $__timeInterval(samples.time) AS time, own.label AS label, samples.series AS series, argMax(samples.value, samples.time) AS last
FROM samples INNER JOIN ${series(own)} ON own.id = samples.series
WHERE $__timeFilter(samples.time) AND NOT samples.stale GROUP BY time, label, series`

/** A level over time, added up by label. */
export function level(own: Own): string {
  return `SELECT time, label, sum(last) AS value FROM (
${lastValues(own)}
) GROUP BY time, label ORDER BY time, label`
}

/** What a counter grew by, per second; a counter that began again grew by what it shows. */
export function growth(own: Own): string {
  return `SELECT time, label, sum(if(last >= before, last - before, last)) / $__interval_s AS value FROM (
SELECT time, label, last, lagInFrame(last, 1, last) OVER (PARTITION BY series ORDER BY time) AS before FROM (
${lastValues(own)}
)) GROUP BY time, label ORDER BY time, label`
}
