import { expect, it } from 'vitest'
import { parse } from '../../../src/query/promql/parse.ts'

it('reads a selector with everything that can stand at one', () => {
  expect(
    parse(`http_requests_total{job="a",path=~"/x.*",code!="500",z!~'1|2'} [5m] offset 1h30m @ 1600000000.5`),
  ).toEqual({
    kind: 'selector',
    matchers: [
      { label: '__name__', op: '=', value: 'http_requests_total' },
      { label: 'job', op: '=', value: 'a' },
      { label: 'path', op: '=~', value: '/x.*' },
      { label: 'code', op: '!=', value: '500' },
      { label: 'z', op: '!~', value: '1|2' },
    ],
    rangeMs: 300_000,
    offsetMs: 5_400_000,
    atMs: 1_600_000_000_500,
  })
  expect(parse('{"a.b", x="\\u00fc\\n"}')).toMatchObject({
    matchers: [
      { label: '__name__', op: '=', value: 'a.b' },
      { label: 'x', op: '=', value: 'ü\n' },
    ],
  })
  expect(parse('up offset -5m')).toMatchObject({ offsetMs: -300_000 })
})

it.each([
  ['1 + 2 * 3', '(1 + (2 * 3))'],
  ['2 ^ 3 ^ 2', '(2 ^ (3 ^ 2))'],
  ['-2 ^ 2', '-((2 ^ 2))'],
  ['1 - 2 - 3', '((1 - 2) - 3)'],
  ['a or b and c unless d', '(a or ((b and c) unless d))'],
  ['a > bool 1 == bool 0', '((a > 1) == 0)'],
  ['(1 + 2) * 3', '((1 + 2) * 3)'],
  ['0x1F + .5e1 + Inf', '((31 + 5) + Infinity)'],
  ['a # a comment\n + 1', '(a + 1)'],
])('%s binds as %s', (query, shape) => {
  const show = (expr: ReturnType<typeof parse>): string => {
    if (expr.kind === 'binary') return `(${show(expr.left)} ${expr.op} ${show(expr.right)})`
    if (expr.kind === 'unary') return `-(${show(expr.expr)})`
    if (expr.kind === 'number') return String(expr.value)
    if (expr.kind === 'selector') return expr.matchers[0]!.value
    throw new Error(expr.kind)
  }
  expect(show(parse(query))).toBe(shape)
})

it('takes the grouping of an aggregation before or after', () => {
  const before = parse('sum by (job, instance) (up)')
  expect(parse('sum(up) by (job, instance)')).toEqual(before)
  expect(before).toMatchObject({ op: 'sum', without: false, labels: ['job', 'instance'] })
  expect(parse('topk without () (3, up)')).toMatchObject({ op: 'topk', without: true, param: { value: 3 } })
  // Words of the language are names where a name can stand.
  expect(parse('sum')).toMatchObject({ kind: 'selector' })
})

it.each([
  ['', 'no expression found'],
  ['1 +', 'expected an expression'],
  ['up{', 'expected a label'],
  ['up{a}', 'expected a label matching operator'],
  ['up{a="b"', 'expected "}"'],
  ['{}', 'at least one non-empty matcher'],
  ['{a=~".*"}', 'at least one non-empty matcher'],
  ['{a!="b"}', 'at least one non-empty matcher'],
  ['"abc', 'unterminated string'],
  ['up[5q]', 'expected "]"'],
  ['up[x]', 'expected a duration'],
  ['up[0s]', 'duration must be greater than 0'],
  ['(1)[5m]', 'after a selector only'],
  ['sum(up) offset 5m', 'after a selector only'],
  ['up ~ 1', 'unexpected character'],
  ['1 2', 'expected end of input'],
  [`${'('.repeat(500)}1${')'.repeat(500)}`, 'nested too deeply'],
])('refuses %s', (query, message) => {
  expect(() => parse(query)).toThrow(message)
})

it.each(['up[5m:1m]', 'a * on(x) group_left b'])('says of %s that it cannot yet', (query) => {
  expect(() => parse(query)).toThrow('not supported yet')
})
