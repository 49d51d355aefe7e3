import { describe, expect, test } from 'vitest'
import {
  CODE_BITS,
  NativeCells,
  type NativeCellsOptions,
  nativeCodeOf,
  nativeIndexOf,
  SCHEMA_MAX,
} from '../../../src/adapters/prometheus/native.ts'
import { seededRandom } from '../../../src/lib/random.ts'
import { DISTRIBUTIONS, drawDistribution } from '../../support/distributions.ts'

/**
 * Index of a native histogram bucket as client_golang finds it (`histogram.observe`): the fraction of math.Frexp, in
 * [0.5, 1), is searched among 2^(k/256)/2, and the exponent counts whole octaves.
 */
function referenceIndex(value: number): number {
  let exponent = Math.floor(Math.log2(value)) + 1
  let fraction = value / 2 ** exponent
  if (fraction >= 1) {
    fraction /= 2
    exponent++
  } else if (fraction < 0.5) {
    fraction *= 2
    exponent--
  }
  let k = 0
  while (k < 256 && 2 ** (k / 256) / 2 < fraction) k++
  return k + (exponent - 1) * 256
}

/** Whether ns/10⁶ ≤ 2^(i/256) and above the edge before it, in whole numbers; `schema` lower than 8 has wider buckets. */
function holds(index: number, ns: number, schema = SCHEMA_MAX): boolean {
  const atMost = (i: number): boolean => {
    const n = 2 ** schema
    // (ns/10⁶)^n ≤ 2^i
    const left = BigInt(ns) ** BigInt(n)
    const right = 10n ** BigInt(6 * n)
    return i >= 0 ? left <= right << BigInt(i) : left << BigInt(-i) <= right
  }
  return atMost(index) && !atMost(index - 1)
}

describe('the schema-8 bucket of a duration in ms', () => {
  test('is the exact one, at edges and their neighbours and at random', () => {
    const random = seededRandom(3)
    const values = Array.from({ length: 400 }, () => Math.floor(2 ** (random() * 53)))
    for (let i = -5000; i < 8400; i += 67) {
      const edge = Math.floor(1e6 * 2 ** (i / 256))
      values.push(edge - 1, edge, edge + 1)
    }
    for (const ns of values) {
      if (ns < 1 || ns > Number.MAX_SAFE_INTEGER) continue
      if (!holds(nativeIndexOf(ns), ns)) expect.fail(`${ns} ns in ${nativeIndexOf(ns)}`)
    }
  })

  test.each(Object.keys(DISTRIBUTIONS))('is what Prometheus finds: %s', (name) => {
    for (const ns of drawDistribution(name, 2000, 5)) {
      if (ns === 0) continue
      const index = nativeIndexOf(ns)
      const reference = referenceIndex(ns / 1e6)
      // The reference divides and compares doubles; it may be off at an edge, where ours is exact.
      if (index !== reference && !(Math.abs(index - reference) === 1 && holds(index, ns))) {
        expect.fail(`${ns} ns: ${index}, reference ${reference}`)
      }
    }
  })

  test('whole powers of two of a millisecond are multiples of 256, upper edge inclusive', () => {
    expect([1e6, 1e6 + 1, 2e6, 4e6, 5e5, 1].map(nativeIndexOf)).toEqual([0, 1, 256, 512, -256, -5102])
    expect(nativeCodeOf(2 ** 64)).toBe(2 ** CODE_BITS - 1)
  })
})

const OPTIONS: NativeCellsOptions = { cellsMax: 100_000, cellsPerSeriesMax: 10_000, logMax: 1000 }

function observe(cells: NativeCells, series: number, ns: number): void {
  cells.reserve(series + 1)
  cells.log[cells.logged++] = (series << CODE_BITS) | nativeCodeOf(ns)
  if (cells.logged === cells.logMax) cells.count()
}

function bucketsOf(cells: NativeCells, series: number): Map<number, number> {
  cells.count()
  const buckets = new Map<number, number>()
  cells.each(series, (index, count) => {
    expect(buckets.has(index)).toBe(false)
    buckets.set(index, count)
  })
  expect([...buckets.keys()]).toEqual([...buckets.keys()].toSorted((a, b) => a - b))
  return buckets
}

