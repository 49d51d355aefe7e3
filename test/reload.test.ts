import { describe, expect, test } from 'vitest'
import { type Config, type Finding, loadConfig } from '../src/config.ts'
import { systemClock } from '../src/lib/clock.ts'
import { changesOf, createReload, type LivePart } from '../src/reload.ts'
import { silentLog } from '../src/telemetry/log.ts'

const config = (...set: string[]): Config => loadConfig({ set, env: {} }).config
const HASH = `sha256:${'ab'.repeat(32)}`
const TOKEN = `auth.tokens=[{name: mesh, hash: "${HASH}", scopes: [ingest]}]`

/** Parts that write down what was asked of them. */
function rig({ parts = [] }: { parts?: readonly LivePart[] } = {}) {
  const calls: string[] = []
  let next = config()
  let findings: Finding[] = []
  const part = (path: string, more: Partial<LivePart> = {}): LivePart => ({
    paths: [path],
    prepare: () => {
      calls.push(`prepare ${path}`)
      return () => void calls.push(`take ${path}`)
    },
    ...more,
  })
  const reload = createReload({
    config: config(),
    load: () => ({ config: next, findings }),
    parts: [part('retention', { last: true }), part('limits'), part('auth'), part('slo', { always: true }), ...parts],
    clock: systemClock,
    log: silentLog,
  })
  return {
    reload,
    calls,
    set: (...options: string[]) => {
      next = config(...options)
    },
    find: (found: Finding[]) => {
      findings = found
    },
  }
}

describe('a reload', () => {
  test('of the same configuration changes nothing, and looks at files again', async () => {
    const { reload, calls } = rig()
    expect(await reload.run('http')).toMatchObject({ taken: true, changes: [], reasons: [] })
    expect(calls).toEqual(['prepare slo', 'take slo'])
  })

  test('makes all parts ready before the first takes over, and those that reach outside last', async () => {
    const { reload, calls, set } = rig()
    set('retention.rows=14d', 'limits.sender.connections=5', TOKEN)
    const report = await reload.run('signal')
    expect(report.changes.map(({ text }) => text).sort()).toEqual([
      'auth.tokens changed, 0 → 1 entries',
      'limits.sender.connections 2000 → 5',
      'retention.rows 7d → 14d',
    ])
    const order = calls.map((call) => call.split(' ')[0])
    expect(order).toEqual([...Array(4).fill('prepare'), ...Array(4).fill('take')])
    expect(calls[3]).toBe('prepare retention')
    expect(reload.config.retention.rows).toBe('14d')
  })

  test('that changes what is fixed is refused whole, by name, and stays visible until one is taken', async () => {
    const { reload, calls, set } = rig()
    set('http.listen=127.0.0.1:9999', 'retention.rows=14d')
    const report = await reload.run('http')
    expect(report.taken).toBe(false)
    expect(report.reasons).toEqual(['http.listen 127.0.0.1:8080 → 127.0.0.1:9999: takes a restart'])
    expect(calls).toEqual([])
    expect(reload.config.retention.rows).toBe('7d')
    expect(reload.last).toBe(report)
    set('retention.rows=14d')
    await reload.run('http')
    expect([reload.last?.taken, reload.counters]).toEqual([true, { taken: 1, refused: 1 }])
  })

  test('that one part cannot take is refused before any other has taken it', async () => {
    const broken: LivePart = {
      paths: ['redaction'],
      prepare: () => {
        throw new Error('redaction: no')
      },
    }
    const { reload, calls, set } = rig({ parts: [broken] })
    set('redaction.query=all', 'limits.sender.connections=5', 'retention.rows=14d')
    expect((await reload.run('http')).reasons).toEqual(['redaction: no'])
    // What reaches outside was not even made ready.
    expect(calls).toEqual(['prepare limits', 'prepare slo'])
  })

  test('of a wrong file is refused with its findings', async () => {
    const { reload, calls, find } = rig()
    find([{ severity: 'error', code: 'SC1204', place: 'a.yaml:1:1', path: 'x', message: 'unknown key `x`', help: 'y' }])
    expect((await reload.run('signal')).reasons).toEqual(['a.yaml:1:1  unknown key `x`; y'])
    expect(calls).toEqual([])
  })

  test('comes after the one before it', async () => {
    const order: string[] = []
    const slow: LivePart = {
      paths: ['rollup'],
      always: true,
      prepare: async () => {
        order.push('begin')
        await new Promise((resolve) => setTimeout(resolve, 5))
        return () => void order.push('end')
      },
    }
    const { reload } = rig({ parts: [slow] })
    await Promise.all([reload.run('http'), reload.run('signal')])
    expect(order).toEqual(['begin', 'end', 'begin', 'end'])
  })
})

test('changes never show secrets', () => {
  const changes = changesOf(
    config('store.clickhouse.password=hunter2', TOKEN),
    config('store.clickhouse.password=hunter3', TOKEN.replace('abab', 'cdcd')),
  )
  expect(changes.map(({ text }) => text)).toEqual(['store.clickhouse.password changed', 'auth.tokens changed'])
  expect(JSON.stringify(changes)).not.toMatch(/hunter|abab|cdcd/)
})
