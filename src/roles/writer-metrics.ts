import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client'
import type { ClickHouseSink } from '../adapters/clickhouse/sink.ts'
import type { SegmentReceiver } from '../ingest/segments/receiver.ts'
import type { Spool } from '../ingest/segments/spool.ts'
import type { TextPage } from '../query/ports.ts'
import { type AlertMetricsSource, alertMetrics } from '../telemetry/alert-metrics.ts'

/** What a process without receivers of Envoys says of itself: that it is there, and what a writer has done. */
export interface CentralMetricSources {
  readonly version: string
  readonly role: string
  /** Null where nothing is read from Kafka. */
  readonly segments: SegmentReceiver | null
  readonly spool: Spool | null
  readonly sink: ClickHouseSink
  readonly alerts: AlertMetricsSource
}

type Labelled = readonly (readonly [labels: Readonly<Record<string, string>>, value: number])[]

export function createCentralMetrics(sources: CentralMetricSources): () => Promise<TextPage> {
  const registers = [new Registry()]
  const registry = registers[0]!
  collectDefaultMetrics({ register: registry })
  const declare = (
    make: typeof Counter | typeof Gauge,
    name: string,
    help: string,
    read: () => number | Labelled,
    labelNames: string[] = [],
  ) => {
    const metric: Counter | Gauge = new make({
      name,
      help,
      labelNames,
      registers,
      collect() {
        metric.reset()
        const value = read()
        const all: Labelled = typeof value === 'number' ? [[{}, value]] : value
        for (const [labels, one] of all) metric.inc({ ...labels }, one)
      },
    })
  }
  const { version, role, segments, spool, sink } = sources
  alertMetrics(
    sources.alerts,
    (name, help, read, labels) => declare(Counter, name, help, read, labels),
    (name, help, read, labels) => declare(Gauge, name, help, read, labels),
  )
  declare(Gauge, 'sidecast_build_info', 'Version and role of the program', () => [[{ version, role }, 1]], [
    'version',
    'role',
  ])
  if (segments !== null && spool !== null) {
    const { counters } = segments
    declare(Counter, 'sidecast_writer_records_total', 'Records read from Kafka', () => counters.records)
    declare(Counter, 'sidecast_writer_bytes_total', 'Bytes of their values', () => counters.bytes)
    declare(
      Counter,
      'sidecast_writer_segments_total',
      'Segments by what became of them: whole = stored + refused + again + held',
      () => {
        const { whole, stored, refused, again, doubtful } = counters
        return Object.entries({ whole, stored, refused, again, doubtful }).map(([result, n]) => [{ result }, n])
      },
      ['result'],
    )
    declare(
      Counter,
      'sidecast_writer_rows_total',
      'Rows of requests and their like by what became of them',
      () => {
        const { wholeRows: whole, storedRows: stored, refusedRows: refused, againRows: again } = counters
        return Object.entries({ whole, stored, refused, again }).map(([result, n]) => [{ result }, n])
      },
      ['result'],
    )
    declare(
      Counter,
      'sidecast_writer_left_parts_total',
      'Records left behind, by reason',
      () => [...counters.leftParts].map(([reason, n]) => [{ reason }, n]),
      ['reason'],
    )
    declare(
      Counter,
      'sidecast_writer_left_segments_total',
      'Unfinished segments left behind, by reason',
      () => [...counters.leftSegments].map(([reason, n]) => [{ reason }, n]),
      ['reason'],
    )
    declare(Counter, 'sidecast_writer_retries_total', 'Attempts of the store that failed', () => counters.retries)
    declare(Counter, 'sidecast_writer_commits_total', 'Commits taken by the broker', () => counters.commits)
    declare(Counter, 'sidecast_writer_fenced_total', 'Commits that came too late', () => counters.fenced)
    declare(Counter, 'sidecast_writer_generations_total', 'Memberships of the group', () => counters.generations)
    declare(Counter, 'sidecast_writer_failures_total', 'Requests to Kafka that failed', () => counters.failures)
    declare(
      Gauge,
      'sidecast_writer_last_stored_timestamp_seconds',
      'When the store last took a segment',
      () => counters.lastMs / 1000,
    )
    declare(Gauge, 'sidecast_writer_partitions', 'Partitions that are ours', () => segments.partitions().length)
    declare(Gauge, 'sidecast_writer_lag_records', 'Records behind the end of them', () =>
      segments.partitions().reduce((sum, { lag }) => sum + Number(lag), 0),
    )
    declare(Gauge, 'sidecast_writer_unfinished_segments', 'Segments of which parts are here', () =>
      segments.partitions().reduce((sum, { unfinished }) => sum + unfinished, 0),
    )
    declare(
      Gauge,
      'sidecast_writer_spool_bytes',
      'Segments on disk, stored ones that are kept included',
      () => spool.bytes,
    )
    declare(
      Counter,
      'sidecast_writer_dead_letters_total',
      'Segments that the store refused for good',
      () => spool.deadLetters,
    )
    declare(Counter, 'sidecast_store_lookups_total', 'Segments whose rows were looked up', () => sink.counters.lookups)
    declare(
      Counter,
      'sidecast_store_days_missing_total',
      'Days of segments found missing and sent',
      () => sink.counters.daysMissing,
    )
    declare(
      Counter,
      'sidecast_store_days_wrong_total',
      'Days of segments found wrong and sent anew',
      () => sink.counters.daysWrong,
    )
  }
  return async () => ({ type: registry.contentType, body: await registry.metrics() })
}
