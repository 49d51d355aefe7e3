import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, onTestFinished, test } from 'vitest'
import { ROW_TABLES, type RowTable } from '../../src/model/schema.ts'
import type { Journal } from '../../src/pipeline/journal.ts'
import { createLedger, type Ledger, type LedgerOptions, OVERFLOW_NODE } from '../../src/pipeline/ledger.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import {
  block,
  FaultyFiles,
  journalIn,
  ManualClock,
  NEVER,
  sealedContent,
  settle,
  temporaryFolder,
  unsyncedFiles,
} from '../support/journal.ts'

function ledgerOf(journal: Journal, dir: string, options: Partial<LedgerOptions> = {}): Ledger {
  const ledger = createLedger({
    journal,
    dir,
    clock: new ManualClock(),
    log: silentLog,
    files: unsyncedFiles,
    ...options,
  })
  onTestFinished(() => ledger.stop(NEVER))
  return ledger
}

/** What the lane does with a batch of one node. */
function take(journal: Journal, ledger: Ledger, node: string, rows: number, table: RowTable = 'requests'): void {
  const given = block(`${node}${rows}`, { rows, node })
  expect(journal.append(table, given)).toBe('ok')
  ledger.journaled(table, given)
}

async function ack(journal: Journal, sink: string, outcome?: 'rejected'): Promise<void> {
  const reader = journal.reader(sink)
  await reader.ack((await reader.next(NEVER))!, outcome)
}

const of = (ledger: Ledger, node: string) => ledger.nodes().find((each) => each.node === node)!

/** The law, for every adapter and every node. */
function expectConserved(ledger: Ledger): void {
  for (const { received, delivered, rejected, dropped, held } of ledger.adapters()) {
    expect(delivered + rejected + dropped + held).toBe(received)
  }
  for (const { received, decoded, rejected } of ledger.nodes()) expect(decoded + rejected).toBe(received)
}

test('follows rows from the wire to the store', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir)
  journal.reader('clickhouse')
  journal.reader('kafka')
  const ledger = ledgerOf(journal, dir)
  expect(ledger.since()).toBeNull()
  ledger.arrived('a', 10, 2)
  ledger.arrived('a', 5, 0)
  ledger.arrived('b', 3, 0)
  expect(ledger.since()).toBe(1_700_000_000_000)
  expect(of(ledger, 'a')).toEqual({
    node: 'a',
    served: null,
    written: null,
    dropped_by_envoy: null,
    received: 17,
    decoded: 15,
    rejected: 2,
    stored: 0,
    in_journal: 15,
    delivered: { clickhouse: 0, kafka: 0 },
    filtered: null,
    sampled: false,
    lost: null,
    unexplained: 0,
    source: null,
    stats: null,
  })
  take(journal, ledger, 'a', 15)
  take(journal, ledger, 'b', 2, 'attempts')
  take(journal, ledger, 'b', 1, 'connections')
  expect(of(ledger, 'a')).toMatchObject({ in_journal: 15, unexplained: 0 })
  journal.seal([{ table: 'latency_1m', block: block('r', { rows: 99, node: 'a' }) }])
  await journal.settled()
  await ack(journal, 'clickhouse')
  expect(of(ledger, 'a')).toMatchObject({
    stored: 15,
    in_journal: 0,
    delivered: { clickhouse: 15, kafka: 0 },
    unexplained: 0,
  })
  expect(of(ledger, 'b')).toMatchObject({ received: 3, stored: 3 })
  expect(ledger.tables()).toEqual({ requests: 15, attempts: 2, progress: 0, connections: 1 })
  expect(ledger.adapters()).toEqual([
    { adapter: 'clickhouse', received: 18, delivered: 18, rejected: 0, dropped: 0, held: 0 },
    { adapter: 'kafka', received: 18, delivered: 0, rejected: 0, dropped: 0, held: 18 },
  ])
})

test('a refused segment, and drops before the journal, are counted as what they are', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir)
  journal.reader('clickhouse')
  const ledger = ledgerOf(journal, dir, { live: ['prometheus'] })
  ledger.arrived('a', 10, 0)
  take(journal, ledger, 'a', 10)
  journal.seal()
  await journal.settled()
  await ack(journal, 'clickhouse', 'rejected')
  ledger.dropped('journal_full', 7)
  ledger.dropped('journal_full', 1)
  ledger.dropped('other', 0)
  expect(ledger.adapters()).toEqual([
    { adapter: 'clickhouse', received: 10, delivered: 0, rejected: 10, dropped: 0, held: 0 },
    { adapter: 'prometheus', received: 10, delivered: 10, rejected: 0, dropped: 0, held: 0 },
  ])
  expect([...ledger.drops]).toEqual([['journal_full', 8]])
  expect(of(ledger, 'a').unexplained).toBe(10)
})

