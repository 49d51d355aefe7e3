import { expect, test } from 'vitest'
import type { Coverage, ServiceRow } from '../../src/web/page/api.ts'
import { largestPhase, phaseSentence, stripKey } from '../../src/web/page/phases.ts'
import { chartSentence, enoughFor, headline, health, lossSentence } from '../../src/web/page/sentences.ts'

const plain = (text: string) => text.replace(/[\u00a0\u2009]/g, ' ')
const exact = (value: number) => ({ value, low: value, high: value })
const phases = {
  client_send: 1,
  proxy_request: 20,
  upstream_send: 0,
  upstream_wait: 71,
  proxy_response: 0,
  upstream_receive: 8,
  client_receive: 0,
}

test('the headline answers the question, with bound and n', () => {
  const text = headline({
    subject: 'checkout',
    p99: { value: 412.4, low: 409.1, high: 414.2 },
    n: 2_941_000,
    phases,
    errorRatio: 0.002,
  })
  expect(plain(text)).toBe(
    'checkout: p99 412 ms (409.1…414.2 ms), n 2.94 M. 0.200 % failed. 71.0 % of the time is upstream_wait.',
  )
  const slowest = headline({ subject: 'x', p99: exact(1), n: 500, phases, set: 'slowest', errorRatio: null })
  expect(plain(slowest)).toBe('x: p99 1.00 ms, n 500. 71.0 % of the time of the slowest 1 % is upstream_wait.')
  expect(headline({ subject: 'x', p99: null, n: 0, phases: null, errorRatio: null })).toBe(
    'x: no requests in this window',
  )
})

test('a chart in words: direction, ends, the highest point', () => {
  const point = (minute: number, value: number) => ({
    time: `2026-01-01T13:${minute}:00Z`,
    n: 1_000,
    min: 1,
    max: 1,
    mean: 1,
    quantiles: { '0.99': exact(value) },
  })
  const time = (iso: string) => iso.slice(11, 16)
  expect(plain(chartSentence([point(50, 131), point(52, 500), point(55, 412)], '0.99', time))).toBe(
    'p99 rose from 131 ms to 412 ms between 13:50 and 13:55, highest 500 ms at 13:52',
  )
  expect(plain(chartSentence([point(50, 100), point(51, 104)], '0.99', time))).toContain('p99 stayed near 104 ms')
  expect(chartSentence([], '0.99', time)).toBe('No p99 in this window')
})

test('phases in words, largest first; nothing is said of parts below half a percent', () => {
  expect(plain(phaseSentence(phases))).toBe(
    'upstream_wait 71.0 %, proxy_request 20.0 %, upstream_receive 8.0 %, client_send 1.0 %',
  )
  expect(largestPhase(phases)).toEqual({ phase: 'upstream_wait', share: 0.71 })
  expect(stripKey(phases)).toBe('10,200,0,710,0,80,0')
  expect(stripKey(null)).toBe('none')
})

test('unknown loss is never none', () => {
  const coverage: Coverage = { served: null, stored: null, lost: null, filtered: null, known: false }
  expect(lossSentence(coverage)).toBe('loss not known')
  expect(plain(lossSentence({ ...coverage, known: true, served: 1_000_000, lost: 4_000 }))).toBe('0.400 % lost')
  expect(plain(lossSentence({ ...coverage, known: true, served: 1_000, lost: 0 }))).toBe('0 % lost')
  expect(plain(lossSentence({ ...coverage, known: true, served: 1_000, lost: 0, filtered: 900 }))).toBe(
    '0 % lost, 900 not logged by the mesh',
  )
})

test('how many requests a percentile needs before it has an upper end', () => {
  for (const [q, n] of [
    [0.9, 36],
    [0.99, 368],
    [0.999, 3_688],
  ] as const) {
    expect(enoughFor(q, n)).toBe(true)
    expect(enoughFor(q, n - 1)).toBe(false)
  }
})

test('no traffic is idle, not healthy', () => {
  const row = { n: 0, error_ratio: 0 } as ServiceRow
  expect(health(row).state).toBe('idle')
  expect(health({ ...row, n: 10 }).state).toBe('ok')
  expect(health({ ...row, n: 1_000, error_ratio: 0.01 }).state).toBe('worse')
  expect(health({ ...row, n: 1_000, error_ratio: 0.2 }).state).toBe('failing')
})
