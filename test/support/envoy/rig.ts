import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, realpath, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type EnvoyProcess, freePorts, startEnvoy } from '../../../src/demo/envoy-process.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { envoy } from '../programs.ts'
import { fromTemplate } from './template.ts'
import { startUpstreams } from './upstreams.ts'

/**
 * One real Envoy, upstream servers with known behaviour, and its logs: to an access log service at `als`, and to
 * `access-json.log` and `access-text.log` in `dir`, which are the truth that tests compare with.
 *
 *   const rig = await startRig({ als: grpcPort })
 *   onTestFinished(() => rig.stop())
 */
export interface RigOptions {
  /** Port of the access log service. Without one Envoy connects to a closed port. */
  readonly als?: number
  /** Kept after the test; by default a directory that `stop` removes. */
  readonly dir?: string
  /** Worker threads of Envoy; it opens a stream per worker and log name. */
  readonly workers?: number
  /** Path of the binary; installed when absent. */
  readonly binary?: string
}

/** Listeners of Envoy, by what they do. Nothing listens on `closed`. */
const LISTENERS = [
  'admin',
  'main',
  'second',
  'periodic',
  'tls',
  'nfcf',
  'tcp',
  'tcpPeriodic',
  'tcpRefused',
  'tcpEmpty',
  'cache',
  'closed',
] as const
export type RigPorts = Readonly<Record<(typeof LISTENERS)[number], number>>

export interface Rig extends Pick<EnvoyProcess, 'pid' | 'exited' | 'admin'> {
  readonly ports: RigPorts
  readonly dir: string
  /** Envoy's counters whose name matches a regular expression. */
  counters(filter: string): Promise<Record<string, number>>
  /** Ends Envoy, which flushes its loggers first, and the upstream servers. Safe twice. */
  stop(): Promise<void>
}

export async function startRig(options: RigOptions = {}): Promise<Rig> {
  const binary = options.binary ?? (await envoy({ log: silentLog }))
  const dir = await realpath(options.dir ?? (await mkdtemp(join(tmpdir(), 'sidecast-rig-'))))
  await mkdir(dir, { recursive: true })
  const upstreams = await startUpstreams()
  try {
    const free = await freePorts(LISTENERS.length)
    const ports = Object.fromEntries(LISTENERS.map((name, i) => [name, free[i]])) as RigPorts
    await certificates(dir)
    await setOverload(dir, 'overload', 0)
    await setOverload(dir, 'memory', 0)
    await writeFile(join(dir, 'ecds.yaml'), 'resources: []\n')
    const config = join(dir, 'bootstrap.yaml')
    await writeFile(
      config,
      await fromTemplate('bootstrap.template', {
        DIR: dir,
        ADMIN: ports.admin,
        MAIN: ports.main,
        SECOND: ports.second,
        PERIODIC: ports.periodic,
        TLS: ports.tls,
        NFCF: ports.nfcf,
        TCP: ports.tcp,
        TCP_PERIODIC: ports.tcpPeriodic,
        TCP_REFUSED: ports.tcpRefused,
        TCP_EMPTY: ports.tcpEmpty,
        CACHE: ports.cache,
        CLOSED: ports.closed,
        ALS: options.als ?? ports.closed,
        UP_H1: upstreams.ports.h1,
        UP_H2: upstreams.ports.h2,
        UP_ECHO: upstreams.ports.echo,
        UP_GARBAGE: upstreams.ports.garbage,
        UP_AUTHZ: upstreams.ports.authz,
      }),
    )
    const process = await startEnvoy({
      binary,
      config,
      adminPort: ports.admin,
      dir,
      ...(options.workers === undefined ? {} : { concurrency: options.workers }),
    })
    return {
      pid: process.pid,
      exited: process.exited,
      admin: process.admin,
      ports,
      dir,
      async counters(filter) {
        const { text } = await process.admin(`/stats?format=json&filter=${encodeURIComponent(filter)}`)
        const { stats } = JSON.parse(text) as { stats: { name?: string; value?: number }[] }
        return Object.fromEntries(stats.filter((stat) => stat.name !== undefined).map((s) => [s.name, s.value ?? 0]))
      },
      async stop() {
        await process.stop()
        upstreams.stop()
        if (options.dir === undefined) await rm(dir, { recursive: true, force: true })
      },
    }
  } catch (error) {
    upstreams.stop()
    throw error
  }
}

/** Sets a pressure that Envoy's overload manager reads, 0 to 1. It notices a file only when it is renamed into place. */
export async function setOverload(dir: string, resource: 'overload' | 'memory', pressure: number): Promise<void> {
  await writeFile(join(dir, `${resource}.tmp`), String(pressure))
  await rename(join(dir, `${resource}.tmp`), join(dir, resource))
}

/** Two self-signed certificates: one of the TLS listener, one of a client. */
async function certificates(dir: string): Promise<void> {
  const make = (name: string, subject: string, alternative: string) =>
    promisify(execFile)('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30'],
      ...['-subj', `/CN=${subject}`, '-addext', `subjectAltName=${alternative}`],
      ...['-keyout', join(dir, `${name}.key`), '-out', join(dir, `${name}.crt`)],
    ])
  await make('server', 'edge.test', 'DNS:edge.test')
  await make('client', 'client.test', 'URI:spiffe://test/client,DNS:client.test')
}
