import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { damageJournal } from './damage.ts'
import type { Plan, Step } from './plan.ts'
import { type FaultProxy, startFaultProxy } from './proxy.ts'
import { type FaultTarget, START } from './targets.ts'
import { RunClock, startWireProcess, type WireProcess } from './wire-process.ts'

/**
 * One run with wire-level fakes: the real journal and the real adapters, targets that speak the protocols, and between them
 * what breaks connections. At the end all is well again, what is held is delivered, and this must hold:
 *
 *   - every request that was fsynced is in every target, but for rows that the journal reports as damaged;
 *   - no target that promises it has one twice; no target has one that was never sent;
 *   - of every sink: received = delivered + rejected + dropped + lost + held, and held = 0.
 */
export interface RunResult {
  readonly level: 'wire' | 'real'
  readonly seed: number
  readonly targets: readonly string[]
  readonly steps: number
  readonly written: number
  readonly fsynced: number
  readonly kills: number
  readonly damage: readonly string[]
  readonly rowsLost: number
  /** Of targets that do not promise once: how many more than once. */
  readonly repeated: Readonly<Record<string, number>>
  readonly ms: number
  /** Empty when everything holds. */
  readonly differences: readonly string[]
}

/** A machine that is busy with other things delivers late. */
const DRAIN_MS = 120_000