describe('buckets of many series', () => {
  test('are counted, each series for itself, up to the highest number', () => {
    const cells = new NativeCells(OPTIONS)
    const random = seededRandom(8)
    const truth = new Map<number, Map<number, number>>()
    const numbers = [0, 1, 77, 2 ** 18 - 1]
    for (let k = 0; k < 20_000; k++) {
      const series = numbers[Math.floor(random() * numbers.length)]!
      const ns = Math.ceil(1e6 * Math.exp(3 * random()))
      observe(cells, series, ns)
      const counts = truth.get(series) ?? new Map<number, number>()
      truth.set(series, counts.set(nativeIndexOf(ns), (counts.get(nativeIndexOf(ns)) ?? 0) + 1))
    }
    for (const series of numbers) {
      expect(new Map([...bucketsOf(cells, series)])).toEqual(
        new Map([...truth.get(series)!].toSorted(([a], [b]) => a - b)),
      )
    }
    cells.remove(new Set([1, 2 ** 18 - 1]))
    expect(bucketsOf(cells, 1).size).toBe(0)
    expect(bucketsOf(cells, 2 ** 18 - 1).size).toBe(0)
    expect(bucketsOf(cells, 77)).toEqual(new Map([...truth.get(77)!].toSorted(([a], [b]) => a - b)))
  })

  test('a series with too many loses resolution, and no observation', () => {
    const cells = new NativeCells({ ...OPTIONS, cellsPerSeriesMax: 100 })
    const random = seededRandom(9)
    const values = Array.from({ length: 5000 }, () => Math.ceil(1e3 * Math.exp(12 * random())))
    for (const ns of values) observe(cells, 5, ns)
    for (let k = 0; k < 10; k++) observe(cells, 6, 1e6 + k)
    const buckets = bucketsOf(cells, 5)
    expect(buckets.size).toBeLessThanOrEqual(100)
    expect(buckets.size).toBeGreaterThan(50)
    expect([...buckets.values()].reduce((sum, n) => sum + n, 0)).toBe(5000)
    expect(cells.shifts[6]).toBe(0)
    const schema = SCHEMA_MAX - cells.shifts[5]!
    const expected = new Map<number, number>()
    for (const ns of values) {
      const index = Math.ceil(nativeIndexOf(ns) / 2 ** cells.shifts[5]!)
      expect(holds(index, ns, schema)).toBe(true)
      expected.set(index, (expected.get(index) ?? 0) + 1)
    }
    expect(buckets).toEqual(new Map([...expected].toSorted(([a], [b]) => a - b)))
  })

  test('all series together are bounded, the widest pay first', () => {
    const cells = new NativeCells({ ...OPTIONS, cellsMax: 2000 })
    const random = seededRandom(10)
    for (let k = 0; k < 40_000; k++) observe(cells, k % 20, Math.ceil(1e3 * Math.exp(12 * random())))
    for (let k = 0; k < 100; k++) observe(cells, 30, 1e6)
    cells.count()
    expect(cells.length).toBeLessThanOrEqual(2000)
    expect(cells.shifts[30]).toBe(0)
    let total = 0
    for (let series = 0; series < 20; series++) for (const count of bucketsOf(cells, series).values()) total += count
    expect(total).toBe(40_000)
  })

  test('more series than there may be buckets end with few buckets each, and counting ends', () => {
    const cells = new NativeCells({ ...OPTIONS, cellsMax: 50 })
    const random = seededRandom(12)
    for (let k = 0; k < 20_000; k++) observe(cells, k % 500, Math.ceil(2 ** (random() * 50)))
    cells.count()
    expect(cells.length).toBeLessThanOrEqual(500 * 5)
    let total = 0
    for (let series = 0; series < 500; series++) for (const count of bucketsOf(cells, series).values()) total += count
    expect(total).toBe(20_000)
  })
})
