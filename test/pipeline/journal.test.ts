import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { expect, test } from 'vitest'
import type { SidecastError } from '../../src/errors.ts'
import type { Journal } from '../../src/pipeline/journal.ts'
import { verifyJournal } from '../../src/pipeline/journal-report.ts'
import {
  block,
  contentOf,
  diskFull,
  FaultyFiles,
  journalIn,
  LIMITS,
  ManualClock,
  NEVER,
  sealedContent,
  settle,
  temporaryFolder,
} from '../support/journal.ts'

const MIB = 1 << 20
/** Short, so that a failure stays readable. */
const digest = (text: string): string => `${text.length} ${crc32(text)} ${text.slice(0, 12)}`

async function sealed(journal: Journal, ...tags: string[]): Promise<void> {
  for (const tag of tags) {
    expect(journal.append('requests', block(tag))).toBe('ok')
    journal.seal()
  }
  await journal.settled()
}

/** Takes and acknowledges everything that is ready; returns the texts of the rows' files. */
async function drain(journal: Journal, sink = 'store'): Promise<string[]> {
  const reader = journal.reader(sink)
  const texts: string[] = []
  while (reader.ready) {
    const segment = (await reader.next(NEVER))!
    texts.push(readFileSync(segment.tables[0]!.file, 'latin1'))
    await reader.ack(segment)
  }
  return texts
}

test('a sealed segment has its blocks back to back, and a manifest', async () => {
  const journal = await journalIn(temporaryFolder())
  const reader = journal.reader('store')
  const id = journal.segmentId
  const [a, b] = [block('a'), block('b', { bytes: 333, rows: 3, node: 'node-2', day: 20_001 })]
  expect(journal.openedMs).toBeNull()
  expect(journal.append('requests', a)).toBe('ok')
  expect(journal.append('requests', b)).toBe('ok')
  expect(journal.openedMs).toBe(1_700_000_000_000)
  expect(journal.seal([{ table: 'latency_1m', block: block('r', { rows: 2 }) }])).toBe('ok')
  expect(journal.segmentId).not.toBe(id)
  const segment = (await reader.next(NEVER))!
  expect(segment).toMatchObject({ id, worker: 0, seq: 1, recovered: false, openedMs: 1_700_000_000_000 })
  expect(segment.tables.map(({ table, rows, blocks, bytes }) => ({ table, rows, blocks, bytes }))).toEqual([
    { table: 'requests', rows: 13, blocks: 2, bytes: 433 },
    { table: 'latency_1m', rows: 2, blocks: 1, bytes: 100 },
  ])
  expect(segment.tables[0]!.days).toEqual(
    new Map([
      [20_000, 10],
      [20_001, 3],
    ]),
  )
  expect(segment.tables[0]!.nodes).toEqual(
    new Map([
      ['node-1', 10],
      ['node-2', 3],
    ]),
  )
  expect(readFileSync(segment.tables[0]!.file, 'latin1')).toBe(contentOf(a) + contentOf(b))
})

test('seals by bytes, by rows, by age, and when the clock went back', async () => {
  const journal = await journalIn(temporaryFolder(), {
    limits: { segmentBytesMax: 1000, segmentRowsMax: 50, segmentAgeMsMax: 1000, diskBytesMax: MIB },
  })
  const now = 1_700_000_000_000
  expect(journal.shouldSeal(now + 5000)).toBe(false)
  journal.append('requests', block('a', { bytes: 999, rows: 1 }))
  expect(journal.shouldSeal(now + 999)).toBe(false)
  expect(journal.shouldSeal(now + 1000)).toBe(true)
  expect(journal.shouldSeal(now - 1)).toBe(true)
  journal.append('attempts', block('b', { bytes: 1, rows: 1 }))
  expect(journal.shouldSeal(now)).toBe(true)
  journal.seal()
  journal.append('requests', block('c', { rows: 25 }))
  journal.append('attempts', block('d', { rows: 24 }))
  expect(journal.shouldSeal(now)).toBe(false)
  journal.append('requests', block('e', { rows: 1 }))
  expect(journal.shouldSeal(now)).toBe(true)
})

