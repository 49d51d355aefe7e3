import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { startStore } from '../src/store/supervisor.ts'
import { silentLog } from '../src/telemetry/log.ts'
import { startSidecast } from '../test/support/sidecast.ts'
import { startFaultProxy } from './faults/proxy.ts'
import { START } from './faults/targets.ts'
import { processFigures } from './support/process-figures.ts'

/**
 * Every target is away while requests keep coming: the store, OTLP, Wavefront and remote write. Does memory stay flat, does the
 * disk grow as the rows do, is everything delivered afterwards, and how soon is what comes now answered for again?
 *
 *   node bench/all-down.ts [--seconds 600] [--rate 50000]
 */
const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '600' }, rate: { type: 'string', default: '50000' } },
})
const seconds = Number(values.seconds)
const rate = Number(values.rate)
const WARM_SECONDS = 10
const AFTER_SECONDS = 20
const DRAIN_MS = 20 * 60_000

interface Status {
  readonly store: { readonly waiting_rows: number; readonly waiting_segments: number }
  readonly disk: { readonly journal_bytes: number }
  readonly adapters: readonly { readonly sink: string; readonly held: number; readonly rejected: number }[]
}

const dir = mkdtempSync(join(tmpdir(), 'sidecast-down-'))
const engine = await startStore({ dir: join(dir, 'engine'), log: silentLog })
const targets = await Promise.all([START.otlp(), START['wavefront-http'](), START['remote-write']()])
const proxies = await Promise.all(
  [() => Number(new URL(engine.url).port), ...targets.map(({ port }) => port)].map(startFaultProxy),
)
const [store, otlp, wavefront, remoteWrite] = proxies.map(({ port }) => port)
const { username, password } = engine.credentials.writer
const sidecast = await startSidecast({
  data: join(dir, 'data'),
  set: [
    `store.clickhouse.url=http://127.0.0.1:${store}`,
    `store.clickhouse.username=${username}`,
    `store.clickhouse.password=${JSON.stringify(password)}`,
    'store.freshFirst=true',
    `adapters.otlp.endpoint=127.0.0.1:${otlp}`,
    // Spans of failed requests alone: the fake target keeps what it takes.
    'adapters.otlp.traces.sample=0',
    'adapters.otlp.logs.enabled=false',
    `adapters.wavefront.url=http://127.0.0.1:${wavefront}`,
    'adapters.wavefront.token=secret',
    'adapters.wavefront.traces.enabled=false',
    `adapters.prometheus.remoteWrite.url=http://127.0.0.1:${remoteWrite}/api/v1/write`,
  ],
})
const load = spawn(
  process.execPath,
  [
    join(import.meta.dirname, 'support/load.ts'),
    ...['--to', sidecast.grpc, '--rate', String(rate), '--streams', '4'],
    ...['--seconds', String(WARM_SECONDS + seconds + AFTER_SECONDS)],
  ],
  { stdio: ['ignore', 'pipe', 'inherit'] },
)
let report = ''
load.stdout.on('data', (text) => {
  report += text
})
const loaded = once(load, 'close')

const status = () => sidecast.get<Status>('/api/v1/status')
await sleep(WARM_SECONDS * 1000)
const before = { rssMb: processFigures(sidecast.pid).rssMb, journalBytes: (await status()).disk.journal_bytes }
for (const proxy of proxies) await proxy.set('away')
const memory: number[] = []
let waiting: Status | null = null
for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(1000)) {
  memory.push(processFigures(sidecast.pid).rssMb)
  waiting = await status().catch(() => waiting)
}
for (const proxy of proxies) await proxy.set('pass')
const backMs = Date.now()
const freshMs = await untilAnswered(backMs)
await loaded
const { sent } = JSON.parse(report) as { sent: number }
const drainedMs = await untilDrained()
const rows = await sidecast.get<{ series: { points: { n: number }[] }[] }>(
  '/api/v1/latency?from=-2h&to=%2B5m&view=all&q=0.5&method=histogram',
)
const stored = rows.series.reduce((sum, { points }) => sum + points.reduce((all, { n }) => all + n, 0), 0)
const last = await status()
const middle = Math.floor(memory.length / 2)
console.log(
  JSON.stringify({
    bench: 'all-down',
    seconds,
    rate,
    sent,
    stored,
    rssMb: {
      before: before.rssMb,
      firstHalfMost: Math.max(...memory.slice(0, middle)),
      secondHalfMost: Math.max(...memory.slice(middle)),
      after: processFigures(sidecast.pid).rssMb,
    },
    journalBytesPerRow: ((waiting?.disk.journal_bytes ?? 0) - before.journalBytes) / (waiting?.store.waiting_rows ?? 1),
    waitingSegments: waiting?.store.waiting_segments,
    freshAnsweredAfterMs: freshMs,
    drainedAfterSeconds: Math.round((drainedMs - backMs) / 1000),
    rejected: last.adapters.reduce((sum, { rejected }) => sum + rejected, 0),
  }),
)
await sidecast.close()
await Promise.all([...proxies, ...targets].map((one) => one.close()))
await engine.stop(AbortSignal.timeout(20_000))
rmSync(dir, { recursive: true, force: true })
process.exit(stored === sent ? 0 : 1)

/** How long it takes until a request that ended after `sinceMs` is in an answer. */
async function untilAnswered(sinceMs: number): Promise<number | null> {
  for (const end = Date.now() + 60_000; Date.now() < end; await sleep(50)) {
    const from = encodeURIComponent(new Date(sinceMs).toISOString())
    const answer = await sidecast
      .get<{ rows: unknown[] }>(`/api/v1/requests?from=${from}&to=%2B1m&limit=1&view=all&columns=path`)
      .catch(() => null)
    if (answer !== null && answer.rows.length > 0) return Date.now() - sinceMs
  }
  return null
}

async function untilDrained(): Promise<number> {
  for (const end = Date.now() + DRAIN_MS; Date.now() < end; await sleep(500)) {
    const now = await status().catch(() => null)
    if (now !== null && now.store.waiting_rows === 0 && now.adapters.every(({ held }) => held === 0)) return Date.now()
  }
  throw new Error('not everything was delivered')
}
