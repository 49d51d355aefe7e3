import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { createDelivery, type Delivery, type DeliveryOptions } from '../../src/pipeline/delivery.ts'
import type { Journal } from '../../src/pipeline/journal.ts'
import type { Segment } from '../../src/pipeline/segment.ts'
import type { Outcome, SegmentSink } from '../../src/pipeline/sink.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { block, journalIn, ManualClock, NEVER, settle, temporaryFolder } from '../support/journal.ts'
import { waitFor } from '../support/wait.ts'

/** A sink that does as it is told, and remembers. */
class ScriptedSink implements SegmentSink {
  readonly name: string
  readonly sent: number[] = []
  answer: (segment: Segment, signal: AbortSignal) => Promise<Outcome> | Outcome = () => ({ status: 'accepted' })

  constructor(name = 'store') {
    this.name = name
  }

  async start(): Promise<void> {}
  async stop(): Promise<void> {}

  async send(segment: Segment, signal: AbortSignal): Promise<Outcome> {
    this.sent.push(segment.seq)
    return this.answer(segment, signal)
  }
}

const retry = (afterMs?: number): Outcome => ({
  status: 'retry',
  error: new Error('away'),
  ...(afterMs === undefined ? {} : { afterMs }),
})

async function rig(options: { sink?: ScriptedSink; journal?: Journal; clock?: ManualClock } = {}) {
  const clock = options.clock ?? new ManualClock()
  const dir = temporaryFolder()
  const journal = options.journal ?? (await journalIn(dir, { clock }))
  const sink = options.sink ?? new ScriptedSink()
  const delivery = started({ sink, journal, clock, log: silentLog, random: () => 1 })
  return { clock, dir, journal, sink, delivery }
}

function started(options: DeliveryOptions): Delivery {
  const delivery = createDelivery(options)
  onTestFinished(() => delivery.stop(AbortSignal.abort()))
  return delivery
}

async function seal(journal: Journal, ...tags: string[]): Promise<void> {
  for (const tag of tags) {
    journal.append('requests', block(tag))
    journal.seal([{ table: 'latency_1m', block: block('r', { rows: 3 }) }])
  }
  await journal.settled()
  await settle()
}

test('delivers in order, one at a time', async () => {
  const { journal, sink, delivery } = await rig()
  let open = 0
  sink.answer = async () => {
    expect(++open).toBe(1)
    await settle(1)
    open--
    return { status: 'accepted' }
  }
  await delivery.start()
  await seal(journal, 'a', 'b', 'c')
  await settle(20)
  expect(sink.sent).toEqual([1, 2, 3])
  expect(delivery.stats()).toMatchObject({ deliveredSegments: 3, deliveredRows: 30, failures: 0, attempts: 3 })
  expect(delivery.backlog().segments).toBe(0)
})

test('tries again, later and later, until it works; the next one waits its turn', async () => {
  const { clock, journal, sink, delivery } = await rig()
  sink.answer = () => retry()
  await delivery.start()
  await seal(journal, 'a', 'b')
  const times: number[] = []
  const begin = clock.now()
  for (let n = 0; n < 100; n++) {
    const before = sink.sent.length
    await clock.pass(100, 100)
    if (sink.sent.length > before) times.push(clock.now() - begin)
  }
  expect(times.slice(0, 5)).toEqual([100, 300, 700, 1500, 3100])
  expect(delivery.stats()).toMatchObject({ failures: sink.sent.length, lastError: 'away', deliveredSegments: 0 })
  expect(new Set(sink.sent)).toEqual(new Set([1]))
  sink.answer = () => ({ status: 'accepted' })
  await clock.pass(5000)
  await settle(10)
  expect(sink.sent.slice(-2)).toEqual([1, 2])
  expect(delivery.stats()).toMatchObject({ failures: 0, lastError: null, deliveredSegments: 2 })
})

