import { mkdir, readdir, readFile, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { SidecastError } from '../../errors.ts'
import { removeFile, replaceFile, UNFINISHED } from '../../lib/durable-file.ts'
import type { SloFile } from './openslo.ts'

/**
 * Documents that came over HTTP, in the data directory: `slos/NAME.yaml`, each as it was sent. A document is on disk, under its
 * name and whole, before its sender hears of it.
 */
const ENDING = '.yaml'

/** In the order of their names; those that were being written when the process ended are not there. Throws SC1208. */
export async function readStored(dir: string): Promise<SloFile[]> {
  try {
    const names = (await readdir(dir)).filter((name) => name.endsWith(ENDING)).sort()
    return await Promise.all(
      names.map(async (name): Promise<SloFile> => {
        const path = join(dir, name)
        return { name: path, text: await readFile(path, 'utf8'), origin: 'api' }
      }),
    )
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT') return []
    throw new SidecastError('SC1208', `${dir} cannot be read: ${code ?? cause}`, {
      help: 'objectives that were put over HTTP are kept there',
      cause,
    })
  }
}

/** Takes away what was being written when the process ended. */
export async function tidyStored(dir: string): Promise<void> {
  const names = await readdir(dir).catch(() => [])
  for (const name of names) if (name.endsWith(`${ENDING}${UNFINISHED}`)) await unlink(join(dir, name)).catch(() => {})
}

export function storedPath(dir: string, name: string): string {
  return join(dir, `${name}${ENDING}`)
}

export async function store(dir: string, name: string, text: string): Promise<void> {
  await mkdir(dir, { recursive: true })
  await replaceFile(storedPath(dir, name), text)
}

export async function unstore(dir: string, name: string): Promise<void> {
  await removeFile(storedPath(dir, name))
}
