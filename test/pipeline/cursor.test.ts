import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Cursor, CursorFile, readCursor } from '../../src/pipeline/cursor.ts'
import type { Position } from '../../src/pipeline/journal-format.ts'
import { diskFull, FaultyFiles, temporaryFolder } from '../support/journal.ts'

const at = (seq: number, epoch = '0mhd00000aaaa'): Position => ({ epoch, seq })

test('in order, the cursor is one position', () => {
  const cursor = new Cursor()
  for (const seq of [1, 2, 3]) cursor.add(at(seq), at(seq + 1))
  expect(cursor.through).toEqual(at(3))
  expect(JSON.parse(cursor.encode())).toEqual({ through: '0mhd00000aaaa-3', beyond: [] })
  expect(cursor.covers(at(2))).toBe(true)
  expect(cursor.covers(at(4))).toBe(false)
  expect(cursor.covers(at(9, '0mhc00000aaaa'))).toBe(true)
})

test('never passes a segment that is still open, in whatever order others are acknowledged', () => {
  fc.assert(
    fc.property(fc.shuffledSubarray([1, 2, 3, 4, 5, 6, 7, 8], { minLength: 1 }), (order) => {
      const cursor = new Cursor()
      const open = new Set([1, 2, 3, 4, 5, 6, 7, 8])
      for (const seq of order) {
        open.delete(seq)
        cursor.add(at(seq), open.size === 0 ? null : at(Math.min(...open)))
        const again = Cursor.decode(cursor.encode())!
        for (const n of [1, 2, 3, 4, 5, 6, 7, 8]) expect(again.covers(at(n))).toBe(!open.has(n))
      }
    }),
  )
})

test.each([
  '',
  '{',
  'null',
  '[]',
  '{"through":7,"beyond":[]}',
  '{"through":"x","beyond":[]}',
  '{"through":null}',
  '{"through":null,"beyond":["y"]}',
  '\0\0\0\0',
])('damage %j counts as no cursor', (text) => {
  const path = join(temporaryFolder(), 'store')
  writeFileSync(path, text)
  const { cursor, damaged } = readCursor(path)
  expect(damaged).toBe(true)
  expect(cursor.through).toBeNull()
})

test('is replaced whole: written aside, synced, renamed, and the folder synced', async () => {
  const dir = temporaryFolder()
  const files = new FaultyFiles()
  const file = new CursorFile(join(dir, 'store'), files)
  await file.save(new Cursor(at(5)))
  expect(readCursor(join(dir, 'store')).cursor.through).toEqual(at(5))
  expect(files.calls.map((call) => call.replace(dir, ''))).toEqual([
    'open /store.tmp',
    'writev /store.tmp',
    'sync /store.tmp',
    'rename /store.tmp',
    'syncDirectory ',
  ])
})

test('changes during a write go out together', async () => {
  const dir = temporaryFolder()
  const files = new FaultyFiles()
  const file = new CursorFile(join(dir, 'store'), files)
  await Promise.all([1, 2, 3, 4, 5].map((seq) => file.save(new Cursor(at(seq)))))
  expect(readCursor(join(dir, 'store')).cursor.through).toEqual(at(5))
  expect(files.calls.filter((call) => call.startsWith('rename')).length).toBe(2)
})

test('a full disk leaves the old cursor, and the new one for later', async () => {
  const dir = temporaryFolder()
  const files = new FaultyFiles()
  const file = new CursorFile(join(dir, 'store'), files)
  await file.save(new Cursor(at(1)))
  files.room = 3
  await expect(file.save(new Cursor(at(2)))).rejects.toThrow('ENOSPC')
  expect(file.unsaved).toBe(true)
  expect(readCursor(join(dir, 'store')).cursor.through).toEqual(at(1))
  files.room = Number.POSITIVE_INFINITY
  files.before = (operation) => {
    if (operation === 'rename') throw diskFull()
  }
  await expect(file.save(new Cursor(at(3)))).rejects.toThrow('ENOSPC')
  files.before = () => {}
  await file.save(new Cursor(at(4)))
  expect(file.unsaved).toBe(false)
  expect(readFileSync(join(dir, 'store'), 'utf8')).toBe('{"through":"0mhd00000aaaa-4","beyond":[]}\n')
})
