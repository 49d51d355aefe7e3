import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { seededRandom } from '../../src/lib/random.ts'
import { spawnStore } from '../../src/store/child-process.ts'
import { DEFAULT_LIMITS } from '../../src/store/limits.ts'
import { processName } from '../../src/store/processes.ts'
import { createStore, type Store, startStore } from '../../src/store/supervisor.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { clientsOf, startTestStore } from '../support/store.ts'

/** A sample; a campaign asks for hundreds, and prints the seed of a failure. */
const KILLS = Number(process.env.KILLS ?? 10)
const soon = () => AbortSignal.timeout(10_000)
const isAlive = async (pid: number) => (await processName(pid)) !== undefined

async function until(condition: () => boolean | Promise<boolean>, withinMs: number): Promise<number> {
  const began = performance.now()
  while (!(await condition())) {
    if (performance.now() - began > withinMs) throw new Error(`not within ${withinMs} ms`)
    await sleep(10)
  }
  return performance.now() - began
}

async function temporaryDirectory(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecast-store-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  return dir
}

/** A process of its own that owns a store. */
async function startOwner(dir: string): Promise<{ owner: ChildProcess; storePid: number }> {
  const module = fileURLToPath(new URL('../support/store-owner.ts', import.meta.url))
  const owner = spawn(process.execPath, [module, dir], { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void owner.kill('SIGKILL'))
  for await (const line of createInterface(owner.stdout!)) {
    return { owner, storePid: (JSON.parse(line) as { storePid: number }).storePid }
  }
  throw new Error('the owner ended before its store was ready')
}

/** Inserts rows with ever higher ids, one insert after the other, until told to stop; counts what was answered. */
function load(store: Store, table: string, firstId: number) {
  const { writer, reader } = clientsOf(store)
  const accepted: number[] = []
  let stopped = false
  const done = (async () => {
    for (let id = firstId; !stopped; id++) {
      try {
        await writer.insert({ table, values: [{ id }, { id }], format: 'JSONEachRow' })
        accepted.push(id)
      } catch {
        await sleep(10)
      }
    }
    await Promise.all([writer.close(), reader.close()])
  })()
  return {
    accepted,
    async stop() {
      stopped = true
      await done
    },
  }
}

describe('the store', () => {
  it('starts and stops, also twice and before start, and leaves its rows', async () => {
    const dir = await temporaryDirectory()
    const before = createStore({ dir, log: silentLog })
    await before.stop(soon())
    const store = await startStore({ dir, log: silentLog })
    await store.start()
    expect(store.state).toBe('ready')
    const first = clientsOf(store)
    await first.writer.command({ query: 'CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a' })
    await first.writer.insert({ table: 't', values: [{ a: 1 }], format: 'JSONEachRow' })
    const { pid } = store
    await Promise.all([store.stop(soon()), store.stop(soon())])
    await store.stop(soon())
    expect([store.state, await isAlive(pid!)]).toEqual(['stopped', false])
    const again = await startTestStore({ dir })
    const result = await again.reader.query({ query: 'SELECT count() FROM t', format: 'TabSeparated' })
    expect(await result.text()).toBe('1\n')
    await Promise.all([first.writer.close(), first.reader.close()])
  })

  it('lets statements end when it stops, until the deadline', async () => {
    const { store, writer } = await startTestStore()
    const slow = writer.query({ query: 'SELECT sleepEachRow(0.5) FROM numbers(2)', format: 'TabSeparated' })
    await sleep(200)
    await store.stop(soon())
    expect(await (await slow).text()).toBe('0\n0\n')
    const other = await startTestStore()
    const endless = other.writer
      .query({ query: 'SELECT sum(sipHash64(number)) FROM numbers(1000000000000)' })
      .catch((error: Error) => error)
    await sleep(200)
    const began = performance.now()
    await other.store.stop(AbortSignal.timeout(500))
    expect(performance.now() - began).toBeLessThan(3000)
    expect(await endless).toBeInstanceOf(Error)
  })

  it('fails to start with what is wrong, and can be started elsewhere after', async () => {
    const dir = await temporaryDirectory()
    await writeFile(join(dir, 'engine'), 'not a directory')
    await expect(startStore({ dir, log: silentLog })).rejects.toMatchObject({ code: 'SC4102' })
    await rm(join(dir, 'engine'))
    await mkdir(join(dir, 'engine'))
    const { store } = await startTestStore({ dir })
    expect(store.state).toBe('ready')
  })

  it('never blocks the process it belongs to', async () => {
    const delay = monitorEventLoopDelay({ resolution: 5 })
    delay.enable()
    const { store } = await startTestStore()
    process.kill(store.pid!, 'SIGKILL')
    await until(() => store.restarts === 1, 20_000)
    delay.disable()
    expect(delay.max / 1e6).toBeLessThan(250)
  })
})

describe('a store process that is killed', () => {
  it('is started again at the same address each time, and has every row it accepted', {
    timeout: 60_000 + KILLS * 20_000,
  }, async () => {
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31))
    const random = seededRandom(seed)
    const { store, dir, writer, reader } = await startTestStore({ timings: { backoffMinMs: 20, backoffMaxMs: 200 } })
    const { url } = store
    let restarts = 0
    store.onRestart(() => {
      restarts++
    })
    await writer.command({ query: 'CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id' })
    const loads = [load(store, 't', 0), load(store, 't', 1_000_000)]
    const accepted = () => loads.flatMap((one) => one.accepted)
    for (let kill = 1; kill <= KILLS; kill++) {
      // Something has come through, on a slow machine too.
      const before = accepted().length
      await until(() => accepted().length >= before + 5, 60_000)
      await sleep(random() * 600)
      process.kill(store.pid!, 'SIGKILL')
      await until(() => store.restarts === kill && store.state === 'ready', 60_000)
    }
    await Promise.all(loads.map((one) => one.stop()))
    expect([store.url, restarts], `SEED=${seed}`).toEqual([url, KILLS])
    const result = await reader.query({ query: 'SELECT id, count() AS n FROM t GROUP BY id', format: 'JSONEachRow' })
    const stored = new Map((await result.json<{ id: number; n: number }>()).map(({ id, n }) => [Number(id), Number(n)]))
    expect(
      accepted().filter((id) => stored.get(id) !== 2),
      `SEED=${seed}`,
    ).toEqual([])
    // An insert is all or nothing.
    expect(
      [...stored.values()].filter((n) => n !== 2),
      `SEED=${seed}`,
    ).toEqual([])
    await until(async () => (await readdir(join(dir, 'spool'))).length === 0, 1000)
  })

  it('is started again with ever longer waits when it does not start', async () => {
    const waits: unknown[] = []
    const log = {
      ...silentLog,
      error: (fields: Readonly<Record<string, unknown>>) => void waits.push(fields.backoffMs),
    }
    const { store, dir } = await startTestStore({ log, timings: { backoffMinMs: 20, backoffMaxMs: 400 } })
    await rm(join(dir, 'spool'), { recursive: true })
    await writeFile(join(dir, 'spool'), 'in the way')
    await rm(join(dir, 'users.xml'))
    await mkdir(join(dir, 'users.xml'))
    process.kill(store.pid!, 'SIGKILL')
    await until(() => waits.length >= 4, 20_000)
    expect(store.state).toBe('restarting')
    expect(Number(waits.at(-1))).toBeGreaterThan(Number(waits[0]))
    await rm(join(dir, 'users.xml'), { recursive: true })
    await until(() => store.state === 'ready', 20_000)
  })
})

