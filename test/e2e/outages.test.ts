import { expect, it } from 'vitest'
import { fullDisk, stoppedStore } from '../support/outages.ts'

/** Samples of `test/campaign/outages.ts`. */
it('holds what arrives while the store stands still, and delivers all of it afterwards', async () => {
  const result = await stoppedStore({ seconds: 6, rate: 3000 })
  expect(result.waitingMost).toBeGreaterThan(5000)
  expect(result.stored).toBe(result.sent)
})

it('survives a full disk, says so at /readyz, and goes on when there is room', async () => {
  const result = await fullDisk({ rate: 1000 })
  expect(result.full.status).toBe(503)
  expect(result.full.reasons.join()).toMatch(/journal|store/)
  expect(result).toMatchObject({ alive: true, readyAgain: true })
  expect(result.stored).toBe(result.sent)
})
