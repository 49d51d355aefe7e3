import { describe, expect, test } from 'vitest'
import { HeadTable, hashOf } from '../../../src/ingest/scrape/head-table.ts'
import { seededRandom } from '../../../src/lib/random.ts'

const SEED = 7

function intern(table: HeadTable, text: string): number {
  const bytes = Buffer.from(text)
  const hash = hashOf(bytes, 0, bytes.length, SEED)
  const found = table.find(bytes, 0, bytes.length, hash)
  return found >= 0 ? found : table.add(bytes, 0, bytes.length, hash)
}

describe('the table of heads', () => {
  test('gives the same bytes the same number, and others another', () => {
    const table = new HeadTable()
    const random = seededRandom(3)
    const numbers = new Map<string, number>()
    for (let k = 0; k < 20_000; k++) {
      const text = `series_${Math.floor(random() * 5000)}{a="${'x'.repeat(Math.floor(random() * 3))}"}`
      const number = intern(table, text)
      expect(number).toBe(numbers.get(text) ?? numbers.size)
      numbers.set(text, number)
      expect(table.lengthOf(number)).toBe(text.length)
    }
    expect(table.size).toBe(numbers.size)
  })

  test('expects what came after last time, from the first one on', () => {
    const table = new HeadTable()
    const lines = ['a ', 'b{x="1"}', 'c ']
    for (const line of lines) intern(table, line)
    table.rewind()
    for (const [k, line] of lines.entries()) {
      const bytes = Buffer.from(`..${line}1\n`)
      expect(table.expected(bytes, 2, bytes.length)).toBe(k)
    }
    expect(table.expected(Buffer.from('a 1'), 0, 3)).toBe(-1)
  })

  test('learns a new order', () => {
    const table = new HeadTable()
    for (const line of ['a ', 'b ', 'c ']) intern(table, line)
    table.rewind()
    for (const line of ['c ', 'a ', 'b ']) intern(table, line)
    table.rewind()
    expect(['c ', 'a ', 'b '].map((line) => table.expected(Buffer.from(line), 0, 2))).toEqual([2, 0, 1])
  })

  test('does not read over the end of the page', () => {
    const table = new HeadTable()
    intern(table, 'abcdef ')
    table.rewind()
    expect(table.expected(Buffer.from('abcdef 1'), 0, 5)).toBe(-1)
  })
})
