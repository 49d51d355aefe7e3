import { expect, it, onTestFinished } from 'vitest'
import { compareWithEnvoy, type EnvoyComparison } from '../support/compare-envoy.ts'
import { startSidecast } from '../support/sidecast.ts'

/**
 * Phases that may hold most of the time of a fault. Faults that last a tenth of a second and more have one; a reply that
 * takes microseconds may spend most of them elsewhere when the machine looks away, but never in a phase it does not have.
 */
const MOSTLY: Readonly<Record<string, readonly string[]>> = {
  UT: ['upstream_wait'],
  // A client that leaves on a slow machine may be gone before the request was sent on.
  DC: ['upstream_wait', 'upstream_send', 'proxy_request', 'client_send'],
  'DC-h2': ['upstream_wait', 'upstream_send', 'proxy_request', 'client_send'],
  SI: ['upstream_wait'],
  'SI-upload': ['client_send'],
  UMSDR: ['upstream_wait'],
  UF: ['proxy_request', 'client_send', 'client_receive'],
  direct: ['proxy_request', 'client_send', 'client_receive'],
  NR: ['proxy_request', 'client_send', 'client_receive'],
  UH: ['proxy_request', 'client_send', 'client_receive'],
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
  for (const [scenario, phases] of Object.entries(MOSTLY)) {
    const found = Object.keys(result.byScenario[scenario] ?? {})
    expect(found.length, `${scenario} is in the sample`).toBeGreaterThan(0)
    expect({ [scenario]: found.filter((phase) => !phases.includes(phase)) }).toEqual({ [scenario]: [] })
  }
})
