import { hostname } from 'node:os'
import type { Config } from './config.ts'
import type { Clock } from './lib/clock.ts'
import type { Adapter, AdapterShared } from './pipeline/adapter.ts'
import type { Journal } from './pipeline/journal.ts'
import type { Stage } from './pipeline/sink.ts'
import type { Log } from './telemetry/log.ts'
import { VERSION } from './version.ts'

/**
 * Everything that goes out beside the store and the scrape page: of each configured target the sinks and their deliveries.
 * The code of an adapter is loaded when it is configured.
 */
export interface AdaptersOptions {
  readonly config: Config
  /** The data directory. */
  readonly data: string
  readonly journal: Journal
  readonly clock: Clock
  readonly log: Log
}

export interface Adapters {
  readonly list: readonly Adapter[]
  /** In the order in which they start; after the journal, before what fills it. */
  readonly stages: readonly Stage[]
}

/** Asks for the readers of all of them: call it before the journal starts. */
export async function createAdapters({ config, ...rest }: AdaptersOptions): Promise<Adapters> {
  const shared: AdapterShared = { ...rest, host: hostname(), version: VERSION }
  const opened: readonly (Adapter | null)[] = await Promise.all(OPEN.map((open) => open(config, shared)))
  const list = opened.filter((adapter) => adapter !== null)
  return { list, stages: list.flatMap(({ stages }) => stages) }
}

/** One line for each; `open.ts` of its folder says when it is configured. */
const OPEN: readonly ((config: Config, shared: AdapterShared) => Promise<Adapter | null>)[] = [
  async ({ adapters: { clickhouse } }, shared) =>
    clickhouse.url === ''
      ? null
      : (await import('./adapters/clickhouse/open-copies.ts')).openClickHouseCopies(clickhouse, shared),
  async ({ adapters: { prometheus } }, shared) =>
    prometheus.remoteWrite.url === ''
      ? null
      : (await import('./adapters/remote-write/open.ts')).openRemoteWrite(prometheus.remoteWrite, shared),
  async ({ adapters: { kafka } }, shared) =>
    kafka.brokers.length === 0 ? null : (await import('./adapters/kafka/open.ts')).openKafkaOut(kafka, shared),
  async ({ adapters: { otlp } }, shared) =>
    otlp.endpoint === '' ? null : (await import('./adapters/otlp/open.ts')).openOtlp(otlp, shared),
  async ({ adapters: { wavefront } }, shared) =>
    wavefront.proxy === '' && wavefront.url === ''
      ? null
      : (await import('./adapters/wavefront/open.ts')).openWavefront(wavefront, shared),
]
