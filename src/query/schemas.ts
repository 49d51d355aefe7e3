import Type, { type Static, type TProperties, type TSchema } from 'typebox'
import { PHASES } from '../model/phases.ts'
import { CLASSES, type Column, OUTCOMES, PUBLIC_ROW_COLUMNS } from '../model/schema.ts'
import { PROBLEMS } from './problem.ts'

/**
 * Shapes of every question and answer. Types, validation of parameters and `/openapi.json` come from here; the tests
 * validate every answer against them.
 */
const object = <P extends TProperties>(properties: P, options: Record<string, unknown> = {}) =>
  Type.Object(properties, { additionalProperties: false, ...options })
const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const oneOf = <const V extends readonly string[]>(
  values: V,
  description: string,
  options: Record<string, unknown> = {},
) => Type.Unsafe<V[number]>({ type: 'string', enum: [...values], description, ...options })
const time = (description: string) => Type.String({ format: 'date-time', description })
const count = (description: string) => Type.Integer({ minimum: 0, description })
const figure = (description: string) => Type.Number({ description })
const text = (description: string, maxLength = 4000) => Type.String({ description, maxLength })

// ---- what is asked

export const UNITS = ['ns', 'us', 'ms', 's'] as const
export const VIEWS = ['auto', 'all', 'server', 'client'] as const
export type View = (typeof VIEWS)[number]
export const METHODS = ['auto', 'exact', 'histogram'] as const
export const QUANTITIES = ['total', ...PHASES, 'upstream_ttfb'] as const
export type Quantity = (typeof QUANTITIES)[number]

const interval = {
  from: Type.Optional(
    text('Start, in the interval: RFC 3339, Unix s, epoch ms, now, -15m. Default one hour before to', 64),
  ),
  to: Type.Optional(text('End, not in the interval. Default now', 64)),
  around: Type.Optional(text('Middle of the interval, instead of from and to', 64)),
  width: Type.Optional(text('Width of the interval around that time; default 10m', 64)),
}
const where = Type.Optional(
  Type.Array(Type.String({ maxLength: 4000 }), {
    description: 'COLUMN OP VALUE; repeated: all must hold. OP is = != =~ !~ < <= > >=; patterns are RE2, anchored',
  }),
)
const selection = {
  ...interval,
  where,
  view: Type.Optional(
    oneOf(VIEWS, 'Whose report of a request counts. Default auto; all when where or by name reporter'),
  ),
}
const by = (usual: string) => Type.Optional(text(`Columns to group by, with commas. Default ${usual}`, 400))
const q = Type.Optional(text('Quantiles from 0 to 1, with commas. Default 0.5,0.9,0.99,0.999', 400))
const unit = Type.Optional(oneOf(UNITS, 'Unit of durations in the answer. Default ms'))
const method = Type.Optional(oneOf(METHODS, 'exact reads rows, histogram reads rollups, auto decides. Default auto'))
const bounds = Type.Optional(text('Doubts to state, with commas: measure, loss, few. Default measure', 64))
const limit = (most: number, usual: number) =>
  Type.Optional(Type.Integer({ minimum: 1, maximum: most, description: `Most rows in the answer. Default ${usual}` }))

