import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient } from '@clickhouse/client'
import type { KafkaDriverName } from '../../src/kafka/driver.ts'
import { seededRandom } from '../../src/lib/random.ts'
import { startStore } from '../../src/store/supervisor.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import type { KafkaBroker } from './kafka.ts'
import { startAs } from './run-roles.ts'
import type { Sidecast } from './sidecast.ts'

/**
 * An edge, a broker, a writer and its engine, while lines are sent all the time. At seeded moments one of the three
 * processes is killed with SIGKILL, or the broker is restarted, politely or not.
 *
 *   lines ─ HTTP, with a key ─► edge ─► broker ─► writer ─► engine
 *                              kill    restart    kill      kill
 *
 * What the edge has answered for is what must be in the store: each line once, and rollups that count as many. A request
 * that got no answer is sent again with its key until it does, so nothing is in doubt.
 */
export interface KillRolesOptions {
  readonly broker: KafkaBroker
  readonly seed: number
  /** Spread over edge, writer and engine. */
  readonly kills: number
  readonly restarts: number
  readonly driver: KafkaDriverName
  /** Lines of one request, at most, and ms between two. */
  readonly lines?: number
  readonly everyMs?: number
  /** No further faults after this long; what has been done by then is told and checked. */
  readonly faultsMsMax?: number
  readonly onFault?: (text: string) => void
}

export interface KillRolesResult {
  readonly seed: number
  readonly driver: KafkaDriverName
  readonly killed: Readonly<Record<'edge' | 'writer' | 'engine', number>>
  readonly restarts: number
  readonly sent: number
  readonly stored: number
  readonly twice: number
  readonly missing: number
  readonly rollupMinutes: number
  readonly rollupHours: number
  /** Of the last life of the writer. */
  readonly writer: Readonly<Record<string, number>>
  readonly differences: readonly string[]
}

type Fault = 'edge' | 'writer' | 'engine' | 'restart'
const VICTIMS = ['edge', 'writer', 'engine'] as const
const DRAIN_MS = 120_000
const SESSION = '3s'
/** Small parts, so that segments have many and kills come in the middle of them. */
const SMALL = ['adapters.kafka.batchMax=32 KiB', 'adapters.kafka.create.partitions=3', `writer.session=${SESSION}`]

export async function killRoles(options: KillRolesOptions): Promise<KillRolesResult> {
  const { broker, seed, kills, restarts, driver, faultsMsMax = Number.POSITIVE_INFINITY, onFault = () => {} } = options
  const random = seededRandom(seed)
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-roles-'))
  const roles = {
    broker: broker.address,
    prefix: `roles-${seed}-${process.pid}.`,
    set: [...SMALL, `adapters.kafka.driver=${driver}`],
  }
  const start = (role: 'edge' | 'writer') => startAs(role, roles, { data: join(dir, role) })
  let [edge, writer] = await Promise.all([start('edge'), start('writer')])
  const sending = new Sending(() => edge.http, options, random)
  const killed = { edge: 0, writer: 0, engine: 0 }
  let restarted = 0
  const began = performance.now()
  try {
    for (const [k, fault] of faultsOf(kills, restarts, random).entries()) {
      if (performance.now() - began > faultsMsMax) break
      await sleep(300 + random() * 1700)
      if (fault === 'restart') {
        restarted++
        await broker.restart(random() < 0.5 ? 'SIGKILL' : 'SIGTERM')
      } else {
        killed[fault]++
        if (fault === 'edge') {
          await edge.kill('SIGKILL')
          edge = await start('edge')
        } else if (fault === 'writer') {
          await writer.kill('SIGKILL')
          // Another machine: of what a writer has on its disk nothing is needed but the engine's.
          if (random() < 0.5) rmSync(join(dir, 'writer', 'writer'), { recursive: true, force: true })
          writer = await start('writer')
        } else killEngine(writer.pid)
      }
      onFault(`${k + 1}/${kills + restarts} ${fault}, ${sending.sent} lines`)
    }
    await sending.stop()
    const drained = await untilDrained(edge, writer)
    const counters = await writerCounters(writer)
    await edge.stop()
    await writer.stop()
    const found = await count(join(dir, 'writer', 'store'), sending.sent)
    const differences = [...drained]
    if (found.twice > 0) differences.push(`${found.twice} lines are stored twice`)
    if (found.missing > 0) differences.push(`${found.missing} lines are missing`)
    if (found.stored !== sending.sent) differences.push(`${sending.sent} sent, ${found.stored} stored`)
    if (found.rollupMinutes !== sending.sent) differences.push(`latency_1m counts ${found.rollupMinutes}`)
    if (found.rollupHours !== sending.sent) differences.push(`latency_1h counts ${found.rollupHours}`)
    return { seed, driver, killed, restarts: restarted, sent: sending.sent, ...found, writer: counters, differences }
  } finally {
    await sending.stop().catch(() => {})
    await Promise.all([edge.kill('SIGKILL').catch(() => {}), writer.kill('SIGKILL').catch(() => {})])
    rmSync(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
  }
}

function faultsOf(kills: number, restarts: number, random: () => number): Fault[] {
  const faults: Fault[] = Array.from({ length: kills }, (_, k) => VICTIMS[k % VICTIMS.length]!)
  for (let k = 0; k < restarts; k++) faults.push('restart')
  for (let k = faults.length - 1; k > 0; k--) {
    const other = Math.floor(random() * (k + 1))
    const one = faults[k]!
    faults[k] = faults[other]!
    faults[other] = one
  }
  return faults
}

/** The engine is the writer's child; the writer starts another one. */
function killEngine(writer: number): void {
  const children = readFileSync(`/proc/${writer}/task/${writer}/children`, 'utf8').trim()
  for (const pid of children === '' ? [] : children.split(' ')) process.kill(Number(pid), 'SIGKILL')
}

/** Numbered lines in numbered requests, each sent until it is answered. */
class Sending {
  sent = 0
  #on = true
  readonly #done: Promise<void>

  constructor(http: () => string, { lines = 200, everyMs = 40, seed }: KillRolesOptions, random: () => number) {
    this.#done = (async () => {
      for (let request = 0; this.#on; request++) {
        const count = 1 + Math.floor(random() * lines)
        await post(http, `kill-roles-${seed}-${request}`, linesFrom(this.sent, count))
        this.sent += count
        await sleep(everyMs)
      }
    })()
  }

  async stop(): Promise<void> {
    this.#on = false
    await this.#done
  }
}

