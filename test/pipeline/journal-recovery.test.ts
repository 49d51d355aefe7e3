import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { NativeBlock } from '../../src/model/batch.ts'
import type { Journal } from '../../src/pipeline/journal.ts'
import { parseIndex } from '../../src/pipeline/journal-format.ts'
import type { Segment, SegmentTable } from '../../src/pipeline/segment.ts'
import {
  block,
  contentOf,
  diskFull,
  FaultyFiles,
  journalIn,
  ManualClock,
  NEVER,
  sealedContent,
  temporaryFolder,
} from '../support/journal.ts'

/** The campaign does thousands: `JOURNAL_RUNS=5000 vitest run --project unit test/pipeline/journal-recovery`. */
const RUNS = Number(process.env.JOURNAL_RUNS ?? 25)

/** A journal whose process died: nothing was sealed at the end, the lock is gone. */
async function crashed(dir: string, write: (journal: Journal) => Promise<void> | void): Promise<string> {
  const journal = await journalIn(dir)
  await write(journal)
  await journal.settled()
  const copy = `${dir}-crashed`
  cpSync(dir, copy, { recursive: true })
  await journal.stop(NEVER)
  rmSync(dir, { recursive: true })
  renameSync(copy, dir)
  return join(dir, '0')
}

async function everything(journal: Journal, sink = 'store'): Promise<Segment[]> {
  const reader = journal.reader(sink)
  const segments: Segment[] = []
  while (reader.ready) {
    const segment = await Promise.race([reader.next(NEVER), new Promise<null>((done) => setTimeout(done, 200, null))])
    if (segment === null) break
    segments.push(segment)
    await reader.ack(segment)
  }
  return segments
}

const texts = (segments: readonly Segment[], table = 'requests'): string[] =>
  segments.flatMap(({ tables }) =>
    tables.filter((each) => each.table === table).map(({ file }) => readFileSync(file, 'latin1')),
  )

test('what was appended before a crash is a segment after it, without its rollups', async () => {
  const dir = temporaryFolder()
  await crashed(dir, (journal) => {
    journal.append('requests', block('a'))
    journal.append('attempts', block('b', { rows: 4, node: 'node-2' }))
    journal.append('requests', block('c'))
  })
  const journal = await journalIn(dir)
  expect(journal.recovery).toMatchObject({ segments: 1, rows: 24, damage: [], cutBytes: 0 })
  journal.reader('store')
  expect(journal.heldByNode('store')).toEqual(
    new Map([
      ['node-1', 20],
      ['node-2', 4],
    ]),
  )
  const segments = await everything(journal)
  expect(segments).toHaveLength(1)
  expect(segments[0]).toMatchObject({ recovered: true, openedMs: 1_700_000_000_000 })
  expect(texts(segments)).toEqual([contentOf(block('a')) + contentOf(block('c'))])
  expect(texts(segments, 'attempts')).toEqual([contentOf(block('b', { rows: 4 }))])
  expect(readdirSync(join(dir, '0'))).not.toContain('current')
})

/** A rollup that tells which rows it was made of. */
const rollupOf = async ({ file, bytes, rows }: SegmentTable): Promise<NativeBlock> =>
  block(`rollup of ${rows} in ${readFileSync(file).subarray(0, bytes).toString('latin1')}`, { bytes: 300, node: '' })

test('the rollup of what was not sealed is made from its rows', async () => {
  const dir = temporaryFolder()
  await crashed(dir, (journal) => {
    journal.append('requests', block('a'))
    journal.append('attempts', block('b'))
    journal.append('requests', block('c'))
  })
  const segments = await everything(await journalIn(dir, { rollupOf }))
  expect(segments).toHaveLength(1)
  expect(segments[0]!.recovered).toBe(false)
  const rows = contentOf(block('a')) + contentOf(block('c'))
  expect(texts(segments)).toEqual([rows])
  expect(texts(segments, 'latency_1m')).toEqual([contentOf(block(`rollup of 20 in ${rows}`, { bytes: 300 }))])
})

