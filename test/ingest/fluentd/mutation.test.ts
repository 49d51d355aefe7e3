import { expect, test } from 'vitest'
import { runReceiverMutations } from '../../support/receiver-mutation.ts'

test.each(['fluentd', 'syslog'] as const)('damaged input: %s', async (what) => {
  const { failure } = await runReceiverMutations(what, { seed: 7, count: 500 })
  expect(failure).toBeNull()
})
