import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createSegmentReceiver, type SegmentReceiver } from '../../../src/ingest/segments/receiver.ts'
import { createSpool, type Spool } from '../../../src/ingest/segments/spool.ts'
import type { KafkaRecord, RecordBatch } from '../../../src/kafka/driver.ts'
import { encodeHeader, encodeManifest, SEGMENT_SCHEMA } from '../../../src/kafka/segment-records.ts'
import type { Segment } from '../../../src/pipeline/segment.ts'
import type { Outcome } from '../../../src/pipeline/sink.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { temporaryFolder } from '../../support/journal.ts'
import { FakeCluster, FakeDriver } from '../../support/kafka-driver.ts'

const TOPIC = 't'
const GROUP = 'writers'
const EPOCH = 'm3x0y1z2abcde'

interface Sent {
  readonly id: string
  readonly mayBeStored: boolean
  readonly content: string
}

/** A writer on a group whose partitions and records the test decides, and a store that says what the test wants. */
async function rig(cluster = new FakeCluster(), dir = temporaryFolder()) {
  const driver = new FakeDriver(cluster, GROUP)
  const clock = { now: () => 1_700_000_000_000, sleep: async () => {} }
  let monotonic = 0
  const spool = createSpool({
    dir: join(dir, 'writer'),
    keepMs: 120_000,
    bytesMax: 1 << 20,
    deadLetterBytesMax: 1 << 20,
    sync: false,
    clock,
  })
  spool.open()
  const sent: Sent[] = []
  const answers: (() => Outcome | Promise<Outcome>)[] = []
  const sink = {
    name: 'store',
    start: async () => {},
    stop: async () => {},
    async send(segment: Segment): Promise<Outcome> {
      const content = segment.tables.map(({ file }) => readFileSync(file, 'utf8')).join('|')
      sent.push({ id: segment.id, mayBeStored: segment.mayBeStored === true, content })
      return (await answers.shift()?.()) ?? { status: 'accepted' }
    },
  }
  const receiver = createSegmentReceiver({
    group: GROUP,
    topic: TOPIC,
    driver,
    prepare: async () => {},
    spool,
    sink,
    abandonMs: 1000,
    clock,
    log: silentLog,
    random: () => 0,
    monotonic: () => monotonic,
  })
  await receiver.start()
  onTestFinished(() => receiver.stop(AbortSignal.timeout(1000)))
  await Promise.resolve()
  await Promise.resolve()
  return {
    driver,
    receiver,
    spool,
    sent,
    answers,
    cluster,
    later(ms: number) {
      monotonic += ms
    },
    begin: () => driver.handlers.begin([{ topic: TOPIC, partition: 0 }]),
    take: (records: readonly KafkaRecord[], more: Partial<RecordBatch> = {}) => {
      const nextOffset = records.at(-1)!.offset + 1n
      return driver.handlers.records([
        { topic: TOPIC, partition: 0, records, nextOffset, endOffset: nextOffset, ...more },
      ])
    },
    committed: () => cluster.of(GROUP).map(({ offset, metadata }) => `${offset} ${metadata.split(' ')[1]}`),
  }
}

interface PartsOptions {
  readonly seq?: number
  readonly send?: number
  readonly epoch?: string
  readonly doubt?: boolean
  readonly content?: readonly string[]
  readonly crc?: number
}

