import { randomUUID } from 'node:crypto'
import { closeSync, fstatSync } from 'node:fs'
import { matchesGlob } from 'node:path'
import type { Clock } from '../../../lib/clock.ts'
import type { Note } from '../../../pipeline/journal-format.ts'
import type { Fields } from '../../../telemetry/log.ts'
import { Prefix } from '../prefix.ts'
import { beginAlike, contentOf, type Head, type Likeness, likeness, openSeen, readHead } from './content.ts'
import { type Candidate, discover } from './discover.ts'
import { TrackedLog } from './tracked.ts'
import type { FilesCounters, FilesGroup, FilesLimits } from './types.ts'

export interface FinderOptions {
  readonly groups: readonly FilesGroup[]
  readonly limits: FilesLimits
  readonly counters: FilesCounters
  /** Of earlier runs; key and value of each note of ours. */
  readonly notes: Iterable<Note>
  readonly forget: (key: string) => void
  readonly onForgotten: (log: TrackedLog) => void
  /** A log was gone through to its end without reading lines. */
  readonly onSkipped: (log: TrackedLog) => void
  readonly complain: (key: string, fields: Fields, message: string) => void
  readonly clock: Clock
  /** Monotonic, ms. */
  readonly tick: () => number
  readonly signal: AbortSignal
}

export const NOTE_PREFIX = 'file/'

/**
 * Which file holds which log. Looks at the folders again and again; a file that is not known is placed by its content: it
 * holds a log whose file is gone or holds something else by now, or a copy of one that is there, or a new one.
 */
export class LogFinder {
  readonly logs = new Set<TrackedLog>()
  readonly groupOf = new Map<TrackedLog, FilesGroup>()
  readonly #options: FinderOptions
  /** Paths that hold a copy of something that is read elsewhere, and what they were like then. */
  #copies = new Map<string, string>()
  /** Grows whenever a log finds or loses a file: then copies are looked at again. */
  #changes = 0
  #firstLook = true
  readonly #known: boolean

  constructor(options: FinderOptions) {
    this.#options = options
    for (const [key, value] of options.notes) {
      const log = TrackedLog.fromNote(key, value, options.tick())
      if (log === null) options.forget(key)
      else this.logs.add(log)
    }
    this.#known = this.logs.size > 0
  }

  async look(): Promise<void> {
    for (const log of this.logs) log.seen = false
    this.#options.counters.over = 0
    const copies = new Map<string, string>()
    for (const group of this.#options.groups) await this.#lookAt(group, copies)
    this.#copies = copies
    this.#options.counters.copies = copies.size
    for (const log of [...this.logs]) if (!log.seen) this.#missing(log)
    this.#firstLook = false
    this.#closeIdle()
  }

  async #lookAt(group: FilesGroup, copies: Map<string, string>): Promise<void> {
    const { filesMax } = this.#options.limits
    const families = new Set<string>()
    for (const log of this.logs) {
      const owner = this.groupOf.get(log)
      if (owner === group || owner === undefined) families.add(log.family)
    }
    const ours = this.#ownFamilies(group, families)
    const { files, over } = await discover({ ...group, filesMax, families: ours })
    this.#options.counters.over += over
    if (over > 0)
      this.#options.complain('over', { over, filesMax, paths: group.paths }, 'there are more files than are followed')
    const unknown: Candidate[] = []
    const byInode = new Map<string, TrackedLog[]>()
    for (const log of this.logs) {
      const key = `${log.dev}:${log.ino}`
      const there = byInode.get(key)
      if (there === undefined) byInode.set(key, [log])
      else there.push(log)
    }
    for (const candidate of files) {
      const held = byInode.get(`${candidate.dev}:${candidate.ino}`) ?? []
      const bound = held.find((log) => log.bound)
      if (bound !== undefined) {
        // A second name of the same file is the same file.
        if (!bound.seen || candidate.path === bound.family) bound.path = candidate.path
        bound.seen = true
        bound.size = candidate.size
        bound.changedMs = candidate.mtimeMs
        this.groupOf.set(bound, group)
        if (bound.compression === null && candidate.size < bound.consumed) this.emptied(bound, candidate, group)
      } else unknown.push(candidate)
    }
    for (const candidate of unknown) {
      if (this.#options.signal.aborted) return
      await this.#identify(candidate, group, copies)
    }
  }

  /** Of families found in notes, those that this group's patterns can mean. */
  #ownFamilies(group: FilesGroup, families: Iterable<string>): string[] {
    return [...families].filter((family) =>
      group.paths.some((pattern) => pattern === family || matchesGlob(family, pattern)),
    )
  }

