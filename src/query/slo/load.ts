import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { SidecastError } from '../../errors.ts'
import type { SloFinding } from './field.ts'
import { readOpenSlo, type SloFile } from './openslo.ts'
import type { Slo } from './slo.ts'
import { readStored } from './stored.ts'

export interface LoadedSlos {
  readonly slos: readonly Slo[]
  readonly warnings: readonly SloFinding[]
}

export interface SloPlaces {
  /** `slo.files`: files, or folders, of which every .yaml and .yml is read. */
  readonly files: readonly string[]
  /** Folder of those that came over HTTP; absent: none did. */
  readonly dir?: string
}

const FILES_MAX = 1000
const FILE_BYTES_MAX = 1024 * 1024

/**
 * All objectives. Throws SC1208 with everything that is wrong in them, so that a misspelt objective is never one that is
 * quietly not watched.
 */
export async function loadSlos({ files, dir }: SloPlaces): Promise<LoadedSlos> {
  const stored = dir === undefined ? [] : await readStored(dir)
  return judgeSlos([...(await readFiles(files)), ...stored])
}

export function judgeSlos(files: readonly SloFile[]): LoadedSlos {
  const { slos, findings } = readOpenSlo(files)
  const errors = findings.filter((finding) => finding.severity === 'error')
  const [first, ...more] = errors
  if (first !== undefined) {
    const others = more.map(({ place, message, help }) => `\n  ${place}  ${message} (${help})`).join('')
    throw new SidecastError('SC1208', `${first.place}  ${first.message}${others}`, { help: first.help })
  }
  return { slos, warnings: findings }
}

/** The files of `slo.files`. Throws SC1208 when one cannot be read. */
export async function readFiles(paths: readonly string[]): Promise<SloFile[]> {
  const files: SloFile[] = []
  for (const path of paths) {
    try {
      for (const name of await filesOf(path)) files.push({ name, text: await readText(name), origin: 'file' })
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
  return files
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