test('segments get older while no sink keeps up, so that a long backlog is not a heap of tiny ones', async () => {
  const journal = await journalIn(temporaryFolder())
  const fast = journal.reader('fast')
  journal.reader('dead')
  for (let n = 0; n < 60; n++) await sealed(journal, `s${n}`)
  const now = 1_700_000_000_000
  journal.append('requests', block('x'))
  expect(journal.shouldSeal(now + 1000)).toBe(false)
  expect(journal.shouldSeal(now + 2000)).toBe(true)
  await fast.ack((await fast.next(NEVER))!)
  expect(journal.shouldSeal(now + 1000)).toBe(true)
})

test('nothing is sealed without rows', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir)
  const id = journal.segmentId
  expect(journal.seal([{ table: 'latency_1m', block: block('r') }])).toBe('ok')
  expect(journal.append('requests', { buffers: [], rows: 0, days: new Map(), nodes: new Map() })).toBe('ok')
  journal.seal()
  await journal.settled()
  expect(journal.segmentId).toBe(id)
  expect(sealedContent(dir).size).toBe(0)
})

test('the next segment is written while the last one is on its way to the disk', async () => {
  const files = new FaultyFiles()
  const journal = await journalIn(temporaryFolder(), { files })
  journal.reader('store')
  journal.append('requests', block('a'))
  journal.seal()
  expect(journal.append('requests', block('b'))).toBe('ok')
  expect(journal.reader('store').ready).toBe(false)
  journal.seal()
  expect(journal.append('requests', block('c'))).toBe('ok')
  await journal.settled()
  expect(await drain(journal)).toEqual(['a', 'b'].map((tag) => contentOf(block(tag))))
})

test('files are synced before the segment gets its name, and its name before anyone sees it', async () => {
  const dir = temporaryFolder()
  const files = new FaultyFiles()
  const journal = await journalIn(dir, { files })
  journal.append('requests', block('a'))
  files.calls.length = 0
  journal.seal()
  await journal.settled()
  const name = journal.segmentId.slice(2, -1)
  const steps = files.calls.map((call) => call.replaceAll(join(dir, '0'), '').replaceAll(name, 'N'))
  expect(steps).toEqual([
    'writev /current/index',
    'rename /current',
    'rename /sealing-N1/requests.native',
    'sync /current/requests.native',
    'sync /current/index',
    'syncDirectory /sealing-N1',
    'syncDirectory ',
    'rename /sealing-N1',
    'syncDirectory ',
  ])
})

test('callers who wait at one time share one fsync, and what came later has its own', async () => {
  const files = new FaultyFiles()
  const journal = await journalIn(temporaryFolder(), { files })
  const syncs = () => files.calls.filter((call) => call.startsWith('sync ') && call.endsWith('requests.native')).length
  journal.append('requests', block('a'))
  await Promise.all(Array.from({ length: 100 }, () => journal.synced()))
  expect(syncs()).toBe(1)
  const first = journal.synced()
  journal.append('requests', block('b'))
  const second = journal.synced()
  await first
  await second
  expect(syncs()).toBe(2)
  await journal.synced()
  expect(syncs()).toBe(2)
})

test('who waits for rows of a segment that was sealed meanwhile waits for its fsync', async () => {
  const files = new FaultyFiles()
  const journal = await journalIn(temporaryFolder(), { files })
  journal.append('requests', block('a'))
  const waiting = journal.synced()
  journal.seal()
  await waiting
  expect(files.calls.some((call) => call.startsWith('sync ') && call.endsWith('requests.native'))).toBe(true)
  journal.append('requests', block('b'))
  journal.seal()
  await journal.synced()
  expect(files.calls.filter((call) => call.startsWith('sync ') && call.endsWith('requests.native'))).toHaveLength(2)
})

test('a failed fsync is told to who waits, and does not stop the journal', async () => {
  const files = new FaultyFiles()
  const journal = await journalIn(temporaryFolder(), { files })
  journal.reader('store')
  journal.append('requests', block('a'))
  files.before = (operation, path) => {
    if (operation === 'sync' && path.endsWith('.native')) throw Object.assign(new Error('EIO'), { code: 'EIO' })
  }
  await expect(journal.synced()).rejects.toMatchObject({ code: 'SC4104' })
  journal.seal()
  await expect(journal.synced()).rejects.toMatchObject({ code: 'SC4104' })
  files.before = () => {}
  journal.append('requests', block('b'))
  await journal.synced()
  journal.seal()
  await journal.settled()
  expect(await drain(journal)).toHaveLength(2)
  expect(journal.stats().syncFailures).toBeGreaterThan(0)
})

