import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient } from '@clickhouse/client'
import { type Store, startStore } from '../../src/store/supervisor.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { type Sidecast, startSidecast } from '../../test/support/sidecast.ts'
import { childrenOf } from '../support/process-figures.ts'
import { damageJournal } from './damage.ts'
import type { KafkaTarget } from './kafka-target.ts'
import { type FaultProxy, startFaultProxy } from './proxy.ts'
import type { RealPlan, RealStep } from './real-plan.ts'
import { type Sender, startSender } from './sender.ts'
import { mountSmallDisk, type SmallDisk } from './small-disk.ts'
import { type FaultTarget, START } from './targets.ts'
import type { RunResult } from './wire.ts'

/**
 * One run with real processes: Sidecast as a user starts it, with the engine inside or beside it, requests sent to it all
 * the time, each until it is acknowledged. At the end all is well again, what is held is delivered, and this must hold:
 *
 *   - the store has every request once, but for rows that the journal reports as damaged; rollups count what rows count;
 *   - no target lacks one, and the ledger's books are closed: received = delivered + rejected + dropped, nothing held;
 *   - SIGTERM ends it with 0.
 */
export async function runReal(plan: RealPlan, kafka: KafkaTarget | null = null): Promise<RunResult> {
  const began = performance.now()
  const run = new RealRun(plan, mkdtempSync(join(tmpdir(), 'sidecast-fault-')), kafka)
  try {
    await run.begin()
    for (const { afterMs, step } of plan.steps) {
      await sleep(afterMs)
      await run.step(step)
    }
    await sleep(300)
    await run.heal()
    await run.check()
  } catch (error) {
    run.differences.push(`the run ended early: ${error instanceof Error ? error.stack : String(error)}`)
  } finally {
    await run.end()
  }
  return run.result(performance.now() - began)
}

/** A machine that is busy with other things delivers late. */
const DRAIN_MS = 240_000
const READY_MS = 180_000
/** Segments as small as a run: some are sealed, some are not, whenever it is killed. */
const SETTINGS = ['journal.segment.rows=1000', 'journal.segment.age=200ms', 'metrics.sampleEvery=1s']

interface StatusAnswer {
  readonly store: { readonly waiting_rows: number }
  readonly adapters: readonly { readonly sink: string; readonly held: number; readonly last_error: string | null }[]
}
interface AdapterFigures {
  readonly adapter: string
  readonly received: number
  readonly delivered: number
  readonly rejected: number
  readonly dropped: number
  readonly held: number
}

class RealRun {
  readonly differences: string[] = []
  readonly #plan: RealPlan
  readonly #kafka: KafkaTarget | null
  readonly #dir: string
  readonly #data: string
  readonly #configFile: string
  #engine: Store | null = null
  #engineProxy: FaultProxy | null = null
  #disk: SmallDisk | null = null
  readonly #targets: FaultTarget[] = []
  readonly #proxies: FaultProxy[] = []
  #sidecast: Sidecast | null = null
  #sender: Sender | null = null
  #url = ''
  #kills = 0
  #rowsLost = 0
  readonly #damage: string[] = []
  readonly #repeated: Record<string, number> = {}

