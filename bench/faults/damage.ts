import { closeSync, openSync, readdirSync, readSync, statSync, truncateSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Damage } from './plan.ts'

/**
 * Does to the files of a journal that nobody has open what a disk or a crash of the machine may do. Returns what it did,
 * null where there is nothing to damage. Only files with rows, and their manifests: a damaged cursor is another matter.
 * `safe`: bytes that are fsynced, of files that may be torn; a crash takes what comes after.
 */
export function damageJournal(root: string, damage: Damage, safe: ReadonlyMap<string, number>): string | null {
  const torn = damage.kind === 'torn'
  const files = readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => path.slice(root.length + 1))
    .filter((path) => /^(?:current|sealing-[^/]*|[0-9a-z]{13}-\d+)\//.test(path))
    // Only what was being written can be torn: sealed files were fsynced.
    .filter((path) => !torn || path.startsWith('current/'))
    .filter((path) => statSync(join(root, path)).size > 0)
    .sort()
  if (files.length === 0) return null
  const path = files[damage.file % files.length]!
  const { size } = statSync(join(root, path))
  const least = torn ? Math.min(size, safe.get(path) ?? 0) : 0
  const at = least + Math.floor(damage.at * (size - least))
  if (torn) truncateSync(join(root, path), at)
  else flipBit(join(root, path), at)
  return `${damage.kind} ${path} at ${at} of ${size}`
}

function flipBit(path: string, at: number): void {
  const fd = openSync(path, 'r+')
  try {
    const byte = Buffer.alloc(1)
    readSync(fd, byte, 0, 1, at)
    byte[0] = byte[0]! ^ (1 << (at % 8))
    writeSync(fd, byte, 0, 1, at)
  } finally {
    closeSync(fd)
  }
}
