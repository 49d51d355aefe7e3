import { expect, test } from 'vitest'
import { ALLOCATOR_ENV, type ProcessFacts, REPLACED, replacement } from '../../src/lib/allocator.ts'

const FACTS: ProcessFacts = {
  platform: 'linux',
  version: '26.10.0',
  execPath: '/usr/bin/node',
  execArgv: ['--enable-source-maps'],
  argv0: 'node',
  argv: ['/usr/bin/node', '/app/main.js', 'run', '--set', 'a=b c'],
  env: { PATH: '/usr/bin', NODE_OPTIONS: '--max-old-space-size=500', GONE: undefined },
  canExec: true,
  hasChannel: false,
}
const withEnv = (env: ProcessFacts['env']) => replacement({ ...FACTS, env: { ...FACTS.env, ...env } })
const withCommand = (...args: string[]) => replacement({ ...FACTS, argv: [...FACTS.argv.slice(0, 2), ...args] })

test('the same program with the same arguments, and the allocator beside its environment', () => {
  expect(replacement(FACTS)).toEqual({
    file: '/usr/bin/node',
    args: ['node', '--enable-source-maps', '/app/main.js', 'run', '--set', 'a=b c'],
    env: { PATH: '/usr/bin', NODE_OPTIONS: '--max-old-space-size=500', ...ALLOCATOR_ENV, [REPLACED]: '1' },
  })
})

test('once, also where the variables do not arrive', () => {
  expect(replacement({ ...FACTS, env: replacement(FACTS)!.env })).toBeNull()
  // The loader takes them from a program with file capabilities.
  expect(withEnv({ [REPLACED]: '1' })).toBeNull()
})

test.each([
  { MALLOC_ARENA_MAX: '4' },
  { MALLOC_TOP_PAD_: '1' },
  { GLIBC_TUNABLES: 'glibc.cpu.x86_ibt=off:glibc.malloc.arena_max=2' },
  { LD_PRELOAD: '/usr/lib/libjemalloc.so.2' },
])('not where somebody chose: %j', (env) => {
  expect(withEnv(env)).toBeNull()
})

test('other preloads and tunables say nothing about the allocator', () => {
  const env = { LD_PRELOAD: '/usr/lib/libfaketime.so.1', GLIBC_TUNABLES: 'glibc.pthread.rseq=0' }
  expect(withEnv(env)?.env).toMatchObject({ ...env, ...ALLOCATOR_ENV })
})

test('only commands that run for long', () => {
  expect(withCommand('demo')).not.toBeNull()
  for (const args of [['version'], ['journal', 'ls'], ['--help'], []]) expect(withCommand(...args)).toBeNull()
})

test.each([
  { platform: 'darwin' },
  { platform: 'win32' },
  { canExec: false },
  { hasChannel: true },
  { version: '24.15.0' },
  { version: '26.2.9' },
  { execArgv: ['--inspect=0'] },
  { env: { NODE_OPTIONS: '--inspect-brk' } },
])('not where it would not work or something would be lost: %j', (facts) => {
  expect(replacement({ ...FACTS, ...facts })).toBeNull()
})

test.each(['26.3.0', '27.0.1'])('Node %s says when it fails', (version) => {
  expect(replacement({ ...FACTS, version })).not.toBeNull()
})
