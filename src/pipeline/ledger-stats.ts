/**
 * What Envoy's own counters say of each node: requests and connections that have ended, and what its loggers did. By
 * whichever way its stats arrive; where several do, one is read, so that nothing counts twice.
 *
 *   finished requests     downstream_rq_total − downstream_rq_active     of every connection manager but the admin page's
 *   finished connections  tcp.*.downstream_cx_total − those that are open
 *
 * `downstream_rq_completed` and `downstream_rq_xx` would leave out requests without a code (the client left). The ALS
 * loggers' own counters see hardly any loss: entries count as written once they are in a buffer. So they are evidence of
 * what was never to be logged, and no more.
 */
export interface NodeStats {
  readonly node: string
  readonly job: string
  /** ms since the epoch: the figures are those of this moment. */
  readonly timeMs: number
  readonly http: number
  readonly tcp: number
  /** When the process began, ms since the epoch; null when it does not say. */
  readonly startedMs: number | null
  /** Entries that loggers took and gave up, by kind; null where it has no such logger. */
  readonly als: LoggerStats | null
  readonly otlp: LoggerStats | null
  /** Entries that ALS loggers flushed: the TCP ones are here and not in `written`. Retries are not told apart. */
  readonly flushed: number | null
}

export interface LoggerStats {
  readonly written: number
  readonly dropped: number
}

/** The part of a metric store that is read here. */
export interface StatsSource {
  latest(selector: { readonly name: string }): Iterable<StatsSample>
}

export interface StatsSample {
  readonly series: {
    readonly job: string
    readonly instance: string
    readonly labels: readonly (readonly [name: string, value: string])[]
  }
  readonly timeMs: number
  readonly value: number
  readonly stale: boolean
}

/** Ways in which stats arrive, the best first: absolute values before sums of differences, which miss what got lost. */
const JOBS = ['envoy-scrape', 'envoy-metrics-service', 'envoy-otlp', 'envoy-statsd']
const PREFIX = 'envoy_http_conn_manager_prefix'
/** Connection managers that serve no traffic of the mesh and log nothing: Envoy's admin page, and Istio's own ports. */
const INTERNAL = new Set(['admin', 'agent', 'stats'])
const HTTP_TOTAL = 'envoy_http_downstream_rq_total'
const HTTP_ACTIVE = 'envoy_http_downstream_rq_active'
const HTTP_CONNECTIONS = 'envoy_http_downstream_cx_active'
const TCP_TOTAL = 'envoy_tcp_downstream_cx_total'
const LISTENER_CONNECTIONS = 'envoy_listener_downstream_cx_active'
const UPTIME = 'envoy_server_uptime'
const ALS_WRITTEN = 'envoy_access_logs_grpc_access_log_logs_written'
const ALS_DROPPED = 'envoy_access_logs_grpc_access_log_logs_dropped'
const ALS_FLUSHED = 'envoy_access_logs_grpc_access_log_grpc_entries_flushed'
/** A logger with a `stat_prefix` has it in the name. */
const OTLP = 'envoy_access_logs_open_telemetry_access_log'

/** Sums of one node by one way. */
class Sums {
  timeMs = 0
  readonly figures = new Map<string, number>()
  readonly times = new Map<string, number>()

  add(name: string, { value, timeMs }: StatsSample): void {
    this.figures.set(name, (this.figures.get(name) ?? 0) + value)
    this.times.set(name, Math.max(this.times.get(name) ?? 0, timeMs))
  }

  get(name: string): number | null {
    return this.figures.get(name) ?? null
  }
}

/** Reads the present figures of every node that sends stats. */
export function readStats(source: StatsSource, otlpPrefixes: readonly string[] = ['', 'grpc', 'http']): NodeStats[] {
  const nodes = new Map<string, Map<string, Sums>>()
  const add = (name: string, internal: boolean): void => {
    for (const sample of source.latest({ name })) {
      const { job, instance, labels } = sample.series
      if (sample.stale || !JOBS.includes(job)) continue
      if (internal && labels.some(([label, value]) => label === PREFIX && INTERNAL.has(value))) continue
      const ways = nodes.get(instance) ?? new Map<string, Sums>()
      nodes.set(instance, ways)
      const sums = ways.get(job) ?? new Sums()
      ways.set(job, sums)
      sums.add(name, sample)
    }
  }
  for (const name of [HTTP_TOTAL, HTTP_ACTIVE, HTTP_CONNECTIONS]) add(name, true)
  for (const name of [TCP_TOTAL, LISTENER_CONNECTIONS, UPTIME, ALS_WRITTEN, ALS_DROPPED, ALS_FLUSHED]) add(name, false)
  const otlpNames = otlpPrefixes.map((prefix) => (prefix === '' ? OTLP : `${OTLP}_${prefix}`))
  for (const name of otlpNames) {
    add(`${name}_logs_written`, false)
    add(`${name}_logs_dropped`, false)
  }
  return [...nodes].flatMap(([node, ways]) => {
    const usable = [...ways].filter(([, sums]) => sums.get(HTTP_TOTAL) !== null || sums.get(TCP_TOTAL) !== null)
    if (usable.length === 0) return []
    const newest = Math.max(...usable.map(([, sums]) => timeOf(sums)))
    // A way that has fallen silent is left for one that goes on.
    const alive = usable.filter(([, sums]) => newest - timeOf(sums) < SILENT_MS)
    const [job, sums] = alive.toSorted(([a], [b]) => JOBS.indexOf(a) - JOBS.indexOf(b))[0]!
    return [statsOf(node, job, sums, otlpNames)]
  })
}

const SILENT_MS = 60_000

/** Counters that do not change may not be sent; gauges of the same moment are. */
function timeOf(sums: Sums): number {
  let timeMs = 0
  for (const time of sums.times.values()) timeMs = Math.max(timeMs, time)
  return timeMs
}

function statsOf(node: string, job: string, sums: Sums, otlpNames: readonly string[]): NodeStats {
  const timeMs = timeOf(sums)
  const http = (sums.get(HTTP_TOTAL) ?? 0) - (sums.get(HTTP_ACTIVE) ?? 0)
  // Listeners count the connections of both kinds; those of connection managers are known.
  const open = Math.max(0, (sums.get(LISTENER_CONNECTIONS) ?? 0) - (sums.get(HTTP_CONNECTIONS) ?? 0))
  const tcp = Math.max(0, (sums.get(TCP_TOTAL) ?? 0) - open)
  const uptime = sums.get(UPTIME)
  const startedMs = uptime === null ? null : (sums.times.get(UPTIME) ?? timeMs) - uptime * 1000
  const otlp: LoggerStats[] = otlpNames.flatMap((name) => {
    const written = sums.get(`${name}_logs_written`)
    const dropped = sums.get(`${name}_logs_dropped`)
    return written === null && dropped === null ? [] : [{ written: written ?? 0, dropped: dropped ?? 0 }]
  })
  const written = sums.get(ALS_WRITTEN)
  const dropped = sums.get(ALS_DROPPED)
  return {
    node,
    job,
    timeMs,
    http,
    tcp,
    startedMs,
    als: written === null && dropped === null ? null : { written: written ?? 0, dropped: dropped ?? 0 },
    otlp:
      otlp.length === 0
        ? null
        : otlp.reduce((a, b) => ({ written: a.written + b.written, dropped: a.dropped + b.dropped })),
    flushed: sums.get(ALS_FLUSHED),
  }
}
