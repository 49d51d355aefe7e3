import type { Clock } from '../../lib/clock.ts'
import { type ClientTlsConfig, clientTls } from '../../lib/tls.ts'
import type { Segment } from '../../pipeline/segment.ts'
import type { Log } from '../../telemetry/log.ts'
import { readBoot } from './boot.ts'
import { type ClickHouse, type ClickHouseOptions, createClickHouse } from './client.ts'
import { CLUSTER_READ_SETTINGS, migrateDistributed } from './cluster.ts'
import { createDayRollups, createNoDays, createShardedDays, type DayRollups } from './days.ts'
import type { Layout, Retention } from './ddl.ts'
import { createInserts } from './insert.ts'
import { migrate } from './migrations.ts'
import { createStoreRetention, type StoreRetention } from './retention.ts'
import { createShardedRetention } from './shard-retention.ts'
import { createShardedSink, readShardLayout } from './sharded-sink.ts'
import { type ClickHouseSink, createClickHouseSink } from './sink.ts'
import { discoverShards, type Shard, shardOf } from './topology.ts'

/**
 * The store, whatever it is: the embedded engine, a server (or several with the same data), or a cluster.
 *
 *              embedded        server(s)             cluster
 *   sink       one             one                   one for each shard, behind one (`sharded-sink.ts`)
 *   tables     `database`      `database`            local database on each server, Distributed ones in `database`
 *   questions  `database`      `database`            `database`, of any server
 */
export interface ClickHouseStore {
  /** What questions are put to, as the user that may only read. */
  readonly reader: ClickHouse
  /** Everything that is stored, as the user that writes. */
  readonly all: ClickHouse
  readonly sink: ClickHouseSink
  readonly disk: StoreRetention
  readonly days: DayRollups
  /** Brings all tables to the layout of this program. */
  migrate(signal: AbortSignal): Promise<void>
  close(): Promise<void>
}

/** `store.clickhouse` of the configuration. */
export interface ClickHouseConfig {
  /** One URL, or several with the same data separated by commas; empty: the embedded engine. */
  readonly url: string
  readonly database: string
  readonly username: string
  readonly password: string
  readonly token: string
  readonly tls: ClientTlsConfig
  readonly cluster: ClusterConfig
}

export interface ClusterConfig {
  /** In `remote_servers`; empty: no cluster. */
  readonly name: string
  /** Empty: `<database>_local`. */
  readonly localDatabase: string
  readonly replicated: boolean
  readonly keeperPath: string
  readonly replicaName: string
  /** Empty: as the servers tell. */
  readonly shards: readonly { readonly urls: readonly string[] }[]
  /** `insert_quorum`. */
  readonly quorum: string
}

/** The running embedded engine, as far as this folder has to know it. */
export interface EmbeddedEngine {
  readonly url: string
  readonly credentials: Readonly<Record<'reader' | 'writer', { readonly username: string; readonly password: string }>>
  onRestart(callback: () => void): () => void
}

export interface OpenOptions {
  readonly config: ClickHouseConfig
  readonly embedded: EmbeddedEngine | undefined
  /** The data directory. */
  readonly data: string
  readonly retention: Retention
  readonly diskBytesMax: number
  readonly insertTimeoutMs: number
  readonly keysMax: number
  /** Segments that were accepted and that the journal still keeps, oldest first. */
  readonly kept: () => readonly Segment[]
  readonly clock: Clock
  readonly log: Log
  readonly signal: AbortSignal
}

/** Throws SC4103 when a cluster's shards have to be asked for and no server answers. */
export async function openClickHouse(options: OpenOptions): Promise<ClickHouseStore> {
  const { config, embedded } = options
  if (embedded !== undefined) return await openEmbedded(options, embedded)
  return config.cluster.name === '' ? openServer(options) : await openCluster(options)
}

async function openEmbedded(options: OpenOptions, embedded: EmbeddedEngine): Promise<ClickHouseStore> {
  const { config, log } = options
  const client = (user: 'reader' | 'writer') =>
    createClickHouse({ url: () => embedded.url, database: config.database, ...embedded.credentials[user], log })
  const [writer, reader] = [client('writer'), client('reader')]
  const sink = createClickHouseSink({
    ...options,
    clickhouse: writer,
    readsFiles: true,
    boot: await readBoot(options.data),
  })
  embedded.onRestart(() => sink.engineStarted())
  return ofOneDatabase(options, { writer, reader, sink })
}

function openServer(options: OpenOptions): ClickHouseStore {
  const { config } = options
  const urls = urlsOf(config.url)
  const connect = connectorOf(options)
  let changed = () => {}
  const writer = connect({ url: urls, database: config.database, onServerChange: () => changed() })
  const reader = connect({ url: urls, database: config.database })
  const sink = createClickHouseSink({
    ...options,
    clickhouse: writer,
    readsFiles: false,
  })
  changed = () => sink.engineStarted()
  return ofOneDatabase(options, { writer, reader, sink })
}

