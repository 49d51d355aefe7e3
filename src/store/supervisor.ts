import { randomBytes } from 'node:crypto'
import { mkdir, realpath } from 'node:fs/promises'
import { SidecastError } from '../errors.ts'
import { Backoff } from '../lib/backoff.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import { type DirectoryLock, lockDirectory } from '../lib/directory-lock.ts'
import type { Stage } from '../pipeline/sink.ts'
import type { Log } from '../telemetry/log.ts'
import { chdbInstalled, notInstalled } from './chdb.ts'
import { type Health, type StoreProcess, spawnStore } from './child-process.ts'
import { limitsOf, type StoreLimits } from './limits.ts'
import { endLeftOvers, isStopped, type ProcessName, processName } from './processes.ts'
import type { User } from './settings.ts'

/**
 * The embedded store: keeps its process running, and knows how it is.
 *
 * ```
 *            ready                       unanswered                    answered
 *  starting ───────► ready ─────────────────────────► unresponsive ─────────────► ready
 *                      │ process gone, or hung: killed      │
 *                      └─────────────► restarting ◄─────────┘          any ── stop ──► stopped
 *                                        │ ▲ back-off
 *                                        ▼ │ ready ──► ready, onRestart
 * ```
 *
 * A client sees refused or broken connections meanwhile and retries; what was to be stored waits in the journal. The
 * URL and the passwords stay the same over restarts, unless somebody took the port in between.
 */
export interface Store extends Stage {
  /** `http://127.0.0.1:PORT`, for `@clickhouse/client`. Read it anew after a restart. */
  readonly url: string
  /** The reader may only look, the writer may do what the process itself has to. */
  readonly credentials: Readonly<Record<User, Credentials>>
  readonly state: StoreState
  /** Of the running process. */
  readonly pid: number | undefined
  readonly restarts: number
  /** What the process said last, and when (ms of `performance.now()`). */
  readonly health: (Health & { readonly atMs: number }) | undefined
  /** Called each time another process serves. Returns what ends it. */
  onRestart(callback: () => void): () => void
}

export type StoreState = 'new' | 'starting' | 'ready' | 'unresponsive' | 'restarting' | 'stopped'

export interface Credentials {
  readonly username: User
  readonly password: string
}

export interface StoreOptions {
  /** Directory of the store alone; made when it is not there. */
  readonly dir: string
  readonly log: Log
  readonly limits?: Partial<StoreLimits>
  readonly timings?: Partial<StoreTimings>
  readonly clock?: Clock
}

/** All in ms. */
export interface StoreTimings {
  /** Between two questions to the process. */
  readonly healthEveryMs: number
  /** Without an answer for so long while it runs, it is hung and is killed. */
  readonly hungMs: number
  /** The same while it is stopped by a signal: somebody means it, and what is to be stored can wait. */
  readonly stoppedMs: number
  /** To open a directory with all its parts. */
  readonly startMs: number
  readonly backoffMinMs: number
  readonly backoffMaxMs: number
  /** A process that served for so long was well: waits begin anew. */
  readonly steadyMs: number
}

export const DEFAULT_TIMINGS: StoreTimings = {
  healthEveryMs: 1000,
  hungMs: 60_000,
  stoppedMs: 600_000,
  startMs: 300_000,
  backoffMinMs: 100,
  backoffMaxMs: 10_000,
  steadyMs: 2000,
}

/** Most time that running statements get at a stop whose deadline is further away. */
const STOP_GRACE_MS = 60_000

/** A store that has started. */
export async function startStore(options: StoreOptions): Promise<Store> {
  const store = createStore(options)
  await store.start()
  return store
}

export function createStore(options: StoreOptions): Store {
  return new SupervisedStore(options)
}

const LOCK_RELEASED_MS = 10_000
const LOCK_AGAIN_MS = 100

class SupervisedStore implements Store {
  readonly name = 'store'
  readonly credentials: Readonly<Record<User, Credentials>>
  readonly #options: StoreOptions
  readonly #limits: StoreLimits
  readonly #timings: StoreTimings
  readonly #clock: Clock
  readonly #callbacks = new Set<() => void>()
  readonly #stopping = new AbortController()
  #directory = ''
  #owner: ProcessName = { pid: process.pid, startTicks: '0' }
  #state: StoreState = 'new'
  #process: StoreProcess | undefined
  #port = 0
  #restarts = 0
  #health: (Health & { readonly atMs: number }) | undefined
  #supervision: Promise<void> | undefined
  #lock: DirectoryLock | undefined

