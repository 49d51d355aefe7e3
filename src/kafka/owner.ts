import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const OWNER = /^[0-9a-f]{24}$/

/** Who we are to other consumers of our groups and to writers, for as long as the data directory lives. */
export function ownerOf(data: string): string {
  const path = join(data, 'kafka-owner')
  try {
    const owner = readFileSync(path, 'utf8').trim()
    if (OWNER.test(owner)) return owner
  } catch {
    // The first start.
  }
  const owner = randomBytes(12).toString('hex')
  mkdirSync(data, { recursive: true })
  writeFileSync(path, `${owner}\n`)
  return owner
}
