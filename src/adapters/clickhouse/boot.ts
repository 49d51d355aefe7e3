import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * Whether this machine runs since the last start of ours, told by the id that Linux gives each boot (proc(5),
 * `/proc/sys/kernel/random/boot_id`). What a process wrote before it was killed is there as long as the machine runs.
 */
export interface Boot {
  /** False too when it cannot be known. */
  readonly same: boolean
  /** All that a start of the machine may have taken has been looked at: from here on this boot is the one to compare with. */
  remember(): Promise<void>
}

const FILE = 'boot'

/** Reads what `remember` left in `dir`. */
export async function readBoot(dir: string, source = '/proc/sys/kernel/random/boot_id'): Promise<Boot> {
  const read = async (path: string) => (await readFile(path, 'utf8').catch(() => '')).trim()
  const [now, then] = await Promise.all([read(source), read(join(dir, FILE))])
  return {
    same: now !== '' && now === then,
    async remember() {
      if (now === '') return
      await writeFile(join(dir, `${FILE}.new`), `${now}\n`)
      await rename(join(dir, `${FILE}.new`), join(dir, FILE))
    },
  }
}
