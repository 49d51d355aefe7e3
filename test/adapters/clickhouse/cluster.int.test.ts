import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer as createHttpServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import { zstdDecompressSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { type ClickHouse, createClickHouse } from '../../../src/adapters/clickhouse/client.ts'
import { migrate } from '../../../src/adapters/clickhouse/migrations.ts'
import { openClickHouse } from '../../../src/adapters/clickhouse/open.ts'
import { createShardedSink, readShardLayout, type ShardLayout } from '../../../src/adapters/clickhouse/sharded-sink.ts'
import { type ClickHouseSink, createClickHouseSink } from '../../../src/adapters/clickhouse/sink.ts'
import { discoverShards, shardOf } from '../../../src/adapters/clickhouse/topology.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { clientTls } from '../../../src/lib/tls.ts'
import type { Segment } from '../../../src/pipeline/segment.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { makeCertificates } from '../../support/certificates.ts'
import {
  createTestDatabase,
  disagreements,
  never,
  RETENTION,
  storedBySegment,
  type TestDatabase,
} from '../../support/clickhouse.ts'
import { openRequestsRig } from '../../support/requests-rig.ts'
import { startTestStore, type TestStore } from '../../support/store.ts'

/** Two engines: the shards of a cluster. What is between servers (Keeper, Distributed) is not here. */
let engines: TestStore[]
/** The same ones for every test: each has databases of its own. */
let pool: Segment[]
const ending: (() => unknown)[] = []
const POOL = 12
const ROWS = 200

beforeAll(async () => {
  engines = [await startTestStore({ keep: true }), await startTestStore({ keep: true })]
  const rig = await openRequestsRig({ onEnd: (work) => ending.push(work) })
  pool = []
  for (let seq = 1; seq <= POOL; seq++) pool.push(await rig.seal(ROWS))
})
afterAll(async () => {
  for (const work of ending.reverse()) await work()
  await Promise.all(engines.map((engine) => engine.stop()))
})

const ACCEPTED = { status: 'accepted' }
const SAME: ShardLayout = { same: true, remember: async () => {} }

/** Sealed after this process has started, unless told otherwise. */
function segments(from: number, to: number, openedMs = Date.now() + 600_000): Segment[] {
  return pool.slice(from, to).map((segment) => ({ ...segment, openedMs }))
}

interface Relay {
  readonly url: string
  /** Where connections go from now on; those that are open end. Undefined: nowhere, they are refused. */
  to(target: string | undefined): void
}

/** An address that stays while the server behind it goes and comes. */
async function startRelay(target: string): Promise<Relay> {
  let now: string | undefined = target
  const open = new Set<Socket>()
  const server = createServer((from) => {
    if (now === undefined) return void from.destroy()
    const { hostname, port } = new URL(now)
    const to = connect(Number(port), hostname)
    for (const socket of [from, to]) {
      open.add(socket)
      socket.on('close', () => open.delete(socket))
      socket.on('error', () => {})
    }
    from.pipe(to).pipe(from)
    from.on('close', () => to.destroy())
    to.on('close', () => from.destroy())
  })
  await listening(server)
  onTestFinished(() => {
    for (const socket of open) socket.destroy()
    server.close()
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    to(next) {
      now = next
      for (const socket of open) socket.destroy()
    },
  }
}

async function listening(server: Server | ReturnType<typeof createServer>): Promise<void> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
}

function client(
  engine: TestStore,
  database: string,
  url: string | readonly string[],
  onServerChange = () => {},
): ClickHouse {
  const clickhouse = createClickHouse({
    url,
    database,
    ...engine.store.credentials.writer,
    log: silentLog,
    compress: true,
    onServerChange,
  })
  onTestFinished(() => clickhouse.close())
  return clickhouse
}

interface Shard {
  readonly database: TestDatabase
  readonly clickhouse: ClickHouse
  readonly sink: ClickHouseSink
}

async function shard(
  engine: TestStore,
  options: { url?: string; kept?: () => readonly Segment[] } = {},
): Promise<Shard> {
  const database = await createTestDatabase(engine)
  let changed = () => {}
  const clickhouse = client(engine, database.clickhouse.database, options.url ?? engine.store.url, () => changed())
  const sink = createClickHouseSink({
    clickhouse,
    log: silentLog,
    clock: systemClock,
    readsFiles: false,
    retention: RETENTION,
    kept: options.kept ?? (() => []),
    keysMax: 10_000,
  })
  changed = () => sink.engineStarted()
  onTestFinished(() => sink.stop(AbortSignal.timeout(5000)))
  return { database, clickhouse, sink }
}

async function cluster(shards: readonly Shard[], layout = SAME): Promise<ClickHouseSink> {
  const sink = createShardedSink({ shards, layout, clock: systemClock })
  await sink.start()
  return sink
}

async function sendAll(sink: ClickHouseSink, all: readonly Segment[], tries = 60): Promise<void> {
  for (const segment of all) {
    for (let left = tries; ; left--) {
      const outcome = await sink.send(segment, never)
      if (outcome.status === 'accepted') break
      if (left === 0 || outcome.status === 'rejected') throw outcome.error
      await systemClock.sleep(100)
    }
  }
}

/** Where each segment is: `id → rows by shard`. */
async function placed(shards: readonly Shard[]): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>()
  for (const [k, { database }] of shards.entries()) {
    for (const [id, rows] of await storedBySegment(database)) {
      const at = found.get(id) ?? shards.map(() => 0)
      at[k] = rows
      found.set(id, at)
    }
  }
  return found
}

