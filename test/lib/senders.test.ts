import { describe, expect, test } from 'vitest'
import { createSenders } from '../../src/lib/senders.ts'

function rig(limits: { connectionsMax?: number; streamsMax?: number; bytesPerSecond?: number }) {
  let now = 0
  const all = { connectionsMax: 0, streamsMax: 0, bytesPerSecond: 0, ...limits }
  return { senders: createSenders(all, () => now), pass: (ms: number) => (now += ms), all }
}

describe('bounds of one sender', () => {
  test('connections are counted by address, and free again when they close', () => {
    const { senders } = rig({ connectionsMax: 2 })
    const first = senders.open('10.0.0.1')!
    expect(senders.open('::ffff:10.0.0.1')).toBe(first)
    expect(senders.open('10.0.0.1')).toBeNull()
    expect(senders.open('10.0.0.2')).not.toBeNull()
    expect(senders.counters.connectionsRefused).toBe(1)
    first.close()
    expect(senders.open('10.0.0.1')).toBe(first)
  })

  test('nobody is remembered who has left', () => {
    const { senders } = rig({ connectionsMax: 1 })
    for (let k = 0; k < 1000; k++) senders.open(`10.0.${k >> 8}.${k & 255}`)!.close()
    expect(senders.size).toBe(0)
    expect(senders.find('10.0.0.1')).toBeNull()
  })

  test('streams are counted over all connections', () => {
    const { senders } = rig({ streamsMax: 2 })
    const sender = senders.open('10.0.0.1')!
    expect([sender.openStream(), sender.openStream(), sender.openStream()]).toEqual([true, true, false])
    sender.closeStream()
    expect([sender.openStream(), senders.counters.streamsRefused]).toEqual([true, 1])
  })

  test('bytes over those of a second make a debt, which is paid by time', () => {
    const { senders, pass } = rig({ bytesPerSecond: 1000 })
    const sender = senders.open('10.0.0.1')!
    expect([sender.spend(1000), sender.waitMs()]).toEqual([0, 0])
    expect(sender.spend(500)).toBe(500)
    pass(400)
    expect(sender.waitMs()).toBeCloseTo(100)
    pass(100)
    expect([sender.waitMs(), senders.counters.held]).toEqual([0, 1])
    pass(60_000)
    // A second's bytes are all that can be saved up.
    expect([sender.spend(1000), sender.spend(1)]).toEqual([0, 1])
  })

  test('who leaves in debt and comes back finds it again', () => {
    const { senders } = rig({ bytesPerSecond: 1000 })
    const sender = senders.open('10.0.0.1')!
    sender.spend(3000)
    sender.close()
    expect(senders.open('10.0.0.1')!.waitMs()).toBe(2000)
  })

  test('another bound counts at once', () => {
    const { senders, all } = rig({ bytesPerSecond: 1000 })
    const sender = senders.open('10.0.0.1')!
    sender.spend(5000)
    senders.set({ ...all, bytesPerSecond: 0 })
    expect(sender.spend(1 << 20)).toBe(0)
  })
})
