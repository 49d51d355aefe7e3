import { expect, it } from 'vitest'
import { evaluate } from '../../../src/query/promql/evaluate.ts'
import { parse } from '../../../src/query/promql/parse.ts'
import type { ReadSeries } from '../../../src/query/promql/read.ts'
import { formatValue } from '../../../src/query/routes/prometheus.ts'

const AT_MS = 1_000_000

/** Series by name: `a{x="1"}` and values 15 s apart, the last at AT_MS. */
const DATA: Readonly<Record<string, readonly [labels: Record<string, string>, values: readonly number[]][]>> = {
  a: [
    [{ x: '1', y: 'p' }, [10]],
    [{ x: '2', y: 'p' }, [20]],
    [{ x: '3', y: 'q' }, [Number.NaN]],
  ],
  b: [
    [{ x: '1', y: 'p' }, [2]],
    [{ x: '2', y: 'q' }, [4]],
  ],
  counter: [[{}, [0, 30, 60, 10, 40]]],
  steady: [[{}, [100, 130, 160, 190]]],
  one: [[{}, [5]]],
  h_bucket: [
    [{ le: '1' }, [1]],
    [{ le: '2' }, [3]],
    [{ le: '4.0' }, [4]],
    [{ le: '+Inf' }, [4]],
  ],
}

async function run(query: string) {
  const value = await evaluate(parse(query), {
    atMs: AT_MS,
    read: async (selector, atMs): Promise<ReadSeries[]> => {
      const name = selector.matchers[0]!.value
      const fromMs = atMs - (selector.rangeMs ?? 300_000)
      return (DATA[name] ?? []).map(([labels, values]) => ({
        labels: new Map([['__name__', name], ...Object.entries(labels)]),
        samples: values
          .map((one, k) => ({ ms: AT_MS - (values.length - 1 - k) * 15_000, value: one, startMs: 0 }))
          .filter(({ ms }) => ms > fromMs && ms <= atMs),
      }))
    },
  })
  if (value.type === 'scalar' || value.type === 'string') return value.value
  if (value.type === 'matrix') throw new Error('a matrix')
  return Object.fromEntries(
    value.samples.map((one) => [
      [...one.labels]
        .map(([label, text]) => `${label}=${text}`)
        .sort()
        .join(','),
      one.value,
    ]),
  )
}

it.each([
  ['1 + 2 * 3 ^ 2', 19],
  ['-7 % 3', -1],
  ['1 / 0', Number.POSITIVE_INFINITY],
  ['2 > bool 1', 1],
  ['time()', 1000],
  ['"text"', 'text'],
  ['scalar(one)', 5],
  ['scalar(a)', Number.NaN],
])('%s is %s', async (query, wanted) => {
  expect(await run(query)).toEqual(wanted)
})

it.each([
  ['a', { '__name__=a,x=1,y=p': 10, '__name__=a,x=2,y=p': 20, '__name__=a,x=3,y=q': Number.NaN }],
  ['a * 2', { 'x=1,y=p': 20, 'x=2,y=p': 40, 'x=3,y=q': Number.NaN }],
  ['100 / b', { 'x=1,y=p': 50, 'x=2,y=q': 25 }],
  ['-b', { 'x=1,y=p': -2, 'x=2,y=q': -4 }],
  ['b > 3', { '__name__=b,x=2,y=q': 4 }],
  ['3 < b', { '__name__=b,x=2,y=q': 4 }],
  ['b > bool 3', { 'x=1,y=p': 0, 'x=2,y=q': 1 }],
  ['a / b', { 'x=1,y=p': 5 }],
  ['a / on(x) b', { 'x=1': 5, 'x=2': 5 }],
  ['a / ignoring(y) b', { 'x=1': 5, 'x=2': 5 }],
  ['a and on(x) b', { '__name__=a,x=1,y=p': 10, '__name__=a,x=2,y=p': 20 }],
  ['a unless on(x) b', { '__name__=a,x=3,y=q': Number.NaN }],
  ['b or on(x) a', { '__name__=b,x=1,y=p': 2, '__name__=b,x=2,y=q': 4, '__name__=a,x=3,y=q': Number.NaN }],
  ['sum(b)', { '': 6 }],
  ['sum by (y) (b)', { 'y=p': 2, 'y=q': 4 }],
  ['count without (x) (a)', { 'y=p': 2, 'y=q': 1 }],
  ['avg(b)', { '': 3 }],
  ['min(a)', { '': 10 }],
  ['max(a)', { '': 20 }],
  ['topk(2, a)', { '__name__=a,x=2,y=p': 20, '__name__=a,x=1,y=p': 10 }],
  ['bottomk by (y) (1, a)', { '__name__=a,x=1,y=p': 10, '__name__=a,x=3,y=q': Number.NaN }],
  ['vector(3)', { '': 3 }],
  ['sum(nothing)', {}],
  // 30 + 30, a fall to 0, 10 + 30; 60 s of samples fill the window but for 0 s on its left: a counter that began at 0.
  ['increase(counter[75s])', { '': 100 }],
  ['rate(counter[75s])', { '': 100 / 75 }],
  ['irate(counter[1m])', { '': 2 }],
  ['resets(counter[5m])', { '': 1 }],
  ['changes(counter[5m])', { '': 4 }],
  // Four samples at 2/s in 60 s: 45 s of them, and 15 s before, which is about a gap.
  ['increase(steady[60s])', { '': 120 }],
  ['rate(steady[60s])', { '': 2 }],
  // Of a longer window only half a gap before the first sample is taken.
  ['increase(steady[5m])', { '': 105 }],
  ['rate(one[5m])', {}],
  ['delta(steady[60s])', { '': 120 }],
  ['avg_over_time(steady[60s])', { '': 145 }],
  ['max_over_time(counter[5m])', { '': 60 }],
  ['count_over_time(counter[31s])', { '': 3 }],
  ['last_over_time(counter[1m])', { '__name__=counter': 40 }],
  ['histogram_quantile(0.5, h_bucket)', { '': 1.5 }],
  ['histogram_quantile(1, h_bucket)', { '': 4 }],
  ['histogram_quantile(2, h_bucket)', { '': Number.POSITIVE_INFINITY }],
] as const)('%s is what Prometheus says', async (query, wanted) => {
  const found = (await run(query)) as Record<string, number>
  expect(Object.keys(found).sort()).toEqual(Object.keys(wanted).sort())
  for (const [labels, value] of Object.entries(wanted)) {
    if (Number.isFinite(value)) expect(found[labels]).toBeCloseTo(value, 9)
    else expect(found[labels]).toBe(value)
  }
})

it.each([
  ['rate(a)', 'range vector'],
  ['sum(1)', 'instant vector'],
  ['1 == 1', 'BOOL'],
  ['abs(a, b)', '1 argument'],
  ['toString(a)', 'not supported yet'],
  ['sum(a[5m])', 'instant vector'],
  ['a / on(y) b', 'duplicate series for the match group'],
])('refuses %s', async (query, message) => {
  await expect(run(query)).rejects.toThrow(message)
})

it('writes values as Prometheus does', () => {
  expect([0, 1.5, 1e21, 1e-7, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY].map(formatValue)).toEqual(
    ['0', '1.5', '1e+21', '1e-07', 'NaN', '+Inf', '-Inf'],
  )
})
