import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { seededRandom } from '../../src/lib/random.ts'
import type { Segment, SegmentTable } from '../../src/pipeline/segment.ts'
import { createTestDatabase, disagreements, never, storedBySegment } from './clickhouse.ts'
import { createSegmentMaker } from './segments.ts'
import type { TestStore } from './store.ts'

/**
 * Kills the store's process with SIGKILL at random moments while segments over several day-partitions are sent to it, and
 * tells whether every row is there once and rollups are equal to their rows.
 */
export interface KillOptions {
  readonly seed: number
  readonly kills: number
  readonly rows: number
  readonly days: number
  /** Segments that are looked up again when the engine starts. */
  readonly keep: number
  readonly onRound?: (round: number, note: string) => void
  /** Outside a test: what has to be done in the end. */
  readonly onEnd?: (work: () => Promise<void>) => void
}

export interface KillReport {
  readonly segments: number
  readonly rows: number
  /** Kills while an insert ran, and while none did. */
  readonly during: number
  readonly between: number
  readonly retries: number
  readonly daysMissing: number
  readonly daysWrong: number
  readonly minutesCorrected: number
  readonly hoursCorrected: number
  /** What is wrong in the end; empty when nothing is. */
  readonly wrong: readonly string[]
}

const TEMPLATES = 4
const DAY = 86_400

export async function killStore(test: TestStore, options: KillOptions): Promise<KillReport> {
  const { seed, kills, keep } = options
  const random = seededRandom(seed)
  const maker = await createSegmentMaker(test.writer, test.dir)
  const now = Math.floor(Date.now() / 1000)
  const templates: Segment[] = []
  for (let k = 0; k < TEMPLATES; k++) {
    templates.push(
      await maker.make({
        seq: 100_000 + k,
        rows: options.rows,
        fromSeconds: now - options.days * DAY + 600,
        spanSeconds: 100,
        days: options.days,
        epoch: 'kill',
        tables: k % 2 === 0 ? ['requests'] : ['requests', 'attempts'],
      }),
    )
  }
  const database = await createTestDatabase(test, options.onEnd === undefined ? {} : { onEnd: options.onEnd })
  const accepted: Segment[] = []
  const sink = await database.sink({ kept: () => accepted.slice(-keep) })
  test.store.onRestart(() => sink.engineStarted())

  let inserting = false
  let done = false
  const send = async () => {
    for (let seq = 200_000; !done; seq++) {
      const segment = await copyOf(templates[seq % TEMPLATES]!, seq, test.dir)
      for (;;) {
        inserting = true
        const outcome = await sink.send(segment, never)
        inserting = false
        if (outcome.status === 'accepted') break
        if (outcome.status === 'rejected') throw outcome.error
        await sleep(20)
      }
      accepted.push(segment)
    }
  }
  const sending = send()

  let [during, between] = [0, 0]
  for (let round = 0; round < kills; round++) {
    const before = accepted.length
    while (accepted.length < before + 2) await sleep(5)
    await sleep(random() * KILL_WITHIN_MS)
    if (inserting) during++
    else between++
    const pid = test.store.pid
    if (pid !== undefined) process.kill(pid, 'SIGKILL')
    options.onRound?.(round, `${accepted.length} segments accepted`)
    while (test.store.pid === pid || test.store.state !== 'ready') await sleep(10)
  }
  done = true
  await sending
  const settled = await sink.settle(never)
  const wrong =
    settled.status === 'accepted' ? await disagreements(database) : [`not settled: ${settled.error.message}`]
  for (const table of ['requests', 'attempts'] as const) {
    const stored = await storedBySegment(database, table)
    for (const segment of accepted) {
      const sent = segment.tables.find((one) => one.table === table)?.rows
      if (sent !== stored.get(segment.id))
        wrong.push(`${segment.id}: ${sent} rows sent to ${table}, ${stored.get(segment.id)} stored`)
    }
  }
  const { retries, daysMissing, daysWrong, minutesCorrected, hoursCorrected } = sink.counters
  const rows = accepted.length * options.rows
  return {
    segments: accepted.length,
    rows,
    during,
    between,
    retries,
    daysMissing,
    daysWrong,
    minutesCorrected,
    hoursCorrected,
    wrong,
  }
}

/** About as long as two segments take. */
const KILL_WITHIN_MS = 400

/** The same rows under another segment id of the same length: the id is in the file as text, once for each block. */
async function copyOf(template: Segment, seq: number, dir: string): Promise<Segment> {
  const id = `${template.worker}-${template.epoch}-${seq}`
  const tables: SegmentTable[] = []
  for (const table of template.tables) {
    if (table.table === 'latency_1m') {
      tables.push(table)
      continue
    }
    const bytes = await readFile(table.file)
    const from = Buffer.from(template.id)
    for (let at = bytes.indexOf(from); at >= 0; at = bytes.indexOf(from, at + from.length)) bytes.write(id, at)
    const file = join(dir, `${id}-${table.table}.native`)
    await writeFile(file, bytes)
    tables.push({ ...table, file })
  }
  return { ...template, id, seq, tables, openedMs: Date.now() }
}
