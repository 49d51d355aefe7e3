import { statfs } from 'node:fs/promises'

/** Room for this user on the disk of a folder, in bytes; null when the system does not say. */
export async function freeBytes(dir: string): Promise<number | null> {
  try {
    const { bavail, bsize } = await statfs(dir)
    return bavail * bsize
  } catch {
    return null
  }
}