const POST_MS = 120_000

async function post(http: () => string, key: string, body: string): Promise<void> {
  const until = Date.now() + POST_MS
  for (;;) {
    try {
      const answer = await fetch(`http://${http()}/ingest/v1/logs?preset=envoy-text`, {
        method: 'POST',
        headers: { 'idempotency-key': key, 'content-type': 'text/plain' },
        body,
        signal: AbortSignal.timeout(10_000),
      })
      const text = await answer.text()
      if (answer.status === 200) {
        const { rejected } = JSON.parse(text) as { rejected: number }
        if (rejected > 0) throw new RangeError(`the edge refused ${rejected} lines: ${text.slice(0, 300)}`)
        return
      }
      if (answer.status < 500 && answer.status !== 409) throw new RangeError(`${answer.status}: ${text.slice(0, 300)}`)
    } catch (error) {
      if (error instanceof RangeError || Date.now() > until) throw error
    }
    await sleep(100)
  }
}

function linesFrom(first: number, count: number): string {
  const time = new Date().toISOString()
  return Array.from({ length: count }, (_, k) => {
    const id = (first + k).toString(16).padStart(12, '0')
    const path = `/item/${(first + k) % 50}`
    return `[${time}] "GET ${path} HTTP/1.1" 200 - 0 512 ${1 + ((first + k) % 90)} 4 "-" "kill" "00000000-0000-4000-8000-${id}" "shop.example" "10.0.0.1:80"`
  }).join('\n')
}

async function untilDrained(edge: Sidecast, writer: Sidecast): Promise<string[]> {
  const until = Date.now() + DRAIN_MS
  let last = ''
  for (let quiet = 0; quiet < 3; ) {
    if (Date.now() > until) return [`not drained: ${last}`]
    await sleep(500)
    const { adapters } = await edge.get<{ adapters: { held: number }[] }>('/api/v1/status')
    const counters = await writerCounters(writer)
    last = JSON.stringify({ held: adapters.map(({ held }) => held), ...counters })
    const { segments_whole: whole, segments_stored: stored, segments_again: again } = counters
    const idle =
      adapters.every(({ held }) => held === 0) &&
      counters.lag_records === 0 &&
      counters.partitions! > 0 &&
      whole === stored! + again!
    quiet = idle ? quiet + 1 : 0
  }
  return []
}

async function writerCounters({ http }: Sidecast): Promise<Record<string, number>> {
  const page = await (await fetch(`http://${http}/metrics`)).text()
  const found: Record<string, number> = {}
  for (const [, name, result, value] of page.matchAll(
    /^sidecast_writer_(\w+?)(?:_total)?(?:\{\w+="(\w+)"\})? (\d+)$/gm,
  )) {
    found[result === undefined ? name! : `${name}_${result}`] = Number(value)
  }
  return found
}

/** ClickHouseLogLevel.OFF, which the client exports as an enum. */
const OFF = 127

async function count(dir: string, sent: number) {
  const store = await startStore({ dir, log: silentLog })
  const client = createClient({
    url: store.url,
    ...store.credentials.reader,
    request_timeout: 120_000,
    log: { level: OFF },
  })
  const one = async <Row>(query: string): Promise<Row> =>
    (await (await client.query({ query, format: 'JSONEachRow' })).json<Row>())[0]!
  try {
    const rows = await one<{ n: string; ids: string }>(
      `SELECT count() AS n, uniqExactIf(request_uuid, startsWith(toString(request_uuid), '00000000-0000-4000-8000-')) AS ids
       FROM sidecast.requests`,
    )
    const minutes = await one<{ n: string }>('SELECT sum(n) AS n FROM sidecast.latency_1m')
    const hours = await one<{ n: string }>('SELECT sum(n) AS n FROM sidecast.latency_1h')
    const [stored, ids] = [Number(rows.n), Number(rows.ids)]
    return {
      stored,
      twice: stored - ids,
      missing: sent - ids,
      rollupMinutes: Number(minutes.n),
      rollupHours: Number(hours.n),
    }
  } finally {
    await client.close()
    await store.stop(AbortSignal.timeout(20_000))
  }
}