  constructor(options: StoreOptions) {
    this.#options = options
    this.#limits = limitsOf(options.limits ?? {})
    this.#clock = options.clock ?? systemClock
    this.#timings = { ...DEFAULT_TIMINGS, ...options.timings }
    const credentials = (username: User) => ({ username, password: randomBytes(24).toString('base64url') })
    this.credentials = { reader: credentials('reader'), writer: credentials('writer') }
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  get state(): StoreState {
    return this.#state
  }

  get pid(): number | undefined {
    return this.#process?.pid
  }

  get restarts(): number {
    return this.#restarts
  }

  get health(): (Health & { readonly atMs: number }) | undefined {
    return this.#health
  }

  onRestart(callback: () => void): () => void {
    this.#callbacks.add(callback)
    return () => void this.#callbacks.delete(callback)
  }

  async start(): Promise<void> {
    if (this.#state !== 'new') return
    this.#state = 'starting'
    if (!chdbInstalled()) throw notInstalled()
    const { log } = this.#options
    await mkdir(this.#options.dir, { recursive: true, mode: 0o700 })
    this.#directory = await realpath(this.#options.dir)
    this.#lock = lockOf(this.#directory)
    try {
      // Holding the lock means that whoever is left of an earlier run has no owner any more.
      const ended = await endLeftOvers(this.#directory)
      if (ended.length > 0) log.warn({ pids: ended }, 'Ended a store process that an earlier run had left.')
      this.#owner = (await processName(process.pid)) ?? this.#owner
      const first = await this.#first()
      this.#state = 'ready'
      this.#supervision = this.#supervise(first)
    } catch (error) {
      this.#process?.kill()
      await this.#process?.ended
      this.#release()
      throw startError(error, this.#directory)
    }
  }

  /**
   * A killed process keeps its files, and so the engine's lock, until the last of its threads has ended, which takes a
   * while on a busy machine; by then its command line is gone, so it cannot be found and waited for.
   */
  async #first(): Promise<StoreProcess> {
    const until = performance.now() + LOCK_RELEASED_MS
    for (;;) {
      const child = this.#spawn()
      try {
        await this.#untilReady(child)
        return child
      } catch (error) {
        await child.ended
        if (!isLocked(error) || performance.now() > until) throw error
        await this.#clock.sleep(LOCK_AGAIN_MS)
      }
    }
  }

  async stop(deadline: AbortSignal): Promise<void> {
    this.#state = 'stopped'
    this.#stopping.abort()
    const child = this.#process
    if (child === undefined) return this.#release()
    child.send({ type: 'stop', graceMs: STOP_GRACE_MS })
    if (deadline.aborted) child.kill()
    else deadline.addEventListener('abort', child.kill, { once: true })
    await child.ended
    deadline.removeEventListener('abort', child.kill)
    await this.#supervision
    this.#release()
  }

  #release(): void {
    this.#state = 'stopped'
    this.#lock?.release()
    this.#lock = undefined
  }

  #spawn(): StoreProcess {
    const child = spawnStore(
      {
        type: 'start',
        directory: this.#directory,
        port: this.#port,
        limits: this.#limits,
        passwords: { reader: this.credentials.reader.password, writer: this.credentials.writer.password },
      },
      this.#owner,
    )
    this.#process = child
    this.#health = undefined
    child.onHealthy((health) => {
      this.#health = { ...health, atMs: performance.now() }
    })
    return child
  }

  async #untilReady(child: StoreProcess): Promise<void> {
    const timer = setTimeout(child.kill, this.#timings.startMs)
    try {
      this.#port = await child.ready
    } finally {
      clearTimeout(timer)
    }
  }

  /** Runs until `stop`: watches one process after the other. */
  async #supervise(first: StoreProcess): Promise<void> {
    const { log } = this.#options
    const stopping = this.#stopping.signal
    const { backoffMinMs, backoffMaxMs, steadyMs } = this.#timings
    const backoff = new Backoff({ firstMs: backoffMinMs, maxMs: backoffMaxMs, random: Math.random })
    for (let child = first; ; ) {
      const watching = this.#watch(child)
      const why = await child.ended
      const servedMs = await watching
      if (stopping.aborted) return
      this.#state = 'restarting'
      if (servedMs >= steadyMs) backoff.reset()
      const backoffMs = backoff.nextMs()
      log.error({ pid: child.pid, why, backoffMs }, 'The store process ended; it is started again.')
      await this.#clock.sleep(backoffMs, stopping)
      if (stopping.aborted) return
      child = this.#spawn()
      const started = await this.#untilReady(child).then(
        () => true,
        () => false,
      )
      if (started && !stopping.aborted) this.#restarted(child)
    }
  }

