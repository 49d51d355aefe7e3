import { expect, test } from 'vitest'
import { Backoff } from '../../src/lib/backoff.ts'

test('waits double up to the cap, between half and all of it', () => {
  const low = new Backoff({ firstMs: 100, maxMs: 1000, random: () => 0 })
  const high = new Backoff({ firstMs: 100, maxMs: 1000, random: () => 1 })
  expect([1, 2, 3, 4, 5, 6].map(() => low.nextMs())).toEqual([50, 100, 200, 400, 500, 500])
  expect([1, 2, 3, 4, 5, 6].map(() => high.nextMs())).toEqual([100, 200, 400, 800, 1000, 1000])
})

test('what the other side asks for is the least', () => {
  const backoff = new Backoff({ firstMs: 100, maxMs: 1000, random: () => 0 })
  expect(backoff.nextMs(30_000)).toBe(30_000)
  expect(backoff.nextMs(1)).toBe(100)
})

test('begins anew after a success, and stays finite after thousands of failures', () => {
  const backoff = new Backoff({ firstMs: 100, maxMs: 5000, random: () => 1 })
  for (let n = 0; n < 5000; n++) expect(backoff.nextMs()).toBeLessThanOrEqual(5000)
  expect(backoff.failures).toBe(5000)
  backoff.reset()
  expect(backoff.failures).toBe(0)
  expect(backoff.nextMs()).toBe(100)
})