  async #identify(candidate: Candidate, group: FilesGroup, copies: Map<string, string>): Promise<void> {
    if (candidate.size === 0) return
    const { dev, ino, size, mtimeMs } = candidate
    // Found under another name a moment ago.
    for (const log of this.logs) if (log.bound && log.ino === ino && log.dev === dev) return
    const looks = `${ino} ${size} ${mtimeMs} ${this.#changes}`
    if (this.#copies.get(candidate.path) === looks) {
      copies.set(candidate.path, looks)
      return
    }
    const fd = openSeen(candidate)
    if (fd === null) {
      // Renamed a moment ago, most often: the next look finds it.
      this.#options.counters.failed++
      return
    }
    try {
      const head = await readHead(fd)
      if (head.bytes.length > 0) await this.#place(candidate, group, copies, looks, fd, head)
    } finally {
      closeSync(fd)
    }
  }

  /** Finds the log whose content this is, or begins a new one. */
  async #place(
    candidate: Candidate,
    group: FilesGroup,
    copies: Map<string, string>,
    looks: string,
    fd: number,
    head: Head,
  ): Promise<void> {
    let best: TrackedLog | null = null
    let unsure = false
    for (const log of this.logs) {
      if (log.family !== candidate.family) continue
      const like = await this.#compare(log, fd, head)
      if (like === 'other') continue
      if (like === 'unsure') unsure = true
      else if (log.bound && candidate.size > log.size && head.compression === null && log.compression === null) {
        // What was read until now was the copy: this one goes on.
        this.#changes++
        log.orphan(this.#options.tick())
        log.bind(candidate, null, this.#options.tick())
        return
      } else if (log.bound || like === 'part') {
        // The same content in a file that is still there: a copy, perhaps not a whole one yet.
        copies.set(candidate.path, looks)
        if (log.bound) return
      } else if (best === null || log.prefix.bytes > best.prefix.bytes) best = log
    }
    const nowMs = this.#options.tick()
    if (best !== null) {
      copies.delete(candidate.path)
      if (best.path !== candidate.path) this.#options.counters.followed++
      this.#changes++
      best.bind(candidate, head.compression, nowMs)
      this.groupOf.set(best, group)
      return
    }
    if (copies.has(candidate.path)) return
    // Too short to tell from another: it grows, or it stays as it is and is one of its own.
    if (unsure && this.#options.clock.now() - candidate.mtimeMs < UNSURE_MS) return
    const log = this.#begin(candidate, group)
    log.bind(candidate, head.compression, nowMs)
    if (this.#firstLook && !this.#known && group.start === 'end') await this.#skip(log)
  }

  async #compare(log: TrackedLog, fd: number, head: Head): Promise<Likeness> {
    const { prefix } = log.position()
    if (!log.bound && prefix.bytes === 0) return 'other'
    const like = likeness(prefix, fd, head)
    if (like !== 'unsure' || !log.bound) return like
    // Nothing was read of it yet, or not enough: but there is its file.
    const own = log.fd ?? openSeen(log)
    if (own === null) return 'unsure'
    try {
      return beginAlike((await readHead(own)).bytes, head.bytes)
    } finally {
      if (own !== log.fd) closeSync(own)
    }
  }

  #begin(candidate: Candidate, group: FilesGroup): TrackedLog {
    this.#changes++
    const log = new TrackedLog(`${NOTE_PREFIX}${randomUUID()}`, candidate.family, candidate, this.#options.tick())
    this.logs.add(log)
    this.groupOf.set(log, group)
    return log
  }

  /** A file that holds less than was read of it, or something else: its log lives on in a copy, if anywhere. */
  emptied(log: TrackedLog, candidate: Candidate, group: FilesGroup): void {
    this.#options.counters.truncated++
    log.orphan(this.#options.tick())
    log.dev = -1
    log.ino = -1
    const next = this.#begin(candidate, group)
    next.bind(candidate, null, this.#options.tick())
  }

  #missing(log: TrackedLog): void {
    const nowMs = this.#options.tick()
    if (log.bound) {
      // While it is open it can be read to its end, whatever became of its name.
      if (log.fd !== null && nowMs - log.grownMs < (isGone(log.fd) ? GONE_MS : this.#options.limits.finalMs)) return
      this.#options.counters.vanished++
      this.#changes++
      log.orphan(nowMs)
      return
    }
    if (log.orphanMs === 0) log.orphanMs = nowMs
    if (nowMs - log.orphanMs < this.#options.limits.forgetMs) return
    this.logs.delete(log)
    this.groupOf.delete(log)
    this.#options.onForgotten(log)
  }

  #closeIdle(): void {
    const open = [...this.logs].filter(({ fd }) => fd !== null)
    open.sort((a, b) => a.grownMs - b.grownMs)
    for (const log of open.slice(0, Math.max(0, open.length - this.#options.limits.openMax))) log.close()
  }

  /** It began like a log that was read, and is not its copy. */
  other(log: TrackedLog): boolean {
    const { path, family, dev, ino, size, compression } = log
    const group = this.groupOf.get(log)!
    log.orphan(this.#options.tick())
    log.dev = -1
    log.ino = -1
    const candidate = { path, family, dev, ino, size, mtimeMs: 0 }
    this.#begin(candidate, group).bind(candidate, compression, this.#options.tick())
    return true
  }

  /** Goes to the end of the last line without reading lines. */
  async #skip(log: TrackedLog): Promise<void> {
    if (log.compression !== null) {
      log.readAs = `${log.size}`
      return
    }
    const prefix = new Prefix()
    let rest: Buffer = Buffer.alloc(0)
    for await (const piece of contentOf(log.open(), null)) {
      const bytes = Buffer.concat([rest, piece as Buffer])
      const behind = bytes.lastIndexOf(10) + 1
      prefix.advance(bytes.subarray(0, behind))
      rest = bytes.subarray(behind)
    }
    log.prefix = prefix
    this.#options.onSkipped(log)
  }
}

export function isGone(fd: number): boolean {
  try {
    return fstatSync(fd).nlink === 0
  } catch {
    return true
  }
}

const UNSURE_MS = 5000
/** A deleted file is let go when nothing was added for this long. */
export const GONE_MS = 10_000
