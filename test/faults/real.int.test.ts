import { expect, test } from 'vitest'
import { runReal } from '../../bench/faults/real.ts'
import { createRealPlan } from '../../bench/faults/real-plan.ts'

/** One of each kind; `node bench/faults.ts --level real --runs 300` is the campaign. */
test.each([
  ['the engine inside', 46, 'embedded'],
  ['the engine behind a connection that breaks', 4, 'server'],
] as const)('with %s, the store has every request once after the faults of seed %i', async (_, seed, store) => {
  const plan = createRealPlan(seed)
  expect(plan.store).toBe(store)
  const result = await runReal(plan)
  expect(result).toMatchObject({ seed, differences: [] })
  expect(result.written).toBeGreaterThan(0)
})
