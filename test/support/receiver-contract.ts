import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { SidecastError } from '../../src/errors.ts'
import { temporaryFolder } from './journal.ts'
import { openReceiversRig, type ReceiversRig } from './receivers-rig.ts'
import { waitUntil } from './wait.ts'

/**
 * What every receiver does, whatever protocol it speaks: it says where it listens, counts what it takes and what it cannot,
 * lets no sender suffer for another, drains when it stops, and names the option when it cannot start. A receiver's test
 * brings a sender that speaks its protocol:
 *
 *     receiverContract('syslog over TCP', { name: 'syslog', listener: …, connect: … })
 */
export interface ReceiverContract {
  /** As the status calls it. */
  readonly name: string
  /** Options that turn it on. `listen` is an address with port 0, or one that is taken; the path of a socket, where it is one. */
  readonly options: (world: ContractWorld) => readonly string[] | Promise<readonly string[]>
  /** Absent where it has no listener of its own. */
  readonly listener?: {
    /** As the status calls it. */
    readonly name: string
    /** The option with its address, as messages say it. */
    readonly option: string
    readonly socket: 'tcp' | 'udp' | 'path'
  }
  /** Metrics that count what became of input, with their labels. */
  readonly metrics: { readonly taken: string; readonly rejected: string }
  /** Why `bad` is refused: as the status says it. */
  readonly problem: RegExp
  /** What input becomes: rows of requests, or series of stats, with something in front of their names. */
  readonly makes: 'rows' | { readonly series: string }
  /** The same things are counted again and again: what it takes is at least what it was given. */
  readonly repeats?: true
  readonly connect: (rig: ReceiversRig, world: ContractWorld) => Promise<ContractSender> | ContractSender
}

export interface ContractWorld {
  readonly listen: string
  /** Of this test alone. */
  readonly dir: string
}

export interface ContractSender {
  /**
   * One thing for each name: a row with the path `/NAME`, or a series called `NAME`. Resolves when the receiver has answered
   * for it, with true; where the protocol has no answer, when it is sent, with false. Rejects when nobody is there.
   */
  good(names: readonly string[]): Promise<boolean>
  /** Something that cannot be read, on the same connection. */
  bad(): Promise<void>
  close(): Promise<void> | void
}

const LOCAL = '127.0.0.1:0'
const STOP_MS = 5000

