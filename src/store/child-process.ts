import { type ChildProcess, spawn } from 'node:child_process'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ChildReport, ChildRequest, ChildStart } from './ipc.ts'
import { threadPoolSize } from './limits.ts'
import { childArguments, type ProcessName } from './processes.ts'

/** One run of the store's process, from its start to its end. */
export interface StoreProcess {
  readonly pid: number
  /** The port, when it serves; rejects when it ended before. */
  readonly ready: Promise<number>
  /** Settles when the process is gone, with why and the last lines it wrote. Never rejects. */
  readonly ended: Promise<string>
  send(request: ChildRequest): void
  onHealthy(callback: (health: Health) => void): void
  kill(): void
}

export type Health = Extract<ChildReport, { type: 'healthy' }>

/** The same module in a checkout and in the built package: only the extension differs. */
const CHILD_MODULE = fileURLToPath(new URL(`./child${extname(import.meta.url)}`, import.meta.url))
const LAST_WORDS_BYTES = 4096

/** JavaScript holds no rows here: statements, headers and chunks of 256 KiB. */
const NODE_ARGUMENTS = ['--max-old-space-size=256']

export function spawnStore(start: ChildStart, owner: ProcessName): StoreProcess {
  const child = spawn(process.execPath, [...NODE_ARGUMENTS, CHILD_MODULE, ...childArguments(start.directory, owner)], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    // Nothing of our own environment: it may hold secrets, and the engine reads some variables.
    env: { TZ: 'UTC', LANG: 'C.UTF-8', UV_THREADPOOL_SIZE: String(threadPoolSize(start.limits)) },
  })
  let lastWords = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    lastWords = (lastWords + text).slice(-LAST_WORDS_BYTES)
  })
  let failure: string | undefined
  const healthCallbacks: ((health: Health) => void)[] = []
  const served = Promise.withResolvers<number>()
  const ended = Promise.withResolvers<string>()
  const gone = (how: string) => {
    const why = [failure ?? how, lastWords.trim()].filter((part) => part !== '').join(': ')
    served.reject(new Error(why))
    ended.resolve(why)
  }
  child.on('message', (report: ChildReport) => {
    if (report.type === 'ready') served.resolve(report.port)
    else if (report.type === 'failed') failure = report.message
    else for (const callback of healthCallbacks) callback(report)
  })
  child.on('error', (error) => {
    if (child.pid === undefined) gone(error.message)
  })
  // Not 'exit': what it wrote last comes after that.
  child.on('close', (code, signal) => gone(signal === null ? `exit code ${code}` : signal))
  served.promise.catch(() => undefined)
  send(child, start)
  return {
    pid: child.pid ?? -1,
    ready: served.promise,
    ended: ended.promise,
    send: (request) => send(child, request),
    onHealthy: (callback) => void healthCallbacks.push(callback),
    kill: () => void child.kill('SIGKILL'),
  }
}

/** A message to a process that is going is lost; `ended` tells what matters. */
function send(child: ChildProcess, request: ChildRequest): void {
  if (child.connected) child.send(request, () => undefined)
}
