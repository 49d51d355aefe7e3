import { expect, it } from 'vitest'
import { compareWays } from '../support/compare-ways.ts'

/** A seeded sample of `test/campaign/everything.ts`. */
it('stores the same requests and the same counters by whatever way one Envoy tells them', async () => {
  const count = 1500
  const found = await compareWays({ count, seed: 1 })
  expect(found.differences).toEqual([])
  expect(found.compared).toBe(4 * count)
  expect(found.spans).toBeGreaterThan(50)
  const { dogstatsd, ...sure } = found.counters
  for (const [way, counters] of Object.entries(sure)) expect(counters, way).toBeGreaterThan(50)
  if (found.kernelDrops === 0) expect(dogstatsd).toBeGreaterThan(50)
})
