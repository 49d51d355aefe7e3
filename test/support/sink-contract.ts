import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/lib/clock.ts'
import type { Adapter, AdapterShared } from '../../src/pipeline/adapter.ts'
import { createDelivery, type Delivery } from '../../src/pipeline/delivery.ts'
import type { Stage } from '../../src/pipeline/sink.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { temporaryFolder } from './journal.ts'
import { openRequestsRig, type RequestsRig } from './requests-rig.ts'

/**
 * What every durable adapter does, whatever it sends and to whom: accept, reject, retry, slow, refused, stop while busy,
 * stop twice, and conservation at every step. An adapter's test brings a target that speaks its protocol:
 *
 *     sinkContract('wavefront', { start: startFakeProxy, open: (shared, target) => openWavefront({ proxy: target.address }, shared) })
 */
export interface SinkContract<Target extends ContractTarget> {
  /** A target that accepts. Closed by the suite. */
  readonly start: () => Promise<Target>
  /** The adapter, configured for this target, with the shortest interval it can have and no sampling. */
  readonly open: (shared: AdapterShared, target: Target) => Promise<Adapter | null>
  /** False where the protocol has no answer that says "never send this again". Default: true. */
  readonly rejects?: boolean
  /** Where the target gets something else than requests: a rig that writes as much of it as it seals requests. */
  readonly openRig?: (options: { readonly dir: string }) => Promise<RequestsRig>
}

export interface ContractTarget {
  /**
   * How it answers from now on. `retry`: a failure that may pass; `reject`: for good; `slow`: accepts after some 200 ms;
   * `hang`: takes the connection and says nothing; `away`: nobody listens, and the address is the same afterwards.
   */
  behave(how: Behaviour): Promise<void> | void
  /** Requests that it accepted, by whatever it got of them; repeated ones count once if it can tell, else each time. */
  taken(): number
  close(): Promise<void>
}
export type Behaviour = 'accept' | 'retry' | 'reject' | 'slow' | 'hang' | 'away'

const WAIT_MS = 60_000
const DEADLINE_MS = 400

