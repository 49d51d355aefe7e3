import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import {
  formatJournalList,
  formatJournalVerify,
  listJournal,
  verifyJournal,
} from '../../src/pipeline/journal-report.ts'
import { block, journalIn, NEVER, sealedContent, settle, temporaryFolder } from '../support/journal.ts'

async function example(dir: string) {
  const journal = await journalIn(dir)
  const reader = journal.reader('store')
  journal.reader('kafka')
  for (const tag of ['a', 'b']) {
    journal.append('requests', block(tag))
    journal.append('attempts', block(tag, { rows: 4 }))
    journal.seal([{ table: 'latency_1m', block: block('r', { rows: 2 }) }])
  }
  await journal.settled()
  await reader.ack((await reader.next(NEVER))!)
  journal.append('requests', block('c', { rows: 7 }))
  return journal
}

test('lists segments, cursors and what waits, while the process runs', async () => {
  const dir = temporaryFolder()
  const journal = await example(dir)
  await journal.reader('kafka').ack((await journal.reader('kafka').next(NEVER))!)
  await journal.reader('kafka').ack((await journal.reader('kafka').next(NEVER))!)
  const { workers } = await listJournal(dir)
  expect(workers).toHaveLength(1)
  const [worker] = workers
  expect(worker).toMatchObject({ worker: '0', format: 2, quarantined: [], deadLetters: [] })
  expect(
    worker!.segments.map(({ state, rows, blocks, recovered, waitingFor, tables }) => ({
      state,
      rows,
      blocks,
      recovered,
      waitingFor,
      tables,
    })),
  ).toEqual([
    {
      state: 'sealed',
      rows: 14,
      blocks: 3,
      recovered: false,
      waitingFor: [],
      tables: { requests: 10, attempts: 4, latency_1m: 2 },
    },
    {
      state: 'sealed',
      rows: 14,
      blocks: 3,
      recovered: false,
      waitingFor: ['store'],
      tables: { requests: 10, attempts: 4, latency_1m: 2 },
    },
    { state: 'writing', rows: 7, blocks: 1, recovered: false, waitingFor: ['kafka', 'store'], tables: { requests: 7 } },
  ])
  expect(worker!.cursors.map(({ sink, through }) => [sink, through?.slice(-2)])).toEqual([
    ['kafka', '-2'],
    ['store', '-1'],
  ])
  const text = await formatJournalList(dir, { json: false })
  expect(text).toContain(`${journal.segmentId}  2023-11-14T22:13:20.000Z  7 rows`)
  expect(text).toContain('waiting for store')
  expect(JSON.parse(await formatJournalList(dir, { json: true }))).toEqual(JSON.parse(JSON.stringify({ workers })))
})

test('verifies every block, and finds one flipped bit', async () => {
  const dir = temporaryFolder()
  await example(dir)
  expect(await verifyJournal(dir)).toMatchObject({ sound: true, segments: 3, blocks: 7, rows: 35, damage: [] })
  const { text, sound } = await formatJournalVerify(dir, { json: false })
  expect(sound).toBe(true)
  expect(text).toBe('3 segments, 7 blocks, 35 rows, 700 bytes sound\n')

  const [name] = sealedContent(dir).keys()
  const file = join(dir, '0', name!, 'attempts.seg')
  const bytes = readFileSync(file)
  bytes[99]! ^= 4
  writeFileSync(file, bytes)
  const bad = await formatJournalVerify(dir, { json: false })
  expect(bad.sound).toBe(false)
  expect(bad.text).toContain(`error SC3101  ${file} at 0: checksum, 100 bytes, 4 rows`)
  expect(JSON.parse((await formatJournalVerify(dir, { json: true })).text)).toMatchObject({ sound: false, blocks: 6 })
})

test('a tail after the last block of what is being written is no damage; after a sealed one it is', async () => {
  const dir = temporaryFolder()
  await example(dir)
  writeFileSync(join(dir, '0', 'current', 'requests.native'), 'half a block', { flag: 'a' })
  expect(await verifyJournal(dir)).toMatchObject({ sound: true, tailBytes: 12 })
  const [name] = sealedContent(dir).keys()
  writeFileSync(join(dir, '0', name!, 'requests.seg'), 'more', { flag: 'a' })
  expect(await verifyJournal(dir)).toMatchObject({ sound: false, damage: [{ reason: 'no record', bytes: 4 }] })
})

test('a newer format is named, and not looked into', async () => {
  const dir = temporaryFolder()
  const journal = await example(dir)
  await journal.stop(NEVER)
  writeFileSync(join(dir, '0', 'format'), 'sidecast-journal 9\n')
  const { text, sound } = await formatJournalVerify(dir, { json: false })
  expect(sound).toBe(false)
  expect(text).toContain('SC3102')
  expect((await listJournal(dir)).workers[0]!.format).toBe(9)
})

test('a folder without a journal has nothing', async () => {
  const dir = temporaryFolder()
  mkdirSync(join(dir, 'notes'))
  expect(await formatJournalList(join(dir, 'missing'), { json: false })).toContain('no journal in')
  expect(await listJournal(dir)).toEqual({ workers: [] })
  expect(await verifyJournal(dir)).toMatchObject({ sound: true, segments: 0 })
})

test('verifying while segments are sealed, delivered and recycled finds no damage', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir, { keepAfterAckMs: 0 })
  const reader = journal.reader('store')
  await journal.start()
  let done = false
  const writer = (async () => {
    for (let n = 0; n < 40; n++) {
      for (let k = 0; k < 3; k++) journal.append('requests', block(`w${n}.${k}`, { bytes: 500_000 }))
      journal.seal()
      await journal.settled()
      await reader.ack((await reader.next(NEVER))!)
      await new Promise((resolve) => setImmediate(resolve))
    }
  })().finally(() => {
    done = true
  })
  let looks = 0
  while (!done) {
    const { damage } = await verifyJournal(dir)
    expect(damage).toEqual([])
    looks++
    // With nothing to look at, a look waits for nothing.
    await settle(1)
  }
  await writer
  expect(looks).toBeGreaterThan(1)
  expect(journal.stats().filesRecycled).toBeGreaterThan(10)
})