test('a segment without requests needs no rollup', async () => {
  const dir = temporaryFolder()
  await crashed(dir, (journal) => {
    journal.append('samples', block('a'))
  })
  const segments = await everything(await journalIn(dir, { rollupOf }))
  expect(segments).toMatchObject([{ recovered: false, tables: [{ table: 'samples' }] }])
})

test('a rollup that cannot be made leaves the rows, and the segment recovered', async () => {
  const dir = temporaryFolder()
  await crashed(dir, (journal) => {
    journal.append('requests', block('a'))
  })
  const refuse = async () => {
    throw new Error('no block')
  }
  const segments = await everything(await journalIn(dir, { rollupOf: refuse }))
  expect(segments).toMatchObject([{ recovered: true, tables: [{ table: 'requests' }] }])
})

test('whichever step of the recovery fails, the next start has the rows once, with their rollup or recovered', async () => {
  const rows = contentOf(block('a')) + contentOf(block('c'))
  /** A process that dies at this step of its start, and the one after it. Returns the steps that the first one took. */
  const dyingAt = async (step: number): Promise<number> => {
    const dir = temporaryFolder()
    await crashed(dir, (journal) => {
      journal.append('requests', block('a'))
      journal.append('requests', block('c'))
    })
    const files = new FaultyFiles()
    let steps = 0
    files.before = () => {
      if (steps++ >= step) throw diskFull()
    }
    const first = await journalIn(dir, { rollupOf, files }).catch(() => null)
    const taken = steps
    files.before = () => {}
    await first?.stop(NEVER)
    const segments = await everything(await journalIn(dir, { rollupOf }))
    expect(texts(segments), `step ${step}`).toEqual([rows])
    if (segments[0]!.recovered === true) expect(segments[0]!.tables).toHaveLength(1)
    else expect(texts(segments, 'latency_1m')).toEqual([contentOf(block(`rollup of 20 in ${rows}`, { bytes: 300 }))])
    return taken
  }
  const all = await dyingAt(Number.POSITIVE_INFINITY)
  expect(all).toBeGreaterThan(10)
  for (let step = 0; step < all; step++) await dyingAt(step)
})

test('a second crash during or after recovery changes nothing', async () => {
  const dir = temporaryFolder()
  const root = await crashed(dir, (journal) => {
    journal.append('requests', block('a'))
  })
  const first = await journalIn(dir)
  const [name] = sealedContent(dir).keys()
  await first.stop(NEVER)
  const second = await journalIn(dir)
  expect([...sealedContent(dir).keys()]).toEqual([name])
  expect(texts(await everything(second))).toEqual([contentOf(block('a'))])
  expect(existsSync(join(root, 'quarantine'))).toBe(false)
})

test('a segment that was complete but not yet renamed keeps its rollups', async () => {
  const dir = temporaryFolder()
  const root = await crashed(dir, (journal) => {
    journal.append('requests', block('a'))
    journal.seal([{ table: 'latency_1m', block: block('r', { rows: 2 }) }])
  })
  const [name] = sealedContent(dir).keys()
  for (const state of [`sealing-${name}`, 'current']) {
    // As a crash in the middle of the renames leaves it.
    const last = readdirSync(root).find((each) => each === name || each === `sealing-${name}` || each === 'current')!
    renameSync(join(root, last), join(root, state))
    if (state === 'current') renameSync(join(root, state, 'requests.seg'), join(root, state, 'requests.native'))
    const journal = await journalIn(dir)
    const segments = await everything(journal, state)
    expect(segments).toHaveLength(1)
    expect(segments[0]!.recovered).toBe(false)
    expect(texts(segments, 'latency_1m')).toEqual([contentOf(block('r'))])
    await journal.stop(NEVER)
  }
})

