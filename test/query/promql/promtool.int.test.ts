import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { stringify } from 'yaml'
import { evaluate } from '../../../src/query/promql/evaluate.ts'
import { parse } from '../../../src/query/promql/parse.ts'
import type { ReadSeries, Sample } from '../../../src/query/promql/read.ts'
import { promtool } from '../../support/programs.ts'

/**
 * Prometheus' own engine is the judge: what ours says of these series is given to promtool as what it should find. Times
 * are between samples, so that no edge of a window is at one.
 */
const STEP_MS = 15_000
const AT_MS = 307_000

const SERIES: Readonly<Record<string, readonly (number | 'stale' | null)[]>> = {
  'rq{node="a",cluster="x"}': [
    0, 30, 60, 90, 10, 40, 70, 100, 130, 160, 190, 220, 250, 280, 310, 340, 370, 400, 430, 460, 490,
  ],
  'rq{node="b",cluster="x"}': [
    1000,
    1001,
    1003,
    1003,
    1007,
    1010,
    1010,
    1020,
    null,
    null,
    1030,
    1030,
    1033,
    1040,
    1041,
    1050,
    1050,
    1060,
    1061,
    1070,
    1071,
  ],
  'rq{node="c",cluster="y"}': [
    5,
    null,
    null,
    null,
    null,
    null,
    null,
    null,
    null,
    null,
    null,
    null,
    9,
    null,
    null,
    null,
    null,
    null,
    null,
    null,
    25,
  ],
  'up{node="a"}': [1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
  'up{node="b"}': [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 'stale'],
  'up{node="c"}': [0.1, 0.2, 0.3, 0.7],
  't_bucket{le="1"}': [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20],
  't_bucket{le="5"}': [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42, 45, 48, 51, 54, 57, 60],
  't_bucket{le="25"}': [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 76, 80],
  't_bucket{le="+Inf"}': [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 76, 81],
}

const RANGES = ['31s', '62s', '100s', '290s', '10m']
const QUERIES = [
  'rq',
  'up',
  'rq offset 1m',
  'rq{cluster=~"x|z"} * 2',
  'rq{node!="a",cluster!~"y"} / 7',
  'sum(rq)',
  'sum by (cluster) (rq)',
  'avg without (node) (rq)',
  'count(up)',
  'min by (cluster) (rq) - max by (cluster) (rq)',
  'topk(2, rq)',
  'bottomk(1, rq)',
  'rq > 400',
  'rq > bool 400',
  'rq / on(node) up',
  'rq and on(node) up',
  'rq unless on(node) up == 1',
  'up or on(node) rq',
  '-rq ^ 2 % 7',
  '2 ^ 3 ^ 2 + -2 ^ 2 + vector(0)',
  'scalar(sum(up)) * rq',
  'sum_over_time(up[2m]) + avg_over_time(up[2m])',
  'max_over_time(rq[100s]) - min_over_time(rq[100s])',
  'count_over_time(up[10m])',
  'last_over_time(up{node="c"}[10m])',
  'resets(rq[10m]) + changes(rq[10m])',
  'histogram_quantile(0.5, rate(t_bucket[2m]))',
  'histogram_quantile(0.9, sum by (le) (rate(t_bucket[2m])))',
  'histogram_quantile(0.99, t_bucket)',
  'ln(rq) + sqrt(up) + abs(-up) + floor(up) + ceil(up)',
  // Of sparse counters Prometheus 2 looks for the zero before it looks how far to go; we do as Prometheus 3.
  ...RANGES.flatMap((range) =>
    ['rate', 'increase', 'irate', 'delta'].map((name) => `${name}(rq{node!="c"}[${range}])`),
  ),
]

function samplesOf(values: readonly (number | 'stale' | null)[], fromMs: number, toMs: number): Sample[] {
  return values.flatMap((value, k) => {
    const ms = k * STEP_MS
    return value === null || value === 'stale' || ms <= fromMs || ms > toMs ? [] : [{ ms, value, startMs: 0 }]
  })
}

async function ours(query: string): Promise<{ labels: string; value: number }[]> {
  const value = await evaluate(parse(query), {
    atMs: AT_MS,
    read: async ({ matchers, rangeMs }, atMs): Promise<ReadSeries[]> =>
      Object.entries(SERIES).flatMap(([text, values]) => {
        const selector = parse(text)
        if (selector.kind !== 'selector') throw new Error(text)
        const labels = new Map(selector.matchers.map(({ label, value: own }) => [label, own]))
        const matched = matchers.every(({ label, op, value: wanted }) => {
          const own = labels.get(label) ?? ''
          const same = op === '=' || op === '!=' ? own === wanted : new RegExp(`^(?:${wanted})$`).test(own)
          return same === (op === '=' || op === '=~')
        })
        if (!matched) return []
        const samples = samplesOf(values, atMs - (rangeMs ?? 300_000), atMs)
        const ended = values.findLastIndex((one, k) => one !== null && k * STEP_MS <= atMs)
        if (rangeMs === null && values[ended] === 'stale') return []
        return samples.length === 0 ? [] : [{ labels, samples }]
      }),
  })
  if (value.type !== 'vector') throw new Error(`${query} is no vector`)
  return value.samples.map(({ labels, value: one }) => ({
    labels: `{${[...labels].map(([name, text]) => `${name}=${JSON.stringify(text)}`).join(', ')}}`,
    value: one,
  }))
}

async function judge(tests: readonly { expr: string; exp_samples: readonly { labels: string; value: number }[] }[]) {
  const dir = await mkdtemp(join(tmpdir(), 'sidecast-promtool-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  const file = join(dir, 'test.yaml')
  await writeFile(
    file,
    stringify({
      evaluation_interval: '15s',
      tests: [
        {
          interval: '15s',
          input_series: Object.entries(SERIES).map(([series, values]) => ({
            series,
            values: values.map((value) => value ?? '_').join(' '),
          })),
          promql_expr_test: tests.map((test) => ({ ...test, eval_time: `${AT_MS / 1000}s` })),
        },
      ],
    }),
  )
  const program = await promtool()
  return await new Promise<{ passed: boolean; output: string }>((resolve) => {
    execFile(program, ['test', 'rules', file], (error, stdout, stderr) => {
      resolve({ passed: error === null, output: `${stdout}${stderr}` })
    })
  })
}

/** What promtool complains of, but for the last digit of a number: it compares every bit. */
function differences(output: string): string[] {
  const complaints = [...output.matchAll(/expr: "(.*)", time: .*\n\s+exp: ?(.*)\n\s+got: ?(.*)/g)]
  const told = output.split('expr:').length - 1
  if (told !== complaints.length || (told === 0 && output.includes('FAILED'))) return [output]
  const samples = (text: string) =>
    [...text.matchAll(/([a-z_]*(?:\{[^}]*\})?) ([-+.\dENaInf]+)(?:, |$)/g)].map(([, labels, value]) => [
      labels,
      value === 'NaN' ? value : Number(Number(value!.replace('Inf', 'Infinity')).toPrecision(12)),
    ])
  return complaints.flatMap(([all, , wanted, found]) =>
    JSON.stringify(samples(wanted!)) === JSON.stringify(samples(found!)) && samples(found!).length > 0 ? [] : [all],
  )
}

it('answers what Prometheus answers', async () => {
  const tests = await Promise.all(QUERIES.map(async (expr) => ({ expr, exp_samples: await ours(expr) })))
  expect(tests.filter(({ exp_samples }) => exp_samples.length > 0).length).toBeGreaterThan(QUERIES.length - 4)
  const { output } = await judge(tests)
  expect(output).toContain('Unit Testing')
  expect(differences(output)).toEqual([])
})

it('has a judge that finds what is wrong', async () => {
  const { passed, output } = await judge([
    { expr: 'sum(up)', exp_samples: [{ labels: '{}', value: 17 }] },
    { expr: 'up{node="a"}', exp_samples: [] },
  ])
  expect(passed).toBe(false)
  expect(differences(output)).toHaveLength(2)
})
