import { expect, test } from 'vitest'
import { runReceiverMutations } from '../../support/receiver-mutation.ts'

test.each(['text', 'openmetrics', 'protobuf'] as const)('damaged pages: %s', async (what) => {
  const { failure, rejected } = await runReceiverMutations(what, { seed: 7, count: 300 })
  expect(failure).toBeNull()
  expect(rejected).toBeGreaterThan(30)
})