test('an empty or rubbish current folder is forgotten or set aside, and never stops the start', async () => {
  const cases: [string, Record<string, string>, 'forgotten' | 'aside'][] = [
    ['nothing', {}, 'forgotten'],
    ['an empty index', { index: '' }, 'forgotten'],
    ['half a line', { index: '0000' }, 'forgotten'],
    ['blocks whose first line was cut', { index: 'deadbeef {', 'requests.native': 'xxxx' }, 'forgotten'],
    ['blocks without an index', { 'requests.native': 'xxxx' }, 'aside'],
    ['an index of rubbish', { index: 'xx\nyy\n', 'requests.native': 'xxxx' }, 'aside'],
    ['zeros', { index: '\0'.repeat(4096) }, 'forgotten'],
  ]
  for (const [name, files, fate] of cases) {
    const dir = temporaryFolder()
    mkdirSync(join(dir, '0', 'current'), { recursive: true })
    for (const [file, content] of Object.entries(files)) writeFileSync(join(dir, '0', 'current', file), content)
    const journal = await journalIn(dir)
    expect(journal.recovery.rows, name).toBe(0)
    expect(existsSync(join(dir, '0', 'quarantine')), name).toBe(fate === 'aside')
    expect(journal.append('requests', block('a')), name).toBe('ok')
  }
})

test("folders and files that are nobody's are left alone", async () => {
  const dir = temporaryFolder()
  mkdirSync(join(dir, '0', 'lost+found'), { recursive: true })
  writeFileSync(join(dir, '0', 'notes.txt'), 'mine')
  await journalIn(dir)
  expect(readFileSync(join(dir, '0', 'notes.txt'), 'utf8')).toBe('mine')
})

interface Written {
  readonly tag: string
  readonly table: 'requests' | 'attempts'
  readonly offset: number
  readonly end: number
  readonly text: string
  readonly line: { readonly start: number; readonly end: number }
}

/** Blocks of random sizes in two tables of an unsealed segment; `requests.native` is a recycled file with stale bytes. */
async function manyBlocks(dir: string): Promise<Written[]> {
  const journal = await journalIn(dir)
  const written: Written[] = []
  const ends = { requests: 0, attempts: 0 }
  for (let n = 0; n < 12; n++) {
    const table = n % 3 === 2 ? 'attempts' : 'requests'
    const given = block(`b${n}`, { bytes: 40 + ((n * 7919) % 400), rows: n + 1 })
    expect(journal.append(table, given)).toBe('ok')
    const text = contentOf(given)
    written.push({
      tag: `b${n}`,
      table,
      offset: ends[table],
      end: ends[table] + text.length,
      text,
      line: { start: 0, end: 0 },
    })
    ends[table] += text.length
  }
  const copy = `${dir}-copy`
  cpSync(dir, copy, { recursive: true })
  // A recycled file: blocks of another segment, byte for byte like ours, come after the last one.
  const file = join(copy, '0', 'current', 'requests.native')
  writeFileSync(file, readFileSync(file), { flag: 'a' })
  await journal.stop(NEVER)
  rmSync(dir, { recursive: true })
  renameSync(copy, dir)
  let at = 0
  return readFileSync(join(dir, '0', 'current', 'index'), 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line, n) => {
      const start = at
      at += line.length + 1
      return { ...written[n]!, line: { start, end: at } }
    })
}

type Damage = {
  file: 'requests' | 'attempts' | 'index'
  kind: 'truncate' | 'flip' | 'zero'
  where: number
  bit: number
  length: number
}
const damages: fc.Arbitrary<Damage[]> = fc.array(
  fc.record({
    file: fc.constantFrom<Damage['file'][]>('requests', 'attempts', 'index'),
    kind: fc.constantFrom<Damage['kind'][]>('truncate', 'flip', 'zero'),
    where: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
    bit: fc.integer({ min: 0, max: 7 }),
    length: fc.integer({ min: 1, max: 600 }),
  }),
  { minLength: 1, maxLength: 3 },
)

