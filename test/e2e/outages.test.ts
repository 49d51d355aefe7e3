import { expect, it } from 'vitest'
import { allDown } from '../support/all-down.ts'
import { fullDisk, stoppedStore } from '../support/outages.ts'

/** Samples of `test/campaign/outages.ts`. */
it('holds what arrives while the store stands still, and delivers all of it afterwards', async () => {
  const result = await stoppedStore({ seconds: 6, rate: 3000 })
  expect(result.waitingMost).toBeGreaterThan(2000)
  expect(result.stored).toBe(result.sent)
})

it('survives a full disk, says so at /readyz, and goes on when there is room', async () => {
  const result = await fullDisk({ rate: 1000 })
  expect(result.full.status).toBe(503)
  expect(result.full.reasons.join()).toMatch(/journal|store/)
  expect(result).toMatchObject({ alive: true, readyAgain: true })
  expect(result.stored).toBe(result.sent)
})

it('holds what arrives while everything downstream is away, and then brings all of it to everybody, in order', async () => {
  const result = await allDown({ seconds: 4, rate: 1000, afterSeconds: 5 })
  expect(result.waitingMost).toBeGreaterThan(500)
  expect(result.stored).toBe(result.sent)
  expect(result.outOfOrder).toBe(0)
  expect(result.disk.measuredMb).toBeLessThanOrEqual(1.5 * result.disk.computedMb + 10)
  for (const account of Object.values(result.adapters)) {
    expect(account).toEqual({ received: result.sent, delivered: result.sent, rejected: 0, dropped: 0, held: 0 })
  }
})
