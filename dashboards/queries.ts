import { PHASES } from '../src/model/phases.ts'
import { SERVER_ERROR } from '../src/query/slo/istio-selectors.ts'
import { SERVICE_LABELS } from '../src/query/slo/reporters.ts'
import { ISTIO, OURS, quantile, ratePerSecond, share, totalPerSecond } from './promql.ts'
import {
  chosen,
  FLAG,
  FLAG_JOIN,
  growth,
  level,
  overTime,
  PER_SECOND,
  part,
  quantilesMs,
  RANGE_SECONDS,
  table,
} from './sql.ts'

/**
 * Every query of the dashboards, by name: what it asks, in the language of each datasource. The two answers have the same
 * meaning; they differ where the sources do: Prometheus has classic buckets and the time between scrapes, ClickHouse has
 * fine buckets and whole minutes.
 */
export interface Query {
  readonly prometheus: readonly PrometheusTarget[]
  readonly clickhouse: readonly ClickHouseTarget[]
}
export interface PrometheusTarget {
  readonly expr: string
  /** `{{label}}` is the value of a label. */
  readonly legend?: string
  /** One value for each label set, for tables and single figures. */
  readonly instant?: boolean
}
export interface ClickHouseTarget {
  readonly sql: string
  /** Rows as they are; else points over time. */
  readonly table?: boolean
  /** Column that names the series. */
  readonly label?: string
}

/** What the variables of a dashboard choose. */
const PROM = {
  namespace: 'destination_service_namespace=~"$namespace"',
  service: 'destination_service_name=~"$service"',
  source: 'source_workload=~"$source"',
} as const
const SQL = {
  namespace: chosen('destination_namespace', 'namespace'),
  service: chosen('destination_service', 'service'),
  source: chosen('source_workload', 'source'),
} as const

const QUANTILES = { p50: 0.5, p90: 0.9, p99: 0.99 }
const FAILED = `class = 'server_error'`

/** What is asked about: all, a service, its callers, or an edge. */
type Scope = 'mesh' | 'service' | 'callers' | 'edge'
const PROM_OF: Readonly<Record<Scope, readonly string[]>> = {
  mesh: [PROM.namespace],
  service: [PROM.service],
  callers: [PROM.service],
  edge: [PROM.source, PROM.service],
}
const SQL_OF: Readonly<Record<Scope, readonly string[]>> = {
  mesh: [SQL.namespace],
  service: [SQL.service],
  callers: [SQL.service],
  edge: [SQL.source, SQL.service],
}

// ---- the same questions for the mesh, for a service, and for an edge

/** Gateways are the source of what they send on in Istio's metrics alone, so those tell who called. */
const tellsCallers = (scope: Scope): boolean => scope === 'callers' || scope === 'edge'
const allPerSecond = (scope: Scope, labels: readonly string[] = []): string =>
  totalPerSecond(tellsCallers(scope) ? ISTIO.requests : OURS.requests, PROM_OF[scope], labels)
const failedPerSecond = (scope: Scope, labels: readonly string[] = []): string =>
  tellsCallers(scope)
    ? totalPerSecond(ISTIO.requests, PROM_OF[scope], labels, SERVER_ERROR)
    : totalPerSecond(OURS.requests, [...PROM_OF[scope], 'class="server_error"'], labels)

const rate = (scope: Scope): Query => ({
  prometheus: [{ expr: allPerSecond(scope), legend: 'requests' }],
  clickhouse: [{ sql: overTime({ figures: [`${PER_SECOND} AS requests`], where: SQL_OF[scope] }) }],
})

const errorShare = (scope: Scope): Query => ({
  prometheus: [{ expr: share(failedPerSecond(scope), allPerSecond(scope)), legend: 'failed' }],
  clickhouse: [{ sql: overTime({ figures: [`${part(FAILED)} AS failed`], where: SQL_OF[scope] }) }],
})

const rateByLabel = (scope: Scope, label: 'class' | 'outcome'): Query => ({
  prometheus: [{ expr: totalPerSecond(OURS.requests, PROM_OF[scope], [label]), legend: `{{${label}}}` }],
  clickhouse: [{ sql: overTime({ figures: [`${PER_SECOND} AS requests`], by: [label], where: SQL_OF[scope] }), label }],
})