/** Applies the damage and says, from the bytes alone, which blocks are still what they were. */
function apply(
  current: string,
  written: readonly Written[],
  damage: readonly Damage[],
  span: Record<string, number>,
): Written[] {
  const path = (file: string) => join(current, file === 'index' ? 'index' : `${file}.native`)
  for (const { file, kind, where, bit, length } of damage) {
    const bytes = readFileSync(path(file))
    const at = Math.floor(where * Math.min(bytes.length, span[file]!))
    if (kind === 'truncate') truncateSync(path(file), at)
    else {
      if (kind === 'flip' && at < bytes.length) bytes[at]! ^= 1 << bit
      if (kind === 'zero') bytes.fill(0, at, Math.min(bytes.length, at + length))
      writeFileSync(path(file), bytes)
    }
  }
  const after = {
    requests: readFileSync(path('requests'), 'latin1'),
    attempts: readFileSync(path('attempts'), 'latin1'),
  }
  const index = readFileSync(path('index'))
  const lines = new Set(index.toString('latin1').split('\n').slice(0, -1))
  return written.filter(({ table, offset, end, text, tag }) => {
    const line = originalLines.get(tag)!
    return lines.has(line) && after[table].slice(offset, end) === text
  })
}
const originalLines = new Map<string, string>()

test('of a segment cut or damaged anywhere, every sound block is saved and nothing else', async () => {
  const source = temporaryFolder()
  const written = await manyBlocks(source)
  const index = readFileSync(join(source, '0', 'current', 'index'))
  for (const { tag, line } of written) originalLines.set(tag, index.toString('latin1', line.start, line.end - 1))
  const span = { requests: 4096, attempts: 2048, index: index.length }
  await fc.assert(
    fc.asyncProperty(damages, async (damage) => {
      const dir = `${source}-run`
      cpSync(source, dir, { recursive: true })
      try {
        const expected = apply(join(dir, '0', 'current'), written, damage, span)
        const journal = await journalIn(dir)
        try {
          const segments = await everything(journal, 'other')
          for (const table of ['requests', 'attempts'] as const) {
            const text = expected.filter((each) => each.table === table).map((each) => each.text)
            expect(texts(segments, table).join('')).toBe(text.join(''))
          }
          const rows = expected.reduce((sum, { tag }) => sum + Number(tag.slice(1)) + 1, 0)
          expect(journal.recovery.rows).toBe(rows)
          // What recovery made is itself whole: its manifest agrees with its CRCs.
          expect(journal.stats().quarantined).toBe(journal.recovery.damage.length > 0 ? 1 : 0)
          await journal.stop(NEVER)
          const again = await journalIn(dir)
          expect(again.recovery).toMatchObject({ rows, damage: [], cutBytes: 0 })
          await again.stop(NEVER)
        } finally {
          await journal.stop(NEVER)
        }
      } finally {
        rmSync(dir, { recursive: true, force: true })
      }
    }),
    { numRuns: RUNS },
  )
})

