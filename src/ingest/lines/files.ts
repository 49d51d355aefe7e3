import { closeSync, fstatSync, read as readCallback } from 'node:fs'
import { promisify } from 'node:util'
import type { Clock } from '../../lib/clock.ts'
import type { Note } from '../../pipeline/journal-format.ts'
import type { LaneGate, NoteSource } from '../../pipeline/lane.ts'
import type { Stage } from '../../pipeline/sink.ts'
import type { Fields, Log } from '../../telemetry/log.ts'
import type { EntryWriter } from '../entry/entry.ts'
import type { Origins } from '../entry/origins.ts'
import { createGateWait } from './gate.ts'
import { Prefix } from './prefix.ts'
import { createLineReader } from './read-line.ts'
import { createRejectedLines, type RejectedLines } from './rejected-lines.ts'
import { LineSource } from './source.ts'
import { lineSplitter } from './split.ts'
import { contentOf, openSeen, stillThere } from './tail/content.ts'
import { GONE_MS, isGone, LogFinder, NOTE_PREFIX } from './tail/finder.ts'
import type { TrackedLog } from './tail/tracked.ts'
import type { FilesCounters, FilesGroup, FilesLimits } from './tail/types.ts'
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
    lastMs: 0,
  }
  readonly rejected = createRejectedLines()
  readonly #options: FilesOptions
  readonly #limits: FilesLimits
  readonly #tick: () => number
  readonly #finder: LogFinder
  /** Rows of these may be in the builders. */
  readonly #dirty = new Set<TrackedLog>()
  /** The log whose chunk is on its way into the builders. */
  #active: TrackedLog | null = null
  readonly #buffer = Buffer.allocUnsafe(CHUNK_BYTES)
  readonly #stopping = new AbortController()
  readonly #gateOpen: (signal: AbortSignal) => Promise<void>
  #running: Promise<void> | null = null
  /** Looks and rounds that found nothing to do. */
  #quiet = 0
  #waiters: { readonly quiet: number; readonly wake: () => void }[] = []
  readonly #complained = new Set<string>()

  constructor(options: FilesOptions) {
    this.#options = options
    this.#limits = { ...LIMITS, ...options.limits }
    this.#tick = options.tick ?? (() => performance.now())
    this.#gateOpen = createGateWait(options.gate)
    this.#finder = new LogFinder({
      groups: options.groups,
      limits: this.#limits,
      counters: this.counters,
      notes: options.notes(NOTE_PREFIX),
      forget: options.forget,
      onForgotten: (log) => this.#dirty.delete(log),
      onSkipped: (log) => this.#dirty.add(log),
      complain: (key, fields, message) => this.#complain(key, fields, message),
      clock: options.clock,
      tick: this.#tick,
      signal: this.#stopping.signal,
    })
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
    for (const log of this.#finder.logs) log.close()
  }

  logs(): ReturnType<FilesReceiver['logs']> {
    return [...this.#finder.logs]
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
        await this.#guard('looking at the folders', () => this.#finder.look())
        looked = true
        scanAt = this.#tick() + scanMs
      }
      let busy = false
      for (const log of [...this.#finder.logs]) {
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
      this.#finder.emptied(
        log,
        { path, family, dev, ino, size: stat.size, mtimeMs: stat.mtimeMs },
        this.#finder.groupOf.get(log)!,
      )
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
    const gone = log.fd !== null && isGone(log.fd)
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
          if (seen.bytes === known.bytes && seen.crc !== known.crc) return this.#finder.other(log)
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
    const group = this.#finder.groupOf.get(log)!
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
        if (rows > 0) counters.lastMs = this.#options.clock.now()
      },
    })
    return log.source
  }

  /** Once for each trouble. */
  #complain(key: string, fields: Fields, message: string): void {
    if (this.#complained.has(key)) return
    if (this.#complained.size > COMPLAINTS_MAX) this.#complained.clear()
    this.#complained.add(key)
    this.#options.log.warn(fields, message)
  }

  async #guard(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      this.counters.failed++
      this.#complain(what, { error }, `${what} failed; trying again`)
    }
  }
}

const KEPT_BYTES = 65_536
const COMPLAINTS_MAX = 1000
