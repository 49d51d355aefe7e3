import { readdirSync, statSync } from 'node:fs'
import { glob } from 'node:fs/promises'
import { basename, dirname, join, matchesGlob } from 'node:path'

/** A file as it is found on disk. */
export interface Candidate {
  readonly path: string
  /** Path without what rotation adds: files of one family may be the same log under other names. */
  readonly family: string
  readonly dev: number
  readonly ino: number
  readonly size: number
  readonly mtimeMs: number
}

export interface DiscoverOptions {
  /** Globs, or paths. */
  readonly paths: readonly string[]
  readonly exclude: readonly string[]
  /** Files beside them that rotation left are taken as well. */
  readonly rotated: boolean
  readonly filesMax: number
  /** Families known from before: their rotated files are found while the path itself is away for a moment. */
  readonly families: Iterable<string>
}

/** Files that match, oldest first, and how many more there are than allowed. */
export async function discover(options: DiscoverOptions): Promise<{ files: Candidate[]; over: number }> {
  const { paths, exclude, rotated, filesMax } = options
  const found = new Map<string, Candidate>()
  const families = new Set(rotated ? options.families : [])
  const excluded = (path: string): boolean => exclude.some((pattern) => matchesGlob(path, pattern))
  for (const pattern of paths) {
    if (!isGlob(pattern)) {
      families.add(familyOf(pattern))
      add(found, pattern, excluded)
      continue
    }
    for await (const path of glob(pattern)) {
      families.add(familyOf(path))
      add(found, path, excluded)
      // What is far beyond the limit is not even looked at.
      if (found.size > filesMax * 4) break
    }
  }
  if (rotated) addRotated(found, families, excluded)
  const files = [...found.values()].sort((a, b) => a.mtimeMs - b.mtimeMs || (a.path < b.path ? -1 : 1))
  // The newest are those that somebody writes to.
  const over = Math.max(0, files.length - filesMax)
  return { files: files.slice(over), over }
}

const isGlob = (pattern: string): boolean => /[*?[\]{}!]/.test(pattern)

function addRotated(
  found: Map<string, Candidate>,
  families: ReadonlySet<string>,
  excluded: (path: string) => boolean,
): void {
  const byFolder = new Map<string, Set<string>>()
  for (const family of families) {
    const names = byFolder.get(dirname(family))
    if (names === undefined) byFolder.set(dirname(family), new Set([basename(family)]))
    else names.add(basename(family))
  }
  for (const [folder, names] of byFolder) {
    for (const name of list(folder)) {
      if (names.has(basename(familyOf(name))) && !found.has(join(folder, name)))
        add(found, join(folder, name), excluded)
    }
  }
}

function add(found: Map<string, Candidate>, path: string, excluded: (path: string) => boolean): void {
  if (excluded(path)) return
  let stat: ReturnType<typeof statSync>
  try {
    stat = statSync(path, { throwIfNoEntry: false })
  } catch {
    return
  }
  if (stat === undefined || !stat.isFile()) return
  const { dev, ino, size, mtimeMs } = stat
  found.set(path, { path, family: familyOf(path), dev, ino, size, mtimeMs })
}

/** `.1`, `.2.gz`, `-20240131`, `.2024-01-31T10:00:00.gz`, kubelet's `.20240131-100000`, `.old`. */
const ROTATED = /[.-](?:\d[\dTZ_:.-]*|old|bak)$/
/** `access-2024-01-31T10-00-00.000.log`: the time stands before the ending. */
const ROTATED_INSIDE = /[.-]\d{4}-\d{2}-\d{2}T[\d.-]+(?=\.[a-z]+$)/

export function familyOf(path: string): string {
  const name = basename(path).replace(/\.(?:gz|zst)$/, '')
  const base = name.replace(ROTATED_INSIDE, '').replace(ROTATED, '')
  return join(dirname(path), base === '' ? name : base)
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