function expected(all: readonly Segment[], shards: number): Map<string, number[]> {
  return new Map(
    all.map(({ id }) => [id, Array.from({ length: shards }, (_, k) => (k === shardOf(id, shards) ? ROWS : 0))]),
  )
}

const sorted = (map: Map<string, number[]>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1))

describe('tables sharded by segment id', () => {
  it('have each segment whole on the shard that its id says, as the engine computes it', async () => {
    const shards = [await shard(engines[0]!), await shard(engines[1]!)]
    const sink = await cluster(shards)
    const all = segments(0, 8)
    await sendAll(sink, all)
    expect(sorted(await placed(shards))).toEqual(sorted(expected(all, 2)))
    for (const [k, { database }] of shards.entries()) {
      const ids = await database.rows<{ shard: number }>('SELECT DISTINCT CRC32(segment) % 2 AS shard FROM requests')
      expect(ids.map((row) => Number(row.shard))).toEqual([k])
      expect(await disagreements(database)).toEqual([])
    }
    expect(sink.counters).toMatchObject({ segments: 8, retries: 0, rows: { requests: 8 * ROWS } })
  })

  it('lose nothing and double nothing when a shard is killed in the middle and comes back', async () => {
    const shards = [await shard(engines[0]!), await shard(engines[1]!)]
    const sink = await cluster(shards)
    const all = segments(0, POOL)
    await sendAll(sink, all.slice(0, 4))
    const sending = sendAll(sink, all.slice(4), 300)
    await systemClock.sleep(30)
    process.kill(engines[1]!.store.pid!, 'SIGKILL')
    await sending
    expect(sorted(await placed(shards))).toEqual(sorted(expected(all, 2)))
    for (const { database } of shards) expect(await disagreements(database)).toEqual([])
  })

  it('have the segments of late again on a server that replaces a lost one', async () => {
    const lost = await startTestStore()
    const relay = await startRelay(lost.store.url)
    const kept: Segment[] = []
    const first = await shard(engines[0]!)
    const second = await shard(lost, {
      url: relay.url,
      kept: () => kept.filter(({ id }) => shardOf(id, 2) === 1),
    })
    const sink = await cluster([first, second])
    const all = segments(0, 6)
    await sendAll(sink, all)
    kept.push(...all)

    // Its disk is gone with it: the new one has the tables and nothing else. It has the same passwords, as a server would.
    await lost.stop()
    const dir = await mkdtemp(join(tmpdir(), 'sidecast-replaced-'))
    onTestFinished(() => rm(dir, { recursive: true, force: true }))
    const replacement = await startTestStore({ dir })
    const name = second.database.clickhouse.database
    const there = createClickHouse({
      url: replacement.store.url,
      database: name,
      ...replacement.store.credentials.writer,
      log: silentLog,
    })
    onTestFinished(() => there.close())
    await migrate({ clickhouse: there, retention: RETENTION, log: silentLog, signal: never })
    const bridge = await startFront(replacement.store.url, replacement.store.credentials.writer.password)
    relay.to(bridge)

    sink.engineStarted()
    const more = segments(6, 9)
    await sendAll(sink, more, 300)
    expect(await sink.settle(never)).toEqual(ACCEPTED)
    const again: TestDatabase = {
      ...second.database,
      clickhouse: there,
      async rows(sql, params = {}) {
        return (await there.query<never>({ sql, params }, { signal: never })).rows
      },
    }
    expect(sorted(await placed([first, { ...second, database: again }]))).toEqual(
      sorted(expected([...all, ...more], 2)),
    )
    expect(await disagreements(again)).toEqual([])
  })

  it('are looked for on every shard after there were others, and then no more', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'sidecast-layout-'))
    onTestFinished(() => rm(dir, { recursive: true, force: true }))
    const shards = [await shard(engines[0]!), await shard(engines[1]!)]
    const old = segments(0, 3, Date.now() - 60_000)
    // A process before this one knew the first shard alone, and learnt of none of its answers.
    await sendAll(await cluster(shards.slice(0, 1)), old)

    const layout = await readShardLayout(dir, 2)
    expect(layout.same).toBe(false)
    const sink = await cluster(shards, layout)
    await sendAll(sink, old)
    expect([...(await placed(shards)).values()]).toEqual(old.map(() => [ROWS, 0]))
    expect((await readShardLayout(dir, 2)).same).toBe(false)
    const young = segments(3, 7)
    await sendAll(sink, young)
    expect((await readShardLayout(dir, 2)).same).toBe(true)
    expect((await readShardLayout(dir, 3)).same).toBe(false)
    for (const { id } of young) expect((await placed(shards)).get(id)).toEqual(expected(young, 2).get(id))
  })
})