test('waits at least as long as the sink asks', async () => {
  const { clock, journal, sink, delivery } = await rig()
  sink.answer = () => retry(30_000)
  await delivery.start()
  await seal(journal, 'a')
  await clock.pass(29_000)
  expect(sink.sent).toEqual([1])
  await clock.pass(1000)
  expect(sink.sent).toEqual([1, 1])
})

test('what is refused for good is kept as a dead letter, counted, and passed over', async () => {
  const { dir, journal, sink, delivery } = await rig()
  sink.answer = (segment) =>
    segment.seq === 1 ? { status: 'rejected', error: new Error('no such column') } : { status: 'accepted' }
  await delivery.start()
  const id = journal.segmentId
  await seal(journal, 'a', 'b')
  await settle(10)
  expect(sink.sent).toEqual([1, 2])
  expect(delivery.stats()).toMatchObject({
    rejectedSegments: 1,
    rejectedRows: 10,
    deliveredSegments: 1,
    deliveredRows: 10,
  })
  expect(existsSync(join(dir, '0', 'dead-letter', 'store', id, 'requests.seg'))).toBe(true)
})

test('a dead letter that cannot be kept is a reason to wait, not to drop', async () => {
  const clock = new ManualClock()
  const journal = await journalIn(temporaryFolder(), { clock })
  let broken = true
  const refusing: Journal = Object.create(journal, {
    deadLetter: {
      value: (...args: Parameters<Journal['deadLetter']>) => {
        if (broken) throw new Error('ENOSPC')
        journal.deadLetter(...args)
      },
    },
    reader: { value: (sink: string) => journal.reader(sink) },
    settled: { value: () => journal.settled() },
  })
  const { sink, delivery } = await rig({ journal: refusing, clock })
  sink.answer = () => ({ status: 'rejected', error: new Error('no') })
  await delivery.start()
  await seal(journal, 'a')
  expect(delivery.stats()).toMatchObject({ rejectedSegments: 0, failures: 1 })
  broken = false
  await clock.pass(200)
  await settle(10)
  expect(delivery.stats()).toMatchObject({ rejectedSegments: 1 })
})

test('a sink that throws is tried again', async () => {
  const { clock, journal, sink, delivery } = await rig()
  sink.answer = () => {
    throw new Error('bug')
  }
  await delivery.start()
  await seal(journal, 'a')
  expect(delivery.stats().lastError).toBe('bug')
  sink.answer = () => ({ status: 'accepted' })
  await clock.pass(200)
  await settle(10)
  expect(delivery.stats().deliveredSegments).toBe(1)
})

test("a dead sink holds its own segments and nobody else's", async () => {
  const clock = new ManualClock()
  const journal = await journalIn(temporaryFolder(), { clock, keepAfterAckMs: 0 })
  const dead = new ScriptedSink('dead')
  dead.answer = () => new Promise(() => {})
  const [a, b] = [
    await rig({ sink: dead, journal, clock }),
    await rig({ sink: new ScriptedSink('live'), journal, clock }),
  ]
  await journal.start()
  await a.delivery.start()
  await b.delivery.start()
  await seal(journal, 'a', 'b', 'c')
  await settle(20)
  expect(b.sink.sent).toEqual([1, 2, 3])
  expect(journal.backlog('dead')).toMatchObject({ segments: 3, rows: 30 })
  expect(journal.backlog('live')).toMatchObject({ segments: 0 })
  expect(journal.stats().segmentsDeleted).toBe(0)
})

test('stop delivers what is left', async () => {
  const { journal, sink, delivery } = await rig()
  sink.answer = async () => {
    await settle(2)
    return { status: 'accepted' }
  }
  await delivery.start()
  for (const tag of ['a', 'b', 'c']) {
    journal.append('requests', block(tag))
    journal.seal()
  }
  await delivery.stop(NEVER)
  await delivery.stop(NEVER)
  expect(sink.sent).toEqual([1, 2, 3])
  expect(journal.backlog('store').segments).toBe(0)
})

