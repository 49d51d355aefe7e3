import { copyFileSync, cpSync, existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { Journal, JournalOptions } from '../../src/pipeline/journal.ts'
import { openJournal } from '../../src/pipeline/journal.ts'
import { parseIndex } from '../../src/pipeline/journal-format.ts'
import {
  block,
  FaultyFiles,
  journalIn,
  LIMITS,
  ManualClock,
  NEVER,
  temporaryFolder,
  unsyncedFiles,
} from '../support/journal.ts'

const part = (tag: string, table: 'requests' | 'connections' = 'requests') => ({ table, block: block(tag) })

/** A copy of the folder as it is now: what a process that was killed leaves. */
function killed(dir: string): string {
  const copy = temporaryFolder()
  cpSync(join(dir, '0'), join(copy, '0'), { recursive: true, filter: (path) => !path.endsWith('lock') })
  return copy
}

const notesOf = (journal: Journal): Record<string, unknown> => Object.fromEntries(journal.notes(''))
const afterKill = async (dir: string) => notesOf(await journalIn(killed(dir)))

test('a note is there after a kill, with the blocks it was written beside', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir)
  expect(journal.appendGroup([part('a'), part('b', 'connections')], [['file/1', { to: 100 }]])).toBe('ok')
  expect(
    journal.appendGroup(
      [part('c')],
      [
        ['file/1', { to: 200 }],
        ['file/2', [1, 'x']],
      ],
    ),
  ).toBe('ok')
  expect(notesOf(journal)).toEqual({ 'file/1': { to: 200 }, 'file/2': [1, 'x'] })
  expect([...journal.notes('file/2')]).toEqual([['file/2', [1, 'x']]])
  const again = await journalIn(killed(dir))
  expect(notesOf(again)).toEqual(notesOf(journal))
  expect(again.recovery).toMatchObject({ rows: 30, damage: [] })
})

test('a group whose record was cut off leaves neither rows nor notes', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir)
  journal.appendGroup([part('a')], [['k', 1]])
  const whole = readFileSync(join(dir, '0', 'current', 'index')).length
  journal.appendGroup([part('b'), part('c', 'connections')], [['k', 2]])
  const index = readFileSync(join(dir, '0', 'current', 'index'))
  for (let cut = whole; cut < index.length; cut += 13) {
    const copy = killed(dir)
    truncateSync(join(copy, '0', 'current', 'index'), cut)
    const again = await journalIn(copy)
    expect(notesOf(again)).toEqual({ k: 1 })
    expect(again.recovery).toMatchObject({ rows: 10, damage: [] })
  }
})

test('a note is not believed when a block of its group is damaged; the sound ones stay', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir)
  journal.appendGroup([part('a')], [['k', 1]])
  journal.appendGroup(
    [part('b'), part('c', 'connections')],
    [
      ['k', 2],
      ['other', 5],
    ],
  )
  const copy = killed(dir)
  const file = join(copy, '0', 'current', 'connections.native')
  const bytes = readFileSync(file)
  bytes[50]! ^= 1
  writeFileSync(file, bytes)
  const again = await journalIn(copy)
  expect(notesOf(again)).toEqual({ k: 1 })
  expect(again.recovery.rows).toBe(20)
})

test('notes outlive the segments that brought them', async () => {
  const dir = temporaryFolder()
  const clock = new ManualClock()
  const journal = await journalIn(dir, { clock, keepAfterAckMs: 0, sparesMax: 0 })
  const reader = journal.reader('store')
  await journal.start()
  for (let n = 1; n <= 3; n++) {
    journal.appendGroup(
      [part(`${n}`)],
      [
        ['k', n],
        [`key-${n}`, n],
      ],
    )
    journal.seal()
    await journal.settled()
    await reader.ack((await reader.next(NEVER))!)
  }
  await clock.pass(500)
  expect([...journal.segments()]).toEqual([])
  expect(await afterKill(dir)).toEqual({ k: 3, 'key-1': 1, 'key-2': 2, 'key-3': 3 })
})

test('an older segment that is still there does not take back what a later one noted', async () => {
  const dir = temporaryFolder()
  const clock = new ManualClock()
  const journal = await journalIn(dir, { clock, keepAfterAckMs: 0, sparesMax: 0 })
  const reader = journal.reader('store')
  await journal.start()
  for (let n = 1; n <= 2; n++) {
    journal.appendGroup([part(`${n}`)], [['k', n]])
    journal.seal()
    await journal.settled()
  }
  await reader.next(NEVER)
  const second = [...journal.segments()][1]!
  await reader.ack(second)
  await clock.pass(500)
  expect([...journal.segments()].map(({ seq }) => seq)).toEqual([1])
  expect(await afterKill(dir)).toEqual({ k: 2 })
})

