import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { createNodeReader } from '../../../src/ingest/als/node.ts'
import type { EntryWriter } from '../../../src/ingest/entry/entry.ts'
import { createAlsRecords } from '../../../src/ingest/kafka/als-records.ts'
import { createOtlpRecords, type OtlpLogs } from '../../../src/ingest/kafka/otlp-records.ts'
import type { Rejection } from '../../../src/ingest/kafka/records.ts'
import type { RowTable } from '../../../src/model/schema.ts'
import { createDecoding, originOf, rowsOf } from '../../support/als-decoding.ts'
import { createWriting, TEXT_ORIGIN } from '../../support/entry-writing.ts'
import { varint } from '../../support/wire.ts'

const SOURCE = { topic: 't', partition: 0, offset: 5n }

/** Messages of the recorded streams, each with its identifier or without, as they came. */
function recorded(): Buffer[] {
  const file = readFileSync(new URL('../../fixtures/als/als-http.bin', import.meta.url))
  const messages: Buffer[] = []
  for (let at = 0; at < file.length; at += 4 + file.readUInt32LE(at)) {
    messages.push(file.subarray(at + 4, at + 4 + file.readUInt32LE(at)))
  }
  return messages
}

/** ALS records over real builders of `rowsMax` rows; the first `flushes` full builders are taken, the next is not. */
function alsRecords(options: { delimited?: boolean; rowsMax?: number; flushes?: number } = {}) {
  const { delimited = false, rowsMax = 4096, flushes = Number.POSITIVE_INFINITY } = options
  const nodes = createNodeReader()
  const read = (bytes: Uint8Array, start: number, end: number) => nodes.read(bytes, start, end)
  const decoding = createDecoding({ rowsMax, decoder: { onIdentifier: read } })
  const rejections: Rejection[] = []
  const ids: string[] = []
  let left = flushes
  const take = (table: RowTable): void => {
    for (const row of rowsOf(decoding.builders[table])) ids.push(`${row.node_id} ${row.path} ${row.end_time}`)
    decoding.builders[table].reset()
  }
  const records = createAlsRecords({
    decoder: decoding.decoder,
    readIdentifier: read,
    unnamed: (topic) => ({ ...originOf(`kafka:${topic}`), source: 'kafka' }),
    delimited,
    flush: (table) => {
      if (left-- <= 0) return false
      take(table)
      return true
    },
    onDecoded: () => {},
    onRows: () => {},
    onRejected: (rejection) => rejections.push(rejection),
    clock: () => 1_767_225_600_000,
  })
  return {
    records,
    rejections,
    ids,
    rest: () => (['requests', 'attempts', 'progress', 'connections'] as const).forEach(take),
  }
}

const framed = (messages: readonly Uint8Array[]): Buffer =>
  Buffer.concat(messages.flatMap((message) => [varint(message.length), message]))

test('a message in a value: its rows, with the node that it names', () => {
  const { records, ids, rest, rejections } = alsRecords()
  const [first, second] = recorded()
  records.add(first!, SOURCE, 0)
  expect(records.due).toBe(true)
  expect(records.commit()).toBe(true)
  // Without an identifier: of nobody that is known, not of the record before.
  const unnamed = recorded().find((message) => message[0] !== 10) ?? second!
  records.add(unnamed, SOURCE, 0)
  expect(records.commit()).toBe(true)
  rest()
  expect(records.added).toBe(2)
  expect(records.taken).toBe(2)
  expect(new Set(ids.map((id) => id.split(' ')[0]))).toEqual(new Set(['edge-1', 'kafka:t']))
  expect(rejections).toEqual([])
})

test('several messages in a value, damage at its end: what is whole is read', () => {
  const { records, rejections, rest, ids } = alsRecords({ delimited: true })
  const whole = framed(recorded().slice(0, 4))
  records.add(Buffer.concat([whole, Buffer.from([200, 1, 10])]), SOURCE, 0)
  expect(records.commit()).toBe(true)
  rest()
  expect(ids.length).toBeGreaterThan(4)
  expect(new Set(ids.map((id) => id.split(' ')[0]))).toEqual(new Set(['edge-1']))
  expect(rejections).toMatchObject([{ reason: 'malformed_frame', count: 1, offset: whole.length }])
})

test('not protobuf: counted, and the next record is read', () => {
  const { records, rejections, rest, ids } = alsRecords()
  records.add(Buffer.from('{"not":"protobuf"}'), SOURCE, 0)
  expect(records.commit()).toBe(true)
  expect(rejections[0]).toMatchObject({ reason: 'malformed' })
  records.add(recorded()[0]!, SOURCE, 0)
  expect(records.commit()).toBe(true)
  rest()
  expect(ids.length).toBeGreaterThan(0)
})

test.each([1, 3, 7])('left in the middle after %i flushes: another life goes on there, each row once', (flushes) => {
  const value = framed(recorded().slice(0, 30))
  const whole = alsRecords({ delimited: true })
  whole.records.add(value, SOURCE, 0)
  expect(whole.records.commit()).toBe(true)
  whole.rest()

  const first = alsRecords({ delimited: true, rowsMax: 3, flushes })
  first.records.add(value, SOURCE, 0)
  expect(first.records.commit()).toBe(false)
  const stored = [...first.ids]
  // What was in the builder when it was full is not stored; the place is behind it all the same once it is.
  first.rest()
  const within = first.records.within(0, 0)
  expect(within).toBeGreaterThan(0)
  const second = alsRecords({ delimited: true })
  second.records.add(value, SOURCE, within)
  expect(second.records.commit()).toBe(true)
  second.rest()
  expect([...first.ids, ...second.ids].sort()).toEqual([...whole.ids].sort())
  expect(stored.length).toBeLessThan(whole.ids.length)
})

/** Takes each byte for an entry with that path. */
function byteLogs(writer: EntryWriter): OtlpLogs {
  return {
    decode(bytes, start, end) {
      for (let at = start; at < end; at++) {
        writer.entry.startSeconds = 1_767_225_600
        writer.entry.code = 200
        writer.entry.path = `/${bytes[at]}`
        writer.add(TEXT_ORIGIN)
      }
      return { items: end - start, rejected: 0, reason: '', offset: 0 }
    },
  }
}

test('OTLP: entries that are stored already are left out; JSON that is none is counted', () => {
  const writing = createWriting()
  const rejections: Rejection[] = []
  const records = createOtlpRecords({
    writer: writing.writer,
    logs: byteLogs,
    fromJson: () => null,
    node: '',
    onDecoded: () => {},
    onRows: () => {},
    onRejected: (rejection) => rejections.push(rejection),
  })
  records.add(Buffer.from([1, 2, 3, 4, 5]), SOURCE, 3)
  records.add(Buffer.from('{'), SOURCE, 0)
  records.add(Buffer.from([6]), SOURCE, 0)
  expect(records.commit()).toBe(true)
  expect(writing.take().requests.map(({ path }) => path)).toEqual(['/4', '/5', '/6'])
  expect(rejections).toMatchObject([{ reason: 'bad_json', nodeId: 'kafka:t' }])
})
