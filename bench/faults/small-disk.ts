import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** A disk of its own for one folder, small enough to be filled. Takes root, for `mount`. */
export interface SmallDisk {
  /** Takes all the room there is. */
  fill(): Promise<void>
  empty(): void
  unmount(): void
}

const SIZE = '96m'

export function mountSmallDisk(dir: string): SmallDisk {
  mkdirSync(dir, { recursive: true })
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE}`, 'tmpfs', dir])
  const hog = join(dir, 'hog')
  return {
    async fill() {
      const block = Buffer.alloc(1 << 20)
      for (const size of [1 << 20, 1 << 14, 1 << 12]) {
        try {
          for (;;) await writeFile(hog, block.subarray(0, size), { flag: 'a' })
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
        }
      }
    },
    empty: () => rmSync(hog, { force: true }),
    unmount: () => void execFileSync('umount', ['-l', dir]),
  }
}
