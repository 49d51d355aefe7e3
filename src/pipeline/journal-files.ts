import fs from 'node:fs'
import { promisify } from 'node:util'

/**
 * The system calls by which the journal changes files: an argument, so that tests can make any of them fail. Writing
 * is synchronous (a block goes to the page cache in one call, and what is appended is appended); waiting for the disk
 * is not.
 */
export interface JournalFiles {
  /** Creates and empties the file, or opens one that exists to overwrite it in place. */
  open(path: string, mode: 'create' | 'reuse'): number
  /** Returns how many bytes were written: perhaps fewer than given. */
  writev(fd: number, buffers: readonly Uint8Array[], position: number): number
  truncate(fd: number, bytes: number): void
  close(fd: number): void
  /** Data, and as much metadata as is needed to read it back. */
  sync(fd: number): Promise<void>
  syncDirectory(path: string): Promise<void>
  mkdir(path: string): void
  rename(from: string, to: string): void
  /** Deletes a file or a folder with all in it; nothing there is fine. */
  remove(path: string): void
  /** The same off the event loop: the blocks of a large file take milliseconds to free. */
  discard(path: string): Promise<void>
}

const fdatasync = promisify(fs.fdatasync)
const fsync = promisify(fs.fsync)
const open = promisify(fs.open)
const close = promisify(fs.close)

export const realFiles: JournalFiles = {
  open: (path, mode) => fs.openSync(path, mode === 'create' ? 'w' : 'r+'),
  writev: (fd, buffers, position) => fs.writevSync(fd, buffers, position),
  truncate: (fd, bytes) => fs.ftruncateSync(fd, bytes),
  close: (fd) => fs.closeSync(fd),
  sync: (fd) => fdatasync(fd),
  async syncDirectory(path) {
    const fd = await open(path, 'r')
    try {
      await fsync(fd)
    } finally {
      await close(fd)
    }
  },
  mkdir: (path) => {
    fs.mkdirSync(path, { recursive: true })
  },
  rename: (from, to) => fs.renameSync(from, to),
  remove: (path) => fs.rmSync(path, { recursive: true, force: true }),
  discard: (path) => fs.promises.rm(path, { recursive: true, force: true }),
}

/** Writes all of the buffers at `position`, however many calls that takes. Throws what the last call threw. */
export function writeAll(files: JournalFiles, fd: number, buffers: readonly Uint8Array[], position: number): void {
  let rest = buffers
  let total = 0
  for (const buffer of rest) total += buffer.byteLength
  let written = files.writev(fd, rest, position)
  while (written < total) {
    // A short write: the disk is nearly full, a signal came, or the call has a limit. Go on where it stopped.
    rest = dropBytes(rest, written)
    total -= written
    position += written
    written = files.writev(fd, rest, position)
    if (written === 0) throw Object.assign(new Error('write made no progress'), { code: 'ENOSPC' })
  }
}

function dropBytes(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  const rest: Uint8Array[] = []
  let skip = count
  for (const buffer of buffers) {
    if (skip < buffer.byteLength) rest.push(skip === 0 ? buffer : buffer.subarray(skip))
    skip = Math.max(0, skip - buffer.byteLength)
  }
  return rest
}

/** Replaces a small file whole: after a crash it is the old one or the new one, never a mixture. */
export async function replaceFile(files: JournalFiles, path: string, content: string): Promise<void> {
  const temporary = `${path}.tmp`
  const fd = files.open(temporary, 'create')
  try {
    writeAll(files, fd, [Buffer.from(content)], 0)
    await files.sync(fd)
  } finally {
    files.close(fd)
  }
  files.rename(temporary, path)
  await files.syncDirectory(path.slice(0, path.lastIndexOf('/')))
}

/** Errors that mean the disk, or our share of it, is full. */
export function isDiskFull(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return code === 'ENOSPC' || code === 'EDQUOT'
}
