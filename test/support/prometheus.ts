import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { stringify } from 'yaml'
import { freePorts } from '../../src/demo/envoy-process.ts'
import { alertmanager, prometheus } from './programs.ts'

/** A real Prometheus with one configuration, on loopback; ends with the test. */
export interface TestPrometheus {
  /** `http://127.0.0.1:PORT`. */
  readonly url: string
  /** An instant query; throws with Prometheus' own words when it is refused. */
  query(expr: string, options?: { readonly timeMs?: number }): Promise<PromSample[]>
  get<T>(path: string): Promise<T>
  log(): string
  stop(): Promise<void>
}
export interface PromSample {
  readonly metric: Readonly<Record<string, string>>
  readonly value?: readonly [seconds: number, value: string]
  readonly histogram?: readonly [seconds: number, value: object]
}

export interface PrometheusOptions {
  /** The whole of prometheus.yml. */
  readonly config: object
  /** Content of rule files by name; the configuration is given their paths. */
  readonly rules?: Readonly<Record<string, string>>
  readonly args?: readonly string[]
  /** With native histograms this version keeps no classic buckets of a family that has both. */
  readonly features?: readonly string[]
}

const READY_MS = 120_000

export async function startPrometheus(options: PrometheusOptions): Promise<TestPrometheus> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecast-prometheus-'))
  const [port] = (await freePorts(1)) as [number]
  await mkdir(join(dir, 'rules'))
  for (const [name, text] of Object.entries(options.rules ?? {})) await writeFile(join(dir, 'rules', name), text)
  const config = { ...options.config, rule_files: [join(dir, 'rules', '*')] }
  await writeFile(join(dir, 'prometheus.yml'), stringify(config))
  const program = await daemon(await prometheus(), dir, `http://127.0.0.1:${port}`, [
    `--config.file=${join(dir, 'prometheus.yml')}`,
    `--storage.tsdb.path=${join(dir, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
    '--web.enable-remote-write-receiver',
    `--enable-feature=${(options.features ?? ['native-histograms', 'exemplar-storage']).join(',')}`,
    '--log.level=warn',
    ...(options.args ?? []),
  ])
  return {
    ...program,
    async query(expr, { timeMs } = {}) {
      const body = new URLSearchParams({ query: expr })
      if (timeMs !== undefined) body.set('time', String(timeMs / 1000))
      const answer = await fetch(`${program.url}/api/v1/query`, { method: 'POST', body })
      const { status, error, data } = (await answer.json()) as {
        status: string
        error?: string
        data?: { resultType: string; result: PromSample[] }
      }
      if (status !== 'success') throw new Error(`${expr}: ${error}`)
      return data!.resultType === 'scalar' ? [{ metric: {} }] : data!.result
    },
  }
}

/** A real Alertmanager that tells every alert at once to a webhook. */
export async function startAlertmanager(webhook: string): Promise<Omit<TestPrometheus, 'query'>> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecast-alertmanager-'))
  const [port] = (await freePorts(1)) as [number]
  const config = {
    route: { receiver: 'test', group_by: ['...'], group_wait: '0s', group_interval: '1s', repeat_interval: '1h' },
    receivers: [{ name: 'test', webhook_configs: [{ url: webhook, send_resolved: true }] }],
  }
  await writeFile(join(dir, 'alertmanager.yml'), stringify(config))
  return daemon(await alertmanager(), dir, `http://127.0.0.1:${port}`, [
    `--config.file=${join(dir, 'alertmanager.yml')}`,
    `--storage.path=${join(dir, 'data')}`,
    '--cluster.listen-address=',
    `--web.listen-address=127.0.0.1:${port}`,
    '--log.level=warn',
  ])
}

async function daemon(
  binary: string,
  dir: string,
  url: string,
  args: readonly string[],
): Promise<Omit<TestPrometheus, 'query'>> {
  const child = spawn(binary, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log = (log + text).slice(-100_000)
  })
  const stop = async () => {
    await ended(child)
    await rm(dir, { recursive: true, force: true })
  }
  onTestFinished(stop)
  const giveUp = performance.now() + READY_MS
  for (;;) {
    const ready = await fetch(`${url}/-/ready`).then(
      (answer) => answer.ok,
      () => false,
    )
    if (ready) break
    if (child.exitCode !== null || performance.now() > giveUp) throw new Error(`${binary} is not ready:\n${log}`)
    await sleep(50)
  }
  return {
    url,
    log: () => log,
    stop,
    async get<T>(path: string): Promise<T> {
      const answer = await fetch(`${url}${path}`)
      if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
      return (await answer.json()) as T
    },
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = new Promise((done) => child.once('exit', done))
  child.kill('SIGTERM')
  await Promise.race([exited, sleep(5000, undefined, { ref: false })])
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
  await exited
}
