import { describe, expect, test } from 'vitest'
import {
  decodeHeader,
  decodeManifest,
  encodeHeader,
  encodeManifest,
  type PartHeader,
  SEGMENT_SCHEMA,
} from '../../src/kafka/segment-records.ts'
import { seededRandom } from '../../src/lib/random.ts'

const header: PartHeader = {
  schema: SEGMENT_SCHEMA,
  edge: 'a1b2c3d4e5f6a1b2c3d4e5f6',
  node: 'edge-1',
  segment: '0-m3x0y1z2abcde-7',
  send: { epoch: 'm3x0y1z2abcde', number: 3 },
  part: 2,
  parts: 5,
  doubt: true,
  encoding: 'lz4',
  slice: { table: 'latency_1m', offset: 983_040 },
}
const asMap = (headers: Record<string, string>) => new Map(Object.entries(headers))

describe('headers of a part', () => {
  test('are read as they were written', () => {
    expect(decodeHeader(asMap(encodeHeader(header)))).toEqual(header)
    const last: PartHeader = { ...header, part: 5, slice: null, doubt: false, encoding: 'none' }
    expect(decodeHeader(asMap(encodeHeader(last)))).toEqual(last)
  })

  test('of a newer schema say so, whatever else is in them', () => {
    expect(decodeHeader(asMap({ 'sidecast-schema': String(SEGMENT_SCHEMA + 1) }))).toEqual({
      newer: SEGMENT_SCHEMA + 1,
    })
  })

  test.each([
    ['no schema', { 'sidecast-schema': '' }],
    ['a schema that is no number', { 'sidecast-schema': '1.5' }],
    ['an edge that is a path', { 'sidecast-edge': '../../etc' }],
    ['a segment that is a path', { 'sidecast-segment': '0-m3x0y1z2abcde-7/..' }],
    ['a send without its process', { 'sidecast-send': '3' }],
    ['part 0', { 'sidecast-part': '0/5' }],
    ['a part past the end', { 'sidecast-part': '6/5' }],
    ['more parts than there can be', { 'sidecast-part': '1/9999999' }],
    ['a manifest in the middle', { 'sidecast-slice': 'manifest' }],
    ['a slice at the end', { 'sidecast-part': '5/5' }],
    ['a table that no segment has', { 'sidecast-slice': 'latency_1h@0' }],
    ['a negative offset', { 'sidecast-slice': 'requests@-1' }],
    ['a codec that nobody has', { 'content-encoding': 'br' }],
  ])('with %s are of no part', (_, wrong) => {
    expect(decodeHeader(asMap({ ...encodeHeader(header), ...wrong }))).toBeNull()
  })
})

describe('the manifest', () => {
  const manifest = {
    segment: header.segment,
    openedMs: 1,
    sealedMs: 2,
    recovered: false,
    tables: [
      { table: 'requests' as const, bytes: 10, rows: 2, blocks: 1, crc: 0xffffffff, days: [[20_000, 2]] as const },
    ],
  }

  test('is read as it was written', () => {
    expect(decodeManifest(encodeManifest(manifest))).toEqual(manifest)
  })

  test('with the same table twice is none', () => {
    expect(decodeManifest(encodeManifest({ ...manifest, tables: [...manifest.tables, ...manifest.tables] }))).toBeNull()
  })

  test('with changed bytes is read or refused, and never throws', () => {
    const random = seededRandom(3)
    const sound = encodeManifest(manifest)
    let refused = 0
    for (let k = 0; k < 2000; k++) {
      const bytes = Buffer.from(sound)
      bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256)
      if (decodeManifest(bytes) === null) refused++
    }
    expect(refused).toBeGreaterThan(500)
  })
})
