import { randomUUID } from 'node:crypto'
import { closeSync, fstatSync, read as readCallback } from 'node:fs'
import { matchesGlob } from 'node:path'
import { promisify } from 'node:util'
import type { Clock } from '../../lib/clock.ts'
import type { Note } from '../../pipeline/journal-format.ts'
import type { LaneGate, NoteSource } from '../../pipeline/lane.ts'
import type { Stage } from '../../pipeline/sink.ts'
import type { Fields, Log } from '../../telemetry/log.ts'
import type { EntryWriter } from '../entry/entry.ts'
import type { Origins, Sender } from '../entry/origins.ts'
import { createGateWait } from './gate.ts'
import type { LineParser } from './parser.ts'
import { Prefix } from './prefix.ts'
import { createLineReader } from './read-line.ts'
import { createRejectedLines, type RejectedLines } from './rejected-lines.ts'
import { LineSource } from './source.ts'
import { lineSplitter } from './split.ts'
import {
  beginAlike,
  contentOf,
  type Head,
  type Likeness,
  likeness,
  openSeen,
  readHead,
  stillThere,
} from './tail/content.ts'
import { type Candidate, discover } from './tail/discover.ts'
import { TrackedLog } from './tail/tracked.ts'
import { createUnwrapper, hintsOfPath } from './unwrap/index.ts'

/**
 * Reads log files as they are written, through every rotation.
 *
 * A log is known by its content: the length and checksum of what was read of it (`prefix.ts`). So it is the same log after it
 * was renamed, copied and emptied (copytruncate) or compressed, and another one when a file was written anew or an inode
 * number was given out again. The position is noted in the journal in one record with the rows, so that after a kill at any
 * moment every line is stored exactly once.
 *
 *   look at the folders (1 s) ─► which file holds which log ─► read what is new, a turn for each (250 ms) ─► writer ─► lane
 *
 * A line counts when its end has come. The rest of a file that nobody writes to any longer is a line as well.
 */
export interface FilesReceiver extends Stage {
  readonly counters: Readonly<FilesCounters>
  /** Lines refused lately. */
  readonly rejected: RejectedLines
  /** Logs that are followed: path, and bytes that are not read yet. */
  logs(): { readonly path: string; readonly position: number; readonly behind: number }[]
  /** Resolves when everything that is in the files now has gone to the writer. For tests and for `stop`. */
  idle(): Promise<void>
}

export interface FilesGroup {
  readonly paths: readonly string[]
  readonly exclude: readonly string[]
  readonly rotated: boolean
  /** Where a log begins that is there at the very first start: its begin, or its end. */
  readonly start: 'beginning' | 'end'
  /** A new one for each file: some remember the form of the last line. */
  readonly parser: () => LineParser
  readonly sender: Omit<Sender, 'source' | 'precisionNs'>
}

export interface FilesOptions {
  readonly groups: readonly FilesGroup[]
  /** Not shared with others: a position is exact only when nobody else's entries are between. */
  readonly writer: EntryWriter
  readonly origins: Origins
  readonly gate: LaneGate
  /** The lane's. */
  readonly addNoteSource: (source: NoteSource) => () => void
  /** The journal's. */
  readonly notes: (prefix: string) => Iterable<Note>
  readonly forget: (key: string) => void
  readonly onRejected?: (nodeId: string, lines: number) => void
  readonly clock: Clock
  readonly log: Log
  readonly limits?: Partial<FilesLimits>
  /** Monotonic, ms. */
  readonly tick?: () => number
}

export interface FilesLimits {
  readonly lineBytesMax: number
  /** Files of one group; of more, those that were written to last. */
  readonly filesMax: number
  /** Kept open between turns. */
  readonly openMax: number
  readonly pollMs: number
  readonly scanMs: number
  /** The last line of a rotated file counts without its end when nothing was added for this long. */
  readonly finalMs: number
  /** A log whose file is gone is forgotten when no copy of it turned up for this long. */
  readonly forgetMs: number
}

export interface FilesCounters {
  lines: number
  bytes: number
  rows: number
  readonly rejected: Map<string, number>
  /** Logs that began anew in a file: emptied, or written over. */
  truncated: number
  /** Logs found again in another file, by their content. */
  followed: number
  /** Files that hold what another one holds. */
  copies: number
  /** Logs of which no file is left. What was not read of them is not known. */
  vanished: number
  /** Files beyond `filesMax`, in the last look. */
  over: number
  /** Compressed files that are damaged or not complete. */
  damaged: number
  /** Files that could not be read. */
  failed: number
}