const latency = (scope: Scope): Query => ({
  prometheus: Object.entries(QUANTILES).map(([name, q]) => ({
    expr: quantile(q, ISTIO.duration, PROM_OF[scope]),
    legend: name,
  })),
  clickhouse: [{ sql: overTime({ figures: quantilesMs('total', QUANTILES), where: SQL_OF[scope] }) }],
})

const flags = (scope: Scope): Query => ({
  prometheus: [{ expr: totalPerSecond(OURS.flags, PROM_OF[scope], ['flag']), legend: '{{flag}}' }],
  clickhouse: [
    {
      sql: overTime({
        figures: ['sum(flagged) / $__interval_s AS requests'],
        by: [FLAG],
        join: `ARRAY JOIN ${FLAG_JOIN}`,
        where: SQL_OF[scope],
      }),
      label: 'flag',
    },
  ],
})

const retries = (scope: Scope): Query => {
  const requests = totalPerSecond(OURS.requests, [...PROM_OF[scope], 'outcome!="unfinished"'])
  return {
    prometheus: [
      { expr: `clamp_min(${totalPerSecond(OURS.attempts, PROM_OF[scope])} - ${requests}, 0)`, legend: 'retries' },
    ],
    clickhouse: [
      {
        sql: overTime({
          figures: ['greatest(sum(toInt64(attempts)) - sum(toInt64(n)), 0) / $__interval_s AS retries'],
          where: SQL_OF[scope],
        }),
      },
    ],
  }
}

/** Rows of a table: rate, share of failures, p50 and p99 of each group. `columns` by labels and by column. */
function figures(scope: Scope, columns: readonly (readonly [labels: readonly string[], column: string])[]): Query {
  const labels = columns.flatMap(([labels]) => labels)
  const all = allPerSecond(scope, labels)
  const failed = failedPerSecond(scope, labels)
  const instant = (expr: string): PrometheusTarget => ({ expr, instant: true })
  return {
    prometheus: [
      instant(all),
      instant(share(failed, all)),
      instant(quantile(0.5, ISTIO.duration, PROM_OF[scope], labels)),
      instant(quantile(0.99, ISTIO.duration, PROM_OF[scope], labels)),
    ],
    clickhouse: [
      {
        table: true,
        sql: table({
          by: columns.map(([, column]) => column),
          figures: [
            `sum(n) / ${RANGE_SECONDS} AS rate`,
            `${part(FAILED)} AS failed`,
            ...quantilesMs('total', { p50: 0.5, p99: 0.99 }),
          ],
          where: SQL_OF[scope],
          order: 'rate DESC',
          limit: 100,
        }),
      },
    ],
  }
}

const SERVICE_COLUMN = [SERVICE_LABELS, 'destination_service'] as const

// ---- phases

/** Seconds spent in a phase per second, and requests per second, of the same requests. */
const phaseSum = totalPerSecond(`${OURS.phase}_sum`, [PROM.service], ['phase'])
const phaseCount = totalPerSecond(`${OURS.phase}_count`, [PROM.service], ['phase'])
const phaseSums = PHASES.map((phase) => `sum(${phase}_sum) AS ${phase}`)
const whole = PHASES.map((phase) => `sum(${phase}_sum)`).join(' + ')

const bytes = (metric: string, column: string): Query => ({
  prometheus: [{ expr: totalPerSecond(metric, [PROM.service]), legend: 'bytes' }],
  clickhouse: [{ sql: overTime({ figures: [`sum(${column}) / $__interval_s AS bytes`], where: [SQL.service] }) }],
})

// ---- Sidecast's own metrics

interface OwnQuery {
  readonly name: string
  readonly legend: string
  /** Labels that tell the series of the panel apart; they are the legend then. */
  readonly labels?: readonly string[]
}

const OWN = '{job=~"$job", instance=~"$instance"}'
const OWN_INSTANCE = chosen('instance', 'instance')
const by = (labels: readonly string[]): string => (labels.length === 0 ? '' : ` by (${labels.join(', ')})`)

