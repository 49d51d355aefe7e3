import type { Statement } from '../../model/query.ts'
import type { Question } from '../question.ts'
import { type Matcher, PromError, type Selector } from './ast.ts'

/**
 * Reads series for a selector. Histograms and summaries are one row each in the store, and several series in PromQL:
 * `_count` and `_sum`, `_bucket` with `le`, and a summary's own name with `quantile`.
 */
export interface ReadSeries {
  /** `__name__` among them. */
  readonly labels: ReadonlyMap<string, string>
  /** Ascending times, without markers of staleness. */
  readonly samples: readonly Sample[]
}

export interface Sample {
  readonly ms: number
  readonly value: number
  /** When the counter was 0; 0 when not known. */
  readonly startMs: number
}

export const LOOKBACK_MS = 300_000
const SERIES_MAX = 100_000
const SAMPLES_MAX = 5_000_000
const MS_PER_DAY = 86_400_000
/** Labels that histograms and summaries have in PromQL and not in the store. */
const MADE_LABELS: ReadonlySet<string> = new Set(['le', 'quantile'])

/** What a range selector selects in (from, to]; of an instant selector the last value of the lookback, unless stale. */
export async function readSeries(
  question: Question,
  { matchers, rangeMs }: Selector,
  atMs: number,
): Promise<ReadSeries[]> {
  const instant = rangeMs === null
  const found = await select(question, matchers, atMs - (rangeMs ?? LOOKBACK_MS), atMs, instant)
  const made = matchers.filter(({ label }) => MADE_LABELS.has(label))
  const series = made.length === 0 ? found : found.filter(({ labels }) => made.every((one) => matches(one, labels)))
  return series.filter(({ samples }) => samples.length > 0)
}

interface SeriesRow {
  readonly id: string
  readonly metric: string
  readonly type: string
  readonly labels: Readonly<Record<string, string>>
}

async function select(
  question: Question,
  matchers: readonly Matcher[],
  fromMs: number,
  toMs: number,
  instant: boolean,
): Promise<ReadSeries[]> {
  const { where, params } = conditions(matchers, fromMs, toMs)
  const series = await question.run<SeriesRow>(
    {
      sql: `SELECT toString(id) AS id, metric, any(type) AS type, any(labels) AS labels FROM (
          SELECT id, type, labels, arrayJoin(multiIf(
            type = 'histogram', [concat(name, '_bucket'), concat(name, '_sum'), concat(name, '_count')],
            type = 'summary', [toString(name), concat(name, '_sum'), concat(name, '_count')],
            [toString(name)])) AS metric
          FROM series WHERE ${where.rough}
        ) WHERE ${where.exact} GROUP BY id, metric ORDER BY metric, id`,
      params,
    },
    SERIES_MAX,
    'too_many_series',
  )
  if (series.length === 0) return []
  const ids = `(SELECT id FROM series WHERE ${where.rough})`
  const plain = series.some(({ type }) => !isDistribution(type))
  const samples = plain ? await readSamples(question, ids, params, instant) : new Map<string, Sample[]>()
  const distributions = series.some(({ type }) => isDistribution(type))
    ? await readHistograms(question, ids, params, instant)
    : new Map<string, HistogramRow[]>()
  return series.flatMap((row) => {
    if (!isDistribution(row.type)) return [{ labels: labelsOf(row), samples: samples.get(row.id) ?? [] }]
    return expand(row, distributions.get(row.id) ?? [])
  })
}

const isDistribution = (type: string): boolean => type === 'histogram' || type === 'summary'

function labelsOf({ metric, labels }: SeriesRow, ...more: (readonly [string, string])[]): Map<string, string> {
  return new Map([['__name__', metric], ...Object.entries(labels), ...more])
}