const LIMITS: FilesLimits = {
  lineBytesMax: 1 << 20,
  filesMax: 4096,
  openMax: 512,
  pollMs: 250,
  scanMs: 1000,
  finalMs: 60_000,
  forgetMs: 3_600_000,
}
const CHUNK_BYTES = 256 << 10
/** Chunks of one log before the others get their turn. */
const TURN_CHUNKS = 8
const NOTE_PREFIX = 'file/'
const read = promisify(readCallback)

export function createFilesReceiver(options: FilesOptions): FilesReceiver {
  return new Tail(options)
}

class Tail implements FilesReceiver {
  readonly name = 'files'
  readonly counters: FilesCounters = {
    lines: 0,
    bytes: 0,
    rows: 0,
    rejected: new Map(),
    truncated: 0,
    followed: 0,
    copies: 0,
    vanished: 0,
    over: 0,
    damaged: 0,
    failed: 0,
  }
  readonly rejected = createRejectedLines()
  readonly #options: FilesOptions
  readonly #limits: FilesLimits
  readonly #tick: () => number
  readonly #logs = new Set<TrackedLog>()
  readonly #groupOf = new Map<TrackedLog, FilesGroup>()
  /** Rows of these may be in the builders. */
  readonly #dirty = new Set<TrackedLog>()
  /** The log whose chunk is on its way into the builders. */
  #active: TrackedLog | null = null
  /** Paths that hold a copy of something that is read elsewhere. */
  #copies = new Map<string, string>()
  /** Grows whenever a log finds or loses a file: then copies are looked at again. */
  #changes = 0
  readonly #buffer = Buffer.allocUnsafe(CHUNK_BYTES)
  readonly #stopping = new AbortController()
  readonly #gateOpen: (signal: AbortSignal) => Promise<void>
  #running: Promise<void> | null = null
  #firstLook = true
  #known: boolean
  /** Looks and rounds that found nothing to do. */
  #quiet = 0
  #waiters: { readonly quiet: number; readonly wake: () => void }[] = []
  readonly #complained = new Set<string>()

  constructor(options: FilesOptions) {
    this.#options = options
    this.#limits = { ...LIMITS, ...options.limits }
    this.#tick = options.tick ?? (() => performance.now())
    this.#gateOpen = createGateWait(options.gate)
    for (const [key, value] of options.notes(NOTE_PREFIX)) {
      const log = TrackedLog.fromNote(key, value, this.#tick())
      if (log === null) options.forget(key)
      else this.#logs.add(log)
    }
    this.#known = this.#logs.size > 0
  }

  async start(): Promise<void> {
    if (this.#options.groups.length === 0) return
    this.#options.addNoteSource({
      notes: () => this.#notes(),
      noted: () => this.#dirty.clear(),
    })
    this.#running = this.#run()
  }

