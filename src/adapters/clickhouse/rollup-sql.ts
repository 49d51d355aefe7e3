import { BUCKET_CODES, ZERO_BUCKET } from '../../model/buckets.ts'
import { bucketCodeSql } from '../../model/histogram-sql.ts'
import { ROLLUP_COLUMNS, ROLLUP_TIME, ROLLUP_TIMES, type RollupColumn } from '../../model/rollup-columns.ts'
import {
  FLAGS,
  OVERFLOW,
  ROLLUP_KEYS,
  ROLLUP_METRICS,
  type RollupMetric,
  type RollupTable,
} from '../../model/schema.ts'
import { quoteName, quoteText } from './ddl.ts'

/**
 * Statements that hold rollups against what they are made from, and correct them.
 *
 * A correction is *added*: for every key, what the source says minus what the rollup says, modulo 2^64. It is one INSERT,
 * so a question sees the rollup before or after it and never in between; made twice, the second one is empty. Smallest and
 * largest values are taken from the source; they can only be reached, never left.
 *
 *   requests ── by minute ──► latency_1m ── by hour ──► latency_1h ── by day ──► latency_1d
 */

/** Totals of a minute, an hour or a day that are equal when source and rollup are: rows, and sums of 64 bits of their values. */
const CHECKS = ['n', 'total_sum', 'request_bytes', 'response_bytes', 'attempts'] as const
const ROW_CHECKS: Readonly<Record<(typeof CHECKS)[number], string>> = {
  n: 'count()',
  total_sum: 'sum(duration_ns)',
  request_bytes: 'sum(downstream_wire_received)',
  response_bytes: 'sum(downstream_wire_sent)',
  attempts: 'sum(toUInt64(attempts))',
}

/** Rows that rollups are made from. */
const COUNTS = 'NOT secondary'
const IN_DAYS = 'toDate(end_time) IN (SELECT arrayJoin({days:Array(Date)}))'

/**
 * Minutes (Unix seconds), with how many rows they are about, of `{minutes}` that differ between `requests` and `latency_1m`.
 * `{days}`: their days.
 */
export function differingMinutesSql(database: string): string {
  const db = quoteName(database)
  const stored = CHECKS.map((check) => `sum(${check}) AS ${check}_stored`)
  const wanted = CHECKS.map((check) => `${ROW_CHECKS[check]} AS ${check}_wanted`)
  return differing('minute', [
    `SELECT toUInt32(${MINUTE}) AS minute, ${wanted.join(', ')}, ${zeros('stored')}
     FROM ${db}.requests WHERE ${COUNTS} AND ${IN_DAYS} AND ${inMinutes(MINUTE)} GROUP BY minute`,
    `SELECT toUInt32(latency_1m.minute) AS minute, ${zeros('wanted')}, ${stored.join(', ')}
     FROM ${db}.latency_1m WHERE ${daysOf('latency_1m.minute')} AND ${inMinutes('latency_1m.minute')} GROUP BY minute`,
  ])
}

/** Hours (Unix seconds) of `{hours}` that differ between `latency_1m` and `latency_1h`. */
export function differingHoursSql(database: string): string {
  const db = quoteName(database)
  const sums = (side: string) => CHECKS.map((check) => `sum(${check}) AS ${check}_${side}`).join(', ')
  return differing('hour', [
    `SELECT toUInt32(toStartOfHour(minute)) AS hour, ${sums('wanted')}, ${zeros('stored')}
     FROM ${db}.latency_1m WHERE ${daysOf('minute')} AND ${hoursOf('minute')} GROUP BY hour`,
    `SELECT toUInt32(latency_1h.hour) AS hour, ${zeros('wanted')}, ${sums('stored')}
     FROM ${db}.latency_1h WHERE latency_1h.hour IN (SELECT arrayJoin({hours:Array(UInt32)})) GROUP BY hour`,
  ])
}

/**
 * Days (Unix seconds of their start) of `{from} … {to}` that differ between `latency_1h` and `latency_1d`, the newest first:
 * how many rows of hours they are made from, and the totals that are stored of them.
 */
