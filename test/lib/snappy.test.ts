import fc from 'fast-check'
import snappy from 'snappyjs'
import { expect, test } from 'vitest'
import { snappyCompress, snappyUncompress } from '../../src/lib/snappy.ts'

const MAX = 1 << 20

test('what is packed comes out again, by our reader and by the library', () => {
  const texts = fc.oneof(
    fc.uint8Array({ maxLength: 3000 }),
    fc.string({ maxLength: 200 }).map((text) => Buffer.from(text.repeat(50))),
  )
  fc.assert(
    fc.property(texts, (bytes) => {
      const packed = snappyCompress(bytes)
      expect(snappyUncompress(packed, MAX)).toEqual(Buffer.from(bytes))
      expect(Buffer.from(snappy.uncompress(packed))).toEqual(Buffer.from(bytes))
    }),
    { numRuns: 100 },
  )
})

test('literals and copies of every form are read', () => {
  const literal = (bytes: number[]) => [(bytes.length - 1) << 2, ...bytes]
  const abcd = literal([97, 98, 99, 100])
  // Copies with 1, 2 and 4 bytes of offset, and one that reaches into what it writes.
  expect(String(snappyUncompress(Uint8Array.of(8, ...abcd, 0x01, 4), MAX))).toBe('abcdabcd')
  expect(String(snappyUncompress(Uint8Array.of(7, ...abcd, 0x0a, 4, 0), MAX))).toBe('abcdabc')
  expect(String(snappyUncompress(Uint8Array.of(6, ...abcd, 0x07, 2, 0, 0, 0), MAX))).toBe('abcdcd')
  expect(String(snappyUncompress(Uint8Array.of(10, ...abcd, 0x16, 1, 0), MAX))).toBe('abcddddddd')
  // A literal whose length stands in two bytes behind the tag.
  const long = Buffer.alloc(300, 'x')
  expect(snappyUncompress(Buffer.concat([Buffer.of(0xac, 0x02, 61 << 2, 43, 1), long]), MAX)).toEqual(long)
  expect(snappyUncompress(Uint8Array.of(0), MAX)).toEqual(Buffer.alloc(0))
})

test.each<[string, number[]]>([
  ['nothing', []],
  ['a length that does not end', [0xff, 0xff, 0xff, 0xff, 0xff, 0xff]],
  ['a literal that is cut off', [5, 16, 97]],
  [
    'a literal with a length of minus a few, which sends others backwards',
    [5, 63 << 2, 0xf0, 0xff, 0xff, 0xff, 1, 2, 3],
  ],
  ['a copy from before the beginning', [8, 0, 97, 0x01, 5]],
  ['a copy of nothing', [8, 0, 97, 0x01, 0]],
  ['a copy without its offset', [8, 0, 97, 0x02, 1]],
  ['less than was announced', [9, 0, 97]],
  ['more than was announced', [1, 4, 97, 98]],
  ['a copy beyond what was announced', [3, 0, 97, 0x0d, 1]],
])('%s is malformed', (_, bytes) => {
  expect(snappyUncompress(Uint8Array.from(bytes), MAX)).toBe('malformed')
})

test('what would become too large is not begun', () => {
  expect(snappyUncompress(Uint8Array.of(0x81, 0x80, 0x40, 0, 97), MAX)).toBe('too_large')
})

test('any bytes come to an end', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const read = snappyUncompress(bytes, MAX)
      expect(typeof read === 'string' || read.length <= MAX).toBe(true)
    }),
    { numRuns: 500 },
  )
})
