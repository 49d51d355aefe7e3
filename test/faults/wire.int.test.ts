import { expect, test } from 'vitest'
import { createPlan } from '../../bench/faults/plan.ts'
import { runWire } from '../../bench/faults/wire.ts'

/** A sample; `node bench/faults.ts --runs 2700` is the campaign. */
test.each([2, 4, 27, 30])('what was fsynced is in every target after the faults of seed %i', async (seed) => {
  const result = await runWire(createPlan(seed))
  expect(result).toMatchObject({ seed, differences: [] })
  expect(result.written).toBeGreaterThan(0)
})

test('a plan follows from its seed', () => {
  expect(createPlan(7)).toEqual(createPlan(7))
  expect(createPlan(7)).not.toEqual(createPlan(8))
})
