import { expect, test } from 'vitest'
import { createLineMutationRun } from '../../../support/line-mutation.ts'

test('damaged lines cost themselves and nothing else', () => {
  const report = createLineMutationRun()({ seed: 1, count: 5000, onMessage: () => {} })
  expect(report.failure).toBeNull()
  expect(report.rejected).toBeGreaterThan(500)
  expect(report.compared).toBeGreaterThan(300)
})