function ownTargets(questions: readonly OwnQuery[], kind: 'level' | 'rate'): Query {
  const asPromQl = ({ name, labels = [] }: OwnQuery) =>
    `sum${by(labels)} (${kind === 'level' ? `${name}${OWN}` : `rate(${name}${OWN}[$__rate_interval])`})`
  return {
    prometheus: questions.map((question) => ({
      expr: asPromQl(question),
      legend: question.labels?.map((label) => `{{${label}}}`).join(' ') ?? question.legend,
    })),
    clickhouse: questions.map(({ name, legend, labels }) => ({
      sql: (kind === 'level' ? level : growth)({ name, legend, labels: labels ?? [], where: OWN_INSTANCE }),
      label: 'label',
    })),
  }
}
const ownLevel = (...questions: readonly OwnQuery[]): Query => ownTargets(questions, 'level')
const ownRate = (...questions: readonly OwnQuery[]): Query => ownTargets(questions, 'rate')

export const QUERIES = {
  mesh_rate: rate('mesh'),
  mesh_error_share: errorShare('mesh'),
  mesh_latency: latency('mesh'),
  mesh_rate_by_class: rateByLabel('mesh', 'class'),
  mesh_flags: flags('mesh'),
  mesh_retries: retries('mesh'),
  mesh_services: figures('mesh', [SERVICE_COLUMN]),
  mesh_rate_by_service: {
    prometheus: [
      { expr: `topk(10, ${ratePerSecond(OURS.requests, [PROM.namespace])})`, legend: '{{destination_service_name}}' },
    ],
    clickhouse: [
      {
        sql: overTime({
          figures: [`${PER_SECOND} AS requests`],
          by: ['destination_service'],
          where: [SQL.namespace],
        }),
        label: 'destination_service',
      },
    ],
  },

  service_rate: rate('service'),
  service_error_share: errorShare('service'),
  service_latency: latency('service'),
  service_rate_by_class: rateByLabel('service', 'class'),
  service_rate_by_outcome: rateByLabel('service', 'outcome'),
  service_flags: flags('service'),
  service_retries: retries('service'),
  service_callers: figures('callers', [[['source_workload'], 'source_workload'], SERVICE_COLUMN]),
  service_workloads: figures('service', [[['destination_workload'], 'destination_workload'], SERVICE_COLUMN]),
  service_bytes_in: bytes(`${ISTIO.requestBytes}_sum`, 'request_bytes'),
  service_bytes_out: bytes(`${ISTIO.responseBytes}_sum`, 'response_bytes'),

  edge_rate: rate('edge'),
  edge_error_share: errorShare('edge'),
  edge_latency: latency('edge'),
  edge_answers: {
    prometheus: [
      { expr: totalPerSecond(ISTIO.requests, PROM_OF.edge, ['response_code']), legend: '{{response_code}}' },
    ],
    clickhouse: rateByLabel('edge', 'class').clickhouse,
  },
  edge_flags: {
    prometheus: [
      {
        expr: totalPerSecond(ISTIO.requests, [...PROM_OF.edge, 'response_flags!="-"'], ['response_flags']),
        legend: '{{response_flags}}',
      },
    ],
    clickhouse: flags('edge').clickhouse,
  },
  edge_figures: figures('edge', [[['source_workload'], 'source_workload'], SERVICE_COLUMN]),
  edge_latency_by_side: {
    prometheus: [
      {
        expr: `histogram_quantile(0.99, sum by (reporter, le) (rate(${ISTIO.duration}_bucket{${PROM.source}, ${PROM.service}}[$__rate_interval])))`,
        legend: '{{reporter}}',
      },
    ],
    clickhouse: [
      {
        sql: overTime({
          figures: quantilesMs('total', { p99: 0.99 }),
          by: ['reporter'],
          where: [SQL.source, SQL.service],
          everyReport: true,
        }),
        label: 'reporter',
      },
    ],
  },

  phase_mean: {
    prometheus: [{ expr: `1000 * ${phaseSum} / (${phaseCount} > 0)`, legend: '{{phase}}' }],
    clickhouse: [
      {
        sql: overTime({
          figures: PHASES.map((phase) => `sum(${phase}_sum) / 1e6 / greatest(sum(phases_n), 1) AS ${phase}`),
          where: [SQL.service],
        }),
      },
    ],
  },
  phase_share: {
    prometheus: [
      {
        expr: `${phaseSum} / scalar(${totalPerSecond(`${OURS.phase}_sum`, [PROM.service])} > 0)`,
        legend: '{{phase}}',
      },
    ],
    clickhouse: [
      {
        sql: overTime({
          figures: PHASES.map((phase) => `sum(${phase}_sum) / greatest(${whole}, 1) AS ${phase}`),
          where: [SQL.service],
        }),
      },
    ],
  },
  phase_p99: {
    prometheus: [{ expr: `1000 * ${quantile(0.99, OURS.phase, [PROM.service], ['phase'])}`, legend: '{{phase}}' }],
    clickhouse: [
      {
        sql: overTime({
          figures: PHASES.flatMap((phase) => quantilesMs(phase, { [phase]: 0.99 })),
          where: [SQL.service],
        }),
      },
    ],
  },
  phase_by_service: {
    prometheus: PHASES.map((phase) => ({
      expr: `1000 * ${serviceMean(phase)}`,
      legend: phase,
      instant: true,
    })),
    clickhouse: [
      {
        table: true,
        sql: table({
          by: ['destination_service'],
          figures: phaseSums.map((sum) => sum.replace(' AS ', ' / 1e6 / greatest(sum(phases_n), 1) AS ')),
          where: [SQL.service],
          order: 'upstream_wait DESC',
          limit: 100,
        }),
      },
    ],
  },

  self_rows: ownRate(
    { name: 'sidecast_journal_rows_total', legend: 'written to the journal' },
    { name: 'sidecast_delivery_delivered_rows_total', legend: 'stored' },
  ),
  self_entries: ownRate({ name: 'sidecast_als_entries_total', legend: '', labels: ['table'] }),
  self_streams: ownLevel({ name: 'sidecast_grpc_streams_open', legend: 'open streams' }),
  self_lag: ownLevel({ name: 'sidecast_delivery_lag_seconds', legend: 'age of the oldest segment not stored' }),
  self_adapter_rows: ownRate({ name: 'sidecast_adapter_rows_total', legend: '', labels: ['adapter', 'result'] }),
  self_held: ownLevel({ name: 'sidecast_adapter_held_rows', legend: '', labels: ['adapter'] }),
  self_losses: ownRate(
    { name: 'sidecast_journal_refused_full_total', legend: 'batches refused: journal full' },
    { name: 'sidecast_journal_rows_lost_total', legend: 'rows lost: journal damaged' },
    { name: 'sidecast_delivery_rejected_rows_total', legend: 'rows refused by the store' },
    { name: 'sidecast_als_cut_total', legend: 'texts cut' },
  ),
  self_ledger: ownLevel({ name: 'sidecast_ledger_requests', legend: '', labels: ['result'] }),
  self_disk: ownLevel(
    { name: 'sidecast_journal_bytes_on_disk', legend: 'journal' },
    { name: 'sidecast_store_bytes', legend: 'store' },
  ),
  self_memory: ownLevel({ name: 'process_resident_memory_bytes', legend: 'main process' }),
  self_cpu: ownRate({ name: 'process_cpu_seconds_total', legend: 'cores' }),
  self_event_loop: ownLevel({ name: 'nodejs_eventloop_lag_p99_seconds', legend: 'p99 of waiting' }),
  self_series: ownLevel({ name: 'sidecast_mesh_series', legend: 'label sets of /metrics/mesh' }),
  self_overflow: ownRate(
    { name: 'sidecast_mesh_overflow_rows_total', legend: 'requests in overflow series' },
    { name: 'sidecast_rollup_overflow_rows_total', legend: 'requests in overflow keys' },
  ),
} as const satisfies Readonly<Record<string, Query>>
export type QueryName = keyof typeof QUERIES

function serviceMean(phase: string): string {
  const matchers = [PROM.service, `phase="${phase}"`]
  return `${ratePerSecond(`${OURS.phase}_sum`, matchers)} / (${ratePerSecond(`${OURS.phase}_count`, matchers)} > 0)`
}
