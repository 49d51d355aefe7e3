import { expect, test } from 'vitest'
import { retryAfterMs } from '../../src/lib/retry-after.ts'
import { Circuit } from '../../src/pipeline/circuit.ts'

const at = (now: number) => ({ now: () => now })

test('it opens after failures in a row, tries, and closes when something works', () => {
  const circuit = new Circuit({ firstMs: 100, maxMs: 1000, random: () => 1, clock: at(5000) })
  expect(circuit.stats()).toEqual({ state: 'closed', failures: 0, sinceMs: null, nextAttemptMs: null })
  expect([circuit.failed(), circuit.failed()]).toEqual([100, 200])
  expect(circuit.stats()).toMatchObject({ state: 'closed', failures: 2 })
  expect(circuit.failed()).toBe(400)
  expect(circuit.stats()).toEqual({ state: 'open', failures: 3, sinceMs: 5000, nextAttemptMs: 5400 })
  circuit.begin()
  expect(circuit.stats().state).toBe('half_open')
  circuit.failed()
  expect(circuit.stats().state).toBe('open')
  circuit.begin()
  circuit.succeeded()
  expect(circuit.stats()).toEqual({ state: 'closed', failures: 0, sinceMs: null, nextAttemptMs: null })
})

test('it waits as long as the target asks, within reason', () => {
  const circuit = new Circuit({ firstMs: 100, maxMs: 1000, random: () => 1, clock: at(0), askedMaxMs: 60_000 })
  expect(circuit.failed(5000)).toBe(5000)
  expect(circuit.failed(86_400_000)).toBe(60_000)
  expect(circuit.failed(-3)).toBe(400)
})

test.each([
  ['120', 120_000],
  [' 0 ', 0],
  ['99999999999999999999', 3_600_000],
  ['Fri, 23 Oct 2015 07:28:10 GMT', 3_600_000],
  ['Wed, 21 Oct 2015 07:28:10 GMT', 10_000],
  ['Wed, 21 Oct 2015 07:27:50 GMT', 0],
  ['', undefined],
  ['-3', undefined],
  ['1.5', undefined],
  ['soon', undefined],
  [undefined, undefined],
  [['7', '9'], 7000],
])('Retry-After %j asks for %j ms', (header, ms) => {
  expect(retryAfterMs(header, Date.parse('Wed, 21 Oct 2015 07:28:00 GMT'))).toBe(ms)
})
