import { expect, it } from 'vitest'
import { killMain } from '../support/kill-main.ts'

/** A seeded sample of `test/campaign/kill-main.ts`. */
it('is killed under load and stores every row once, but for the last moments before each kill', async () => {
  const result = await killMain({ kills: 3, seed: 11, rate: 5000, missingMsMax: Number.POSITIVE_INFINITY })
  expect(result.differences).toEqual([])
  expect(result.stored).toBeGreaterThan(1000)
})