/** The records of one segment, slices and manifest, without offsets. */
function parts({ seq = 1, send = 1, epoch = EPOCH, doubt = false, content = ['ab', 'cd'], crc }: PartsOptions = {}) {
  const segment = `0-${EPOCH}-${seq}`
  const whole = content.join('')
  const n = content.length + 1
  const base = {
    schema: SEGMENT_SCHEMA,
    edge: 'e1',
    node: 'edge-1',
    segment,
    send: { epoch, number: send },
    parts: n,
    doubt,
  }
  let offset = 0
  const values = content.map((text, k) => {
    const headers = encodeHeader({ ...base, part: k + 1, encoding: 'none', slice: { table: 'requests', offset } })
    offset += text.length
    return { value: Buffer.from(text), headers: new Map(Object.entries(headers)) }
  })
  const tables = [
    {
      table: 'requests' as const,
      bytes: whole.length,
      rows: 10,
      blocks: 1,
      crc: crc ?? crc32(whole),
      days: [[1, 10]] as const,
    },
  ]
  const manifest = encodeManifest({ segment, openedMs: 1, sealedMs: 2, recovered: false, tables })
  const headers = new Map(Object.entries(encodeHeader({ ...base, part: n, encoding: 'none', slice: null })))
  return [...values, { value: manifest, headers }]
}

const at = (from: number, records: readonly Omit<KafkaRecord, 'offset'>[]): KafkaRecord[] =>
  records.map((record, k) => ({ ...record, offset: BigInt(from + k) }))

const left = (receiver: SegmentReceiver) => Object.fromEntries(receiver.counters.leftSegments)
const keptIds = (spool: Spool) => spool.kept().map(({ id }) => id)

describe('a writer', () => {
  test('puts a segment together byte for byte, says that it may be stored, stores it, and commits', async () => {
    const { begin, take, sent, cluster, receiver, spool } = await rig()
    await begin()
    expect(await take(at(0, parts()))).toBe(true)
    expect(sent).toEqual([{ id: `0-${EPOCH}-1`, mayBeStored: true, content: 'abcd' }])
    // Before the store: where it begins, and up to where it may be stored. Afterwards: behind it.
    expect(cluster.log).toEqual([`${GROUP} 0 0 sidecast-writer/1 3`, `${GROUP} 0 3 sidecast-writer/1 3`])
    expect(receiver.counters).toMatchObject({ whole: 1, stored: 1, storedRows: 10, again: 0, refused: 0 })
    expect(keptIds(spool)).toEqual([`0-${EPOCH}-1`])
  })

  test('looks up nothing of what came after it had begun', async () => {
    const { begin, take, sent } = await rig()
    await begin()
    await take(at(0, parts({ seq: 1 })))
    await take(at(3, parts({ seq: 2, send: 2 })))
    expect(sent.map(({ mayBeStored }) => mayBeStored)).toEqual([true, false])
  })

  test('looks up what its edge may have sent before', async () => {
    const { begin, take, sent } = await rig()
    await begin()
    await take(at(0, parts({ seq: 1 })))
    await take(at(3, parts({ seq: 2, send: 2, doubt: true })))
    expect(sent[1]).toMatchObject({ mayBeStored: true })
  })

  test('begins at the first part of what is not whole, and looks up the rest of what it had', async () => {
    const first = await rig()
    await first.begin()
    const [a, b] = [parts({ seq: 1 }), parts({ seq: 9, epoch: 'zzzzzzzzzzzzz' })]
    // A part of one segment, then another one that is whole.
    await first.take(at(0, [a[0]!, ...b]))
    expect(first.committed()).toEqual(['0 4'])
    const second = await rig(first.cluster)
    expect(await second.begin()).toEqual([{ topic: TOPIC, partition: 0, at: 0n }])
    await second.take(at(0, [a[0]!, ...b, a[1]!, a[2]!]))
    expect(second.sent.map(({ id, mayBeStored }) => [id, mayBeStored])).toEqual([
      [`0-${EPOCH}-9`, true],
      [`0-${EPOCH}-1`, false],
    ])
    expect(second.committed()).toEqual(['6 6'])
  })

  test('looks everything up when somebody else has set the offsets', async () => {
    const cluster = new FakeCluster()
    cluster.put(GROUP, [{ topic: TOPIC, partition: 0, offset: 0n, metadata: '' }])
    const { begin, take, sent } = await rig(cluster)
    await begin()
    await take(at(0, parts()), { endOffset: 40n })
    await take(at(3, parts({ seq: 2, send: 2 })), { endOffset: 60n })
    await take(at(41, parts({ seq: 3, send: 3 })), { endOffset: 60n })
    expect(sent.map(({ mayBeStored }) => mayBeStored)).toEqual([true, true, false])
  })

  test('stores nothing once the partition has gone to somebody else', async () => {
    const { begin, take, sent, driver, receiver, committed } = await rig()
    await begin()
    driver.fenced = true
    expect(await take(at(0, parts()))).toBe(false)
    expect(sent).toEqual([])
    driver.fenced = false
    expect(await take(at(3, parts({ seq: 2, send: 2 })))).toBe(false)
    expect(committed()).toEqual([])
    await begin()
    expect(await take(at(0, parts()))).toBe(true)
    expect(receiver.counters).toMatchObject({ stored: 1, fenced: 1, generations: 2 })
  })

  test('tries again while the store fails, and sets aside what it refuses', async () => {
    const { begin, take, sent, answers, receiver, spool } = await rig()
    await begin()
    answers.push(
      () => ({ status: 'retry', error: new Error('away') }),
      () => {
        throw new Error('a bug')
      },
    )
    expect(await take(at(0, parts()))).toBe(true)
    expect(sent).toHaveLength(3)
    answers.push(() => ({ status: 'rejected', error: new Error('never') }))
    expect(await take(at(3, parts({ seq: 2, send: 2 })))).toBe(true)
    expect(receiver.counters).toMatchObject({ stored: 1, refused: 1, refusedRows: 10, retries: 2 })
    expect(spool.deadLetters).toBe(1)
    expect(receiver.trouble).toBeNull()
  })

  test('commits what it has stored when it is told to stop in the middle', async () => {
    const { begin, take, answers, receiver, committed, sent } = await rig()
    await begin()
    answers.push(async () => {
      void receiver.stop(AbortSignal.timeout(1000))
      return { status: 'accepted' }
    })
    expect(await take([...at(0, parts({ seq: 1 })), ...at(3, parts({ seq: 2, send: 2 }))])).toBe(false)
    expect(sent).toHaveLength(1)
    expect(committed()).toEqual(['3 6'])
  })
})