test('stop ends with the first failure: the rest waits for the next start', async () => {
  const { journal, sink, delivery } = await rig()
  sink.answer = (segment) => (segment.seq === 2 ? retry() : { status: 'accepted' })
  await delivery.start()
  for (const tag of ['a', 'b', 'c']) {
    journal.append('requests', block(tag))
    journal.seal()
  }
  await delivery.stop(NEVER)
  expect(sink.sent.slice(0, 2)).toEqual([1, 2])
  expect(journal.backlog('store').segments).toBe(2)
})

test('stop ends a wait before the next attempt, and makes it', async () => {
  const { journal, sink, delivery } = await rig()
  sink.answer = () => retry(3_600_000)
  await delivery.start()
  await seal(journal, 'a')
  sink.answer = () => ({ status: 'accepted' })
  await delivery.stop(NEVER)
  expect(journal.backlog('store').segments).toBe(0)
})

test('the deadline ends an attempt that hangs; its segment is not acknowledged', async () => {
  const { journal, sink, delivery } = await rig()
  sink.answer = (_segment, signal) =>
    new Promise((resolve) => signal.addEventListener('abort', () => resolve(retry()), { once: true }))
  await delivery.start()
  await seal(journal, 'a')
  const deadline = new AbortController()
  const stopped = delivery.stop(deadline.signal)
  await settle(5)
  deadline.abort()
  await stopped
  expect(journal.backlog('store').segments).toBe(1)
})

test('the deadline also ends what does not heed it', async () => {
  const { journal, sink, delivery } = await rig()
  sink.answer = () => new Promise(() => {})
  await delivery.start()
  await seal(journal, 'a')
  await delivery.stop(AbortSignal.timeout(20))
  expect(journal.backlog('store').segments).toBe(1)
})

test('stop before start is nothing', async () => {
  const { journal, sink, delivery } = await rig()
  await seal(journal, 'a')
  await delivery.stop(NEVER)
  expect(sink.sent).toEqual([])
  expect(journal.backlog('store').segments).toBe(1)
})

test('fresh segments go before a backlog where the sink wants it so, and nothing is left out', async () => {
  const clock = new ManualClock()
  const dir = temporaryFolder()
  const journal = await journalIn(dir, { clock })
  const sink = new ScriptedSink()
  const delivery = started({ sink, journal, clock, log: silentLog, random: () => 1, freshFirst: true })
  sink.answer = () => retry()
  await delivery.start()
  await seal(journal, 'a', 'b', 'c')
  await clock.pass(20_000, 5000)
  await seal(journal, 'd')
  sink.answer = () => ({ status: 'accepted' })
  sink.sent.length = 0
  await clock.pass(6000)
  await settle(20)
  expect(sink.sent).toEqual([4, 1, 2, 3])
  expect(delivery.account()).toMatchObject({ received: 40, delivered: 40, held: 0 })
})

test('what was taken out of order is not sent again after a restart', async () => {
  const clock = new ManualClock()
  const dir = temporaryFolder()
  const journal = await journalIn(dir, { clock })
  const sink = new ScriptedSink()
  const delivery = started({ sink, journal, clock, log: silentLog, random: () => 1, freshFirst: true })
  await seal(journal, 'a', 'b')
  await clock.pass(20_000, 5000)
  await seal(journal, 'c')
  sink.answer = ({ seq }) => (seq === 3 ? { status: 'accepted' } : retry())
  await delivery.start()
  await settle(20)
  expect(sink.sent).toEqual([3, 1])
  await delivery.stop(AbortSignal.abort())
  await journal.stop(NEVER)
  const again = await rig({ journal: await journalIn(dir, { clock }), clock })
  await again.delivery.start()
  await waitFor(() => expect(again.delivery.backlog().segments).toBe(0))
  expect(again.sink.sent).toEqual([1, 2])
})

test('rows that the sink left out are counted apart', async () => {
  const { journal, sink, delivery } = await rig()
  sink.answer = () => ({ status: 'accepted', dropped: 4 })
  await delivery.start()
  await seal(journal, 'a')
  await settle(10)
  expect(delivery.account()).toEqual({ received: 10, delivered: 6, rejected: 0, dropped: 4, lost: 0, held: 0 })
})
