import { quoteName } from './ddl.ts'

/**
 * Tables as the ClickHouse exporter of the OpenTelemetry Collector makes them (`exporter/clickhouseexporter`), which
 * HyperDX, ClickStack and Grafana's ClickHouse datasource read. Names and types are theirs; `SidecastSegment` is ours, so
 * that what was stored of a segment can be found again. Tables that are there already are used as they are.
 */
export interface OtelTables {
  readonly logs: string
  readonly traces: string
  readonly expHistogram: string
  readonly sum: string
}

export const OTEL_TABLES: OtelTables = {
  logs: 'otel_logs',
  traces: 'otel_traces',
  expHistogram: 'otel_metrics_exp_histogram',
  sum: 'otel_metrics_sum',
}

/** What is ours in tables of theirs. */
export const SEGMENT_COLUMN = 'SidecastSegment'

export interface OtelDdlOptions {
  readonly database: string
  /** Days that rows stay; 0: for ever. */
  readonly keepDays: number
}

const MAP = 'Map(LowCardinality(String), String) CODEC(ZSTD(1))'
const TEXT = 'String CODEC(ZSTD(1))'
const LC = 'LowCardinality(String) CODEC(ZSTD(1))'
const NS = 'DateTime64(9) CODEC(Delta(8), ZSTD(1))'

const bloom = (name: string, of: string, rate = 0.01) => `INDEX ${name} ${of} TYPE bloom_filter(${rate}) GRANULARITY 1`
const attributeIndexes = (short: string, column: string) => [
  bloom(`idx_${short}_key`, `mapKeys(${column})`),
  bloom(`idx_${short}_value`, `mapValues(${column})`),
]
const SEGMENT = [`${SEGMENT_COLUMN} ${LC}`, bloom('idx_sidecast_segment', SEGMENT_COLUMN)]

const LOGS = [
  `Timestamp ${NS}`,
  'TimestampTime DateTime DEFAULT toDateTime(Timestamp)',
  `TraceId ${TEXT}`,
  `SpanId ${TEXT}`,
  'TraceFlags UInt8',
  `SeverityText ${LC}`,
  'SeverityNumber UInt8',
  `ServiceName ${LC}`,
  `Body ${TEXT}`,
  `ResourceSchemaUrl ${LC}`,
  `ResourceAttributes ${MAP}`,
  `ScopeSchemaUrl ${LC}`,
  `ScopeName ${TEXT}`,
  `ScopeVersion ${LC}`,
  `ScopeAttributes ${MAP}`,
  `LogAttributes ${MAP}`,
  ...SEGMENT,
  bloom('idx_trace_id', 'TraceId', 0.001),
  ...attributeIndexes('res_attr', 'ResourceAttributes'),
  ...attributeIndexes('scope_attr', 'ScopeAttributes'),
  ...attributeIndexes('log_attr', 'LogAttributes'),
  'INDEX idx_body Body TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 8',
]

const TRACES = [
  `Timestamp ${NS}`,
  `TraceId ${TEXT}`,
  `SpanId ${TEXT}`,
  `ParentSpanId ${TEXT}`,
  `TraceState ${TEXT}`,
  `SpanName ${LC}`,
  `SpanKind ${LC}`,
  `ServiceName ${LC}`,
  `ResourceAttributes ${MAP}`,
  `ScopeName ${TEXT}`,
  `ScopeVersion ${TEXT}`,
  `SpanAttributes ${MAP}`,
  'Duration UInt64 CODEC(T64, ZSTD(1))',
  `StatusCode ${LC}`,
  `StatusMessage ${TEXT}`,
  'Events Nested (Timestamp DateTime64(9), Name LowCardinality(String), Attributes Map(LowCardinality(String), String)) CODEC(ZSTD(1))',
  'Links Nested (TraceId String, SpanId String, TraceState String, Attributes Map(LowCardinality(String), String)) CODEC(ZSTD(1))',
  ...SEGMENT,
  bloom('idx_trace_id', 'TraceId', 0.001),
  ...attributeIndexes('res_attr', 'ResourceAttributes'),
  ...attributeIndexes('span_attr', 'SpanAttributes'),
  'INDEX idx_duration Duration TYPE minmax GRANULARITY 1',
]

