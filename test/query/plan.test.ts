import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { rankOf } from '../../src/model/histogram.ts'
import { type Plan, planRollups, planRows, sourceOf } from '../../src/query/plan.ts'
import { exactLevel, parseQuantiles, slowestLevel } from '../../src/query/quantiles.ts'
import { ceilTo, DAY, floorTo, HOUR, type Interval, MINUTE, maxOf, minOf, SECOND } from '../../src/query/time.ts'

const EVERYTHING = { rows: 0n, minutes: 0n }
const T0 = 20_000n * 24n * HOUR

describe('a plan', () => {
  const cases: [string, Interval, bigint | null, string][] = [
    ['whole hours', { from: T0, to: T0 + 3n * HOUR }, null, 'latency_1h 0-180'],
    ['whole minutes', { from: T0 + 5n * MINUTE, to: T0 + 9n * MINUTE }, null, 'latency_1m 5-9'],
    [
      'any ends',
      { from: T0 - 90n * SECOND, to: T0 + 2n * HOUR + 150n * SECOND },
      null,
      'requests -1.5--1 | latency_1m -1-0 | latency_1h 0-120 | latency_1m 120-122 | requests 122-122.5',
    ],
    ['less than a minute', { from: T0 + SECOND, to: T0 + 2n * SECOND }, null, `requests ${1 / 60}-${2 / 60}`],
    [
      'over one minute mark',
      { from: T0 - SECOND, to: T0 + SECOND },
      null,
      `requests ${-1 / 60}-0 | requests 0-${1 / 60}`,
    ],
    ['steps of minutes', { from: T0, to: T0 + 2n * HOUR }, 5n * MINUTE, 'latency_1m 0-120'],
    ['steps of hours', { from: T0, to: T0 + 2n * HOUR }, 2n * HOUR, 'latency_1h 0-120'],
  ]
  for (const [name, interval, step, expected] of cases) {
    it(`of ${name} reads ${expected}`, () => expect(written(planRollups(interval, step, EVERYTHING)!)).toBe(expected))
  }

  const over: Interval = { from: T0 + 5n * HOUR, to: T0 + 3n * DAY + 2n * HOUR }
  const runs = [
    { from: T0 - DAY, to: T0 + DAY },
    { from: T0 + 2n * DAY, to: T0 + 4n * DAY },
  ]
  const dayCases: [string, Interval, bigint | null, readonly Interval[], string][] = [
    [
      'days in hours',
      over,
      null,
      [{ from: T0 + DAY, to: T0 + 3n * DAY }],
      'latency_1h 300-1440 | latency_1d 1440-4320 | latency_1h 4320-4440',
    ],
    ['days with others between', over, null, runs, 'latency_1h 300-2880 | latency_1d 2880-4320 | latency_1h 4320-4440'],
    ['steps of a day', over, DAY, runs, 'latency_1h 300-2880 | latency_1d 2880-4320 | latency_1h 4320-4440'],
    ['steps of hours over days', over, HOUR, runs, 'latency_1h 300-4440'],
    ['one whole day', { from: T0, to: T0 + DAY }, null, runs, 'latency_1d 0-1440'],
    ['less than a day', { from: T0 + HOUR, to: T0 + DAY }, null, runs, 'latency_1h 60-1440'],
  ]
  for (const [name, interval, step, days, expected] of dayCases) {
    it(`of ${name} reads ${expected}`, () => {
      expect(written(planRollups(interval, step, EVERYTHING, days)!)).toBe(expected)
    })
  }

  it('is not possible from rollups for steps that are not whole minutes', () => {
    expect(planRollups({ from: T0, to: T0 + HOUR }, 90n * SECOND, EVERYTHING)).toBeNull()
  })

  const anyInterval = fc
    .tuple(fc.bigInt({ min: 0n, max: 100n * HOUR }), fc.bigInt({ min: 1n, max: 100n * HOUR }))
    .map(([from, length]) => ({ from: T0 + from, to: T0 + from + length }))
  const anyTime = fc.bigInt({ min: T0, max: T0 + 200n * HOUR })
  const anyDays = fc
    .array(fc.boolean(), { minLength: 12, maxLength: 12 })
    .map((whole) =>
      whole.flatMap((is, k) => (is ? [{ from: T0 + BigInt(k - 2) * DAY, to: T0 + BigInt(k - 1) * DAY }] : [])),
    )

  it('tiles its interval, uses each table at its own marks, and never what has expired', () => {
    fc.assert(
      fc.property(anyInterval, anyTime, anyTime, anyDays, (asked, a, b, days) => {
        const horizon = { rows: maxOf(a, b), minutes: floorTo(minOf(a, b), MINUTE) }
        const { interval, parts } = planRollups(asked, null, horizon, days)!
        expect(interval.from).toBeLessThanOrEqual(asked.from)
        expect(interval.to).toBeGreaterThanOrEqual(asked.to)
        expect(asked.from - interval.from).toBeLessThan(HOUR)
        expect(interval.to - asked.to).toBeLessThan(HOUR)
        let at = interval.from
        for (const part of parts) {
          expect(part.from).toBe(at)
          expect(part.to).toBeGreaterThan(part.from)
          at = part.to
          const mark = { requests: 1n, latency_1m: MINUTE, latency_1h: HOUR, latency_1d: DAY }[part.table]
          expect([part.from % mark, part.to % mark]).toEqual([0n, 0n])
          if (part.table === 'latency_1d') {
            expect(days.some((day) => day.from <= part.from && part.to <= day.to)).toBe(true)
          }
          if (part.table === 'latency_1h') {
            const [first, end] = [ceilTo(part.from, DAY), floorTo(part.to, DAY)]
            expect(days.some((day) => day.from >= first && day.to <= end)).toBe(false)
          }
          if (part.table === 'requests') expect(part.from).toBeGreaterThanOrEqual(horizon.rows)
          if (part.table === 'latency_1m') expect(part.from).toBeGreaterThanOrEqual(horizon.minutes)
        }
        expect(at).toBe(interval.to)
      }),
      { numRuns: 1500 },
    )
  })

  it('has at most two edges of rows and two of minutes', () => {
    fc.assert(
      fc.property(anyInterval, (asked) => {
        const plan = planRollups(asked, null, EVERYTHING)!
        expect(plan.interval).toEqual(asked)
        expect(plan.parts.length).toBeLessThanOrEqual(5)
      }),
    )
  })

  it('of rows is refused from before the oldest', () => {
    const horizon = { rows: T0, minutes: 0n }
    expect(sourceOf(planRows({ from: T0, to: T0 + HOUR }, horizon, ''))).toBe('requests')
    expect(() => planRows({ from: T0 - 1n, to: T0 + HOUR }, horizon, 'why')).toThrow(
      expect.objectContaining({
        code: 'rows_expired',
        message: expect.stringMatching(/^why, and rows before .* no longer kept/),
      }),
    )
  })
})