/** `rough`: on `series` alone. `exact`: with the names that histograms and summaries have here. */
function conditions(matchers: readonly Matcher[], fromMs: number, toMs: number) {
  const params: Record<string, unknown> = {
    from: Math.max(0, Math.floor(fromMs)),
    to: Math.max(0, Math.floor(toMs)),
    fromDay: dayText(fromMs),
    toDay: dayText(toMs),
  }
  const rough = ['toDate(time) BETWEEN {fromDay:Date} AND {toDay:Date}']
  const exact = ['1']
  matchers.forEach(({ label, op, value }, k) => {
    if (MADE_LABELS.has(label)) return
    // The whole value has to match, and a dot matches every character.
    params[`v${k}`] = op === '=' || op === '!=' ? value : `^(?s:${value})$`
    params[`l${k}`] = label
    const of = label === '__name__' ? 'metric' : `labels[{l${k}:String}]`
    const compare = {
      '=': `${of} = {v${k}:String}`,
      '!=': `${of} != {v${k}:String}`,
      '=~': `match(${of}, {v${k}:String})`,
      '!~': `NOT match(${of}, {v${k}:String})`,
    }[op]
    if (label !== '__name__') rough.push(compare)
    else {
      exact.push(compare)
      if (op !== '=') return
      params.names = [value, value.replace(/_(?:bucket|sum|count)$/, '')]
      rough.push('name IN {names:Array(String)}')
    }
  })
  return { where: { rough: rough.join(' AND '), exact: exact.join(' AND ') }, params }
}

const dayText = (ms: number): string => {
  const day = Math.min(Math.max(0, Math.floor(ms / MS_PER_DAY)), 65_535)
  return new Date(day * MS_PER_DAY).toISOString().slice(0, 10)
}

const IN_WINDOW = `time > fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND time <= fromUnixTimestamp64Milli({to:Int64}, 'UTC')`

async function readSamples(
  question: Question,
  ids: string,
  params: Statement['params'],
  instant: boolean,
): Promise<Map<string, Sample[]>> {
  type Row = { id: string; points: [ms: string, value: string, startMs: string, stale: boolean][] }
  const point = '(toUnixTimestamp64Milli(time), toString(value), toUnixTimestamp64Milli(start), stale)'
  const points = instant ? `[argMax(${point}, time)]` : `arraySort(p -> p.1, groupArray(${point}))`
  const rows = await question.run<Row>(
    {
      sql: `SELECT toString(series) AS id, ${points} AS points FROM samples
        WHERE series IN ${ids} AND ${IN_WINDOW} GROUP BY series`,
      params,
    },
    SERIES_MAX,
    'too_many_series',
  )
  let total = 0
  const found = new Map<string, Sample[]>()
  for (const { id, points } of rows) {
    total += points.length
    if (total > SAMPLES_MAX) throw tooMany()
    const samples: Sample[] = []
    points.forEach(([ms, value, startMs, stale], k) => {
      // Of two at one time one is enough.
      if (stale || ms === points[k + 1]?.[0]) return
      samples.push({ ms: Number(ms), value: numberOf(value), startMs: Number(startMs) })
    })
    found.set(id, samples)
  }
  return found
}

const tooMany = () => new PromError('execution', `query processing would load more than ${SAMPLES_MAX} samples`)

const numberOf = (text: string): number =>
  text === 'inf' ? Number.POSITIVE_INFINITY : text === '-inf' ? Number.NEGATIVE_INFINITY : Number(text)

interface HistogramRow {
  readonly ms: number
  readonly startMs: number
  readonly count: number
  readonly sum: number
  /** Upper bounds without +Inf, ascending, and the observations up to each. */
  readonly bounds: readonly number[]
  readonly below: readonly number[]
  readonly quantiles: readonly number[]
  readonly quantileValues: readonly number[]
}

async function readHistograms(
  question: Question,
  ids: string,
  params: Statement['params'],
  instant: boolean,
): Promise<Map<string, HistogramRow[]>> {
  type Row = {
    id: string
    ms: string
    start: string
    stale: boolean
    scale: number
    n: number
    total: string
    zeros: number
    zero_threshold: number
    indexes: number[]
    counts: number[]
    negative_indexes: number[]
    negative_counts: number[]
    bounds: number[]
    bound_counts: number[]
    quantiles: number[]
    quantile_values: string[]
  }
  const rows = await question.run<Row>(
    {
      sql: `SELECT toString(series) AS id, toUnixTimestamp64Milli(time) AS ms, toUnixTimestamp64Milli(h.start) AS start, stale, scale,
          h.count AS n, toString(h.sum) AS total, zero_count AS zeros, zero_threshold, mapKeys(buckets) AS indexes,
          mapValues(buckets) AS counts, mapKeys(negative_buckets) AS negative_indexes,
          mapValues(negative_buckets) AS negative_counts, bounds, bound_counts, quantiles,
          arrayMap(v -> toString(v), quantile_values) AS quantile_values
        FROM histograms AS h WHERE series IN ${ids} AND ${IN_WINDOW}
        ORDER BY series, time ${instant ? 'DESC LIMIT 1 BY series' : ''}`,
      params,
    },
    SAMPLES_MAX / 20,
    'too_many_points',
  )
  const found = new Map<string, HistogramRow[]>()
  for (const row of rows) {
    const list = found.get(row.id) ?? []
    found.set(row.id, list)
    if (row.stale) continue
    list.push({
      ms: Number(row.ms),
      startMs: Number(row.start),
      count: row.n,
      sum: numberOf(row.total),
      ...(row.bounds.length > 0
        ? { bounds: row.bounds, below: sums(row.bound_counts.slice(0, -1)) }
        : exponentialBounds(row)),
      quantiles: row.quantiles,
      quantileValues: row.quantile_values.map(numberOf),
    })
  }
  return found
}

