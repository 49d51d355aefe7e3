import { describe, expect, it } from 'vitest'
import { readCursor, writeCursor } from '../../src/query/cursor.ts'
import { csvField, negotiate } from '../../src/query/rows-format.ts'

describe('the type of rows', () => {
  const cases: [string | undefined, string][] = [
    [undefined, 'application/json'],
    ['', 'application/json'],
    ['*/*', 'application/json'],
    ['text/csv', 'text/csv'],
    ['TEXT/CSV', 'text/csv'],
    ['text/*', 'text/csv'],
    ['application/x-ndjson', 'application/x-ndjson'],
    ['text/html, application/x-ndjson;q=0.9, text/csv;q=0.8', 'application/x-ndjson'],
    ['text/csv;q=0.5, application/json', 'application/json'],
    ['text/csv;q=0', 'application/json'],
    ['text/csv;q=nonsense', 'application/json'],
    ['image/png', 'application/json'],
  ]
  for (const [accept, type] of cases) it(`is ${type} for ${accept}`, () => expect(negotiate(accept)).toBe(type))
})

it('a field of CSV is quoted where it has to be', () => {
  expect(['a', 'a,b', 'a"b', 'a\nb', 'a\rb', '', null, 5, true, { k: 'v' }].map(csvField)).toEqual([
    'a',
    '"a,b"',
    '"a""b"',
    '"a\nb"',
    '"a\rb"',
    '',
    '',
    '5',
    'true',
    '"{""k"":""v""}"',
  ])
})

describe('a cursor', () => {
  const cursor = { interval: { from: 5n, to: 2n ** 62n }, key: 2n ** 64n - 1n, endTime: 7n, tie: 2n ** 63n, shown: 12 }
  it('reads back as it was written', () => {
    expect(readCursor(writeCursor(cursor, ['a']), ['a'])).toEqual(cursor)
  })

  it('is refused when it is another, or was changed anywhere', () => {
    const text = writeCursor(cursor, ['a', 'b'])
    const bad = expect.objectContaining({ code: 'bad_cursor' })
    expect(() => readCursor(text, ['a', 'c'])).toThrow(bad)
    expect(() => readCursor(text, ['ab'])).toThrow(bad)
    for (let k = 0; k < text.length; k++) {
      const other = text[k] === 'A' ? 'B' : 'A'
      expect(() => readCursor(text.slice(0, k) + other + text.slice(k + 1), ['a', 'b']), `at ${k}`).toThrow(bad)
    }
    for (const wrong of ['', 'x', '....', text.slice(1), `${text}A`, text.toUpperCase(), `${text}=`, ` ${text}`]) {
      expect(() => readCursor(wrong, ['a', 'b']), wrong).toThrow(bad)
    }
  })
})
