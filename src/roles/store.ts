import { type ClickHouseStore, openClickHouse } from '../adapters/clickhouse/open.ts'
import type { Config } from '../config.ts'
import type { Clock } from '../lib/clock.ts'
import { parseDuration } from '../lib/units.ts'
import type { Bounds, RetentionMs } from '../live.ts'
import { createDelivery, type Delivery } from '../pipeline/delivery.ts'
import type { Journal } from '../pipeline/journal.ts'
import type { Store } from '../store/supervisor.ts'
import type { Log } from '../telemetry/log.ts'
import { openEngine } from './engine.ts'
import { createNoDelivery, createNoStore } from './no-store.ts'

/** The store that the journal is read for: the embedded engine, a server or a cluster; an edge has none. */
export interface OpenStoreOptions {
  readonly role: 'all' | 'edge'
  readonly config: Config
  /** The data directory. */
  readonly data: string
  readonly journal: Journal
  readonly retention: RetentionMs
  readonly bounds: Bounds
  readonly clock: Clock
  readonly log: Log
}

export interface OpenedStore {
  readonly embedded: Store | undefined
  readonly store: ClickHouseStore
  readonly delivery: Delivery
  /** The sink that makes rows safe for good: once it has them they count as stored. */
  readonly stored: 'clickhouse' | 'kafka'
}

/** Asking a store that is away costs next to nothing, and answers wait for it to be back. */
const STORE_RETRY_MAX_MS = 1000

export async function openStore(options: OpenStoreOptions): Promise<OpenedStore> {
  const { role, config, data, journal, retention, bounds, clock, log } = options
  if (role === 'edge') {
    return { embedded: undefined, store: createNoStore(), delivery: createNoDelivery(), stored: 'kafka' }
  }
  const embedded = openEngine(config, log)
  const store = await openClickHouse({
    config: config.store.clickhouse,
    embedded,
    data,
    retention,
    diskBytesMax: bounds.storeBytesMax,
    insertTimeoutMs: parseDuration(config.store.clickhouse.insertTimeout)!,
    keysMax: config.rollup.keysMax,
    kept: () => [...journal.segments({ ackedBy: 'clickhouse' })],
    clock,
    log,
    signal: AbortSignal.timeout(60_000),
  })
  const { freshFirst } = config.store
  const delivery = createDelivery({ sink: store.sink, journal, clock, log, freshFirst, retryMaxMs: STORE_RETRY_MAX_MS })
  return { embedded, store, delivery, stored: 'clickhouse' }
}
