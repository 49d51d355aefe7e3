import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { NumberReader, numberOf } from '../../../src/ingest/scrape/number.ts'

const reader = new NumberReader()

function read(text: string): [value: number, end: number] {
  const bytes = Buffer.from(text)
  return [reader.read(bytes, 0, bytes.length), reader.end]
}

describe('numbers of an exposition', () => {
  test.each([
    ['0', 0],
    ['-0', -0],
    ['+12', 12],
    ['498.5', 498.5],
    ['.5', 0.5],
    ['5.', 5],
    ['000000000000000000007', 7],
    ['0.30000000000000004', 0.30000000000000004],
    ['123456789012345', 123456789012345],
    ['9007199254740993', 9007199254740992],
    ['1e3', 1000],
    ['1.7976931348623157e+308', Number.MAX_VALUE],
    ['5e-324', Number.MIN_VALUE],
    ['1e400', Number.POSITIVE_INFINITY],
    ['+Inf', Number.POSITIVE_INFINITY],
    ['Inf', Number.POSITIVE_INFINITY],
    ['-inf', Number.NEGATIVE_INFINITY],
    ['Infinity', Number.POSITIVE_INFINITY],
    ['NaN', Number.NaN],
    ['nan', Number.NaN],
  ])('%s is %d', (text, value) => {
    expect(read(text)).toEqual([value, text.length])
    expect(read(`${text} 17`)).toEqual([value, text.length])
    expect(read(`${text}\n`)).toEqual([value, text.length])
    expect(numberOf(text)).toEqual(value)
  })

  test.each(['', '-', '+', '.', 'e5', '1e', '1_000', '0x10', '1,5', '1.2.3', '--1', 'Nano', 'infinit', '1"', '{', '٣'])(
    '%j is no number',
    (text) => {
      expect(read(text)).toEqual([Number.NaN, 0])
      expect(numberOf(text)).toBeNull()
    },
  )

  test('every double is read as it is written', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true }), (value) => {
        const text = Object.is(value, -0) ? '-0' : String(value)
        return Object.is(read(text)[0], value) && Object.is(numberOf(text), value)
      }),
      { numRuns: 3000, seed: 1 },
    )
  })

  test('short decimals are the doubles nearest to them', () => {
    fc.assert(
      fc.property(fc.nat(999_999_999), fc.nat(22), (digits, decimals) => {
        const text = String(digits).padStart(decimals + 1, '0')
        const decimal = `${text.slice(0, text.length - decimals)}.${text.slice(text.length - decimals)}`
        return read(decimal)[0] === Number(decimal)
      }),
      { numRuns: 3000, seed: 2 },
    )
  })

  test('a number is not read over the limit', () => {
    const bytes = Buffer.from('12345')
    expect(reader.read(bytes, 0, 3)).toBe(123)
    expect(reader.end).toBe(3)
  })
})