/** Upper edges of the buckets that have observations, in ascending order. */
function exponentialBounds(row: {
  scale: number
  zeros: number
  zero_threshold: number
  indexes: readonly number[]
  counts: readonly number[]
  negative_indexes: readonly number[]
  negative_counts: readonly number[]
}): { bounds: number[]; below: number[] } {
  const perOctave = 2 ** row.scale
  const cells: [bound: number, count: number][] = row.indexes.map((index, k) => [
    2 ** (index / perOctave),
    row.counts[k]!,
  ])
  row.negative_indexes.forEach((index, k) => {
    // The upper edge of [−2^(i/n), −2^((i−1)/n)).
    cells.push([-(2 ** ((index - 1) / perOctave)), row.negative_counts[k]!])
  })
  if (row.zeros > 0) cells.push([row.zero_threshold, row.zeros])
  cells.sort(([a], [b]) => a - b)
  return { bounds: cells.map(([bound]) => bound), below: sums(cells.map(([, count]) => count)) }
}

function sums(counts: readonly number[]): number[] {
  let sum = 0
  return counts.map((count) => {
    sum += count
    return sum
  })
}

/** The series of one name that a histogram or summary is. */
function expand(row: SeriesRow, rows: readonly HistogramRow[]): ReadSeries[] {
  const of = (value: (one: HistogramRow) => number): Sample[] =>
    rows.map((one) => ({ ms: one.ms, startMs: one.startMs, value: value(one) }))
  if (row.metric.endsWith('_count')) return [{ labels: labelsOf(row), samples: of(({ count }) => count) }]
  if (row.metric.endsWith('_sum')) return [{ labels: labelsOf(row), samples: of(({ sum }) => sum) }]
  if (row.type === 'summary') {
    const quantiles = [...new Set(rows.flatMap((one) => one.quantiles))].sort((a, b) => a - b)
    return quantiles.map((quantile) => ({
      labels: labelsOf(row, ['quantile', String(quantile)]),
      samples: rows
        .filter((one) => one.quantiles.includes(quantile))
        .map((one) => ({ ms: one.ms, startMs: 0, value: one.quantileValues[one.quantiles.indexOf(quantile)]! })),
    }))
  }
  // Each row has a value for every bound of any row, so that a bucket that fills later is 0 before.
  const bounds = [...new Set(rows.flatMap((one) => one.bounds))].sort((a, b) => a - b)
  const bucket = (le: string, value: (one: HistogramRow) => number): ReadSeries => ({
    labels: labelsOf(row, ['le', le]),
    samples: of(value),
  })
  const below = bounds.map((bound) => bucket(String(bound), (one) => upTo(one, bound)))
  return rows.length === 0 ? [] : [...below, bucket('+Inf', ({ count }) => count)]
}

function upTo({ bounds, below }: HistogramRow, bound: number): number {
  let last = 0
  for (let k = 0; k < bounds.length && bounds[k]! <= bound; k++) last = below[k]!
  return last
}

/** `le` is compared as a number: Prometheus 2 wrote `5`, Prometheus 3 writes `5.0`. */
function matches({ label, op, value }: Matcher, labels: ReadonlyMap<string, string>): boolean {
  const own = labels.get(label) ?? ''
  if (op === '=' || op === '!=') {
    const same = own === value || (own !== '' && value !== '' && numeric(own) === numeric(value))
    return same === (op === '=')
  }
  let pattern: RegExp
  try {
    pattern = new RegExp(`^(?:${value})$`, 's')
  } catch {
    throw new PromError('bad_data', `error parsing regexp: ${value}`)
  }
  return pattern.test(own) === (op === '=~')
}

const numeric = (text: string): number | string => {
  if (text === '+Inf') return Number.POSITIVE_INFINITY
  const value = Number(text)
  return Number.isNaN(value) ? text : value
}