export function sinkContract<Target extends ContractTarget>(name: string, contract: SinkContract<Target>): void {
  const rejects = contract.rejects ?? true
  const openRig = contract.openRig ?? openRequestsRig

  async function begin(how: Behaviour = 'accept') {
    const target = await contract.start()
    onTestFinished(() => target.close())
    await target.behave(how)
    const dir = temporaryFolder()
    const rig = await openRig({ dir: join(dir, 'journal') })
    return { dir, rig, target, ...(await opened(dir, rig, target)) }
  }
  async function opened(dir: string, rig: RequestsRig, target: Target) {
    const data = join(dir, 'data')
    mkdirSync(data, { recursive: true })
    const { journal } = rig
    const shared = { journal, clock: systemClock, log: silentLog, data, host: 'host-1', version: '0.0.0' }
    const adapter = await contract.open(shared, target)
    if (adapter === null) throw new Error('the adapter is not configured')
    const run = await started(adapter.stages)
    return { adapter, run }
  }

  describe(`${name}, as every sink`, () => {
    test('brings everything to its target, and says so', async () => {
      const { rig, adapter, target } = await begin()
      for (let k = 0; k < 3; k++) await rig.seal(40)
      await until(adapter, (delivery) => delivery.backlog().segments === 0)
      await eventually(
        () => target.taken() === 120,
        () => `the target took ${target.taken()} of 120`,
      )
      for (const delivery of adapter.deliveries) {
        expect(delivery.account()).toMatchObject({ received: 120, rejected: 0, lost: 0, held: 0 })
        expect(delivery.stats()).toMatchObject({ failures: 0, lastError: null, rejectedSegments: 0 })
        expect(delivery.stats().lastAcceptedMs).not.toBeNull()
      }
      expectConserved(adapter)
    })

    test('tries again while the target fails, and holds the rows meanwhile', async () => {
      const { rig, adapter, target } = await begin('retry')
      await rig.seal(25)
      await until(adapter, (delivery) => delivery.stats().retries >= 2)
      for (const delivery of adapter.deliveries) {
        expect(delivery.account()).toMatchObject({ received: 25, delivered: 0, held: 25 })
        expect(delivery.stats().lastError).not.toBeNull()
      }
      expect(target.taken()).toBe(0)
      expectConserved(adapter)
      await target.behave('accept')
      await until(adapter, (delivery) => delivery.backlog().segments === 0)
      await eventually(
        () => target.taken() === 25,
        () => `the target took ${target.taken()} of 25`,
      )
      for (const delivery of adapter.deliveries) expect(delivery.stats().circuit.state).toBe('closed')
      expectConserved(adapter)
    })

    if (rejects) {
      test('sets aside what the target refuses for good, and goes on', async () => {
        const { rig, adapter, target } = await begin('reject')
        await rig.seal(10)
        await until(adapter, (delivery) => delivery.backlog().segments === 0)
        const rejected = adapter.deliveries.map((delivery) => delivery.account().rejected)
        expect(Math.max(...rejected)).toBe(10)
        expect(rig.journal.stats().deadLettered).toBeGreaterThan(0)
        await target.behave('accept')
        await rig.seal(7)
        await until(adapter, (delivery) => delivery.backlog().segments === 0)
        await eventually(
          () => target.taken() === 7,
          () => `the target took ${target.taken()} of 7`,
        )
        expectConserved(adapter)
      })
    }

    test('holds nobody else while the target is slow', async () => {
      const { rig, adapter, target } = await begin('slow')
      const quick = quickSink()
      const other = createDelivery({ sink: quick, journal: rig.journal, clock: systemClock, log: silentLog })
      await started([other])
      for (let k = 0; k < 4; k++) await rig.seal(5)
      await eventually(
        () => quick.sent === 4,
        () => `the other sink has ${quick.sent} of 4`,
      )
      await until(adapter, (delivery) => delivery.backlog().segments === 0)
      await eventually(
        () => target.taken() === 20,
        () => `the target took ${target.taken()} of 20`,
      )
      expectConserved(adapter)
    })

    test('starts while its target is away, and delivers when it comes', async () => {
      const { rig, adapter, target } = await begin('away')
      await rig.seal(12)
      await until(adapter, (delivery) => delivery.stats().failures > 0)
      await target.behave('accept')
      await until(adapter, (delivery) => delivery.backlog().segments === 0)
      await eventually(
        () => target.taken() === 12,
        () => `the target took ${target.taken()} of 12`,
      )
      expectConserved(adapter)
    })

    test('stops in time while its target says nothing; the next process sends what is left', async () => {
      const { dir, rig, adapter, run, target } = await begin('hang')
      await rig.seal(9)
      await until(adapter, (delivery) => delivery.stats().attempts > 0)
      await run.stop(DEADLINE_MS)
      for (const delivery of adapter.deliveries) expect(delivery.account().held).toBe(9)
      expectConserved(adapter)
      await rig.stop()
      await target.behave('accept')
      const next = await openRig({ dir: join(dir, 'journal') })
      const { adapter: again } = await opened(dir, next, target)
      await until(again, (delivery) => delivery.backlog().segments === 0)
      await eventually(
        () => target.taken() >= 9,
        () => `the target took ${target.taken()} of 9`,
      )
      expectConserved(again)
    })

    test('stops twice, and without having started', async () => {
      const { rig, adapter, run, target } = await begin()
      await rig.seal(3)
      await Promise.all([run.stop(5000), run.stop(5000)])
      await run.stop(5000)
      // What it was given before the stop is drained.
      expect(target.taken()).toBe(3)
      expectConserved(adapter)
      const other = await begin('away')
      await other.run.stop(0)
      await other.run.stop(0)
    })
  })
}

/** Every row is somewhere, and once. */
export function expectConserved(adapter: Pick<Adapter, 'deliveries'>): void {
  for (const delivery of adapter.deliveries) {
    const { received, delivered, rejected, dropped, lost, held } = delivery.account()
    expect(delivered + rejected + dropped + lost + held, `rows of ${delivery.sink}`).toBe(received)
    for (const rows of [delivered, rejected, dropped, lost, held]) expect(rows).toBeGreaterThanOrEqual(0)
  }
}

/** Starts them in order; stopped the other way round after the test, at the latest. */
async function started(stages: readonly Stage[]) {
  for (const stage of stages) await stage.start()
  const stop = async (ms: number): Promise<void> => {
    const deadline = new AbortController()
    const timer = setTimeout(() => deadline.abort(), ms)
    for (const stage of stages.toReversed()) await stage.stop(deadline.signal)
    clearTimeout(timer)
  }
  onTestFinished(() => stop(0))
  return { stop }
}

async function until(adapter: Adapter, holds: (delivery: Delivery) => boolean): Promise<void> {
  const describeAll = () =>
    JSON.stringify(adapter.deliveries.map((one) => [one.sink, one.stats(), one.backlog(), one.account()]))
  await eventually(() => adapter.deliveries.every(holds), describeAll)
}

async function eventually(holds: () => boolean, describeState: () => string): Promise<void> {
  for (const end = performance.now() + WAIT_MS; !holds(); await sleep(10)) {
    if (performance.now() > end) throw new Error(`still not so after ${WAIT_MS} ms: ${describeState()}`)
  }
}

function quickSink() {
  return {
    name: 'quick',
    sent: 0,
    async start() {},
    async stop() {},
    async send() {
      this.sent++
      return { status: 'accepted' as const }
    },
  }
}
