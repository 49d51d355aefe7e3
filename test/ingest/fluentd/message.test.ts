import { gzipSync } from 'node:zlib'
import { ExtData, encode } from '@msgpack/msgpack'
import { describe, expect, test } from 'vitest'
import { type ForwardMessage, jsonOf, readMessage } from '../../../src/ingest/fluentd/message.ts'

const LIMITS = { bytesMax: 1 << 20, depthMax: 16, valuesMax: 10_000 }
const read = (value: unknown) => readMessage(encode(value), LIMITS)
const record = { code: 200, path: '/a' }
const eventTime = new ExtData(0, Uint8Array.of(0x65, 0x53, 0xf1, 0x00, 0x07, 0x5b, 0xcd, 0x15))
const events = [
  { seconds: 1_700_000_000, nanos: 0, record },
  { seconds: 0x6553f100, nanos: 123_456_789, record: { ...record, path: '/b' } },
]
const pairs = [
  [1_700_000_000, record],
  [eventTime, { ...record, path: '/b' }],
]

describe('messages of the forward protocol', () => {
  test('Message', async () => {
    expect(await read(['t', 1_700_000_000, record])).toEqual({ tag: 't', events: [events[0]], chunk: '', rejected: [] })
    expect(await read(['t', eventTime, pairs[1]![1], { chunk: 'c' }])).toMatchObject({
      events: [events[1]],
      chunk: 'c',
    })
  })

  test('Forward', async () => {
    expect(await read(['t', pairs])).toEqual({ tag: 't', events, chunk: '', rejected: [] })
    expect(await read(['t', pairs, { size: 2, chunk: 'abc' }])).toMatchObject({ events, chunk: 'abc' })
  })

  test('PackedForward, as bytes and gzipped in several members', async () => {
    const packed = Buffer.concat(pairs.map((pair) => encode(pair)))
    expect(await read(['t', packed, { chunk: 'c' }])).toEqual({ tag: 't', events, chunk: 'c', rejected: [] })
    const zipped = Buffer.concat(pairs.map((pair) => gzipSync(encode(pair))))
    expect(await read(['t', zipped, { compressed: 'gzip' }])).toMatchObject({ events })
  })

  test('events with metadata, as Fluent Bit sends them', async () => {
    expect(await read(['t', [[[eventTime, {}], record]]])).toMatchObject({ events: [{ nanos: 123_456_789, record }] })
  })

  test('a heartbeat', async () => {
    expect(await read(null)).toBeNull()
  })

  test('one event that is none costs no other', async () => {
    const bad = [
      1,
      [],
      [1],
      ['soon', record],
      [-1, record],
      [1, 'text'],
      [1, null],
      [new ExtData(0, Uint8Array.of(1)), record],
    ]
    const message = await read(['t', [pairs[0], ...bad, pairs[1]]])
    expect(message).toMatchObject({ events, rejected: Array(bad.length).fill('bad_event') })
  })

  test('a map with keys that are no texts costs that event', async () => {
    const packed = Buffer.concat([
      encode(pairs[0]),
      Buffer.from('9201819001', 'hex'), // [1, {[]: 1}]
      Buffer.from('920181a95f5f70726f746f5f5f01', 'hex'), // [1, {"__proto__": 1}]
      encode(pairs[1]),
    ])
    expect(await read(['t', packed])).toMatchObject({ events, rejected: ['bad_event', 'bad_event'] })
  })

  test('events before damage are kept', async () => {
    const packed = Buffer.concat([encode(pairs[0]), encode(pairs[1]).subarray(0, 20)])
    expect(await read(['t', packed])).toMatchObject({ events: [events[0]], rejected: ['malformed'] })
  })

  test.each([
    ['a number', 7, 'malformed'],
    ['an empty array', [], 'malformed'],
    ['no tag', [1, pairs], 'malformed'],
    ['gzip that is none', ['t', Buffer.from('x'), { compressed: 'gzip' }], 'bad_encoding'],
    ['a zip bomb', ['t', gzipSync(Buffer.alloc(8 << 20)), { compressed: 'gzip' }], 'too_large'],
  ])('%s is refused', async (_, value, fault) => {
    expect(await read(value)).toBe(fault)
  })

  test('many small events in a packed message are bounded as a whole', async () => {
    const packed = Buffer.concat(Array(5000).fill(encode([1, {}])))
    const message = await read(['t', packed])
    expect(message).toMatchObject({ rejected: ['too_many_values'] })
    expect((message as ForwardMessage).events.length).toBeLessThan(5000)
  })

  test('values that JSON has no form for', async () => {
    const message = await read(['t', 1, { a: Buffer.from('text'), c: [new Uint8Array([0xff])], d: null }])
    const { events } = message as ForwardMessage
    expect(jsonOf(events[0]!.record)).toBe('{"a":"text","c":["\ufffd"],"d":null}')
    expect(jsonOf({ b: 5n })).toBe('{"b":"5"}')
  })
})
