import { readFileSync } from 'node:fs'
import { expect, onTestFinished, test } from 'vitest'
import { ALLOCATOR_ENV, REPLACED } from '../../src/lib/allocator.ts'
import { startSidecast } from '../support/sidecast.ts'

const MAIN = new URL('../../src/main.ts', import.meta.url).pathname

function environment(pid: number): Record<string, string> {
  const pairs = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').filter(Boolean)
  return Object.fromEntries(pairs.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]))
}

async function start(before: readonly string[]) {
  const sidecast = await startSidecast({ command: ['env', ...before, MAIN] })
  onTestFinished(() => sidecast.close())
  return sidecast
}

test('a process that runs for long has the allocator set, its pid, flags and signals, and tells nobody', async () => {
  const sidecast = await start(['GIVEN=a b', process.execPath, '--enable-source-maps'])
  expect(environment(sidecast.pid)).toMatchObject({ ...ALLOCATOR_ENV, [REPLACED]: '1', GIVEN: 'a b' })
  const command = readFileSync(`/proc/${sidecast.pid}/cmdline`, 'utf8').split('\0')
  expect(command.slice(1, 4)).toEqual(['--enable-source-maps', MAIN, 'run'])
  const [store] = readFileSync(`/proc/${sidecast.pid}/task/${sidecast.pid}/children`, 'utf8').trim().split(' ')
  expect(Object.keys(environment(Number(store)))).not.toContain('MALLOC_ARENA_MAX')
  expect(sidecast.log()).not.toContain('ExperimentalWarning')
  expect(await sidecast.stop()).toBe(0)
})

test('what a user says of the allocator stays as it is', async () => {
  const sidecast = await start(['MALLOC_ARENA_MAX=3', process.execPath])
  expect(environment(sidecast.pid)).toMatchObject({ MALLOC_ARENA_MAX: '3' })
  expect(environment(sidecast.pid)).not.toHaveProperty(REPLACED)
  expect(await sidecast.stop()).toBe(0)
})
