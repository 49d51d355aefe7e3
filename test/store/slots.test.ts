import { describe, expect, it } from 'vitest'
import { Slots } from '../../src/store/slots.ts'

const never = new AbortController().signal
const slots = (places: number, waitingMax: number, waitMsMax = 10_000) =>
  new Slots({ name: 'read', places, waitingMax, waitMsMax })

describe('slots', () => {
  it('run as many as there are places, the rest in order', async () => {
    const lane = slots(2, 10)
    const log: string[] = []
    const gates = [1, 2, 3, 4].map(() => Promise.withResolvers<void>())
    const runs = gates.map((gate, index) =>
      lane.run(never, async () => {
        log.push(`in ${index}`)
        await gate.promise
      }),
    )
    await Promise.resolve()
    expect(log).toEqual(['in 0', 'in 1'])
    expect([lane.running, lane.waiting]).toEqual([2, 2])
    gates[1]!.resolve()
    await runs[1]
    await Promise.resolve()
    expect(log).toEqual(['in 0', 'in 1', 'in 2'])
    for (const gate of gates) gate.resolve()
    await Promise.all(runs)
    expect([lane.running, lane.waiting]).toEqual([0, 0])
  })

  it('refuse when too many wait, with the code that means "again later"', async () => {
    const lane = slots(1, 1)
    const gate = Promise.withResolvers<void>()
    const runs = [lane.run(never, () => gate.promise), lane.run(never, async () => {})]
    await expect(lane.run(never, async () => {})).rejects.toThrow(/Code: 202\..*1 run and 1 wait/)
    gate.resolve()
    await Promise.all(runs)
  })

  it('let nobody wait longer than told', async () => {
    const lane = slots(1, 1, 20)
    const gate = Promise.withResolvers<void>()
    const first = lane.run(never, () => gate.promise)
    await expect(lane.run(never, async () => {})).rejects.toThrow(/waited 20 ms/)
    expect(lane.waiting).toBe(0)
    gate.resolve()
    await first
  })

  it('forget who left the queue, and give the place on after a failure', async () => {
    const lane = slots(1, 2)
    const gate = Promise.withResolvers<void>()
    const left = new AbortController()
    const first = lane.run(never, () => gate.promise)
    const second = lane.run(left.signal, async () => 'second')
    const third = lane.run(never, async () => 'third')
    left.abort()
    await expect(second).rejects.toThrow(/Code: 394\./)
    await expect(lane.run(left.signal, async () => {})).rejects.toThrow(/Code: 394\./)
    gate.reject(new Error('boom'))
    await expect(first).rejects.toThrow('boom')
    expect(await third).toBe('third')
    expect(lane.running).toBe(0)
  })
})
