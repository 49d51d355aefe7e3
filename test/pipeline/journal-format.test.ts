import { crc32 } from 'node:zlib'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  type BlockRecord,
  blockCrc,
  blockSeed,
  comparePositions,
  encodeBlockRecord,
  encodeSealRecord,
  nextEpoch,
  parseIndex,
  parseSegmentId,
  parseSegmentName,
  segmentId,
} from '../../src/pipeline/journal-format.ts'

const SEGMENT = '0-0mhd00000aaaa-7'
const record = (parts: Partial<BlockRecord> = {}): BlockRecord => ({
  segment: SEGMENT,
  table: 'requests',
  offset: 0,
  bytes: 100,
  rows: 10,
  crc: 0xdeadbeef,
  atMs: 1_700_000_000_000,
  days: [[20_000, 10]],
  nodes: [['node-1', 10]],
  ...parts,
})

test('records come back as they were, whatever a node is called', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.string({ unit: 'binary', maxLength: 8 }), fc.nat()), { maxLength: 5 }),
      fc.nat(),
      fc.nat(0xffff_ffff),
      (nodes, offset, crc) => {
        const block = record({ nodes, offset, crc })
        const { blocks, damaged, tornBytes, segment } = parseIndex(encodeBlockRecord(block))
        expect({ blocks, damaged, tornBytes, segment }).toEqual({
          blocks: [block],
          damaged: [],
          tornBytes: 0,
          segment: SEGMENT,
        })
      },
    ),
  )
  const seal = { segment: SEGMENT, sealedMs: 5, blocks: 3, recovered: true }
  expect(parseIndex(encodeSealRecord(seal)).seal).toEqual(seal)
})

test('a damaged line costs itself alone, wherever the damage is', () => {
  const lines = [0, 100, 200].map((offset) => encodeBlockRecord(record({ offset })))
  const whole = Buffer.concat(lines)
  const second = lines[0]!.length
  for (let at = second; at < second + lines[1]!.length - 1; at++) {
    for (const flip of [1, 0x80, whole[at]! ^ 10]) {
      if (flip === 0) continue
      const bytes = Buffer.from(whole)
      bytes[at]! ^= flip
      const { blocks, damaged } = parseIndex(bytes)
      expect(blocks.map(({ offset }) => offset)).toEqual([0, 200])
      expect(damaged.length).toBeGreaterThan(0)
    }
  }
})

test('a torn last line is no damage', () => {
  const line = encodeBlockRecord(record())
  for (let length = 1; length < line.length; length++) {
    expect(parseIndex(line.subarray(0, length))).toMatchObject({ blocks: [], damaged: [], tornBytes: length })
  }
})

test('lines of another segment, and lines that make no sense, are damage', () => {
  const other = encodeBlockRecord(record({ segment: '0-0mhd00000aaaa-8' }))
  expect(parseIndex(Buffer.concat([encodeBlockRecord(record()), other]))).toMatchObject({
    segment: SEGMENT,
    damaged: [expect.any(Number)],
  })
  const bad: object[] = [
    { ...record(), table: 'latency_1h' },
    { ...record(), segment: 'x' },
    { ...record(), offset: -1 },
    { ...record(), bytes: 0 },
    { ...record(), rows: 1.5 },
    { ...record(), days: [[1]] },
    { ...record(), nodes: [[1, 1]] },
    { ...record(), crc: 'zz' },
    { segment: SEGMENT, sealedMs: 1 },
    [],
  ]
  for (const value of bad) {
    const json = JSON.stringify('crc' in value && typeof value.crc === 'number' ? { ...value, crc: 'deadbeef' } : value)
    const line = Buffer.from(`${crc32(json).toString(16).padStart(8, '0')} ${json}\n`)
    expect(parseIndex(line)).toMatchObject({ blocks: [], seal: null, damaged: [0] })
  }
})

test('the same bytes have another CRC at another place, in another table, in another segment', () => {
  const bytes = [Buffer.from('the same bytes, every time')]
  const places = [
    [SEGMENT, 'requests', 0],
    [SEGMENT, 'requests', 1],
    [SEGMENT, 'attempts', 0],
    ['0-0mhd00000aaaa-8', 'requests', 0],
    ['1-0mhd00000aaaa-7', 'requests', 0],
  ] as const
  const crcs = places.map(([segment, table, offset]) => blockCrc(blockSeed(segment, table, offset), bytes))
  expect(new Set(crcs).size).toBe(places.length)
  const cut = [bytes[0]!.subarray(0, 7), bytes[0]!.subarray(7)]
  expect(blockCrc(blockSeed(SEGMENT, 'requests', 0), cut)).toBe(crcs[0])
})

test('epochs grow, also when the clock goes back', () => {
  let previous: string | null = null
  for (const now of [
    1_700_000_000_000, 1_700_000_000_000, 5, 1_600_000_000_000, 1_700_000_000_010, 1_700_000_000_001,
  ]) {
    const epoch = nextEpoch(now, previous, () => 0.999_999)
    expect(epoch).toMatch(/^[0-9a-z]{13}$/)
    if (previous !== null) expect(epoch > previous).toBe(true)
    previous = epoch
  }
})

test('names and ids are read back, and nothing else is', () => {
  const position = { epoch: '0mhd00000aaaa', seq: 12 }
  expect(parseSegmentId(segmentId(3, position))).toEqual({ worker: 3, ...position })
  expect(comparePositions({ ...position, seq: 9 }, { ...position, seq: 10 })).toBeLessThan(0)
  for (const name of [
    '',
    'current',
    '0mhd00000aaaa',
    '0mhd00000aaaa-',
    '0mhd00000aaaa-1x',
    'sealing-0mhd00000aaaa-1',
    '0MHD00000AAAA-1',
  ]) {
    expect(parseSegmentName(name)).toBeNull()
  }
  for (const id of ['', '-0mhd00000aaaa-1', 'x-0mhd00000aaaa-1', '0-current']) expect(parseSegmentId(id)).toBeNull()
})