export function differingDaysSql(database: string): string {
  const db = quoteName(database)
  const sums = (side: string) => CHECKS.map((check) => `sum(${check}) AS ${check}_${side}`).join(', ')
  const inRange = (column: string) =>
    `${column} >= toDateTime({from:UInt32}, 'UTC') AND ${column} < toDateTime({to:UInt32}, 'UTC')`
  const unequal = CHECKS.map((check) => `sum(${check}_wanted) != sum(${check}_stored)`).join(' OR ')
  const stored = CHECKS.map((check) => `sum(${check}_stored)`).join(', ')
  return `SELECT day, sum(hour_rows) AS rows, arrayStringConcat([${stored}], '.') AS stored FROM (
      SELECT toUInt32(toStartOfDay(latency_1h.hour)) AS day, count() AS hour_rows, ${sums('wanted')}, ${zeros('stored')}
      FROM ${db}.latency_1h WHERE ${inRange('latency_1h.hour')} GROUP BY day
      UNION ALL
      SELECT toUInt32(latency_1d.day) AS day, toUInt64(0) AS hour_rows, ${zeros('wanted')}, ${sums('stored')}
      FROM ${db}.latency_1d WHERE ${inRange('latency_1d.day')} GROUP BY day
    ) GROUP BY day HAVING ${unequal} ORDER BY day DESC`
}

const inMinutes = (minute: string): string => `toUInt32(${minute}) IN (SELECT arrayJoin({minutes:Array(UInt32)}))`
const daysOf = (column: string): string => `toDate(${column}) IN (SELECT arrayJoin({days:Array(Date)}))`
const hoursOf = (column: string): string => `has({hours:Array(UInt32)}, toUInt32(toStartOfHour(${column})))`
const zeros = (side: string): string => CHECKS.map((check) => `toUInt64(0) AS ${check}_${side}`).join(', ')

function differing(time: string, sides: readonly string[]): string {
  const unequal = CHECKS.map((check) => `sum(${check}_wanted) != sum(${check}_stored)`).join(' OR ')
  const lacks = CHECKS.map((check) => `toInt64(sum(${check}_wanted) - sum(${check}_stored))`)
  return `SELECT ${time}, sum(n_wanted) + sum(n_stored) AS n, toString([${lacks.join(', ')}]) AS lacks FROM (${sides.join('\nUNION ALL\n')}) GROUP BY ${time} HAVING ${unequal} ORDER BY ${time}`
}

/** Totals of the rows of `{segment}`, by minute, in the form in which the statements above tell what a minute lacks. */
export function segmentMinutesSql(database: string): string {
  const totals = CHECKS.map((check) => `toInt64(${ROW_CHECKS[check]})`)
  return `SELECT toUInt32(${MINUTE}) AS minute, count() AS n, toString([${totals.join(', ')}]) AS lacks
    FROM ${quoteName(database)}.requests WHERE ${COUNTS} AND segment = {segment:String} AND ${IN_DAYS} GROUP BY minute ORDER BY minute`
}

/** Columns of an INSERT into a rollup. */
export function rollupNames(table: RollupTable): string[] {
  return ROLLUP_COLUMNS.map(({ name }) => quoteName(name === ROLLUP_TIME ? ROLLUP_TIMES[table] : name))
}

/**
 * Adds to `latency_1m` what it lacks of `requests` in `{minutes}` (Unix seconds), and takes off what it has too much. Of
 * the source's keys the `keysMax` of a minute with the most rows stay, the others go to the overflow key. `{days}`: of the minutes.
 */
export function correctMinutesSql(database: string, keysMax: number): string {
  const db = quoteName(database)
  const keys = ROLLUP_KEYS.join(', ')
  const rows = rowsWithKeys(db, `${COUNTS} AND ${IN_DAYS} AND ${inMinutes(MINUTE)}`, keysMax)
  return correction(database, 'latency_1m', {
    wanted: wantedOfRows(rows),
    stored: `SELECT minute, ${keys}, ${fromRollup()} FROM ${db}.latency_1m
      WHERE ${daysOf('latency_1m.minute')} AND ${inMinutes('latency_1m.minute')} GROUP BY minute, ${keys}`,
  })
}

