import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { block, contentOf, journalIn, NEVER, temporaryFolder } from '../support/journal.ts'

test('a sealed segment has its blocks back to back, and a manifest', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir)
  const reader = journal.reader('store')
  await journal.start()
  const id = journal.segmentId
  const [a, b, c] = [
    block('a'),
    block('b', { bytes: 333, rows: 3, node: 'node-2', day: 20_001 }),
    block('r', { rows: 2 }),
  ]
  expect(journal.append('requests', a)).toBe('ok')
  expect(journal.append('requests', b)).toBe('ok')
  expect(journal.seal([{ table: 'latency_1m', block: c }])).toBe('ok')
  expect(journal.segmentId).not.toBe(id)
  const segment = await reader.next(NEVER)
  expect(segment).toMatchObject({ id, worker: 0, recovered: false })
  expect(segment!.tables.map(({ table, rows, blocks, bytes }) => ({ table, rows, blocks, bytes }))).toEqual([
    { table: 'requests', rows: 13, blocks: 2, bytes: 433 },
    { table: 'latency_1m', rows: 2, blocks: 1, bytes: 100 },
  ])
  expect(segment!.tables[0]!.days).toEqual(
    new Map([
      [20_000, 10],
      [20_001, 3],
    ]),
  )
  expect(segment!.tables[0]!.nodes).toEqual(
    new Map([
      ['node-1', 10],
      ['node-2', 3],
    ]),
  )
  expect(readFileSync(segment!.tables[0]!.file, 'latin1')).toBe(contentOf(a) + contentOf(b))
})
