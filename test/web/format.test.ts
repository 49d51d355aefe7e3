import { expect, test } from 'vitest'
import {
  boundsText,
  bytes,
  count,
  doubtText,
  duration,
  percent,
  rate,
  span,
  unitFor,
} from '../../src/web/page/format.ts'

/** The same text with ordinary spaces. */
const plain = (text: string) => text.replace(/[\u00a0\u2009]/g, ' ')
const within = (value: number, share: number) => ({ value, low: value * (1 - share), high: value * (1 + share) })

test.each([
  [within(87.31, 0.0055), '87.3 ms'],
  [within(412.4, 0.0055), '412 ms'],
  [within(9.876, 0.0055), '9.88 ms'],
  [{ value: 412, low: 300, high: 500 }, '400 ms'],
  [{ value: 41.27, low: 39, high: 43 }, '41 ms'],
  [{ value: 3.27, low: 2.1, high: 4 }, '3 ms'],
  [{ value: 0.4183, low: 0.4183, high: 0.4183 }, '418 µs'],
  [{ value: 0.000_05, low: 0.000_05, high: 0.000_05 }, '50.0 ns'],
  [12_345, '12.3 s'],
  [7_100_000, '118 min'],
  [36_000_000, '10.0 h'],
  [0, '0 ms'],
  [null, '–'],
  [undefined, '–'],
  [Number.NaN, '–'],
  [Number.POSITIVE_INFINITY, '–'],
] as const)('duration(%j) is %s', (value, text) => {
  expect(plain(duration(value))).toBe(text)
})

test('a source in whole milliseconds gets no decimals', () => {
  expect(plain(duration(12.4, { precisionNs: 1_000_000 }))).toBe('12 ms')
  expect(plain(duration(12.4, { precisionNs: 1 }))).toBe('12.4 ms')
})

test('one unit serves a whole column, and cells then have none', () => {
  const column = [0.4, 3.2, 18, 2_300]
  const unit = unitFor(column)
  expect(unit).toBe('ms')
  expect(column.map((value) => plain(duration(value, { unit, bare: true })))).toEqual([
    '0.400',
    '3.20',
    '18.0',
    '2 300',
  ])
  expect(duration(0.000_05, { unit, bare: true })).toBe('<0.001')
  expect(unitFor([])).toBe('ms')
  expect(unitFor([0, 0, null])).toBe('ms')
  expect(unitFor([0.02, 0.03])).toBe('µs')
})

test('bounds and doubt', () => {
  expect(plain(boundsText({ value: 412.4, low: 409.1, high: 414.2 }))).toBe('409.1…414.2 ms')
  expect(boundsText({ value: 1, low: 1, high: 1 })).toBe('')
  expect(plain(doubtText(within(412, 0.0054)))).toBe('±0.5 %')
  expect(plain(doubtText(within(412, 0.31)))).toBe('±31 %')
  expect(doubtText(within(412, 0))).toBe('exact')
})

test('no printed digit is finer than the doubt, over eleven orders of magnitude', () => {
  for (let exponent = -5; exponent <= 5; exponent++) {
    for (const share of [0, 0.0001, 0.0055, 0.05, 0.4]) {
      const value = 3.1973 * 10 ** exponent
      const text = plain(duration(within(value, share), { unit: 'ms' })).replaceAll(/ (ms)?/g, '')
      const lastDigit = text.includes('.') ? 10 ** -text.split('.')[1]!.length : 10 ** /0*$/.exec(text)![0].length
      expect(lastDigit, text).toBeGreaterThan((value * share) / 10)
      expect(Math.abs(Number(text) - value), text).toBeLessThanOrEqual(Math.max(value * share, value / 200))
    }
  }
})

test.each([
  [0, '0'],
  [999, '999'],
  [6_558, '6 558'],
  [12_345, '12 345'],
  [123_456, '123 k'],
  [2_941_120, '2.94 M'],
  [29_411_207, '29.4 M'],
  [999_999, '1.00 M'],
  [null, '–'],
])('count(%j) is %s', (value, text) => {
  expect(plain(count(value))).toBe(text)
})

test.each([
  [0, '0'],
  [0.004, '<0.01'],
  [0.05, '0.0500'],
  [12.3456, '12.3'],
  [812, '812'],
  [8_200, '8.20 k'],
  [null, '–'],
])('rate(%j) is %s', (value, text) => {
  expect(plain(rate(value))).toBe(text)
})

test.each([
  [0, 1_000, '0 %'],
  [1, 1_000, '100 %'],
  [0.0031, 1_000_000, '0.310 %'],
  [1 / 41, 41, '2 %'],
  [0.000_001, 1_000_000, '<0.001 %'],
  [0.5, 2, '50 %'],
  [0.999_99, 1_000_000, '99.999 %'],
  [0.9995, 10_000, '99.95 %'],
  [0.1234, 1_000_000, '12.3 %'],
  [null, 10, '–'],
])('percent(%j of %j) is %s', (ratio, n, text) => {
  expect(plain(percent(ratio, n))).toBe(text)
})

test('sizes and ages', () => {
  expect(plain(bytes(2_100_000_000))).toBe('2.1 GB')
  expect(plain(bytes(512))).toBe('512 B')
  expect(plain(span(4_000))).toBe('4 s')
  expect(plain(span(840_000))).toBe('14 min')
  expect(plain(span(10_800_000))).toBe('3 h')
})
