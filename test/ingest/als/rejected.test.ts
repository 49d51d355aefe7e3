import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createRejectedLog, type RejectedEntry, redactedSample } from '../../../src/ingest/als/rejected.ts'

function entry(parts: Partial<RejectedEntry> = {}): RejectedEntry {
  const bytes = parts.bytes ?? Buffer.from([0x0a, 0xff])
  return {
    timeMs: 1000,
    reason: 'malformed',
    peer: '10.0.0.1:4000',
    nodeId: 'edge-1',
    logName: 'log',
    count: 1,
    bytes,
    start: 0,
    end: bytes.length,
    offset: 1,
    ...parts,
  }
}

describe('the log of what was refused', () => {
  test('groups by reason and sender, latest first', () => {
    const log = createRejectedLog()
    log.add(entry())
    log.add(entry({ reason: 'no_identifier', nodeId: '', timeMs: 1500 }))
    log.add(entry({ timeMs: 2000, count: 3, peer: '10.0.0.1:5000' }))
    log.add(entry({ reason: 'no_identifier', nodeId: '', timeMs: 1600, peer: '10.0.0.1:4001' }))
    expect(log.list()).toMatchObject([
      { reason: 'no_identifier', count: 2, firstMs: 1500, lastMs: 1600 },
      { reason: 'malformed', count: 4, firstMs: 1000, lastMs: 2000, peer: '10.0.0.1:5000', nodeId: 'edge-1' },
    ])
  })

  test('keeps the sample of the latest second, and its place', () => {
    const log = createRejectedLog()
    log.add(entry({ bytes: Buffer.from([1, 2, 3]), offset: 0 }))
    log.add(entry({ bytes: Buffer.from([4, 5, 6]), offset: 1, timeMs: 1500 }))
    expect(log.list()[0]).toMatchObject({ sample: '>01< 02 03', offset: 0, messageBytes: 3 })
    log.add(entry({ bytes: Buffer.from([4, 5, 6, 7]), offset: 1, timeMs: 2000 }))
    expect(log.list()[0]).toMatchObject({ sample: '04 >05< 06 07', offset: 1, messageBytes: 4 })
  })

  test('forgets the group that was seen longest ago', () => {
    const log = createRejectedLog()
    for (let k = 0; k < 200; k++) {
      log.add(entry({ nodeId: `node-${k}` }))
      log.add(entry({ nodeId: 'busy' }))
    }
    const nodes = log.list().map(({ nodeId }) => nodeId)
    expect(nodes).toHaveLength(64)
    expect(nodes.slice(0, 3)).toEqual(['busy', 'node-199', 'node-198'])
  })
})

describe('a sample', () => {
  test('shows structure and place, never a text', () => {
    const bytes = Buffer.concat([
      Buffer.from([0x0a, 0x0d]),
      Buffer.from('Bearer secret'),
      Buffer.from([0x12, 0xff, 0x01]),
    ])
    expect(redactedSample(bytes, 0, bytes.length, 16)).toBe('0a 0d text(13) 12 >ff< 01')
    expect(redactedSample(bytes, 0, bytes.length, 8)).toBe('0a 0d text(6) >text< text(6) 12 ff 01')
  })

  test('shows a bounded part, also when the place lies outside', () => {
    const bytes = Buffer.alloc(10_000, 1)
    expect(redactedSample(bytes, 100, 9000, 5000).length).toBeLessThan(400)
    expect(redactedSample(bytes, 100, 9000, 5000)).toMatch(/^… 01 .* >01< .* …$/)
    expect(redactedSample(bytes, 100, 110, 99_999)).toBe(`${'01 '.repeat(9)}>01<`)
    expect(redactedSample(bytes, 5, 5, 0)).toBe('')
  })

  test('never shows two bytes of a text, wherever it lies', () => {
    const secret = 'abcdefghijklmnopqrstuvwxyz'.repeat(8)
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 60 }),
        fc.uint8Array({ maxLength: 60 }),
        fc.nat(400),
        (before, behind, offset) => {
          const bytes = Buffer.concat([
            before.map((byte) => byte & 0x1f),
            Buffer.from(secret),
            behind.map((byte) => byte & 0x1f),
          ])
          const shown = redactedSample(bytes, 0, bytes.length, offset)
          expect(shown).not.toMatch(/\b[67][0-9a-f]\b/)
        },
      ),
    )
  })
})