/**
 * A server whose writer may have another password, and what is between servers: there is nothing to wait for, a statement
 * for all servers is for this one, and a Distributed table has the rows of this shard.
 */
async function startFront(target: string, password: string): Promise<string> {
  const server = createHttpServer(async (incoming, outgoing) => {
    const chunks: Buffer[] = []
    for await (const chunk of incoming) chunks.push(chunk as Buffer)
    const headers: Record<string, string> = {}
    for (const [name, value] of Object.entries(incoming.headers)) {
      if (typeof value === 'string' && !['host', 'connection', 'transfer-encoding', 'content-length'].includes(name))
        headers[name] = value
    }
    headers.authorization = `Basic ${Buffer.from(`writer:${password}`).toString('base64')}`
    headers['accept-encoding'] = 'identity'
    const url = new URL(incoming.url ?? '/', target)
    for (const name of [...url.searchParams.keys()]) if (BETWEEN_SERVERS.test(name)) url.searchParams.delete(name)
    const sent = Buffer.concat(chunks)
    const body = headers['content-encoding'] === 'zstd' ? zstdDecompressSync(sent) : sent
    delete headers['content-encoding']
    const text = body.toString('latin1')
    if (`${url} ${text}`.includes('SYNC')) return void outgoing.end()
    const alone = text.includes(ON_CLUSTER)
      ? Buffer.from(
          body
            .toString()
            .replace(ON_CLUSTER, '')
            .replace(...ONE_SHARD),
        )
      : body
    const answer = await fetch(url, {
      method: incoming.method ?? 'GET',
      headers,
      ...(incoming.method === 'GET' ? {} : { body: alone }),
    })
    const passed = [...answer.headers].filter(
      ([name]) => !['transfer-encoding', 'content-length', 'connection'].includes(name),
    )
    outgoing.writeHead(answer.status, Object.fromEntries(passed))
    outgoing.end(Buffer.from(await answer.arrayBuffer()))
  })
  await listening(server)
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const ON_CLUSTER = ' ON CLUSTER `mesh`'
const BETWEEN_SERVERS = /^(distributed_|skip_unavailable_shards|fallback_to_stale)/
const ONE_SHARD = [/ENGINE = Distributed\('mesh', ('\w+'), '(\w+)', [^)]*\)+$/, "ENGINE = Merge($1, '^$2$$')"] as const