  #restarted(child: StoreProcess): void {
    this.#state = 'ready'
    this.#restarts++
    this.#options.log.info({ pid: child.pid, restarts: this.#restarts }, 'The store process serves again.')
    for (const callback of this.#callbacks) {
      try {
        callback()
      } catch (error) {
        this.#options.log.error({ error }, 'A listener for restarts of the store failed.')
      }
    }
  }

  /** Asks how it is until it is gone, and kills it when it hangs. Returns for how long it served. */
  async #watch(child: StoreProcess): Promise<number> {
    const { healthEveryMs, hungMs, stoppedMs } = this.#timings
    const gone = new AbortController()
    child.ended.then(() => gone.abort())
    const beganMs = performance.now()
    let answered = 0
    let asked = 0
    const silence = { runningMs: 0, stoppedMs: 0 }
    child.onHealthy(({ id }) => {
      answered = Math.max(answered, id)
    })
    for (let lastMs = performance.now(); ; ) {
      if (asked === answered) {
        if (this.#state === 'unresponsive') {
          this.#state = 'ready'
          this.#options.log.info({ pid: child.pid }, 'The store process answers again.')
        }
        silence.runningMs = 0
        silence.stoppedMs = 0
        child.send({ type: 'health', id: ++asked })
      }
      await this.#clock.sleep(healthEveryMs, gone.signal)
      if (gone.signal.aborted) return performance.now() - beganMs
      // Our own pauses are not held against it.
      const passedMs = Math.min(performance.now() - lastMs, 2 * healthEveryMs)
      lastMs = performance.now()
      if (asked === answered) continue
      const stopped = await isStopped(child.pid)
      silence[stopped ? 'stoppedMs' : 'runningMs'] += passedMs
      if (this.#state === 'ready' && silence.runningMs + silence.stoppedMs >= 3 * healthEveryMs) {
        this.#state = 'unresponsive'
        this.#options.log.warn({ pid: child.pid, stopped }, 'The store process does not answer.')
      }
      if (silence.runningMs >= hungMs || silence.stoppedMs >= stoppedMs) {
        this.#options.log.error({ pid: child.pid, ...silence }, 'The store process hangs and is killed.')
        child.kill()
        await child.ended
      }
    }
  }
}

function lockOf(directory: string): DirectoryLock {
  const attempt = lockDirectory(directory)
  if (attempt.held) return attempt.lock
  throw inUse(directory, attempt.cause, attempt.ownerPid)
}

/** What a failed first start means to who started the program. */
function startError(error: unknown, directory: string): SidecastError {
  if (error instanceof SidecastError) return error
  const reason = error instanceof Error ? error.message : String(error)
  // The engine has a lock of its own, which also holds where ours does not reach: another machine, a container.
  if (isLocked(error)) return inUse(directory, error, null)
  return new SidecastError('SC4102', `the store in ${directory} does not start: ${reason}`, { cause: error })
}

function isLocked(error: unknown): boolean {
  return error instanceof Error && /Cannot lock file/.test(error.message)
}

function inUse(directory: string, cause: unknown, ownerPid: number | null): SidecastError {
  const who = ownerPid === null ? 'another process' : `process ${ownerPid}`
  return new SidecastError('SC4105', `${directory} is in use by ${who}`, {
    help: 'stop that process, or give this one another directory with --data',
    cause,
  })
}