export const latencyQuery = object({
  ...selection,
  by: by('none'),
  q,
  unit,
  method,
  bounds,
  phase: Type.Optional(oneOf(QUANTITIES, 'What is measured. Default total')),
  step: Type.Optional(text('Width of a point; points start at multiples of it. Without it there is one point', 64)),
  vs: Type.Optional(text('A second interval to set beside: -7d, or FROM/TO', 160)),
})
export const phasesQuery = object({
  ...selection,
  by: by('none'),
  q,
  unit,
  method,
  slowest: Type.Optional(
    Type.Number({ exclusiveMinimum: 0, maximum: 1, description: 'Only this share of the requests, the slowest ones' }),
  ),
})
export const SERVICE_SORTS = ['n', 'rate', 'error_ratio', 'aborted_ratio', 'p50', 'p90', 'p99', 'name'] as const
const groupedQuery = {
  ...selection,
  by: by('destination_service'),
  unit,
  method,
  limit: limit(10_000, 1000),
  sort: Type.Optional(oneOf(SERVICE_SORTS, 'Order: figures from the highest, names from a to z. Default n')),
}
export const servicesQuery = object(groupedQuery)
export const ROUTE_SORTS = ['n', 'rate', 'error_ratio', 'aborted_ratio', 'name'] as const
export const routesQuery = object({
  ...groupedQuery,
  by: by('destination_service,route,method'),
  q,
  sort: Type.Optional(oneOf(ROUTE_SORTS, 'Order: figures from the highest, names from a to z. Default n')),
})
export const REQUESTS_MAX = 10_000
export const requestsQuery = object({
  ...selection,
  order: Type.Optional(oneOf(['time', 'duration'], 'time: newest first. duration: slowest first. Default time')),
  limit: limit(REQUESTS_MAX, 100),
  cursor: Type.Optional(text('next_cursor of the page before; everything else as in that question', 2000)),
  columns: Type.Optional(text('Columns of the schema, with commas. Default all', 4000)),
})
export const ledgerQuery = object({ ...interval, by: Type.Optional(oneOf(['node', 'adapter'], 'Default node')) })
export const noQuery = object({})

// ---- what is answered

export const coverage = object(
  {
    served: nullable(count('Requests that Envoy served, by its own counters')),
    stored: nullable(count('Requests that this answer was made from')),
    lost: nullable(count('Served, should have been logged, and never stored')),
    filtered: nullable(count('Served and never logged, because the mesh logs only errors or a sample: not lost')),
    sampled: nullable(Type.Boolean({ description: 'Whether the mesh logs only a sample' })),
    known: Type.Boolean({ description: 'Whether Envoy sends the counters that this needs; false: the rest is null' }),
  },
  { description: 'How much of the traffic the answer has seen' },
)
export type Coverage = Static<typeof coverage>

const envelopeProperties = {
  as_of: time('When the answer was made'),
  through: nullable(time('Complete until this time; null when nothing has arrived yet')),
  coverage,
  precision_ns: nullable(count('Resolution of the coarsest source in the answer; null when it is empty')),
}
export const envelope = object(envelopeProperties)
export type Envelope = Static<typeof envelope>

const answer = <P extends TProperties>(properties: P) => object({ ...envelopeProperties, ...properties })
const measured = {
  from: time('Effective start'),
  to: time('Effective end'),
  view: oneOf(VIEWS, 'Whose report of a request counted'),
  unit: oneOf(UNITS, 'Unit of durations'),
  source: text('Tables read, with commas'),
  method: oneOf(['exact', 'histogram'], 'How figures were made'),
}
const labels = Type.Record(Type.String(), Type.String(), { description: 'Values of the columns of by' })

export const bounded = object({
  value: figure('The quantile'),
  low: figure('The true one is not below'),
  high: figure('The true one is not above'),
})
export type BoundedFigure = Static<typeof bounded>
export const quantile = object({
  ...bounded.properties,
  loss_low: Type.Optional(nullable(figure('With the lost requests counted in, not below; null: loss not known'))),
  loss_high: Type.Optional(nullable(figure('… not above; null: open, or loss not known'))),
  ci_low: Type.Optional(nullable(figure('95 % interval of the underlying quantile, low end; null: too few requests'))),
  ci_high: Type.Optional(nullable(figure('… high end; null: too few requests'))),
  cut_short: Type.Optional(
    nullable(count('Requests at or above the value that were aborted or timed out; null: rollups cannot tell')),
  ),
})
export type QuantileFigure = Static<typeof quantile>
const quantiles = <T extends TSchema>(schema: T) =>
  Type.Record(Type.String(), schema, { description: 'By quantile, as it was asked' })

