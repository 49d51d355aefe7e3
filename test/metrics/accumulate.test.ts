import fc from 'fast-check'
import { expect, it } from 'vitest'
import { add, BUCKETS_MAX, bucketOfValue, emptyHistogram, isValid } from '../../src/metrics/accumulate.ts'
import { type Distribution, type ExponentialBuckets, ofCumulative } from '../../src/metrics/distribution.ts'
import { identity, metricsRig, NOW_MS } from '../support/metrics.ts'

/** Envoy's default bounds in ms (`source/common/stats/histogram_impl.cc`, `ConstSupportedBuckets`). */
const ENVOY_BOUNDS = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1.8e6, 3.6e6,
]

const delta = { temporality: 'delta' } as const
const cumulative = { temporality: 'cumulative' } as const
const exponential = (more: Partial<ExponentialBuckets>): ExponentialBuckets => ({
  kind: 'exponential',
  ...delta,
  scale: 6,
  zeroCount: 0,
  positive: { offset: 0, counts: [] },
  ...more,
})
const sumOf = (buckets: ReadonlyMap<number, number>) => [...buckets.values()].reduce((sum, count) => sum + count, 0)

it('finds the bucket of a value, edges included, at every scale', () => {
  for (const scale of [-10, -4, -1, 0, 3, 6]) {
    const perOctave = 2 ** scale
    for (
      let index = Math.ceil(-1000 * perOctave);
      index <= 1000 * perOctave;
      index += Math.max(1, Math.floor(perOctave))
    ) {
      const edge = 2 ** (index / perOctave)
      if (edge === 0 || !Number.isFinite(edge)) continue
      expect(bucketOfValue(edge, scale)).toBe(index + 0)
      expect(bucketOfValue(edge * (1 + 1e-12), scale)).toBe(index + 1)
      expect(bucketOfValue(edge * (1 - 1e-12), scale)).toBe(index + 0)
    }
  }
  fc.assert(
    fc.property(
      fc.double({ min: 1e-300, max: 1e300, noNaN: true }),
      fc.integer({ min: -10, max: 6 }),
      (value, scale) => {
        const index = bucketOfValue(value, scale)
        expect(2 ** ((index - 1) / 2 ** scale)).toBeLessThan(value)
        expect(2 ** (index / 2 ** scale)).toBeGreaterThanOrEqual(value)
      },
    ),
  )
})

it('keeps explicit buckets as they are, and never finer', () => {
  const state = emptyHistogram(0)
  const counts = ENVOY_BOUNDS.map((_, k) => k).concat(3)
  expect(add(state, { kind: 'explicit', ...delta, bounds: ENVOY_BOUNDS, counts, sum: 5 })).toBe(true)
  expect(add(state, { kind: 'explicit', ...delta, bounds: [...ENVOY_BOUNDS], counts, sum: 6 })).toBe(true)
  expect(state.bounds).toEqual(ENVOY_BOUNDS)
  expect([...state.boundCounts]).toEqual(counts.map((count) => 2 * count))
  expect(state).toMatchObject({ count: 2 * counts.reduce((a, b) => a + b), sum: 11, min: Number.NaN, max: Number.NaN })
  // One bucket for each that has observations: that of its bound, and the one after the last for what is above.
  expect(state.positive.size).toBe(19)
  expect(state.positive.get(bucketOfValue(1, 6))).toBe(2)
  expect(state.positive.get(bucketOfValue(3.6e6, 6) + 1)).toBe(6)
  expect(add(state, { kind: 'explicit', ...delta, bounds: [1, 2], counts: [1, 1, 1] })).toBe(false)
})

it('puts explicit buckets of zero and below where they belong', () => {
  const state = emptyHistogram(0)
  add(state, { kind: 'explicit', ...delta, bounds: [-8, 0, 8], counts: [1, 2, 3, 4] })
  expect([...state.negative]).toEqual([[bucketOfValue(8, 6), 1]])
  expect(state.zeroCount).toBe(2)
  expect([...state.positive]).toEqual([
    [192, 3],
    [193, 4],
  ])
  const bare = emptyHistogram(0)
  add(bare, { kind: 'explicit', ...delta, bounds: [], counts: [7], sum: 3 })
  expect(bare).toMatchObject({ count: 7, sum: 3 })
  expect(bare.positive.size).toBe(0)
})

