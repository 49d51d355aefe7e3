import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { EXPANSION_ERROR_MAX, expandedRank, rankInterval } from '../../src/query/confidence.ts'

describe('the ranks that hold a quantile', () => {
  it('have an upper end from the n on that theory says', () => {
    for (const [q, n] of [
      [0.9, 36],
      [0.99, 368],
      [0.999, 3688],
      [0.5, 6],
    ] as const) {
      expect(rankInterval(q, n - 1).high, `q=${q}`).toBeNull()
      expect(rankInterval(q, n).high, `q=${q}`).toBe(n)
    }
  })

  it('leave out at most 2.5 % at either end, and as much of that as they can', () => {
    for (const n of [1, 2, 5, 6, 10, 37, 100, 368, 999]) {
      for (const q of [0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999]) {
        const { low, high } = rankInterval(q, n)
        const below = cumulative(n, q)
        if (low === null) expect(below[0]!).toBeGreaterThan(0.025)
        else {
          expect(below[low - 1]!).toBeLessThanOrEqual(0.025 + 1e-12)
          expect(below[low] ?? 1).toBeGreaterThan(0.025 - 1e-12)
        }
        // P(binomial ≥ high) ≤ 2.5 %, P(binomial ≥ high − 1) is more.
        if (high === null) expect(1 - below[n - 1]!).toBeGreaterThan(0.025 - 1e-12)
        else {
          expect(1 - below[high - 1]!).toBeLessThanOrEqual(0.025 + 1e-12)
          expect(1 - (high >= 2 ? below[high - 2]! : 0)).toBeGreaterThan(0.025 - 1e-12)
        }
      }
    }
  })

  it('lie where the expansion says, to a few ranks, for every n and q', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: 1, max: 50_000_000 })),
        fc.integer({ min: 1, max: 999_999 }),
        (n, millionths) => {
          const q = millionths / 1e6
          const { low, high } = rankInterval(q, n)
          if (low !== null) expect(Math.abs(low - expandedRank(n, q, -1))).toBeLessThan(EXPANSION_ERROR_MAX)
          if (high !== null) expect(Math.abs(high - expandedRank(n, q, 1))).toBeLessThan(EXPANSION_ERROR_MAX)
        },
      ),
      { numRuns: 2000, seed: 7 },
    )
  })

  it('exist for the ends and for nothing', () => {
    expect(rankInterval(0.5, 0)).toEqual({ low: null, high: null })
    expect(rankInterval(0, 10)).toEqual({ low: null, high: 1 })
    expect(rankInterval(1, 10)).toEqual({ low: 10, high: null })
    expect(rankInterval(0.99, 1_000_000_000)).toMatchObject({ low: expect.any(Number), high: expect.any(Number) })
  })
})

/** P(binomial(n, q) ≤ k) for k = 0 … n, summed plainly. */
function cumulative(n: number, q: number): number[] {
  let logChoose = 0
  let sum = 0
  return Array.from({ length: n + 1 }, (_, k) => {
    if (k > 0) logChoose += Math.log(n - k + 1) - Math.log(k)
    sum += Math.exp(logChoose + k * Math.log(q) + (n - k) * Math.log(1 - q))
    return sum
  })
}
