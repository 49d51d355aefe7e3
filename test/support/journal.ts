import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { Clock } from '../../src/lib/clock.ts'
import type { NativeBlock } from '../../src/model/batch.ts'
import type { Journal, JournalOptions } from '../../src/pipeline/journal.ts'
import { openJournal } from '../../src/pipeline/journal.ts'
import { type JournalFiles, realFiles } from '../../src/pipeline/journal-files.ts'

/** A folder that is gone after the test. */
export function temporaryFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-journal-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** Bytes that differ from every other block's, in a few buffers, as an encoder gives them. */
export function block(
  tag: string,
  options: { bytes?: number; rows?: number; node?: string; day?: number } = {},
): NativeBlock {
  const { bytes = 100, rows = 10, node = 'node-1', day = 20_000 } = options
  const text = `[${tag}]`
  const whole = Buffer.alloc(bytes)
  for (let at = 0; at < bytes; at += text.length) whole.write(text, at)
  const cut = Math.floor(bytes / 3)
  const buffers = [whole.subarray(0, cut), whole.subarray(cut, cut), whole.subarray(cut)]
  return { buffers, rows, days: new Map([[day, rows]]), nodes: new Map([[node, rows]]) }
}

export const contentOf = (given: NativeBlock): string => Buffer.concat(given.buffers).toString('latin1')

/** A clock that stands still until told otherwise. */
export class ManualClock implements Clock {
  #now: number
  #sleepers: { readonly untilMs: number; readonly wake: () => void }[] = []

  constructor(now = 1_700_000_000_000) {
    this.#now = now
  }

  now(): number {
    return this.#now
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) return Promise.resolve()
    return new Promise((resolve) => {
      this.#sleepers.push({ untilMs: this.#now + ms, wake: resolve })
      signal?.addEventListener('abort', () => resolve(), { once: true })
    })
  }

  /** Sets the wall clock without anybody's sleep ending, as an operator does. */
  set(now: number): void {
    this.#now = now
  }

  /** Lets time pass, in steps, so that loops run as often as they would. */
  async pass(ms: number, stepMs = 250): Promise<void> {
    const end = this.#now + ms
    while (this.#now < end) {
      this.#now = Math.min(end, this.#now + stepMs)
      const due = this.#sleepers.filter(({ untilMs }) => untilMs <= this.#now)
      this.#sleepers = this.#sleepers.filter(({ untilMs }) => untilMs > this.#now)
      for (const { wake } of due) wake()
      await settle()
    }
  }
}

/** Lets promises and small file operations that are under way come to an end. */
export async function settle(rounds = 4): Promise<void> {
  for (let n = 0; n < rounds; n++) await new Promise((resolve) => setImmediate(resolve))
}

export const LIMITS = {
  segmentBytesMax: 1 << 20,
  segmentRowsMax: 100_000,
  segmentAgeMsMax: 1000,
  diskBytesMax: 1 << 30,
}
const never = new AbortController().signal

/** Unit tests lose no power: waiting for the disk would only make them slow. */
export const unsyncedFiles: JournalFiles = { ...realFiles, async sync() {}, async syncDirectory() {} }

/** A journal that is stopped after the test, if the test did not stop it. */
export async function journalIn(dir: string, options: Partial<JournalOptions> = {}): Promise<Journal> {
  const journal = await openJournal({
    dir,
    worker: 0,
    limits: LIMITS,
    clock: new ManualClock(),
    files: unsyncedFiles,
    ...options,
  })
  onTestFinished(() => journal.stop(never))
  return journal
}

/** System calls that fail when they are told to. */
export class FaultyFiles implements JournalFiles {
  /** Bytes that the disk has left; writes beyond fail with ENOSPC after writing what fits. */
  room = Number.POSITIVE_INFINITY
  /** Most bytes of one write call. */
  writeMax = Number.POSITIVE_INFINITY
  /** Called before each operation; what it throws is the operation's failure. */
  before: (operation: keyof JournalFiles, path: string) => void = () => {}
  readonly calls: string[] = []
  readonly #paths = new Map<number, string>()

  open(path: string, mode: 'create' | 'reuse'): number {
    this.#enter('open', path)
    const fd = realFiles.open(path, mode)
    this.#paths.set(fd, path)
    return fd
  }

  writev(fd: number, buffers: readonly Uint8Array[], position: number): number {
    this.#enter('writev', this.#paths.get(fd)!)
    const all = Buffer.concat(buffers)
    const fits = Math.min(all.length, this.room, this.writeMax)
    if (fits === 0 && all.length > 0) throw diskFull()
    const written = realFiles.writev(fd, [all.subarray(0, fits)], position)
    this.room -= written
    return written
  }

  truncate(fd: number, bytes: number): void {
    this.#enter('truncate', this.#paths.get(fd)!)
    realFiles.truncate(fd, bytes)
  }

  close(fd: number): void {
    realFiles.close(fd)
  }

  async sync(fd: number): Promise<void> {
    this.#enter('sync', this.#paths.get(fd)!)
    await unsyncedFiles.sync(fd)
  }

  async syncDirectory(path: string): Promise<void> {
    this.#enter('syncDirectory', path)
    await unsyncedFiles.syncDirectory(path)
  }

  mkdir(path: string): void {
    this.#enter('mkdir', path)
    realFiles.mkdir(path)
  }

  rename(from: string, to: string): void {
    this.#enter('rename', from)
    realFiles.rename(from, to)
  }

  remove(path: string): void {
    this.#enter('remove', path)
    realFiles.remove(path)
  }

  async discard(path: string): Promise<void> {
    this.#enter('discard', path)
    await realFiles.discard(path)
  }

  #enter(operation: keyof JournalFiles, path: string): void {
    this.calls.push(`${operation} ${path}`)
    this.before(operation, path)
  }
}

export const diskFull = (): Error => Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' })

/** Text of each table of each sealed segment, by segment name. */
export function sealedContent(dir: string, worker = 0): Map<string, Map<string, string>> {
  const root = join(dir, String(worker))
  const segments = new Map<string, Map<string, string>>()
  for (const name of readdirSync(root)) {
    if (!/^[0-9a-z]{13}-\d+$/.test(name)) continue
    const tables = new Map<string, string>()
    for (const file of readdirSync(join(root, name))) {
      if (file.endsWith('.seg')) tables.set(file.slice(0, -4), readFileSync(join(root, name, file), 'latin1'))
    }
    segments.set(name, tables)
  }
  return segments
}

export const NEVER: AbortSignal = never