const point = object({
  time: time('Start of the point'),
  n: count('Requests'),
  min: figure('Smallest, exact'),
  max: figure('Largest, exact'),
  mean: figure('Mean, exact'),
  quantiles: quantiles(quantile),
})
export type Point = Static<typeof point>
const series = object({ labels, points: Type.Array(point) })
export type Series = Static<typeof series>
const other = object({
  from: time('Effective start'),
  to: time('Effective end'),
  source: text('Tables read'),
  method: measured.method,
  series: Type.Array(series),
})
export const latencyAnswer = answer({
  ...measured,
  step: nullable(text('Width of a point; null: one point')),
  phase: oneOf(QUANTITIES, 'What was measured'),
  series: Type.Array(series, { description: 'By labels; a point without requests is left out' }),
  vs: Type.Optional(other),
})
export type LatencyAnswer = Static<typeof latencyAnswer>

const share = object({
  mean: nullable(figure('Mean; null when n is 0')),
  share: nullable(figure('Part of the whole time; the seven add up to 1; null when the whole is 0')),
  quantiles: quantiles(bounded),
})
export type PhaseFigure = Static<typeof share>
const phaseSeries = object({
  labels,
  n: count('Requests whose phases are known; all figures are theirs'),
  without_phases: count('Requests of sources that know no points in time'),
  total: share,
  ...(Object.fromEntries(PHASES.map((phase) => [phase, share])) as Record<(typeof PHASES)[number], typeof share>),
})
export type PhaseSeries = Static<typeof phaseSeries>
export const phasesAnswer = answer({
  ...measured,
  slowest: nullable(figure('Share of requests looked at; null: all')),
  series: Type.Array(phaseSeries),
})
export type PhasesAnswer = Static<typeof phasesAnswer>

const counts = <const N extends readonly string[]>(names: N, description: string) =>
  object(Object.fromEntries(names.map((name) => [name, count(name)])) as Record<N[number], ReturnType<typeof count>>, {
    description,
  })
const traffic = {
  labels,
  n: count('Requests'),
  rate: figure('Requests per second over the whole interval'),
  error_ratio: figure('Part of class server_error'),
  aborted_ratio: figure('Part of class aborted'),
  classes: counts(CLASSES, 'Requests by class'),
  outcomes: counts(OUTCOMES, 'Requests by who made the answer'),
}
const serviceRow = object({ ...traffic, p50: bounded, p90: bounded, p99: bounded })
export type ServiceRow = Static<typeof serviceRow>
const routeRow = object({ ...traffic, quantiles: quantiles(bounded) })
export type RouteRow = Static<typeof routeRow>
const cut = { rows_total: count('Rows before limit was applied') }
export const servicesAnswer = answer({ ...measured, ...cut, services: Type.Array(serviceRow) })
export type ServicesAnswer = Static<typeof servicesAnswer>
export const routesAnswer = answer({ ...measured, ...cut, routes: Type.Array(routeRow) })
export type RoutesAnswer = Static<typeof routesAnswer>

