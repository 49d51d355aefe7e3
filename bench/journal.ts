import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { NativeBlock } from '../src/model/batch.ts'
import { openJournal } from '../src/pipeline/journal.ts'
import { blockCrc } from '../src/pipeline/journal-format.ts'

/**
 * What the journal costs: CPU µs per row, the kernel's and the fsync threads' included, from encoded blocks to sealed and
 * fsynced segments that a sink acknowledges at once. With recycled files and without; and the CRC alone.
 *
 *     node bench/journal.ts [--rows 3000000] [--block 16384] [--bytes 250] [--dir FOLDER]
 *
 * `--bytes`: per row. The folder should be on the disk that is meant: a tmpfs has nothing to fsync.
 */
const argument = (name: string, fallback: string): string => {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : process.argv[at + 1]!
}
const rowsWanted = Number(argument('rows', '3000000'))
const blockRows = Number(argument('block', '16384'))
const rowBytes = Number(argument('bytes', '250'))
const parent = resolve(argument('dir', tmpdir()))

const SEGMENT_BYTES = 64 << 20
/** Buffers of an encoded block: about two for each of 63 columns. */
const BUFFERS = 126
const WARM_UP_ROWS = 1_000_000

/** Sizes as columns have them: a few wide ones make most of the bytes. */
function makeBlock(rows: number): NativeBlock {
  const total = rows * rowBytes
  const small = Math.floor(total / BUFFERS / 4)
  const sizes = Array.from({ length: BUFFERS }, (_, k) => (k % 8 === 0 ? 0 : small))
  const wide = sizes.filter((size) => size === 0).length
  const rest = Math.floor((total - sizes.reduce((sum, size) => sum + size, 0)) / wide)
  const buffers = sizes.map((size) => Buffer.alloc(size === 0 ? rest : size, 1))
  for (const buffer of buffers) for (let at = 0; at < buffer.length; at += 7) buffer[at] = (at * 2_654_435_761) >>> 24
  const nodes = new Map(Array.from({ length: 8 }, (_, k) => [`sidecar~10.0.0.${k}~app.default`, rows / 8]))
  return { buffers, rows, days: new Map([[20_413, rows]]), nodes }
}

const block = makeBlock(blockRows)
const blockBytes = block.buffers.reduce((sum, buffer) => sum + buffer.length, 0)

async function measure(recycle: boolean) {
  const dir = mkdtempSync(join(parent, 'sidecast-bench-journal-'))
  try {
    const journal = await openJournal({
      dir,
      worker: 0,
      keepAfterAckMs: 0,
      sparesMax: recycle ? 4 : 0,
      limits: { segmentBytesMax: SEGMENT_BYTES, segmentRowsMax: 1e9, segmentAgeMsMax: 1000, diskBytesMax: 4 * 2 ** 30 },
    })
    const reader = journal.reader('bench')
    const stop = new AbortController()
    const taking = (async () => {
      for (let next = await reader.next(stop.signal); next !== null; next = await reader.next(stop.signal)) {
        await reader.ack(next)
      }
    })()
    await journal.start()
    let begin = process.cpuUsage()
    let beginMs = performance.now()
    let appendMs = 0
    let rows = -WARM_UP_ROWS
    while (rows < rowsWanted) {
      const before = performance.now()
      if (journal.append('requests', block) !== 'ok') throw new Error(journal.reason ?? 'refused')
      if (rows >= 0) appendMs += performance.now() - before
      const warm = rows < 0 && rows + blockRows >= 0
      rows += blockRows
      if (journal.shouldSeal(Date.now())) {
        journal.seal()
        // A lane has other work to do meanwhile; here it waits, so that fsync does not fall behind without bound.
        await journal.settled()
      }
      if (warm) {
        begin = process.cpuUsage()
        beginMs = performance.now()
        rows = 0
      }
    }
    journal.seal()
    await journal.settled()
    const { user, system } = process.cpuUsage(begin)
    const wallMs = performance.now() - beginMs
    const { filesRecycled, syncs, syncSeconds, segmentsSealed } = journal.stats()
    stop.abort()
    await taking
    await journal.stop(stop.signal)
    return {
      rows,
      cpuUsPerRow: round((user + system) / rows),
      userUsPerRow: round(user / rows),
      systemUsPerRow: round(system / rows),
      appendUsPerRow: round((appendMs * 1000) / rows),
      wallMs: round(wallMs),
      segmentsSealed,
      filesRecycled,
      syncs,
      syncMsMean: round((syncSeconds * 1000) / syncs),
    }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

function measureCrc(): number {
  const rounds = Math.ceil(rowsWanted / blockRows)
  const begin = process.cpuUsage()
  let crc = 0
  for (let n = 0; n < rounds; n++) crc = blockCrc(crc, block.buffers)
  const { user, system } = process.cpuUsage(begin)
  return round((user + system) / (rounds * blockRows))
}

const round = (value: number): number => Math.round(value * 10_000) / 10_000

const created = await measure(false)
const recycled = await measure(true)
process.stdout.write(
  `${JSON.stringify({ bench: 'journal', blockRows, blockBytes, rowBytes, crcUsPerRow: measureCrc(), created, recycled }, null, 2)}\n`,
)
