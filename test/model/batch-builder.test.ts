import { expect, test } from 'vitest'
import { createEntryGenerator } from '../../bench/support/als-entries.ts'
import { createBatchBuilder } from '../../src/model/batch-builder.ts'
import { PUBLIC_ROW_COLUMNS, ROW_TABLES, STORED_ROW_COLUMNS } from '../../src/model/schema.ts'
import { createDecoding, echoResolver, originOf, RECEIVED_MS } from '../support/als-decoding.ts'
import { readBlocks } from '../support/native-rows.ts'
import { bytes, message, number } from '../support/wire.ts'

const time = (seconds: number, nanos = 0): Uint8Array => message(number(1, seconds), number(2, nanos))
const endingAt = (...ends: readonly [seconds: number, nanos?: number][]): Uint8Array =>
  bytes(
    2,
    message(
      ...ends.map(([seconds, nanos]) =>
        bytes(1, message(bytes(1, message(bytes(5, time(seconds, nanos)), number(33, 6))), bytes(3, number(1, 1)))),
      ),
    ),
  )

test('a block is what the rows need: columns without a value are left out', () => {
  const decoding = createDecoding()
  decoding.feed(endingAt([1_767_225_600]))
  const [block] = readBlocks(decoding.builders.requests.seal().encode('0-a-1').buffers)
  expect([...block!.columns.keys()].sort()).toEqual(
    [
      'class',
      'destination_service',
      'duration_ns',
      'end_time',
      'entry_type',
      'envoy_version',
      'kind',
      'log_name',
      'mesh',
      'method',
      'node_cluster',
      'node_id',
      'outcome',
      'precision_ns',
      'protocol',
      'received',
      'region',
      'reporter',
      'segment',
      'source',
      'sub_zone',
      'zone',
    ].filter((name) => name !== 'destination_service'),
  )
  expect(block!.rows[0]).toMatchObject({ segment: '0-a-1', node_id: 'edge-1', reporter: 'gateway', precision_ns: 1 })
})

test('every block has the types of the schema, in its order', () => {
  const decoding = createDecoding()
  const generator = createEntryGenerator(5, { mutualTls: true, errorShare: 0.3 })
  decoding.feed(...Array.from({ length: 20 }, () => generator.message()))
  const [block] = readBlocks(decoding.builders.requests.seal().encode('0-a-1').buffers)
  const schema = new Map(STORED_ROW_COLUMNS.map(({ name, type }) => [name, type]))
  const order = [...schema.keys()]
  const names = [...block!.columns.keys()]
  for (const [name, type] of block!.columns) expect(type, name).toBe(schema.get(name))
  expect(names).toEqual(order.filter((name) => names.includes(name)))
  expect(names.length).toBeGreaterThan(45)
})

test('times are exact to the nanosecond, in every second there is', () => {
  const decoding = createDecoding()
  const ends: [number, number][] = [
    [1, 0],
    [1, 999_999_999],
    [65_535, 1],
    [65_536, 999_999_999],
    [1_767_225_600, 123_456_789],
    [1_767_225_600, 123_456_790],
    [2_147_483_647, 999_999_999],
    [2_147_483_648, 1],
    [4_289_999_999, 999_999_999],
  ]
  decoding.feed(endingAt(...ends))
  expect(decoding.take().requests.map((row) => row.end_time)).toEqual(
    ends.map(([seconds, nanos]) => BigInt(seconds) * 1_000_000_000n + BigInt(nanos)),
  )
})

test('a block tells its rows by day and by node', () => {
  const decoding = createDecoding()
  const day = 20_454
  decoding.feed(endingAt([day * 86_400], [day * 86_400 + 86_399, 999_999_999], [(day + 1) * 86_400], [86_400]))
  const message = endingAt([day * 86_400 + 7])
  decoding.decoder.decode(message, 0, message.length, { origin: originOf('edge-2') }, RECEIVED_MS)
  const block = decoding.builders.requests.seal().encode('s')
  expect(block.rows).toBe(5)
  expect([...block.days].sort()).toEqual([
    [1, 1],
    [day, 3],
    [day + 1, 1],
  ])
  expect([...block.nodes].sort()).toEqual([
    ['edge-1', 4],
    ['edge-2', 1],
  ])
})

