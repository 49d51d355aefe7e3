import { existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { parseSegmentId } from './journal-format.ts'

/**
 * Dead letters that are to be sent again:
 *
 *   dead-letter/<sink>/<id>/ ─ `sidecast journal replay` ─► replay/<sink>/<id>/ ─ the journal ─► <epoch>-<seq>/
 *
 * Moving a folder asks for it, so it works while Sidecast runs, and while it does not: then the next start does it. The
 * segment comes back under its own id, and its sink's cursor has a hole for it; no other sink sees it again.
 */
export interface ReplayRequest {
  readonly sink: string
  readonly id: string
  /** The folder. */
  readonly path: string
}

export interface Replayed {
  readonly asked: readonly ReplayRequest[]
  /** Folders that are not whole segments: kept by a version that kept no manifest beside them. */
  readonly without: readonly ReplayRequest[]
}

/** Asks for dead letters of a journal folder: of one sink or of all, of these segments or of all. */
export function requestReplay(
  dir: string,
  which: { readonly sink?: string; readonly ids?: readonly string[] },
): Replayed {
  const asked: ReplayRequest[] = []
  const without: ReplayRequest[] = []
  for (const worker of list(dir).filter((name) => /^\d{1,5}$/.test(name))) {
    const root = join(dir, worker)
    for (const found of foldersOf(join(root, 'dead-letter'))) {
      if (which.sink !== undefined && which.sink !== found.sink) continue
      if (which.ids !== undefined && which.ids.length > 0 && !which.ids.includes(found.id)) continue
      if (!existsSync(join(found.path, 'index'))) {
        without.push(found)
        continue
      }
      const folder = join(root, 'replay', found.sink)
      mkdirSync(folder, { recursive: true })
      renameSync(found.path, join(folder, found.id))
      asked.push({ ...found, path: join(folder, found.id) })
    }
  }
  return { asked, without }
}

/** What is asked for in a worker's folder. */
export function replayRequests(root: string): ReplayRequest[] {
  return foldersOf(join(root, 'replay'))
}

function foldersOf(dir: string): ReplayRequest[] {
  return list(dir).flatMap((sink) =>
    list(join(dir, sink))
      .filter((id) => parseSegmentId(id) !== null)
      .map((id) => ({ sink, id, path: join(dir, sink, id) })),
  )
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir).sort()
  } catch {
    return []
  }
}
