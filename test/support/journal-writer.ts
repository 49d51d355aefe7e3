import { readFileSync, writeSync } from 'node:fs'
import { setImmediate as breathe, setTimeout as wait } from 'node:timers/promises'
import { seededRandom } from '../../src/lib/random.ts'
import { openJournal } from '../../src/pipeline/journal.ts'
import { numberedBlock, numbersIn } from './journal-blocks.ts'

/**
 * A process to be killed: `node journal-writer.ts DIR SEED FIRST`. Appends numbered blocks of seeded sizes for ever, seals,
 * syncs, delivers to itself and recycles, and says each thing on standard output once it is true:
 *
 *   open                       the journal is open
 *   a <number>                 block <number> was appended
 *   k <segment> <number>…      a segment was taken and is about to be acknowledged, with its blocks
 *   r <count>                  so many files were written over in place by now
 */
const [dir, seed, first] = process.argv.slice(2) as [string, string, string]
const random = seededRandom(Number(seed))
const say = (line: string): void => {
  writeSync(1, `${line}\n`)
}
const never = new AbortController().signal

const journal = await openJournal({
  dir,
  worker: 0,
  keepAfterAckMs: 5,
  limits: { segmentBytesMax: 3 << 20, segmentRowsMax: 3000, segmentAgeMsMax: 20, diskBytesMax: 64 << 20 },
})
const reader = journal.reader('store')
await journal.start()
say('open')
void deliver()

for (let number = Number(first); ; ) {
  const bytes = 64 + Math.floor(random() ** 6 * 1_500_000)
  const rows = 1 + Math.floor(random() * 50)
  const block = numberedBlock(number, bytes, rows, Math.floor(bytes * random()))
  // As full as it is allowed to be, at times: then it waits for the reader.
  while (journal.append('requests', block) !== 'ok') await wait(1)
  say(`a ${number}`)
  if (journal.shouldSeal(Date.now())) journal.seal([{ table: 'latency_1m', block: { ...block, nodes: new Map() } }])
  if (random() < 0.1) void journal.synced()
  await breathe()
  number++
}

/** Slower than the writer at times, so that there is a backlog to recover. */
async function deliver(): Promise<void> {
  for (let segment = await reader.next(never); segment !== null; segment = await reader.next(never)) {
    if (random() < 0.2) await wait(random() * 30)
    const rows = segment.tables.find(({ table }) => table === 'requests')!
    const text = readFileSync(rows.file, 'latin1')
    if (text.length !== rows.bytes) throw new Error(`${segment.id} has ${text.length} bytes, not ${rows.bytes}`)
    say(`k ${segment.id} ${numbersIn(text).join(' ')}`)
    await reader.ack(segment)
    say(`r ${journal.stats().filesRecycled}`)
  }
}