test('a fetch of many segments is committed on the way', async () => {
  const { begin, take, answers, later, cluster, committed } = await rig()
  await begin()
  const slow = () => {
    later(600)
    return { status: 'accepted' as const }
  }
  answers.push(slow, slow, slow)
  await take([1, 2, 3].flatMap((seq) => at(3 * (seq - 1), parts({ seq, send: seq }))))
  expect(cluster.log.map((line) => line.split(' ')[2])).toEqual(['0', '6', '9'])
  expect(committed()).toEqual(['9 9'])
})

test('a topic that was made again is read from its beginning', async () => {
  const { begin, take, sent, committed } = await rig()
  await begin()
  await take(at(100, parts({ seq: 1 })))
  expect(committed()).toEqual(['103 103'])
  await take(at(0, parts({ seq: 2, send: 2 })))
  expect(sent.map(({ mayBeStored }) => mayBeStored)).toEqual([true, true])
  expect(committed()).toEqual(['3 3'])
})

describe('of an edge that was killed', () => {
  test('what it sends again is the same segment, and replaces what it had begun', async () => {
    const { begin, take, sent, receiver, committed } = await rig()
    await begin()
    const before = parts({ seq: 1 })
    await take(at(0, [before[0]!]))
    expect(committed()).toEqual(['0 1'])
    await take(at(1, parts({ seq: 1, epoch: 'zzzzzzzzzzzzz', doubt: true })))
    expect(sent).toEqual([{ id: `0-${EPOCH}-1`, mayBeStored: true, content: 'abcd' }])
    expect(left(receiver)).toEqual({ replaced: 1 })
    expect(committed()).toEqual(['4 4'])
  })

  test('what it sends again after the answer was lost is not stored twice', async () => {
    const { begin, take, sent, receiver } = await rig()
    await begin()
    await take(at(0, parts({ seq: 1 })))
    await take(at(3, parts({ seq: 1, epoch: 'zzzzzzzzzzzzz', doubt: true })))
    expect(sent).toHaveLength(1)
    expect(receiver.counters).toMatchObject({ whole: 2, stored: 1, again: 1, againRows: 10 })
  })

  test('parts of two attempts are never put together', async () => {
    const { begin, take, sent, receiver } = await rig()
    await begin()
    const first = parts({ seq: 1, send: 1, content: ['ab', 'cd'] })
    // Damaged in between: fewer rows.
    const second = parts({ seq: 1, send: 2, content: ['ab'], doubt: true })
    await take(at(0, [first[0]!, second[0]!, first[1]!, first[2]!, second[1]!]))
    expect(sent.map(({ content }) => content)).toEqual(['ab'])
    expect(receiver.counters.leftParts.get('straggler')).toBe(2)
  })

  test('a part that is there twice counts once', async () => {
    const { begin, take, sent } = await rig()
    await begin()
    const [a, b, c] = parts()
    await take(at(0, [a!, a!, b!, b!, c!, c!, a!]))
    expect(sent).toHaveLength(1)
  })

  test('what never becomes whole is left behind, but not before everything in the partition was read', async () => {
    const { begin, take, later, receiver, committed } = await rig()
    await begin()
    await take(at(0, [parts({ seq: 1 })[0]!]))
    later(5000)
    const next = parts({ seq: 2, epoch: 'zzzzzzzzzzzzz' })
    await take(at(1, next), { endOffset: 9n })
    expect(left(receiver)).toEqual({})
    expect(committed()).toEqual(['0 4'])
    await take(at(4, parts({ seq: 3, send: 2, epoch: 'zzzzzzzzzzzzz' })))
    expect(left(receiver)).toEqual({ abandoned: 1 })
    expect(committed()).toEqual(['7 7'])
  })
})