function ofOneDatabase(
  options: OpenOptions,
  { writer, reader, sink }: { readonly writer: ClickHouse; readonly reader: ClickHouse; readonly sink: ClickHouseSink },
): ClickHouseStore {
  return {
    reader,
    all: writer,
    sink,
    disk: retentionOf(options, writer, sink, options.diskBytesMax),
    days: daysOf(options, writer),
    migrate: (signal) => migrated(options, writer, undefined, signal),
    close: () => closeAll([writer, reader]),
  }
}

async function openCluster(options: OpenOptions): Promise<ClickHouseStore> {
  const { config, data, log, kept } = options
  const { cluster, database } = config
  const urls = urlsOf(config.url)
  const connect = connectorOf(options)
  const layout: Layout = {
    cluster: cluster.name,
    replicated: cluster.replicated,
    keeperPath: cluster.keeperPath,
    replicaName: cluster.replicaName,
  }
  const localDatabase = cluster.localDatabase === '' ? `${database}_local` : cluster.localDatabase
  const readSettings = { ...CLUSTER_READ_SETTINGS }
  const reader = connect({ url: urls, database, readSettings })
  const all = connect({ url: urls, database, readSettings })
  const shards = await shardsOf(options, connect, urls)
  const stores = shards.map(({ urls: replicas }, index) => {
    let changed = () => {}
    const clickhouse = connect({
      url: replicas,
      database: localDatabase,
      onServerChange: () => changed(),
      ...(cluster.replicated && cluster.quorum !== '0' ? { writeSettings: { insert_quorum: cluster.quorum } } : {}),
    })
    const sink = createClickHouseSink({
      ...options,
      clickhouse,
      readsFiles: false,
      replicated: cluster.replicated,
      kept: () => kept().filter((segment) => shardOf(segment.id, shards.length) === index),
    })
    changed = () => sink.engineStarted()
    const disk = retentionOf(options, clickhouse, sink, Math.floor(options.diskBytesMax / shards.length))
    const days = cluster.replicated ? createNoDays() : daysOf(options, clickhouse)
    return { clickhouse, sink, disk, days }
  })
  log.info({ cluster: cluster.name, shards }, 'Segments go to the shards of a cluster')
  return {
    reader,
    all,
    sink: createShardedSink({
      shards: stores,
      layout: await readShardLayout(data, shards.length),
      clock: options.clock,
    }),
    disk: createShardedRetention(stores.map(({ disk }) => disk)),
    days: createShardedDays(stores.map(({ days }) => days)),
    async migrate(signal) {
      const local = connect({ url: urls, database: localDatabase })
      try {
        await migrated(options, local, layout, signal)
        await migrateDistributed({ clickhouse: all, localDatabase, layout, log, signal })
      } finally {
        await local.close()
      }
    },
    close: () => closeAll([reader, all, ...stores.map(({ clickhouse }) => clickhouse)]),
  }
}

async function shardsOf(options: OpenOptions, connect: Connect, urls: readonly string[]): Promise<readonly Shard[]> {
  const { cluster } = options.config
  if (cluster.shards.length > 0) return cluster.shards.map((shard, k) => ({ number: k + 1, urls: shard.urls }))
  // The database may not be there yet.
  const entry = connect({ url: urls, database: 'system' })
  try {
    return await discoverShards(entry, { cluster: cluster.name, like: urls[0]!, signal: options.signal })
  } finally {
    await entry.close()
  }
}

type Connect = (
  options: Pick<ClickHouseOptions, 'url' | 'database'> &
    Partial<Pick<ClickHouseOptions, 'onServerChange' | 'readSettings' | 'writeSettings'>>,
) => ClickHouse

function connectorOf({ config, log }: OpenOptions): Connect {
  const { username, password, token } = config
  const tls = clientTls(config.tls, 'store.clickhouse.tls')
  return (options) =>
    createClickHouse({
      username,
      password,
      ...(token === '' ? {} : { token }),
      log,
      compress: true,
      tls,
      ...options,
    })
}

/** `https://a:8443, https://b:8443` as a list. */
export function urlsOf(url: string): string[] {
  return url
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '')
}

function retentionOf(
  { log, clock }: OpenOptions,
  clickhouse: ClickHouse,
  sink: ClickHouseSink,
  diskBytesMax: number,
): StoreRetention {
  return createStoreRetention({ clickhouse, log, clock, diskBytesMax, exclusive: (work) => sink.exclusive(work) })
}

function daysOf({ retention, clock, log }: OpenOptions, clickhouse: ClickHouse): DayRollups {
  const inserts = createInserts({ clickhouse, readsFiles: false })
  return createDayRollups({ clickhouse, inserts, retention, clock, log })
}

async function migrated(
  { retention, log }: OpenOptions,
  clickhouse: ClickHouse,
  layout: Layout | undefined,
  signal: AbortSignal,
): Promise<void> {
  await migrate({ clickhouse, retention, log, signal, layout })
}

async function closeAll(clients: readonly ClickHouse[]): Promise<void> {
  await Promise.all(clients.map((client) => client.close()))
}
