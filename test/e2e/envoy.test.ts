import { expect, it, onTestFinished } from 'vitest'
import { compareWithEnvoy, type EnvoyComparison } from '../support/compare-envoy.ts'
import { startSidecast } from '../support/sidecast.ts'

/** The phase that must hold most of the time of every row of a fault, whatever the timing. */
const MOSTLY: Readonly<Record<string, string>> = {
  UT: 'upstream_wait',
  UF: 'proxy_request',
  DC: 'upstream_wait',
  'DC-h2': 'upstream_wait',
  SI: 'upstream_wait',
  'SI-upload': 'client_send',
  UMSDR: 'upstream_wait',
  UC: 'upstream_wait',
  direct: 'proxy_request',
  NR: 'proxy_request',
  UH: 'proxy_request',
}

/** A seeded sample of `test/campaign/envoy.ts`. */
it('stores every request of a real Envoy, row for row as Envoy itself logged it, and answers from those rows', async () => {
  const sidecast = await startSidecast()
  onTestFinished(() => sidecast.close())
  const result: EnvoyComparison = await compareWithEnvoy(sidecast, { count: 1200, seed: 7 })
  expect(result.differences).toEqual([])
  expect(result.rows).toBe(result.lines)
  expect(result.rows).toBeGreaterThan(1000)
  expect(result.attempts).toBeGreaterThan(0)
  expect(result.progress).toBeGreaterThan(0)
  expect(result.connections).toBeGreaterThan(0)
  expect(result.histogramWorstError).toBeLessThanOrEqual(0.0055)
  for (const [scenario, phase] of Object.entries(MOSTLY)) {
    const found = result.byScenario[scenario]
    if (found !== undefined) expect({ [scenario]: Object.keys(found) }).toEqual({ [scenario]: [phase] })
  }
  // Each of these kinds is in the sample, so the loop above has held them against their phase.
  expect(Object.keys(MOSTLY).filter((scenario) => result.byScenario[scenario] === undefined)).toEqual([])
})
