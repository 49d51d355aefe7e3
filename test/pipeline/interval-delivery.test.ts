import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import {
  createIntervalDelivery,
  type Interval,
  type IntervalDeliveryOptions,
} from '../../src/pipeline/interval-delivery.ts'
import type { Journal } from '../../src/pipeline/journal.ts'
import type { Segment } from '../../src/pipeline/segment.ts'
import type { Outcome } from '../../src/pipeline/sink.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { block, journalIn, ManualClock, NEVER, settle, temporaryFolder } from '../support/journal.ts'
import { waitFor } from '../support/wait.ts'

interface Numbers {
  readonly seqs: number[]
  full: boolean
  add(segment: Segment): Promise<void>
}
interface Flushed {
  readonly seqs: readonly number[]
  readonly from: number
  readonly rows: number
  readonly part: number
}

const MINUTE = 60_000
/** The begin of a minute. */
const T0 = 1_700_000_040_000

async function rig(
  options: { dir?: string; clock?: ManualClock; more?: Partial<IntervalDeliveryOptions<Numbers>> } = {},
) {
  const clock = options.clock ?? new ManualClock(T0)
  const dir = options.dir ?? temporaryFolder()
  const journal = await journalIn(dir, { clock, limits: { ...LIMITS } })
  const flushed: Flushed[] = []
  let attempts = 0
  const told = {
    answer: (): Outcome => ({ status: 'accepted' }),
    add: async (_segment: Segment): Promise<void> => {},
    fullAt: Number.POSITIVE_INFINITY,
  }
  const sink = {
    name: 'aggregates',
    async start() {},
    async stop() {},
    async flush({ seqs }: Numbers, { fromMs, rows, part }: Interval): Promise<Outcome> {
      attempts++
      const answer = told.answer()
      if (answer.status === 'accepted') flushed.push({ seqs: [...seqs], from: (fromMs - T0) / MINUTE, rows, part })
      return answer
    },
  }
  const create = (): Numbers => ({
    seqs: [],
    full: false,
    async add(segment) {
      await told.add(segment)
      this.seqs.push(segment.seq)
      this.full = this.seqs.length >= told.fullAt
    },
  })
  const delivery = createIntervalDelivery({
    sink,
    create,
    journal,
    clock,
    log: silentLog,
    intervalMs: MINUTE,
    random: () => 1,
    ...options.more,
  })
  onTestFinished(() => delivery.stop(AbortSignal.abort()))
  return { clock, dir, journal, delivery, flushed, told, attempts: () => attempts }
}

const LIMITS = { segmentBytesMax: 1 << 20, segmentRowsMax: 100_000, segmentAgeMsMax: 1000, diskBytesMax: 1 << 30 }

async function seal(journal: Journal, count = 1): Promise<void> {
  for (let k = 0; k < count; k++) {
    journal.append('requests', block(`b${k}`))
    journal.seal()
  }
  await journal.settled()
  await settle(10)
}

test('what was sealed within an interval goes out together, when it is over', async () => {
  const { clock, journal, delivery, flushed } = await rig()
  await delivery.start()
  await seal(journal, 2)
  await clock.pass(30_000, 5000)
  await seal(journal)
  await clock.pass(20_000, 5000)
  expect(flushed).toEqual([])
  expect(delivery.account()).toMatchObject({ received: 30, held: 30, delivered: 0 })
  await clock.pass(12_000)
  await waitFor(() => expect(flushed).toEqual([{ seqs: [1, 2, 3], from: 0, rows: 30, part: 0 }]))
  expect(delivery.account()).toMatchObject({ received: 30, held: 0, delivered: 30 })
  await seal(journal)
  await clock.pass(62_000, 1000)
  await waitFor(() => expect(flushed.at(-1)).toEqual({ seqs: [4], from: 1, rows: 10, part: 0 }))
})

test('a backlog is sent interval by interval, as it would have been', async () => {
  const { clock, journal, delivery, flushed } = await rig()
  for (let k = 0; k < 3; k++) {
    await seal(journal, 2)
    await clock.pass(MINUTE, 10_000)
  }
  await delivery.start()
  await clock.pass(2000)
  await waitFor(() => expect(flushed).toHaveLength(3))
  expect(flushed.map(({ seqs, from }) => [from, ...seqs])).toEqual([
    [0, 1, 2],
    [1, 3, 4],
    [2, 5, 6],
  ])
})

test('the same interval is tried again until it is taken; nothing is acknowledged before', async () => {
  const { clock, journal, delivery, flushed, told, attempts } = await rig()
  told.answer = () => ({ status: 'retry', error: new Error('away'), afterMs: 3000 })
  await delivery.start()
  await seal(journal, 3)
  await clock.pass(70_000, 500)
  expect(attempts()).toBeGreaterThan(1)
  expect(delivery.stats()).toMatchObject({ lastError: 'away', deliveredSegments: 0 })
  expect(delivery.account()).toMatchObject({ held: 30, delivered: 0 })
  told.answer = () => ({ status: 'accepted' })
  await clock.pass(10_000)
  await waitFor(() => expect(flushed).toEqual([{ seqs: [1, 2, 3], from: 0, rows: 30, part: 0 }]))
  expect(delivery.stats()).toMatchObject({ lastError: null, failures: 0, deliveredSegments: 3 })
})