test('counts of nodes beyond the bound come together, and nothing is missing', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir)
  journal.reader('clickhouse')
  const ledger = ledgerOf(journal, dir, { nodesMax: 3 })
  for (let n = 0; n < 50; n++) {
    ledger.arrived(`n${n}`, 2, 1)
    take(journal, ledger, `n${n}`, 2)
  }
  journal.seal()
  await journal.settled()
  expect(ledger.nodes().map(({ node }) => node)).toEqual(['n0', 'n1', 'n2', OVERFLOW_NODE])
  expect(of(ledger, OVERFLOW_NODE)).toMatchObject({ received: 47 * 3, in_journal: 94, unexplained: 0 })
  await ack(journal, 'clickhouse')
  expect(of(ledger, OVERFLOW_NODE)).toMatchObject({ stored: 94, in_journal: 0, unexplained: 0 })
  expectConserved(ledger)
})

test('is saved at the end, every five seconds, and only when something changed', async () => {
  const dir = temporaryFolder()
  const clock = new ManualClock()
  const files = new FaultyFiles()
  const journal = await journalIn(dir)
  const ledger = ledgerOf(journal, dir, { clock, files })
  await ledger.start()
  const saves = () => files.calls.filter((call) => call.startsWith('rename')).length
  await clock.pass(20_000)
  expect(saves()).toBe(0)
  ledger.arrived('a', 1, 1)
  await clock.pass(5000)
  expect(saves()).toBe(1)
  await clock.pass(20_000)
  expect(saves()).toBe(1)
  ledger.arrived('a', 1, 1)
  await ledger.stop(NEVER)
  await ledger.stop(NEVER)
  expect(saves()).toBe(2)
})

test('a full disk costs no count', async () => {
  const dir = temporaryFolder()
  const clock = new ManualClock()
  const files = new FaultyFiles()
  const journal = await journalIn(dir)
  const ledger = ledgerOf(journal, dir, { clock, files })
  files.room = 0
  await ledger.start()
  ledger.arrived('a', 0, 4)
  await clock.pass(10_000)
  files.room = Number.POSITIVE_INFINITY
  await clock.pass(5000)
  expect(JSON.parse(readFileSync(join(dir, 'ledger.json'), 'utf8')).nodes).toMatchObject([{ node: 'a', rejected: 4 }])
})

test.each([
  '',
  '{',
  '{"version":2,"sinceMs":1,"through":null,"nodes":[]}',
  '{"version":1,"sinceMs":1,"through":"x","nodes":[]}',
  '{"version":1,"sinceMs":1,"through":null,"nodes":[{"node":1}]}',
])('a damaged file %j is no reason not to start: the journal tells what it can', async (text) => {
  const dir = temporaryFolder()
  writeFileSync(join(dir, 'ledger.json'), text)
  const journal = await journalIn(dir)
  journal.reader('clickhouse')
  journal.append('requests', block('x', { node: 'a', rows: 6 }))
  journal.seal()
  await journal.settled()
  const ledger = ledgerOf(journal, dir)
  expect(of(ledger, 'a')).toMatchObject({ received: 6, in_journal: 6, stored: 0, unexplained: 0 })
})

/** Every figure that must be the same after a crash as before it. */
const durable = (ledger: Ledger) => ({
  nodes: ledger
    .nodes()
    .map(({ node, stored, in_journal, delivered }) => ({ node, stored, in_journal, delivered }))
    .sort((a, b) => (a.node < b.node ? -1 : 1)),
  tables: ledger.tables(),
  adapters: ledger.adapters(),
})

const steps = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('take' as const),
        node: fc.constantFrom('a', 'b', 'c'),
        rows: fc.integer({ min: 1, max: 50 }),
        table: fc.constantFrom(...ROW_TABLES),
      }),
    },
    { weight: 3, arbitrary: fc.constant({ do: 'seal' as const }) },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant('ack' as const), sink: fc.constantFrom('clickhouse', 'kafka') }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant('reject' as const), sink: fc.constantFrom('clickhouse', 'kafka') }),
    },
    { weight: 2, arbitrary: fc.constant({ do: 'save' as const }) },
    { weight: 2, arbitrary: fc.constant({ do: 'crash' as const }) },
  ),
  { minLength: 5, maxLength: 40 },
)

