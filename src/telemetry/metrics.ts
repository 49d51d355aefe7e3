import {
  Counter,
  collectDefaultMetrics,
  Gauge,
  type MetricObjectWithValues,
  type MetricValue,
  Registry,
} from 'prom-client'
import type { Adapter } from '../pipeline/adapter.ts'
import type { ServedTotals } from '../pipeline/ledger-served.ts'
import { adapterMetrics } from './adapter-metrics.ts'
import { type AlertMetricsSource, alertMetrics } from './alert-metrics.ts'
import { type ReloadSource, reloadMetrics, type SafetySource, safetyMetrics } from './safety-metrics.ts'

/**
 * Every metric of the process, declared in one place. Parts count for themselves, in plain numbers; what they counted is
 * read when somebody scrapes, so nothing here is on a hot path.
 */
export interface MetricSources {
  readonly version: string
  readonly als: {
    readonly counters: {
      readonly messages: number
      readonly bytes: number
      readonly requests: number
      readonly attempts: number
      readonly progress: number
      readonly connections: number
      readonly rejected: ReadonlyMap<string, number>
      readonly cut: number
      readonly lastMs: number
    }
  }
  readonly grpc: { readonly counters: object; unreadBytes(): number }
  readonly otlp: {
    readonly counters: {
      readonly signals: Readonly<Record<string, OtlpSignal>>
      readonly logs: { readonly attributes: number; readonly lines: number; readonly cut: number }
      readonly metrics: { readonly stale: number; readonly untimed: number; readonly cut: number }
      readonly traces: { readonly untimed: number; readonly cut: number }
    }
  }
  readonly otlpHttp: { readonly counters: { readonly answers: ReadonlyMap<number, number> } }
  readonly metricsService: { readonly counters: { readonly rejected: ReadonlyMap<string, number> } }
  readonly statsd: {
    readonly counters: {
      readonly lines: { readonly rejected: ReadonlyMap<string, number> }
      readonly udp: { readonly droppedByKernel: number | null; readonly droppedFull: number } | null
      readonly tcp: object | null
      readonly unix: object | null
      readonly unixStream: object | null
    }
  }
  readonly remoteWrite: {
    readonly counters: {
      readonly answers: ReadonlyMap<number, number>
      readonly rejected: ReadonlyMap<string, number>
    }
  }
  readonly scrape: {
    readonly counters: {
      readonly failed: ReadonlyMap<string, number>
      readonly rejected: ReadonlyMap<string, number>
      readonly skipped: Readonly<Record<string, number>>
    }
    readonly pageBytes: number
    targets(): readonly { readonly isUp: boolean }[]
  }
  /** Null where the listener is off. */
  readonly fluentd: {
    readonly counters: { readonly rejected: ReadonlyMap<string, number> }
    readonly connections: object
  } | null
  readonly syslog: {
    readonly counters: { readonly rejected: ReadonlyMap<string, number> }
    readonly udp: { readonly droppedByKernel: number | null } | null
    readonly tcp: object | null
    readonly tls: object | null
  } | null
  readonly files: {
    readonly counters: { readonly rejected: ReadonlyMap<string, number> }
    logs(): readonly { readonly path: string; readonly behind: number }[]
  }
  readonly stdin: { readonly counters: { readonly rejected: ReadonlyMap<string, number> } } | null
  readonly logs: {
    readonly counters: {
      readonly rejected: ReadonlyMap<string, number>
      readonly refused: ReadonlyMap<string, number>
    }
  }
  readonly safety: SafetySource
  readonly reload: ReloadSource
  readonly journal: { readonly state: string; stats(): object }
  readonly delivery: {
    stats(): object
    backlog(): { segments: number; bytes: number; rows: number; oldestMs: number | null }
  }
  readonly sink: { readonly counters: object }
  readonly adapters: { readonly list: readonly Adapter[] }
  readonly ledger: {
    adapters(): readonly {
      adapter: string
      received: number
      delivered: number
      rejected: number
      dropped: number
      held: number
    }[]
    readonly drops: ReadonlyMap<string, number>
  }
  /** One for each entry of `ingest.kafka`. */
  readonly kafka: readonly KafkaSource[]
  readonly served: { totals(): ServedTotals }
  readonly rollup: { readonly stats: object }
  readonly mesh: {
    stats(): {
      readonly offenders: readonly { readonly identity: string; readonly rows: number }[]
      readonly overflowLabels: readonly { readonly label: string; readonly values: number }[]
    }
  }
  readonly disk: { readonly usage: { bytes: number; bytesMax: number; partitionsDropped: number; rowsDropped: number } }
  readonly embedded: { readonly state: string; readonly restarts: number } | undefined
  readonly metrics: { readonly counters: object }
  readonly spans: { readonly counters: object }
  /** Absent where objectives are not watched. */
  readonly alerts?: AlertMetricsSource
  readonly clock: { now(): number }
}

