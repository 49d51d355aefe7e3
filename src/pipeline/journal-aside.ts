import { linkSync, readdirSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { JournalFiles } from './journal-files.ts'
import type { Segment } from './segment.ts'

/**
 * Folders for people to look into: `quarantine/<segment>` has what was damaged, `dead-letter/<sink>/<segment>` what a
 * sink refused for good. Neither is read again by itself (`journal-replay.ts` asks for it); both are bounded, and the
 * oldest goes first.
 */

/** Bytes of all files below a folder; 0 when it is not there. */
export function folderBytes(dir: string): number {
  let total = 0
  for (const path of filesBelow(dir)) total += sizeOf(path)
  return total
}

/** Deletes the oldest folders directly below `dir` until the rest fits. Returns the names of what went. */
export function pruneOldest(dir: string, bytesMax: number, files: JournalFiles): string[] {
  const folders = list(dir)
    .map((name) => join(dir, name))
    .map((path) => ({ path, bytes: folderBytes(path), changedMs: changedMs(path) }))
    .sort((a, b) => a.changedMs - b.changedMs)
  let total = folders.reduce((sum, { bytes }) => sum + bytes, 0)
  const gone: string[] = []
  for (const { path, bytes } of folders) {
    if (total <= bytesMax) break
    files.remove(path)
    total -= bytes
    gone.push(basename(path))
  }
  return gone
}

/**
 * Gives the segment's files, its manifest among them, a second name below `dir`, with the reason beside them: no copy, no
 * room needed. The caller makes sure that these files are never overwritten in place.
 */
export function keepDeadLetter(
  dir: string,
  segment: Segment,
  reason: { readonly sink: string; readonly error: string; readonly atMs: number },
  files: JournalFiles,
): void {
  const folder = join(dir, segment.id)
  files.mkdir(folder)
  const [first] = segment.tables
  // All of the folder, tables that a recovered segment is not read for included: the manifest names them.
  const whole = first === undefined ? [] : list(dirname(first.file)).map((name) => join(dirname(first.file), name))
  for (const file of whole.filter((path) => path.endsWith('.seg') || basename(path) === 'index')) {
    try {
      linkSync(file, join(folder, basename(file)))
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
    }
  }
  const fd = files.open(join(folder, 'reason.json'), 'create')
  try {
    files.writev(fd, [Buffer.from(`${JSON.stringify({ segment: segment.id, ...reason })}\n`)], 0)
  } finally {
    files.close(fd)
  }
}

function filesBelow(dir: string): string[] {
  try {
    return readdirSync(dir, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
  } catch {
    return []
  }
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir)
  } catch {
    return []
  }
}

function sizeOf(path: string): number {
  try {
    return statSync(path).size
  } catch {
    return 0
  }
}

function changedMs(path: string): number {
  try {
    return statSync(path).mtimeMs
  } catch {
    return 0
  }
}