test('short writes are gone on with', async () => {
  const dir = temporaryFolder()
  const files = new FaultyFiles()
  files.writeMax = 7
  const journal = await journalIn(dir, { files })
  journal.reader('store')
  const blocks = ['a', 'b', 'c'].map((tag, n) => block(tag, { bytes: 50 + n }))
  for (const each of blocks) expect(journal.append('requests', each)).toBe('ok')
  journal.seal()
  await journal.settled()
  expect(await drain(journal)).toEqual([blocks.map(contentOf).join('')])
})

test.each(['data', 'index'])(
  'a disk that fills up in the %s leaves nothing half-written, and the same block goes in later',
  async (where) => {
    const dir = temporaryFolder()
    const files = new FaultyFiles()
    const journal = await journalIn(dir, { files })
    journal.reader('store')
    let rooms = 0
    journal.onRoom(() => rooms++)
    journal.append('requests', block('a'))
    files.room = where === 'data' ? 50 : 120
    expect(journal.append('requests', block('b'))).toBe('disk_full')
    expect(journal.state).toBe('disk_full')
    expect(journal.reason).toContain('ENOSPC')
    expect(journal.append('requests', block('b'))).toBe('disk_full')
    expect(journal.heldByNode('store')).toEqual(new Map([['node-1', 10]]))
    files.room = Number.POSITIVE_INFINITY
    expect(journal.append('requests', block('b'))).toBe('ok')
    expect(journal.state).toBe('ok')
    expect(rooms).toBe(0)
    journal.seal()
    await journal.settled()
    expect(await drain(journal)).toEqual([contentOf(block('a')) + contentOf(block('b'))])
    expect(journal.stats()).toMatchObject({ rows: 20, blocks: 2, refusedDisk: 2 })
  },
)

test.each([true, false])('half a block is cut off, at once or at the seal (%s)', async (cutAtOnce) => {
  const files = new FaultyFiles()
  const journal = await journalIn(temporaryFolder(), { files })
  journal.reader('store')
  journal.append('requests', block('a'))
  files.room = 500
  files.before = (operation) => {
    if (operation === 'truncate' && !cutAtOnce) throw Object.assign(new Error('EIO'), { code: 'EIO' })
  }
  expect(journal.append('requests', block('large', { bytes: 1000 }))).toBe('disk_full')
  files.room = Number.POSITIVE_INFINITY
  files.before = () => {}
  journal.seal()
  await journal.settled()
  expect(await drain(journal)).toEqual([contentOf(block('a'))])
})

test('a full disk is tried again by itself, and the listener hears when the block would fit', async () => {
  const clock = new ManualClock()
  const files = new FaultyFiles()
  const journal = await journalIn(temporaryFolder(), { files, clock })
  journal.reader('store')
  await journal.start()
  let rooms = 0
  journal.onRoom(() => rooms++)
  files.room = 0
  expect(journal.append('requests', block('a', { bytes: 5000 }))).toBe('disk_full')
  await clock.pass(1000)
  expect(rooms).toBe(0)
  expect(journal.state).toBe('disk_full')
  files.room = 4000
  await clock.pass(1000)
  expect(rooms).toBe(0)
  files.room = 10_000_000
  await clock.pass(250)
  expect(rooms).toBe(1)
  expect(journal.state).toBe('ok')
  expect(journal.append('requests', block('a', { bytes: 5000 }))).toBe('ok')
  journal.seal()
  await journal.settled()
  expect(await drain(journal)).toEqual([contentOf(block('a', { bytes: 5000 }))])
})

test('a disk that refuses for another reason is a state too', async () => {
  const files = new FaultyFiles()
  const journal = await journalIn(temporaryFolder(), { files })
  files.before = (operation) => {
    if (operation === 'writev') throw Object.assign(new Error('EROFS: read-only file system'), { code: 'EROFS' })
  }
  expect(journal.append('requests', block('a'))).toBe('disk_error')
  expect(journal.reason).toContain('read-only')
  files.before = () => {}
  expect(journal.append('requests', block('a'))).toBe('ok')
})

test('rollups without room are left out, and the segment says so', async () => {
  const dir = temporaryFolder()
  const files = new FaultyFiles()
  const journal = await journalIn(dir, { files })
  const reader = journal.reader('store')
  journal.append('requests', block('a'))
  files.room = 150
  journal.seal([{ table: 'latency_1m', block: block('r', { bytes: 200 }) }])
  files.room = Number.POSITIVE_INFINITY
  await journal.settled()
  const segment = (await reader.next(NEVER))!
  expect(segment.recovered).toBe(true)
  expect(segment.tables.map(({ table }) => table)).toEqual(['requests'])
  expect([...sealedContent(dir).values()]).toEqual([new Map([['requests', contentOf(block('a'))]])])
})

