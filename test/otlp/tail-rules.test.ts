import { describe, expect, test } from 'vitest'
import type { NativeBlockColumns } from '../../src/model/native-read.ts'
import {
  BY_RULE,
  BY_SHARE,
  createTailSampler,
  DROP,
  type TailRules,
  type TailSampler,
} from '../../src/otlp/tail-rules.ts'
import { blockOf, type Fill, makeRows } from '../support/otlp-rows.ts'

const RULES: TailRules = { sample: 0, classes: ['server_error'], slowNs: 1e9, rare: 0, wholeTraces: false }

interface Told {
  readonly code?: number
  readonly durationMs?: number
  readonly trace?: string
  readonly cluster?: string
}
const row =
  ({ code = 200, durationMs = 5, trace = '', cluster = 'cart' }: Told): Fill =>
  (entry) => {
    entry.startSeconds = 1_767_225_600
    entry.durationNs = durationMs * 1e6
    entry.code = code
    entry.responseCodeDetails = 'via_upstream'
    entry.method = 'GET'
    entry.traceId = trace
    entry.upstreamCluster = cluster
  }
const block = (...rows: readonly Told[]): NativeBlockColumns => blockOf(makeRows(rows.map(row)))

/** Decisions of one segment. */
function decide(sampler: TailSampler, ...blocks: readonly NativeBlockColumns[]): number[] {
  sampler.begin(0)
  for (const one of blocks) sampler.note(one, null)
  const decisions = blocks.flatMap((one) => [...sampler.decide(one, null).subarray(0, one.rows)])
  sampler.commit()
  return decisions
}

/** Trace ids that any hash would call random, always the same. */
const traceOf = (k: number): string =>
  Array.from({ length: 4 }, (_, word) => {
    let hash = Math.imul(k * 4 + word + 1, 0x9e3779b1)
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
    return ((hash ^ (hash >>> 16)) >>> 0).toString(16).padStart(8, '0')
  }).join('')

describe('tail rules', () => {
  test('every failed and every slow request is kept, and nothing else when the share is 0', () => {
    const rows: Told[] = Array.from({ length: 1500 }, (_, k) => ({
      trace: traceOf(k),
      code: k % 7 === 0 ? 503 : k % 5 === 0 ? 404 : 200,
      durationMs: k % 11 === 0 ? 1001 : 1000,
    }))
    const decisions = decide(createTailSampler(RULES), block(...rows))
    expect(decisions).toEqual(rows.map(({ code, durationMs }) => (code === 503 || durationMs! > 1000 ? BY_RULE : DROP)))
  })

  test('the share is by trace id: the same traces in every process, all rows of one or none', () => {
    const rows: Told[] = Array.from({ length: 2000 }, (_, k) => ({ trace: traceOf(k % 1000) }))
    const rules = { ...RULES, sample: 0.25 }
    const decisions = decide(createTailSampler(rules), block(...rows))
    expect(decide(createTailSampler(rules), block(...rows))).toEqual(decisions)
    expect(decisions.slice(0, 1000)).toEqual(decisions.slice(1000))
    const kept = decisions.filter((decision) => decision === BY_SHARE).length / 2000
    // Three standard deviations of a binomial with n = 1 000.
    expect(Math.abs(kept - 0.25)).toBeLessThan(3 * Math.sqrt((0.25 * 0.75) / 1000))
    // A larger share keeps those, and more.
    const more = decide(createTailSampler({ ...RULES, sample: 0.5 }), block(...rows))
    for (const [k, decision] of decisions.entries()) if (decision === BY_SHARE) expect(more[k]).toBe(BY_SHARE)
  })

  test.each([
    [1, 'ot=th:0'],
    [0.5, 'ot=th:8'],
    [0.25, 'ot=th:c'],
    [0.1, 'ot=th:e666666666666'],
    [0, ''],
  ])('a share of %f is the threshold %s', (sample, state) => {
    expect(createTailSampler({ ...RULES, sample }).shareState).toBe(state)
  })

  test('the threshold is compared with the lowest 56 bits of the trace id', () => {
    const sampler = createTailSampler({ ...RULES, sample: 0.5 })
    const traces = [
      'ffffffffffffffffff7fffffffffffff',
      '00000000000000000080000000000000',
      '0000000000000000ff80000000000000',
      'ffffffffffffffff0000000000000001',
    ]
    expect(decide(sampler, block(...traces.map((trace) => ({ trace }))))).toEqual([DROP, BY_SHARE, BY_SHARE, DROP])
  })

  test('the first requests of a route in each minute are kept', () => {
    const sampler = createTailSampler({ ...RULES, rare: 3 })
    const rows: Told[] = Array.from({ length: 8 }, (_, k) => ({ cluster: k % 2 === 0 ? 'cart' : 'users' }))
    expect(decide(sampler, block(...rows))).toEqual([1, 1, 1, 1, 1, 1, 0, 0])
    // The same minute goes on, and another begins.
    sampler.begin(59_999)
    expect([...sampler.decide(block({ cluster: 'cart' }, { cluster: 'new' }), null).subarray(0, 2)]).toEqual([0, 1])
    sampler.commit()
    sampler.begin(60_000)
    expect([...sampler.decide(block({ cluster: 'cart' }, { cluster: 'new' }), null).subarray(0, 2)]).toEqual([1, 1])
  })

  test('a segment that is sent again is decided as before', () => {
    const sampler = createTailSampler({ ...RULES, rare: 3 })
    const rows = block({}, {}, {}, {}, {})
    sampler.begin(0)
    const first = [...sampler.decide(rows, null).subarray(0, 5)]
    sampler.begin(0)
    expect([...sampler.decide(rows, null).subarray(0, 5)]).toEqual(first)
    expect(first).toEqual([1, 1, 1, 0, 0])
  })

  test('the rest of a trace is kept with its failed request: in the segment before and after it, and later', () => {
    const sampler = createTailSampler({ ...RULES, wholeTraces: true })
    const failed = traceOf(1)
    const other = traceOf(2)
    const first = block({ trace: failed }, { trace: other })
    const second = block({ trace: other }, { trace: failed, code: 500 }, { trace: failed })
    expect(decide(sampler, first, second)).toEqual([1, 0, 0, 1, 1])
    expect(decide(sampler, block({ trace: failed }, { trace: other }))).toEqual([1, 0])
  })

  test('traces whose ids differ in any one part are different traces', () => {
    const sampler = createTailSampler({ ...RULES, wholeTraces: true })
    const same = '0123456789abcdef0123456789abcdef'
    const others = [0, 8, 16, 24].map((at) => `${same.slice(0, at)}ffffffff${same.slice(at + 8)}`)
    const rows = [{ trace: same, code: 500 }, ...others.map((trace) => ({ trace })), { trace: same }]
    expect(decide(sampler, block(...rows))).toEqual([1, 0, 0, 0, 0, 1])
  })

  test('rows that the filter leaves out neither count nor decide', () => {
    const sampler = createTailSampler({ ...RULES, rare: 1, wholeTraces: true })
    const rows = block({ trace: traceOf(1), code: 500 }, { trace: traceOf(1) }, { trace: traceOf(2) })
    const selected = new Uint8Array([0, 1, 1])
    sampler.begin(0)
    sampler.note(rows, selected)
    expect([...sampler.decide(rows, selected).subarray(0, 3)]).toEqual([DROP, BY_RULE, DROP])
  })
})
