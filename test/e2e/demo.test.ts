import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { LedgerAnswer, ServicesAnswer } from '../../src/query/schemas.ts'

/** `sidecast demo` as a person starts it. */
test('the demo shows five services, knows that it lost none of their requests, and leaves nothing behind but its data', async () => {
  // A place of its own: other demos may be running.
  const scratch = await mkdtemp(join(tmpdir(), 'sidecast-demo-test-'))
  onTestFinished(() => rm(scratch, { recursive: true, force: true }))
  const data = await mkdtemp(join(tmpdir(), 'sidecast-demo-data-'))
  onTestFinished(() => rm(data, { recursive: true, force: true }))
  const demo = spawn(
    process.execPath,
    [
      'src/main.ts',
      'demo',
      '--data',
      data,
      '--set',
      'http.listen=127.0.0.1:0',
      '--set',
      'ingest.grpc.listen=127.0.0.1:0',
      '--set',
      'ingest.otlpHttp.listen=127.0.0.1:0',
      '--set',
      'ingest.statsd.udp=127.0.0.1:0',
      '--set',
      'ingest.statsd.tcp=127.0.0.1:0',
    ],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, TMPDIR: scratch } },
  )
  onTestFinished(() => {
    demo.kill('SIGKILL')
  })
  const exited = once(demo, 'exit')
  let said = ''
  let printed = ''
  demo.stderr.on('data', (data) => {
    said += String(data)
  })
  demo.stdout.on('data', (data) => {
    printed += String(data)
  })
  const page = () => /Page\s+(http:\/\/\S+)/.exec(said)?.[1]
  await expect.poll(page, { timeout: 60_000 }).toBeDefined()
  expect(said).toContain('Two Envoys')
  const names = async () => {
    const answer = await fetch(`${page()}api/v1/services?from=-5m`)
    const { services } = (await answer.json()) as ServicesAnswer
    return services.map((row) => row.labels.destination_service).sort()
  }
  await expect.poll(names, { timeout: 60_000 }).toEqual(['cart', 'checkout', 'mail', 'pay', 'search'])
  const coverage = async () => {
    const answer = await fetch(`${page()}api/v1/ledger`)
    return ((await answer.json()) as LedgerAnswer).coverage
  }
  await expect.poll(coverage, { timeout: 60_000 }).toMatchObject({ known: true, lost: 0, filtered: 0 })

  const envoys = await children(demo.pid!)
  expect(envoys.filter((command) => command.includes('envoy')).length).toBeGreaterThan(0)
  expect((await leftovers(scratch)).length).toBeGreaterThan(1)
  demo.kill('SIGINT')
  expect((await exited)[0]).toBe(0)
  expect(printed).toBe('')
  await expect.poll(() => leftovers(scratch), { timeout: 10_000 }).toEqual([])
  expect(await readdir(data)).toEqual(expect.arrayContaining(['journal', 'store']))
})

/** What a demo has in its directory for temporary files, and the processes that it runs on it. */
async function leftovers(scratch: string): Promise<string[]> {
  const running = (await processes()).filter(({ command }) => command.includes(`${scratch}/`))
  return [...(await readdir(scratch)), ...running.map(({ command }) => command)]
}

async function children(parent: number): Promise<string[]> {
  const all = await processes()
  const of = (pid: number): { pid: number; command: string }[] =>
    all.filter((each) => each.parent === pid).flatMap((each) => [each, ...of(each.pid)])
  return of(parent).map(({ command }) => command)
}

async function processes(): Promise<{ pid: number; parent: number; command: string }[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const found = await Promise.all(
    pids.map(async (pid) => {
      const [stat, command] = await Promise.all([
        readFile(`/proc/${pid}/stat`, 'utf8'),
        readFile(`/proc/${pid}/cmdline`, 'utf8'),
      ]).catch(() => ['', ''])
      // The name, in parentheses, may hold spaces; state and parent come after it.
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
      return { pid: Number(pid), parent, command: command.replaceAll('\0', ' ') }
    }),
  )
  return found.filter(({ command }) => command !== '')
}
