import { expect, it, onTestFinished } from 'vitest'
import { REFUSAL_CODES } from '../../../src/adapters/wavefront/validate.ts'
import { runHostileLines } from '../../support/wavefront/hostile.ts'
import { startWavefrontParser } from '../../support/wavefront/parser.ts'

/** The campaign `wavefront` in small: a million lines are for a quiet hour. */
it('names and tags of any kind arrive as they were meant; what we refuse, the parser refuses for the same reason', async () => {
  const parser = await startWavefrontParser()
  onTestFinished(() => parser.stop())
  const report = await runHostileLines({ parser, seed: 1, count: 12_000 })
  expect(report).toMatchObject({ lines: 12_000, wrongs: 0, wrong: [] })
  const { metric, histogram, span, spanLogs } = report.accepted
  for (const accepted of [metric, histogram, span, spanLogs]) expect(accepted).toBeGreaterThan(2000)
  expect(report.rawAccepted).toBeGreaterThan(500)
  // Every reason there is, but: times are the proxy's business, values that are no number and long values of spans are let
  // through by it, and a value of 255 with any key is too long together.
  const others = ['WF-402', 'WF-403', 'WF-413', 'WF-433']
  expect(Object.keys(report.refused).sort()).toEqual(REFUSAL_CODES.filter((code) => !others.includes(code)))
})
