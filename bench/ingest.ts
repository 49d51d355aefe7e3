import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createClient } from '@clickhouse/client'
import { startStore } from '../src/store/supervisor.ts'
import { silentLog } from '../src/telemetry/log.ts'
import { startSidecast } from '../test/support/sidecast.ts'
import { childrenOf, processFigures } from './support/process-figures.ts'

/**
 * What a million access log entries cost, over loopback gRPC, with the load generator in a process of its own:
 *
 *   node bench/ingest.ts --stage [--count 3000000]     gRPC bytes to fsynced segments with rollups made, that stage alone
 *   node bench/ingest.ts [--count 3000000]             the whole product: main process, store until no merge runs, bytes on disk
 *   node bench/ingest.ts --rate 20000 --seconds 600    at a fixed rate: memory over time
 *
 * CPU seconds are the operating system's, per process, after a warm-up; rows are counted in the store. JSON.
 */
const { values } = parseArgs({
  options: {
    stage: { type: 'boolean', default: false },
    count: { type: 'string', default: '3000000' },
    warm: { type: 'string', default: '500000' },
    rate: { type: 'string' },
    seconds: { type: 'string' },
    streams: { type: 'string', default: '4' },
  },
})
const LOAD = new URL('support/load.ts', import.meta.url).pathname
const STAGE = new URL('support/stage.ts', import.meta.url).pathname
const round = (value: number, digits = 3) => Number(value.toFixed(digits))

interface Loaded {
  readonly sent: number
  readonly seconds: number
  readonly perSecond: number
  readonly bytesPerEntry: number
  readonly cpuSeconds: number
}

