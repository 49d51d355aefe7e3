import { glob, open } from 'node:fs/promises'
import { parse as parseYaml } from 'yaml'

/**
 * Targets from files in Prometheus's own format for file service discovery (prometheus.io/docs/…/configuration, `file_sd_config`):
 * a list of `{ targets: [host:port, …], labels: { … } }` in JSON or YAML.
 */
export interface TargetGroup {
  readonly targets: readonly string[]
  readonly labels: Readonly<Record<string, string>>
}

export interface FileTargets {
  /** Reads again what has changed. True when the groups are others than before. */
  refresh(): Promise<boolean>
  /** Of all files, by path. */
  readonly groups: readonly TargetGroup[]
  readonly counters: Readonly<{ reads: number; invalid: number; files: number }>
}

export interface FileTargetsOptions {
  /** Paths; the last part may have `*`. */
  readonly files: readonly string[]
  /** Called once when a file begins to be unreadable or invalid, and for each new reason. */
  readonly onInvalid: (file: string, reason: string) => void
}

const FILE_BYTES_MAX = 16 * 1024 * 1024
const FILES_MAX = 1000
/** Of one file. */
const TARGETS_MAX = 10_000
const LABEL_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*$/

interface Known {
  /** Of what was read last: identity, size and time of change. */
  readonly stamp: string
  /** Stays that of the last good content when the file becomes invalid, so that a half-written file takes no target away. */
  readonly groups: readonly TargetGroup[]
  readonly problem: string | null
}

export function createFileTargets({ files, onInvalid }: FileTargetsOptions): FileTargets {
  let known = new Map<string, Known>()
  const counters = { reads: 0, invalid: 0, files: 0 }
  let groups: readonly TargetGroup[] = []
  return {
    counters,
    get groups() {
      return groups
    },
    async refresh() {
      const next = new Map<string, Known>()
      let isChanged = false
      for (const path of await pathsOf(files)) {
        const before = known.get(path)
        const now = await readIfChanged(path, before)
        // A file that is gone takes its targets with it.
        if (now === null) continue
        next.set(path, now)
        if (now === before) continue
        counters.reads++
        isChanged ||= now.groups !== before?.groups
        if (now.problem !== null) {
          counters.invalid++
          if (now.problem !== before?.problem) onInvalid(path, now.problem)
        }
      }
      isChanged ||= next.size !== known.size || [...known.keys()].some((path) => !next.has(path))
      known = next
      counters.files = known.size
      if (isChanged) groups = [...known.values()].flatMap((file) => file.groups)
      return isChanged
    },
  }
}

async function pathsOf(patterns: readonly string[]): Promise<string[]> {
  const paths = new Set<string>()
  for (const pattern of patterns) {
    if (!pattern.includes('*')) paths.add(pattern)
    else for await (const path of glob(pattern)) if (paths.size < FILES_MAX) paths.add(path)
  }
  return [...paths].sort()
}

async function readIfChanged(path: string, before: Known | undefined): Promise<Known | null> {
  const groups = before?.groups ?? []
  let file: Awaited<ReturnType<typeof open>>
  try {
    file = await open(path, 'r')
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return null
    return before?.problem === code ? before : { stamp: '', groups, problem: code }
  }
  try {
    const { ino, size, mtimeNs } = await file.stat({ bigint: true })
    const stamp = `${ino}/${size}/${mtimeNs}`
    if (before?.stamp === stamp) return before
    if (size > BigInt(FILE_BYTES_MAX)) return { stamp, groups, problem: `larger than ${FILE_BYTES_MAX} bytes` }
    const parsed = parseTargets(await file.readFile('utf8'), path.endsWith('.json'))
    return typeof parsed === 'string' ? { stamp, groups, problem: parsed } : { stamp, groups: parsed, problem: null }
  } catch (error) {
    const problem = (error as Error).message
    return { stamp: '', groups, problem }
  } finally {
    await file.close()
  }
}

/** The groups of a file, or what is wrong with it. */
export function parseTargets(text: string, isJson: boolean): TargetGroup[] | string {
  let value: unknown
  try {
    // YAML aliases can unfold into gigabytes.
    value = isJson ? JSON.parse(text) : parseYaml(text, { maxAliasCount: 100 })
  } catch (error) {
    return `not ${isJson ? 'JSON' : 'YAML'}: ${(error as Error).message.split('\n')[0]!.slice(0, 200)}`
  }
  if (value === null || value === undefined) return []
  if (!Array.isArray(value)) return 'not a list of target groups'
  const groups: TargetGroup[] = []
  let total = 0
  for (const [k, item] of value.entries()) {
    if (typeof item !== 'object' || item === null) return `entry ${k} is not a target group`
    const { targets = [], labels = {}, ...others } = item as Record<string, unknown>
    const [unknown] = Object.keys(others)
    if (unknown !== undefined) return `entry ${k} has an unknown key ${unknown.slice(0, 60)}`
    if (!Array.isArray(targets) || !targets.every((target) => typeof target === 'string')) {
      return `targets of entry ${k} are not a list of texts`
    }
    if (typeof labels !== 'object' || labels === null || Array.isArray(labels)) return `labels of entry ${k} are no map`
    for (const [name, value] of Object.entries(labels)) {
      if (!LABEL_NAME.test(name)) return `label ${name.slice(0, 60)} of entry ${k} is not a label name`
      if (typeof value !== 'string') return `label ${name.slice(0, 60)} of entry ${k} is not text`
    }
    total += targets.length
    if (total > TARGETS_MAX) return `more than ${TARGETS_MAX} targets`
    groups.push({ targets, labels: labels as Record<string, string> })
  }
  return groups
}
