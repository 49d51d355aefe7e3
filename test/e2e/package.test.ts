import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it, onTestFinished } from 'vitest'
import { imitatedTraffic } from '../../src/demo/demo.ts'
import { seededRandom } from '../../src/lib/random.ts'
import { startSidecast } from '../support/sidecast.ts'

const run = promisify(execFile)
const ROOT = new URL('../..', import.meta.url).pathname

it('works when the packed package is installed somewhere else, without a checkout around it', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'sidecast-package-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  await run('npm', ['run', 'build'], { cwd: ROOT })
  await run('npm', ['pack', '--pack-destination', dir], { cwd: ROOT })
  const [tarball] = (await readdir(dir)).filter((name) => name.endsWith('.tgz'))
  await writeFile(join(dir, 'package.json'), '{"name":"elsewhere","private":true}')
  await run('npm', ['install', '--no-audit', '--no-fund', '--no-save', join(dir, tarball!)], { cwd: dir })

  const main = join(dir, 'node_modules/sidecast/dist/main.js')
  const sidecast = await startSidecast({ command: [process.execPath, main] })
  onTestFinished(() => sidecast.close())
  const traffic = await imitatedTraffic({ why: 'a test', grpc: sidecast.grpc, random: seededRandom(5) })
  onTestFinished(() => traffic.stop())
  await expect
    .poll(async () => (await sidecast.get<{ services: unknown[] }>('/api/v1/services')).services.length, {
      timeout: 30_000,
    })
    .toBeGreaterThan(3)

  const page = await fetch(`http://${sidecast.http}/`)
  expect([page.status, page.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8'])
  const script = /src="([^"]+\.js)"/.exec(await page.text())?.[1]
  const module = await fetch(new URL(script!, `http://${sidecast.http}/`))
  expect([module.status, module.headers.get('content-type')]).toEqual([200, 'text/javascript; charset=utf-8'])
})