describe('what is no part of a segment', () => {
  test('is counted and stops nothing', async () => {
    const { begin, take, receiver, sent } = await rig()
    await begin()
    const odd = [
      { value: Buffer.from('x'), headers: new Map() },
      { value: null, headers: new Map() },
    ]
    await take(at(0, [...odd, ...parts()]))
    expect(receiver.counters.leftParts.get('foreign')).toBe(2)
    expect(sent).toHaveLength(1)
  })

  test('a segment whose bytes are not what its manifest says is not stored', async () => {
    const { begin, take, receiver, sent, committed } = await rig()
    await begin()
    await take(at(0, parts({ crc: 1 })))
    expect(sent).toEqual([])
    expect(left(receiver)).toEqual({ damaged: 1 })
    expect(committed()).toEqual(['3 3'])
  })

  test('a newer schema is waited for, and what came before it is stored', async () => {
    const { begin, take, receiver, sent, committed } = await rig()
    await begin()
    const newer = { value: Buffer.from('?'), headers: new Map([['sidecast-schema', '99']]) }
    const records = at(0, [...parts(), newer, ...parts({ seq: 2, send: 2 })])
    expect(await take(records)).toBe(false)
    expect(receiver.trouble).toContain('schema 99')
    expect(await take(records)).toBe(false)
    expect(sent).toHaveLength(1)
    expect(committed()).toEqual(['3 7'])
  })
})

test('what the store took is known again after a start, and what was unfinished is gone', async () => {
  const dir = temporaryFolder()
  const first = await rig(new FakeCluster(), dir)
  await first.begin()
  await first.take(at(0, [...parts({ seq: 1 }), parts({ seq: 2, send: 2 })[0]!]))
  const second = await rig(first.cluster, dir)
  expect(keptIds(second.spool)).toEqual([`0-${EPOCH}-1`])
  expect(second.spool.bytes).toBe(4)
  const [kept] = second.spool.kept()
  expect(readFileSync(kept!.tables[0]!.file, 'utf8')).toBe('abcd')
})
