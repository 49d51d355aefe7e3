import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { killTail } from '../support/kill-tail.ts'

/**
 * `node test/campaign/kill-tail.ts [kills=50] [rotations=10] [seed] [runs=1]`: kills the process that follows a log while it is
 * written to and rotated in every way, and checks at the end that every line is stored exactly once. Prints JSON for each
 * run, with its seed.
 */
const [kills = 50, rotations = 10, seed = Math.floor(Math.random() * 1e6), runs = 1] = process.argv.slice(2).map(Number)
for (let run = 0; run < runs; run++) {
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-tail-campaign-'))
  try {
    const result = await killTail({ dir, seed: seed + run, kills, rotations })
    process.stdout.write(`${JSON.stringify({ campaign: 'kill-tail', ...result })}\n`)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}