it('lowers an exponential histogram that is finer, exactly, and itself to one that is coarser', () => {
  const state = emptyHistogram(0)
  // At scale 8 buckets 1 … 8 are buckets 1 and 2 of scale 6.
  add(state, exponential({ scale: 8, positive: { offset: 1, counts: [1, 1, 1, 1, 1, 1, 1, 1] }, zeroCount: 2, sum: 3 }))
  expect(state).toMatchObject({ scale: 6, count: 10, zeroCount: 2, sum: 3 })
  expect([...state.positive]).toEqual([
    [1, 4],
    [2, 4],
  ])
  add(
    state,
    exponential({ scale: 0, positive: { offset: -1, counts: [5, 0, 6] }, negative: { offset: 3, counts: [1] } }),
  )
  expect(state.scale).toBe(0)
  expect([...state.positive].sort(([a], [b]) => a - b)).toEqual([
    [-1, 5],
    [1, 14],
  ])
  expect([...state.negative]).toEqual([[3, 1]])
  expect(state.count).toBe(22)
})

it('takes what a wider zero bucket holds into it', () => {
  const state = emptyHistogram(0)
  add(state, exponential({ scale: 0, positive: { offset: -5, counts: [1, 1, 1, 1, 1, 1] } }))
  add(state, exponential({ scale: 0, zeroCount: 1, zeroThreshold: 0.125 }))
  expect(state).toMatchObject({ zeroCount: 4, zeroThreshold: 0.125, count: 7 })
  expect([...state.positive]).toEqual([
    [-2, 1],
    [-1, 1],
    [0, 1],
  ])
})

it('counts observations as often as they stand for, with exact figures beside the buckets', () => {
  const state = emptyHistogram(0)
  add(state, { kind: 'values', values: [1, 0, -4] })
  add(state, { kind: 'values', values: [2], weight: 2.5 })
  expect(state).toMatchObject({ count: 5.5, sum: 2, min: -4, max: 2, zeroCount: 1 })
  expect([...state.positive]).toEqual([
    [0, 1],
    [64, 2.5],
  ])
  expect([...state.negative]).toEqual([[128, 1]])
})

it('has no more buckets than it may, whatever comes', () => {
  const state = emptyHistogram(0)
  for (let exponent = -1000; exponent < 1000; exponent++) add(state, { kind: 'values', values: [1.01 * 2 ** exponent] })
  expect(state.positive.size).toBeLessThanOrEqual(BUCKETS_MAX)
  expect(sumOf(state.positive)).toBe(2000)
  expect(state.scale).toBeLessThan(0)
})

it('loses no observation by adding, in any order and at any scale', () => {
  const one = fc.oneof(
    fc.record({ values: fc.array(fc.double({ min: -1e9, max: 1e9, noNaN: true }), { maxLength: 20 }) }),
    fc.record({
      scale: fc.integer({ min: -10, max: 20 }),
      offset: fc.integer({ min: -3000, max: 3000 }),
      counts: fc.array(fc.nat(100), { maxLength: 40 }),
    }),
  )
  fc.assert(
    fc.property(fc.array(one, { maxLength: 20 }), (all) => {
      const state = emptyHistogram(0)
      let count = 0
      for (const part of all) {
        const distribution: Distribution =
          'values' in part
            ? { kind: 'values', values: part.values }
            : exponential({ scale: part.scale, positive: { offset: part.offset, counts: part.counts } })
        expect(isValid(distribution)).toBe(true)
        expect(add(state, distribution)).toBe(true)
        count += 'values' in part ? part.values.length : part.counts.reduce((a, b) => a + b, 0)
      }
      expect(state.count).toBe(count)
      expect(sumOf(state.positive) + sumOf(state.negative) + state.zeroCount).toBe(count)
    }),
  )
})

