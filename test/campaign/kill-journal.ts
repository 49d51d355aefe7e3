import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { killJournal } from '../support/kill-journal.ts'

/**
 * `node test/campaign/kill-journal.ts [kills=300] [seed]`: kills the journal's process at seeded moments and checks each
 * time that nothing appended is lost, doubled or half. Prints JSON; a failure names the seed and the kill.
 */
const kills = Number(process.argv[2] ?? 300)
const seed = Number(process.argv[3] ?? Math.floor(Math.random() * 1e6))
const dir = mkdtempSync(join(tmpdir(), 'sidecast-journal-campaign-'))
try {
  const result = await killJournal({ dir, seed, kills })
  process.stdout.write(`${JSON.stringify({ campaign: 'kill-journal', seed, ...result })}\n`)
} finally {
  rmSync(dir, { recursive: true, force: true })
}
