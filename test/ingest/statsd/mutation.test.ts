import { expect, test } from 'vitest'
import { createMetricsMutationRun, createStatsdMutationRun } from '../../support/stats-mutation.ts'

// A sample; `npm run campaign -- mutate-statsd` is the whole of it.
const round = { seed: 7, count: 3000, onMessage() {} }

test('a damaged line costs no other line', () => {
  const { failure, rejected, compared } = createStatsdMutationRun()(round)
  expect(failure).toBeNull()
  expect(rejected).toBeGreaterThan(500)
  expect(compared).toBe(9000)
})

test('a damaged family costs no other family', () => {
  const { failure, rejected, compared } = createMetricsMutationRun()(round)
  expect(failure).toBeNull()
  expect(rejected).toBeGreaterThan(500)
  expect(compared).toBeGreaterThan(6000)
})
