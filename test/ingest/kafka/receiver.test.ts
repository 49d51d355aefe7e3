import { expect, onTestFinished, test } from 'vitest'
import { createAlsDecoder } from '../../../src/ingest/als/decode.ts'
import { UNKNOWN_ORIGIN } from '../../../src/ingest/als/node.ts'
import { createOrigins } from '../../../src/ingest/entry/origins.ts'
import { createEntryWriter } from '../../../src/ingest/entry/writer.ts'
import { createLineRecords } from '../../../src/ingest/kafka/line-records.ts'
import { createKafkaReceiver } from '../../../src/ingest/kafka/receiver.ts'
import type { LineParser } from '../../../src/ingest/lines/parser.ts'
import { createBatchBuilder } from '../../../src/model/batch-builder.ts'
import { ROW_TABLES, type RowTable } from '../../../src/model/schema.ts'
import type { Note } from '../../../src/pipeline/journal-format.ts'
import { createRedaction } from '../../../src/pipeline/redact.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { echoResolver, rowsOf } from '../../support/als-decoding.ts'
import { ManualClock, NEVER } from '../../support/journal.ts'
import { FakeCluster, FakeDriver } from '../../support/kafka-driver.ts'

const PATHS: LineParser = {
  name: 'paths',
  precisionNs: 1e6,
  source: 'text',
  parse(line, entry) {
    if (!line.startsWith('/')) return 'unmatched'
    entry.startSeconds = 1_767_225_600
    entry.durationNs = 1e6
    entry.code = 200
    entry.path = line
    return null
  },
}

/** A disk that keeps what was flushed: rows and notes of a life that a kill ends go with it, what was flushed stays. */
class Disk {
  readonly paths: string[] = []
  readonly notes = new Map<string, unknown>()
}

/** One process: a receiver over a lane that flushes to the disk; builders hold two rows. */
async function life(cluster: FakeCluster, disk: Disk, options: { owner?: string; rowsMax?: number } = {}) {
  const { owner = 'me', rowsMax = 2 } = options
  const resolver = echoResolver()
  const builders = Object.fromEntries(
    ROW_TABLES.map((table) => [table, createBatchBuilder({ table, rowsMax, resolver })]),
  ) as Record<RowTable, ReturnType<typeof createBatchBuilder>>
  const opened: (() => void)[] = []
  const gate = { closed: false, onOpen: (listener: () => void) => opened.push(listener), onClose: () => {} }
  let source: { notes(): readonly Note[]; noted(): void } | null = null
  let dead = false
  const flush = (table: RowTable): boolean => {
    if (dead) return false
    if (builders[table].rows === 0) return true
    if (gate.closed) return false
    for (const [key, value] of source?.notes() ?? []) disk.notes.set(key, JSON.parse(JSON.stringify(value)))
    source?.noted()
    disk.paths.push(...rowsOf(builders[table]).map(({ path }) => String(path)))
    builders[table].reset()
    return true
  }
  const lane = {
    gate,
    synced: async () => {
      for (const table of ROW_TABLES) if (!flush(table)) throw new Error('no room')
    },
    addNoteSource: (given: typeof source & object) => {
      source = given
      return () => {
        source = null
      }
    },
  }
  const decoder = createAlsDecoder({ builders, redaction: createRedaction(), onIdentifier: () => UNKNOWN_ORIGIN })
  const writer = createEntryWriter({ decoder, flush })
  const driver = new FakeDriver(cluster, 'g')
  const clock = new ManualClock()
  const receiver = createKafkaReceiver({
    group: 'g',
    topics: ['t'],
    driver,
    decoder: (callbacks) =>
      createLineRecords({
        parser: PATHS,
        writer,
        origins: createOrigins(),
        node: '',
        onDecoded: () => {},
        ...callbacks,
      }),
    lane,
    journal: { notes: (prefix) => [...disk.notes].filter(([key]) => key.startsWith(prefix)) },
    owner,
    takeoverMs: 60_000,
    clock,
    log: silentLog,
  })
  await receiver.start()
  await clock.pass(1)
  onTestFinished(async () => {
    gate.closed = false
    for (const listener of opened) listener()
    await receiver.stop(NEVER)
  })
  return {
    driver,
    receiver,
    clock,
    handlers: driver.handlers,
    close: () => {
      gate.closed = true
    },
    open: () => {
      gate.closed = false
      for (const listener of opened) listener()
    },
    /** What is not on the disk by now never will be. */
    kill: () => {
      dead = true
      gate.closed = true
      driver.fenced = true
    },
  }
}

