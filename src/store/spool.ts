import { createWriteStream } from 'node:fs'
import { type FileHandle, mkdir, open, rm, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { systemClock } from '../lib/clock.ts'
import { received } from './http-body.ts'
import { quoteText } from './settings.ts'
import type { StatementShape } from './statement.ts'

/**
 * Files between HTTP and the engine. The embedded engine has no streams that are safe to use: its streaming call plans
 * on the caller's thread, and a scalar subquery in the statement stops the event loop for as long as it runs. So data
 * to insert is written to a file that the statement reads (`FROM INFILE`), and a result is written to a file by the
 * engine (`INTO OUTFILE`) while we read it from its other end. Neither is ever held in memory.
 * Cost: 0.1 ms per statement over a result in memory; a large result is three times as fast.
 */
export class Spool {
  readonly #directory: string
  #next = 0

  constructor(directory: string) {
    this.#directory = directory
  }

  /** What an earlier process left is removed. */
  async open(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true })
    await mkdir(this.#directory, { recursive: true, mode: 0o700 })
  }

  /** A name that nothing has used. Without an extension, since the engine would compress by it. */
  newPath(): string {
    return join(this.#directory, String(this.#next++))
  }

  async remove(path: string): Promise<void> {
    await unlink(path).catch(() => undefined)
  }

  /** Writes data to insert, through the streams that lead to it. */
  async write(path: string, source: readonly [Readable, ...Transform[]] | readonly [Buffer]): Promise<void> {
    const file = createWriteStream(path, { flags: 'wx', mode: 0o600 })
    const [first, ...rest] = source
    if (Buffer.isBuffer(first)) await pipeline([[first], file])
    else await received(pipeline([first, ...rest, file]))
  }
}

/** The statement with its result going to `path`, and the format that it will be in. */
export function intoFile(
  sql: string,
  shape: StatementShape,
  path: string,
  defaultFormat: string,
): { readonly sql: string; readonly format: string } {
  const at = shape.format?.at ?? shape.end
  const format = shape.format?.name ?? defaultFormat
  const clause = `\nINTO OUTFILE ${quoteText(path)} ${shape.format === undefined ? `FORMAT ${format}` : ''}`
  return { sql: sql.slice(0, at) + clause + sql.slice(at, shape.end), format }
}

/** The INSERT with its data coming from `path`. */
export function fromFile(sql: string, data: NonNullable<StatementShape['data']>, path: string): string {
  const head = sql.slice(0, data.infileAt)
  const rest = sql.slice(data.infileAt, data.start).trimEnd()
  const clauses = data.format === 'Values' ? rest.replace(/VALUES$/i, 'FORMAT Values') : rest
  return `${head}FROM INFILE ${quoteText(path)} ${clauses}`
}

/** Size of a file that may not be there yet. */
export async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size
  } catch {
    return 0
  }
}

const CHUNK_BYTES = 256 * 1024
export const POLL_MS = 10

/** Reads a file while it is written, up to what it has when `written` fires. */
export async function* follow(path: string, written: AbortSignal): AsyncGenerator<Buffer> {
  const file = await openWhenThere(path, written)
  if (file === undefined) return
  let position = 0
  try {
    for (;;) {
      // Looked at before reading: what is there after the last write is read in full.
      const complete = written.aborted
      const more = Math.min((await file.stat()).size - position, CHUNK_BYTES)
      if (more > 0) {
        const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(more), 0, more, position)
        position += bytesRead
        yield buffer.subarray(0, bytesRead)
      } else if (complete) return
      else await systemClock.sleep(POLL_MS, written)
    }
  } finally {
    await file.close()
  }
}

async function openWhenThere(path: string, written: AbortSignal): Promise<FileHandle | undefined> {
  for (;;) {
    const complete = written.aborted
    try {
      return await open(path, 'r')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      if (complete) return undefined
    }
    await systemClock.sleep(POLL_MS, written)
  }
}
