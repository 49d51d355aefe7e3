import { expect, test } from 'vitest'
import { Turns } from '../../../src/ingest/grpc/turns.ts'
import { createSenders, NO_SENDER_LIMITS } from '../../../src/lib/senders.ts'

function rig() {
  const senders = createSenders(NO_SENDER_LIMITS)
  const scheduled: (() => void)[] = []
  let turns = 0
  return {
    a: senders.open('10.0.0.1')!,
    b: senders.open('10.0.0.2')!,
    turns: new Turns({
      bytesMax: 100,
      bytesMaxAlone: 800,
      schedule: (next) => scheduled.push(next),
      onNext: () => turns++,
    }),
    scheduled,
    begun: () => turns,
  }
}

test('each sender has its share, and a new one in the next turn', () => {
  const { a, b, turns, scheduled } = rig()
  turns.spend(b, 1)
  turns.spend(a, 99)
  expect(turns.isOver(a)).toBe(false)
  turns.spend(a, 1)
  expect(turns.isOver(a)).toBe(true)
  expect(turns.isOver(b)).toBe(false)
  scheduled.shift()!()
  expect(turns.isOver(a)).toBe(false)
})

test('a sender has more while nobody else is read, in this turn and the one before', () => {
  const { a, b, turns, scheduled } = rig()
  turns.spend(a, 799)
  expect(turns.isOver(a)).toBe(false)
  turns.spend(a, 1)
  expect(turns.isOver(a)).toBe(true)
  scheduled.shift()!()
  turns.spend(a, 100)
  expect(turns.isOver(a)).toBe(false)
  turns.spend(b, 1)
  expect(turns.isOver(a)).toBe(true)
  scheduled.shift()!()
  turns.spend(a, 100)
  expect(turns.isOver(a)).toBe(true)
  scheduled.shift()!()
  turns.spend(a, 100)
  expect(turns.isOver(a)).toBe(false)
})

test('a turn ends once, however much is read in it, and is told to nobody who does not wait', () => {
  const { a, b, turns, scheduled, begun } = rig()
  for (const sender of [a, b, a]) turns.spend(sender, 60)
  expect(scheduled).toHaveLength(1)
  scheduled.shift()!()
  expect(begun()).toBe(0)
  turns.spend(a, 100)
  turns.wait()
  scheduled.shift()!()
  expect(begun()).toBe(1)
  turns.spend(a, 100)
  scheduled.shift()!()
  expect(begun()).toBe(1)
})