/** Adds to `latency_1m` what the rows of `{segment}` come to, for who knows that it has nothing of them. `{days}`: theirs. */
export function addSegmentSql(database: string, keysMax: number): string {
  const db = quoteName(database)
  const keys = ROLLUP_KEYS.join(', ')
  const rows = rowsWithKeys(db, `${COUNTS} AND segment = {segment:String} AND ${IN_DAYS}`, keysMax)
  return correction(database, 'latency_1m', {
    wanted: wantedOfRows(rows),
    stored: `SELECT minute, ${keys}, ${fromRollup()} FROM ${db}.latency_1m WHERE 0 GROUP BY minute, ${keys}`,
  })
}

/** The same for `latency_1h` and `latency_1m`, for the hour `{from} … {to}`. */
export function correctHourSql(database: string): string {
  const db = quoteName(database)
  const keys = ROLLUP_KEYS.join(', ')
  return correction(database, 'latency_1h', {
    wanted: `SELECT toStartOfHour(minute) AS hour, ${keys}, ${fromRollup()} FROM ${db}.latency_1m
      WHERE minute >= toDateTime({from:UInt32}, 'UTC') AND minute < toDateTime({to:UInt32}, 'UTC') GROUP BY hour, ${keys}`,
    stored: `SELECT hour, ${keys}, ${fromRollup()} FROM ${db}.latency_1h
      WHERE hour >= toDateTime({from:UInt32}, 'UTC') AND hour < toDateTime({to:UInt32}, 'UTC') GROUP BY hour, ${keys}`,
  })
}

/**
 * The same for `latency_1d` and `latency_1h`, for the day `{from} … {to}` and the keys of one of `{shares}` shares, number
 * `{share}`. In one pass, with maps: a fifth of the time that `sumMap` over pairs of arrays takes.
 */
export function correctDaySql(database: string): string {
  const db = quoteName(database)
  const keys = ['day', ...ROLLUP_KEYS].join(', ')
  const mine = 'cityHash64(destination_service, route) % {shares:UInt32} = {share:UInt32}'
  const inDay = (column: string) =>
    `${column} >= toDateTime({from:UInt32}, 'UTC') AND ${column} < toDateTime({to:UInt32}, 'UTC')`
  const wanted = COMBINED.map(({ name, merge }) =>
    merge === 'map' ? `mapFromArrays(${arraysOf(name).join(', ')}) AS d_${name}` : `${name} AS d_${name}`,
  )
  const negative = COMBINED.map(({ name, merge }) => {
    if (merge === 'sum') return `toUInt64(negate(${name})) AS d_${name}`
    if (merge !== 'map') return `toUInt64(${NEUTRAL[merge]}) AS d_${name}`
    const [firsts, counts] = arraysOf(name)
    return `mapFromArrays(${firsts}, arrayMap(c -> toUInt64(negate(c)), ${counts})) AS d_${name}`
  })
  const added = COMBINED.map(({ name, merge }) => `${merge === 'map' ? 'sumMap' : merge}(d_${name}) AS s_${name}`)
  const differs = COMBINED.filter(({ merge }) => merge === 'sum' || merge === 'map').map(({ name, merge }) =>
    merge === 'map' ? `notEmpty(s_${name})` : `s_${name} != 0`,
  )
  const out = COMBINED.flatMap(({ name, merge }) =>
    merge === 'map' ? [`mapKeys(s_${name})`, `mapValues(s_${name})`] : [`s_${name}`],
  )
  return `INSERT INTO ${db}.latency_1d (${rollupNames('latency_1d').join(', ')})
    SELECT ${keys}, ${out.join(', ')} FROM (
      SELECT ${keys}, ${added.join(', ')} FROM (
        SELECT toStartOfDay(hour) AS day, ${ROLLUP_KEYS.join(', ')}, ${wanted.join(', ')}
        FROM ${db}.latency_1h WHERE ${inDay('latency_1h.hour')} AND ${mine}
        UNION ALL
        SELECT ${keys}, ${negative.join(', ')} FROM ${db}.latency_1d WHERE ${inDay('latency_1d.day')} AND ${mine}
      ) GROUP BY ${keys}
    ) WHERE ${differs.join(' OR ')}`
}

