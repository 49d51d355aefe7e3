import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { childrenOf, processFigures } from '../../bench/support/process-figures.ts'
import { type Sidecast, startSidecast } from './sidecast.ts'

const LOAD = new URL('../../bench/support/load.ts', import.meta.url).pathname

export interface StoppedStore {
  readonly sent: number
  readonly stored: number
  readonly waitingMost: number
  readonly mainRssMbBefore: number
  readonly mainRssMbMost: number
  /** From the moment the store goes on until it has everything, s. */
  readonly drainedSeconds: number
}

/** The store's process stands still for a while under load; then it goes on. */
export async function stoppedStore(options: { seconds: number; rate: number }): Promise<StoppedStore> {
  const sidecast = await startSidecast()
  try {
    const [store] = childrenOf(sidecast.pid)
    const load = startLoad(sidecast, options.rate, options.seconds + 4)
    await sleep(3000)
    const mainRssMbBefore = processFigures(sidecast.pid).rssMb
    process.kill(store!, 'SIGSTOP')
    let waitingMost = 0
    let mainRssMbMost = 0
    for (let k = 0; k < options.seconds * 2; k++) {
      await sleep(500)
      waitingMost = Math.max(waitingMost, await metric(sidecast, 'sidecast_delivery_held_rows'))
      mainRssMbMost = Math.max(mainRssMbMost, processFigures(sidecast.pid).rssMb)
    }
    process.kill(store!, 'SIGCONT')
    const began = performance.now()
    const sent = await load
    const stored = await storedRows(sidecast, sent)
    return {
      sent,
      stored,
      waitingMost,
      mainRssMbBefore,
      mainRssMbMost,
      drainedSeconds: (performance.now() - began) / 1000,
    }
  } finally {
    await sidecast.close()
  }
}

export interface FullDisk {
  /** What `/readyz` said while the disk was full: status and reasons. */
  readonly full: { readonly status: number; readonly reasons: readonly string[] }
  readonly alive: boolean
  readonly readyAgain: boolean
  readonly sent: number
  readonly stored: number
}

/** Everything of the process is on a small disk, which something else fills, and gives room again. Needs root, for mount. */
export async function fullDisk(options: { rate: number }): Promise<FullDisk> {
  const data = await mkdtemp(join(tmpdir(), 'sidecast-disk-'))
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=400m', 'tmpfs', data])
  try {
    const sidecast = await startSidecast({ data })
    try {
      const load = startLoad(sidecast, options.rate, 20)
      await sleep(3000)
      const hog = join(data, 'hog')
      await fill(hog)
      let full = { status: 200, reasons: [] as readonly string[] }
      for (let k = 0; k < 60 && full.status === 200; k++) {
        await sleep(250)
        // What was freed meanwhile is taken as well.
        await fill(`${hog}-${k}`)
        full = await readiness(sidecast)
      }
      await sleep(1000)
      execFileSync('sh', ['-c', `rm -f ${hog}*`])
      const sent = await load
      let ready = await readiness(sidecast)
      for (let k = 0; k < 120 && ready.status !== 200; k++) {
        await sleep(500)
        ready = await readiness(sidecast)
      }
      return {
        full,
        alive: processFigures(sidecast.pid).rssMb > 0,
        readyAgain: ready.status === 200,
        sent,
        stored: await storedRows(sidecast, sent),
      }
    } finally {
      await sidecast.close()
    }
  } finally {
    execFileSync('umount', ['-l', data])
    await rm(data, { recursive: true, force: true })
  }
}

/** Writes until the disk refuses. */
async function fill(path: string): Promise<void> {
  const block = Buffer.alloc(1 << 20)
  for (const size of [1 << 20, 1 << 14, 1 << 12]) {
    try {
      for (let k = 0; k < 1000; k++) await writeFile(path, block.subarray(0, size), { flag: 'a' })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    }
  }
}

async function readiness(sidecast: Sidecast): Promise<{ status: number; reasons: readonly string[] }> {
  const answer = await fetch(`http://${sidecast.http}/readyz`)
  const { reasons } = (await answer.json()) as { reasons: string[] }
  return { status: answer.status, reasons }
}

/** Resolves with how many entries were sent, when all of them were. */
async function startLoad(sidecast: Sidecast, rate: number, seconds: number): Promise<number> {
  const child: ChildProcess = spawn(
    process.execPath,
    [LOAD, '--to', sidecast.grpc, '--rate', String(rate), '--seconds', String(seconds), '--streams', '2'],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  let text = ''
  child.stdout!.on('data', (chunk) => {
    text += chunk
  })
  await once(child, 'close')
  return (JSON.parse(text) as { sent: number }).sent
}

async function metric(sidecast: Sidecast, name: string): Promise<number> {
  const page = await (await fetch(`http://${sidecast.http}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(page)?.[1] ?? Number.NaN)
}

/** Requests in the store once they are `expected`, or stay what they are for 20 s. */
async function storedRows(sidecast: Sidecast, expected: number): Promise<number> {
  let stored = -1
  let changed = performance.now()
  while (stored < expected && performance.now() - changed < 20_000) {
    const { series } = await sidecast.get<{ series: { points: { n: number }[] }[] }>(
      '/api/v1/latency?from=-1h&to=%2B5m&view=all&method=exact&q=0.5',
    )
    const now = series[0]?.points[0]?.n ?? 0
    if (now !== stored) changed = performance.now()
    stored = now
    await sleep(500)
  }
  return stored
}
