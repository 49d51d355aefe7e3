import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient } from '@clickhouse/client'
import { seededRandom } from '../../src/lib/random.ts'
import { startStore } from '../../src/store/supervisor.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { type Sidecast, startSidecast } from './sidecast.ts'

/**
 * Kills the main process again and again, at seeded moments under load, and counts at the end what the store has.
 *
 *   start ─ load begins ─ wait a seeded while ─ kill -9 ─ what was handed to the socket by then? ─ start …
 *
 * Every entry has an id of its own. What must hold: no id twice; rollups count what rows count; and of each round no
 * more is missing than was sent in the last 250 ms, sockets included, since ALS has no acknowledgement.
 */
export interface KillMainResult {
  readonly seed: number
  readonly kills: number
  readonly sent: number
  readonly stored: number
  readonly distinct: number
  readonly rollupMinutes: number
  readonly rollupHours: number
  /** Of the round that lost most: rows, and as ms of the rate. */
  readonly missingMost: number
  readonly missingMostMs: number
  /** Process start to ready line, replay included. */
  readonly startMsMedian: number
  readonly startMsWorst: number
  readonly journalWarnings: readonly string[]
  readonly differences: readonly string[]
}

export interface KillMainOptions {
  readonly kills: number
  readonly seed: number
  /** Entries per second. */
  readonly rate: number
  /** Rows that a kill may cost, as ms of the rate; 250, and no bound in tests, since a busy machine is late with everything. */
  readonly missingMsMax?: number
  readonly onRound?: (round: number, startMs: number, sent: number) => void
}

const LOAD = new URL('../../bench/support/load.ts', import.meta.url).pathname
const MISSING_MS_MAX = 250

export async function killMain(options: KillMainOptions): Promise<KillMainResult> {
  const { kills, seed, rate } = options
  const random = seededRandom(seed)
  const data = await mkdtemp(join(tmpdir(), 'sidecast-kill-'))
  const differences: string[] = []
  const warnings = new Set<string>()
  const sentOf: number[] = []
  const startMs: number[] = []
  try {
    for (let round = 0; round <= kills; round++) {
      const last = round === kills
      const sidecast = await startSidecast({ data })
      startMs.push(sidecast.readyMs)
      const load = startLoad(sidecast.grpc, rate, round, seed)
      await load.began
      await sleep(200 + Math.floor(random() * 2500))
      if (last) {
        await sleep(500)
        load.child.kill('SIGTERM')
        sentOf.push(await load.sent)
        await drained(sidecast)
        if ((await sidecast.stop()) !== 0) differences.push('the last stop did not exit 0')
      } else {
        await sidecast.kill('SIGKILL')
        sentOf.push(await load.sent)
      }
      for (const line of sidecast.log().split('\n')) if (/SC3101|"error"/.test(line)) warnings.add(line.slice(0, 300))
      options.onRound?.(round, sidecast.readyMs, sentOf.at(-1)!)
    }
    const found = await count(join(data, 'store'))
    const sent = sentOf.reduce((sum, n) => sum + n, 0)
    if (found.stored !== found.distinct) differences.push(`${found.stored - found.distinct} rows are there twice`)
    if (found.rollupMinutes !== found.stored) differences.push(`latency_1m counts ${found.rollupMinutes}`)
    if (found.rollupHours !== found.stored) differences.push(`latency_1h counts ${found.rollupHours}`)
    let missingMost = 0
    for (const [round, n] of sentOf.entries()) {
      const missing = n - (found.byRound.get(round) ?? 0)
      missingMost = Math.max(missingMost, missing)
      if (missing < 0) differences.push(`round ${round}: ${-missing} more rows than were sent`)
      if (round === kills && missing !== 0) differences.push(`the round without a kill lost ${missing} rows`)
      if (missing > (rate * (options.missingMsMax ?? MISSING_MS_MAX)) / 1000)
        differences.push(`round ${round}: ${missing} of ${n} rows are missing`)
    }
    const { byRound: _, ...figures } = found
    return {
      seed,
      kills,
      sent,
      ...figures,
      missingMost,
      missingMostMs: (missingMost / rate) * 1000,
      startMsMedian: startMs.toSorted((a, b) => a - b)[startMs.length >> 1]!,
      startMsWorst: Math.max(...startMs),
      journalWarnings: [...warnings].slice(0, 20),
      differences,
    }
  } finally {
    await rm(data, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
  }
}

interface Load {
  readonly child: ChildProcess
  /** The first entries are on their way. */
  readonly began: Promise<void>
  /** Entries handed to the socket, once it is over. */
  readonly sent: Promise<number>
}

/** Entries of node `round`, so that the store can tell the rounds apart. Ends when its connection does. */
function startLoad(to: string, rate: number, round: number, seed: number): Load {
  const child = spawn(
    process.execPath,
    [
      LOAD,
      '--to',
      to,
      '--rate',
      String(rate),
      '--seconds',
      '600',
      '--streams',
      '1',
      '--node',
      String(round),
      '--seed',
      String(seed * 10_000 + round),
      '--report',
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const lines = createInterface({ input: child.stdout! })
  let sent = 0
  let started: () => void
  const began = new Promise<void>((done) => {
    started = done
  })
  lines.on('line', (line) => {
    const report = JSON.parse(line) as { sent: number }
    sent = report.sent
    started()
  })
  return { child, began, sent: new Promise((done) => child.once('close', () => done(sent))) }
}

async function drained(sidecast: Sidecast): Promise<void> {
  const deadline = performance.now() + 120_000
  while (performance.now() < deadline) {
    const { store } = await sidecast.get<{ store: { waiting_rows: number } }>('/api/v1/status')
    if (store.waiting_rows === 0) return
    await sleep(500)
  }
}

/** Asks the engine itself, without Sidecast around it. */
async function count(dir: string): Promise<{
  stored: number
  distinct: number
  rollupMinutes: number
  rollupHours: number
  byRound: Map<number, number>
}> {
  const store = await startStore({ dir, log: silentLog })
  const client = createClient({ url: store.url, ...store.credentials.reader, database: 'sidecast' })
  try {
    const ask = async <Row>(query: string): Promise<Row[]> =>
      (await client.query({ query, format: 'JSONEachRow' })).json<Row>()
    const [rows] = await ask<{ stored: string; distinct: string }>(
      'SELECT count() AS stored, uniqExact(request_uuid) AS distinct FROM requests',
    )
    const [minutes] = await ask<{ n: string }>('SELECT sum(n) AS n FROM latency_1m')
    const [hours] = await ask<{ n: string }>('SELECT sum(n) AS n FROM latency_1h')
    const nodes = await ask<{ node: string; n: string }>(
      'SELECT node_id AS node, count() AS n FROM requests GROUP BY node',
    )
    return {
      stored: Number(rows!.stored),
      distinct: Number(rows!.distinct),
      rollupMinutes: Number(minutes!.n),
      rollupHours: Number(hours!.n),
      byRound: new Map(nodes.map(({ node, n }) => [roundOf(node), Number(n)])),
    }
  } finally {
    await client.close()
    await store.stop(AbortSignal.timeout(20_000))
  }
}

/** The generator's node ids hold the number of the node: `sidecar~…~web-7.shop~…`. */
function roundOf(node: string): number {
  return Number(/~web-(\d+)\./.exec(node)?.[1] ?? Number.NaN)
}