describe('a cluster of the configuration', () => {
  it('is made, written to shard by shard, and asked', async () => {
    const front = ({ store }: TestStore) => startFront(store.url, store.credentials.writer.password)
    const fronts = [await front(engines[0]!), await front(engines[1]!)]
    const data = await mkdtemp(join(tmpdir(), 'sidecast-cluster-'))
    onTestFinished(() => rm(data, { recursive: true, force: true }))
    const database = `cluster_${process.pid}`
    const open = (url: string) =>
      openClickHouse({
        config: {
          url,
          database,
          username: 'writer',
          password: 'another one',
          token: '',
          tls: {},
          cluster: {
            name: 'mesh',
            localDatabase: '',
            replicated: false,
            keeperPath: '/{shard}',
            replicaName: '{replica}',
            shards: fronts.map((one) => ({ urls: [one] })),
            quorum: '0',
          },
        },
        embedded: undefined,
        data,
        retention: RETENTION,
        diskBytesMax: 2 ** 30,
        insertTimeoutMs: 30_000,
        keysMax: 10_000,
        kept: () => [],
        clock: systemClock,
        log: silentLog,
        signal: never,
      })
    // Each server by itself, because nothing brings the statements of one to the other.
    const [store, other] = [await open(fronts[0]!), await open(fronts[1]!)]
    onTestFinished(async () => {
      await Promise.all([store.close(), other.close()])
    })
    for (const one of [store, other, store]) await one.migrate(never)
    await store.sink.start()
    onTestFinished(() => store.sink.stop(AbortSignal.timeout(5000)))
    const all = segments(0, 6)
    await sendAll(store.sink, all)
    for (const [k, { reader }] of [store, other].entries()) {
      const mine = all.filter(({ id }) => shardOf(id, 2) === k)
      const { rows } = await reader.query<{ n: number; minutes: number; known: number }>(
        {
          sql: `SELECT count() AS n, (SELECT sum(n) FROM latency_1m) AS minutes, countIf(phases_known) AS known FROM requests
            WHERE segment IN (SELECT DISTINCT segment FROM requests)`,
          params: {},
        },
        { signal: never },
      )
      expect(rows).toEqual([{ n: mine.length * ROWS, minutes: mine.length * ROWS, known: expect.any(Number) }])
    }
    const usage = await store.disk.enforce(never)
    expect(usage.bytes).toBeGreaterThan(0)
    expect(usage).toMatchObject({ bytesMax: 2 ** 30, over: false, partitionsDropped: 0 })
  })
})

