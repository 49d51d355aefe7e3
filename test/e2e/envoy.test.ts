import { expect, it, onTestFinished } from 'vitest'
import { compareWithEnvoy, type EnvoyComparison } from '../support/compare-envoy.ts'
import { startSidecast } from '../support/sidecast.ts'

/**
 * The phase that holds most of the time of a fault. Of replies that take microseconds a row now and then spends most of
 * them elsewhere, when the machine looks away.
 */
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
    const found = result.byScenario[scenario] ?? {}
    const rows = Object.values(found).reduce((sum, n) => sum + n, 0)
    expect((found[phase] ?? 0) / rows, `${scenario}: ${JSON.stringify(found)}`).toBeGreaterThan(0.7)
  }
})
