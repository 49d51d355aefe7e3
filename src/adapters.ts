import { hostname } from 'node:os'
import { isDeepStrictEqual } from 'node:util'
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

export interface Adapters extends Stage {
  /** Those that are configured now. */
  readonly list: readonly Adapter[]
  /**
   * Makes ready for another configuration: opens what is new or another one, and connects to nothing. Rejects when one cannot
   * be used. What it returns makes them count: each goes on at the cursor of the one that it replaces, so nothing is lost
   * and only what the old one had under way may be sent again. What waited only for one that is gone waits no more.
   */
  prepare(next: Config): Promise<() => Promise<void>>
}

/** What is under way has this long to be taken before another adapter goes on in its place. */
const REPLACE_MS = 5000

/** Asks for the readers of all of them: call it before the journal starts. */
export async function createAdapters({ config, ...rest }: AdaptersOptions): Promise<Adapters> {
  const shared: AdapterShared = { ...rest, host: hostname(), version: VERSION }
  const { journal } = rest
  const open = new Map<Kind, Adapter>()
  let current = config
  let isStarted = false

  async function openAll(kinds: readonly Kind[], from: Config): Promise<Map<Kind, Adapter>> {
    const opened = await Promise.all(kinds.map(async (kind) => [kind, await kind.open(from, shared)] as const))
    return new Map(opened.filter((pair): pair is readonly [Kind, Adapter] => pair[1] !== null))
  }

  async function replace(kind: Kind, next: Adapter | undefined): Promise<void> {
    const before = open.get(kind)
    if (before !== undefined) await stopAll(before, AbortSignal.timeout(REPLACE_MS))
    const sinks = new Set(next?.deliveries.map(({ sink }) => sink))
    for (const { sink } of before?.deliveries ?? []) if (!sinks.has(sink)) journal.dismissReader(sink)
    if (next === undefined) open.delete(kind)
    else {
      open.set(kind, next)
      if (isStarted) for (const stage of next.stages) await stage.start()
    }
  }

  for (const [kind, adapter] of await openAll(KINDS, config)) open.set(kind, adapter)
  return {
    name: 'adapters',
    get list() {
      return [...open.values()]
    },
    async start() {
      isStarted = true
      for (const { stages } of open.values()) for (const stage of stages) await stage.start()
    },
    async stop(deadline) {
      isStarted = false
      await Promise.all([...open.values()].map((adapter) => stopAll(adapter, deadline)))
    },
    async prepare(next) {
      const changed = KINDS.filter(({ section }) => !isDeepStrictEqual(section(current), section(next)))
      const opened = await openAll(changed, next)
      return async () => {
        current = next
        await Promise.all(changed.map((kind) => replace(kind, opened.get(kind))))
      }
    },
  }
}

async function stopAll({ stages }: Adapter, deadline: AbortSignal): Promise<void> {
  for (const stage of stages.toReversed()) await stage.stop(deadline)
}

interface Kind {
  readonly section: (config: Config) => unknown
  /** Null where it is not configured: `open.ts` of its folder says when it is. */
  readonly open: (config: Config, shared: AdapterShared) => Promise<Adapter | null>
}

/** One for each. */
const KINDS: readonly Kind[] = [
  {
    section: ({ adapters }) => adapters.clickhouse,
    open: async ({ adapters: { clickhouse } }, shared) =>
      clickhouse.url === ''
        ? null
        : (await import('./adapters/clickhouse/open-copies.ts')).openClickHouseCopies(clickhouse, shared),
  },
  {
    section: ({ adapters }) => adapters.prometheus.remoteWrite,
    open: async ({ adapters: { prometheus } }, shared) =>
      prometheus.remoteWrite.url === ''
        ? null
        : (await import('./adapters/remote-write/open.ts')).openRemoteWrite(prometheus.remoteWrite, shared),
  },
  {
    section: ({ adapters }) => adapters.kafka,
    open: async ({ adapters: { kafka } }, shared) =>
      kafka.brokers.length === 0 ? null : (await import('./adapters/kafka/open.ts')).openKafkaOut(kafka, shared),
  },
  {
    section: ({ adapters }) => adapters.otlp,
    open: async ({ adapters: { otlp } }, shared) =>
      otlp.endpoint === '' ? null : (await import('./adapters/otlp/open.ts')).openOtlp(otlp, shared),
  },
  {
    section: ({ adapters }) => adapters.wavefront,
    open: async ({ adapters: { wavefront } }, shared) =>
      wavefront.proxy === '' && wavefront.url === ''
        ? null
        : (await import('./adapters/wavefront/open.ts')).openWavefront(wavefront, shared),
  },
]
