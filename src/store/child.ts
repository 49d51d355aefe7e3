import { mkdir } from 'node:fs/promises'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { systemClock } from '../lib/clock.ts'
import { loadChdb } from './chdb.ts'
import { Engine } from './engine.ts'
import { writeEngineConfig } from './engine-config.ts'
import { createHttpFace } from './http-face.ts'
import type { ChildReport, ChildRequest, ChildStart } from './ipc.ts'
import { Spool } from './spool.ts'

/**
 * The main module of the store's process. It is started by `supervisor.ts` with an IPC channel, told what to do by one
 * message, and ends at once when that channel closes: a store never outlives the process that it belongs to.
 */
interface Running {
  readonly engine: Engine
  readonly server: Server
}

let running: Running | undefined

process.on('disconnect', endAtOnce)
process.on('message', (request: ChildRequest) => {
  handle(request).catch((error: unknown) => {
    report({ type: 'failed', message: error instanceof Error ? error.message : String(error) })
    process.exitCode = 1
    process.disconnect?.()
  })
})
// A terminal's Ctrl-C goes to the whole process group; the process that owns us decides when we end.
process.on('SIGINT', () => undefined)
process.on('SIGTERM', () => undefined)

async function handle(request: ChildRequest): Promise<void> {
  if (request.type === 'start') {
    running = await start(request)
    report({ type: 'ready', port: (running.server.address() as AddressInfo).port })
  } else if (request.type === 'health') {
    await health(request.id)
  } else {
    await stop(request.graceMs)
  }
}

async function start({ directory, port, passwords, limits }: ChildStart): Promise<Running> {
  const engineDirectory = join(directory, 'engine')
  await mkdir(engineDirectory, { recursive: true, mode: 0o700 })
  const spool = new Spool(join(directory, 'spool'))
  const configPath = await writeEngineConfig(directory, limits)
  const chdb = loadChdb()
  // The engine holds a lock on its directory, so only its owner gets beyond this line and may empty the spool.
  const engine = new Engine({ chdb, directory: engineDirectory, configPath, limits })
  await spool.open()
  const version = await engine.version()
  const server = createHttpFace({ engine, spool, limits, version, passwords })
  await listen(server, port)
  return { engine, server }
}

/** The same port as before a restart, so that clients need not change; any other when somebody has taken it. */
async function listen(server: Server, port: number): Promise<void> {
  const attempt = (at: number) =>
    new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(at, '127.0.0.1', () => {
        server.off('error', reject)
        resolve()
      })
    })
  await attempt(port).catch((error: NodeJS.ErrnoException) => {
    if (port === 0 || error.code !== 'EADDRINUSE') throw error
    return attempt(0)
  })
}

/** Proves that the engine answers, not only this thread. An error is an answer: out of memory is not hung. */
async function health(id: number): Promise<void> {
  if (running === undefined) return
  await running.engine.version().catch(() => undefined)
  report({ type: 'healthy', id, rssBytes: process.memoryUsage.rss(), ...running.engine.counts })
}

/** Statements that run get `graceMs` with their answers; then the engine is closed, or left when something still runs. */
async function stop(graceMs: number): Promise<void> {
  if (running !== undefined) {
    const { engine, server } = running
    const over = AbortSignal.timeout(graceMs)
    const closed = new AbortController()
    server.close(() => closed.abort())
    // A connection that has its answer is idle only now, and would be kept alive.
    while (!closed.signal.aborted && !over.aborted) {
      server.closeIdleConnections()
      await systemClock.sleep(10, closed.signal)
    }
    if (engine.isIdle) engine.close()
  }
  process.exit(0)
}

function report(message: ChildReport): void {
  if (process.connected) process.send?.(message)
}

/** No exit handlers: they would wait for statements. The engine's files are safe at any moment. */
function endAtOnce(): void {
  process.kill(process.pid, 'SIGKILL')
}
