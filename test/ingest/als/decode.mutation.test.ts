import { expect, test } from 'vitest'
import { createMutationRun } from '../../support/als-mutation.ts'

const SEED = Number(process.env.SEED ?? 4711)
const COUNT = Number(process.env.COUNT ?? 8_000)

test(`${COUNT} damaged messages: no crash, and no row wrong that precedes the damage (SEED=${SEED})`, () => {
  const report = createMutationRun()({ seed: SEED, count: COUNT })
  expect(report.failure).toBeNull()
  expect(report.count).toBe(COUNT)
  // The damage must be damage, and there must be something before it to compare.
  expect(report.rejected).toBeGreaterThan(COUNT / 4)
  expect(report.compared).toBeGreaterThan(COUNT / 4)
}, 600_000)