function arraysOf(map: string): readonly [firsts: string, counts: string] {
  return [quoteName(`${map}.${map === 'flagsMap' ? 'flag' : 'bucket'}`), quoteName(`${map}.count`)]
}

function wantedOfRows(rows: string): string {
  const keys = ROLLUP_KEYS.join(', ')
  return `SELECT minute, ${keys}, ${COMBINED.map(({ name }) => `d_${name}`).join(', ')}
    FROM (SELECT minute, ${keys}, cityHash64(minute, ${keys}) AS h, ${scalarsFromRows()} FROM (${rows}) GROUP BY minute, ${keys}) AS a
    INNER JOIN (${histogramsFromRows(rows)}) AS b USING (h)`
}

const MINUTE = 'toStartOfMinute(toDateTime(end_time))'

/**
 * Rows with the keys they are rolled up under. Whether a key is kept is found in a subquery of its own: a name for the
 * condition would be replaced by it at each of its uses, and analysing the statement would take a second.
 */
function rowsWithKeys(db: string, where: string, keysMax: number): string {
  const keys = ROLLUP_KEYS.join(', ')
  const kept = `SELECT cityHash64(${MINUTE}, ${keys}) FROM ${db}.requests WHERE ${where}
    GROUP BY ${MINUTE}, ${keys} ORDER BY count() DESC, ${keys} LIMIT ${keysMax} BY ${MINUTE}`
  const values = ['attempts', 'downstream_wire_received', 'downstream_wire_sent', 'response_flags', 'phases_known']
  const overflow = ROLLUP_KEYS.map((key) => `if(r.known, toString(r.${key}), ${quoteText(OVERFLOW)}) AS ${key}`)
  const metrics = ROLLUP_METRICS.map((metric) => `${nsOf(metric)} AS v_${metric}`)
  return `SELECT r.minute AS minute, ${overflow.join(', ')}, toUInt64(r.attempts) AS tries,
      r.downstream_wire_received AS bytes_in, r.downstream_wire_sent AS bytes_out, r.response_flags AS flags,
      r.phases_known AS phased, ${ROLLUP_METRICS.map((metric) => `r.v_${metric} AS v_${metric}`).join(', ')}
    FROM (SELECT ${MINUTE} AS minute, ${keys}, cityHash64(${MINUTE}, ${keys}) IN (${kept}) AS known,
      ${[...values, ...metrics].join(', ')} FROM ${db}.requests WHERE ${where}) AS r`
}

function nsOf(metric: RollupMetric): string {
  return metric === 'total' ? 'duration_ns' : `ifNull(phase_${metric}_ns, 0)`
}

const UINT64_MAX = '18446744073709551615'
/** Values that change no smallest and no largest one. */
const NEUTRAL = { min: UINT64_MAX, max: '0', key: '0' } as const

/** Everything of a rollup row but its histograms, from rows. */
function scalarsFromRows(): string {
  const bits = `bitPositionsToArray(bitAnd(flags, ${2 ** FLAGS.length - 1}))`
  const values: Record<string, string> = {
    n: 'count()',
    phases_n: 'countIf(phased)',
    attempts: 'sum(tries)',
    request_bytes: 'sum(bytes_in)',
    response_bytes: 'sum(bytes_out)',
    flagsMap: `sumMapIf(arrayMap(bit -> toInt16(bit), ${bits}), arrayMap(bit -> toUInt64(1), ${bits}), flags != 0)`,
  }
  for (const metric of ROLLUP_METRICS) {
    const known = metric === 'total' ? '1' : 'phased'
    values[`${metric}_sum`] = `sumIf(v_${metric}, ${known})`
    values[`${metric}_min`] = `if(countIf(${known}) = 0, ${UINT64_MAX}, minIf(v_${metric}, ${known}))`
    values[`${metric}_max`] = `maxIf(v_${metric}, ${known})`
  }
  return COMBINED.flatMap(({ name }) => (values[name] === undefined ? [] : [`${values[name]} AS d_${name}`])).join(', ')
}

