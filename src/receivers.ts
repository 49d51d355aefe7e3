import type { Config } from './config.ts'
import { createAlsDecoder } from './ingest/als/decode.ts'
import { createLiveDecoder } from './ingest/als/live-decoder.ts'
import { createNodeReader } from './ingest/als/node.ts'
import { createAlsReceiver } from './ingest/als/receiver.ts'
import { createOrigins } from './ingest/entry/origins.ts'
import { createEntryWriter } from './ingest/entry/writer.ts'
import { openFluentd } from './ingest/fluentd/open.ts'
import { createGrpcServer, createHealthService } from './ingest/grpc/index.ts'
import { openConfiguredKafka } from './ingest/kafka/configured.ts'
import { openLines } from './ingest/lines/open.ts'
import { createPreset } from './ingest/lines/presets/index.ts'
import { createMetricsServiceReceiver } from './ingest/metrics-service/receiver.ts'
import { createOtlpHttpServer, createOtlpReceiver } from './ingest/otlp/index.ts'
import { createRemoteWriteReceiver } from './ingest/remote-write/receiver.ts'
import { openScrape } from './ingest/scrape/open.ts'
import { openStatsd } from './ingest/statsd/open.ts'
import type { StatsdAddresses } from './ingest/statsd/receiver.ts'
import { openSyslog } from './ingest/syslog/open.ts'
import type { Clock } from './lib/clock.ts'
import { parseBytes, parseDuration } from './lib/units.ts'
import { configuredTags } from './metrics/configured-tags.ts'
import { createEnvoyNames } from './metrics/envoy-names.ts'
import { ISTIO_TAGS } from './metrics/istio-tags.ts'
import type { MetricStore } from './metrics/store.ts'
import type { RowTable } from './model/schema.ts'
import type { Journal } from './pipeline/journal.ts'
import type { Lane } from './pipeline/lane.ts'
import type { Ledger } from './pipeline/ledger.ts'
import { createLiveRedaction } from './pipeline/live-redaction.ts'
import type { Stage } from './pipeline/sink.ts'
import type { SpanStore } from './pipeline/spans.ts'
import type { Safety } from './safety.ts'
import type { Log } from './telemetry/log.ts'
import { VERSION } from './version.ts'

/**
 * Everything that rows, stats and spans come in by. All access logs go through one decoder into the lane's builders, all
 * stats into the metric store; a receiver is made here, and gets what it needs as arguments.
 */
export interface ReceiversOptions {
  readonly config: Config
  /** The data directory. */
  readonly data: string
  readonly lane: Lane
  readonly journal: Journal
  readonly ledger: Ledger
  readonly metrics: MetricStore
  readonly spans: SpanStore
  readonly safety: Safety
  readonly clock: Clock
  readonly log: Log
}

export type ReceiverAddresses = { readonly grpc: string; readonly otlpHttp: string } & StatsdAddresses

