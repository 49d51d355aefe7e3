import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { seededRandom } from '../../src/lib/random.ts'
import { openJournal } from '../../src/pipeline/journal.ts'
import { storedPaths } from './lines-rig.ts'

/**
 * Writes a log, rotates it in every way, and kills the process that follows it with SIGKILL at seeded moments. At the end
 * every line has to be in the journal once. Throws with the seed when it is not.
 */
export interface KillTailResult {
  readonly seed: number
  readonly kills: number
  readonly rotations: Readonly<Record<Rotation, number>>
  readonly lines: number
  readonly stored: number
}

type Rotation = 'rename' | 'copytruncate' | 'compress'

export interface KillTailOptions {
  readonly dir: string
  readonly seed: number
  readonly kills: number
  readonly rotations: number
}

const READER = join(import.meta.dirname, 'tail-reader.ts')
const START_MS_MAX = 180_000

export async function killTail({ dir, seed, kills, rotations }: KillTailOptions): Promise<KillTailResult> {
  const random = seededRandom(seed)
  const log = join(dir, 'logs', 'access.log')
  const data = join(dir, 'data')
  mkdirSync(join(dir, 'logs'), { recursive: true })
  let written = 0
  /** The begin of a line whose end is still to be written. */
  let half = ''
  const write = (): void => {
    let text = half
    half = ''
    for (let n = Math.floor(random() ** 3 * 400); n >= 0; n--) {
      text += `{"p":"/${written++}"${random() < 0.1 ? ',"k":"attempt"' : ''},"x":"${'y'.repeat(random() * 200)}"}\n`
    }
    if (random() < 0.3) {
      const cut = text.length - 1 - Math.floor(random() * 20)
      half = text.slice(cut)
      text = text.slice(0, cut)
    }
    appendFileSync(log, text)
  }
  const done: Record<Rotation, number> = { rename: 0, copytruncate: 0, compress: 0 }
  const shift = (): void => {
    for (let n = rotations; n > 0; n--) {
      for (const ending of ['', '.gz']) {
        if (existsSync(`${log}.${n}${ending}`)) renameSync(`${log}.${n}${ending}`, `${log}.${n + 1}${ending}`)
      }
    }
  }
  const rotate = async (): Promise<void> => {
    // A line that is torn apart by a rotation is nobody's fault here.
    if (half !== '') appendFileSync(log, half)
    half = ''
    if (!existsSync(log) || readFileSync(log).length < 64) return
    const how = (['rename', 'copytruncate', 'compress'] as const)[Math.floor(random() * 3)]!
    done[how]++
    shift()
    if (how === 'copytruncate') {
      copyFileSync(log, `${log}.1`)
      await wait(random() * 20)
      truncateSync(log)
      return
    }
    renameSync(log, `${log}.1`)
    if (how === 'compress') {
      const packed = gzipSync(readFileSync(`${log}.1`))
      writeFileSync(`${log}.1.gz`, packed.subarray(0, packed.length / 2))
      await wait(random() * 20)
      writeFileSync(`${log}.1.gz`, packed)
      rmSync(`${log}.1`)
    }
  }

  write()
  const rotateAt = new Set<number>()
  while (rotateAt.size < Math.min(rotations, kills)) rotateAt.add(Math.floor(random() * kills))
  for (let kill = 0; kill < kills; kill++) {
    const reader = startReader(data, log)
    // Now and then before it has even opened its journal.
    if (random() < 0.9) await reader.said('open')
    const until = performance.now() + random() * 150
    let rotates = rotateAt.has(kill)
    do {
      write()
      if (rotates && random() < 0.3) {
        rotates = false
        await rotate()
      }
      await wait(random() * 8)
    } while (performance.now() < until)
    const early = rotates && random() < 0.5
    if (early) await rotate()
    await reader.kill(seed, kill)
    if (rotates && !early) await rotate()
    write()
  }
  if (half !== '') appendFileSync(log, half)
  const reader = startReader(data, log)
  // The one that is said next may be of before the last write.
  await reader.said('idle')
  await reader.said('idle')
  await reader.kill(seed, kills)

  const journal = await openJournal({ dir: data, worker: 0, limits: LIMITS })
  const stored = storedPaths(journal)
  await journal.stop(new AbortController().signal)
  const times = new Uint8Array(written)
  for (const path of stored) times[Number(path.slice(1))]!++
  const missing = [...times.keys()].filter((n) => times[n] === 0)
  const doubled = [...times.keys()].filter((n) => times[n]! > 1)
  if (missing.length + doubled.length > 0) {
    throw new Error(
      `seed ${seed}: of ${written} lines ${missing.length} are missing (${missing.slice(0, 5)}), ${doubled.length} doubled (${doubled.slice(0, 5)}); rotations ${JSON.stringify(done)}`,
    )
  }
  return { seed, kills, rotations: done, lines: written, stored: stored.length }
}

const LIMITS = { segmentBytesMax: 1 << 30, segmentRowsMax: 1e9, segmentAgeMsMax: 1e9, diskBytesMax: 2 ** 33 }

function startReader(data: string, log: string) {
  const child: ChildProcess = spawn(process.execPath, [READER, data, log], { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  let errors = ''
  child.stdout!.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  const closed = once(child, 'close')
  return {
    async said(word: string): Promise<void> {
      const deadline = Date.now() + START_MS_MAX
      const from = word === 'idle' ? output.length : 0
      while (!output.slice(from).includes(`${word}\n`)) {
        if (child.exitCode !== null || Date.now() > deadline)
          throw new Error(`the reader did not say ${word}: ${errors}`)
        await wait(2)
      }
    },
    async kill(seed: number, kill: number): Promise<void> {
      const alive = child.exitCode === null
      child.kill('SIGKILL')
      await closed
      if (!alive || errors !== '') throw new Error(`seed ${seed}, kill ${kill}: the reader failed: ${errors}`)
    },
  }
}