test('rollups that were written before one had no room leave no trace', async () => {
  const dir = temporaryFolder()
  const files = new FaultyFiles()
  const journal = await journalIn(dir, { files })
  journal.append('requests', block('a'))
  let writes = 0
  files.before = (operation, path) => {
    if (operation === 'writev' && path.endsWith('latency_1m.native') && ++writes === 2) throw diskFull()
  }
  const rollup = (tag: string) => ({ table: 'latency_1m' as const, block: block(tag, { node: 'n'.repeat(500) }) })
  journal.seal([rollup('r'), rollup('s')])
  await journal.settled()
  expect(writes).toBe(2)
  expect([...sealedContent(dir).values()]).toEqual([new Map([['requests', contentOf(block('a'))]])])
  expect(await verifyJournal(dir)).toMatchObject({ sound: true, blocks: 1 })
  await journal.stop(NEVER)
  const again = await journalIn(dir)
  expect(again.recovery).toMatchObject({ rows: 10, damage: [] })
})

test('room is made around a segment that a statement may still read', async () => {
  const clock = new ManualClock()
  const dir = temporaryFolder()
  const journal = await journalIn(dir, { clock, keepAfterAckMs: 60_000, limits: { ...LIMITS, diskBytesMax: 10_000 } })
  const reader = journal.reader('store')
  await journal.start()
  const releases: (() => void)[] = []
  for (const tag of ['held', 'b', 'c']) {
    journal.append('requests', block(tag, { bytes: 2500 }))
    journal.seal()
    const segment = (await reader.next(NEVER))!
    if (tag === 'held') releases.push(segment.hold!())
    await reader.ack(segment)
  }
  expect(journal.append('requests', block('d', { bytes: 2500 }))).toBe('ok')
  expect([...sealedContent(dir).keys()].map((name) => name.slice(-1)).sort()).toEqual(['1', '3'])
  for (const release of releases) release()
})

test('a segment that cannot be renamed goes on being written', async () => {
  const files = new FaultyFiles()
  const journal = await journalIn(temporaryFolder(), { files })
  const reader = journal.reader('store')
  journal.append('requests', block('a'))
  const id = journal.segmentId
  files.before = (operation) => {
    if (operation === 'rename') throw diskFull()
  }
  expect(journal.seal([{ table: 'latency_1m', block: block('r') }])).toBe('disk_full')
  expect(journal.segmentId).toBe(id)
  files.before = () => {}
  expect(journal.append('requests', block('b'))).toBe('ok')
  expect(journal.seal([{ table: 'latency_1m', block: block('s') }])).toBe('ok')
  const segment = (await reader.next(NEVER))!
  expect(segment).toMatchObject({ id, recovered: true })
  expect(readFileSync(segment.tables[0]!.file, 'latin1')).toBe(contentOf(block('a')) + contentOf(block('b')))
  expect(segment.tables).toHaveLength(1)
})

test('a segment that cannot be finished is finished later, before its cursor passes it', async () => {
  const clock = new ManualClock()
  const files = new FaultyFiles()
  const dir = temporaryFolder()
  const journal = await journalIn(dir, { files, clock })
  const reader = journal.reader('store')
  await journal.start()
  files.before = (operation, path) => {
    if (operation === 'rename' && path.endsWith('requests.native')) throw diskFull()
  }
  journal.append('requests', block('a'))
  journal.seal([{ table: 'latency_1m', block: block('r') }])
  await journal.settled()
  files.before = () => {}
  await sealed(journal, 'b')
  const second = (await reader.next(NEVER))!
  expect(second.seq).toBe(2)
  await reader.ack(second)
  expect(JSON.parse(readFileSync(join(dir, '0', 'cursors', 'store'), 'utf8')).through).toBeNull()
  await clock.pass(6000)
  await journal.settled()
  const first = (await reader.next(NEVER))!
  expect(first).toMatchObject({ seq: 1, recovered: false })
  expect(first.tables).toHaveLength(2)
  await reader.ack(first)
  expect(JSON.parse(readFileSync(join(dir, '0', 'cursors', 'store'), 'utf8'))).toEqual({
    through: second.id.slice(2),
    beyond: [],
  })
})