function valueSchema(column: Column): TSchema {
  const description = column.meaning
  if (column.name === 'response_flags') return Type.String({ description: 'Short names, in bit order, with commas' })
  if (column.type.startsWith('Map(')) return Type.Record(Type.String(), Type.String(), { description })
  if (column.type.startsWith('DateTime')) {
    return Type.String({ description, pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}\\.\\d{3,9}Z$' })
  }
  if (column.type === 'Bool') return Type.Boolean({ description })
  if (column.type.startsWith('Nullable(')) return nullable(Type.Integer({ minimum: 0, description }))
  if (column.type.startsWith('Float')) return Type.Number({ description })
  if (/U?Int\d/.test(column.type)) return Type.Integer({ minimum: 0, description })
  return Type.String({ description })
}
export const requestRow = object(
  Object.fromEntries(PUBLIC_ROW_COLUMNS.map((column) => [column.name, Type.Optional(valueSchema(column))])),
  { description: 'The columns that were asked for, all by default' },
)
export const requestsAnswer = answer({
  from: measured.from,
  to: measured.to,
  view: measured.view,
  order: oneOf(['time', 'duration'], 'Order of the rows'),
  rows: Type.Array(requestRow),
  next_cursor: nullable(text('Ask again with it for the next page; null: this was the last')),
})

export type RequestsAnswer = Static<typeof requestsAnswer>

export const schemaAnswer = answer({
  tables: Type.Array(
    object({
      name: text('Table'),
      meaning: text('What one row is'),
      columns: Type.Array(
        object({
          name: text('Column'),
          type: text('ClickHouse type'),
          unit: nullable(oneOf(['ns', 'bytes', 'count', 'time'], 'Unit')),
          group: text('Kind of fact'),
          meaning: text('Meaning'),
          als: nullable(text('Where an access log entry has it')),
          stored: Type.Boolean({ description: 'false: computed when read' }),
          filter: Type.Boolean({ description: 'Can stand in where' }),
          by: Type.Boolean({ description: 'Can stand in by' }),
          rollups: Type.Boolean({ description: 'Rollups have it: works for as long as they are kept' }),
        }),
      ),
    }),
  ),
  flags: Type.Array(Type.String(), { description: 'Short names of response_flags, by bit' }),
  classes: Type.Array(Type.String()),
  outcomes: Type.Array(Type.String()),
  phases: Type.Array(Type.String(), { description: 'In the order of time' }),
})
export type SchemaAnswer = Static<typeof schemaAnswer>

export const nodeLedger = object({
  node: text('Node id'),
  served: nullable(count('Requests served, by Envoy')),
  written: nullable(count('Entries that Envoy wrote to its log stream')),
  dropped_by_envoy: nullable(count('Entries that Envoy dropped before sending')),
  received: count('Entries that arrived'),
  decoded: count('Entries that became rows'),
  rejected: count('Entries that could not be read'),
  stored: count('Rows in the store'),
  in_journal: count('Rows in the journal and not yet in the store'),
  delivered: Type.Record(Type.String(), count('Rows'), { description: 'By adapter' }),
  filtered: nullable(count('Served and never to be logged: the mesh logs only errors or a sample; null: not known')),
  sampled: Type.Boolean({ description: 'Whether what is logged is a sample of everything, and not the errors alone' }),
  lost: nullable(count('Served and never arrived; null: not known')),
  unexplained: Type.Integer({
    description:
      'Differences without a reason, of decoded − stored − in_journal and of served: 0 when all is accounted for',
  }),
  source: nullable(text('The source whose rows are compared with what was served; null: no stats, or no rows')),
  stats: nullable(text('The way in which stats of the node come: envoy-scrape, envoy-statsd, …')),
})
export type NodeLedger = Static<typeof nodeLedger>
export const adapterLedger = object({
  adapter: text('Adapter'),
  received: count('Rows handed to it'),
  delivered: count('Rows that the other side has'),
  rejected: count('Rows that the other side refused'),
  dropped: count('Rows given up'),
  held: count('Rows waiting'),
})
export type AdapterLedger = Static<typeof adapterLedger>
export const ledgerAnswer = answer({
  since: nullable(time('Since when the counts count')),
  by: oneOf(['node', 'adapter'], 'What a row is'),
  rows: Type.Array(Type.Union([nodeLedger, adapterLedger])),
})
export type LedgerAnswer = Static<typeof ledgerAnswer>

/** Whether the last reload was taken: what was refused stays here until one is. */
const configReport = object({
  taken: time('When the configuration that counts was taken'),
  reloads_taken: count('Reloads since the start that were taken'),
  reloads_refused: count('Reloads since the start that were refused'),
  last_reload: nullable(
    object({
      time: time('When'),
      trigger: oneOf(['signal', 'http'], 'By what'),
      taken: Type.Boolean({ description: 'false: nothing was changed by it' }),
      changes: Type.Array(Type.String(), { description: 'What it changes' }),
      reasons: Type.Array(Type.String(), { description: 'Why it was refused' }),
    }),
  ),
})

export const statusReport = object({
  version: text('Version of Sidecast'),
  started: time('Start of the process'),
  config: configReport,
  listeners: Type.Array(
    object({
      name: text('http, grpc, statsd_udp, …'),
      address: text('host:port, or the path of a socket'),
      state: oneOf(['listening', 'failed', 'closed'], 'State'),
      error: nullable(text('Why it failed')),
    }),
  ),
  receivers: Type.Array(
    object({
      name: text('als, otlp, statsd, …'),
      kind: oneOf(['requests', 'stats'], 'What it brings; OTLP: its access logs'),
      last_row: nullable(time('When the last row arrived')),
      rows: count('Rows, or values of stats, since the start'),
      rejected: count('Entries that could not be read, since the start'),
      last_error: nullable(text('What was wrong with the last one')),
    }),
  ),
  nodes: object({
    connected: count('Proxies with an open stream'),
    seen: count('Proxies that sent rows since the start'),
    list: Type.Array(
      object({
        node: text('Node id'),
        cluster: text('Service cluster'),
        connected: Type.Boolean(),
        last_row: nullable(time('When its last row arrived')),
        rows: count('Rows since the start'),
      }),
      { description: 'Those heard last, at most 1000' },
    ),
  }),
  store: object({
    kind: oneOf(['embedded', 'clickhouse', 'none'], 'Kind; none: an edge, which gives everything to Kafka'),
    ready: Type.Boolean({ description: 'Whether it answers' }),
    ping_ms: nullable(figure('How long an answer took')),
    waiting_rows: count('Rows in the journal that it does not have yet'),
    waiting_segments: count('Segments in the journal that it does not have yet'),
    restarts: count('Restarts of the embedded engine'),
    error: nullable(text('Last error')),
  }),
  adapters: Type.Array(
    object({
      name: text('wavefront, otlp, kafka, remote-write'),
      sink: text('Name of its cursor; a target may have several'),
      endpoint: text('Where it sends to'),
      circuit: oneOf(['closed', 'open', 'half_open'], 'closed: works; open: fails again and again, and waits'),
      failures: count('Failed attempts since the last that worked'),
      failing_since: nullable(time('Since when the circuit is not closed')),
      next_attempt: nullable(time('When it is tried again')),
      last_accepted: nullable(time('When it last took something')),
      last_error: nullable(text('What was wrong last')),
      received: count('Rows since the process started: the sum of the five below'),
      delivered: count('Rows that it has'),
      rejected: count('Rows that it refused for good; they are dead letters'),
      dropped: count('Rows left out by its filter or sampling'),
      lost: count('Rows damaged on disk before it had them'),
      held: count('Rows in the journal that it does not have yet'),
      held_segments: count('Their segments'),
      held_bytes: count('Their bytes'),
      held_since: nullable(time('When the oldest of them arrived')),
    }),
    { description: 'What goes out beside the store' },
  ),
  disk: object({
    journal_bytes: count('Journal'),
    journal_bytes_max: count('Its bound'),
    store_bytes: nullable(count('Store')),
    store_bytes_max: nullable(count('Its bound')),
    free_bytes: nullable(count('Free on the file system')),
    full: Type.Boolean({ description: 'Writing fails because the disk or the bound is full' }),
    days_left: nullable(figure('Until the bound, at the rate of the last day; null: not known')),
  }),
  first_run: Type.Array(
    object({
      step: text('Stable id: listening, store, connected, identified, first_row, first_minute, stats'),
      title: text('What it is'),
      done: Type.Boolean(),
      at: nullable(time('When it was done')),
      seen: nullable(text('What was seen last, when it is not done')),
      help: nullable(text('Likely cause and what to do, when it is not done')),
    }),
  ),
})
export type StatusReport = Static<typeof statusReport>
export const statusAnswer = answer(statusReport.properties)

export const healthAnswer = object({
  status: oneOf(['ok', 'failing'], 'Whether all is well'),
  reasons: Type.Array(Type.String(), { description: 'What is wrong' }),
})

export const problemAnswer = Type.Object(
  {
    type: text('urn:sidecast:problem:CODE'),
    title: text('What kind of problem it is'),
    status: Type.Integer({ description: 'HTTP status' }),
    code: oneOf(Object.keys(PROBLEMS) as (keyof typeof PROBLEMS)[], 'Stable code'),
    detail: text('What was found'),
    parameter: Type.Optional(text('The parameter that is at fault')),
    help: Type.Optional(text('What to do about it')),
  },
  { description: 'RFC 9457; some problems have further figures', additionalProperties: true },
)
