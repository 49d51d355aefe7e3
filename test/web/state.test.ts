import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  DEFAULT_STATE,
  isLive,
  opposite,
  type PageState,
  parseState,
  parseWhere,
  printState,
  printWhere,
  withFilter,
  withoutFilter,
} from '../../src/web/page/state.ts'

test('the default state has the shortest address', () => {
  expect(printState(DEFAULT_STATE)).toBe('#/')
  expect(parseState('')).toEqual(DEFAULT_STATE)
  expect(parseState('#/')).toEqual(DEFAULT_STATE)
})

test('any state reads back from its address', () => {
  const filter = fc
    .tuple(fc.constantFrom('route', 'response_code'), fc.constantFrom('=', '!=', '=~', '<='), fc.string())
    .map((parts) => parts.join(''))
    .filter((text) => parseWhere(text) !== null)
  const state: fc.Arbitrary<PageState> = fc.record({
    from: fc.constantFrom('-15m', '-1h', '2026-01-01T00:00:00.000Z'),
    to: fc.constantFrom('now', '2026-01-02T00:00:00.000Z'),
    where: fc.uniqueArray(filter, { maxLength: 4 }),
    sort: fc.constantFrom('n', 'p99', 'destination_service'),
    descending: fc.boolean(),
    set: fc.constantFrom('all', 'slowest'),
    order: fc.constantFrom('time', 'duration'),
    other: fc.array(fc.tuple(fc.constantFrom('vs', 'tz'), fc.string()), { maxLength: 2 }),
  })
  fc.assert(
    fc.property(state, (value) => {
      expect(parseState(printState(value))).toEqual(value)
    }),
  )
})

test('an address that makes no sense is the default, and never fails', () => {
  expect(parseState('#/?where=nonsense&sort=&set=17&order=x')).toEqual(DEFAULT_STATE)
  fc.assert(
    fc.property(fc.string(), (text) => {
      parseState(text)
    }),
  )
})

test('parameters of other versions are kept', () => {
  expect(printState(parseState('#/?vs=-7d&from=-1h'))).toBe('#/?from=-1h&vs=-7d')
})

test.each([
  ['response_code>=500', { column: 'response_code', operator: '>=', value: '500' }],
  ['path =~ /api/.*', { column: 'path', operator: '=~', value: '/api/.*' }],
  ['route!=a=b', { column: 'route', operator: '!=', value: 'a=b' }],
  ['method=', { column: 'method', operator: '=', value: '' }],
  ['1abc=2', null],
  ['route', null],
])('parseWhere(%j)', (text, filter) => {
  expect(parseWhere(text)).toEqual(filter)
  if (filter !== null) expect(parseWhere(printWhere(parseWhere(text)!))).toEqual(filter)
})

test('filters are added once, removed, and turned into their opposite', () => {
  const one = withFilter(DEFAULT_STATE, 'method=GET')
  expect(withFilter(one, 'method=GET').where).toEqual(['method=GET'])
  expect(withoutFilter(one, 'method=GET')).toEqual(DEFAULT_STATE)
  for (const text of ['a=b', 'a!=b', 'a=~b', 'a!~b', 'a<1', 'a<=1', 'a>1', 'a>=1']) {
    expect(opposite(text)).not.toBe(text)
    expect(opposite(opposite(text))).toBe(text)
  }
})

test('a window is live while it ends now', () => {
  expect(isLive(DEFAULT_STATE)).toBe(true)
  expect(isLive({ ...DEFAULT_STATE, to: '2026-01-01T00:00:00Z' })).toBe(false)
})