const METRIC = [
  `ResourceAttributes ${MAP}`,
  `ResourceSchemaUrl ${TEXT}`,
  `ScopeName ${TEXT}`,
  `ScopeVersion ${TEXT}`,
  `ScopeAttributes ${MAP}`,
  'ScopeDroppedAttrCount UInt32 CODEC(ZSTD(1))',
  `ScopeSchemaUrl ${TEXT}`,
  `ServiceName ${LC}`,
  `MetricName ${TEXT}`,
  `MetricDescription ${TEXT}`,
  `MetricUnit ${TEXT}`,
  `Attributes ${MAP}`,
  'StartTimeUnix DateTime64(9) CODEC(Delta, ZSTD(1))',
  'TimeUnix DateTime64(9) CODEC(Delta, ZSTD(1))',
]
const EXEMPLARS =
  'Exemplars Nested (FilteredAttributes Map(LowCardinality(String), String), TimeUnix DateTime64(9), Value Float64, SpanId String, TraceId String) CODEC(ZSTD(1))'
const METRIC_INDEXES = [
  ...SEGMENT,
  ...attributeIndexes('res_attr', 'ResourceAttributes'),
  ...attributeIndexes('scope_attr', 'ScopeAttributes'),
  ...attributeIndexes('attr', 'Attributes'),
]
const SUM = [
  ...METRIC,
  'Value Float64 CODEC(ZSTD(1))',
  'Flags UInt32 CODEC(ZSTD(1))',
  EXEMPLARS,
  'AggregationTemporality Int32 CODEC(ZSTD(1))',
  'IsMonotonic Boolean CODEC(Delta, ZSTD(1))',
  ...METRIC_INDEXES,
]
const EXP_HISTOGRAM = [
  ...METRIC,
  'Count UInt64 CODEC(Delta, ZSTD(1))',
  'Sum Float64 CODEC(ZSTD(1))',
  'Scale Int32 CODEC(ZSTD(1))',
  'ZeroCount UInt64 CODEC(ZSTD(1))',
  'PositiveOffset Int32 CODEC(ZSTD(1))',
  'PositiveBucketCounts Array(UInt64) CODEC(ZSTD(1))',
  'NegativeOffset Int32 CODEC(ZSTD(1))',
  'NegativeBucketCounts Array(UInt64) CODEC(ZSTD(1))',
  EXEMPLARS,
  'Flags UInt32 CODEC(ZSTD(1))',
  'Min Float64 CODEC(ZSTD(1))',
  'Max Float64 CODEC(ZSTD(1))',
  'AggregationTemporality Int32 CODEC(ZSTD(1))',
  ...METRIC_INDEXES,
]
const METRIC_ORDER = '(ServiceName, MetricName, Attributes, toUnixTimestamp64Nano(TimeUnix))'

/** Statements that make the tables that are not there. Safe to run again. */
export function otelStatements({ database, keepDays }: OtelDdlOptions): string[] {
  const db = quoteName(database)
  const { logs, traces, expHistogram, sum } = OTEL_TABLES
  const table = (name: string, time: string, order: string, columns: readonly string[]) =>
    [
      `CREATE TABLE IF NOT EXISTS ${db}.${name} (\n  ${columns.join(',\n  ')}\n)`,
      'ENGINE = MergeTree',
      `PARTITION BY toDate(${time})`,
      `ORDER BY ${order}`,
      ...(keepDays === 0 ? [] : [`TTL toDateTime(${time}) + toIntervalDay(${keepDays})`]),
      // Tokens: the same arithmetic as for our own tables.
      'SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000',
    ].join('\n')
  const byTrace = `${traces}_trace_id_ts`
  return [
    table(logs, 'TimestampTime', '(ServiceName, TimestampTime, Timestamp)', LOGS),
    table(traces, 'Timestamp', '(ServiceName, SpanName, toDateTime(Timestamp))', TRACES),
    [
      `CREATE TABLE IF NOT EXISTS ${db}.${byTrace} (`,
      '  TraceId String CODEC(ZSTD(1)),',
      '  Start DateTime CODEC(Delta, ZSTD(1)),',
      '  End DateTime CODEC(Delta, ZSTD(1)),',
      `  ${bloom('idx_trace_id', 'TraceId')}`,
      ')',
      'ENGINE = MergeTree PARTITION BY toDate(Start) ORDER BY (TraceId, Start)',
      ...(keepDays === 0 ? [] : [`TTL Start + toIntervalDay(${keepDays})`]),
      'SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000',
    ].join('\n'),
    [
      `CREATE MATERIALIZED VIEW IF NOT EXISTS ${db}.${byTrace}_mv TO ${db}.${byTrace} AS`,
      `SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End FROM ${db}.${traces}`,
      "WHERE TraceId != '' GROUP BY TraceId",
    ].join(' '),
    table(expHistogram, 'TimeUnix', METRIC_ORDER, EXP_HISTOGRAM),
    table(sum, 'TimeUnix', METRIC_ORDER, SUM),
  ]
}
