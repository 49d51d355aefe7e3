import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { createDelivery, type Delivery } from '../../src/pipeline/delivery.ts'
import type { Journal } from '../../src/pipeline/journal.ts'
import { requestReplay } from '../../src/pipeline/journal-replay.ts'
import { createLedger, type Ledger } from '../../src/pipeline/ledger.ts'
import type { Outcome } from '../../src/pipeline/sink.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { block, journalIn, ManualClock, NEVER, settle, temporaryFolder } from '../support/journal.ts'

const REFUSED: Outcome = { status: 'rejected', error: new Error('no such column') }

/** A journal with two sinks, `store` and `other`, that answer as told. */
async function rig(dir: string, clock = new ManualClock()) {
  const journal = await journalIn(dir, { clock })
  const answers = new Map<string, Outcome>()
  const sent: string[] = []
  const deliveries = ['store', 'other'].map((name) => {
    const sink = {
      name,
      async start() {},
      async stop() {},
      async send({ id }: { readonly id: string }): Promise<Outcome> {
        sent.push(`${name} ${id.split('-')[2]}`)
        return answers.get(name) ?? { status: 'accepted' }
      },
    }
    const delivery = createDelivery({ sink, journal, clock, log: silentLog, random: () => 1 })
    onTestFinished(() => delivery.stop(AbortSignal.abort()))
    return delivery
  }) as [Delivery, Delivery]
  const ledger = createLedger({ journal, dir, store: 'store', clock, log: silentLog })
  await journal.start()
  for (const delivery of deliveries) await delivery.start()
  const of = (adapter: string) => ledger.adapters().find((one) => one.adapter === adapter)!
  return { clock, journal, deliveries, ledger, answers, sent, of }
}

async function seal({ journal, ledger }: { journal: Journal; ledger: Ledger }): Promise<void> {
  const rows = block('a')
  journal.append('requests', rows)
  ledger.journaled('requests', rows)
  journal.seal([{ table: 'latency_1m', block: block('r', { rows: 3 }) }])
  await journal.settled()
  await settle(10)
}

/** Lets time pass until it holds: files are read and moved off the event loop. */
async function until(clock: ManualClock, holds: () => boolean): Promise<void> {
  for (let k = 0; k < 1000 && !holds(); k++) {
    await clock.pass(250)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  expect(holds()).toBe(true)
}

test('a dead letter is sent again to the sink that refused it, and to no other', async () => {
  const dir = temporaryFolder()
  const one = await rig(dir)
  const { clock, journal, deliveries, answers, sent, of } = one
  answers.set('store', REFUSED)
  const id = journal.segmentId
  await seal(one)
  expect(of('store')).toMatchObject({ delivered: 0, rejected: 10, held: 0 })
  answers.clear()
  expect(requestReplay(dir, { sink: 'store' }).asked).toMatchObject([{ sink: 'store', id }])
  await until(clock, () => of('store').delivered === 10)
  expect(sent).toEqual(['store 1', 'other 1', 'store 1'])
  expect(of('store')).toMatchObject({ delivered: 10, rejected: 0, held: 0 })
  expect(of('other')).toMatchObject({ delivered: 10, rejected: 0, held: 0 })
  expect(deliveries[0].account()).toEqual({ received: 20, delivered: 10, rejected: 10, dropped: 0, lost: 0, held: 0 })
  expect(existsSync(join(dir, '0', 'dead-letter', 'store', id))).toBe(false)
})

test('one whose segment is long gone comes back whole, after a restart as well', async () => {
  const dir = temporaryFolder()
  const first = await rig(dir)
  first.answers.set('store', REFUSED)
  await seal(first)
  first.answers.clear()
  await seal(first)
  // Every sink has both: they are deleted.
  await until(first.clock, () => [...first.journal.segments()].length === 0)
  await first.ledger.stop(NEVER)
  for (const delivery of first.deliveries) await delivery.stop(AbortSignal.abort())
  await first.journal.stop(NEVER)

  expect(requestReplay(dir, {}).asked).toHaveLength(1)
  const second = await rig(dir, first.clock)
  await until(second.clock, () => second.of('store').delivered === 20)
  expect(second.sent).toEqual(['store 1'])
  expect(second.of('store')).toMatchObject({ received: 20, delivered: 20, rejected: 0, held: 0 })
  expect(second.of('other')).toMatchObject({ received: 20, delivered: 20, rejected: 0, held: 0 })
  // And it is not sent a third time.
  await second.clock.pass(200_000, 5000)
  expect(second.sent).toEqual(['store 1'])
})

test('a request survives a kill before and after the segment is back', async () => {
  const dir = temporaryFolder()
  const first = await rig(dir)
  first.answers.set('store', REFUSED)
  await seal(first)
  await until(first.clock, () => [...first.journal.segments()].length === 0)
  first.answers.set('store', { status: 'retry', error: new Error('away') })
  requestReplay(dir, {})
  await until(first.clock, () => first.deliveries[0].backlog().segments === 1)
  // As after a kill: nothing but the files is left.
  for (const delivery of first.deliveries) await delivery.stop(AbortSignal.abort())
  await first.journal.stop(NEVER)
  const second = await rig(dir, first.clock)
  await until(second.clock, () => second.sent.length > 0)
  expect(second.sent).toEqual(['store 1'])
  expect(second.deliveries[0].account()).toMatchObject({ received: 10, delivered: 10, held: 0 })
})

test('what is refused again is a dead letter again, and can be asked for again', async () => {
  const dir = temporaryFolder()
  const one = await rig(dir)
  const { clock, journal, answers, of } = one
  answers.set('store', REFUSED)
  await seal(one)
  for (let k = 1; k <= 3; k++) {
    expect(requestReplay(dir, {}).asked).toHaveLength(1)
    await until(clock, () => journal.stats().deadLettered === k + 1)
    expect(of('store')).toMatchObject({ delivered: 0, rejected: 10, held: 0 })
  }
  expect(journal.stats()).toMatchObject({ deadLettered: 4, replayed: 3 })
})

test('only what is asked for is sent again', async () => {
  const dir = temporaryFolder()
  const one = await rig(dir)
  const { journal, answers } = one
  answers.set('store', REFUSED)
  answers.set('other', REFUSED)
  const id = journal.segmentId
  await seal(one)
  await seal(one)
  expect(requestReplay(dir, { sink: 'nobody' })).toEqual({ asked: [], without: [] })
  expect(requestReplay(dir, { sink: 'other', ids: [id] }).asked).toMatchObject([{ sink: 'other', id }])
  expect(requestReplay(dir, {}).asked).toHaveLength(3)
})
