import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const READY_TIMEOUT_MS = 20_000
const READY_POLL_MS = 50
/** SIGTERM lets Envoy flush its gRPC and file loggers; after this it is killed. */
const STOP_TIMEOUT_MS = 5_000

export interface EnvoyOptions {
  readonly binary: string
  /** A configuration file, YAML or JSON. */
  readonly config: string
  readonly adminPort: number
  /** Where its own log goes, as `<name>.log`; `envoy.log` by default. */
  readonly dir: string
  readonly name?: string
  /** Worker threads. */
  readonly concurrency?: number
}

export interface EnvoyProcess {
  readonly pid: number
  /** Exit code or signal of the process. */
  readonly exited: Promise<number | string>
  /** Calls the admin interface. */
  admin(path: string, init?: RequestInit): Promise<{ readonly status: number; readonly text: string }>
  /** Flushes, ends the process and waits for it. Safe twice. */
  stop(): Promise<void>
}

/**
 * The shell that Envoy runs under ends it when its standard input closes, so an Envoy never outlives the process that
 * started it, not even one that is killed. It prints Envoy's pid as its only line.
 */
const KEEPER = `
exec 3<&0
"$@" 3<&- >&2 &
envoy=$!
echo $envoy
{ cat <&3 >/dev/null; kill -TERM $envoy; } 2>/dev/null >&2 &
wait $envoy
`

/** Starts one Envoy and waits until it is live. Throws with the end of its log when it does not come up. */
export async function startEnvoy(options: EnvoyOptions): Promise<EnvoyProcess> {
  const logFile = join(options.dir, `${options.name ?? 'envoy'}.log`)
  const log = await open(logFile, 'w')
  const child = spawn(
    'sh',
    [
      ...['-c', KEEPER, 'envoy-keeper', options.binary, '-c', options.config],
      ...[
        '--concurrency',
        String(options.concurrency ?? 2),
        '--use-dynamic-base-id',
        '--file-flush-interval-msec',
        '200',
      ],
      ...['--drain-time-s', '1', '--parent-shutdown-time-s', '2', '-l', 'warning'],
    ],
    { stdio: ['pipe', 'pipe', log.fd] },
  )
  const stdin = child.stdin!
  stdin.on('error', () => {}) // It closes when the shell ends.
  const exited = new Promise<number | string>((resolve, reject) => {
    child.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown'))
    child.once('error', reject)
  })
  exited.catch(() => {})
  const firstLine = await Promise.race([once(child.stdout!, 'data'), exited])
  await log.close()
  const pid = Array.isArray(firstLine) ? Number(String(firstLine[0])) : Number.NaN
  let ended = Number.isNaN(pid)
  exited.then(
    () => {
      ended = true
    },
    () => {},
  )

  const admin: EnvoyProcess['admin'] = async (path, init) => {
    const response = await fetch(`http://127.0.0.1:${options.adminPort}${path}`, init)
    return { status: response.status, text: await response.text() }
  }
  const stop = async (): Promise<void> => {
    if (ended) return
    stdin.end()
    const late = setTimeout(() => {
      if (!ended) process.kill(pid, 'SIGKILL')
    }, STOP_TIMEOUT_MS)
    await exited
    clearTimeout(late)
  }

  const deadline = Date.now() + READY_TIMEOUT_MS
  for (;;) {
    const ready = await admin('/ready').catch(() => null)
    if (ready?.status === 200) return { pid, exited, admin, stop }
    if (ended || Date.now() > deadline) {
      await stop()
      throw new Error(`Envoy did not start: ${(await readFile(logFile, 'utf8')).slice(-2000)}`)
    }
    await sleep(READY_POLL_MS)
  }
}

/** `count` different ports that are free now. They are held together while choosing, so none comes twice. */
export async function freePorts(count: number): Promise<number[]> {
  const held = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1')
      await once(server, 'listening')
      return server
    }),
  )
  const ports = held.map((server) => (server.address() as { port: number }).port)
  await Promise.all(held.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}
