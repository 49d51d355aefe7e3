import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { childrenOf, processFigures } from '../../bench/support/process-figures.ts'
import { startFakeClickHouse } from './fake-clickhouse.ts'
import { startOtlpTarget } from './otlp-target.ts'
import { startFakeReceiver } from './remote-write.ts'
import { type Sidecast, startSidecast } from './sidecast.ts'
import { startTcpTarget } from './wavefront/target.ts'

const LOAD = new URL('../../bench/support/load.ts', import.meta.url).pathname

export interface AllDown {
  readonly sent: number
  readonly stored: number
  /** Rows that waited for the store when it came back. */
  readonly waitingMost: number
  /** Of the process, MB: before, the most of each tenth of the outage, and at the end of everything. */
  readonly rssMb: { readonly before: number; readonly tenths: readonly number[]; readonly after: number }
  readonly disk: {
    /** As the first seconds of the outage have it. */
    readonly bytesPerRow: number
    /** `bytesPerRow` times the rows that waited, and those that are kept for a while after the store had them. */
    readonly computedMb: number
    /** Of all segments; without the files that are kept to be used again, 256 MB at most. */
    readonly measuredMb: number
  }
  /** From the store's return until a question is answered about the two seconds before it, and about what ended after it. */
  readonly freshMs: { readonly before: number; readonly after: number }
  /** Until everybody had everything, s. */
  readonly drainedSeconds: number
  readonly adapters: Readonly<Record<string, Account>>
  /** Segments that came to a target after a younger one. */
  readonly outOfOrder: number
}

interface Account {
  readonly received: number
  readonly delivered: number
  readonly rejected: number
  readonly dropped: number
  readonly held: number
}

export interface AllDownOptions {
  /** Of the outage, and entries a second. */
  readonly seconds: number
  readonly rate: number
  /** The load goes on for so long, so that there is something fresh. */
  readonly afterSeconds?: number
}

const WARM_UP_MS = 4000
const DRAIN_MS = 600_000

/**
 * Everything downstream is away at one time, under load: the store stands still, nobody listens where the others were. Then
 * all come back.
 */
export async function allDown(options: AllDownOptions): Promise<AllDown> {
  const { afterSeconds = 12 } = options
  const clickhouse = await startFakeClickHouse('latency_1m')
  const [receiver, otlp, wavefront] = [await startFakeReceiver(), await startOtlpTarget(), await startTcpTarget()]
  const targets = [clickhouse, receiver, otlp, wavefront]
  const sidecast = await startSidecast({
    set: [
      'store.freshFirst=true',
      `adapters.clickhouse.url=${clickhouse.url}`,
      'adapters.clickhouse.tables=[{from: latency_1m, into: mine, columns: {minute: minute, n: n}}]',
      `adapters.prometheus.remoteWrite.url=${receiver.url}`,
      `adapters.otlp.endpoint=http://${otlp.address}`,
      // The targets live in this process: what adds up is little, single requests are not.
      'adapters.otlp.traces.enabled=false',
      'adapters.otlp.logs.enabled=false',
      'adapters.otlp.metrics.interval=5s',
      'adapters.wavefront.interval=5s',
      `adapters.wavefront.proxy=127.0.0.1:${wavefront.port}`,
    ],
  })
  try {
    const [store] = childrenOf(sidecast.pid)
    const load = startLoad(sidecast, options.rate, WARM_UP_MS / 1000 + options.seconds + afterSeconds)
    await sleep(WARM_UP_MS)
    const before = processFigures(sidecast.pid).rssMb
    process.kill(store!, 'SIGSTOP')
    for (const target of targets) await target.behave('away')
    const rss: number[] = []
    let waiting = { rows: 0, bytes: 0 }
    let bytesPerRow = 0
    for (let second = 0; second < options.seconds; second++) {
      await sleep(1000)
      rss.push(processFigures(sidecast.pid).rssMb)
      waiting = await backlog(sidecast)
      if (second <= Math.min(10, options.seconds / 3)) bytesPerRow = waiting.bytes / waiting.rows
    }
    const measured = await sizeOf(join(sidecast.data, 'journal'))
    const kept = options.rate * (WARM_UP_MS / 1000)
    process.kill(store!, 'SIGCONT')
    const returned = Date.now()
    for (const target of targets) await target.behave('accept')
    const freshMs = {
      before: await answeredAfter(sidecast, returned, `from=${returned - 2000}&to=${returned}`),
      after: await answeredAfter(sidecast, returned, `from=${returned}&to=%2B5m`),
    }
    const sent = await load
    const adapters = await drained(sidecast)
    return {
      sent,
      stored: await storedRows(sidecast, sent),
      waitingMost: waiting.rows,
      rssMb: { before, tenths: tenthsOf(rss), after: processFigures(sidecast.pid).rssMb },
      disk: {
        bytesPerRow: Math.round(bytesPerRow),
        computedMb: Math.round((bytesPerRow * (waiting.rows + kept)) / 1e6),
        measuredMb: Math.round(measured / 1e6),
      },
      freshMs,
      drainedSeconds: (Date.now() - returned) / 1000,
      adapters,
      outOfOrder: outOfOrder(clickhouse.tokens()),
    }
  } finally {
    await sidecast.close()
    await Promise.all(targets.map((target) => target.close()))
  }
}