describe('replicas of a shard', () => {
  it('are asked one after the other; what writes is not sent twice by the client', async () => {
    const [a, b] = [await startRelay(engines[0]!.store.url), await startRelay(engines[0]!.store.url)]
    let changes = 0
    const database = await createTestDatabase(engines[0]!)
    const clickhouse = client(engines[0]!, database.clickhouse.database, [a.url, b.url], () => changes++)
    const count = async () =>
      (await clickhouse.query<{ n: number }>({ sql: 'SELECT 1 AS n', params: {} }, { signal: never })).rows[0]!.n
    expect(await count()).toBe(1)
    a.to(undefined)
    // A question finds the other one by itself.
    expect(await count()).toBe(1)
    expect(changes).toBe(1)
    b.to(undefined)
    a.to(engines[0]!.store.url)
    // A statement that writes fails once: whoever sent it has to look what became of it.
    const write = () =>
      clickhouse.execute({ sql: "INSERT INTO state (name, value) SELECT 'x', '1'", params: {} }, { signal: never })
    await expect(write()).rejects.toMatchObject({ code: 'SC4103' })
    await write()
    expect(await clickhouse.ping(never)).toBe(true)
  })

  it('take a segment over in the middle, once', async () => {
    const front = await startFront(engines[0]!.store.url, engines[0]!.store.credentials.writer.password)
    const [a, b] = [await startRelay(front), await startRelay(front)]
    const database = await createTestDatabase(engines[0]!)
    const clickhouse = client(engines[0]!, database.clickhouse.database, [a.url, b.url])
    const sink = await database.sink({ clickhouse, readsFiles: false, replicated: true })
    const all = segments(0, 10)
    const sending = sendAll(sink, all)
    for (const relay of [a, b, a, b]) {
      await systemClock.sleep(120)
      relay.to(undefined)
      await systemClock.sleep(60)
      relay.to(front)
    }
    await sending
    expect([...(await storedBySegment(database)).values()]).toEqual(all.map(() => ROWS))
    expect(await sink.settle(never)).toEqual(ACCEPTED)
    expect(await disagreements(database)).toEqual([])
  })

  it('are reached over TLS by those who know their authority, and by nobody else', async () => {
    const certificates = makeCertificates()
    onTestFinished(() => certificates.remove())
    const { cert, key } = certificates.pair('server')
    const target = new URL(engines[0]!.store.url)
    const server = createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) }, (from) => {
      const to = connect(Number(target.port), target.hostname)
      from.pipe(to).pipe(from)
      for (const [socket, other] of [[from, to] as const, [to, from] as const]) {
        socket.on('error', () => {})
        socket.on('close', () => other.destroy())
      }
    })
    await listening(server)
    onTestFinished(() => void server.close())
    const url = `https://localhost:${(server.address() as AddressInfo).port}`
    const asking = (ca: string) => {
      const tls = clientTls({ ca }, 'store.clickhouse.tls')
      const clickhouse = createClickHouse({
        url,
        database: 'system',
        ...engines[0]!.store.credentials.writer,
        log: silentLog,
        tls,
      })
      onTestFinished(() => clickhouse.close())
      return clickhouse.query<{ n: number }>({ sql: 'SELECT 1 AS n', params: {} }, { signal: never })
    }
    expect((await asking(certificates.ca)).rows).toEqual([{ n: 1 }])
    await expect(asking('')).rejects.toMatchObject({ code: 'SC4103', message: expect.stringContaining('certificate') })
  })

  it('are found in system.clusters, with protocol and port of the URL that was asked', async () => {
    const clickhouse = client(engines[0]!, 'system', engines[0]!.store.url)
    await expect(
      discoverShards(clickhouse, { cluster: 'mesh', like: 'https://a:8443', signal: never }),
    ).rejects.toThrow('cluster mesh is not known')
  })
})

describe('several writers of one database', () => {
  it('make its tables at the same time', async () => {
    const database = `together_${process.pid}`
    const clients = Array.from({ length: 4 }, () => client(engines[1]!, database, engines[1]!.store.url))
    const done = await Promise.all(
      clients.map((clickhouse) => migrate({ clickhouse, retention: RETENTION, log: silentLog, signal: never })),
    )
    expect(done.map(({ to }) => to)).toEqual(done.map(() => done[0]!.to))
    const again = await migrate({ clickhouse: clients[0]!, retention: RETENTION, log: silentLog, signal: never })
    expect(again.changed).toEqual([])
  })

  it('store rows and rollups once, with connections that break', async () => {
    const database = await createTestDatabase(engines[0]!)
    const name = database.clickhouse.database
    const front = await startFront(engines[0]!.store.url, engines[0]!.store.credentials.writer.password)
    const writers = await Promise.all(
      [1, 2, 3].map(async () => {
        const relay = await startRelay(front)
        const clickhouse = client(engines[0]!, name, relay.url)
        return { relay, sink: await database.sink({ clickhouse, readsFiles: false, replicated: true }) }
      }),
    )
    const work: { sink: ClickHouseSink; all: Segment[] }[] = []
    for (const [k, { sink }] of writers.entries()) work.push({ sink, all: segments(k * 4, k * 4 + 4) })
    const sending = Promise.all(work.map(({ sink, all }) => sendAll(sink, all, 200)))
    for (let k = 0; k < 9; k++) {
      await systemClock.sleep(150)
      writers[k % writers.length]!.relay.to(front)
    }
    await sending
    for (const { sink } of writers) {
      for (let left = 20; left > 0 && (await sink.settle(never)).status !== 'accepted'; left--)
        await systemClock.sleep(100)
    }
    expect([...(await storedBySegment(database)).values()]).toEqual(pool.map(() => ROWS))
    expect(writers.map(({ sink }) => sink.counters.retries).reduce((a, b) => a + b)).toBeGreaterThan(0)
    expect(await disagreements(database)).toEqual([])
  })
})
