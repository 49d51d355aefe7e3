import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { SidecastError } from '../../errors.ts'
import type { Log } from '../../telemetry/log.ts'
import type { SloFinding } from './field.ts'
import { readOpenSlo, type SloFile } from './openslo.ts'
import type { Slo } from './slo.ts'

export interface LoadedSlos {
  readonly slos: readonly Slo[]
  readonly warnings: readonly SloFinding[]
}

/** The objectives that count now. */
export interface SloBook {
  slos(): readonly Slo[]
  /** Reads files again. Throws SC1208 when something is wrong in them; else what it returns takes them over. */
  prepare(paths: readonly string[]): Promise<() => void>
}

export async function openSlos(paths: readonly string[], log: Log): Promise<SloBook> {
  let slos: readonly Slo[] = []
  const prepare = async (paths: readonly string[]) => {
    const loaded = await loadSlos(paths)
    return () => {
      for (const { place, message, help } of loaded.warnings) log.warn({ place, help }, `An objective: ${message}`)
      slos = loaded.slos
    }
  }
  const takeOver = await prepare(paths)
  takeOver()
  return { slos: () => slos, prepare }
}

const FILES_MAX = 1000
const FILE_BYTES_MAX = 1024 * 1024

/**
 * The objectives of `slo.files`: files, or folders, of which every .yaml and .yml is read. Throws SC1208 with everything
 * that is wrong in them, so that a misspelt objective is never one that is quietly not watched.
 */
export async function loadSlos(paths: readonly string[]): Promise<LoadedSlos> {
  const files: SloFile[] = []
  for (const path of paths) {
    try {
      for (const name of await filesOf(path)) files.push({ name, text: await readText(name) })
    } catch (cause) {
      if (cause instanceof SidecastError) throw cause
      throw new SidecastError('SC1208', `${path} cannot be read: ${(cause as NodeJS.ErrnoException).code ?? cause}`, {
        help: 'slo.files names YAML files, or folders with them',
        cause,
      })
    }
  }
  if (files.length > FILES_MAX) {
    throw new SidecastError('SC1208', `slo.files are ${files.length} files, ${FILES_MAX} at most are read`)
  }
  const { slos, findings } = readOpenSlo(files)
  const errors = findings.filter((finding) => finding.severity === 'error')
  const [first, ...more] = errors
  if (first !== undefined) {
    const others = more.map(({ place, message, help }) => `\n  ${place}  ${message} (${help})`).join('')
    throw new SidecastError('SC1208', `${first.place}  ${first.message}${others}`, { help: first.help })
  }
  return { slos, warnings: findings }
}

/** Names of folders that Kubernetes mounts with `..data` are links, and are not read twice. */
async function filesOf(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path]
  const names = await readdir(path)
  return names
    .filter((name) => /^[^.].*\.ya?ml$/.test(name))
    .sort()
    .map((name) => join(path, name))
}

async function readText(name: string): Promise<string> {
  const { size } = await stat(name)
  if (size > FILE_BYTES_MAX) {
    throw new SidecastError('SC1208', `${name} has ${size} bytes, ${FILE_BYTES_MAX} at most are read`)
  }
  return readFile(name, 'utf8')
}