export function receiverContract(title: string, contract: ReceiverContract): void {
  const { name, listener, metrics, repeats } = contract

  async function begin(listen = listener?.socket === 'path' ? 'socket' : LOCAL) {
    const dir = temporaryFolder()
    const world = { dir, listen: listener?.socket === 'path' ? join(dir, listen) : listen }
    const rig = await openReceiversRig(dir, await contract.options(world))
    onTestFinished(() => rig.stop(AbortSignal.abort()))
    const report = () => rig.status().find((one) => one.name === name)!
    return {
      world,
      rig,
      report,
      async connect() {
        const sender = await contract.connect(rig, world)
        onTestFinished(() => sender.close())
        return sender
      },
      /** Waits until so many have been taken. */
      async taken(count: number) {
        await waitUntil(() => report().rows >= count)
        if (repeats === undefined) expect(report().rows).toBe(count)
      },
      /** Names of what is stored, once it has stopped. */
      async stored(names: readonly string[]): Promise<string[]> {
        if (contract.makes !== 'rows') {
          const { series } = contract.makes
          return names.filter((one) => [...rig.metrics.latest({ name: `${series}${one}` })].length > 0)
        }
        const paths = await rig.paths()
        return paths.map((path) => path.slice(1)).sort()
      },
    }
  }
  const stopping = () => AbortSignal.timeout(STOP_MS)

  describe(`${title}, as every receiver`, () => {
    test('listens on a port that is free, and says which', async () => {
      const { rig, world } = await begin()
      await rig.start()
      const found = rig.listeners().find((one) => one.name === listener?.name)
      if (listener === undefined) expect(found).toBeUndefined()
      else if (listener.socket === 'path') expect(found?.address).toBe(world.listen)
      else expect(found?.address).toMatch(/^127\.0\.0\.1:[1-9]\d*$/)
    })

    test('counts what it takes, and says when the last of it came', async () => {
      const { rig, report, connect, taken } = await begin()
      await rig.start()
      expect(report()).toMatchObject({ rows: 0, rejected: 0, last_row: null, last_error: null })
      const before = Date.now()
      const sender = await connect()
      await sender.good(NAMES.slice(0, 3))
      await taken(3)
      await waitUntil(() => report().last_row !== null)
      expect(Date.parse(report().last_row!)).toBeGreaterThanOrEqual(before)
      expect(report()).toMatchObject({ rejected: 0, last_error: null })
      const counted = await rig.sample(metrics.taken)
      if (repeats === undefined) expect(counted).toBe(3)
      else expect(counted).toBeGreaterThanOrEqual(3)
      expect(await rig.sample(metrics.rejected)).toBe(0)
    })

    test('counts by reason what it cannot take, says why, and no other sender suffers', async () => {
      const { rig, report, connect, taken } = await begin()
      await rig.start()
      const [one, other] = [await connect(), await connect()]
      await other.good(NAMES.slice(0, 1))
      await taken(1)
      await one.bad()
      await waitUntil(() => report().rejected > 0)
      expect(report().last_error).toMatch(contract.problem)
      expect(await rig.sample(metrics.rejected)).toBeGreaterThan(0)
      await other.good(NAMES.slice(1, 3))
      await taken(3)
      expect(await rig.sample('sidecast_journal_writable')).toBe(1)
    })

    test('stops while it is busy: what it has counted and answered for is stored; stops twice, and before it started', async () => {
      const { rig, report, connect, stored, taken } = await begin()
      await rig.start()
      const sender = await connect()
      await sender.good(NAMES.slice(0, 2))
      await taken(2)
      const answered = NAMES.slice(0, 2)
      const sent = [...answered]
      let ended = false
      const sending = (async () => {
        for (const next of NAMES.slice(2)) {
          if (ended) return
          sent.push(next)
          // Refused, cut off, or too late: all of it is as it should be.
          if (await sender.good([next]).catch(() => false)) answered.push(next)
        }
      })()
      await waitUntil(() => sent.length > 4)
      await rig.stop(stopping())
      await rig.stop(stopping())
      ended = true
      await sender.close()
      await sending
      const found = await stored(sent)
      expect(found).toEqual(expect.arrayContaining(answered))
      if (contract.makes === 'rows' && repeats === undefined) expect(found).toHaveLength(report().rows)
      expect(new Set(found).size).toBe(found.length)

      const other = await begin()
      for (const stage of other.rig.receivers.stages) await stage.stop(stopping())
    })

    if (listener !== undefined) {
      test(`names ${listener.option} where it cannot listen`, async () => {
        const { rig } = await begin(await occupy(listener.socket))
        const failure = await rig.start().then(
          () => null,
          (error: unknown) => error,
        )
        expect(failure).toBeInstanceOf(SidecastError)
        expect(failure).toMatchObject({ code: 'SC4101', message: expect.stringContaining(`${listener.option}: `) })
        await rig.stop(stopping())
      })
    }
  })
}

const NAMES = Array.from({ length: 500 }, (_, k) => `contract_${k}`)

/** An address that somebody else has until the end of the test; a path where there is no folder. */
async function occupy(socket: 'tcp' | 'udp' | 'path'): Promise<string> {
  if (socket === 'path') return 'no/such/folder'
  if (socket === 'udp') {
    const taken = createSocket('udp4')
    await new Promise<void>((resolve) => taken.bind(0, '127.0.0.1', resolve))
    onTestFinished(() => void taken.close())
    return `127.0.0.1:${taken.address().port}`
  }
  const taken = createServer()
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void taken.close())
  return `127.0.0.1:${(taken.address() as { port: number }).port}`
}