/** What is counted of OTLP's logs, metrics or traces. */
interface OtlpSignal {
  readonly requests: number
  readonly bytes: number
  readonly items: number
  readonly accepted: number
  readonly rejected: ReadonlyMap<string, number>
  readonly refused: ReadonlyMap<string, number>
}

/** What a receiver of Kafka counts. */
interface KafkaSource {
  readonly group: string
  readonly counters: {
    readonly records: number
    readonly bytes: number
    readonly rows: number
    readonly tombstones: number
    readonly rejected: ReadonlyMap<string, number>
    readonly claims: number
    readonly commits: number
    readonly fenced: number
    readonly generations: number
    readonly takeovers: ReadonlyMap<string, number>
    readonly failures: number
  }
  partitions(): readonly { readonly lag: bigint; readonly waitsSinceMs: number | null }[]
}

export interface Metrics {
  /** The page at `/metrics`, text exposition 0.0.4. */
  page(): Promise<{ readonly type: string; readonly body: string }>
  /** The same as objects. */
  read(): Promise<MetricObjectWithValues<MetricValue<string>>[]>
}

/** Figures of a part that are levels; all others of it are counters. */
const LEVELS = new Set([
  'setValues',
  'connectionsOpen',
  'streamsOpen',
  'bytesOnDisk',
  'segments',
  'failures',
  'series',
  'seriesNow',
  'bytes',
  'nativeBuckets',
  'pairs',
  'pairBytes',
  'exemplars',
  'senders',
  'metrics',
  'open',
  'receiveBufferBytes',
])
/** Counters that are called like a level of another part. */
const COUNTED = new Set([
  'sidecast_files.bytes',
  'sidecast_logs_http.bytes',
  'sidecast_stdin.bytes',
  'sidecast_rollup.bytes',
  'sidecast_store_sink.segments',
  'sidecast_metric_store.series',
  'sidecast_metric_store.exemplars',
  'sidecast_metrics_service.bytes',
  'sidecast_metrics_service.metrics',
  'sidecast_statsd_udp.bytes',
  'sidecast_statsd_tcp.bytes',
  'sidecast_statsd_unix.bytes',
  'sidecast_statsd_unix_stream.bytes',
  'sidecast_remote_write.bytes',
  'sidecast_remote_write.exemplars',
  'sidecast_scrape.bytes',
  'sidecast_scrape.exemplars',
  'sidecast_scrape.samples',
  'sidecast_fluentd.rows',
  'sidecast_fluentd_connections.bytes',
  'sidecast_syslog.rows',
  'sidecast_syslog_udp.bytes',
  'sidecast_syslog_tcp.bytes',
  'sidecast_syslog_tls.bytes',
])

