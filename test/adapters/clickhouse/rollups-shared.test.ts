import { describe, expect, it } from 'vitest'
import { missingOf } from '../../../src/adapters/clickhouse/rollups-shared.ts'

type Totals = Map<number, bigint[]>
const segment = (...minutes: [number, bigint[]][]) => ({ minutes: new Map(minutes) as Totals })

describe('segments whose rollups are missing', () => {
  const a = segment([60, [10n, 900n]])
  const b = segment([60, [7n, 500n]], [120, [3n, 100n]])
  const c = segment([120, [5n, 4000n]])

  it('are none where nothing is lacking', () => {
    expect(missingOf([a, b, c], new Map())).toEqual([])
  })

  it('are those that come to exactly what is lacking', () => {
    const lacks: Totals = new Map([
      [60, [17n, 1400n]],
      [120, [3n, 100n]],
    ])
    expect(missingOf([a, b, c], lacks)).toEqual([a, b])
    expect(missingOf([a, b, c], new Map([[120, [5n, 4000n]]]))).toEqual([c])
  })

  it('cannot be told while something else is lacking as well, or too much is there', () => {
    expect(missingOf([a, b, c], new Map([[60, [11n, 901n]]]))).toBeUndefined()
    expect(missingOf([a, b, c], new Map([[180, [1n, 1n]]]))).toBeUndefined()
    expect(missingOf([a], new Map([[60, [-10n, -900n]]]))).toBeUndefined()
  })

  it('are the newest ones, of many', () => {
    const many = Array.from({ length: 100 }, (_, k) => segment([60 * (k % 3), [BigInt(k + 1), BigInt(k * k)]]))
    const newest = many.slice(70)
    const lacks: Totals = new Map([0, 60, 120].map((minute) => [minute, [0n, 0n]]))
    for (const { minutes } of newest) {
      for (const [minute, [n, sum]] of minutes)
        lacks.set(minute, [lacks.get(minute)![0]! + n!, lacks.get(minute)![1]! + sum!])
    }
    expect(missingOf(many, lacks)).toEqual(newest)
  })

  it('are added up modulo 2^64, as the engine does', () => {
    const big = segment([60, [2n ** 62n]])
    expect(missingOf([big, segment([60, [2n ** 62n]])], new Map([[60, [-(2n ** 63n)]]]))).toHaveLength(2)
  })
})