test('full at its bound: refuses, and takes again when a segment is gone', async () => {
  const clock = new ManualClock()
  const dir = temporaryFolder()
  const journal = await journalIn(dir, { clock, keepAfterAckMs: 0, limits: { ...LIMITS, diskBytesMax: 5000 } })
  const reader = journal.reader('store')
  let rooms = 0
  journal.onRoom(() => rooms++)
  await journal.start()
  const append = (tag: string) => journal.append('requests', block(tag, { bytes: 1000 }))
  let taken = 0
  while (append(`b${taken}`) === 'ok') {
    taken++
    if (taken % 2 === 0) journal.seal()
  }
  expect(taken).toBeGreaterThanOrEqual(3)
  expect(taken).toBeLessThan(5)
  expect(journal.state).toBe('full')
  expect(journal.stats().bytesOnDisk).toBeLessThanOrEqual(5000)
  await journal.settled()
  await clock.pass(1000)
  expect(journal.state).toBe('full')
  expect(rooms).toBe(0)
  await reader.ack((await reader.next(NEVER))!)
  await clock.pass(1000)
  expect(rooms).toBe(1)
  expect(journal.state).toBe('ok')
  expect(append('more')).toBe('ok')
})

test('one block fits however low the bound is', async () => {
  const journal = await journalIn(temporaryFolder(), { limits: { ...LIMITS, diskBytesMax: 100 } })
  journal.reader('store')
  expect(journal.append('requests', block('a', { bytes: 1000 }))).toBe('ok')
  expect(journal.append('requests', block('b', { bytes: 1 }))).toBe('full')
})

test('full when the oldest row waits for too long', async () => {
  const clock = new ManualClock()
  const journal = await journalIn(temporaryFolder(), { clock, limits: { ...LIMITS, backlogAgeMsMax: 60_000 } })
  const reader = journal.reader('store')
  await sealed(journal, 'a')
  clock.set(clock.now() + 60_000)
  expect(journal.append('requests', block('b'))).toBe('ok')
  clock.set(clock.now() + 1)
  expect(journal.append('requests', block('c'))).toBe('full')
  expect(journal.reason).toContain('60000 ms')
  await reader.ack((await reader.next(NEVER))!)
  expect(journal.append('requests', block('c'))).toBe('ok')
})

test('what every sink has is kept for a while, and goes early when room is short', async () => {
  const clock = new ManualClock()
  const dir = temporaryFolder()
  const journal = await journalIn(dir, { clock, keepAfterAckMs: 60_000, limits: { ...LIMITS, diskBytesMax: 10_000 } })
  journal.reader('store')
  await journal.start()
  for (const tag of ['a', 'b', 'c']) {
    journal.append('requests', block(tag, { bytes: 2500 }))
    journal.seal()
    await journal.settled()
    await drain(journal)
    await clock.pass(1000)
  }
  expect(sealedContent(dir).size).toBe(3)
  expect(journal.append('requests', block('d', { bytes: 2500 }))).toBe('ok')
  expect(sealedContent(dir).size).toBe(2)
  expect(journal.stats()).toMatchObject({ segmentsReleasedEarly: 1, refusedFull: 0 })
  await clock.pass(58_000)
  expect(sealedContent(dir).size).toBe(1)
  await clock.pass(2000)
  expect(sealedContent(dir).size).toBe(0)
})

test('nothing is deleted before start, nor while one sink waits', async () => {
  const clock = new ManualClock()
  const dir = temporaryFolder()
  const journal = await journalIn(dir, { clock, keepAfterAckMs: 0 })
  journal.reader('slow')
  await sealed(journal, 'a', 'b')
  expect(await drain(journal, 'fast')).toHaveLength(2)
  expect(sealedContent(dir).size).toBe(2)
  await journal.start()
  await clock.pass(5000)
  expect(sealedContent(dir).size).toBe(2)
  expect(journal.backlog('slow')).toMatchObject({ segments: 2, rows: 20, oldestMs: 1_700_000_000_000 })
  expect(journal.backlog('fast')).toMatchObject({ segments: 0, oldestMs: null })
  await journal.reader('slow').ack((await journal.reader('slow').next(NEVER))!)
  await settle()
  expect(sealedContent(dir).size).toBe(1)
})