export function createMetrics(sources: MetricSources): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  type Read = () => number | Iterable<readonly [labels: Readonly<Record<string, string>>, value: number]>
  const fill = (metric: { reset(): void; inc(labels: Record<string, string>, by: number): void }, read: Read) => {
    metric.reset()
    const value = read()
    if (typeof value === 'number') metric.inc({}, value)
    else for (const [labels, one] of value) metric.inc({ ...labels }, one)
  }
  const counter = (name: string, help: string, read: Read, labelNames: string[] = []) => {
    const metric: Counter = new Counter({
      name,
      help,
      labelNames,
      registers: [registry],
      collect: () => fill(metric, read),
    })
  }
  const gauge = (name: string, help: string, read: Read, labelNames: string[] = []) => {
    const metric: Gauge = new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      collect: () => fill(metric, read),
    })
  }
  /** One metric for each plain number of a part: `bytesWritten` of `sidecast_journal` is `sidecast_journal_bytes_written_total`. */
  const figures = (prefix: string, what: string, read: () => object) => {
    for (const [key, value] of Object.entries(read())) {
      if (typeof value !== 'number' || key.endsWith('Ms')) continue
      const level = LEVELS.has(key) && !COUNTED.has(`${prefix}.${key}`)
      const words = key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
      const make = level ? gauge : counter
      make(`${prefix}_${words}${level ? '' : '_total'}`, `${what}: ${words.replaceAll('_', ' ')}`, () => {
        return (read() as Record<string, number>)[key] ?? 0
      })
    }
  }

  gauge('sidecast_build_info', 'Version of the program', () => [[{ version: sources.version }, 1]], ['version'])
  const { counters: als } = sources.als
  counter('sidecast_als_messages_total', 'ALS messages received', () => als.messages)
  counter('sidecast_als_bytes_total', 'Bytes of ALS messages received', () => als.bytes)
  counter(
    'sidecast_als_entries_total',
    'ALS entries that became rows, by table',
    () => (['requests', 'attempts', 'progress', 'connections'] as const).map((table) => [{ table }, als[table]]),
    ['table'],
  )
  counter(
    'sidecast_als_rejected_total',
    'ALS entries that could not be read, by reason',
    () => [...als.rejected].map(([reason, n]) => [{ reason }, n] as const),
    ['reason'],
  )
  counter('sidecast_als_cut_total', 'Strings cut and map entries left out because of limits', () => als.cut)
  gauge('sidecast_als_last_message_timestamp_seconds', 'When the last message arrived', () => als.lastMs / 1000)
  figures('sidecast_grpc', 'gRPC port', () => sources.grpc.counters)
  gauge('sidecast_grpc_unread_bytes', 'Bytes that wait behind closed gates', () => sources.grpc.unreadBytes())
  safetyMetrics(sources.safety, counter, gauge)
  reloadMetrics(sources.reload, counter, gauge)
  if (sources.alerts !== undefined) alertMetrics(sources.alerts, counter, gauge)
  figures('sidecast_senders', 'Bounds of one sender', () => sources.safety.senders.counters)
  const { otlp, otlpHttp } = sources
  const signals = Object.entries(otlp.counters.signals)
  for (const figure of ['requests', 'bytes', 'items', 'accepted'] as const) {
    counter(
      `sidecast_otlp_${figure}_total`,
      `OTLP by signal: ${figure}`,
      () => signals.map(([signal, counters]) => [{ signal }, counters[figure]] as const),
      ['signal'],
    )
  }
  for (const [figure, help] of [
    ['rejected', 'OTLP log records, data points and spans that could not be taken, by reason'],
    ['refused', 'OTLP requests answered with an error, by reason'],
  ] as const) {
    counter(
      `sidecast_otlp_${figure}_total`,
      help,
      () =>
        signals.flatMap(([signal, counters]) =>
          [...counters[figure]].map(([reason, n]) => [{ signal, reason }, n] as const),
        ),
      ['signal', 'reason'],
    )
  }
  figures('sidecast_otlp_logs', 'OTLP logs', () => otlp.counters.logs)
  figures('sidecast_otlp_metrics', 'OTLP metrics', () => otlp.counters.metrics)
  figures('sidecast_otlp_traces', 'OTLP traces', () => otlp.counters.traces)
  figures('sidecast_otlp_http', 'OTLP over HTTP', () => otlpHttp.counters)
  counter(
    'sidecast_otlp_http_answers_total',
    'Answers of OTLP over HTTP, by status code',
    () => [...otlpHttp.counters.answers].map(([code, n]) => [{ code: String(code) }, n] as const),
    ['code'],
  )
  const { metricsService, statsd } = sources
  figures('sidecast_metrics_service', 'Metrics service', () => metricsService.counters)
  counter(
    'sidecast_metrics_service_rejected_total',
    'Metrics that could not be read, by reason',
    () => [...metricsService.counters.rejected].map(([reason, n]) => [{ reason }, n] as const),
    ['reason'],
  )
  figures('sidecast_statsd', 'StatsD', () => statsd.counters.lines)
  counter(
    'sidecast_statsd_rejected_total',
    'StatsD lines that could not be read, by reason',
    () => [...statsd.counters.lines.rejected].map(([reason, n]) => [{ reason }, n] as const),
    ['reason'],
  )
  const { udp, tcp, unix, unixStream } = statsd.counters
  if (udp !== null) {
    // What the kernel dropped is not known before the socket is there.
    figures('sidecast_statsd_udp', 'StatsD over UDP', () => ({ ...udp, droppedByKernel: udp.droppedByKernel ?? 0 }))
  }
  if (tcp !== null) figures('sidecast_statsd_tcp', 'StatsD over TCP', () => tcp)
  if (unix !== null) figures('sidecast_statsd_unix', 'StatsD over Unix datagrams', () => unix)
  if (unixStream !== null) figures('sidecast_statsd_unix_stream', 'StatsD over Unix streams', () => unixStream)
  const { scrape, fluentd, syslog } = sources
  const byReason = (reasons: ReadonlyMap<string, number>): Read => {
    return () => [...reasons].map(([reason, n]) => [{ reason }, n] as const)
  }
  const { remoteWrite } = sources
  figures('sidecast_remote_write', 'Remote write, received', () => remoteWrite.counters)
  counter(
    'sidecast_remote_write_answers_total',
    'Answers to remote write, by status code',
    () => [...remoteWrite.counters.answers].map(([code, n]) => [{ code: String(code) }, n] as const),
    ['code'],
  )
  counter(
    'sidecast_remote_write_rejected_total',
    'Samples of remote write that were not taken, by reason',
    byReason(remoteWrite.counters.rejected),
    ['reason'],
  )
  figures('sidecast_scrape', 'Scraping', () => scrape.counters)
  counter('sidecast_scrape_failed_total', 'Scrapes without a page, by reason', byReason(scrape.counters.failed), [
    'reason',
  ])
  counter(
    'sidecast_scrape_rejected_total',
    'Lines and metrics of pages that could not be read, by reason',
    byReason(scrape.counters.rejected),
    ['reason'],
  )
  counter(
    'sidecast_scrape_skipped_total',
    'Scrapes left out, by reason',
    () => Object.entries(scrape.counters.skipped).map(([reason, n]) => [{ reason }, n] as const),
    ['reason'],
  )
  gauge('sidecast_scrape_page_bytes', 'Memory for repeated lines', () => scrape.pageBytes)
  gauge(
    'sidecast_scrape_targets',
    'Targets, by state',
    () => {
      const targets = scrape.targets()
      const up = targets.filter(({ isUp }) => isUp).length
      return [
        [{ state: 'up' }, up],
        [{ state: 'down' }, targets.length - up],
      ]
    },
    ['state'],
  )
  if (fluentd !== null) {
    figures('sidecast_fluentd', 'Fluentd', () => fluentd.counters)
    figures('sidecast_fluentd_connections', 'Fluentd', () => fluentd.connections)
    const help = 'Messages and events that made no row, by reason'
    counter('sidecast_fluentd_rejected_total', help, byReason(fluentd.counters.rejected), ['reason'])
  }
  if (syslog !== null) {
    figures('sidecast_syslog', 'Syslog', () => syslog.counters)
    const help = 'Messages that made no row, by reason'
    counter('sidecast_syslog_rejected_total', help, byReason(syslog.counters.rejected), ['reason'])
    const { udp: datagrams, tcp: streams, tls } = syslog
    if (datagrams !== null) {
      const read = () => ({ ...datagrams, droppedByKernel: datagrams.droppedByKernel ?? 0 })
      figures('sidecast_syslog_udp', 'Syslog over UDP', read)
    }
    if (streams !== null) figures('sidecast_syslog_tcp', 'Syslog over TCP', () => streams)
    if (tls !== null) figures('sidecast_syslog_tls', 'Syslog over TLS', () => tls)
  }
  const { files, stdin, logs } = sources
  const linesHelp = 'Lines that made no row, by reason'
  figures('sidecast_files', 'Log files', () => files.counters)
  counter('sidecast_files_rejected_total', linesHelp, byReason(files.counters.rejected), ['reason'])
  gauge('sidecast_files_open', 'Logs that are followed now', () => files.logs().length)
  gauge('sidecast_files_behind_bytes', 'Bytes of followed logs that are not read yet', () =>
    files.logs().reduce((sum, { behind }) => sum + behind, 0),
  )
  figures('sidecast_logs_http', 'Log lines over HTTP', () => logs.counters)
  counter('sidecast_logs_http_rejected_total', linesHelp, byReason(logs.counters.rejected), ['reason'])
  const refusedHelp = 'Requests of log lines that were refused, by reason'
  counter('sidecast_logs_http_refused_total', refusedHelp, byReason(logs.counters.refused), ['reason'])
  if (stdin !== null) {
    figures('sidecast_stdin', 'Log lines of standard input', () => stdin.counters)
    counter('sidecast_stdin_rejected_total', linesHelp, byReason(stdin.counters.rejected), ['reason'])
  }
  figures('sidecast_journal', 'Journal', () => sources.journal.stats())
  gauge('sidecast_journal_writable', '1 while the journal takes rows', () => (sources.journal.state === 'ok' ? 1 : 0))
  figures('sidecast_delivery', 'Delivery to the store', () => sources.delivery.stats())
  gauge(
    'sidecast_delivery_held_segments',
    'Segments that the store does not have yet',
    () => sources.delivery.backlog().segments,
  )
  gauge('sidecast_delivery_held_rows', 'Rows that the store does not have yet', () => sources.delivery.backlog().rows)
  gauge(
    'sidecast_delivery_held_bytes',
    'Bytes that the store does not have yet',
    () => sources.delivery.backlog().bytes,
  )
  gauge('sidecast_delivery_lag_seconds', 'Age of the oldest row that the store does not have yet', () => {
    const { oldestMs } = sources.delivery.backlog()
    return oldestMs === null ? 0 : Math.max(0, (sources.clock.now() - oldestMs) / 1000)
  })
  figures('sidecast_store_sink', 'Inserting into the store', () => sources.sink.counters)
  adapterMetrics(
    () => sources.adapters.list,
    () => sources.clock.now(),
    { counter, gauge },
  )
  const results = ['received', 'delivered', 'rejected', 'dropped'] as const
  counter(
    'sidecast_adapter_rows_total',
    'Rows by adapter: received = delivered + rejected + dropped + held',
    () =>
      sources.ledger
        .adapters()
        .flatMap((one) => results.map((result) => [{ adapter: one.adapter, result }, one[result]] as const)),
    ['adapter', 'result'],
  )
  gauge(
    'sidecast_adapter_held_rows',
    'Rows that wait for an adapter',
    () => sources.ledger.adapters().map((one) => [{ adapter: one.adapter }, one.held] as const),
    ['adapter'],
  )
  counter(
    'sidecast_dropped_rows_total',
    'Rows given up before the journal, by reason',
    () => [...sources.ledger.drops].map(([reason, n]) => [{ reason }, n] as const),
    ['reason'],
  )
  const kafka = {
    records: 'Records read from Kafka',
    bytes: 'Bytes of their values',
    rows: 'Rows made of them',
    tombstones: 'Records without a value',
    claims: 'Claims of records about to be stored, one for each fetch and partition',
    commits: 'Commits taken by the broker',
    fenced: 'Commits that came after the partition had gone to another consumer',
    generations: 'Memberships of the group',
    failures: 'Requests to Kafka that failed and were tried again',
  } as const
  for (const [name, help] of Object.entries(kafka) as [keyof typeof kafka, string][]) {
    const read = () => sources.kafka.map(({ group, counters }) => [{ group }, counters[name]] as const)
    counter(`sidecast_kafka_${name}_total`, help, read, ['group'])
  }
  counter(
    'sidecast_kafka_rejected_total',
    'Entries of records that could not be read, by reason',
    () =>
      sources.kafka.flatMap(({ group, counters }) =>
        [...counters.rejected].map(([reason, n]) => [{ group, reason }, n] as const),
      ),
    ['group', 'reason'],
  )
  counter(
    'sidecast_kafka_takeovers_total',
    'Partitions begun in the middle of what was claimed: expired ones may have stored records twice',
    () =>
      sources.kafka.flatMap(({ group, counters }) =>
        [...counters.takeovers].map(([how, n]) => [{ group, how }, n] as const),
      ),
    ['group', 'how'],
  )
  const perGroup = (sum: (partitions: ReturnType<KafkaSource['partitions']>) => number): Read => {
    return () => sources.kafka.map((one) => [{ group: one.group }, sum(one.partitions())] as const)
  }
  gauge(
    'sidecast_kafka_lag_records',
    'Records behind the end of our partitions',
    perGroup((partitions) => partitions.reduce((sum, { lag }) => sum + Number(lag), 0)),
    ['group'],
  )
  gauge(
    'sidecast_kafka_waiting_partitions',
    'Partitions that wait for the word of another consumer',
    perGroup((partitions) => partitions.filter(({ waitsSinceMs }) => waitsSinceMs !== null).length),
    ['group'],
  )
  gauge(
    'sidecast_ledger_requests',
    'Requests of all nodes by what became of them, by the counters of their Envoys, since their counts count',
    () => {
      const { served, filtered, lost, unexplained } = sources.served.totals()
      return Object.entries({ served, filtered, lost, unexplained }).map(([result, n]) => [{ result }, n] as const)
    },
    ['result'],
  )
  gauge('sidecast_ledger_nodes', 'Nodes whose stats come', () => sources.served.totals().nodes)
  gauge(
    'sidecast_ledger_nodes_with_loss',
    'Nodes of which requests are lost',
    () => sources.served.totals().nodesWithLoss,
  )
  gauge('sidecast_ledger_restarts', 'Restarts of Envoys that were seen', () => sources.served.totals().restarts)
  figures('sidecast_rollup', 'Rollups', () => sources.rollup.stats)
  figures('sidecast_metric_store', 'Stats that were received', () => sources.metrics.counters)
  figures('sidecast_spans', 'Spans that were received', () => sources.spans.counters)
  figures('sidecast_mesh', 'Live metrics of the mesh', () => sources.mesh.stats())
  gauge(
    'sidecast_mesh_offender_rows',
    'Requests of the identities that had no room on the page, of the heaviest',
    () => sources.mesh.stats().offenders.map(({ identity, rows }) => [{ identity }, rows] as const),
    ['identity'],
  )
  gauge(
    'sidecast_mesh_offender_values',
    'About how many values labels had, of the identities that had no room on the page',
    () => sources.mesh.stats().overflowLabels.map(({ label, values }) => [{ label }, values] as const),
    ['label'],
  )
  gauge('sidecast_store_bytes', 'Disk that the store uses', () => sources.disk.usage.bytes)
  gauge('sidecast_store_bytes_max', 'Its budget', () => sources.disk.usage.bytesMax)
  counter(
    'sidecast_store_partitions_dropped_total',
    'Days dropped for want of room',
    () => sources.disk.usage.partitionsDropped,
  )
  counter('sidecast_store_rows_dropped_total', 'Rows dropped for want of room', () => sources.disk.usage.rowsDropped)
  const { embedded } = sources
  if (embedded !== undefined) {
    gauge('sidecast_store_up', '1 while the embedded store answers', () => (embedded.state === 'ready' ? 1 : 0))
    counter('sidecast_store_restarts_total', 'Restarts of the embedded store', () => embedded.restarts)
  }
  return {
    page: async () => ({ type: registry.contentType, body: await registry.metrics() }),
    read: () => registry.getMetricsAsJSON(),
  }
}
