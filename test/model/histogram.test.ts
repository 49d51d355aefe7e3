import { describe, expect, test } from 'vitest'
import { seededRandom } from '../../src/lib/random.ts'
import { Histogram, RELATIVE_ERROR_MAX, rankOf, SCALE, upperEdge, ZERO_BUCKET } from '../../src/model/histogram.ts'
import { DISTRIBUTIONS, drawDistribution } from '../support/distributions.ts'

const QUANTILES = [0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1]
const N = 10_000
const SEED = 20_261

function histogramOf(values: Iterable<number>): Histogram {
  const histogram = new Histogram()
  for (const value of values) histogram.record(value)
  return histogram
}

/** Everything that two equal histograms have in common. */
function contents(histogram: Histogram): unknown {
  const { scale, zeros, count, sum, min, max } = histogram
  return { scale, zeros, count, sum, min, max, buckets: [...histogram.buckets()] }
}

describe.each(Object.keys(DISTRIBUTIONS))('%s', (name) => {
  const values = drawDistribution(name, N, SEED)
  const sorted = values.toSorted()
  const histogram = histogramOf(values)

  test('every quantile is within 0.5415 % of the value of that rank, which is inside its bounds', () => {
    for (const q of QUANTILES) {
      const truth = sorted[Math.max(1, Math.ceil(q * N - 1e-9)) - 1]!
      const { value, low, high } = histogram.quantile(q)
      expect(low <= truth && truth <= high, `p${q * 100}: ${truth} in [${low}, ${high}]`).toBe(true)
      expect(low <= value && value <= high, `p${q * 100}: ${value} in [${low}, ${high}]`).toBe(true)
      expect(Math.abs(value - truth)).toBeLessThanOrEqual((RELATIVE_ERROR_MAX + 1e-12) * truth)
    }
  })

  test('count, sum, minimum and maximum are exact', () => {
    expect(histogram.count).toBe(N)
    expect(histogram.sum).toBe(values.reduce((sum, value) => sum + BigInt(value), 0n))
    expect([histogram.min, histogram.max]).toEqual([sorted[0], sorted[N - 1]])
  })

  test('any grouping in any order gives the same histogram', () => {
    const random = seededRandom(SEED)
    for (const groups of [2, 7, 100]) {
      const parts = Array.from({ length: groups }, () => new Histogram())
      for (const value of values) parts[Math.floor(random() * groups)]!.record(value)
      while (parts.length > 1) {
        const [from] = parts.splice(Math.floor(random() * parts.length), 1)
        parts[Math.floor(random() * parts.length)]!.merge(from!)
      }
      expect(contents(parts[0]!)).toEqual(contents(histogram))
    }
  })

  test('the stored parts give the same histogram back', () => {
    const buckets = [...histogram.buckets(), [ZERO_BUCKET, histogram.zeros] as const].reverse()
    const again = Histogram.from({
      buckets: buckets.map(([index]) => index),
      counts: buckets.map(([, count]) => BigInt(count)),
      sum: histogram.sum,
      min: histogram.min,
      max: histogram.max,
    })
    expect(contents(again)).toEqual(contents(histogram))
  })

  test('the cumulative count of any threshold is inside its bounds, and exact at edges', () => {
    const random = seededRandom(SEED + 1)
    for (let k = 0; k < 200; k++) {
      const value = sorted[Math.floor(random() * N)]!
      const threshold = Math.max(0, value + [-1, 0, 1, value * 0.003][k % 4]!)
      const truth = atMost(sorted, threshold)
      const bounded = histogram.cdf(threshold)
      expect(
        bounded.low <= truth && truth <= bounded.high,
        `${truth} ≤ ${threshold} in ${JSON.stringify(bounded)}`,
      ).toBe(true)
      expect(bounded.low <= bounded.value && bounded.value <= bounded.high).toBe(true)
    }
    for (let i = -1900; i < 1400; i += 37) {
      const truth = atMost(sorted, upperEdge(i))
      expect(histogram.cdf(upperEdge(i))).toEqual({ value: truth, low: truth, high: truth })
    }
  })

  test('a lower scale has the same observations, and is what recording at that scale gives', () => {
    for (const scale of [5, 3, 0, -2, -4]) {
      const lower = histogram.downscale(scale)
      expect(lower.count).toBe(N)
      const recorded = new Histogram(scale)
      for (const value of values) recorded.record(value)
      expect(contents(lower)).toEqual(contents(recorded))
      const { low, high } = lower.quantile(0.5)
      const truth = sorted[N / 2 - 1]!
      expect(low <= truth && truth <= high).toBe(true)
    }
    expect(contents(histogram.downscale(3).downscale(1))).toEqual(contents(histogram.downscale(1)))
  })
})

test('there are 30 distributions', () => {
  expect(Object.keys(DISTRIBUTIONS).length).toBeGreaterThanOrEqual(30)
})

describe('an empty histogram', () => {
  test('has no quantile and no extremes', () => {
    const empty = new Histogram()
    expect(empty.quantile(0.5)).toEqual({ value: Number.NaN, low: Number.NaN, high: Number.NaN })
    expect([empty.count, empty.sum, empty.min, empty.max, empty.mean]).toEqual([
      0,
      0n,
      Number.NaN,
      Number.NaN,
      Number.NaN,
    ])
    expect(empty.cdf(5)).toEqual({ value: 0, low: 0, high: 0 })
    const other = histogramOf([7, 9])
    other.merge(empty)
    empty.merge(other)
    expect(contents(empty)).toEqual(contents(histogramOf([9, 7])))
  })
})

describe('scales', () => {
  test('cannot be raised', () => {
    expect(() => new Histogram(3).downscale(4)).toThrow(RangeError)
    expect(() => new Histogram().merge(new Histogram(3))).toThrow(RangeError)
    expect(() => new Histogram(SCALE + 1)).toThrow(RangeError)
  })

  test('a histogram of a higher scale can be added', () => {
    const low = new Histogram(2)
    low.record(5e6)
    low.merge(histogramOf([6e6, 0]))
    const expected = new Histogram(2)
    for (const value of [5e6, 6e6, 0]) expected.record(value)
    expect(contents(low)).toEqual(contents(expected))
  })
})

test('sums stay exact past 2^53', () => {
  const histogram = new Histogram()
  const value = 2 ** 52 + 1
  for (let k = 0; k < 1000; k++) histogram.record(value)
  histogram.record(3, 2 ** 52)
  expect(histogram.sum).toBe(1000n * BigInt(value) + 3n * 2n ** 52n)
})

describe('the rank of a quantile', () => {
  test('is ⌈q·n⌉ for q as written, at least 1', () => {
    const cases: [number, number, number][] = [
      [0, 100, 1],
      [0.07, 100, 7], // 0.07 × 100 is 7.000000000000001 in doubles.
      [0.29, 100, 29],
      [0.5, 3, 2],
      [0.999, 1000, 999],
      [0.9999, 9999, 9999],
      [1e-7, 10, 1],
      [1e-7, 20_000_000, 2],
      [1, 12, 12],
      [0.5, 1, 1],
    ]
    for (const [q, n, rank] of cases) expect(rankOf(q, n), `${q} of ${n}`).toBe(rank)
    expect(rankOf(0.5, 0)).toBe(0)
    expect(() => rankOf(1.5, 10)).toThrow(RangeError)
    expect(() => rankOf(Number.NaN, 10)).toThrow(RangeError)
  })
})

function atMost(sorted: Float64Array, threshold: number): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (sorted[middle]! <= threshold) low = middle + 1
    else high = middle
  }
  return low
}
