import { createAlsDecoder } from '../../src/ingest/als/decode.ts'
import { createIdentityResolver } from '../../src/ingest/als/identity.ts'
import { createNodeReader } from '../../src/ingest/als/node.ts'
import { createAlsReceiver } from '../../src/ingest/als/receiver.ts'
import { createGrpcServer } from '../../src/ingest/grpc/index.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { createBatchBuilder } from '../../src/model/batch-builder.ts'
import { openJournal } from '../../src/pipeline/journal.ts'
import { createLane } from '../../src/pipeline/lane.ts'
import { createRedaction } from '../../src/pipeline/redact.ts'
import { createRollup } from '../../src/pipeline/rollup.ts'
import { silentLog } from '../../src/telemetry/log.ts'

/**
 * The ingest stage alone, as a process: gRPC bytes to fsynced segments with rollups made; no ledger, no live metrics,
 * no store. Usage: `node bench/support/stage.ts DIR`. Prints its address, and its figures on SIGTERM.
 */
const dir = process.argv[2]!
const journal = await openJournal({
  dir,
  worker: 0,
  limits: { segmentBytesMax: 64 << 20, segmentRowsMax: 262_144, segmentAgeMsMax: 1000, diskBytesMax: 8 * 1024 ** 3 },
  keepAfterAckMs: 0,
  clock: systemClock,
  log: silentLog,
})
const reader = journal.reader('none')
const resolver = createIdentityResolver()
const rollup = createRollup()
const builder = (table: 'requests' | 'attempts' | 'progress' | 'connections', rowsMax: number) =>
  createBatchBuilder({ table, rowsMax, resolver })
const lane = createLane({
  builders: {
    requests: builder('requests', 32_768),
    attempts: builder('attempts', 8192),
    progress: builder('progress', 8192),
    connections: builder('connections', 8192),
  },
  journal,
  rollup,
  ledger: { journaled() {}, dropped() {} },
  live: [],
  log: silentLog,
})
const nodes = createNodeReader()
const als = createAlsReceiver({
  decoder: createAlsDecoder({
    builders: lane.builders,
    redaction: createRedaction(),
    onIdentifier: (bytes, start, end) => nodes.read(bytes, start, end),
  }),
  flush: (table) => lane.flush(table),
  gate: lane.gate,
})
const grpc = createGrpcServer({ listen: '127.0.0.1:0', services: als.services, log: silentLog })
await journal.start()
await lane.start()
await grpc.start()

// Segments are taken at once, so that their files are recycled as they would be.
const stopping = new AbortController()
const taking = (async () => {
  for (;;) {
    const segment = await reader.next(stopping.signal)
    if (segment === null) return
    await reader.ack(segment)
  }
})()

console.log(JSON.stringify({ grpc: grpc.address }))
process.once('SIGTERM', async () => {
  const deadline = AbortSignal.timeout(10_000)
  await grpc.stop(deadline)
  await lane.stop(deadline)
  stopping.abort()
  await taking
  await journal.stop(deadline)
  const cpu = process.cpuUsage()
  console.log(
    JSON.stringify({
      rows: als.counters.requests,
      rejected: [...als.counters.rejected.values()].reduce((sum, n) => sum + n, 0),
      cpuSeconds: (cpu.user + cpu.system) / 1e6,
      rssMb: process.memoryUsage().rss / 1e6,
      journal: journal.stats(),
      rollup: rollup.stats,
    }),
  )
  process.exit(0)
})
