import { ROLLUP_KEYS, ROLLUP_METRICS, type RollupMetric, type RollupTable } from './schema.ts'

/**
 * Columns of the rollups, in the order of a block: `latency_1m`, which we write once per segment, `latency_1h`, which a
 * view in the store fills from it, and `latency_1d`, which is made of days that are over.
 *
 *   minute, 12 keys │ n, phases_n, attempts, bytes │ flags │ total: sum min max histogram │ client_send: … │ × 8 metrics
 *
 * Rows of one key are added by the engine when it merges parts (SummingMergeTree), so a minute, hour or day of one key is
 * any number of rows until then, and a reader always groups: `sum` of counts and sums, `min` of mins, `max` of maxes,
 * `sum` by bucket of histograms. Pairs of arrays named `…Map.…` are added by the values of the first array: the engine
 * does so only where the name before the dot ends in `Map` (other names are silently not added).
 *
 * All counts are UInt64 in the store and add modulo 2^64: a correction may be a row of negative differences. A key
 * whose `n` comes out as 0 does not exist.
 */
export interface RollupColumn {
  readonly name: string
  /** Type in the store. */
  readonly type: string
  /** Type in the Native blocks of a segment, where it is narrower; the engine widens it on insert. */
  readonly nativeType: string
  /** How values of one key are put together. */
  readonly merge: 'key' | 'sum' | 'min' | 'max' | 'map'
  readonly codec: string
  readonly meaning: string
}

/** The time column of `latency_1m`, as blocks have it. */
export const ROLLUP_TIME = 'minute'
/** The time column of each table. */
export const ROLLUP_TIMES: Readonly<Record<RollupTable, string>> = {
  latency_1m: ROLLUP_TIME,
  latency_1h: 'hour',
  latency_1d: 'day',
}

/** Value of `<phase>_min` where `phases_n` is 0: neutral for min. */
export const ROLLUP_MIN_NONE = 0xffff_ffff_ffff_ffffn

const COUNTER = 'T64, ZSTD(1)'
const sum = (name: string, meaning: string): RollupColumn => ({
  name,
  type: 'UInt64',
  nativeType: 'UInt64',
  merge: 'sum',
  codec: COUNTER,
  meaning,
})

const metric = (name: RollupMetric): RollupColumn[] => {
  const what = name === 'total' ? 'duration' : `phase ${name}`
  const rows = name === 'total' ? 'all rows' : 'rows with known phases'
  const extreme = (merge: 'min' | 'max', meaning: string): RollupColumn => ({
    name: `${name}_${merge}`,
    type: `SimpleAggregateFunction(${merge}, UInt64)`,
    nativeType: 'UInt64',
    merge,
    codec: COUNTER,
    meaning,
  })
  return [
    sum(`${name}_sum`, `Sum of ${what} over ${rows}, ns`),
    extreme('min', `Smallest ${what}, ns${name === 'total' ? '' : '; 2^64 − 1 when phases_n is 0'}`),
    extreme('max', `Largest ${what}, ns`),
    {
      name: `${name}Map.bucket`,
      type: 'Array(Int16)',
      nativeType: 'Array(Int16)',
      merge: 'map',
      codec: 'Delta(2), ZSTD(1)',
      meaning: `Histogram of ${what} over ${rows}: buckets that are not empty, ascending`,
    },
    {
      name: `${name}Map.count`,
      type: 'Array(UInt64)',
      nativeType: 'Array(UInt32)',
      merge: 'map',
      codec: COUNTER,
      meaning: `Histogram of ${what}: rows in the bucket at the same position`,
    },
  ]
}

/** Everything after the time and the keys. */
export const ROLLUP_VALUES: readonly RollupColumn[] = [
  sum('n', 'Rows'),
  sum('phases_n', 'Rows whose phases are known'),
  sum('attempts', 'Attempts at the upstream'),
  sum('request_bytes', 'Sum of downstream_wire_received'),
  sum('response_bytes', 'Sum of downstream_wire_sent'),
  {
    name: 'flagsMap.flag',
    type: 'Array(UInt8)',
    nativeType: 'Array(UInt8)',
    merge: 'map',
    codec: 'ZSTD(1)',
    meaning: 'Response flags that occurred, by bit, ascending',
  },
  {
    name: 'flagsMap.count',
    type: 'Array(UInt64)',
    nativeType: 'Array(UInt32)',
    merge: 'map',
    codec: COUNTER,
    meaning: 'Rows with the flag at the same position',
  },
  ...ROLLUP_METRICS.flatMap(metric),
]

/** All columns of a `latency_1m` block, in order. */
export const ROLLUP_COLUMNS: readonly RollupColumn[] = [
  {
    name: ROLLUP_TIME,
    type: "DateTime('UTC')",
    nativeType: "DateTime('UTC')",
    merge: 'key',
    codec: 'Delta(4), ZSTD(1)',
    meaning: 'Start of the minute that end_time is in',
  },
  ...ROLLUP_KEYS.map(
    (name): RollupColumn => ({
      name,
      type: 'LowCardinality(String)',
      nativeType: 'LowCardinality(String)',
      merge: 'key',
      codec: 'ZSTD(1)',
      meaning: `Key: ${name} of the rows`,
    }),
  ),
  ...ROLLUP_VALUES,
]