test('a segment stays until its notes are saved, however long the disk refuses', async () => {
  const dir = temporaryFolder()
  const clock = new ManualClock()
  const files = new FaultyFiles()
  const journal = await journalIn(dir, { clock, files, keepAfterAckMs: 0, sparesMax: 0 })
  const reader = journal.reader('store')
  await journal.start()
  files.before = (operation, path) => {
    if (operation === 'open' && path.includes('/notes')) throw Object.assign(new Error('EIO'), { code: 'EIO' })
  }
  journal.appendGroup([part('a')], [['k', 1]])
  journal.seal()
  await journal.settled()
  await reader.ack((await reader.next(NEVER))!)
  await clock.pass(1000)
  expect([...journal.segments()].length).toBe(1)
  expect(await afterKill(dir)).toEqual({ k: 1 })
  files.before = () => {}
  await clock.pass(1000)
  expect([...journal.segments()]).toEqual([])
  expect(await afterKill(dir)).toEqual({ k: 1 })
})

test('a group that finds no room leaves nothing, and the same group fits later', async () => {
  const dir = temporaryFolder()
  const files = new FaultyFiles()
  const journal = await journalIn(dir, { files })
  journal.appendGroup([part('a')], [['k', 1]])
  for (const room of [0, 50, 120, 210]) {
    files.room = room
    expect(journal.appendGroup([part('b'), part('c', 'connections')], [['k', 2]])).toBe('disk_full')
    files.room = Number.POSITIVE_INFINITY
    expect(await afterKill(dir)).toEqual({ k: 1 })
  }
  expect(journal.appendGroup([part('b'), part('c', 'connections')], [['k', 2]])).toBe('ok')
  const again = await journalIn(killed(dir))
  expect(notesOf(again)).toEqual({ k: 2 })
  expect(again.recovery).toMatchObject({ rows: 30, damage: [] })
})

test('what is forgotten is gone, and the file is written anew when it has grown', async () => {
  const dir = temporaryFolder()
  let journal = await journalIn(dir)
  const long = 'x'.repeat(1000)
  for (let n = 0; n < 40; n++) {
    journal.appendGroup(
      [part(`${n}`)],
      Array.from({ length: 50 }, (_, k) => [`${n}/${k}`, `${n} ${long}`] as const),
    )
    journal.seal()
    await journal.settled()
    if (n > 0) for (const [key] of [...journal.notes(`${n - 1}/`)]) journal.forget(key)
  }
  expect(readFileSync(join(dir, '0', 'notes')).length).toBeLessThan(1.2e6)
  expect([...journal.notes('')].length).toBe(50)
  await journal.stop(NEVER)
  // A damaged line costs itself alone.
  const file = join(dir, '0', 'notes')
  const bytes = readFileSync(file)
  copyFileSync(file, `${file}.copy`)
  bytes[20]! ^= 1
  writeFileSync(file, bytes)
  journal = await journalIn(dir)
  expect([...journal.notes('39/')].length).toBe(50)
})

test('recovery interrupted at any call keeps notes and rows together', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir)
  journal.appendGroup([part('a')], [['k', 1]])
  journal.seal()
  await journal.settled()
  journal.appendGroup([part('b')], [['k', 2]])
  for (let stopAt = 0; ; stopAt++) {
    const copy = killed(dir)
    const files = new FaultyFiles()
    let calls = 0
    files.before = () => {
      if (calls++ === stopAt) throw Object.assign(new Error('EIO'), { code: 'EIO' })
    }
    const options: JournalOptions = { dir: copy, worker: 0, limits: LIMITS, clock: new ManualClock(), files }
    const interrupted = await openJournal(options).catch(() => null)
    if (interrupted !== null) {
      expect(notesOf(interrupted)).toEqual({ k: 2 })
      onTestFinished(() => interrupted.stop(NEVER))
    }
    const again = await openJournal({ ...options, dir: killed(copy), files: unsyncedFiles })
    expect(notesOf(again)).toEqual({ k: 2 })
    expect(again.recovery.rows).toBe(20)
    await again.stop(NEVER)
    if (calls <= stopAt) break
  }
})

test('the index says what a group had', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir)
  journal.appendGroup([part('a'), part('b', 'connections')], [['k', { a: [1] }]])
  const { blocks, groups, damaged } = parseIndex(readFileSync(join(dir, '0', 'current', 'index')))
  expect(blocks.map(({ table, rows }) => [table, rows])).toEqual([
    ['requests', 10],
    ['connections', 10],
  ])
  expect(groups.map(({ notes }) => notes)).toEqual([[['k', { a: [1] }]]])
  expect(damaged).toEqual([])
  expect(existsSync(join(dir, '0', 'notes'))).toBe(false)
  expect(readdirSync(join(dir, '0', 'current')).sort()).toEqual(['connections.native', 'index', 'requests.native'])
})
