import type { AlsReceiver } from './ingest/als/receiver.ts'
import type { FluentdReceiver } from './ingest/fluentd/receiver.ts'
import type { GrpcServer } from './ingest/grpc/index.ts'
import type { KafkaReceiver } from './ingest/kafka/receiver.ts'
import type { FilesReceiver } from './ingest/lines/files.ts'
import type { LogsReceiver } from './ingest/lines/http.ts'
import type { StdinReceiver } from './ingest/lines/stdin.ts'
import type { MetricsServiceReceiver } from './ingest/metrics-service/receiver.ts'
import type { OtlpHttpServer, OtlpReceiver } from './ingest/otlp/index.ts'
import type { RemoteWriteReceiver } from './ingest/remote-write/receiver.ts'
import type { ScrapeReceiver } from './ingest/scrape/receiver.ts'
import type { StatsdReceiver } from './ingest/statsd/receiver.ts'
import type { SyslogReceiver } from './ingest/syslog/receiver.ts'
import type { StatusReport } from './query/schemas.ts'

/** What the receivers say of themselves, put into the words of the API. Those that are off are not there. */
export interface StatusReceivers {
  readonly grpc: GrpcServer
  readonly als: AlsReceiver
  readonly otlp: OtlpReceiver
  readonly otlpHttp: OtlpHttpServer
  readonly metricsService: MetricsServiceReceiver
  readonly statsd: StatsdReceiver
  readonly scrape: ScrapeReceiver
  readonly remoteWrite: RemoteWriteReceiver
  readonly fluentd: FluentdReceiver | null
  readonly syslog: SyslogReceiver | null
  readonly files: FilesReceiver
  readonly stdin: StdinReceiver | null
  readonly logs: LogsReceiver
  readonly kafka: readonly KafkaReceiver[]
}

type ReceiverReport = StatusReport['receivers'][number]

/** Every receiver, by the name that its metrics have. */
export function receiversOf(parts: StatusReceivers): ReceiverReport[] {
  const { als, otlp, metricsService, statsd, scrape, remoteWrite, fluentd, syslog, files, stdin, logs, kafka } = parts
  const { lines } = statsd.counters
  const written = remoteWrite.counters
  return [
    said('als', { ...als.counters, rows: rowsOf(als), last: als.rejected()[0] }),
    otlpOf(otlp),
    said('metrics_service', {
      kind: 'stats',
      ...metricsService.counters,
      rows: metricsService.counters.metrics,
      last: metricsService.rejected()[0],
    }),
    said('statsd', { kind: 'stats', ...lines, rows: lines.values, last: statsd.rejected()[0] }),
    said('scrape', { kind: 'stats', ...scrape.counters, rows: scrape.counters.samples, last: scrape.rejected()[0] }),
    {
      ...said('remote_write', {
        kind: 'stats',
        ...written,
        rows: written.samples + written.histograms,
        last: undefined,
      }),
      last_error: remoteWrite.lastProblem,
    },
    said('logs_http', { ...logs.counters, last: logs.rejected.list()[0] }),
    said('files', { ...files.counters, last: files.rejected.list()[0] }),
    ...(stdin === null ? [] : [said('stdin', { ...stdin.counters, last: stdin.rejected.list()[0] })]),
    ...(syslog === null ? [] : [said('syslog', { ...syslog.counters, last: syslog.rejected()[0] })]),
    ...(fluentd === null ? [] : [said('fluentd', { ...fluentd.counters, last: fluentd.rejected()[0] })]),
    ...kafka.map((one) => said(`kafka ${one.group}`, { ...one.counters, last: one.rejected()[0] })),
  ]
}

/** Rows of all tables. */
export const rowsOf = ({ counters }: AlsReceiver): number =>
  counters.requests + counters.attempts + counters.progress + counters.connections

interface Said {
  /** Requests where it is absent. */
  readonly kind?: ReceiverReport['kind']
  /** Wall clock; 0: never. */
  readonly lastMs: number
  /** Rows, or values of stats. */
  readonly rows: number
  readonly rejected: ReadonlyMap<string, number>
  /** The last ones that were refused. */
  readonly last: { readonly reason: string; readonly peer?: string; readonly source?: string } | undefined
}

function said(name: string, { kind = 'requests', lastMs, rows, rejected, last }: Said): ReceiverReport {
  return {
    name,
    kind,
    last_row: lastMs === 0 ? null : new Date(lastMs).toISOString(),
    rows,
    rejected: sum(rejected.values()),
    last_error: last === undefined ? null : `${last.reason} from ${last.peer ?? last.source}`,
  }
}

/** Rows of its access logs; what was rejected of any kind. */
function otlpOf(otlp: OtlpReceiver): ReceiverReport {
  const { logs, metrics, traces } = otlp.counters.signals
  const rejected = [logs, metrics, traces].reduce((all, signal) => all + sum(signal.rejected.values()), 0)
  return { ...said('otlp', { ...logs, rows: logs.accepted, last: otlp.rejected()[0] }), rejected }
}

/** Every listener of a receiver, as it listens. */
export function listenersOf({ grpc, otlpHttp, statsd, syslog, fluentd }: StatusReceivers): StatusReport['listeners'] {
  const { statsdUdp, statsdTcp, statsdUnix, statsdUnixStream } = statsd.addresses
  const addresses = {
    grpc: grpc.address,
    otlp_http: otlpHttp.address,
    statsd_udp: statsdUdp,
    statsd_tcp: statsdTcp,
    statsd_unix: statsdUnix,
    statsd_unix_stream: statsdUnixStream,
    syslog_udp: syslog?.addresses.udp,
    syslog_tcp: syslog?.addresses.tcp,
    syslog_tls: syslog?.addresses.tls,
    fluentd: fluentd?.address,
  }
  return Object.entries(addresses).flatMap(([name, address]) =>
    address === undefined ? [] : [{ name, address, state: 'listening' as const, error: null }],
  )
}

function sum(values: Iterable<number>): number {
  let total = 0
  for (const value of values) total += value
  return total
}