test('large counts and missing points keep their value', () => {
  const decoding = createDecoding()
  const counts = [1, 2 ** 32 - 1, 2 ** 32, 2 ** 45 + 3, Number.MAX_SAFE_INTEGER]
  for (const count of counts) {
    decoding.feed(
      bytes(
        2,
        bytes(
          1,
          message(
            bytes(
              1,
              message(bytes(5, time(1_767_225_600)), bytes(9, time(count % 7, 5)), number(29, count), number(33, 6)),
            ),
            bytes(3, number(1, 1)),
          ),
        ),
      ),
    )
  }
  const rows = decoding.take().requests
  expect(rows.map((row) => row.downstream_wire_sent)).toEqual(counts.map(BigInt))
  expect(rows.map((row) => row.t_up_rx_begin)).toEqual(counts.map((count) => BigInt((count % 7) * 1e9 + 5)))
  expect(rows.every((row) => row.t_up_rx_end === null)).toBe(true)
})

test('more than 256 distinct texts take wider indexes, in columns and identities', () => {
  const decoding = createDecoding()
  const entries = Array.from({ length: 700 }, (_, k) =>
    bytes(
      1,
      message(
        bytes(1, message(bytes(5, time(1_767_225_600)), bytes(15, `cluster-${k % 600}`), number(33, 6))),
        bytes(3, number(1, 1)),
      ),
    ),
  )
  decoding.feed(bytes(2, message(...entries)))
  const rows = decoding.take().requests
  expect(rows.map((row) => row.upstream_cluster)).toEqual(entries.map((_, k) => `cluster-${k % 600}`))
  expect(rows.map((row) => row.destination_service)).toEqual(entries.map((_, k) => `cluster-${k % 600}`))
})

test('a batch shows its rows as columns, and a reset builder begins anew', () => {
  const decoding = createDecoding()
  const builder = decoding.builders.requests
  const generator = createEntryGenerator(9)
  let before: Buffer | undefined
  for (let round = 0; round < 3; round++) {
    const fresh = createEntryGenerator(9)
    decoding.feed(fresh.message(50))
    const batch = builder.seal()
    expect(batch.rows).toBe(50)
    expect(builder.room).toBe(builder.rowsMax - 50)
    const { codes, dictionary } = batch.column('upstream_cluster')
    expect(codes).toHaveLength(50)
    expect(dictionary.text(codes[0]!)).toMatch(/^outbound\|80\|/)
    expect(dictionary.text(0)).toBe('')
    expect(batch.identities[batch.identity[0]!]!.destination.service).toBe(dictionary.text(codes[0]!))
    expect(batch.column('method').dictionary.text(0)).toBe('')
    expect(batch.streams[batch.stream[0]!]).toEqual(originOf('edge-1'))
    expect(batch.points).toHaveLength(7)
    const block = Buffer.concat(batch.encode('s').buffers)
    expect(Buffer.concat(batch.encode('s').buffers)).toEqual(block)
    expect(before ?? block).toEqual(block)
    before = block
    builder.reset()
    expect(builder.rows).toBe(0)
    // Something else in between must not show in the next round.
    decoding.feed(generator.message(64))
    builder.reset()
  }
})

test('sizes that codes cannot tell apart are refused', () => {
  for (const rowsMax of [0, -1, 65_536, Number.NaN]) {
    expect(() => createBatchBuilder({ table: 'requests', rowsMax, resolver: echoResolver() })).toThrow(RangeError)
  }
})

test('every table has the same stored columns, and the API sees none of the internal ones', () => {
  expect(ROW_TABLES).toHaveLength(4)
  const stored = new Set(STORED_ROW_COLUMNS.map(({ name }) => name))
  for (const name of ['request_uuid', 'trace_uuid', 'span_number', 'stream_is_request'])
    expect(stored.has(name)).toBe(true)
  expect(PUBLIC_ROW_COLUMNS.some(({ name }) => name === 'request_uuid')).toBe(false)
})