/** The most of each tenth, rounded. */
function tenthsOf(samples: readonly number[]): number[] {
  const size = Math.max(1, Math.ceil(samples.length / 10))
  const tenths: number[] = []
  for (let from = 0; from < samples.length; from += size)
    tenths.push(Math.round(Math.max(...samples.slice(from, from + size))))
  return tenths
}

/** Tokens begin with the segment: `<worker>-<epoch>-<seq>/…`. */
function outOfOrder(tokens: readonly string[]): number {
  const sequence = tokens.map((token) => Number(token.split('/')[0]!.split('-').at(-1)))
  let highest = -1
  let late = 0
  for (const seq of sequence) {
    if (seq < highest) late++
    highest = Math.max(highest, seq)
  }
  return late
}

async function answeredAfter(sidecast: Sidecast, returned: number, range: string): Promise<number> {
  for (;;) {
    const { series } = await sidecast
      .get<Latency>(`/api/v1/latency?${range}&view=all&method=exact&q=0.5`)
      .catch((): Latency => ({ series: [] }))
    if ((series[0]?.points[0]?.n ?? 0) > 0) return Date.now() - returned
    if (Date.now() - returned > DRAIN_MS) throw new Error('no answer about what came lately')
    await sleep(50)
  }
}

interface Latency {
  readonly series: readonly { readonly points: readonly { readonly n: number }[] }[]
}

/** Resolves when nothing waits for anybody, with what became of the rows. */
async function drained(sidecast: Sidecast): Promise<Record<string, Account>> {
  const deadline = Date.now() + DRAIN_MS
  for (;;) {
    const text = await page(sidecast)
    const accounts: Record<string, Record<string, number>> = {}
    const note = (adapter: string, what: string, n: number) => {
      accounts[adapter] = { ...accounts[adapter], [what]: n }
    }
    for (const [, adapter, result, n] of text.matchAll(
      /^sidecast_adapter_rows_total\{adapter="([^"]+)",result="(\w+)"\} (\S+)$/gm,
    )) {
      note(adapter!, result!, Number(n))
    }
    for (const [, adapter, n] of text.matchAll(/^sidecast_adapter_held_rows\{adapter="([^"]+)"\} (\S+)$/gm)) {
      note(adapter!, 'held', Number(n))
    }
    const held = Object.values(accounts).reduce((sum, account) => sum + (account.held ?? 0), 0)
    if (held + (await backlog(sidecast)).rows === 0) return accounts as unknown as Record<string, Account>
    if (Date.now() > deadline) throw new Error(`rows still wait: ${JSON.stringify(accounts)}`)
    await sleep(500)
  }
}

async function storedRows(sidecast: Sidecast, expected: number): Promise<number> {
  let stored = 0
  for (let k = 0; k < 40 && stored < expected; k++) {
    const { series } = await sidecast.get<Latency>('/api/v1/latency?from=-1h&to=%2B5m&view=all&method=exact&q=0.5')
    stored = series[0]?.points[0]?.n ?? 0
    if (stored < expected) await sleep(500)
  }
  return stored
}

async function backlog(sidecast: Sidecast): Promise<{ rows: number; bytes: number }> {
  const text = await page(sidecast)
  return { rows: read(text, 'sidecast_delivery_held_rows'), bytes: read(text, 'sidecast_delivery_held_bytes') }
}

const page = async (sidecast: Sidecast): Promise<string> =>
  await (await fetch(`http://${sidecast.http}/metrics`)).text()
const read = (text: string, name: string): number => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? 0)

async function sizeOf(directory: string): Promise<number> {
  let bytes = 0
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || entry.parentPath.endsWith('/spare')) continue
    bytes += (await stat(join(entry.parentPath, entry.name)).catch(() => ({ size: 0 }))).size
  }
  return bytes
}

async function startLoad(sidecast: Sidecast, rate: number, seconds: number): Promise<number> {
  const child: ChildProcess = spawn(
    process.execPath,
    [LOAD, '--to', sidecast.grpc, '--rate', String(rate), '--seconds', String(seconds), '--streams', '4'],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  let text = ''
  child.stdout!.on('data', (chunk) => {
    text += chunk
  })
  await once(child, 'close')
  return (JSON.parse(text) as { sent: number }).sent
}
