import { encode } from '@msgpack/msgpack'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type ScanLimits, ValueScanner } from '../../../src/ingest/fluentd/scan.ts'

const LIMITS: ScanLimits = { bytesMax: 1 << 20, depthMax: 16, valuesMax: 10_000 }
const scan = (bytes: Uint8Array, limits: Partial<ScanLimits> = {}) =>
  new ValueScanner({ ...LIMITS, ...limits }).scan(bytes)

describe('the end of a MessagePack value', () => {
  test('is found for every value that the library writes, whatever comes behind', () => {
    const value = fc.letrec((tie) => ({
      value: fc.oneof(
        { depthSize: 'small' },
        fc.integer(),
        fc.double(),
        fc.string({ maxLength: 300 }),
        fc.boolean(),
        fc.constant(null),
        fc.uint8Array({ maxLength: 300 }),
        fc.array(tie('value'), { maxLength: 20 }),
        fc.dictionary(fc.string({ maxLength: 5 }), tie('value'), { maxKeys: 20 }),
      ),
    })).value
    fc.assert(
      fc.property(value, fc.uint8Array({ maxLength: 10 }), (any, behind) => {
        const bytes = encode(any)
        expect(scan(Buffer.concat([bytes, behind]))).toBe(bytes.length)
      }),
      { numRuns: 500, seed: 5 },
    )
  })

  test('is found in bytes that come one at a time', () => {
    const bytes = encode([
      'tag',
      [[1, { a: [1, 2, { b: 'text' }], c: new Uint8Array(40) }]],
      { chunk: 'x'.repeat(300) },
    ])
    const scanner = new ValueScanner(LIMITS)
    for (let length = 1; length < bytes.length; length++) expect(scanner.scan(bytes.subarray(0, length))).toBe(0)
    expect(scanner.scan(bytes)).toBe(bytes.length)
    expect(scanner.scan(bytes)).toBe(bytes.length)
  })

  test.each([
    ['positive fixint', '7f', 1],
    ['negative fixint', 'ff', 1],
    ['nil', 'c0', 1],
    ['uint 64', 'cf0000000000000001', 9],
    ['int 8', 'd080', 2],
    ['float 32', 'ca00000000', 5],
    ['EventTime as fixext 8', 'd7000000000000000000', 10],
    ['EventTime as ext 8', 'c708000000000000000000', 11],
    ['fixext 16', `d801${'00'.repeat(16)}`, 18],
    ['bin 32', 'c60000000161', 6],
    ['str 8', 'd90161', 3],
    ['empty array', '90', 1],
    ['empty map', '80', 1],
    ['array 16', 'dc00020102', 5],
    ['map 32', 'df00000001a16101', 8],
  ])('%s', (_, hex, length) => {
    const bytes = Buffer.from(hex, 'hex')
    expect(scan(bytes)).toBe(length)
    for (let cut = 0; cut < bytes.length; cut++) expect(scan(bytes.subarray(0, cut))).toBe(0)
  })

  test('what is never used is malformed', () => {
    expect(scan(Buffer.from([0x91, 0xc1]))).toBe('malformed')
  })

  test('limits: size, depth, number; told before the bytes are there', () => {
    expect(scan(Buffer.from('c6ffffffff', 'hex'))).toBe('too_large')
    expect(scan(Buffer.from('ddffffffff', 'hex'))).toBe('too_large')
    expect(scan(Buffer.alloc(1000, 0x91))).toBe('too_deep')
    expect(scan(encode(Array(200).fill(1)), { valuesMax: 100 })).toBe('too_many_values')
    expect(scan(encode('x'.repeat(200)), { bytesMax: 100 })).toBe('too_large')
    expect(scan(encode(Array.from({ length: 16 }).reduce((inner) => [inner], 1)))).toBe(17)
  })
})
