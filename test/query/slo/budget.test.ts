import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Counts, judge } from '../../../src/query/slo/budget.ts'
import { cutAt, segmentsOf } from '../../../src/query/slo/segments.ts'
import { BURN_WINDOWS, type BurnWindow, burnThreshold, TIERS, WINDOW_NS } from '../../../src/query/slo/windows.ts'

const DAY = 86_400_000_000_000n
const counts = (total: number, bad: number): Counts => ({ total, bad, badLow: bad, badHigh: bad })
const verdict = (bad: Partial<Record<BurnWindow, number>>, whole = counts(1_000_000, 100), period = 30n * DAY) =>
  judge({
    target: 0.999,
    period,
    whole,
    windows: Object.fromEntries(BURN_WINDOWS.map((window) => [window, counts(10_000, bad[window] ?? 0)])) as Record<
      BurnWindow,
      Counts
    >,
  })

describe('a budget', () => {
  it('is what may be bad, less what was', () => {
    expect(verdict({}).budget).toEqual({ allowed: 1000, left: 0.9, leftLow: 0.9, leftHigh: 0.9, lastsSeconds: null })
    expect(verdict({}, counts(1000, 3)).budget).toMatchObject({ allowed: 1, left: -2, lastsSeconds: 0 })
    const doubtful = { total: 1000, bad: 1, badLow: 0, badHigh: 2 }
    expect(verdict({}, doubtful).budget).toMatchObject({ left: 0, leftLow: -1, leftHigh: 1 })
  })

  it('lasts as long as it takes at the burn of the last hour', () => {
    // 0.9 of 30 days, twice too fast.
    expect(verdict({ '1h': 20 }).budget.lastsSeconds).toBeCloseTo((0.9 * 30 * 86_400) / 2, 6)
  })

  it('without requests is not known, and raises no alert', () => {
    const nothing = judge({
      target: 0.9,
      period: DAY,
      whole: counts(0, 0),
      windows: Object.fromEntries(BURN_WINDOWS.map((window) => [window, counts(0, 0)])) as Record<BurnWindow, Counts>,
    })
    expect(nothing).toMatchObject({
      state: 'no_data',
      budget: { left: null, lastsSeconds: null },
      burn: { '5m': null },
    })
  })
})

describe('an alert', () => {
  it('fires when both windows burn above the threshold, and not at it', () => {
    expect(verdict({ '1h': 145, '5m': 145 }).state).toBe('page')
    expect(verdict({ '1h': 144, '5m': 145 }).state).toBe('ok')
    expect(verdict({ '1h': 145, '5m': 144 }).state).toBe('ok')
    expect(verdict({ '6h': 61, '30m': 61 }).state).toBe('page')
    expect(verdict({ '1d': 31, '2h': 31 }).state).toBe('ticket')
    expect(verdict({ '3d': 11, '6h': 11 }).state).toBe('ticket')
  })

  it('has the thresholds of the literature for 30 and 28 days, and none below 1', () => {
    const of = (days: bigint) => TIERS.map((tier) => burnThreshold(tier, days * DAY))
    expect(of(30n)).toEqual([14.4, 6, 3, 1])
    expect(of(28n)).toEqual([13.44, 5.6, 2.8, 1])
    expect(of(7n)).toEqual([3.36, 1.4, 1, 1])
  })

  it('has no window longer than the period', () => {
    expect(verdict({}, counts(1, 0), DAY).alerts.map(({ tier }) => tier.long)).toEqual(['1h', '6h', '1d'])
  })
})

describe('the segments of a period', () => {
  const anyTime = fc.bigInt({ min: 40n * DAY, max: 400n * DAY })
  it('lie side by side, begin where every window does, and are whole minutes or hours where finer tables have expired', () => {
    fc.assert(
      fc.property(anyTime, fc.bigInt({ min: 1n, max: 40n }), anyTime, anyTime, (at, days, a, b) => {
        const [minutes, rows] = a < b ? [a, b] : [b, a]
        const horizon = { rows, minutes }
        const segments = segmentsOf(at, days * DAY, horizon)
        expect(segments[0]!.from).toBe(cutAt(at - days * DAY, horizon))
        expect(segments.at(-1)!.to).toBe(cutAt(at, horizon))
        for (const [k, { from, to }] of segments.entries()) {
          expect(from < to).toBe(true)
          if (k > 0) expect(from).toBe(segments[k - 1]!.to)
          if (from < rows - 60_000_000_000n) expect(from % 60_000_000_000n).toBe(0n)
          if (from < minutes - 3_600_000_000_000n) expect(from % 3_600_000_000_000n).toBe(0n)
        }
        const starts = new Set(segments.map(({ from }) => from).concat(segments.at(-1)!.to))
        for (const window of BURN_WINDOWS) {
          if (WINDOW_NS[window] < days * DAY) expect(starts).toContain(cutAt(at - WINDOW_NS[window], horizon))
        }
      }),
    )
  })
})
