import { open, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { createAlsDecoder } from '../src/ingest/als/decode.ts'
import type { NativeBlock } from '../src/model/batch.ts'
import { type BatchBuilder, createBatchBuilder } from '../src/model/batch-builder.ts'
import { ROW_TABLES, type RowTable } from '../src/model/schema.ts'
import { createRedaction } from '../src/pipeline/redact.ts'
import { createRollup } from '../src/pipeline/rollup.ts'
import type { Segment, SegmentTable } from '../src/pipeline/segment.ts'
import { createEntryGenerator } from './support/als-entries.ts'
import { openBenchStore } from './support/bench-store.ts'
import { ORIGIN, plainResolver } from './support/resolver.ts'

/**
 * What storing costs once rows are in segments: CPU µs per row of the store's process and of ours, for rows and rollups
 * apart, until no merge runs any more; and bytes per row on disk, by table. Segments are the product's own, of entries
 * with 400 edges and 200 hosts.
 *
 *     node bench/insert.ts [--segments 40] [--rows-per-second 160000] [--blocks 20] [--block-rows 8192] [--without rollups|rows]
 *
 * `--rows-per-second` is the pace of the entries' own time, and decides how many segments share a minute.
 */
const argument = (name: string, fallback: string): string => {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : process.argv[at + 1]!
}
const segments = Number(argument('segments', '40'))
const rowsPerSecond = Number(argument('rows-per-second', '160000'))
const without = argument('without', '')
const BLOCK_ROWS = Number(argument('block-rows', '8192'))
const BLOCKS = Number(argument('blocks', '20'))
const round = (value: number, digits = 3): number => Number(value.toFixed(digits))
const signal = new AbortController().signal

const bench = await openBenchStore('insert', { keysMax: 50_000 })
const { dir, store, sink, cpu } = bench
try {
  const make = segmentMaker()
  let [rows, storeMs, ownMs, sendMs, rollupBytes, rowBytes] = [0, 0, 0, 0, 0, 0]
  for (let seq = 0; seq < segments; seq++) {
    const segment = await make(seq)
    rows += segment.tables[0]!.rows
    for (const { table, bytes } of segment.tables) {
      if (table === 'latency_1m') rollupBytes += bytes
      else rowBytes += bytes
    }
    const before = await cpu()
    const began = performance.now()
    const outcome = await sink.send(segment, signal)
    if (outcome.status !== 'accepted') throw outcome.error
    sendMs += performance.now() - began
    const after = await cpu()
    storeMs += after.store - before.store
    ownMs += after.own - before.own
    for (const { file } of segment.tables) await rm(file)
  }
  const before = await cpu()
  await sink.settle(signal)
  await bench.quiet()
  const after = await cpu()
  const parts = await bench.rows<{ table: string; bytes: number; parts: number; rows: number }>(
    `SELECT table, sum(p.bytes_on_disk) AS bytes, count() AS parts, sum(p.rows) AS rows FROM system.parts AS p
      WHERE active AND database = 'bench' GROUP BY table`,
  )
  console.log(
    JSON.stringify({
      bench: 'insert',
      without,
      rows,
      rowsPerSecond,
      segmentBytesPerRow: { rows: round(rowBytes / rows, 1), rollups: round(rollupBytes / rows, 1) },
      cpuMicrosPerRow: {
        sending: round((storeMs * 1000) / rows),
        mergingAfterwards: round(((after.store - before.store) * 1000) / rows),
        ownProcess: round((ownMs * 1000) / rows),
      },
      rowsPerSecondSent: Math.round(rows / (sendMs / 1000)),
      diskBytesPerRow: Object.fromEntries(
        parts.map(({ table, bytes, parts: n, rows: r }) => [
          table,
          { bytes: round(bytes / rows, 2), parts: n, rows: r },
        ]),
      ),
      rssMb: { store: await rssMb(store.pid!), own: Math.round(process.memoryUsage.rss() / 1e6) },
    }),
  )
} finally {
  await bench.close()
}

async function rssMb(pid: number): Promise<number> {
  return Math.round((Number((await readFile(`/proc/${pid}/statm`, 'utf8')).split(' ')[1]) * 4096) / 1e6)
}

/** Segments as the journal holds them, with their rollup. */
function segmentMaker(): (seq: number) => Promise<Segment> {
  const resolver = plainResolver()
  const rollup = createRollup()
  const builders = Object.fromEntries(
    ROW_TABLES.map((table) => [table, createBatchBuilder({ table, rowsMax: BLOCK_ROWS, resolver })]),
  ) as Record<RowTable, BatchBuilder>
  const decoder = createAlsDecoder({ builders, redaction: createRedaction(), onIdentifier: () => ORIGIN })
  const startMs = Date.now() - 600_000
  const generator = createEntryGenerator(42, { startMs, spacingNs: Math.round(1e9 / rowsPerSecond) })

  return async (seq) => {
    const id = `0-bench-${seq}`
    const path = join(dir, `${id}-requests`)
    const file = await open(path, 'w')
    let rows = 0
    const days = new Map<number, number>()
    for (let block = 0; block < BLOCKS; ) {
      const message = Buffer.concat([generator.message(), Buffer.alloc(64)])
      let result = decoder.decode(message, 0, message.length - 64, { origin: ORIGIN }, Date.now())
      while (result.full !== null) {
        const full: RowTable = result.full
        if (full === 'requests') {
          const batch = builders.requests.seal()
          if (without !== 'rollups') rollup.add(batch)
          const encoded = batch.encode(id)
          await file.writev(encoded.buffers as Uint8Array[])
          rows += encoded.rows
          for (const [at, n] of encoded.days) days.set(at, (days.get(at) ?? 0) + n)
          block++
        } else builders[full].seal()
        builders[full].reset()
        result = decoder.decode(message, 0, message.length - 64, { origin: ORIGIN }, Date.now(), result.resume)
      }
    }
    await file.close()
    const tables: SegmentTable[] = [
      { table: 'requests', file: path, bytes: (await stat(path)).size, rows, blocks: BLOCKS, days, nodes: new Map() },
    ]
    const block = rollup.seal()
    if (block !== null) tables.push(await writeRollup(block, join(dir, `${id}-latency_1m`)))
    return { id, worker: 0, epoch: 'bench', seq, openedMs: Date.now() + 60_000, sealedMs: Date.now(), tables }
  }
}

async function writeRollup(block: NativeBlock, path: string): Promise<SegmentTable> {
  const file = await open(path, 'w')
  await file.writev(block.buffers as Uint8Array[])
  await file.close()
  const { rows, days } = block
  return { table: 'latency_1m', file: path, bytes: (await stat(path)).size, rows, blocks: 1, days, nodes: new Map() }
}
