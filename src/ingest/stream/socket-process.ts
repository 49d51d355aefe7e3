import { type ChildProcess, spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Log } from '../../telemetry/log.ts'

/**
 * A process of ours that reads a socket where Node has no such thing, or is slow at it, and writes what it got to its standard output.
 * It is started again whenever it ends, until it is stopped.
 */
export interface SocketProcess {
  /** Times it ended by itself. */
  readonly restarts: number
  /** Resolves when the socket is there. */
  start(): Promise<void>
  /** Reads on what it writes, where reading was paused. */
  resume(): void
  /** Ends it when it has said nothing for a while and `isEmpty` agrees, or at the deadline. */
  stop(deadline: AbortSignal): Promise<void>
}

export interface SocketProcessOptions {
  /** The program, beside whose `.ts` or `.js` it is. */
  readonly program: URL
  /** Of the next start. */
  readonly args: () => readonly string[]
  /** For the log: StatsD over UDP. */
  readonly what: string
  /** A reader of what one life of it writes; `ready` is called when the socket is there. */
  readonly read: (ready: () => void) => (chunk: Buffer, output: Readable) => void
  /** Why it cannot start. */
  readonly failure: (reason: string) => Error
  /** It has ended by itself. */
  readonly onLost?: () => void
  /** It is about to be ended, and its socket with it. */
  readonly onEnding?: () => void
  /** What it has not read yet is nothing. */
  readonly isEmpty?: () => boolean
  readonly quietMs: number
  readonly log: Log
}

const START_MS = 10_000
const RESTART_MS = 1000
const SAID_MAX = 1000

export function createSocketProcess(options: SocketProcessOptions): SocketProcess {
  const { program, args, what, read, failure, onLost, onEnding, isEmpty = () => true, quietMs, log } = options
  let child: ChildProcess | null = null
  let restarts = 0
  let stopping = false
  let lastMs = 0
  let restart: NodeJS.Timeout | null = null

  const launch = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const command = ['--experimental-ffi', '--no-warnings', fileURLToPath(program), ...args()]
      const started = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'pipe'], env: {} })
      child = started
      let said = ''
      let ready = false
      const timer = setTimeout(() => started.kill('SIGKILL'), START_MS)
      const take = read(() => {
        ready = true
        clearTimeout(timer)
        resolve()
      })
      started.stderr.on('data', (chunk: Buffer) => {
        if (said.length < SAID_MAX) said += chunk.toString()
      })
      started.stdout.on('data', (chunk: Buffer) => {
        lastMs = performance.now()
        take(chunk, started.stdout)
      })
      started.once('error', (error) => reject(failure(error.message)))
      started.once('close', (code) => {
        clearTimeout(timer)
        if (child === started) child = null
        if (!ready) {
          reject(failure(said.trim() || `the process that reads it ended with ${code}`))
          return
        }
        if (stopping) return
        restarts++
        onLost?.()
        log.warn({ code, said }, `${what}: the process that reads it ended; it is started again`)
        restartSoon()
      })
    })
  const restartSoon = (): void => {
    restart = setTimeout(() => {
      launch().catch((error: Error) => {
        log.error({ error }, `${what}: the process that reads it does not start`)
        if (!stopping) restartSoon()
      })
    }, RESTART_MS)
  }
  return {
    get restarts() {
      return restarts
    },
    async start() {
      stopping = false
      await launch()
    },
    resume: () => void child?.stdout?.resume(),
    async stop(deadline) {
      stopping = true
      if (restart !== null) clearTimeout(restart)
      const running = child
      if (running === null) return
      lastMs = performance.now()
      while (!deadline.aborted && (performance.now() - lastMs < quietMs || !isEmpty()))
        await new Promise((resolve) => setTimeout(resolve, 5))
      onEnding?.()
      const closed = new Promise<void>((resolve) => running.once('close', () => resolve()))
      running.kill('SIGKILL')
      await closed
    },
  }
}