function written(plan: Plan): string {
  const minutes = (time: bigint) => Number(time - T0) / Number(MINUTE)
  return plan.parts.map(({ table, from, to }) => `${table} ${minutes(from)}-${minutes(to)}`).join(' | ')
}

describe('quantiles', () => {
  it('become levels at which the engine takes just the rank ⌈q·n⌉', () => {
    const q = fc.integer({ min: 0, max: 1_000_000 }).map((millionths) => millionths / 1e6)
    const n = fc.oneof(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 50_000_000 }))
    fc.assert(
      fc.property(q, n, (q, n) => {
        const level = Number(exactLevel(q))
        expect(Math.floor(level * n) + 1).toBe(rankOf(q, n))
      }),
      { numRuns: 20_000 },
    )
    for (const q of ['0', '0.07', '0.29', '0.5', '0.57', '0.9', '0.99', '0.999', '1']) {
      for (let n = 1; n <= 3000; n++)
        expect(Math.floor(Number(exactLevel(Number(q))) * n) + 1).toBe(rankOf(Number(q), n))
    }
  })

  it('become levels for the smallest of the slowest', () => {
    for (const share of [1e-6, 0.01, 0.07, 0.25, 0.5, 1]) {
      for (let n = 1; n <= 3000; n++) {
        expect(Math.floor(Number(slowestLevel(share)) * n)).toBe(n - rankOf(share, n))
      }
    }
  })

  it('are numbers from 0 to 1, a bounded number of them', () => {
    expect(parseQuantiles('0, .5,0.99,1,1.0').map(({ text, q }) => [text, q])).toEqual([
      ['0', 0],
      ['.5', 0.5],
      ['0.99', 0.99],
      ['1', 1],
      ['1.0', 1],
    ])
    expect(parseQuantiles().map(({ text }) => text)).toEqual(['0.5', '0.9', '0.99', '0.999'])
    for (const text of [
      '',
      '99',
      '-0.1',
      '1.01',
      'p99',
      '0.1234567',
      '1e-3',
      'NaN',
      '0.5,',
      Array(21).fill('0.5').join(','),
    ]) {
      expect(() => parseQuantiles(text), text).toThrow(expect.objectContaining({ code: 'bad_parameter' }))
    }
  })
})