test('a block of an earlier segment in a recycled file is not taken for the block that should be there', async () => {
  const dir = temporaryFolder()
  const clock = new ManualClock()
  const journal = await journalIn(dir, { clock, keepAfterAckMs: 0 })
  const reader = journal.reader('store')
  await journal.start()
  const same = block('same', { bytes: 1 << 20 })
  journal.append('requests', same)
  journal.seal()
  await reader.ack((await reader.next(NEVER))!)
  // Power fails after the disk got the new line, but not the new block: byte for byte the old one, at the same offset.
  journal.append('requests', same)
  expect(journal.stats().filesRecycled).toBe(1)
  const copy = `${dir}-copy`
  cpSync(dir, copy, { recursive: true })
  const index = join(copy, '0', 'current', 'index')
  const old = parseIndex(readFileSync(index)).blocks[0]!
  expect(old.bytes).toBe(1 << 20)
  const after = await journalIn(copy)
  expect(after.recovery.rows).toBe(10)
  await after.stop(NEVER)
  rmSync(copy, { recursive: true })

  // The same again, with the line of the first segment's block: its CRC holds for the old segment only.
  journal.seal()
  await journal.settled()
  await journal.stop(NEVER)
  const [name] = sealedContent(dir).keys()
  const root = join(dir, '0')
  renameSync(join(root, name!), join(root, 'current'))
  const line = readFileSync(join(root, 'current', 'index'), 'utf8').split('\n')[0]!
  const json = line.slice(9).replace(/-(\d+)"/, (_, seq: string) => `-${Number(seq) + 7}"`)
  const { crc32 } = await import('node:zlib')
  writeFileSync(join(root, 'current', 'index'), `${crc32(json).toString(16).padStart(8, '0')} ${json}\n`)
  const last = await journalIn(dir)
  expect(last.recovery.rows).toBe(0)
  expect(last.recovery.damage).toMatchObject([{ reason: 'checksum', offset: 0, rows: 10 }])
})

test('a damaged sealed segment: sound blocks stay under its id, the original is set aside, the place is named', async () => {
  const dir = temporaryFolder()
  const root = await crashed(dir, (journal) => {
    for (const tag of ['a', 'b', 'c']) journal.append('requests', block(tag, { node: tag }))
    journal.seal([{ table: 'latency_1m', block: block('r') }])
    journal.append('requests', block('d'))
    journal.seal()
  })
  const [name] = sealedContent(dir).keys()
  const file = join(root, name!, 'requests.seg')
  const bytes = readFileSync(file)
  bytes[150]! ^= 1
  writeFileSync(file, bytes)

  const journal = await journalIn(dir)
  // Found when it goes out, not at the start: a start must not read gigabytes.
  expect(journal.recovery.damage).toEqual([])
  const lost: string[] = []
  journal.onLost((id, nodes) => lost.push(`${id} ${JSON.stringify([...nodes])}`))
  journal.reader('store')
  expect(journal.heldByNode('store').get('b')).toBe(10)
  const segments = await everything(journal)
  expect(texts(segments)).toEqual([contentOf(block('a')) + contentOf(block('c')), contentOf(block('d'))])
  expect(segments[0]).toMatchObject({ id: `0-${name}`, recovered: true })
  expect(segments[0]!.tables).toHaveLength(1)
  expect(segments[1]).toMatchObject({ recovered: false })
  expect(lost).toEqual([`0-${name} [["b",10]]`])
  expect(journal.heldByNode('store')).toEqual(new Map())
  expect(journal.stats()).toMatchObject({ quarantined: 1, rowsLost: 10, damagedFiles: 1 })
  expect(readFileSync(join(root, 'quarantine', name!, 'requests.seg'))).toEqual(bytes)
})

test.each([
  ['its index is gone', (folder: string) => rmSync(join(folder, 'index')), null],
  ['its index is rubbish', (folder: string) => writeFileSync(join(folder, 'index'), 'x\n'), null],
  ['its rows are gone', (folder: string) => rmSync(join(folder, 'requests.seg')), null],
  ['its rows are cut', (folder: string) => truncateSync(join(folder, 'requests.seg'), 250), ['a', 'b']],
  [
    'its rows have more after them',
    (folder: string) => writeFileSync(join(folder, 'requests.seg'), 'more', { flag: 'a' }),
    ['a', 'b', 'c'],
  ],
  [
    'its rollups are damaged',
    (folder: string) => writeFileSync(join(folder, 'latency_1m.seg'), 'x'.repeat(100)),
    ['a', 'b', 'c'],
  ],
  ['its rollups are gone', (folder: string) => rmSync(join(folder, 'latency_1m.seg')), ['a', 'b', 'c']],
  [
    'the end of its index is cut',
    (folder: string) => writeFileSync(join(folder, 'index'), readFileSync(join(folder, 'index')).subarray(0, -5)),
    ['a', 'b', 'c'],
  ],
  ['a line of its index is missing', (folder: string) => dropLine(folder, 1), ['a', 'c']],
  [
    'a file of it is missing with its line',
    (folder: string) => {
      rmSync(join(folder, 'latency_1m.seg'))
      dropLine(folder, 3)
    },
    ['a', 'b', 'c'],
  ],
] as const)('a sealed segment is saved as far as it goes when %s', async (_what, damage, left) => {
  const dir = temporaryFolder()
  const root = await crashed(dir, (journal) => {
    for (const tag of ['a', 'b', 'c']) journal.append('requests', block(tag))
    journal.seal([{ table: 'latency_1m', block: block('r') }])
    journal.append('requests', block('next'))
    journal.seal()
  })
  const [name] = sealedContent(dir).keys()
  damage(join(root, name!))
  const journal = await journalIn(dir)
  const segments = await everything(journal)
  const expected = left === null ? [] : [left.map((tag) => contentOf(block(tag))).join('')]
  expect(texts(segments)).toEqual([...expected, contentOf(block('next'))])
  if (left !== null) expect(segments[0]).toMatchObject({ recovered: true, tables: [{ table: 'requests' }] })
})

function dropLine(folder: string, n: number): void {
  const lines = readFileSync(join(folder, 'index'), 'utf8').split('\n')
  writeFileSync(join(folder, 'index'), lines.filter((_, k) => k !== n).join('\n'))
}

test('of a sealed segment without its last line, rollups are not trusted', async () => {
  const dir = temporaryFolder()
  const root = await crashed(dir, (journal) => {
    journal.append('requests', block('a'))
    journal.seal([{ table: 'latency_1m', block: block('r') }])
  })
  const [name] = sealedContent(dir).keys()
  dropLine(join(root, name!), 2)
  const segments = await everything(await journalIn(dir))
  expect(segments).toMatchObject([{ recovered: true, tables: [{ table: 'requests' }] }])
})

test('damage that shows while running is handled while running, and other sinks keep what they have', async () => {
  const dir = temporaryFolder()
  const clock = new ManualClock()
  const journal = await journalIn(dir, { clock })
  const [fast, slow] = [journal.reader('fast'), journal.reader('slow')]
  await journal.start()
  for (const tag of ['a', 'b']) journal.append('requests', block(tag))
  journal.seal()
  await journal.settled()
  await fast.ack((await fast.next(NEVER))!)
  const [name] = sealedContent(dir).keys()
  const file = join(dir, '0', name!, 'requests.seg')
  const bytes = readFileSync(file)
  bytes[0]! ^= 1
  writeFileSync(file, bytes)
  // Fresh segments go out unread; what waited for a minute is compared with its CRCs first.
  await clock.pass(61_000, 10_000)
  const segment = (await slow.next(NEVER))!
  expect(texts([segment])).toEqual([contentOf(block('b'))])
  await slow.ack(segment)
  expect(fast.ready).toBe(false)
})

test('an interrupted salvage is taken up, or begun again, by the next start', async () => {
  const dir = temporaryFolder()
  const root = await crashed(dir, (journal) => {
    for (const tag of ['a', 'b']) journal.append('requests', block(tag))
    journal.seal()
  })
  const [name] = sealedContent(dir).keys()
  const file = join(root, name!, 'requests.seg')
  const bytes = readFileSync(file)
  bytes[0]! ^= 1
  writeFileSync(file, bytes)
  const done = `${dir}-done`
  cpSync(dir, done, { recursive: true })
  const first = await journalIn(done)
  await everything(first)
  await first.stop(NEVER)
  const salvaged = join(done, '0', name!)

  // Killed between the two renames: the copy is whole, the original in quarantine.
  const between = `${dir}-between`
  cpSync(dir, between, { recursive: true })
  mkdirSync(join(between, '0', 'quarantine'))
  renameSync(join(between, '0', name!), join(between, '0', 'quarantine', name!))
  cpSync(salvaged, join(between, '0', `salvage-${name}`), { recursive: true })
  // Killed before: the original is in its place, the copy whole or not.
  const before = `${dir}-before`
  cpSync(dir, before, { recursive: true })
  cpSync(salvaged, join(before, '0', `salvage-${name}`), { recursive: true })
  const half = `${dir}-half`
  cpSync(dir, half, { recursive: true })
  mkdirSync(join(half, '0', `salvage-${name}`))
  writeFileSync(join(half, '0', `salvage-${name}`, 'requests.seg'), 'half')

  for (const each of [between, before, half]) {
    const journal = await journalIn(each)
    expect(texts(await everything(journal)), each).toEqual([contentOf(block('b'))])
    expect(readdirSync(join(each, '0')).filter((entry) => entry.startsWith('salvage'))).toEqual([])
    await journal.stop(NEVER)
    rmSync(each, { recursive: true })
  }
  rmSync(done, { recursive: true })
})

test('a half-deleted segment is deleted, and no finding', async () => {
  const dir = temporaryFolder()
  const root = await crashed(dir, (journal) => {
    journal.append('requests', block('a'))
    journal.seal()
  })
  const [name] = sealedContent(dir).keys()
  renameSync(join(root, name!), join(root, `trash-${name}`))
  rmSync(join(root, `trash-${name}`, 'index'))
  const journal = await journalIn(dir)
  expect(journal.recovery).toMatchObject({ segments: 0, damage: [] })
  expect(readdirSync(root).filter((entry) => entry.startsWith('trash'))).toEqual([])
})

test('a start on a full disk goes on, and recovers when there is room', async () => {
  const dir = temporaryFolder()
  const root = await crashed(dir, (journal) => {
    for (const tag of ['a', 'b', 'c']) journal.append('requests', block(tag))
  })
  const file = join(root, 'current', 'requests.native')
  const bytes = readFileSync(file)
  bytes[150]! ^= 1
  writeFileSync(file, bytes)
  const files = new FaultyFiles()
  files.room = 0
  const clock = new ManualClock()
  const journal = await journalIn(dir, { files, clock })
  const reader = journal.reader('store')
  await journal.start()
  expect(journal.recovery.stuck).toBe(1)
  expect(reader.ready).toBe(false)
  expect(journal.append('requests', block('new'))).toBe('disk_full')
  await clock.pass(12_000, 1000)
  expect(reader.ready).toBe(false)
  files.room = Number.POSITIVE_INFINITY
  await clock.pass(6000, 1000)
  await journal.settled()
  expect(journal.append('requests', block('new'))).toBe('ok')
  journal.seal()
  await journal.settled()
  expect(texts(await everything(journal))).toEqual([
    contentOf(block('a')) + contentOf(block('c')),
    contentOf(block('new')),
  ])
})

test('a damaged sealed segment without room to save it lets others pass, and is not forgotten', async () => {
  const dir = temporaryFolder()
  const root = await crashed(dir, (journal) => {
    for (const tag of ['a', 'b']) journal.append('requests', block(tag))
    journal.seal()
    journal.append('requests', block('c'))
    journal.seal()
  })
  const [name] = sealedContent(dir).keys()
  const file = join(root, name!, 'requests.seg')
  const bytes = readFileSync(file)
  bytes[0]! ^= 1
  writeFileSync(file, bytes)
  const files = new FaultyFiles()
  const clock = new ManualClock()
  const journal = await journalIn(dir, { files, clock })
  await journal.start()
  files.before = (operation, path) => {
    if (operation === 'mkdir' && path.includes('salvage')) throw diskFull()
  }
  const reader = journal.reader('store')
  const second = (await reader.next(NEVER))!
  expect(second.seq).toBe(2)
  await reader.ack(second)
  files.before = () => {}
  const next = reader.next(NEVER)
  await clock.pass(6000, 1000)
  const first = (await next)!
  expect(first.seq).toBe(1)
  await reader.ack(first)
  await journal.stop(NEVER)
  expect((await journalIn(dir)).reader('store').ready).toBe(false)
})

test('quarantine is bounded: the oldest goes', async () => {
  const dir = temporaryFolder()
  const root = await crashed(dir, (journal) => {
    for (const tag of ['a', 'b', 'c']) {
      journal.append('requests', block(tag, { bytes: 400 }))
      journal.seal()
    }
  })
  for (const name of sealedContent(dir).keys()) writeFileSync(join(root, name, 'requests.seg'), 'y'.repeat(400))
  const limits = { segmentBytesMax: 1 << 20, segmentRowsMax: 1000, segmentAgeMsMax: 1000, diskBytesMax: 20_000 }
  const journal = await journalIn(dir, { limits })
  expect(await everything(journal)).toEqual([])
  expect(journal.stats()).toMatchObject({ quarantined: 3, rowsLost: 30 })
  const left = readdirSync(join(root, 'quarantine'))
  expect(left.length).toBeGreaterThan(0)
  expect(left.length).toBeLessThan(3)
})
