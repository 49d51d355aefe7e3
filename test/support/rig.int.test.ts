import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { isRequest, settledAccessLog } from './envoy/access-log.ts'
import { differences, drive, driveEach } from './envoy/drive.ts'
import { type Rig, startRig } from './envoy/rig.ts'
import { SCENARIOS } from './envoy/scenarios.ts'

/** The rig is what other tests take as the truth, so it is held against its own promises first. */
let rig: Rig
beforeAll(async () => {
  rig = await startRig()
})
afterAll(() => rig.stop())

test('every scenario answers, and is logged by Envoy, as it says', async () => {
  const driven = await driveEach(rig)
  expect(differences(driven, await settledAccessLog(rig))).toEqual([])
})

test('a seeded mix runs every scenario and every request of it is in the access log', async () => {
  const before = (await settledAccessLog(rig)).length
  const driven = await drive({ rig, n: 500, seed: 7 })
  expect(new Set(driven.map(({ scenario }) => scenario.name)).size).toBe(SCENARIOS.length)
  const lines = (await settledAccessLog(rig, { quietMs: 3000 })).slice(before).filter(isRequest)
  // A TLS handshake that fails is a connection, never a request.
  const requests = driven.filter(({ scenario }) => scenario.name !== 'tls-plain').flatMap(({ seen }) => seen)
  expect(lines.length).toBe(requests.length)
})

test('the same seed draws the same scenarios', async () => {
  const only = SCENARIOS.filter((scenario) => scenario.name.startsWith('ok') && scenario.name !== 'ok-drip')
  const names = async (seed: number) =>
    (await drive({ rig, scenarios: only, n: 40, seed })).map(({ scenario }) => scenario.name)
  expect(await names(3)).toEqual(await names(3))
  expect(await names(3)).not.toEqual(await names(4))
})

test('Envoy ends with its rig, also when the process that started it is killed', async () => {
  const script = `
    import { startRig } from ${JSON.stringify(new URL('envoy/rig.ts', import.meta.url).href)}
    const rig = await startRig({ workers: 1, dir: process.argv[1] })
    console.log(rig.pid)`
  const dir = await mkdtemp(join(tmpdir(), 'sidecast-rig-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  const owner = spawn(process.execPath, ['--input-type=module', '-e', script, dir], { stdio: ['ignore', 'pipe', 2] })
  const pid = Number(String((await once(owner.stdout!, 'data'))[0]))
  expect(alive(pid)).toBe(true)
  owner.kill('SIGKILL')
  await expect.poll(() => alive(pid), { timeout: 60_000 }).toBe(false)

  const other = await startRig({ workers: 1 })
  await other.stop()
  await other.stop()
  expect(alive(other.pid)).toBe(false)
})

function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