export async function runWire(plan: Plan): Promise<RunResult> {
  const began = performance.now()
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-fault-'))
  const targets = await Promise.all(plan.targets.map((name) => START[name]()))
  const proxies = await Promise.all(targets.map((target) => startFaultProxy(target.port)))
  const run = new Run(plan, dir, targets, proxies)
  try {
    await run.begin()
    for (const step of plan.steps) await run.step(step)
    await run.heal()
    await run.check()
  } catch (error) {
    run.differences.push(`the run ended early: ${error instanceof Error ? error.stack : String(error)}`)
  } finally {
    await run.end()
    await Promise.all(proxies.map((proxy) => proxy.close()))
    await Promise.all(targets.map((target) => target.close()))
    rmSync(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
  }
  return run.result(performance.now() - began)
}

class Run {
  readonly differences: string[] = []
  readonly #plan: Plan
  readonly #journal: string
  readonly #targets: readonly FaultTarget[]
  readonly #proxies: readonly FaultProxy[]
  readonly #clock = new RunClock()
  #process: WireProcess | null = null
  #written = 0
  /** First request of the present process that is not known to be fsynced. */
  #unsynced = 0
  readonly #fsynced: [from: number, to: number][] = []
  readonly #damage: string[] = []
  readonly #repeated: Record<string, number> = {}
  #kills = 0
  #rowsLost = 0
  /** Something happened after which nobody can know whether what was sent has arrived. */
  #doubt = false
  /** Bytes of `current` that are fsynced, by file: a machine's crash tears what comes after. */
  #safe = new Map<string, number>()

  constructor(plan: Plan, dir: string, targets: readonly FaultTarget[], proxies: readonly FaultProxy[]) {
    this.#plan = plan
    this.#journal = join(dir, 'journal')
    this.#targets = targets
    this.#proxies = proxies
    mkdirSync(`${this.#journal}-data`, { recursive: true })
  }

  async begin(): Promise<void> {
    this.#process = await startWireProcess({
      dir: this.#journal,
      clock: this.#clock,
      open: (shared) => Promise.all(this.#targets.map((target, k) => target.open(shared, this.#proxies[k]!.port))),
    })
    this.#unsynced = this.#written
  }

  async step(step: Step): Promise<void> {
    const process = this.#process!
    switch (step.do) {
      case 'write': {
        const from = this.#written
        this.#written += step.rows
        this.#synced(await process.write(from, step.rows))
        return
      }
      case 'seal':
        return process.seal()
      case 'wait':
        return void (await sleep(step.ms))
      case 'connection':
        if (step.mode !== 'pass' && step.mode !== 'away') this.#doubt = true
        return this.#proxies[step.target % this.#proxies.length]!.set(step.mode)
      case 'target':
        if (step.mode !== 'accept') this.#doubt = true
        return this.#targets[step.target % this.#targets.length]!.behave(step.mode)
      case 'disk':
        process.files.room = step.room ?? Number.POSITIVE_INFINITY
        return
      case 'clock':
        this.#clock.offsetMs += step.byMs
        return
      case 'second writer':
        if (!(await process.keepsOthersOff())) this.differences.push('a second writer was let in')
        return
      case 'kill': {
        this.#kills++
        this.#doubt = true
        await this.#end('kill')
        if (step.damage !== null) this.#harm(step.damage)
        return this.begin()
      }
    }
  }

  /** Everything works again, and everything is delivered. */
  async heal(): Promise<void> {
    const process = this.#process!
    process.files.room = Number.POSITIVE_INFINITY
    for (const target of this.#targets) await target.behave('accept')
    for (const proxy of this.#proxies) await proxy.set('pass')
    const end = performance.now() + DRAIN_MS
    while (!this.#synced(await process.sync())) {
      if (performance.now() > end) throw new Error('the journal takes no rows though the disk has room')
      await sleep(10)
    }
    process.seal()
    const deliveries = process.adapters.flatMap((adapter) => adapter.deliveries)
    for (; ; await sleep(10)) {
      process.seal()
      const held = deliveries.filter((delivery) => delivery.backlog().segments > 0)
      if (held.length === 0) return
      if (performance.now() > end) {
        throw new Error(`not delivered: ${JSON.stringify(held.map((one) => [one.sink, one.backlog(), one.stats()]))}`)
      }
    }
  }

  async check(): Promise<void> {
    const process = this.#process!
    await process.stop()
    this.#rowsLost += process.rowsLost
    this.#process = null
    for (const delivery of process.adapters.flatMap((adapter) => adapter.deliveries)) {
      const { received, delivered, rejected, dropped, lost, held } = delivery.account()
      if (delivered + rejected + dropped + lost + held !== received || held !== 0 || rejected !== 0) {
        this.differences.push(`${delivery.sink}: ${JSON.stringify(delivery.account())}`)
      }
    }
    for (const target of this.#targets) this.#checkTarget(target)
  }

  #checkTarget(target: FaultTarget): void {
    const { numbers, total, once } = target.took(this.#written)
    const fsynced = this.#fsynced.reduce((sum, [from, to]) => sum + to - from, 0)
    const { name } = target
    const fault = (text: string) => this.differences.push(`${name}: ${text}`)
    if (numbers === null) {
      // Plain lines have no answer: what a broken connection took is not known to anybody.
      if (target.answers && total < fsynced - this.#rowsLost) fault(`counts ${total} of ${fsynced} requests`)
      if (!this.#doubt && total !== this.#written)
        fault(`counts ${total} of ${this.#written}, though nothing was in doubt`)
      this.#repeated[name] = Math.max(0, total - this.#written)
      return
    }
    let missing = 0
    for (const [from, to] of this.#fsynced)
      for (let number = from; number < to; number++) if (!numbers.has(number)) missing++
    // Stats beside the rows are not counted by the journal: of them it is only known that some were damaged.
    const excused = name === 'remote-write' && this.#damage.length > 0 ? Number.POSITIVE_INFINITY : this.#rowsLost
    if (missing > excused)
      fault(`${missing} of ${fsynced} fsynced requests are missing, ${this.#rowsLost} are reported`)
    for (const number of numbers)
      if (!(number >= 0 && number < this.#written)) fault(`has ${number}, which was never sent`)
    const repeated = total - numbers.size
    if (once && repeated > 0) fault(`${repeated} requests are there twice`)
    this.#repeated[name] = repeated
  }

  async end(): Promise<void> {
    await this.#end('kill').catch(() => {})
  }

  async #end(how: 'kill'): Promise<void> {
    const process = this.#process
    if (process === null) return
    this.#process = null
    await process[how]()
    this.#rowsLost += process.rowsLost
  }

  #synced(yes: boolean): boolean {
    if (!yes) return false
    if (this.#written > this.#unsynced) this.#fsynced.push([this.#unsynced, this.#written])
    this.#unsynced = this.#written
    this.#safe = sizesOf(join(this.#journal, '0', 'current'))
    return true
  }

  #harm(damage: NonNullable<Extract<Step, { do: 'kill' }>['damage']>): void {
    const done = damageJournal(join(this.#journal, '0'), damage, this.#safe)
    if (done !== null) this.#damage.push(done)
  }

  result(ms: number): RunResult {
    return {
      level: 'wire',
      seed: this.#plan.seed,
      targets: this.#plan.targets,
      steps: this.#plan.steps.length,
      written: this.#written,
      fsynced: this.#fsynced.reduce((sum, [from, to]) => sum + to - from, 0),
      kills: this.#kills,
      damage: this.#damage,
      rowsLost: this.#rowsLost,
      repeated: this.#repeated,
      ms: Math.round(ms),
      differences: this.differences,
    }
  }
}

function sizesOf(dir: string): Map<string, number> {
  if (!existsSync(dir)) return new Map()
  return new Map(readdirSync(dir).map((name) => [`current/${name}`, statSync(join(dir, name)).size]))
}
