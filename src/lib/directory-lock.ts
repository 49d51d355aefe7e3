import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/** Held until `release`, or until the process is gone. */
export interface DirectoryLock {
  /** Safe to call twice. */
  release(): void
}

export type LockAttempt =
  | { readonly held: true; readonly lock: DirectoryLock }
  | { readonly held: false; readonly ownerPid: number | null; readonly cause: unknown }

/**
 * Takes the one lock of a directory, or says who has it.
 *
 * Node has no file locks of its own; its SQLite has: `BEGIN EXCLUSIVE` on the empty file `lock` takes a lock of the
 * kernel (fcntl; LockFileEx on Windows) that dies with the process, however it dies, so a stale lock cannot exist.
 * SQLite keeps two connections of one process apart as well, which bare fcntl locks do not. Nothing is ever written to
 * that file, so a full disk does not matter once it exists. `lock.owner` is for the error message alone.
 */
export function lockDirectory(dir: string): LockAttempt {
  const owner = join(dir, 'lock.owner')
  let database: DatabaseSync | null = null
  try {
    database = new DatabaseSync(join(dir, 'lock'), { timeout: 0 })
    database.exec('PRAGMA journal_mode=MEMORY; BEGIN EXCLUSIVE')
  } catch (cause) {
    database?.close()
    return { held: false, ownerPid: readPid(owner), cause }
  }
  try {
    writeFileSync(owner, `${process.pid}\n`)
  } catch {
    // A full disk: the message will lack the process id, the lock holds all the same.
  }
  let open: DatabaseSync | null = database
  return {
    held: true,
    lock: {
      release() {
        open?.close()
        open = null
      },
    },
  }
}

function readPid(file: string): number | null {
  try {
    const pid = Number.parseInt(readFileSync(file, 'utf8'), 10)
    return Number.isSafeInteger(pid) ? pid : null
  } catch {
    return null
  }
}
