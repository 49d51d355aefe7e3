import type { Column, SideTable } from './schema.ts'

/**
 * Columns of the tables beside requests: stats (`series`, `samples`, `histograms`, `exemplars`) and `spans`, in the order of
 * a block. The DDL, the encoders and `docs/schema.md` are derived from these lists, as from `ROW_COLUMNS` for the row tables.
 */

const ZERO_UUID = "toUUID('00000000-0000-0000-0000-000000000000')"
const LC = 'LowCardinality(String)'
const MS = "DateTime64(3, 'UTC')"
const NS = "DateTime64(9, 'UTC')"

const segment: Column = {
  name: 'segment',
  type: LC,
  group: 'identity',
  meaning: 'Journal segment that brought the row',
}

/**
 * Sorting by it keeps series of one name together: its upper 32 bits are a hash of the name alone. Two series share an id
 * with a probability of 2^−96 for each pair with the same name.
 */
const seriesId = (name: string): Column => ({
  name,
  type: 'UInt128',
  group: 'identity',
  meaning: 'Id of the series: hash of its name and sorted labels',
  codec: 'ZSTD(1)',
})
const sampleTime: Column = {
  name: 'time',
  type: MS,
  group: 'time',
  unit: 'time',
  meaning: 'When it was so, by the clock of the sender where it tells',
  codec: 'Delta(8), ZSTD(1)',
}
const startTime: Column = {
  name: 'start',
  type: MS,
  group: 'time',
  unit: 'time',
  meaning: 'When the counter or histogram was empty; 1970 when not known or a gauge',
  codec: 'Delta(8), ZSTD(1)',
}
const stale: Column = {
  name: 'stale',
  type: 'Bool',
  group: 'value',
  meaning: 'A marker: the series has ended, or its sender is gone',
  codec: 'ZSTD(1)',
}
const floats = (name: string, meaning: string): Column => ({
  name,
  type: 'Array(Float64)',
  group: 'value',
  meaning,
  codec: 'ZSTD(1)',
})
const number = (name: string, meaning: string): Column => ({
  name,
  type: 'Float64',
  group: 'value',
  meaning,
  codec: 'ZSTD(1)',
})

const SERIES: readonly Column[] = [
  seriesId('id'),
  { name: 'name', type: LC, group: 'identity', meaning: 'Name, as Envoy shows it at /stats/prometheus' },
  {
    name: 'labels',
    type: 'Map(LowCardinality(String), LowCardinality(String))',
    group: 'identity',
    meaning: 'Labels, `job` and `instance` among them',
  },
  { name: 'job', type: LC, group: 'identity', meaning: 'What brought it: envoy-statsd, envoy-scrape, …' },
  { name: 'instance', type: LC, group: 'identity', meaning: 'Node id, or what stands for it' },
  { name: 'type', type: LC, group: 'identity', meaning: 'untyped, counter, gauge, histogram or summary' },
  { name: 'unit', type: LC, group: 'identity', meaning: 'Unit of the values; empty when not known' },
  { name: 'help', type: LC, group: 'identity', meaning: 'What it is about, as the sender says' },
  {
    ...sampleTime,
    meaning:
      'First value of its day. A series has a row for each day it has values on: the oldest is when it was first seen',
  },
  segment,
]

const SAMPLES: readonly Column[] = [
  seriesId('series'),
  sampleTime,
  { ...number('value', 'Value; counters are cumulative'), codec: 'Gorilla(8), ZSTD(1)' },
  startTime,
  stale,
  segment,
]

const HISTOGRAMS: readonly Column[] = [
  seriesId('series'),
  sampleTime,
  startTime,
  {
    name: 'scale',
    type: 'Int8',
    group: 'value',
    meaning:
      'Buckets per doubling are 2^scale; bucket i is (2^((i−1)/2^scale), 2^(i/2^scale)] in the unit of the series',
  },
  number('count', 'Observations'),
  number('sum', 'Their sum; NaN when not known'),
  number('min', 'Smallest since `start`; NaN when not known'),
  number('max', 'Largest since `start`; NaN when not known'),
  number('zero_threshold', 'What is not larger, either sign, counts as zero'),
  number('zero_count', 'Observations that count as zero'),
  {
    name: 'buckets',
    type: 'Map(Int32, Float64)',
    group: 'value',
    meaning: 'Observations by bucket. Not whole numbers where the sender sampled',
    codec: 'ZSTD(1)',
  },
  {
    name: 'negative_buckets',
    type: 'Map(Int32, Float64)',
    group: 'value',
    meaning: 'The same for negative values, by the bucket of their size',
    codec: 'ZSTD(1)',
  },
  floats(
    'bounds',
    'Bounds of the source, where it has coarser buckets than `scale` says: what is counted in the bucket of a bound lies between the bound before and it',
  ),
  floats(
    'bound_counts',
    'Observations up to each bound and above the one before, then those above the last; empty when `bounds` is',
  ),
  floats('quantiles', 'Quantiles that a summary tells'),
  floats('quantile_values', 'Their values'),
  stale,
  segment,
]

