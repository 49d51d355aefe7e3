import { expect, it } from 'vitest'
import { killStore } from '../../support/kill-store.ts'
import { startTestStore } from '../../support/store.ts'

/** Another seed each day in CI would hide failures; the campaign (`test/campaign/kill-store.ts`) takes many. */
const SEED = 20_260_101
const KILLS = 4

it('stores every row once and keeps rollups equal to rows though the engine is killed again and again', async () => {
  const test = await startTestStore()
  const report = await killStore(test, { seed: SEED, kills: KILLS, rows: 6000, days: 3, keep: 50 })
  expect(report.wrong, `seed ${SEED}: ${JSON.stringify(report)}`).toEqual([])
  expect(report.during + report.between).toBe(KILLS)
  expect(report.retries).toBeGreaterThan(0)
})