  /** Ends after the chunk under way. The lane, which stops later, journals what it brought, with its position. */
  async stop(_deadline: AbortSignal): Promise<void> {
    this.#stopping.abort()
    await this.#running
    for (const log of this.#logs) log.close()
  }

  logs(): ReturnType<FilesReceiver['logs']> {
    return [...this.#logs]
      .filter(({ bound, compression }) => bound && compression === null)
      .map((log) => ({ path: log.path, position: log.consumed, behind: Math.max(0, log.size - log.consumed) }))
  }

  async idle(): Promise<void> {
    // A look or a round may be half done: the two after it are whole.
    const quiet = this.#quiet + 2
    await new Promise<void>((resolve) => this.#waiters.push({ quiet, wake: resolve }))
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    const { pollMs, scanMs } = this.#limits
    let scanAt = Number.NEGATIVE_INFINITY
    while (!signal.aborted) {
      let looked = false
      if (this.#tick() >= scanAt) {
        await this.#guard('looking at the folders', () => this.#look())
        looked = true
        scanAt = this.#tick() + scanMs
      }
      let busy = false
      for (const log of [...this.#logs]) {
        if (signal.aborted) break
        await this.#gateOpen(signal)
        if (!signal.aborted) busy = (await this.#turn(log)) || busy
      }
      if (looked && !busy) this.#wake()
      if (!busy) await this.#options.clock.sleep(pollMs, signal)
    }
    this.#wake(true)
  }

  #wake(all = false): void {
    this.#quiet++
    const due = this.#waiters.filter(({ quiet }) => all || quiet <= this.#quiet)
    this.#waiters = this.#waiters.filter((waiter) => !due.includes(waiter))
    for (const { wake } of due) wake()
  }

  // Which file holds which log.

  async #look(): Promise<void> {
    for (const log of this.#logs) log.seen = false
    this.counters.over = 0
    const copies = new Map<string, string>()
    for (const group of this.#options.groups) await this.#lookAt(group, copies)
    this.#copies = copies
    this.counters.copies = copies.size
    for (const log of [...this.#logs]) if (!log.seen) this.#missing(log)
    this.#firstLook = false
    this.#closeIdle()
  }

  async #lookAt(group: FilesGroup, copies: Map<string, string>): Promise<void> {
    const { filesMax } = this.#limits
    const families = new Set<string>()
    for (const log of this.#logs) {
      const owner = this.#groupOf.get(log)
      if (owner === group || owner === undefined) families.add(log.family)
    }
    const ours = this.#ownFamilies(group, families)
    const { files, over } = await discover({ ...group, filesMax, families: ours })
    this.counters.over += over
    if (over > 0)
      this.#complain('over', { over, filesMax, paths: group.paths }, 'there are more files than are followed')
    const unknown: Candidate[] = []
    const byInode = new Map<string, TrackedLog[]>()
    for (const log of this.#logs) {
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
        this.#groupOf.set(bound, group)
        if (bound.compression === null && candidate.size < bound.consumed) this.#emptied(bound, candidate, group)
      } else unknown.push(candidate)
    }
    for (const candidate of unknown) {
      if (this.#stopping.signal.aborted) return
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
    for (const log of this.#logs) if (log.bound && log.ino === ino && log.dev === dev) return
    const looks = `${ino} ${size} ${mtimeMs} ${this.#changes}`
    if (this.#copies.get(candidate.path) === looks) {
      copies.set(candidate.path, looks)
      return
    }
    const fd = openSeen(candidate)
    if (fd === null) {
      // Renamed a moment ago, most often: the next look finds it.
      this.counters.failed++
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
    for (const log of this.#logs) {
      if (log.family !== candidate.family) continue
      const like = await this.#compare(log, fd, head)
      if (like === 'other') continue
      if (like === 'unsure') unsure = true
      else if (log.bound && candidate.size > log.size && head.compression === null && log.compression === null) {
        // What was read until now was the copy: this one goes on.
        this.#changes++
        log.orphan(this.#tick())
        log.bind(candidate, null, this.#tick())
        return
      } else if (log.bound || like === 'part') {
        // The same content in a file that is still there: a copy, perhaps not a whole one yet.
        copies.set(candidate.path, looks)
        if (log.bound) return
      } else if (best === null || log.prefix.bytes > best.prefix.bytes) best = log
    }
    const nowMs = this.#tick()
    if (best !== null) {
      copies.delete(candidate.path)
      if (best.path !== candidate.path) this.counters.followed++
      this.#changes++
      best.bind(candidate, head.compression, nowMs)
      this.#groupOf.set(best, group)
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
    const log = new TrackedLog(`${NOTE_PREFIX}${randomUUID()}`, candidate.family, candidate, this.#tick())
    this.#logs.add(log)
    this.#groupOf.set(log, group)
    return log
  }

  /** A file that holds less than was read of it, or something else: its log lives on in a copy, if anywhere. */
  #emptied(log: TrackedLog, candidate: Candidate, group: FilesGroup): void {
    this.counters.truncated++
    log.orphan(this.#tick())
    log.dev = -1
    log.ino = -1
    const next = this.#begin(candidate, group)
    next.bind(candidate, null, this.#tick())
  }

  #missing(log: TrackedLog): void {
    const nowMs = this.#tick()
    if (log.bound) {
      // While it is open it can be read to its end, whatever became of its name.
      if (log.fd !== null && nowMs - log.grownMs < (this.#isGone(log.fd) ? GONE_MS : this.#limits.finalMs)) return
      this.counters.vanished++
      this.#changes++
      log.orphan(nowMs)
      return
    }
    if (log.orphanMs === 0) log.orphanMs = nowMs
    if (nowMs - log.orphanMs < this.#limits.forgetMs) return
    this.#logs.delete(log)
    this.#groupOf.delete(log)
    this.#dirty.delete(log)
    this.#options.forget(log.key)
  }

  #isGone(fd: number): boolean {
    try {
      return fstatSync(fd).nlink === 0
    } catch {
      return true
    }
  }

  #closeIdle(): void {
    const open = [...this.#logs].filter(({ fd }) => fd !== null)
    open.sort((a, b) => a.grownMs - b.grownMs)
    for (const log of open.slice(0, Math.max(0, open.length - this.#limits.openMax))) log.close()
  }

  // Reading.

  /** Reads what is new in one log, up to a bound. True: there may be more. */
  async #turn(log: TrackedLog): Promise<boolean> {
    if (!log.bound) return false
    try {
      return log.compression === null ? await this.#readOn(log) : await this.#readCompressed(log)
    } catch (error) {
      this.counters.failed++
      this.#complain(`read ${log.path}`, { file: log.path, error }, 'a file cannot be read')
      log.close()
      return false
    }
  }

  async #readOn(log: TrackedLog): Promise<boolean> {
    // The look at the folders has seen the size of what is not open.
    if (log.fd === null && log.size <= log.read && log.changedMs === log.readMs) return this.#finish(log)
    const fd = log.open()
    const stat = fstatSync(fd)
    // Between the look and now the name may have come to mean another file.
    if (stat.ino !== log.ino || stat.dev !== log.dev) {
      log.close()
      return false
    }
    log.size = stat.size
    log.changedMs = stat.mtimeMs
    if (stat.size === log.read && stat.mtimeMs === log.readMs) return this.#finish(log)
    if (stat.size < log.consumed || !stillThere(fd, log.position().prefix)) {
      const { path, family, dev, ino } = log
      this.#emptied(log, { path, family, dev, ino, size: stat.size, mtimeMs: stat.mtimeMs }, this.#groupOf.get(log)!)
      return stat.size > 0
    }
    log.readMs = stat.mtimeMs
    // Emptied within the line that has no end yet.
    if (stat.size < log.read) log.keep()
    const source = this.#sourceOf(log)
    for (let n = 0; n < TURN_CHUNKS; n++) {
      const { bytesRead } = await read(fd, this.#buffer, 0, CHUNK_BYTES, source.read)
      if (bytesRead === 0) break
      log.grownMs = this.#tick()
      if (!(await this.#give(log, source, this.#buffer.subarray(0, bytesRead)))) return false
      if (bytesRead < CHUNK_BYTES) break
    }
    // A long begin of a line is read again rather than kept, for as many files as there may be.
    const more = source.read < fstatSync(fd).size
    if (!more && source.heldBytes > KEPT_BYTES) log.keep()
    return more
  }

  /** The last line of a file that rotation has put away needs no end. True: it was one. */
  async #finish(log: TrackedLog): Promise<boolean> {
    const { source } = log
    if (source === null || source.heldBytes === 0) return false
    const gone = log.fd !== null && this.#isGone(log.fd)
    if (log.path === log.family && !gone) return false
    const waitMs = gone ? GONE_MS / 2 : this.#limits.finalMs
    if (this.#tick() - log.grownMs < waitMs) return false
    await this.#give(log, source, null)
    return true
  }

  async #readCompressed(log: TrackedLog): Promise<boolean> {
    const stat = `${log.size}`
    if (log.readAs === stat) return false
    log.readAs = stat
    log.keep()
    const { signal } = this.#stopping
    const known = log.position().prefix.copy()
    const source = this.#sourceOf(log)
    // What is stored is compared on the way: the file may begin alike and be another one.
    const seen = new Prefix()
    let offset = 0
    const fd = openSeen(log)
    if (fd === null) {
      log.readAs = ''
      return false
    }
    const content = contentOf(fd, log.compression)
    try {
      for await (const piece of content) {
        const chunk = piece as Buffer
        if (signal.aborted) return false
        if (seen.bytes < known.bytes) {
          seen.advance(chunk.subarray(0, known.bytes - seen.bytes))
          if (seen.bytes === known.bytes && seen.crc !== known.crc) return this.#other(log)
        }
        // What is stored is stepped over, but for the begin of lines that have not ended.
        const from = source.read - offset
        offset += chunk.length
        if (from >= chunk.length) continue
        if (!(await this.#give(log, source, chunk.subarray(from)))) return false
      }
      if (seen.bytes < known.bytes) return false
      await this.#give(log, source, null)
    } catch (error) {
      // Not complete yet, or damaged: what came whole is stored, and a change of the file brings it here again.
      this.counters.damaged++
      this.#complain(`damaged ${log.path}`, { file: log.path, error }, 'a compressed file is damaged or not complete')
    } finally {
      content.destroy()
      closeSync(fd)
    }
    log.keep()
    return false
  }

  /** It began like a log that was read, and is not its copy. */
  #other(log: TrackedLog): boolean {
    const { path, family, dev, ino, size, compression } = log
    const group = this.#groupOf.get(log)!
    log.orphan(this.#tick())
    log.dev = -1
    log.ino = -1
    const candidate = { path, family, dev, ino, size, mtimeMs: 0 }
    this.#begin(candidate, group).bind(candidate, compression, this.#tick())
    return true
  }

  /**
   * Gives bytes to the writer, or the end of them (null), and waits until every entry in them has found room. False:
   * stopping. Rows may be journaled at any moment in between, so the log is dirty all the while.
   */
  async #give(log: TrackedLog, source: LineSource, bytes: Buffer | null): Promise<boolean> {
    const { signal } = this.#stopping
    this.#active = log
    if (bytes === null) source.end()
    else source.push(bytes)
    while (!source.settled && !signal.aborted) {
      await this.#gateOpen(signal)
      if (!signal.aborted) source.settle()
    }
    // Rows may be in the builders still, also after the last round of notes.
    this.#dirty.add(log)
    if (source.settled) this.#active = null
    return source.settled
  }

  #notes(): Note[] {
    const logs = new Set(this.#dirty)
    if (this.#active !== null) logs.add(this.#active)
    return [...logs].map((log) => [log.key, log.note()] as const)
  }

  #sourceOf(log: TrackedLog): LineSource {
    if (log.source !== null) return log.source
    const group = this.#groupOf.get(log)!
    const { writer, origins, onRejected } = this.#options
    const { counters } = this
    if (log.reader === null || log.replayFrom >= 0) {
      const hints = hintsOfPath(log.family)
      const unwrapper = createUnwrapper({ ...(hints === null ? {} : { hints }), charsMax: this.#limits.lineBytesMax })
      log.reader = createLineReader({ parser: group.parser(), unwrapper, writer, origins, sender: group.sender })
    }
    log.source = new LineSource({
      reader: log.reader,
      writer,
      splitter: lineSplitter,
      entryBytesMax: this.#limits.lineBytesMax,
      prefix: log.prefix,
      ...(log.replayFrom >= 0 ? { from: log.replayFrom } : {}),
      onReject: (reason, _number, end, text) => {
        counters.rejected.set(reason, (counters.rejected.get(reason) ?? 0) + 1)
        if (reason !== 'not_an_entry') onRejected?.(group.sender.nodeId ?? '', 1)
        this.rejected.add({ reason, source: log.path, position: end, text, timeMs: this.#options.clock.now() })
      },
      onChunk: (lines, bytes, rows) => {
        counters.lines += lines
        counters.bytes += bytes
        counters.rows += rows
      },
    })
    return log.source
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
    this.#dirty.add(log)
  }

  async #guard(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      this.counters.failed++
      this.#complain(what, { error }, `${what} failed; trying again`)
    }
  }

  /** Once for each trouble. */
  #complain(key: string, fields: Fields, message: string): void {
    if (this.#complained.has(key)) return
    if (this.#complained.size > COMPLAINTS_MAX) this.#complained.clear()
    this.#complained.add(key)
    this.#options.log.warn(fields, message)
  }
}

const UNSURE_MS = 5000
/** A deleted file is let go when nothing was added for this long. */
const GONE_MS = 10_000
const KEPT_BYTES = 65_536
const COMPLAINTS_MAX = 1000