const attribute = (name: string, meaning: string): Column => ({
  name,
  type: 'Map(LowCardinality(String), String)',
  group: 'extra',
  meaning,
  codec: 'ZSTD(1)',
})
const EXEMPLARS: readonly Column[] = [
  seriesId('series'),
  { ...sampleTime, meaning: 'When it was observed' },
  number('value', 'The observation, in the unit of the series'),
  attribute('labels', 'Its labels, as a rule `trace_id`'),
  {
    name: 'trace_id',
    type: 'String',
    group: 'identity',
    meaning: 'Trace id as its labels have it; empty when they have none',
    expr: "multiIf(labels['trace_id'] != '', labels['trace_id'], labels['traceID'] != '', labels['traceID'], labels['traceId'])",
  },
  segment,
]
const SPANS: readonly Column[] = [
  {
    name: 'end_time',
    type: NS,
    group: 'time',
    unit: 'time',
    meaning: 'When it ended. The time that counts',
    codec: 'Delta(8), ZSTD(1)',
  },
  {
    name: 'time',
    type: NS,
    group: 'time',
    unit: 'time',
    meaning: 'When it started',
    expr: "fromUnixTimestamp64Nano(toUnixTimestamp64Nano(end_time) - toInt64(duration_ns), 'UTC')",
  },
  {
    name: 'duration_ns',
    type: 'UInt64',
    group: 'time',
    unit: 'ns',
    meaning: 'How long it took; 0 when it ended before it started',
    codec: 'T64, ZSTD(1)',
  },
  { name: 'received', type: MS, group: 'time', unit: 'time', meaning: 'When it arrived here', codec: 'T64, ZSTD(1)' },
  {
    name: 'trace_uuid',
    type: 'UUID',
    group: 'identity',
    meaning: 'Trace id as 16 bytes',
    codec: 'NONE',
    internal: true,
  },
  {
    name: 'trace_id',
    type: 'String',
    group: 'identity',
    meaning: 'Trace id, 32 hex digits',
    expr: `if(trace_uuid = ${ZERO_UUID}, '', replaceAll(toString(trace_uuid), '-', ''))`,
  },
  ...(
    [
      ['span_id', 'span_number', 'Span id'],
      ['parent_span_id', 'parent_number', 'Span id of the parent; empty for a root'],
    ] as const
  ).flatMap(([name, stored, meaning]): Column[] => [
    {
      name: stored,
      type: 'UInt64',
      group: 'identity',
      meaning: `${meaning}, as a number`,
      codec: 'NONE',
      internal: true,
    },
    {
      name,
      type: 'String',
      group: 'identity',
      meaning: `${meaning}, 16 hex digits`,
      expr: `if(${stored} = 0, '', lower(leftPad(hex(${stored}), 16, '0')))`,
    },
  ]),
  { name: 'name', type: LC, group: 'identity', meaning: 'Name of the operation' },
  { name: 'kind', type: LC, group: 'identity', meaning: 'internal, server, client, producer, consumer, or empty' },
  { name: 'service', type: LC, group: 'identity', meaning: 'service.name of the resource' },
  { name: 'node_id', type: LC, group: 'identity', meaning: 'Node id of the proxy, or what stands for it' },
  { name: 'scope', type: LC, group: 'identity', meaning: 'Instrumentation scope' },
  { name: 'status', type: LC, group: 'value', meaning: 'ok, error, or empty' },
  { name: 'status_message', type: LC, group: 'value', meaning: 'What the sender says of the status' },
  attribute('attributes', 'Attributes of the span; other than texts as JSON'),
  attribute('resource', 'Attributes of the resource'),
  {
    name: 'events',
    type: 'String',
    group: 'extra',
    meaning: 'Events and links as JSON text; empty when there are none',
    codec: 'ZSTD(1)',
  },
  segment,
]

export const SIDE_COLUMNS: Readonly<Record<SideTable, readonly Column[]>> = {
  series: SERIES,
  samples: SAMPLES,
  histograms: HISTOGRAMS,
  exemplars: EXEMPLARS,
  spans: SPANS,
}
export const storedSideColumns = (table: SideTable): readonly Column[] =>
  SIDE_COLUMNS[table].filter((column) => column.expr === undefined)

export const SIDE_MEANING: Readonly<Record<SideTable, string>> = {
  series: 'One row per series of stats and day: its name and labels',
  samples: 'One value of a series of stats at one time',
  histograms: 'One histogram or summary of a series of stats at one time',
  exemplars: 'One observation of a series of stats, and the trace that it was in',
  spans: 'One span of a trace, joined to requests by its trace id',
}