test('received = delivered + rejected + dropped + held, whatever happens and whenever the process dies', async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (list) => {
      let dir = temporaryFolder()
      const clock = new ManualClock()
      let journal!: Journal
      let ledger!: Ledger
      const open = async () => {
        journal = await journalIn(dir, { clock })
        journal.reader('clickhouse')
        journal.reader('kafka')
        ledger = ledgerOf(journal, dir, { clock })
        await ledger.start()
      }
      await open()
      for (const step of list) {
        if (step.do === 'take') {
          ledger.arrived(step.node, step.rows, 0)
          take(journal, ledger, step.node, step.rows, step.table)
        } else if (step.do === 'seal') journal.seal()
        else if (step.do === 'save') await clock.pass(5000, 2500)
        else if (step.do === 'crash') {
          await journal.settled()
          await settle()
          const before = durable(ledger)
          const copy = temporaryFolder()
          cpSync(dir, copy, { recursive: true })
          await ledger.stop(NEVER)
          await journal.stop(NEVER)
          dir = copy
          await open()
          expect(durable(ledger)).toEqual(before)
        } else {
          await journal.settled()
          if (journal.reader(step.sink).ready)
            await ack(journal, step.sink, step.do === 'reject' ? 'rejected' : undefined)
          if (step.do === 'reject') await settle(10)
        }
        expectConserved(ledger)
      }
      await ledger.stop(NEVER)
      await journal.stop(NEVER)
    }),
    { numRuns: Number(process.env.LEDGER_RUNS ?? 15) },
  )
})

test('rows that damage took are neither delivered nor held', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir)
  journal.reader('clickhouse')
  const ledger = ledgerOf(journal, dir)
  for (const node of ['a', 'b']) {
    ledger.arrived(node, 10, 0)
    take(journal, ledger, node, 10)
  }
  journal.seal()
  await journal.settled()
  await ledger.stop(NEVER)
  await journal.stop(NEVER)
  const [name] = sealedContent(dir).keys()
  const file = join(dir, '0', name!, 'requests.seg')
  const bytes = readFileSync(file)
  bytes[0]! ^= 1
  writeFileSync(file, bytes)

  const after = await journalIn(dir)
  after.reader('clickhouse')
  const again = ledgerOf(after, dir)
  expect(again.adapters()).toMatchObject([{ received: 20, delivered: 0, dropped: 0, held: 20 }])
  await ack(after, 'clickhouse')
  expect(again.adapters()).toMatchObject([{ received: 20, delivered: 10, dropped: 10, held: 0 }])
  expect(of(again, 'a')).toMatchObject({ stored: 0, unexplained: 10 })
  expect(of(again, 'b')).toMatchObject({ stored: 10, unexplained: 0 })
  await again.stop(NEVER)
  await after.stop(NEVER)

  const last = await journalIn(dir)
  last.reader('clickhouse')
  expect(ledgerOf(last, dir).adapters()).toMatchObject([{ received: 20, delivered: 10, dropped: 10, held: 0 }])
})

test('damage found at the start is counted too', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir)
  const ledger = ledgerOf(journal, dir)
  for (const node of ['a', 'b']) take(journal, ledger, node, 10)
  await ledger.stop(NEVER)
  await journal.stop(NEVER)
  const file = join(dir, '0', 'current', 'requests.native')
  const bytes = readFileSync(file)
  bytes[0]! ^= 1
  writeFileSync(file, bytes)
  const after = await journalIn(dir)
  after.reader('clickhouse')
  const again = ledgerOf(after, dir)
  expect(again.adapters()).toMatchObject([{ received: 20, delivered: 0, dropped: 10, held: 10 }])
})

test('rows that only the store remembers are taken over from it, once, and what is held is not counted twice', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir)
  journal.reader('clickhouse')
  const ledger = ledgerOf(journal, dir)
  ledger.arrived('a', 10, 0)
  take(journal, ledger, 'a', 10)
  journal.seal()
  await journal.settled()
  // Stored and not acknowledged yet, besides 5 rows of a segment that is gone.
  ledger.reconcile(
    new Map([
      ['a', 15],
      ['z', 4],
    ]),
  )
  expect(of(ledger, 'a')).toMatchObject({ decoded: 15, stored: 5, in_journal: 10, unexplained: 0 })
  expect(of(ledger, 'z')).toMatchObject({ decoded: 4, stored: 4, unexplained: 0 })
  await ack(journal, 'clickhouse')
  ledger.reconcile(
    new Map([
      ['a', 15],
      ['z', 1],
    ]),
  )
  expect(of(ledger, 'a')).toMatchObject({ decoded: 15, stored: 15, unexplained: 0 })
  expect(of(ledger, 'z')).toMatchObject({ stored: 4 })
  expectConserved(ledger)
})

test('a journal that lost its ledger folder still starts', async () => {
  const dir = temporaryFolder()
  const journal = await journalIn(dir)
  const ledger = ledgerOf(journal, join(dir, 'gone'))
  rmSync(join(dir, 'gone'), { recursive: true, force: true })
  ledger.arrived('a', 1, 0)
  await ledger.stop(NEVER)
  expect(ledger.nodes()).toHaveLength(1)
})