describe('the memory of the engine', () => {
  it('has a limit that statements share, and that the process survives', async () => {
    const MIB = 1024 * 1024
    const { store, reader } = await startTestStore({
      limits: { memoryBytesMax: 400 * MIB, statementMemoryBytesMax: 300 * MIB },
    })
    const { pid } = store
    const hungry = () =>
      reader.query({ query: 'SELECT uniqExact(toString(number)) FROM numbers(5000000)' }).then(
        () => 'done',
        (error: { code: string; message: string }) => `${error.code} ${error.message}`,
      )
    const alone = await hungry()
    expect(alone).toBe('done')
    // Their greatest need must fall together: four on two threads mostly do, but need not.
    let refused: string[] = []
    for (let round = 0; round < 20 && refused.length === 0; round++) {
      const together = await Promise.all([hungry(), hungry(), hungry(), hungry()])
      refused = together.filter((outcome) => outcome !== 'done')
    }
    expect(refused.length).toBeGreaterThan(0)
    for (const outcome of refused) expect(outcome).toMatch(/^241 .*\(total\)|^241 .*[Tt]otal/)
    expect([store.pid, store.restarts, await hungry()]).toEqual([pid, 0, 'done'])
  })
})

describe('a store process that does not answer', () => {
  it('is waited for while it is stopped, and goes on where it was', async () => {
    const { store, writer } = await startTestStore({ timings: { healthEveryMs: 50, hungMs: 500, stoppedMs: 60_000 } })
    await writer.command({ query: 'CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id' })
    const inserting = load(store, 't', 0)
    await until(() => inserting.accepted.length > 5, 10_000)
    const { pid } = store
    process.kill(pid!, 'SIGSTOP')
    await until(() => store.state === 'unresponsive', 5000)
    await sleep(1500)
    const before = inserting.accepted.length
    process.kill(pid!, 'SIGCONT')
    await until(() => store.state === 'ready' && inserting.accepted.length > before + 3, 10_000)
    await inserting.stop()
    expect([store.pid, store.restarts]).toEqual([pid, 0])
    const result = await writer.query({ query: 'SELECT count() FROM t', format: 'TabSeparated' })
    expect(Number(await result.text())).toBe(2 * inserting.accepted.length)
  })

  it('is killed and started again when it stays stopped for too long', async () => {
    const { store } = await startTestStore({ timings: { healthEveryMs: 50, stoppedMs: 500, backoffMinMs: 20 } })
    const { pid } = store
    process.kill(pid!, 'SIGSTOP')
    await until(() => store.restarts === 1, 20_000)
    expect(await isAlive(pid!)).toBe(false)
    expect((await (await fetch(`${store.url}/ping`)).text()).trim()).toBe('Ok.')
  })

  it('can be stopped for good while it is stopped by a signal', async () => {
    const { store } = await startTestStore()
    const { pid } = store
    process.kill(pid!, 'SIGSTOP')
    await store.stop(AbortSignal.timeout(300))
    expect(await isAlive(pid!)).toBe(false)
  })
})