it.each<[string, Distribution]>([
  ['bounds that do not ascend', { kind: 'explicit', ...delta, bounds: [1, 1], counts: [1, 1, 1] }],
  ['a bound that is none', { kind: 'explicit', ...delta, bounds: [Number.NaN], counts: [1, 1] }],
  ['+Inf as a bound', { kind: 'explicit', ...delta, bounds: [Number.POSITIVE_INFINITY], counts: [1, 1] }],
  ['too few counts', { kind: 'explicit', ...delta, bounds: [1, 2], counts: [1, 1] }],
  ['a negative count', { kind: 'explicit', ...delta, bounds: [1], counts: [1, -1] }],
  [
    'too many bounds',
    { kind: 'explicit', ...delta, bounds: Array.from({ length: 600 }, (_, k) => k), counts: new Array(601).fill(0) },
  ],
  ['a scale that is none', exponential({ scale: 0.5 })],
  ['a scale far too coarse', exponential({ scale: -11 })],
  ['an offset out of range', exponential({ positive: { offset: 2 ** 40, counts: [1] } })],
  ['a count that is no number', exponential({ zeroCount: Number.NaN })],
  ['a run that is too long', exponential({ positive: { offset: 0, counts: new Array(70_000).fill(1) } })],
  ['a quantile above 1', { kind: 'summary', ...cumulative, quantiles: [[1.5, 1]] }],
  [
    'quantiles in disorder',
    {
      kind: 'summary',
      ...cumulative,
      quantiles: [
        [0.5, 1],
        [0.1, 1],
      ],
    },
  ],
  ['an observation that is no number', { kind: 'values', values: [1, Number.NaN] }],
  ['a weight below 1', { kind: 'values', values: [1], weight: 0.5 }],
])('refuses %s', (_, distribution) => {
  expect(isValid(distribution)).toBe(false)
})

it('reads counts of le buckets', () => {
  expect([...ofCumulative([1, 4, 4, 9])]).toEqual([1, 3, 0, 5])
  expect([...ofCumulative([3, 1, 5])]).toEqual([3, 0, 2])
})

it('adds intervals of a histogram up, from an empty one at their start', async () => {
  const { metrics, tables } = metricsRig()
  const series = metrics.series(identity({ name: 'rq_time', type: 'histogram', unit: 'ms' }))
  const interval = (n: number) =>
    ({ kind: 'explicit', ...delta, bounds: [1, 10], counts: [n, n, 0], sum: n, startMs: NOW_MS }) as const
  metrics.distribution(series, NOW_MS + 5000, interval(1))
  metrics.distribution(series, NOW_MS + 5000, interval(1))
  metrics.distribution(series, NOW_MS + 10_000, interval(2))
  await metrics.synced()
  // The same interval twice is one.
  expect(metrics.counters.duplicates).toBe(1)
  expect(tables.histograms.map(({ time, count = 0, sum = 0 }) => [Number(time) - NOW_MS, count, sum])).toEqual([
    [1, 0, 0],
    [10_000, 6, 3],
  ])
  expect([...metrics.latest({ name: 'rq_time' })]).toMatchObject([{ value: 6 }])
})

it('begins anew when the buckets of the source change', async () => {
  const { metrics, tables } = metricsRig()
  const series = metrics.series(identity({ name: 'rq_time', type: 'histogram' }))
  metrics.distribution(series, NOW_MS, { kind: 'explicit', ...delta, bounds: [1], counts: [5, 0] })
  metrics.distribution(series, NOW_MS + 5000, { kind: 'explicit', ...delta, bounds: [1, 2], counts: [1, 1, 1] })
  await metrics.synced()
  const rows = tables.histograms.map(({ count = 0, bounds = [] }) => [count, bounds])
  expect(rows).toEqual([
    [0, []],
    [5, [1]],
    [0, []],
    [3, [1, 2]],
  ])
  expect(metrics.counters.resets).toBe(1)
})

it('stores cumulative histograms and summaries as they are, and sees that they begin anew', async () => {
  const { metrics, tables } = metricsRig()
  const histogram = metrics.series(identity({ name: 'h', type: 'histogram' }))
  const of = (counts: number[]) => ({ kind: 'explicit', ...cumulative, bounds: [1, 10], counts, sum: 1 }) as const
  metrics.distribution(histogram, NOW_MS, of([5, 5, 5]))
  metrics.distribution(histogram, NOW_MS + 1000, of([1, 0, 0]))
  const summary = metrics.series(identity({ name: 's', type: 'summary' }))
  const quantiles = [
    [0.5, 3],
    [1, 9],
  ] as const
  metrics.distribution(summary, NOW_MS, { kind: 'summary', ...cumulative, count: 4, sum: 20, quantiles })
  await metrics.synced()
  expect(tables.histograms.map(({ count, start }) => [count, Number(start)])).toEqual([
    [15, 0],
    [1, NOW_MS + 1],
    [4, 0],
  ])
  expect(tables.histograms[2]).toMatchObject({ quantiles: [0.5, 1], quantile_values: [3, 9], sum: 20 })
  expect(metrics.counters.resets).toBe(1)
})