test('nothing waits for a sink that is dismissed; when it comes back it goes on at its cursor', async () => {
  const clock = new ManualClock()
  const dir = temporaryFolder()
  const journal = await journalIn(dir, { clock, keepAfterAckMs: 60_000 })
  const slow = journal.reader('slow')
  journal.reader('fast')
  await journal.start()
  await sealed(journal, 'a', 'b', 'c')
  await slow.ack((await slow.next(NEVER))!)
  expect(await drain(journal, 'fast')).toHaveLength(3)
  const waiting = slow.next(NEVER, { after: (await slow.next(NEVER))!.id })
  journal.dismissReader('slow')
  journal.dismissReader('never there')
  expect(journal.sinks).toEqual(['fast'])
  // What it was about to get is the next segment, or nothing: it waits no more.
  await waiting
  expect(await slow.next(NEVER)).toBeNull()
  await sealed(journal, 'd')
  expect(await drain(journal, 'fast')).toHaveLength(1)
  expect(await drain(journal, 'slow')).toEqual(['b', 'c', 'd'].map((tag) => contentOf(block(tag))))
  journal.dismissReader('slow')
  await clock.pass(120_000)
  await settle()
  expect(sealedContent(dir).size).toBe(0)
})

test('a sink goes on at its cursor after a restart, each at its own', async () => {
  const dir = temporaryFolder()
  const before = await journalIn(dir)
  before.reader('slow')
  await sealed(before, 'a', 'b', 'c')
  const [fast, slow] = [before.reader('fast'), before.reader('slow')]
  await fast.ack((await fast.next(NEVER))!)
  await fast.ack((await fast.next(NEVER))!)
  await slow.ack((await slow.next(NEVER))!)
  await before.stop(NEVER)
  const after = await journalIn(dir)
  await sealed(after, 'd')
  expect(await drain(after, 'fast')).toEqual(['c', 'd'].map((tag) => contentOf(block(tag))))
  expect(await drain(after, 'slow')).toEqual(['b', 'c', 'd'].map((tag) => contentOf(block(tag))))
})

test('the same segment comes again until it is acknowledged; acknowledging twice is nothing', async () => {
  const journal = await journalIn(temporaryFolder())
  const reader = journal.reader('store')
  const acked: string[] = []
  journal.onAcked((sink, segment, outcome) => acked.push(`${sink} ${segment.seq} ${outcome}`))
  await sealed(journal, 'a', 'b')
  const first = (await reader.next(NEVER))!
  expect((await reader.next(NEVER))!.id).toBe(first.id)
  await reader.ack(first)
  await reader.ack(first)
  const second = (await reader.next(NEVER))!
  expect(second.seq).toBe(2)
  await reader.ack(second, 'rejected')
  expect(acked).toEqual(['store 1 accepted', 'store 2 rejected'])
  expect(journal.isAcked('store', first.id)).toBe(true)
})

test('segments are found by what comes after, and by who has them', async () => {
  const journal = await journalIn(temporaryFolder())
  const reader = journal.reader('store')
  await sealed(journal, 'a', 'b', 'c')
  const first = (await reader.next(NEVER))!
  await reader.ack(first)
  const seqs = (filter: Parameters<Journal['segments']>[0]) => [...journal.segments(filter)].map(({ seq }) => seq)
  expect(seqs({})).toEqual([1, 2, 3])
  expect(seqs({ after: first })).toEqual([2, 3])
  expect(seqs({ ackedBy: 'store' })).toEqual([1])
  expect(seqs({ ackedBy: 'nobody' })).toEqual([])
  expect(journal.backlog('nobody').segments).toBe(0)
  expect(journal.sinks).toEqual(['store'])
})

test('waiting ends with a segment, an abort, or the end of the journal', async () => {
  const journal = await journalIn(temporaryFolder())
  const reader = journal.reader('store')
  const abort = new AbortController()
  const aborted = reader.next(abort.signal)
  const patient = reader.next(NEVER)
  abort.abort()
  expect(await aborted).toBeNull()
  expect(await reader.next(abort.signal)).toBeNull()
  await sealed(journal, 'a')
  expect((await patient)!.seq).toBe(1)
  await reader.ack((await patient)!)
  const last = reader.next(NEVER)
  await journal.stop(NEVER)
  expect(await last).toBeNull()
})