/**
 * Histograms of all metrics by hash of the key: every value becomes a number of 16 bits, metric and bucket, which are
 * counted in one table. `sumMap` of one-element arrays does the same at five times the cost.
 */
function histogramsFromRows(rows: string): string {
  const codes = ROLLUP_METRICS.map((metric, k) => `toUInt16(${k} * ${BUCKET_CODES} + ${bucketCodeSql(`v_${metric}`)})`)
  const arrays = ROLLUP_METRICS.map((metric, k) => {
    const mine = `intDiv(code, ${BUCKET_CODES}) = ${k}`
    const bucket = `toInt16(toInt32(code) - ${k * BUCKET_CODES} + (${ZERO_BUCKET}))`
    return `(groupArrayIf(${bucket}, ${mine}), groupArrayIf(c, ${mine})) AS d_${metric}Map`
  })
  return `SELECT h, ${arrays.join(', ')} FROM (
      SELECT h, code, count() AS c FROM (
        SELECT cityHash64(minute, ${ROLLUP_KEYS.join(', ')}) AS h,
          if(phased, [${codes.join(', ')}], [${codes[0]}]) AS codes FROM (${rows})
      ) ARRAY JOIN codes AS code GROUP BY h, code
    ) GROUP BY h`
}

/** The same from rollup rows. */
function fromRollup(): string {
  return COMBINED.map(({ name, merge }) => {
    if (merge !== 'map') return `${merge}(${name}) AS d_${name}`
    const [firsts, counts] = arraysOf(name)
    return `sumMap(arrayMap(k -> toInt16(k), ${firsts}), ${counts}) AS d_${name}`
  }).join(', ')
}

/** Values with each pair of arrays as one: `totalMap` for `totalMap.bucket` and `totalMap.count`. */
const COMBINED: readonly { readonly name: string; readonly merge: RollupColumn['merge'] }[] = ROLLUP_COLUMNS.filter(
  (column) => column.merge !== 'key' && !column.name.endsWith('Map.count'),
).map(({ name, merge }) => ({ name: name.split('.')[0]!, merge }))

function correction(
  database: string,
  table: 'latency_1m' | 'latency_1h',
  sides: { readonly wanted: string; readonly stored: string },
): string {
  const keys = `${ROLLUP_TIMES[table]}, ${ROLLUP_KEYS.join(', ')}`
  const negative = COMBINED.map(({ name, merge }) => {
    if (merge === 'sum') return `toUInt64(negate(d_${name})) AS d_${name}`
    if (merge !== 'map') return `toUInt64(${NEUTRAL[merge]}) AS d_${name}`
    return `(d_${name}.1, arrayMap(c -> toUInt64(negate(c)), d_${name}.2)) AS d_${name}`
  })
  const added = COMBINED.map(({ name, merge }) =>
    merge === 'map' ? `sumMap(d_${name}.1, d_${name}.2) AS s_${name}` : `${merge}(d_${name}) AS s_${name}`,
  )
  const differs = COMBINED.filter(({ merge }) => merge === 'sum' || merge === 'map').map(({ name, merge }) =>
    merge === 'map' ? `notEmpty(s_${name}.1)` : `s_${name} != 0`,
  )
  const out = COMBINED.flatMap(({ name, merge }) => (merge === 'map' ? [`s_${name}.1`, `s_${name}.2`] : [`s_${name}`]))
  return `INSERT INTO ${quoteName(database)}.${table} (${rollupNames(table).join(', ')})
    SELECT ${keys}, ${out.join(', ')} FROM (
      SELECT ${keys}, ${added.join(', ')} FROM (
        ${sides.wanted}
        UNION ALL
        SELECT ${keys}, ${negative.join(', ')} FROM (${sides.stored})
      ) GROUP BY ${keys}
    ) WHERE ${differs.join(' OR ')}`
}
