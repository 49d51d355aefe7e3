import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { seededRandom } from '../../src/lib/random.ts'
import { type Journal, openJournal } from '../../src/pipeline/journal.ts'
import { verifyJournal } from '../../src/pipeline/journal-report.ts'
import { numbersIn } from './journal-blocks.ts'

/** What a run of kills saw. */
export interface KillResult {
  readonly kills: number
  /** Blocks whose append was reported. */
  readonly blocks: number
  /** Segments that the sink took, counting again what it took again. */
  readonly delivered: number
  /** Files that were written over in place. */
  readonly recycled: number
  /** Segments that start-up made of what was not sealed. */
  readonly recovered: number
  /** Bytes that start-up cut off: half-written blocks, and stale bytes of recycled files. */
  readonly cutBytes: number
  readonly startMsMax: number
}

const WRITER = join(import.meta.dirname, 'journal-writer.ts')
const LIMITS = { segmentBytesMax: 1 << 30, segmentRowsMax: 1e9, segmentAgeMsMax: 1e9, diskBytesMax: 1 << 30 }
/** A start of Node, on a busy machine. */
const START_MS_MAX = 180_000

/**
 * Starts the writer, kills it with SIGKILL at a seeded moment, looks, starts it again on the same folder, and so on. Every
 * block whose append was reported must have been taken by the sink or be on disk: whole, once, and always in the same
 * segment. Throws with the seed and the number of the kill.
 */
export async function killJournal(options: { dir: string; seed: number; kills: number }): Promise<KillResult> {
  const { dir, seed, kills } = options
  const random = seededRandom(seed)
  const total = { kills, blocks: 0, delivered: 0, recycled: 0, recovered: 0, cutBytes: 0, startMsMax: 0 }
  /** Segment of each block that was ever seen. */
  const segmentOf = new Map<number, string>()
  let next = 0
  for (let kill = 0; kill < kills; kill++) {
    try {
      // Now and then before the journal is even open, in the middle of recovery.
      const early = random() < 0.1
      const { appended, taken, recycled } = await runAndKill({
        dir,
        seed: seed * 1000 + kill,
        next,
        early,
        afterMs: random() * 800,
      })
      for (const [segment, numbers] of taken) place(segmentOf, segment, numbers)
      const begin = performance.now()
      const journal = await openJournal({ dir, worker: 0, limits: LIMITS })
      total.startMsMax = Math.max(total.startMsMax, performance.now() - begin)
      try {
        const { damage, stuck, cutBytes } = journal.recovery
        if (damage.length + stuck > 0) throw new Error(`damage ${JSON.stringify(damage)}, ${stuck} stuck`)
        total.cutBytes += cutBytes
        total.recovered += look(journal, segmentOf)
      } finally {
        await journal.stop(new AbortController().signal)
      }
      for (const number of appended)
        if (!segmentOf.has(number)) throw new Error(`block ${number} was appended and is gone`)
      const { sound, damage } = await verifyJournal(dir)
      if (!sound) throw new Error(`not sound: ${JSON.stringify(damage)}`)
      next = Math.max(next, ...segmentOf.keys()) + 1
      total.blocks += appended.length
      total.delivered += taken.length
      total.recycled += recycled
    } catch (error) {
      throw new Error(`seed ${seed}, kill ${kill}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      })
    }
  }
  return total
}

/** Reads every segment on disk; returns how many start-up made. */
function look(journal: Journal, segmentOf: Map<number, string>): number {
  let recovered = 0
  const seen = new Set<number>()
  for (const segment of journal.segments()) {
    if (segment.recovered) recovered++
    const rows = segment.tables.find(({ table }) => table === 'requests')
    if (rows === undefined) throw new Error(`${segment.id} has no rows`)
    const numbers = numbersIn(readFileSync(rows.file, 'latin1'))
    for (const number of numbers) {
      if (seen.has(number)) throw new Error(`block ${number} is there twice`)
      seen.add(number)
    }
    place(segmentOf, segment.id, numbers)
  }
  return recovered
}

function place(segmentOf: Map<number, string>, segment: string, numbers: readonly number[]): void {
  for (const number of numbers) {
    const before = segmentOf.get(number) ?? segment
    if (before !== segment) throw new Error(`block ${number} is in ${before} and in ${segment}`)
    segmentOf.set(number, segment)
  }
}

interface Run {
  readonly dir: string
  readonly seed: number
  readonly next: number
  readonly early: boolean
  readonly afterMs: number
}

async function runAndKill({ dir, seed, next, early, afterMs }: Run) {
  const child = spawn(process.execPath, [WRITER, dir, String(seed), String(next)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  const closed = once(child, 'close')
  const deadline = Date.now() + START_MS_MAX
  while (!early && !output.includes('open\n') && child.exitCode === null && Date.now() < deadline) await wait(5)
  if (!early && !output.includes('open\n')) errors ||= 'it did not open its journal'
  await wait(afterMs)
  const alive = child.exitCode === null
  child.kill('SIGKILL')
  await closed
  if (!alive || errors !== '') throw new Error(`the writer failed: ${errors}`)
  const lines = output
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split(' '))
  return {
    recycled: Number(lines.findLast(([what]) => what === 'r')?.[1] ?? 0),
    appended: lines.filter(([what]) => what === 'a').map(([, number]) => Number(number)),
    taken: lines
      .filter(([what]) => what === 'k')
      .map(([, segment, ...numbers]) => [segment!, numbers.map(Number)] as const),
  }
}