describe('a store process without an owner', () => {
  it('ends by itself at once', async () => {
    const { owner, storePid } = await startOwner(await temporaryDirectory())
    expect(await isAlive(storePid)).toBe(true)
    owner.kill('SIGKILL')
    expect(await until(async () => !(await isAlive(storePid)), 3000)).toBeLessThan(3000)
  })

  it('is ended by the next start when it could not end itself', async () => {
    const dir = await temporaryDirectory()
    const { owner, storePid } = await startOwner(dir)
    process.kill(storePid, 'SIGSTOP')
    owner.kill('SIGKILL')
    await until(async () => !(await isAlive(owner.pid!)), 3000)
    await sleep(200)
    expect(await isAlive(storePid)).toBe(true)
    const warnings: unknown[] = []
    const log = { ...silentLog, warn: (fields: Readonly<Record<string, unknown>>) => void warnings.push(fields.pids) }
    const { store, reader } = await startTestStore({ dir, log })
    expect([warnings, await isAlive(storePid)]).toEqual([[[storePid]], false])
    expect(store.pid).not.toBe(storePid)
    expect(await reader.ping()).toEqual({ success: true })
  })

  it('is told from a process that only looks like one', async () => {
    const dir = await temporaryDirectory()
    const stranger = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)', '--', `--sidecast-store=${dir}`], {
      stdio: 'ignore',
    })
    onTestFinished(() => void stranger.kill('SIGKILL'))
    await until(() => isAlive(stranger.pid!), 1000)
    await startTestStore({ dir })
    expect(await isAlive(stranger.pid!)).toBe(true)
  })
})

describe('a directory', () => {
  it('has one owner, in this process and in others', async () => {
    const { dir, store } = await startTestStore()
    await expect(startStore({ dir, log: silentLog })).rejects.toMatchObject({ code: 'SC4105' })
    const otherDir = await temporaryDirectory()
    const { owner, storePid } = await startOwner(otherDir)
    await expect(startStore({ dir: otherDir, log: silentLog })).rejects.toMatchObject({
      code: 'SC4105',
      message: expect.stringContaining(`process ${owner.pid}`),
    })
    expect([await isAlive(storePid), store.state]).toEqual([true, 'ready'])
  })

  it('is locked by the engine too, where our lock does not reach', async () => {
    const { dir, reader } = await startTestStore()
    const second = spawnStore(
      { type: 'start', directory: dir, port: 0, passwords: { reader: 'a', writer: 'b' }, limits: DEFAULT_LIMITS },
      { pid: 1, startTicks: '1' },
    )
    await expect(second.ready).rejects.toThrow(/Cannot lock file/)
    await second.ended
    expect(await reader.ping()).toEqual({ success: true })
  })

  it('is waited for while a process that was killed still holds it', async () => {
    const dir = await temporaryDirectory()
    // What is left of a killed process has no command line, and so does not tell whose it is: as this one, owned by nobody.
    const dying = spawn(process.execPath, ['-e', HOLDS_ENGINE, dir], { stdio: ['ignore', 'pipe', 'inherit'] })
    onTestFinished(() => void dying.kill('SIGKILL'))
    await once(dying.stdout, 'data')
    const ended = sleep(1500).then(() => dying.kill('SIGKILL'))
    const store = await startStore({ dir, log: silentLog })
    onTestFinished(() => store.stop(AbortSignal.timeout(10_000)))
    await ended
    expect(store.state).toBe('ready')
  })
})

/** A process that has the engine open in a directory, as the store's process does. */
const HOLDS_ENGINE = `
  const { Session } = require('chdb')
  const { join } = require('node:path')
  globalThis.session = new Session(join(process.argv[1], 'engine'))
  globalThis.session.query('SELECT 1')
  console.log('open')
  setInterval(() => {}, 1000)`
