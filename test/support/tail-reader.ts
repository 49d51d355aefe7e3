import { writeSync } from 'node:fs'
import { createFilesReceiver } from '../../src/ingest/lines/files.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { openLinesRig, testParser } from './lines-rig.ts'

/**
 * A process to be killed: `node tail-reader.ts DATA LOG`. Follows the log into a journal; builders are small, so that most
 * are full in the middle of a chunk. Says `open` when it reads, and `idle` each time it has read everything there is.
 */
const [data, log] = process.argv.slice(2) as [string, string]
const { lane, journal, writer, origins } = await openLinesRig(data, { rowsMax: 97, flushMs: 7 })
const files = createFilesReceiver({
  groups: [
    {
      paths: [log],
      exclude: [],
      rotated: true,
      start: 'beginning',
      parser: () => testParser,
      sender: { nodeId: 'node' },
    },
  ],
  writer,
  origins,
  gate: lane.gate,
  addNoteSource: (source) => lane.addNoteSource(source),
  notes: (prefix) => journal.notes(prefix),
  forget: (key) => journal.forget(key),
  clock: systemClock,
  log: silentLog,
  limits: { pollMs: 3, scanMs: 10 },
})
await files.start()
writeSync(1, 'open\n')
for (;;) {
  await files.idle()
  await lane.synced()
  writeSync(1, 'idle\n')
}
