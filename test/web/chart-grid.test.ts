import { expect, test } from 'vitest'
import type { LatencyPoint } from '../../src/web/page/api.ts'
import { axisValue, type ChartUpdate, gridOf, noteText, readoutText } from '../../src/web/page/chart-grid.ts'

const plain = (text: string) => text.replace(/[\u00a0\u2009]/g, ' ')
const START = Date.parse('2026-03-04T14:00:00Z')

function point(second: number, value: number, n = 1_000): LatencyPoint {
  const quantile = { value, low: value * 0.995, high: value * 1.005 }
  const quantiles = { '0.5': quantile, '0.9': quantile, '0.99': quantile }
  return { time: new Date(START + second * 1_000).toISOString(), n, min: value, max: value, mean: value, quantiles }
}

function update(points: LatencyPoint[], over: Partial<ChartUpdate> = {}): ChartUpdate {
  const window = { fromMs: START + 3_000, toMs: START + 60_000, stepMs: 10_000 }
  return { points, ...window, throughMs: START + 55_000, zone: 'utc', precisionNs: 1, ...over }
}

test('a step without requests is a gap, never zero', () => {
  const { times, data } = gridOf(update([point(10, 5), point(30, 7)]))
  expect(times.map((time) => (time - START) / 1_000)).toEqual([0, 10, 20, 30, 40, 50])
  expect(data[1]).toEqual([null, 5, null, 7, null, null])
  expect(data).toHaveLength(10)
  expect(data[2]![1]).toBeCloseTo(4.975)
  expect(data[3]![1]).toBeCloseTo(5.025)
})

test('a point between the steps is not lost', () => {
  const { times, data } = gridOf(update([point(3, 5)]))
  expect(times[1]).toBe(START + 3_000)
  expect(data[1]![1]).toBe(5)
})

test('the axis is logarithmic when values are far apart', () => {
  expect(gridOf(update([point(10, 5), point(20, 100)])).log).toBe(false)
  expect(gridOf(update([point(10, 5), point(20, 200)])).log).toBe(true)
  expect(gridOf(update([])).log).toBe(false)
})

test('a read-out has time, value, bound and n, and says what is not complete', () => {
  const here = update([point(10, 412)])
  expect(plain(readoutText(START + 10_000, here.points[0], here))).toMatch(
    /^14:00:10 {3}p50 412 ms \(409\.9…414\.1 ms\) {3}p90 .* {3}n 1 000$/,
  )
  expect(readoutText(START + 50_000, point(50, 1), here)).toMatch(/not complete$/)
  expect(readoutText(START + 20_000, undefined, here)).toBe('14:00:20   no requests')
})

test('notes under the chart', () => {
  expect(plain(noteText(update([point(10, 5, 41)]), true))).toBe(
    'Each point is 10 s, about 41 requests. Log axis. Hollow points: too few requests for that percentile (p99 needs 368).',
  )
  expect(noteText(update([], { stepMs: 300_000 }), false)).toBe('Each point is 5 min.')
})

test.each([
  [0, '0'],
  [0.5, '500 µs'],
  [20, '20 ms'],
  [100, '100 ms'],
  [1_000, '1 s'],
  [2_500, '2.5 s'],
])('%d ms on the axis is %s', (ms, text) => {
  expect(plain(axisValue(ms, 'ms'))).toBe(text)
})