export function createReceivers(options: ReceiversOptions) {
  const { config, data, lane, journal, ledger, metrics, spans, safety, clock, log } = options
  const nodes = createNodeReader()
  const redaction = createLiveRedaction(config.redaction)
  const rows = {
    decoder: createLiveDecoder(redaction, (rules) =>
      createAlsDecoder({
        builders: lane.builders,
        redaction: rules,
        onIdentifier: (bytes, start, end) => nodes.read(bytes, start, end),
      }),
    ),
    flush: (table: RowTable) => lane.flush(table),
    onDecoded: (node: string, decoded: number, rejected: number) => ledger.arrived(node, decoded, rejected),
  }
  const als = createAlsReceiver({ ...rows, gate: lane.gate })
  const tagRules = configuredTags(config.ingest.statsTags)
  const names = createEnvoyNames({ rules: tagRules })
  const origins = createOrigins()
  const otlp = createOtlpReceiver({
    writer: createEntryWriter(rows),
    spans,
    lane,
    metrics,
    names,
    origins,
    redaction,
    createParser: () => createPreset('auto')!,
    attributes: config.ingest.otlp.attributes,
    statsPrefix: config.ingest.otlp.statsPrefix,
  })
  const otlpHttp = createOtlpHttpServer({
    listen: config.ingest.otlpHttp.listen,
    exporter: otlp.exporter,
    access: safety.access('otlp-http'),
    limits: {
      bodyBytesMax: parseBytes(config.ingest.otlpHttp.bodyMax)!,
      decompressedBytesMax: parseBytes(config.ingest.otlpHttp.decompressedMax)!,
    },
    log,
  })
  const scrape = openScrape(config.ingest.scrape, {
    store: metrics,
    gate: lane.gate,
    userAgent: `sidecast/${VERSION}`,
    clock,
    log,
  })
  const lines = { origins, gate: lane.gate, onDecoded: rows.onDecoded, synced: () => lane.synced(), log }
  const fluentd = openFluentd(config.ingest.fluentd, {
    ...lines,
    access: safety.access('fluentd'),
    writer: createEntryWriter(rows),
  })
  const syslog = openSyslog(config.ingest.syslog, {
    ...lines,
    access: { tcp: safety.access('plain'), tls: safety.access('syslog-tls') },
    writer: createEntryWriter(rows),
  })
  const metricsService = createMetricsServiceReceiver({
    metrics,
    nodes,
    names: { envoy: names, istio: createEnvoyNames({ rules: ISTIO_TAGS }) },
    gate: lane.gate,
    counterValues: config.ingest.metricsService.counters,
  })
  const statsd = openStatsd({
    config: config.ingest.statsd,
    access: safety.access('statsd-tcp'),
    tagRules,
    metrics,
    gate: lane.gate,
    log,
  })
  const { files, stdin, logs } = openLines(config.ingest, {
    ...lines,
    newWriter: () => createEntryWriter(rows),
    lane,
    journal,
    stdin: () => process.stdin,
    clock,
  })
  const kafka = openConfiguredKafka(config.ingest.kafka, {
    ...lines,
    lane,
    journal,
    data,
    alsDecoder: (onIdentifier) =>
      createLiveDecoder(redaction, (rules) =>
        createAlsDecoder({ builders: lane.builders, redaction: rules, onIdentifier }),
      ),
    readNode: (bytes, start, end) => nodes.read(bytes, start, end),
    entryWriter: (decoder) => createEntryWriter({ ...rows, decoder }),
    clock,
  })
  const remoteWrite = createRemoteWriteReceiver({ store: metrics, gate: lane.gate, clock: () => clock.now() })
  const services = [...als.services, ...otlp.services, ...metricsService.services]
  const health = createHealthService(services.map((service) => service.name))
  const setServing = (serving: boolean): void => {
    for (const name of ['', ...services.map((service) => service.name)]) health.set(name, serving)
  }
  lane.gate.onClose(() => setServing(false))
  lane.gate.onOpen(() => setServing(true))
  const grpc = createGrpcServer({
    listen: config.ingest.grpc.listen,
    option: 'ingest.grpc.listen',
    services: [...services, health.service],
    access: safety.access('grpc'),
    limits: { messageBytesMax: parseBytes(config.ingest.grpc.messageMax)!, streamsMax: config.ingest.grpc.streamsMax },
    keepaliveMs: parseDuration(config.ingest.grpc.keepalive)!,
    streamAgeMs: parseDuration(config.ingest.grpc.streamAge)!,
    log,
  })

  return {
    als,
    grpc,
    otlp,
    otlpHttp,
    metricsService,
    statsd,
    scrape,
    fluentd,
    syslog,
    files,
    stdin,
    kafka,
    logs,
    remoteWrite,
    redaction,
    /** In the order in which they start; they stop the other way round, before the lane. */
    stages: [grpc, otlpHttp, statsd, scrape, fluentd, syslog, files, stdin, logs, ...kafka].filter(
      (stage): stage is NonNullable<typeof stage> & Stage => stage !== null,
    ),
    /** What `grpc.health.v1` answers. */
    setServing,
    /** Once they have started. */
    addresses: (): ReceiverAddresses => ({
      grpc: grpc.address,
      otlpHttp: otlpHttp.address,
      ...statsd.addresses,
    }),
  }
}
