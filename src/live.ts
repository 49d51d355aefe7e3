import type { Adapters } from './adapters.ts'
import type { Config } from './config.ts'
import { scrapeJobs } from './ingest/scrape/open.ts'
import type { ScrapeReceiver } from './ingest/scrape/receiver.ts'
import { parseBytes, parseDuration } from './lib/units.ts'
import type { SloBook } from './query/slo/book.ts'
import type { LivePart, TakeOver } from './reload.ts'
import { type Safety, senderLimits, TLS_OPTIONS, tlsConfigs } from './safety.ts'

/** What of a running process another configuration can reach, and how. What is not here takes a restart. */
export interface LiveOptions {
  readonly safety: Safety
  readonly redaction: { prepare(rules: Config['redaction']): () => void }
  readonly grpc: { setLimits(limits: { messageBytesMax: number; streamsMax: number }): void }
  readonly otlpHttp: { setLimits(limits: { bodyBytesMax: number; decompressedBytesMax: number }): void }
  readonly query: { setLimits(limits: { queriesMax: number; timeoutMs: number; memoryBytesMax: number }): void }
  readonly scrape: Pick<ScrapeReceiver, 'prepare'>
  readonly adapters: Pick<Adapters, 'prepare'>
  readonly slos: Pick<SloBook, 'prepare'>
  readonly alerts: { prepare(config: Config['alertmanager']): TakeOver }
  /** How long rows, rollups and stats are kept: everybody who asks reads it here, each time. */
  readonly retention: RetentionMs
  /** Tells the store; throws when it does not answer. */
  readonly applyRetention: () => Promise<void>
  /** Bounds that are read each time they are needed. */
  readonly bounds: Bounds
  readonly disk: { setBytesMax(bytesMax: number): void }
}

export interface RetentionMs {
  rowsMs: number
  minutesMs: number
  hoursMs: number
  metricsMs: number
}

/** What `src/adapters.ts` opens. */
const ADAPTERS = [
  'adapters.clickhouse',
  'adapters.prometheus.remoteWrite',
  'adapters.kafka',
  'adapters.otlp',
  'adapters.wavefront',
]

export interface Bounds {
  journalBytesMax: number
  storeBytesMax: number
}

export function queryLimits({ http }: Config) {
  return {
    queriesMax: http.queriesMax,
    timeoutMs: parseDuration(http.queryTimeout)!,
    memoryBytesMax: parseBytes(http.queryMemoryMax)!,
  }
}

export function boundsOf({ journal, store }: Config): Bounds {
  return { journalBytesMax: parseBytes(journal.disk.max)!, storeBytesMax: parseBytes(store.disk.max)! }
}

export function retentionOf({ retention }: Config): RetentionMs {
  return {
    rowsMs: parseDuration(retention.rows)!,
    minutesMs: parseDuration(retention.minutes)!,
    hoursMs: parseDuration(retention.hours)!,
    metricsMs: parseDuration(retention.metrics)!,
  }
}

export function liveParts(options: LiveOptions): LivePart[] {
  const { safety, redaction, grpc, otlpHttp, query, scrape, adapters, slos, alerts, bounds, disk } = options
  return [
    { paths: ['auth'], prepare: (next) => () => safety.tokens.replace(next.auth.tokens) },
    { paths: ['limits'], prepare: (next) => () => safety.senders.set(senderLimits(next)) },
    ...tlsParts(safety),
    { paths: ['redaction'], prepare: (next) => redaction.prepare(next.redaction) },
    {
      paths: ['ingest.grpc.messageMax', 'ingest.grpc.streamsMax'],
      prepare:
        ({ ingest }) =>
        () =>
          grpc.setLimits({
            messageBytesMax: parseBytes(ingest.grpc.messageMax)!,
            streamsMax: ingest.grpc.streamsMax,
          }),
    },
    {
      paths: ['ingest.otlpHttp.bodyMax', 'ingest.otlpHttp.decompressedMax'],
      prepare:
        ({ ingest }) =>
        () =>
          otlpHttp.setLimits({
            bodyBytesMax: parseBytes(ingest.otlpHttp.bodyMax)!,
            decompressedBytesMax: parseBytes(ingest.otlpHttp.decompressedMax)!,
          }),
    },
    {
      paths: ['http.queriesMax', 'http.queryTimeout', 'http.queryMemoryMax'],
      prepare: (next) => () => query.setLimits(queryLimits(next)),
    },
    { paths: ADAPTERS, prepare: (next) => adapters.prepare(next) },
    { paths: ['ingest.scrape'], prepare: (next) => scrape.prepare(scrapeJobs(next.ingest.scrape)) },
    {
      // Files under the same names may say something else.
      paths: ['slo.files'],
      always: true,
      prepare: ({ slo }) => slos.prepare(slo.files),
    },
    { paths: ['alertmanager'], prepare: (next) => alerts.prepare(next.alertmanager) },
    {
      paths: ['journal.disk.max', 'store.disk.max'],
      prepare: (next) => () => {
        Object.assign(bounds, boundsOf(next))
        disk.setBytesMax(bounds.storeBytesMax)
      },
    },
    { paths: ['retention'], last: true, prepare: (next) => takeRetention(options, next) },
  ]
}

/** Certificates and names of clients. A listener that had no TLS is not among them: it cannot get it while it is open. */
function tlsParts({ guards }: Safety): LivePart[] {
  return (Object.keys(TLS_OPTIONS) as (keyof typeof TLS_OPTIONS)[]).flatMap((name) => {
    const guard = guards.get(name)
    if (guard === undefined) return []
    const paths = (['cert', 'key', 'clientCa', 'allowedSans'] as const).map((key) => `${TLS_OPTIONS[name]}.${key}`)
    return [{ paths, prepare: (next: Config) => guard.prepare(tlsConfigs(next)[name]) }]
  })
}

/** The store drops by these times, so it has to be told before anybody counts on them. */
async function takeRetention({ retention, applyRetention }: LiveOptions, next: Config): Promise<() => void> {
  const before = { ...retention }
  Object.assign(retention, retentionOf(next))
  try {
    await applyRetention()
  } catch (cause) {
    Object.assign(retention, before)
    throw new Error(`retention: the store cannot be told: ${cause instanceof Error ? cause.message : cause}`, { cause })
  }
  return () => {}
}