async function load(to: string, args: readonly string[]): Promise<Loaded> {
  const child = spawn(process.execPath, [LOAD, '--to', to, '--streams', values.streams, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout.on('data', (chunk) => {
    text += chunk
  })
  const [code] = (await once(child, 'close')) as [number]
  if (code !== 0) throw new Error(`the load generator ended with ${code}`)
  return JSON.parse(text) as Loaded
}
const amount = () => [
  ...(values.seconds === undefined ? ['--count', values.count] : ['--seconds', values.seconds]),
  ...(values.rate === undefined ? [] : ['--rate', values.rate]),
]

async function stageAlone(dir: string): Promise<object> {
  // A young generation of 1 MB, as the product's: `main.ts` keeps it from growing.
  const child = spawn(process.execPath, ['--max-semi-space-size=1', STAGE, dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const { grpc } = JSON.parse((await lines.next()).value as string) as { grpc: string }
  await load(grpc, ['--count', values.warm, '--seed', '2'])
  const before = processFigures(child.pid!)
  const loaded = await load(grpc, amount())
  await sleep(2000)
  const after = processFigures(child.pid!)
  child.kill('SIGTERM')
  const report = JSON.parse((await lines.next()).value as string) as { rows: number; rejected: number }
  const cpu = after.cpuSeconds - before.cpuSeconds
  return {
    bench: 'ingest-stage',
    rows: loaded.sent,
    rowsInJournal: report.rows,
    rejected: report.rejected,
    entryBytes: round(loaded.bytesPerEntry, 1),
    perSecond: Math.round(loaded.perSecond),
    cpuSecondsPerMillion: round((cpu / loaded.sent) * 1e6),
    rssMostMb: Math.round(after.rssMostMb),
  }
}

async function wholeProduct(dir: string): Promise<object> {
  const sidecast = await startSidecast({ data: dir, set: ['journal.keepAfterAck=10s'] })
  try {
    const [store] = childrenOf(sidecast.pid)
    await sleep(3000)
    const idleRssMb = processFigures(sidecast.pid).rssMb
    await load(sidecast.grpc, ['--count', values.warm, '--seed', '2', '--node', '50'])
    await settled(sidecast.http, store!)
    const before = { main: processFigures(sidecast.pid), store: processFigures(store!) }
    const memory: number[][] = []
    const timer = setInterval(
      () => {
        memory.push([Math.round(processFigures(sidecast.pid).rssMb), Math.round(processFigures(store!).rssMb)])
      },
      Math.max(1000, (Number(values.seconds ?? 20) * 1000) / 40),
    )
    const loaded = await load(sidecast.grpc, amount())
    await delivered(sidecast.http)
    clearInterval(timer)
    const main = processFigures(sidecast.pid)
    const storeDelivered = processFigures(store!)
    await settled(sidecast.http, store!)
    const after = { main: processFigures(sidecast.pid), store: processFigures(store!) }
    await sidecast.stop()
    const disk = await diskOf(join(dir, 'store'))
    const per = (seconds: number) => round((seconds / loaded.sent) * 1e6)
    const mainCpu = main.cpuSeconds - before.main.cpuSeconds
    const storeCpu = after.store.cpuSeconds - before.store.cpuSeconds
    return {
      bench: 'ingest',
      rows: loaded.sent,
      rowsStored: disk.rows,
      rowsExpected: loaded.sent + Number(values.warm),
      entryBytes: round(loaded.bytesPerEntry, 1),
      perSecond: Math.round(loaded.perSecond),
      cpuSecondsPerMillion: {
        main: per(mainCpu),
        storeInserts: per(storeDelivered.cpuSeconds - before.store.cpuSeconds),
        storeUntilNoMergeRuns: per(storeCpu),
        all: per(after.main.cpuSeconds - before.main.cpuSeconds + storeCpu),
      },
      bytesPerRow: disk.bytesPerRow,
      bytesPerRowByTable: disk.byTable,
      rssMb: {
        mainIdle: Math.round(idleRssMb),
        mainMost: Math.round(after.main.rssMostMb),
        storeMost: Math.round(after.store.rssMostMb),
      },
      rssOverTimeMb: memory,
    }
  } finally {
    await sidecast.close()
  }
}

async function delivered(http: string): Promise<void> {
  for (;;) {
    const status = (await (await fetch(`http://${http}/api/v1/status`)).json()) as { store: { waiting_rows: number } }
    if (status.store.waiting_rows === 0) return
    await sleep(200)
  }
}

/** All delivered, and the store has done nothing worth the name for five seconds: no merge runs. At most five minutes. */
async function settled(http: string, store: number): Promise<void> {
  await delivered(http)
  let quiet = 0
  let last = processFigures(store).cpuSeconds
  for (let k = 0; k < 300 && quiet < 5; k++) {
    await sleep(1000)
    const now = processFigures(store).cpuSeconds
    quiet = now - last < 0.08 ? quiet + 1 : 0
    last = now
  }
}

async function diskOf(dir: string): Promise<{ rows: number; bytesPerRow: number; byTable: Record<string, number> }> {
  const store = await startStore({ dir, log: silentLog })
  const client = createClient({ url: store.url, ...store.credentials.reader, database: 'sidecast' })
  try {
    const ask = async <Row>(query: string) => (await client.query({ query, format: 'JSONEachRow' })).json<Row>()
    const [{ rows }] = (await ask<{ rows: string }>('SELECT count() AS rows FROM requests')) as [{ rows: string }]
    const tables = await ask<{ table: string; bytes: string }>(
      "SELECT table, sum(bytes_on_disk) AS bytes FROM system.parts WHERE active AND database = 'sidecast' GROUP BY table",
    )
    const all = tables.reduce((sum, { bytes }) => sum + Number(bytes), 0)
    return {
      rows: Number(rows),
      bytesPerRow: round(all / Number(rows), 1),
      byTable: Object.fromEntries(tables.map(({ table, bytes }) => [table, round(Number(bytes) / Number(rows), 1)])),
    }
  } finally {
    await client.close()
    await store.stop(AbortSignal.timeout(30_000))
  }
}

const dir = await mkdtemp(join(tmpdir(), 'sidecast-bench-'))
try {
  console.log(JSON.stringify(await (values.stage ? stageAlone(dir) : wholeProduct(dir))))
} finally {
  await rm(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 })
}
process.exit(0)