  constructor(plan: RealPlan, dir: string, kafka: KafkaTarget | null) {
    this.#plan = plan
    this.#kafka = kafka
    this.#dir = dir
    this.#data = join(dir, 'data')
    this.#configFile = join(dir, 'sidecast.yaml')
    writeFileSync(this.#configFile, 'limits:\n  sender:\n    streams: 500\n')
  }

  async begin(): Promise<void> {
    if (this.#plan.steps.some(({ step }) => step.do === 'fill disk')) this.#disk = mountSmallDisk(this.#data)
    for (const name of this.#plan.targets) {
      const target = await START[name]()
      this.#targets.push(target)
      this.#proxies.push(await startFaultProxy(target.port))
    }
    if (this.#plan.store === 'server') {
      const engine = await startStore({ dir: join(this.#dir, 'engine'), log: silentLog })
      this.#engine = engine
      this.#engineProxy = await startFaultProxy(() => Number(new URL(engine.url).port))
    }
    await this.#start()
    this.#sender = startSender({ url: () => this.#url, seed: this.#plan.seed })
  }

  async #start(): Promise<void> {
    const set = [...SETTINGS, ...(this.#kafka?.settings(this.#plan.seed) ?? [])]
    if (this.#engine !== null && this.#engineProxy !== null) {
      const { username, password } = this.#engine.credentials.writer
      set.push(
        `store.clickhouse.url=http://127.0.0.1:${this.#engineProxy.port}`,
        `store.clickhouse.username=${username}`,
      )
      set.push(`store.clickhouse.password=${JSON.stringify(password)}`)
      set.push('store.clickhouse.insertTimeout=2s')
    }
    this.#targets.forEach((target, k) => {
      set.push(...SETTINGS_OF[target.name](this.#proxies[k]!.port))
    })
    this.#sidecast = await startSidecast({
      data: this.#data,
      set,
      args: ['--config', this.#configFile],
      readyTimeoutMs: READY_MS,
    })
    this.#url = `http://${this.#sidecast.http}`
  }

  async step(step: RealStep): Promise<void> {
    const sidecast = this.#sidecast!
    switch (step.do) {
      case 'kill main': {
        this.#kills++
        await sidecast.kill('SIGKILL')
        this.#note(sidecast)
        if (step.damage !== null) {
          // Everything that was answered is on the disk: only bytes behind it can be torn, and nobody knows where that is.
          const done =
            step.damage.kind === 'torn' ? null : damageJournal(join(this.#data, 'journal', '0'), step.damage, NONE)
          if (done !== null) this.#damage.push(done)
        }
        await this.#engineProxy?.set('pass')
        return this.#start()
      }
      case 'kill store': {
        this.#kills++
        const pid = this.#storePid()
        if (pid !== undefined) process.kill(pid, 'SIGKILL')
        return
      }
      case 'stop store': {
        const pid = this.#storePid()
        if (pid === undefined) return
        process.kill(pid, 'SIGSTOP')
        await sleep(step.ms)
        try {
          process.kill(pid, 'SIGCONT')
        } catch {
          // It was replaced meanwhile.
        }
        return
      }
      case 'store connection':
        return this.#engineProxy!.set(step.mode)
      case 'connection':
        return this.#proxies[step.target % this.#proxies.length]!.set(step.mode)
      case 'target':
        return this.#targets[step.target % this.#targets.length]!.behave(step.mode)
      case 'kafka connection':
        return this.#kafka!.proxy.set(step.mode)
      case 'restart kafka':
        return this.#kafka!.broker.restart(step.signal)
      case 'second writer':
        if ((await exitCodeOf(this.#data)) !== 1)
          this.differences.push('a second process on the directory did not exit 1')
        return
      case 'fill disk':
        await this.#disk!.fill()
        await sleep(step.ms)
        this.#disk!.empty()
        return
      case 'reload':
        writeFileSync(this.#configFile, `limits:\n  sender:\n    streams: ${step.streams}\n`)
        process.kill(sidecast.pid, 'SIGHUP')
        return
    }
  }

  #storePid(): number | undefined {
    return this.#engine === null ? childrenOf(this.#sidecast!.pid)[0] : (this.#engine.pid ?? undefined)
  }

  async heal(): Promise<void> {
    await this.#engineProxy?.set('pass')
    await this.#kafka?.proxy.set('pass')
    for (const target of this.#targets) await target.behave('accept')
    for (const proxy of this.#proxies) await proxy.set('pass')
    await this.#sender!.stop()
    const end = performance.now() + DRAIN_MS
    for (;;) {
      const status = await this.#sidecast!.get<StatusAnswer>('/api/v1/status').catch(() => null)
      if (status !== null && status.store.waiting_rows === 0 && status.adapters.every(({ held }) => held === 0)) return
      if (performance.now() > end)
        throw new Error(`not delivered: ${JSON.stringify(status)}\n${this.#sidecast!.log().slice(-3000)}`)
      await sleep(100)
    }
  }

  async check(): Promise<void> {
    const sidecast = this.#sidecast!
    const sent = this.#sender!.acknowledged
    // The last segment is acknowledged a moment after its rows are counted.
    const ledger = await sidecast.get<{ rows: AdapterFigures[] }>('/api/v1/ledger?by=adapter')
    for (const one of ledger.rows) {
      const { received, delivered, rejected, dropped, held } = one
      if (received !== delivered + rejected + dropped + held || rejected !== 0 || held !== 0) {
        this.differences.push(`the ledger of ${one.adapter}: ${JSON.stringify(one)}`)
      }
    }
    const code = await sidecast.stop()
    if (code !== 0) this.differences.push(`SIGTERM ended it with ${code}`)
    this.#note(sidecast)
    this.#sidecast = null
    const { rows, distinct, minutes, hours } = await this.#count()
    if (rows !== distinct) this.differences.push(`${rows - distinct} rows are in the store twice`)
    if (rows > sent) this.differences.push(`${rows} rows are in the store, ${sent} were sent`)
    if (sent - rows > this.#rowsLost) {
      this.differences.push(`${sent - rows} of ${sent} rows are missing, ${this.#rowsLost} are reported as damaged`)
    }
    if (minutes !== rows || hours !== rows) {
      this.differences.push(`rollups count ${minutes} and ${hours}, there are ${rows} rows`)
    }
    if (this.#kafka !== null) {
      const { numbers, total } = await this.#kafka.took(this.#plan.seed)
      const found = numbers!.size
      if (found < sent - this.#rowsLost || found > sent) this.differences.push(`Kafka has ${found} of ${sent}`)
      this.#repeated.kafka = total - found
    }
    for (const target of this.#targets) {
      if (target.name === 'remote-write') continue
      const { total } = target.took(0)
      if (total < sent - this.#rowsLost) this.differences.push(`${target.name} has ${total} of ${sent}`)
      this.#repeated[target.name] = Math.max(0, total - sent)
    }
  }

  /** Asks the engine itself. */
  async #count(): Promise<{ rows: number; distinct: number; minutes: number; hours: number }> {
    const engine = this.#engine ?? (await startStore({ dir: join(this.#data, 'store'), log: silentLog }))
    const client = createClient({ url: engine.url, ...engine.credentials.reader, database: 'sidecast' })
    try {
      const one = async (query: string): Promise<Record<string, string>> =>
        (await (await client.query({ query, format: 'JSONEachRow' })).json<Record<string, string>>())[0]!
      const { rows, distinct } = await one('SELECT count() AS rows, uniqExact(path) AS distinct FROM requests')
      const { n: minutes } = await one('SELECT sum(n) AS n FROM latency_1m')
      const { n: hours } = await one('SELECT sum(n) AS n FROM latency_1h')
      return { rows: Number(rows), distinct: Number(distinct), minutes: Number(minutes), hours: Number(hours) }
    } finally {
      await client.close()
      if (this.#engine === null) await engine.stop(AbortSignal.timeout(20_000))
    }
  }

  /** What the process said of damage. */
  #note(sidecast: Sidecast): void {
    for (const [, rows] of sidecast.log().matchAll(/"code":"SC3101".*?"rowsLost":(\d+)|"rowsLost":(\d+).*?SC3101/g)) {
      this.#rowsLost += Number(rows ?? 0)
    }
  }

  async end(): Promise<void> {
    const sending = this.#sender?.stop()
    await this.#kafka?.proxy.set('pass')
    await this.#sidecast?.close()
    this.#url = 'http://127.0.0.1:1'
    await Promise.race([sending, sleep(1000)])
    await Promise.all([...this.#proxies, ...this.#targets].map((one) => one.close()))
    await this.#engineProxy?.close()
    await this.#engine?.stop(AbortSignal.timeout(20_000))
    this.#disk?.unmount()
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
  }

  result(ms: number): RunResult {
    const sent = this.#sender?.acknowledged ?? 0
    return {
      level: 'real',
      seed: this.#plan.seed,
      targets: [this.#plan.store, ...this.#plan.targets, ...(this.#kafka === null ? [] : ['kafka'])],
      steps: this.#plan.steps.length,
      written: sent,
      fsynced: sent,
      kills: this.#kills,
      damage: this.#damage,
      rowsLost: this.#rowsLost,
      repeated: this.#repeated,
      ms: Math.round(ms),
      differences: this.differences,
    }
  }
}

const NONE: ReadonlyMap<string, number> = new Map()
const MAIN = new URL('../../src/main.ts', import.meta.url).pathname

const SETTINGS_OF: Readonly<Record<FaultTarget['name'], (port: number) => string[]>> = {
  store: () => [],
  otlp: (port) => [
    `adapters.otlp.endpoint=127.0.0.1:${port}`,
    'adapters.otlp.timeout=1s',
    'adapters.otlp.traces.sample=1',
    'adapters.otlp.metrics.interval=1s',
    'adapters.otlp.selfTraces.enabled=false',
  ],
  'wavefront-http': (port) => [
    `adapters.wavefront.url=http://127.0.0.1:${port}`,
    'adapters.wavefront.token=secret',
    'adapters.wavefront.timeout=1s',
    'adapters.wavefront.interval=1s',
    'adapters.wavefront.traces.enabled=false',
  ],
  'wavefront-tcp': (port) => [`adapters.wavefront.proxy=127.0.0.1:${port}`, 'adapters.wavefront.interval=1s'],
  'remote-write': (port) => [
    `adapters.prometheus.remoteWrite.url=http://127.0.0.1:${port}/api/v1/write`,
    'adapters.prometheus.remoteWrite.timeout=1s',
  ],
}

/** Of another process that is started on the same directory. */
async function exitCodeOf(data: string): Promise<number | null> {
  const free = ['http.listen', 'ingest.grpc.listen', 'ingest.otlpHttp.listen', 'ingest.statsd.udp', 'ingest.statsd.tcp']
  const child = spawn(
    process.execPath,
    [MAIN, 'run', '--data', data, ...free.flatMap((path) => ['--set', `${path}=127.0.0.1:0`])],
    { stdio: 'ignore' },
  )
  const exited = new Promise<number | null>((done) => child.once('exit', (code) => done(code)))
  const timer = setTimeout(() => child.kill('SIGKILL'), 20_000)
  const code = await exited
  clearTimeout(timer)
  return code
}
