import { SidecastError } from '../../errors.ts'
import { nearest } from '../../lib/nearest.ts'
import type { EnvoyNames } from '../../metrics/envoy-names.ts'
import type { MetricStore } from '../../metrics/store.ts'
import type { Redaction } from '../../pipeline/redact.ts'
import type { SpanStore } from '../../pipeline/spans.ts'
import type { RejectedGroup } from '../als/rejected.ts'
import type { EntryWriter } from '../entry/entry.ts'
import type { Origins } from '../entry/origins.ts'
import type { GrpcService } from '../grpc/index.ts'
import type { LineParser } from '../lines/parser.ts'
import { TARGET_NAMES, targetOf } from './attribute-names.ts'
import type { SignalCounters } from './counters.ts'
import { createExporter, type Exporter } from './export.ts'
import { createLogsDecoder, type LogsCounters } from './logs.ts'
import type { Signal } from './messages.ts'
import { createMetricsDecoder, type MetricsCounters } from './metrics.ts'
import { createResourceReader } from './resource.ts'
import { createOtlpServices } from './services.ts'
import { createAttributeRedaction } from './span-redaction.ts'
import { createTracesDecoder, type TracesCounters } from './traces.ts'

/**
 * OTLP: access logs into rows, metrics into the metric store, spans into their table. `services` are for the gRPC port,
 * `exporter` for the HTTP server (`createOtlpHttpServer`).
 */
export interface OtlpReceiver {
  readonly services: readonly GrpcService[]
  readonly exporter: Exporter
  readonly counters: OtlpCounters
  /** What was refused lately, latest first. */
  rejected(): RejectedGroup[]
}

export interface OtlpCounters {
  readonly signals: Readonly<Record<Signal, SignalCounters>>
  readonly logs: Readonly<LogsCounters>
  readonly metrics: Readonly<MetricsCounters>
  readonly traces: Readonly<TracesCounters>
}

export interface OtlpReceiverOptions {
  /** A writer of its own: requests of other receivers must not wait for the rows of this one. */
  readonly writer: EntryWriter
  readonly spans: SpanStore
  readonly lane: {
    readonly gate: { readonly closed: boolean; onOpen(listener: () => void): void }
    synced(): Promise<void>
  }
  readonly metrics: MetricStore
  readonly names: EnvoyNames
  readonly origins: Origins
  readonly redaction: Redaction
  /** Makes what reads bodies that are lines, for each sender. */
  readonly createParser: () => LineParser
  /** `ingest.otlp.attributes`. Throws SC1205 for a column that there is not. */
  readonly attributes?: readonly { readonly attribute: string; readonly column: string }[]
  /** What Envoy's stats sink puts before names: `ingest.otlp.statsPrefix`. */
  readonly statsPrefix?: string
  /** Wall clock, ms. */
  readonly clock?: () => number
}

export function createOtlpReceiver(options: OtlpReceiverOptions): OtlpReceiver {
  const { writer, spans, lane, createParser, clock } = options
  const resources = createResourceReader({ origins: options.origins })
  const logs = createLogsDecoder({
    writer,
    resources,
    createParser,
    attributes: attributeMap(options.attributes ?? []),
  })
  const metrics = createMetricsDecoder({
    store: options.metrics,
    resources,
    names: options.names,
    prefix: options.statsPrefix ?? 'envoy',
  })
  const traces = createTracesDecoder({ store: spans, resources, redact: createAttributeRedaction(options.redaction) })
  const exporter = createExporter({
    logs,
    writer,
    metrics,
    traces,
    gate: lane.gate,
    rowsSynced: () => lane.synced(),
    metricsSynced: () => options.metrics.synced(),
    ...(clock === undefined ? {} : { clock }),
  })
  return {
    services: createOtlpServices(exporter),
    exporter,
    counters: {
      signals: exporter.counters,
      logs: logs.counters,
      metrics: metrics.counters,
      traces: traces.counters,
    },
    rejected: () => exporter.rejected(),
  }
}

function attributeMap(
  given: readonly { readonly attribute: string; readonly column: string }[],
): Record<string, string> {
  const map = Object.create(null) as Record<string, string>
  for (const [index, { attribute, column }] of given.entries()) {
    if (targetOf(column) === null) {
      const guess = nearest(column, TARGET_NAMES)
      throw new SidecastError('SC1205', `ingest.otlp.attributes[${index}].column: there is no column \`${column}\``, {
        help: guess === undefined ? 'docs/receivers/otlp.md lists them' : `did you mean \`${guess}\`?`,
      })
    }
    map[attribute] = column
  }
  return map
}