test('rewind hands kept segments out again, deletes none of them meanwhile, and counts them once', async () => {
  const clock = new ManualClock()
  const dir = temporaryFolder()
  const journal = await journalIn(dir, { clock, keepAfterAckMs: 10_000 })
  const reader = journal.reader('store')
  let acks = 0
  journal.onAcked(() => acks++)
  await journal.start()
  await sealed(journal, 'a', 'b')
  await drain(journal)
  await sealed(journal, 'c')
  expect(reader.rewind()).toBe(2)
  expect(reader.rewind()).toBe(0)
  expect(journal.heldByNode('store')).toEqual(new Map([['node-1', 10]]))
  await clock.pass(30_000)
  expect(sealedContent(dir).size).toBe(3)
  expect(await drain(journal)).toEqual(['a', 'b', 'c'].map((tag) => contentOf(block(tag))))
  expect(acks).toBe(3)
  expect(JSON.parse(readFileSync(join(dir, '0', 'cursors', 'store'), 'utf8')).through).toMatch(/-3$/)
  await clock.pass(11_000)
  expect(sealedContent(dir).size).toBe(0)
})

test('files are recycled, except those that a statement may still read or that have another name', async () => {
  const clock = new ManualClock()
  const dir = temporaryFolder()
  const journal = await journalIn(dir, { clock, keepAfterAckMs: 0, sparesMax: 2 })
  const reader = journal.reader('store')
  await journal.start()
  const large = (tag: string) => block(tag, { bytes: 2 * MIB })
  const spares = () => (readdirSync(join(dir, '0')).includes('spare') ? readdirSync(join(dir, '0', 'spare')).length : 0)
  const next = async (tag: string) => {
    journal.append('requests', large(tag))
    journal.seal()
    await journal.settled()
    return (await reader.next(NEVER))!
  }
  const held = await next('held')
  const release = held.hold!()
  await reader.ack(held)
  await clock.pass(1000)
  expect(existsSync(held.tables[0]!.file)).toBe(true)
  release()
  release()
  await clock.pass(1000)
  expect(existsSync(held.tables[0]!.file)).toBe(false)
  expect(spares()).toBe(1)

  const dead = await next('refused')
  expect(spares()).toBe(0)
  journal.deadLetter('store', dead, new Error('no such column'))
  await reader.ack(dead, 'rejected')
  await clock.pass(1000)
  expect(spares()).toBe(0)
  const letter = join(dir, '0', 'dead-letter', 'store', dead.id)
  expect(digest(readFileSync(join(letter, 'requests.seg'), 'latin1'))).toBe(digest(contentOf(large('refused'))))
  expect(JSON.parse(readFileSync(join(letter, 'reason.json'), 'utf8'))).toMatchObject({
    sink: 'store',
    error: 'no such column',
  })

  for (const tag of ['x', 'y', 'z']) await next(tag)
  expect((await drain(journal)).map(digest)).toEqual(['x', 'y', 'z'].map((tag) => digest(contentOf(large(tag)))))
  await clock.pass(1000)
  expect(spares()).toBe(2)
  // Shorter than what the recycled file held: the file ends where the blocks do.
  journal.append('requests', block('short', { bytes: MIB + 5 }))
  journal.seal()
  await journal.settled()
  expect((await drain(journal)).map(digest)).toEqual([digest(contentOf(block('short', { bytes: MIB + 5 })))])
  expect(journal.stats().filesRecycled).toBe(2)
})

test('spares of an earlier process are used, up to the bound', async () => {
  const clock = new ManualClock()
  const dir = temporaryFolder()
  const first = await journalIn(dir, { clock, keepAfterAckMs: 0 })
  first.reader('store')
  await first.start()
  for (const tag of ['a', 'b', 'c']) {
    first.append('requests', block(tag, { bytes: MIB }))
    first.seal()
  }
  await first.settled()
  await drain(first)
  await first.stop(NEVER)
  expect(readdirSync(join(dir, '0', 'spare'))).toHaveLength(3)
  const second = await journalIn(dir, { clock, sparesMax: 1 })
  expect(readdirSync(join(dir, '0', 'spare'))).toHaveLength(1)
  second.append('requests', block('d'))
  expect(second.stats().filesRecycled).toBe(1)
})

