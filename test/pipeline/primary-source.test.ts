import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Origin } from '../../src/model/batch.ts'
import { SOURCES } from '../../src/pipeline/ledger-rows.ts'
import { createPrimarySources } from '../../src/pipeline/primary-source.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { origin } from '../support/batch.ts'

const MINUTE = 60_000
let dir: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'primary-'))
})
afterEach(() => rmSync(dir, { recursive: true, maxRetries: 10, retryDelay: 10 }))

/** Marks rows `[origin, kind]`; '' when none is secondary. */
function judge(options: { order?: Origin['source'][]; nodesMax?: number } = {}) {
  const clock = { ms: 1_000_000, now: () => clock.ms }
  const { order = [...SOURCES], ...rest } = options
  const sources = createPrimarySources({ order, fallbackMs: MINUTE, dir, clock, log: silentLog, ...rest })
  const mark = (...rows: readonly (readonly [Origin, 0 | 1 | 2])[]): string => {
    const origins = [...new Set(rows.map(([from]) => from))]
    const stream = Uint16Array.from(rows, ([from]) => origins.indexOf(from))
    const marks = new Uint8Array(rows.length).fill(9)
    const any = sources.mark(
      rows.length,
      origins,
      stream,
      Uint8Array.from(rows, ([, kind]) => kind),
      marks,
    )
    return any ? [...marks].join('') : ''
  }
  return { sources, clock, mark }
}

const als = origin({ source: 'als', nodeId: 'a' })
const json = origin({ source: 'json', nodeId: 'a' })
const text = origin({ source: 'text', nodeId: 'a' })

describe('primary sources', () => {
  it('lets the better source of a node count, from the batch it first comes in', () => {
    const { mark } = judge()
    expect(mark([json, 0], [json, 0])).toBe('')
    expect(mark([json, 0], [als, 0], [json, 0])).toBe('101')
    expect(mark([json, 0])).toBe('1')
    expect(mark([als, 0])).toBe('')
    expect(mark([text, 0])).toBe('1')
  })

  it('decides for HTTP apart from TCP and UDP', () => {
    const { mark } = judge()
    expect(mark([als, 0], [json, 1])).toBe('')
    expect(mark([json, 0], [json, 1], [json, 2])).toBe('100')
    expect(mark([als, 1], [json, 2])).toBe('01')
  })

  it('decides for each node, and lets rows without a node count', () => {
    const { mark } = judge()
    const other = origin({ source: 'json', nodeId: 'b' })
    const nobody = [origin({ source: 'als', nodeId: '' }), origin({ source: 'json', nodeId: '' })] as const
    expect(mark([als, 0], [other, 0], [nobody[0], 0], [nobody[1], 0])).toBe('')
  })

  it('falls back when the better source is silent, and returns with it', () => {
    const { mark, clock } = judge()
    expect(mark([als, 0], [json, 0])).toBe('01')
    clock.ms += MINUTE - 1
    expect(mark([json, 0])).toBe('1')
    clock.ms += 1
    expect(mark([json, 0])).toBe('')
    expect(mark([als, 0], [json, 0])).toBe('01')
  })

  it('keeps to the configured order, and takes sources it does not name last', () => {
    const { mark } = judge({ order: ['json'] })
    expect(mark([als, 0], [json, 0], [text, 0])).toBe('101')
  })

  it('remembers nodes with several sources over a restart', async () => {
    const first = judge()
    first.mark([als, 0], [json, 0])
    await first.sources.saved()
    const second = judge()
    expect(second.sources.several).toBe(1)
    expect(second.mark([json, 0])).toBe('1')
    second.clock.ms += MINUTE
    expect(second.mark([json, 0])).toBe('')
  })

  it('takes a damaged file for none', async () => {
    const { writeFile } = await import('node:fs/promises')
    await writeFile(join(dir, 'primary-sources.json'), '{"a":[["als"')
    expect(judge().mark([json, 0])).toBe('')
    await writeFile(join(dir, 'primary-sources.json'), '{"a":[["als","nonsense"],7],"b":3}')
    expect(judge().mark([json, 0])).toBe('1')
  })

  it('forgets the nodes that came first when there are too many', () => {
    const { mark, sources } = judge({ nodesMax: 2 })
    mark([als, 0], [json, 0])
    mark([origin({ nodeId: 'b' }), 0], [origin({ nodeId: 'c' }), 0])
    expect(sources.several).toBe(0)
    expect(mark([origin({ source: 'json', nodeId: 'a' }), 0])).toBe('')
  })
})
