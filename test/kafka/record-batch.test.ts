import { createRecordsBatch, Reader, readRecordsBatches } from '@platformatic/kafka'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { COMPRESSIONS, type OutRecord } from '../../src/kafka/producer.ts'
import { RecordBatches } from '../../src/kafka/record-batch.ts'

const ORIGIN = {
  producerId: 7_000_000_001n,
  producerEpoch: 3,
  sequence: 41,
  compression: 'none',
  nowMs: 1_767_225_600_123,
} as const

const record = fc.record({
  topic: fc.constant('t'),
  partition: fc.constant(2),
  key: fc.option(fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes))),
  value: fc.uint8Array({ maxLength: 4000 }).map((bytes) => Buffer.from(bytes)),
  headers: fc.dictionary(fc.string({ unit: 'grapheme', maxLength: 70 }), fc.string({ unit: 'grapheme' }), {
    maxKeys: 5,
  }),
})

const readable = (batches: Buffer) =>
  readRecordsBatches(Reader.from(batches)).map(({ records, ...head }) => ({
    ...head,
    records: records.map(({ key, value, headers, offsetDelta, timestampDelta }) => ({
      key,
      value,
      offsetDelta,
      timestampDelta,
      headers: Object.fromEntries(headers.map(([name, text]) => [String(name), String(text)])),
    })),
  }))

describe('record batches', () => {
  test('are the bytes that the client library makes, but for the epoch that brokers overwrite', () => {
    const batches = new RecordBatches()
    fc.assert(
      fc.property(fc.array(record, { minLength: 1, maxLength: 5 }), (records) => {
        batches.clear()
        const ours = batches.add(records, ORIGIN)
        const { producerId, producerEpoch, sequence, nowMs } = ORIGIN
        const messages = records.map(({ key, headers, ...rest }) => ({
          ...rest,
          ...(key === null ? {} : { key }),
          headers: new Map(Object.entries(headers).map(([name, text]) => [Buffer.from(name), Buffer.from(text)])),
          timestamp: BigInt(nowMs),
        }))
        const sequences = { getWithDefault: () => sequence } as never
        const theirs = createRecordsBatch(messages, { producerId, producerEpoch, sequences, partitionLeaderEpoch: -1 })
        expect(ours.equals(theirs.buffer)).toBe(true)
      }),
      { numRuns: 50 },
    )
  })

  test.each(COMPRESSIONS)('%s: what is read is what was written', (compression) => {
    const records: OutRecord[] = Array.from({ length: 130 }, (_, k) => ({
      topic: 't',
      partition: 0,
      key: k % 2 === 0 ? null : Buffer.from(`key ${k}`),
      value: Buffer.from(`{"n":${k},"text":"${'ü'.repeat(k)}"}`),
      headers: { 'sidecast-row': `requests/${k}`, empty: '' },
    }))
    const batches = new RecordBatches()
    const [read] = readable(batches.add(records, { ...ORIGIN, compression }))
    expect(read!.records).toEqual(
      records.map(({ key, value, headers }, k) => ({ key, value, headers, offsetDelta: k, timestampDelta: 0n })),
    )
    expect(read).toMatchObject({
      producerId: 7_000_000_001n,
      producerEpoch: 3,
      firstSequence: 41,
      lastOffsetDelta: 129,
    })
  })

  test('batches stay whole while memory grows for the next, until all are cleared', () => {
    const batches = new RecordBatches()
    const one = (fill: number, bytes: number): OutRecord[] => [
      { topic: 't', partition: 0, key: null, value: Buffer.alloc(bytes, fill), headers: {} },
    ]
    const made = [1, 2, 3].map((k) => batches.add(one(k, 10 ** (k + 2)), ORIGIN))
    for (const [k, batch] of made.entries()) {
      const [value] = readable(batch)[0]!.records.map(({ value }) => value)
      expect(value!.equals(Buffer.alloc(10 ** (k + 3), k + 1))).toBe(true)
    }
    const memory = made[2]!.buffer
    batches.clear()
    expect(batches.add(one(9, 1000), ORIGIN).buffer).toBe(memory)
  })
})