test('the oldest row that a sink waits for may not be sealed yet', async () => {
  const clock = new ManualClock()
  const journal = await journalIn(temporaryFolder(), { clock })
  const reader = journal.reader('store')
  expect(journal.oldestUnacked('store')).toBeNull()
  const begin = clock.now()
  journal.append('requests', block('a'))
  clock.set(begin + 500)
  expect(journal.oldestUnacked('store')).toBe(begin)
  journal.seal()
  expect(journal.oldestUnacked('store')).toBe(begin)
  journal.append('requests', block('b', { node: 'node-2' }))
  await journal.settled()
  expect(journal.oldestUnacked('store')).toBe(begin)
  expect(journal.heldByNode('store')).toEqual(
    new Map([
      ['node-1', 10],
      ['node-2', 10],
    ]),
  )
  await reader.ack((await reader.next(NEVER))!)
  expect(journal.oldestUnacked('store')).toBe(begin + 500)
  expect(journal.heldByNode('store')).toEqual(new Map([['node-2', 10]]))
})

test('one process at a time', async () => {
  const dir = temporaryFolder()
  const first = await journalIn(dir)
  await expect(journalIn(dir)).rejects.toMatchObject({
    code: 'SC4105',
    message: expect.stringContaining(String(process.pid)),
  })
  await first.stop(NEVER)
  await first.stop(NEVER)
  await journalIn(dir)
})

test('a newer format is refused by name, before anything is touched', async () => {
  const dir = temporaryFolder()
  const first = await journalIn(dir)
  first.append('requests', block('a'))
  await first.stop(NEVER)
  writeFileSync(join(dir, '0', 'format'), 'sidecast-journal 3\n')
  const error = await journalIn(dir).catch((caught: SidecastError) => caught)
  expect(error).toMatchObject({ code: 'SC3102', message: expect.stringContaining('format 3') })
  expect(existsSync(join(dir, '0', 'current', 'index'))).toBe(true)
  // A refusal leaves the lock free.
  writeFileSync(join(dir, '0', 'format'), 'sidecast-journal 2\n')
  expect((await journalIn(dir)).recovery.rows).toBe(10)
})

test('a damaged format file does not stop the start', async () => {
  const dir = temporaryFolder()
  await (await journalIn(dir)).stop(NEVER)
  writeFileSync(join(dir, '0', 'format'), '\0\0\0')
  await (await journalIn(dir)).stop(NEVER)
  expect(readFileSync(join(dir, '0', 'format'), 'utf8')).toBe('sidecast-journal 2\n')
})

test('ids never come twice, also when the clock goes back', async () => {
  const dir = temporaryFolder()
  const ids: string[] = []
  for (const now of [1_700_000_000_000, 1_600_000_000_000, 1_600_000_000_000]) {
    const journal = await journalIn(dir, { clock: new ManualClock(now), random: () => 0 })
    ids.push(journal.segmentId)
    journal.append('requests', block(String(now)))
    journal.seal()
    await journal.settled()
    await journal.stop(NEVER)
    writeFileSync(join(dir, '0', 'epoch'), '')
  }
  expect(new Set(ids).size).toBe(3)
  expect([...ids].sort()).toEqual(ids)
  const journal = await journalIn(dir)
  journal.reader('store')
  expect(await drain(journal)).toEqual(
    [1_700_000_000_000, 1_600_000_000_000, 1_600_000_000_000].map((now) => contentOf(block(String(now)))),
  )
})

test('dead letters are bounded: the oldest go', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir, { limits: { ...LIMITS, diskBytesMax: 36_000 } })
  const reader = journal.reader('store')
  for (const tag of ['a', 'b', 'c']) {
    journal.append('requests', block(tag, { bytes: 1200 }))
    journal.seal()
    const segment = (await reader.next(NEVER))!
    journal.deadLetter('store', segment, new Error(tag))
    await reader.ack(segment, 'rejected')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  const left = readdirSync(join(dir, '0', 'dead-letter', 'store'))
  expect(left.map((id) => id.slice(-1)).sort()).toEqual(['2', '3'])
})

test('a segment that is kept open for long is synced at the age limit all the same', async () => {
  const clock = new ManualClock()
  const files = new FaultyFiles()
  const journal = await journalIn(temporaryFolder(), { clock, files })
  await journal.start()
  journal.append('requests', block('a'))
  const syncs = () => files.calls.filter((call) => call.startsWith('sync ') && call.endsWith('requests.native')).length
  await clock.pass(750)
  expect(syncs()).toBe(0)
  await clock.pass(500)
  await journal.settled()
  expect(syncs()).toBe(1)
})
