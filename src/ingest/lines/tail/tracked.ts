import { closeSync, openSync } from 'node:fs'
import { Prefix, readPrefixRecord } from '../prefix.ts'
import type { LineReader } from '../read-line.ts'
import type { LineSource, SourcePosition } from '../source.ts'
import type { Compression } from './content.ts'
import type { Candidate } from './discover.ts'

/**
 * One log, by its content, through every name and file it has: written to, renamed, copied, compressed.
 *
 *   bound    a file is known to hold it; `dev` and `ino` say which
 *   orphan   that file is gone, or holds something else now: a copy of it may turn up
 */
export class TrackedLog {
  readonly key: string
  readonly family: string
  path: string
  dev: number
  ino: number
  compression: Compression = null
  bound = false
  /** Found in the last look at the folders. */
  seen = false
  fd: number | null = null
  /** What is stored of it, as far as it was read in an earlier run of `source`. */
  prefix: Prefix
  replayFrom: number
  source: LineSource | null = null
  reader: LineReader | null = null
  /** Monotonic ms of the last growth, and since when it is an orphan. */
  grownMs: number
  orphanMs = 0
  /** Size of the file when it was looked at last. */
  size = 0
  changedMs = 0
  /** When the file had last been changed when it was read. */
  readMs = -1
  /** Of a compressed file: what it was like when it was read; it is read again when that changes. */
  readAs = ''

  constructor(key: string, family: string, at: { path: string; dev: number; ino: number }, nowMs: number) {
    this.key = key
    this.family = family
    this.path = at.path
    this.dev = at.dev
    this.ino = at.ino
    this.prefix = new Prefix()
    this.replayFrom = -1
    this.grownMs = nowMs
  }

  bind(candidate: Candidate, compression: Compression, nowMs: number): void {
    this.path = candidate.path
    this.dev = candidate.dev
    this.ino = candidate.ino
    this.size = candidate.size
    this.changedMs = candidate.mtimeMs
    this.readMs = -1
    this.compression = compression
    this.bound = true
    this.seen = true
    this.grownMs = nowMs
    this.readAs = ''
  }

  /** The file does not hold it any longer. What was begun in memory stays behind in the file that had it. */
  orphan(nowMs: number): void {
    this.close()
    this.keep()
    this.bound = false
    this.orphanMs = nowMs
  }

  open(): number {
    this.fd ??= openSync(this.path, 'r')
    return this.fd
  }

  close(): void {
    if (this.fd !== null) closeSync(this.fd)
    this.fd = null
  }

  /** Leaves the run over its bytes: the next one begins at the position. */
  keep(): void {
    if (this.source === null) return
    const { prefix, replayFrom } = this.source.position()
    this.prefix = prefix.copy()
    this.replayFrom = replayFrom
    this.source = null
  }

  position(): Pick<SourcePosition, 'prefix' | 'replayFrom'> {
    return this.source?.position() ?? { prefix: this.prefix, replayFrom: this.replayFrom }
  }

  /** Bytes that a next run need not read. */
  get consumed(): number {
    return this.source?.consumed ?? this.prefix.bytes
  }

  /** Bytes read, whole lines or not. */
  get read(): number {
    return this.source?.read ?? (this.replayFrom >= 0 ? this.replayFrom : this.prefix.bytes)
  }

  note(): TailNote {
    const { prefix, replayFrom } = this.position()
    const { family, path, dev, ino } = this
    return { family, path, dev, ino, prefix: prefix.record(), replayFrom }
  }

  static fromNote(key: string, value: unknown, nowMs: number): TrackedLog | null {
    if (typeof value !== 'object' || value === null) return null
    const { family, path, dev, ino, prefix, replayFrom } = value as Record<string, unknown>
    const record = readPrefixRecord(prefix)
    if (record === null || typeof family !== 'string' || typeof path !== 'string') return null
    if (typeof dev !== 'number' || typeof ino !== 'number' || typeof replayFrom !== 'number') return null
    const log = new TrackedLog(key, family, { path, dev, ino }, nowMs)
    log.prefix = Prefix.from(record)
    log.replayFrom = replayFrom
    return log
  }
}

/** What is noted in the journal with the rows. */
export interface TailNote {
  readonly family: string
  readonly path: string
  readonly dev: number
  readonly ino: number
  readonly prefix: ReturnType<Prefix['record']>
  readonly replayFrom: number
}
