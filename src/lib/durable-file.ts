import { open, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Where a file is written before it has its name. */
export const UNFINISHED = '.new'

/** Replaces a small file whole, or makes it: after a crash it is the old one or the new one, never a mixture. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const file = await open(`${path}${UNFINISHED}`, 'w', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(`${path}${UNFINISHED}`, path)
  await syncFolder(dirname(path))
}

/** Takes a file away, for good when this resolves. */
export async function removeFile(path: string): Promise<void> {
  await unlink(path)
  await syncFolder(dirname(path))
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
