import fc from 'fast-check'
import { expect, test } from 'vitest'
import { eachField, eachStructField, eachValueString, readText, valueText } from '../../../src/ingest/als/protobuf.ts'
import { bytes, message, number, struct } from '../../support/wire.ts'

function fields(wire: Uint8Array, start = 0, end = wire.length): [boolean, [number, number, string | number][]] {
  const seen: [number, number, string | number][] = []
  const whole = eachField(wire, start, end, (field, wireType, from, to, value) => {
    seen.push([field, wireType, wireType === 2 ? readText(wire, from, to) : value])
  })
  return [whole, seen]
}

test('fields of every wire type are walked', () => {
  const fixed = Buffer.concat([Buffer.of(3 * 8 + 1), Buffer.alloc(8), Buffer.of(4 * 8 + 5), Buffer.alloc(4)])
  const wire = message(number(1, 300), bytes(2, 'text'), fixed, number(5000, 2 ** 40))
  expect(fields(wire)).toEqual([
    true,
    [
      [1, 0, 300],
      [2, 2, 'text'],
      [3, 1, 0],
      [4, 5, 0],
      [5000, 0, 2 ** 40],
    ],
  ])
})

test('a walk stays inside its range', () => {
  const wire = message(bytes(1, 'before'), bytes(2, 'inside'), bytes(3, 'behind'))
  expect(fields(wire, 8, 16)).toEqual([true, [[2, 2, 'inside']]])
  expect(fields(wire, 8, 14)).toEqual([false, []])
})

test.each([
  ['a length over the end', Buffer.from([0x0a, 5, 1])],
  ['a group', Buffer.from([0x0b])],
  ['field 0', Buffer.from([0x02, 0])],
  ['a varint without end', Buffer.alloc(30, 0xff)],
  ['a cut fixed64', Buffer.from([0x09, 1, 2])],
  ['a cut tag', Buffer.from([0x80])],
])('%s ends the walk', (_, damaged) => {
  const wire = message(bytes(1, 'good'), damaged)
  expect(fields(wire)).toEqual([false, [[1, 2, 'good']]])
})

test('a Struct is read, whatever its values are', () => {
  const wire = struct({
    text: 'a',
    number: 1.5,
    yes: true,
    none: null,
    list: ['x', { y: 'z' }],
    inner: { k: 'v', n: 1 },
  })
  const seen = new Map<string, string>()
  const inner: [string, string][] = []
  eachStructField(wire, 0, wire.length, (key, from, to) => {
    seen.set(key, valueText(wire, from, to))
    eachValueString(wire, from, to, (innerKey, text) => inner.push([innerKey, text]))
  })
  expect([...seen]).toEqual([
    ['text', 'a'],
    ['number', ''],
    ['yes', ''],
    ['none', ''],
    ['list', ''],
    ['inner', ''],
  ])
  expect(inner).toEqual([
    ['k', 'v'],
    ['n', ''],
  ])
})

test('texts are cut at 512 bytes, and bytes that are not UTF-8 do no harm', () => {
  const long = Buffer.alloc(2000, 'x')
  expect(readText(long, 0, 2000)).toHaveLength(512)
  expect(readText(Buffer.from([0x61, 0xff, 0xc3]), 0, 3)).toBe('a\ufffd\ufffd')
})

test('random bytes never throw and never leave the range', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(300), (wire, cut) => {
      const end = Math.min(cut, wire.length)
      eachField(wire, 0, end, (field, _wireType, from, to) => {
        expect(field).toBeGreaterThan(0)
        expect(from).toBeLessThanOrEqual(to)
        expect(to).toBeLessThanOrEqual(end)
      })
    }),
    { numRuns: 3000 },
  )
})