test('a killed process reads the open interval again, whole', async () => {
  const first = await rig()
  await first.delivery.start()
  await seal(first.journal, 2)
  await first.clock.pass(10_000)
  // Nothing of a kill but the files: neither a flush nor a cursor.
  await first.delivery.stop(AbortSignal.abort())
  await first.journal.stop(NEVER)
  const second = await rig({ dir: first.dir, clock: first.clock })
  await second.delivery.start()
  await seal(second.journal)
  await second.clock.pass(60_000, 1000)
  const ids = [...first.flushed, ...second.flushed].map(({ seqs }) => seqs)
  await waitFor(() => expect(second.flushed).toHaveLength(1))
  expect(ids.length).toBeLessThan(2)
  expect(second.flushed[0]).toMatchObject({ seqs: [1, 2, 1], rows: 30 })
})

test('a stop sends the open interval as far as it has come, the rest is a further part', async () => {
  const { clock, dir, journal, delivery, flushed } = await rig()
  await delivery.start()
  await seal(journal, 2)
  await delivery.stop(NEVER)
  expect(flushed).toEqual([{ seqs: [1, 2], from: 0, rows: 20, part: 0 }])
  await journal.stop(NEVER)
  const next = await rig({ dir, clock })
  await next.delivery.start()
  await seal(next.journal)
  await clock.pass(62_000, 1000)
  await waitFor(() => expect(next.flushed).toEqual([{ seqs: [1], from: 0, rows: 10, part: 0 }]))
})

test('a stop leaves what fails for the next start', async () => {
  const { journal, delivery, told } = await rig()
  told.answer = () => ({ status: 'retry', error: new Error('away') })
  await delivery.start()
  await seal(journal, 2)
  await delivery.stop(NEVER)
  await delivery.stop(NEVER)
  expect(delivery.account()).toMatchObject({ received: 20, held: 20 })
})

test('an aggregate that is full goes out early, in parts', async () => {
  const { clock, journal, delivery, flushed, told } = await rig()
  told.fullAt = 2
  await delivery.start()
  await seal(journal, 5)
  await waitFor(() => expect(flushed).toHaveLength(2))
  await clock.pass(62_000, 1000)
  await waitFor(() =>
    expect(flushed.map(({ seqs, part }) => [part, ...seqs])).toEqual([
      [0, 1, 2],
      [1, 3, 4],
      [2, 5],
    ]),
  )
})

test('so does one of too many segments', async () => {
  const { journal, delivery, flushed } = await rig({ more: { segmentsMax: 3 } })
  await delivery.start()
  await seal(journal, 7)
  await waitFor(() =>
    expect(flushed.map(({ seqs }) => seqs)).toEqual([
      [1, 2, 3],
      [4, 5, 6],
    ]),
  )
})

test('an interval that is refused for good is kept as dead letters, and the next one goes out', async () => {
  const { clock, dir, journal, delivery, flushed, told } = await rig()
  told.answer = () => ({ status: 'rejected', error: new Error('no such metric') })
  await delivery.start()
  await seal(journal, 2)
  await clock.pass(62_000, 1000)
  await waitFor(() => expect(delivery.account()).toMatchObject({ rejected: 20, held: 0 }))
  expect(readdirSync(join(dir, '0', 'dead-letter', 'aggregates'))).toHaveLength(2)
  told.answer = () => ({ status: 'accepted' })
  await seal(journal)
  await clock.pass(62_000, 1000)
  await waitFor(() => expect(flushed).toMatchObject([{ seqs: [3] }]))
})

test('a segment that cannot be read is set aside after some attempts, those around it are sent', async () => {
  const { clock, journal, delivery, flushed, told } = await rig()
  told.add = async ({ seq }) => {
    if (seq === 2) throw new Error('no block of ours')
  }
  await delivery.start()
  await seal(journal, 3)
  await clock.pass(65_000, 100)
  await waitFor(() => expect(flushed.flatMap(({ seqs }) => seqs).sort()).toEqual([1, 3]))
  expect(delivery.account()).toEqual({ received: 30, delivered: 20, rejected: 10, dropped: 0, lost: 0, held: 0 })
})

test('a clock that goes back does not keep an interval open', async () => {
  const { clock, journal, delivery, flushed } = await rig()
  await delivery.start()
  await seal(journal)
  clock.set(T0 - 3_600_000)
  await seal(journal)
  await clock.pass(61_500 + 250)
  await waitFor(() => expect(flushed.map(({ seqs }) => seqs)).toEqual([[1], [2]]))
})
