import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { COLUMN_NAMES, flagNames, GROUP_COLUMNS_MAX, parseGroups } from '../../src/query/columns.ts'
import { FILTERS_MAX, filterSql, parseFilters } from '../../src/query/filters.ts'
import { Problem } from '../../src/query/problem.ts'
import { Bindings } from '../../src/query/sql.ts'

const OPERATORS = ['=', '!=', '=~', '!~', '<', '<=', '>', '>=']
const sqlOf = (where: string) => {
  const bindings = new Bindings()
  const sql = filterSql(parseFilters([where])[0]!, bindings, 1_768_000_000_000_000_000n)
  return bindings.statement(sql)
}

describe('a filter', () => {
  const cases: [string, string, Record<string, unknown>][] = [
    ['method=GET', 'method = {p0:String}', { p0: 'GET' }],
    ['method!=GET', 'NOT (method = {p0:String})', { p0: 'GET' }],
    ['method=~GET|PUT', 'match(method, {p0:String})', { p0: '^(?:GET|PUT)$' }],
    ['method!~GET|PUT', 'NOT match(method, {p0:String})', { p0: '^(?:GET|PUT)$' }],
    ['response_code>=500', 'ifNull(response_code >= {p0:UInt64}, 0)', { p0: '500' }],
    ['response_code=', 'isNull(response_code)', {}],
    ['duration_ns>1.5ms', 'duration_ns > {p0:UInt64}', { p0: '1500000' }],
    ['response_flags=UF,URX', 'bitAnd(response_flags, 32800) = 32800', {}],
    ['phases_known=true', 'phases_known = true', {}],
    ['request_headers[x-a]=b', 'request_headers[{p0:String}] = {p1:String}', { p0: 'x-a', p1: 'b' }],
    [
      'request_id=0a8f9b1e-1111-4222-8333-000000000003',
      "(request_uuid = {p0:UUID} AND request_text = '')",
      { p0: '0a8f9b1e-1111-4222-8333-000000000003' },
    ],
    ['request_id=abc', 'request_text = {p0:String}', { p0: 'abc' }],
    [
      'trace_id=4bf92f3577b34da6a3ce929d0e0e4736',
      'trace_uuid = {p0:UUID}',
      { p0: '4bf92f35-77b3-4da6-a3ce-929d0e0e4736' },
    ],
    ['span_id=00f067aa0ba902b7', 'span_number = {p0:UInt64}', { p0: '67667974448284343' }],
    [
      'stream_id=abc',
      '(stream_is_request = 0 AND stream_text = {p0:String}) OR (stream_is_request = 1 AND request_text = {p1:String})',
      { p0: 'abc', p1: 'abc' },
    ],
  ]
  for (const [where, sql, params] of cases) {
    it(`${where} becomes ${sql}`, () => expect(sqlOf(where)).toEqual({ sql, params }))
  }

  it('puts no value into SQL, whatever it is', () => {
    const columns = COLUMN_NAMES.filter((name) => name !== 'response_flags')
    fc.assert(
      fc.property(fc.constantFrom(...columns), fc.constantFrom(...OPERATORS), fc.string(), (name, operator, value) => {
        const marked = `${value}'\\mark"`
        try {
          const { sql, params } = sqlOf(`${name}${operator}${JSON.stringify(marked)}`)
          expect(sql).not.toContain('mark')
          if (!/^(?:0|NOT \(0\))$/.test(sql)) expect(JSON.stringify(params)).toContain('mark')
        } catch (error) {
          expect(error).toBeInstanceOf(Problem)
        }
      }),
      { numRuns: 2000 },
    )
  })

  it('uses names of the schema alone', () => {
    fc.assert(
      fc.property(fc.string(), fc.constantFrom(...OPERATORS), (name, operator) => {
        fc.pre(!COLUMN_NAMES.some((column) => name.trim().startsWith(column)))
        expect(() => parseFilters([`${name}${operator}1`])).toThrow(Problem)
      }),
    )
  })

  const refused: [string, string, RegExp][] = [
    ['', 'bad_filter', /not COLUMN OP VALUE/],
    ['method', 'bad_filter', /not COLUMN OP VALUE/],
    ['=GET', 'bad_filter', /not COLUMN OP VALUE/],
    ['1=1', 'bad_filter', /not COLUMN OP VALUE/],
    ['metod=GET', 'unknown_column', /no column/],
    ['request_uuid=x', 'unknown_column', /no column/],
    ['__proto__=x', 'unknown_column', /no column/],
    ['constructor=x', 'unknown_column', /no column/],
    ['response_code=abc', 'bad_filter', /whole number from 0 to 65535/],
    ['response_code=65536', 'bad_filter', /whole number/],
    ['response_code=-1', 'bad_filter', /whole number/],
    ['duration_ns=fast', 'bad_filter', /duration/],
    ['end_time>soon', 'bad_filter', /time/],
    ['end_time=~.*', 'bad_filter', /no text/],
    ['phases_known=maybe', 'bad_filter', /true or false/],
    ['phases_known<true', 'bad_filter', /no order/],
    ['request_id<a', 'bad_filter', /no order/],
    ['response_flags>UF', 'bad_filter', /no order/],
    ['response_flags=XX', 'bad_filter', /no response flag/],
    ['request_headers=x', 'bad_filter', /is a map/],
    ['method[x]=y', 'bad_filter', /no keys/],
    ['sample_rate=1e5', 'bad_filter', /number/],
    ['path=~(?=a)', 'bad_filter', /lookahead/],
    ['path=~(a)\\1', 'bad_filter', /back ref/],
    ['path=~\0', 'bad_filter', /zero byte/],
    [`path=~${'a'.repeat(1001)}`, 'bad_filter', /1001 characters/],
    [`path=${'a'.repeat(2001)}`, 'bad_filter', /2001 characters/],
    ['path="a"b"', 'bad_filter', /quoted/],
  ]
  for (const [where, code, detail] of refused) {
    it(`${JSON.stringify(where.slice(0, 30))} is refused: ${detail.source}`, () => {
      expect(() => parseFilters([where])).toThrow(detail)
      expect(() => parseFilters([where])).toThrow(expect.objectContaining({ code }))
    })
  }

  it('names the nearest column', () => {
    expect(() => parseFilters(['destination_servce=x'])).toThrow(Problem)
    try {
      parseFilters(['destination_servce=x'])
    } catch (error) {
      expect((error as Problem).body().help).toBe('did you mean destination_service?')
    }
  })

  it('is one of a bounded number', () => {
    expect(parseFilters(Array(FILTERS_MAX).fill('method=GET')).length).toBe(FILTERS_MAX)
    expect(() => parseFilters(Array(FILTERS_MAX + 1).fill('method=GET'))).toThrow(/at most/)
  })
})

describe('groups', () => {
  it('are columns of the schema, each once, a bounded number', () => {
    expect(parseGroups('route, method').map(({ name }) => name)).toEqual(['route', 'method'])
    expect(parseGroups('')).toEqual([])
    const many = ['route', 'method', 'class', 'outcome', 'reporter', 'mesh'].slice(0, GROUP_COLUMNS_MAX + 1).join(',')
    for (const text of [
      many,
      'route,route',
      'nothing',
      'end_time',
      'duration_ns',
      'request_headers',
      'route,',
      "route'",
    ]) {
      expect(() => parseGroups(text), text).toThrow(Problem)
    }
  })
})

it('flags print by name, in the order of their bits', () => {
  expect(flagNames(0)).toBe('')
  expect(flagNames((1 << 5) | (1 << 15))).toBe('UF,URX')
  expect(flagNames(1n << 40n)).toBe('bit40')
})
