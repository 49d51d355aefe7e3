import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { JournalFiles } from './journal-files.ts'
import type { JournalTable } from './journal-format.ts'

/**
 * Files of deleted segments, to be overwritten in place by later ones: their blocks and pages are there already, and
 * creating and growing a file costs more than writing it. Whoever gives a file here promises that nothing reads it.
 */
export class Spares {
  readonly #dir: string
  readonly #files: JournalFiles
  readonly #filesMax: number
  #free: { readonly path: string; readonly bytes: number }[] = []
  /** Bytes of each table's last file: a table that stays small gets no large spare. */
  #lastBytes = new Map<JournalTable, number>()
  #number = 0
  #bytes = 0
  #recycled = 0

  /** Takes over what an earlier process left, as far as the bound allows. */
  constructor(options: { dir: string; files: JournalFiles; filesMax: number }) {
    this.#dir = options.dir
    this.#files = options.files
    this.#filesMax = options.filesMax
    for (const name of listOrNone(options.dir)) {
      const path = join(options.dir, name)
      const number = Number(name)
      if (!Number.isSafeInteger(number) || this.#free.length >= this.#filesMax) {
        tolerate(() => this.#files.remove(path))
        continue
      }
      this.#number = Math.max(this.#number, number + 1)
      this.#keep(path, statSync(path).size)
    }
  }

  get bytes(): number {
    return this.#bytes
  }

  /** How many times a file was used again. */
  get recycled(): number {
    return this.#recycled
  }

  /** Moves a spare to `path` and returns its size; null when a new file is better or none is there. */
  take(table: JournalTable, path: string): number | null {
    if ((this.#lastBytes.get(table) ?? (table === 'requests' ? SPARE_BYTES_MIN : 0)) < SPARE_BYTES_MIN) return null
    const spare = this.#free.pop()
    if (spare === undefined) return null
    this.#bytes -= spare.bytes
    try {
      this.#files.rename(spare.path, path)
    } catch {
      return null
    }
    this.#recycled++
    return spare.bytes
  }

  /** Tells how large a table's file became. */
  learn(table: JournalTable, bytes: number): void {
    this.#lastBytes.set(table, bytes)
  }

  /** Moves the file here; false when it is not wanted and still in its place. */
  give(path: string, bytes: number): boolean {
    if (bytes < SPARE_BYTES_MIN || this.#free.length >= this.#filesMax) return false
    const spare = join(this.#dir, String(this.#number++))
    try {
      if (this.#free.length === 0) this.#files.mkdir(this.#dir)
      this.#files.rename(path, spare)
    } catch {
      return false
    }
    this.#keep(spare, bytes)
    return true
  }

  /** Deletes all, because their room is needed. Returns how many bytes that gave. */
  drop(): number {
    const bytes = this.#bytes
    for (const { path } of this.#free) tolerate(() => this.#files.remove(path))
    this.#free = []
    this.#bytes = 0
    return bytes
  }

  #keep(path: string, bytes: number): void {
    this.#free.push({ path, bytes })
    this.#bytes += bytes
  }
}

/** Below this a new file costs as little as an old one. */
const SPARE_BYTES_MIN = 1 << 20

function listOrNone(dir: string): string[] {
  try {
    return readdirSync(dir)
  } catch {
    return []
  }
}

function tolerate(work: () => void): void {
  try {
    work()
  } catch {
    // What cannot be deleted now is found again at the next start.
  }
}
