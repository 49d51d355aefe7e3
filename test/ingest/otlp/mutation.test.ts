import { expect, test } from 'vitest'
import { createOtlpMutationRun } from '../../support/otlp-mutation.ts'

const SEED = Number(process.env.SEED ?? 4711)
const COUNT = Number(process.env.COUNT ?? 2_000)

test(`${COUNT} damaged requests: no crash, nothing wrong beside the damage or after it (SEED=${SEED})`, () => {
  const report = createOtlpMutationRun()({ seed: SEED, count: COUNT })
  expect(report.failure).toBeNull()
  expect(report.count).toBe(COUNT)
  expect(report.rejected).toBeGreaterThan(COUNT / 4)
  expect(report.compared).toBeGreaterThan(COUNT / 2)
}, 600_000)