const P0 = [{ topic: 't', partition: 0 }]

test('claims, stores, settles; what cannot be read is counted and stops nothing', async () => {
  const cluster = new FakeCluster()
  const disk = new Disk()
  const { driver, handlers, receiver } = await life(cluster, disk)
  expect(await handlers.begin(P0)).toEqual([{ topic: 't', partition: 0, at: null }])
  const values = ['/a', 'poison', null, '', '/b\n/c\r\n\n/d', Buffer.from([0xff, 0xfe, 0x0a])]
  expect(await handlers.records([driver.batch(0, 7, values)])).toBe(true)
  expect(disk.paths).toEqual(['/a', '/b', '/c', '/d'])
  expect(cluster.log).toEqual([expect.stringMatching(/^g 0 7 sidecast me [0-9a-f]{12}-1$/), 'g 0 13 '])
  expect(receiver.counters).toMatchObject({ records: 6, rows: 4, tombstones: 2, claims: 1, commits: 2, fenced: 0 })
  expect([...receiver.counters.rejected]).toEqual([['unmatched', 2]])
  expect(receiver.rejected()[0]).toMatchObject({ reason: 'unmatched', peer: 'kafka:t/0@12' })
  expect(receiver.partitions()).toEqual([{ topic: 't', partition: 0, offset: 13n, lag: 5n, waitsSinceMs: null }])
})

test('a claim that is refused stores nothing', async () => {
  const cluster = new FakeCluster()
  const disk = new Disk()
  const { driver, handlers } = await life(cluster, disk)
  await handlers.begin(P0)
  driver.fenced = true
  expect(await handlers.records([driver.batch(0, 0, ['/a'])])).toBe(false)
  expect(disk.paths).toEqual([])
})

test('a broker that is away for a moment is asked again', async () => {
  const cluster = new FakeCluster()
  const disk = new Disk()
  const { driver, handlers, clock } = await life(cluster, disk)
  await handlers.begin(P0)
  driver.failures = 2
  const taken = handlers.records([driver.batch(0, 0, ['/a'])])
  await clock.pass(5000)
  expect(await taken).toBe(true)
  expect(disk.paths).toEqual(['/a'])
})

/** A value of five lines among others; the process dies when `flushed` rows are on the disk. */
test.each([0, 2, 4, 6])(
  'killed in the middle of a record, with %i rows on the disk: goes on behind them',
  async (flushed) => {
    const cluster = new FakeCluster()
    const disk = new Disk()
    const values = ['/0', '/1\n/2\n/3\n/4\n/5', '/6']
    const first = await life(cluster, disk)
    await first.handlers.begin(P0)
    const paths = disk.paths
    // Dies by itself: every flush after so many rows fails as it would for a process that is no more.
    const push = paths.push.bind(paths)
    paths.push = (...items) => {
      const count = push(...items)
      if (count >= flushed) first.kill()
      return count
    }
    if (flushed === 0) first.kill()
    void first.handlers.records([first.driver.batch(0, 10, values)])
    await first.clock.pass(10)
    paths.push = push
    expect(paths).toHaveLength(flushed)
    if (flushed === 0) {
      // Not even claimed.
      expect(cluster.log).toEqual([])
      return
    }
    const second = await life(cluster, disk)
    const [begin] = await second.handlers.begin(P0)
    const at = Number(begin!.at)
    expect(at).toBe(flushed < 6 ? 11 : 12)
    expect(await second.handlers.records([second.driver.batch(0, at, values.slice(at - 10))])).toBe(true)
    expect([...paths]).toEqual(['/0', '/1', '/2', '/3', '/4', '/5', '/6'])
    expect(second.receiver.counters.takeovers).toEqual(new Map([['own', 1]]))
  },
)

