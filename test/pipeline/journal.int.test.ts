import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { promisify } from 'node:util'
import { expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/lib/clock.ts'
import { openJournal } from '../../src/pipeline/journal.ts'
import { realFiles } from '../../src/pipeline/journal-files.ts'
import { verifyJournal } from '../../src/pipeline/journal-report.ts'
import { block, contentOf, journalIn, LIMITS, NEVER, sealedContent, temporaryFolder } from '../support/journal.ts'
import { killJournal } from '../support/kill-journal.ts'

const run = promisify(execFile)

test('nothing that was appended is lost, doubled or half after kill −9, at any moment', async () => {
  const seed = Math.floor(Math.random() * 1e6)
  const result = await killJournal({ dir: temporaryFolder(), seed, kills: 8 })
  expect(result.blocks, `seed ${seed}`).toBeGreaterThan(20)
  expect(result.delivered).toBeGreaterThan(0)
  expect(result.startMsMax).toBeLessThan(5000)
})

test('the lock holds against another process, and dies with it', async () => {
  const dir = temporaryFolder()
  const writer = join(import.meta.dirname, '..', 'support', 'journal-writer.ts')
  const child = spawn(process.execPath, [writer, dir, '1', '0'], { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  await expect(openJournal({ dir, worker: 0, limits: LIMITS })).rejects.toMatchObject({
    code: 'SC4105',
    message: expect.stringContaining(String(child.pid)),
  })
  child.kill('SIGKILL')
  child.stdout.resume()
  await once(child, 'close')
  const journal = await openJournal({ dir, worker: 0, limits: LIMITS })
  await journal.stop(NEVER)
})

/** A disk of its own, of this many bytes. Needs the right to mount; where that is missing the test fails and says so. */
async function smallDisk(bytes: number): Promise<string> {
  const dir = join(temporaryFolder(), 'disk')
  mkdirSync(dir)
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'none', dir])
  } catch (cause) {
    throw new Error(
      'this test fills a tmpfs of its own and needs the right to mount one (run as root, or with CAP_SYS_ADMIN)',
      { cause },
    )
  }
  onTestFinished(async () => {
    await run('umount', [dir])
  })
  return dir
}

test('a disk that is really full: survived, reported, and gone on from without a gap', async () => {
  const dir = await smallDisk(4 << 20)
  const journal = await journalIn(dir, {
    files: realFiles,
    clock: systemClock,
    keepAfterAckMs: 0,
    limits: { ...LIMITS, segmentBytesMax: 1 << 20 },
  })
  const reader = journal.reader('store')
  await journal.start()
  let rooms = 0
  journal.onRoom(() => rooms++)
  const content: string[] = []
  const append = (): boolean => {
    const given = block(`n${content.length}`, { bytes: 150_000 + content.length * 1000 })
    const state = journal.append('requests', given)
    if (state !== 'ok') expect(state).toBe('disk_full')
    else content.push(contentOf(given))
    if (journal.shouldSeal(Date.now())) journal.seal([{ table: 'latency_1m', block: block('r', { bytes: 20_000 }) }])
    return state === 'ok'
  }
  while (append());
  expect(journal.state).toBe('disk_full')
  expect(journal.reason).toContain('ENOSPC')
  expect(content.length).toBeGreaterThan(10)
  await journal.settled()
  await wait(600)
  expect(rooms).toBe(0)
  expect(append()).toBe(false)
  expect((await verifyJournal(dir)).damage).toEqual([])

  // The sink comes back: its acknowledgements make room, though its cursor cannot be written at first.
  await reader.ack((await reader.next(NEVER))!)
  const deadline = Date.now() + 10_000
  while (rooms === 0 && Date.now() < deadline) await wait(20)
  expect(rooms).toBe(1)
  expect(journal.state).toBe('ok')
  expect(append()).toBe(true)
  journal.seal()
  await journal.settled()
  const first = content.findIndex((text) =>
    [...sealedContent(dir).values()].some((tables) => tables.get('requests')?.startsWith(text)),
  )
  let text = ''
  while (reader.ready) {
    const segment = (await reader.next(NEVER))!
    text += sealedContent(dir).get(segment.id.slice(2))!.get('requests')
    await reader.ack(segment)
  }
  expect(first).toBeGreaterThan(0)
  expect(text === content.slice(first).join('')).toBe(true)
})

test('a start on a disk that is really full', async () => {
  const dir = await smallDisk(2 << 20)
  const before = await openJournal({ dir, worker: 0, limits: LIMITS })
  let blocks = 0
  while (before.append('requests', block(`n${blocks}`, { bytes: 100_000 })) === 'ok') blocks++
  await before.stop(NEVER)
  // Not a byte is left.
  await run('sh', ['-c', `head -c 4000000 /dev/zero > '${dir}/filler' || true`])
  const journal = await openJournal({ dir, worker: 0, limits: LIMITS })
  onTestFinished(() => journal.stop(NEVER))
  const reader = journal.reader('store')
  await journal.start()
  expect(journal.append('requests', block('x', { bytes: 100_000 }))).toBe('disk_full')
  await run('rm', [join(dir, 'filler')])
  const deadline = AbortSignal.timeout(20_000)
  const segment = await reader.next(deadline)
  expect(segment?.tables[0]).toMatchObject({ blocks, rows: blocks * 10 })
})
