import type { QueryName } from './queries.ts'

/** What the dashboards show, for either datasource: rows of panels, each with the name of its query. */
export interface Board {
  readonly uid: string
  readonly title: string
  readonly description: string
  readonly variables: readonly VariableName[]
  readonly rows: readonly (readonly Panel[])[]
}
export interface Panel {
  readonly title: string
  readonly query: QueryName
  readonly kind: 'lines' | 'stack' | 'share' | 'figure' | 'table'
  readonly unit: Unit
  readonly description?: string
  /** Of columns of a table: what they are called, and their units. In the order of the figures of the query. */
  readonly columns?: readonly (readonly [name: string, unit: Unit])[]
}
/** Units as Grafana names them. */
export type Unit = 'reqps' | 'percentunit' | 'ms' | 's' | 'Bps' | 'bytes' | 'short' | 'cps' | 'none'
export type VariableName = 'namespace' | 'service' | 'source' | 'job' | 'instance'

const FIGURES = [
  ['Requests/s', 'reqps'],
  ['Failed', 'percentunit'],
  ['p50', 'ms'],
  ['p99', 'ms'],
] as const
const FAILED =
  'Answers that broke, failed or never came, by response code, gRPC status and response flags (class server_error)'

export const BOARDS: readonly Board[] = [
  {
    uid: 'sidecast-mesh',
    title: 'Sidecast: mesh',
    description: 'All services: how much, how many failures, how long',
    variables: ['namespace'],
    rows: [
      [
        { title: 'Requests', query: 'mesh_rate', kind: 'figure', unit: 'reqps' },
        { title: 'Failed', query: 'mesh_error_share', kind: 'figure', unit: 'percentunit', description: FAILED },
        { title: 'Duration', query: 'mesh_latency', kind: 'figure', unit: 'ms' },
      ],
      [
        { title: 'Requests by class', query: 'mesh_rate_by_class', kind: 'stack', unit: 'reqps' },
        { title: 'Duration', query: 'mesh_latency', kind: 'lines', unit: 'ms' },
      ],
      [
        { title: 'Failed', query: 'mesh_error_share', kind: 'lines', unit: 'percentunit', description: FAILED },
        {
          title: 'Response flags',
          query: 'mesh_flags',
          kind: 'lines',
          unit: 'reqps',
          description: 'What the proxies did or saw: UF, UT, URX, DC …',
        },
      ],
      [
        { title: 'Requests by service', query: 'mesh_rate_by_service', kind: 'lines', unit: 'reqps' },
        {
          title: 'Retries',
          query: 'mesh_retries',
          kind: 'lines',
          unit: 'reqps',
          description: 'Attempts beyond the first',
        },
      ],
      [{ title: 'Services', query: 'mesh_services', kind: 'table', unit: 'none', columns: FIGURES }],
    ],
  },
  {
    uid: 'sidecast-service',
    title: 'Sidecast: service',
    description: 'One service: who calls it, what it answers, how long it takes',
    variables: ['service'],
    rows: [
      [
        { title: 'Requests', query: 'service_rate', kind: 'figure', unit: 'reqps' },
        { title: 'Failed', query: 'service_error_share', kind: 'figure', unit: 'percentunit', description: FAILED },
        { title: 'Duration', query: 'service_latency', kind: 'figure', unit: 'ms' },
      ],
      [
        { title: 'Requests by class', query: 'service_rate_by_class', kind: 'stack', unit: 'reqps' },
        {
          title: 'Who made the answer',
          query: 'service_rate_by_outcome',
          kind: 'stack',
          unit: 'reqps',
          description: 'The service itself (upstream), the proxy in its place, or nobody, because the client left',
        },
      ],
      [
        { title: 'Duration', query: 'service_latency', kind: 'lines', unit: 'ms' },
        { title: 'Failed', query: 'service_error_share', kind: 'lines', unit: 'percentunit', description: FAILED },
      ],
      [
        { title: 'Response flags', query: 'service_flags', kind: 'lines', unit: 'reqps' },
        {
          title: 'Retries',
          query: 'service_retries',
          kind: 'lines',
          unit: 'reqps',
          description: 'Attempts beyond the first',
        },
      ],
      [
        { title: 'Bytes in', query: 'service_bytes_in', kind: 'lines', unit: 'Bps' },
        { title: 'Bytes out', query: 'service_bytes_out', kind: 'lines', unit: 'Bps' },
      ],
      [
        { title: 'By caller', query: 'service_callers', kind: 'table', unit: 'none', columns: FIGURES },
        { title: 'By workload', query: 'service_workloads', kind: 'table', unit: 'none', columns: FIGURES },
      ],
    ],
  },
  {
    uid: 'sidecast-edge',
    title: 'Sidecast: edge',
    description: 'From one workload to one service, and what each side of the connection saw',
    variables: ['source', 'service'],
    rows: [
      [
        { title: 'Requests', query: 'edge_rate', kind: 'figure', unit: 'reqps' },
        { title: 'Failed', query: 'edge_error_share', kind: 'figure', unit: 'percentunit', description: FAILED },
        { title: 'Duration', query: 'edge_latency', kind: 'figure', unit: 'ms' },
      ],
      [
        { title: 'Requests by answer', query: 'edge_answers', kind: 'stack', unit: 'reqps' },
        { title: 'Duration', query: 'edge_latency', kind: 'lines', unit: 'ms' },
      ],
      [
        {
          title: 'p99 by who reports',
          query: 'edge_latency_by_side',
          kind: 'lines',
          unit: 'ms',
          description: 'What the source sees above the destination is spent between the two proxies',
        },
        { title: 'Response flags', query: 'edge_flags', kind: 'lines', unit: 'reqps' },
      ],
      [{ title: 'Failed', query: 'edge_error_share', kind: 'lines', unit: 'percentunit', description: FAILED }],
      [{ title: 'Edges', query: 'edge_figures', kind: 'table', unit: 'none', columns: FIGURES }],
    ],
  },
  {
    uid: 'sidecast-phases',
    title: 'Sidecast: phases',
    description: 'Where the time of requests went. The seven phases of a request add up to its duration',
    variables: ['service'],
    rows: [
      [
        { title: 'Mean time in each phase', query: 'phase_mean', kind: 'stack', unit: 'ms' },
        { title: 'Share of the whole time', query: 'phase_share', kind: 'share', unit: 'percentunit' },
      ],
      [
        {
          title: 'p99 of each phase',
          query: 'phase_p99',
          kind: 'lines',
          unit: 'ms',
          description: 'Quantiles of phases do not add up: the slowest requests of two phases are different ones',
        },
      ],
      [
        {
          title: 'Mean by service',
          query: 'phase_by_service',
          kind: 'table',
          unit: 'none',
          columns: [
            ['Client sends', 'ms'],
            ['Proxy, request', 'ms'],
            ['Sending upstream', 'ms'],
            ['Waiting for upstream', 'ms'],
            ['Proxy, response', 'ms'],
            ['Receiving from upstream', 'ms'],
            ['Client receives', 'ms'],
          ],
        },
      ],
    ],
  },
  {
    uid: 'sidecast-self',
    title: 'Sidecast: itself',
    description: 'Whether everything that Envoy said arrived, is stored, and was sent on',
    variables: ['job', 'instance'],
    rows: [
      [
        { title: 'Rows', query: 'self_rows', kind: 'lines', unit: 'cps' },
        { title: 'Entries of access logs, by table', query: 'self_entries', kind: 'lines', unit: 'cps' },
      ],
      [
        {
          title: 'Behind',
          query: 'self_lag',
          kind: 'lines',
          unit: 's',
          description: 'Age of the oldest segment that the store does not have',
        },
        {
          title: 'Held by adapters',
          query: 'self_held',
          kind: 'lines',
          unit: 'short',
          description: 'Rows in the journal that an adapter has yet to deliver',
        },
      ],
      [
        {
          title: 'Adapters',
          query: 'self_adapter_rows',
          kind: 'lines',
          unit: 'cps',
          description: 'received = delivered + rejected + dropped + held',
        },
        {
          title: 'Refused and lost',
          query: 'self_losses',
          kind: 'lines',
          unit: 'cps',
          description: 'All of it should be 0',
        },
      ],
      [
        {
          title: 'Requests that Envoy served',
          query: 'self_ledger',
          kind: 'lines',
          unit: 'short',
          description: 'By Envoy’s own counters, and what became of them',
        },
        { title: 'Open streams', query: 'self_streams', kind: 'lines', unit: 'short' },
      ],
      [
        { title: 'Disk', query: 'self_disk', kind: 'stack', unit: 'bytes' },
        { title: 'Memory', query: 'self_memory', kind: 'lines', unit: 'bytes' },
      ],
      [
        { title: 'CPU', query: 'self_cpu', kind: 'lines', unit: 'short', description: 'Cores, of the main process' },
        { title: 'Event loop', query: 'self_event_loop', kind: 'lines', unit: 's' },
      ],
      [
        { title: 'Label sets', query: 'self_series', kind: 'lines', unit: 'short' },
        {
          title: 'Overflow',
          query: 'self_overflow',
          kind: 'lines',
          unit: 'cps',
          description: 'Requests whose label set, or key, the bounds did not let in',
        },
      ],
    ],
  },
]
