import { describe, expect, it } from 'vitest'
import { createRowSeries } from '../../../src/adapters/wavefront/row-series.ts'
import type { NativeBlockColumns } from '../../../src/model/native-read.ts'

/** A block of requests that has these columns of dictionaries, and nothing else. */
function blockOf(columns: Readonly<Record<string, readonly string[]>>): NativeBlockColumns {
  const rows = Object.values(columns)[0]!.length
  const dictionaryOf = (name: string) => {
    const values = columns[name]
    if (values === undefined) return { codes: new Uint8Array(rows), texts: [''] }
    const texts = [...new Set(values)]
    return { codes: Uint32Array.from(values, (value) => texts.indexOf(value)), texts }
  }
  return {
    table: 'requests',
    rows,
    type: () => 'LowCardinality(String)',
    dictionary: dictionaryOf,
  } as unknown as NativeBlockColumns
}

const describeLower = (texts: readonly string[]) => {
  const key = texts.join('|').toLowerCase()
  return key.startsWith('udp') ? null : { key, series: key }
}

describe('series of rows', () => {
  it('are told apart by their texts, over blocks with dictionaries of their own', () => {
    const series = createRowSeries({
      columns: ['kind', 'route', 'method'],
      describe: describeLower,
      kept: 1,
      seriesMax: 10,
    })
    const first = [...series.resolve(blockOf({ kind: ['http', 'http', 'udp', 'http'], route: ['a', 'b', 'a', 'A'] }))]
    expect(first).toEqual([0, 1, -1, 0])
    const second = [...series.resolve(blockOf({ kind: ['http', 'tcp'], route: ['b', 'a'] }))]
    expect(second).toEqual([1, 2])
    expect(series.list).toEqual(['http|a|', 'http|b|', 'tcp|a|'])
  })

  it('past the bound go to one that keeps the first columns, and those known before stay', () => {
    const series = createRowSeries({ columns: ['kind', 'route'], describe: describeLower, kept: 1, seriesMax: 3 })
    const routes = Array.from({ length: 3000 }, (_, k) => `r${k % 2000}`)
    const kinds = routes.map((_, k) => (k % 3 === 0 ? 'tcp' : 'http'))
    const numbers = [...series.resolve(blockOf({ kind: kinds, route: routes }))]
    expect(series.list).toEqual(['tcp|r0', 'http|r1', 'http|r2', 'tcp|overflow', 'http|overflow'])
    expect(numbers.slice(0, 6)).toEqual([0, 1, 2, 3, 4, 4])
    // Row 2002 is HTTP and of the third route again.
    expect(numbers[2002]).toBe(2)
    expect(numbers.filter((number) => series.isOverflow(number))).toHaveLength(2996)
    expect(series.list.map((_, k) => series.isOverflow(k))).toEqual([false, false, false, true, true])
    expect(series.overflow(['tcp'])).toBe(3)
  })

  it('of more tuples than are told apart are counted all the same', () => {
    const series = createRowSeries({ columns: ['kind', 'route'], describe: describeLower, kept: 1, seriesMax: 2 })
    let rows = 0
    for (let block = 0; block < 5; block++) {
      const routes = Array.from({ length: 30_000 }, (_, k) => `r${block * 30_000 + k}`)
      const numbers = series.resolve(blockOfRoutes(routes))
      for (let row = 0; row < routes.length; row++) if (numbers[row]! >= 0) rows++
    }
    expect(rows).toBe(150_000)
    expect(series.list).toEqual(['http|r0', 'http|r1', 'http|overflow'])
  })
})

/** The same as above for routes that are distinct already: quicker. */
function blockOfRoutes(routes: readonly string[]): NativeBlockColumns {
  return {
    ...blockOf({ kind: routes.map(() => 'http') }),
    dictionary: (name: string) =>
      name === 'route'
        ? { codes: Uint32Array.from(routes, (_, k) => k), texts: routes }
        : { codes: new Uint8Array(routes.length), texts: ['http'] },
  } as unknown as NativeBlockColumns
}