test('another consumer waits for the word of the one that claimed, and goes on where that one stopped', async () => {
  const cluster = new FakeCluster()
  const disk = new Disk()
  const other = new Disk()
  const a = await life(cluster, disk, { owner: 'a', rowsMax: 100 })
  await a.handlers.begin(P0)
  // Stored and synced, but the commit comes after the group has moved on.
  const commit = a.driver.commit.bind(a.driver)
  a.driver.commit = async (positions) => (positions[0]!.metadata === '' ? 'fenced' : commit(positions))
  expect(await a.handlers.records([a.driver.batch(0, 0, ['/a', '/b'])])).toBe(false)
  expect(disk.paths).toEqual(['/a', '/b'])

  const b = await life(cluster, other, { owner: 'b' })
  expect(await b.handlers.begin(P0)).toEqual([{ topic: 't', partition: 0, at: 'wait' }])
  await b.clock.pass(1000)
  expect(b.driver.resumed).toEqual([])
  expect(b.receiver.partitions()[0]!.waitsSinceMs).not.toBeNull()
  await a.clock.pass(1000)
  await b.clock.pass(1000)
  expect(b.driver.resumed).toEqual([[0, 2n]])
  expect(await b.handlers.records([b.driver.batch(0, 2, ['/c'])])).toBe(true)
  expect(other.paths).toEqual(['/c'])
  expect(b.receiver.counters.takeovers).toEqual(new Map([['released', 1]]))
})

test('who does not come back is not waited for for ever: then records are read again, and counted', async () => {
  const cluster = new FakeCluster()
  cluster.put('g', [{ topic: 't', partition: 0, offset: 40n, metadata: 'sidecast gone x-1' }])
  const { driver, handlers, receiver, clock } = await life(cluster, new Disk())
  await handlers.begin(P0)
  await clock.pass(59_000)
  expect(driver.resumed).toEqual([])
  await clock.pass(2000)
  expect(driver.resumed).toEqual([[0, 40n]])
  expect(receiver.counters.takeovers).toEqual(new Map([['expired', 1]]))
})

test('a start says how far an earlier life came, for whoever has the partition now', async () => {
  const cluster = new FakeCluster()
  cluster.put('g', [
    { topic: 't', partition: 0, offset: 40n, metadata: 'sidecast me old-1' },
    { topic: 't', partition: 1, offset: 50n, metadata: 'sidecast me old-2' },
    { topic: 't', partition: 2, offset: 60n, metadata: 'sidecast you x-1' },
  ])
  const disk = new Disk()
  disk.notes.set('kafka/g/t/0', { claim: 'old-1', offset: '44', within: 3 })
  disk.notes.set('kafka/g/t/1', { claim: 'old-1', offset: '44', within: 3 })
  const { clock } = await life(cluster, disk)
  await clock.pass(1000)
  expect(cluster.of('g.sidecast.me')).toEqual([
    { topic: 't', partition: 0, offset: 44n, metadata: 'old-1 3' },
    { topic: 't', partition: 1, offset: 50n, metadata: 'old-2 0' },
  ])
})

test('no room: waits in the middle of a record, and goes on when there is', async () => {
  const cluster = new FakeCluster()
  const disk = new Disk()
  const { driver, handlers, close, open, clock } = await life(cluster, disk)
  await handlers.begin(P0)
  const paths = disk.paths
  const push = paths.push.bind(paths)
  paths.push = (...items) => {
    const count = push(...items)
    if (count === 2) close()
    return count
  }
  const taken = handlers.records([driver.batch(0, 0, ['/0\n/1\n/2\n/3\n/4'])])
  await clock.pass(100)
  expect(paths).toHaveLength(2)
  expect(disk.notes.get('kafka/g/t/0')).toMatchObject({ offset: '0', within: 2 })
  open()
  await clock.pass(100)
  expect(await taken).toBe(true)
  expect([...paths]).toEqual(['/0', '/1', '/2', '/3', '/4'])
})
