import { expect, test } from 'vitest'
import {
  createRedaction,
  HEADER_ADDRESS,
  HEADER_KEEP,
  HEADER_SECRET,
  HEADER_URL,
  PATH_RULE_ROOM,
  REDACTION_DEFAULTS,
  type RedactionRules,
} from '../../src/pipeline/redact.ts'

function url(text: string, rules: Partial<RedactionRules> = {}): string {
  const redaction = createRedaction({ ...REDACTION_DEFAULTS, ...rules })
  const input = Buffer.from(`<<${text}>>`)
  const out = Buffer.alloc(2 * input.length + PATH_RULE_ROOM, 0x21)
  const length = redaction.url(input, 2, input.length - 4, out)
  expect(length).toBeLessThanOrEqual(2 * (input.length - 4) + PATH_RULE_ROOM)
  return out.toString('utf8', 0, length)
}

function masked(text: string): string {
  const input = Buffer.from(text)
  const out = Buffer.alloc(2 * input.length + PATH_RULE_ROOM)
  return out.toString('latin1', 0, createRedaction().addresses(input, 0, input.length, out))
}

test.each([
  ['', ''],
  ['/', '/'],
  ['/a/b', '/a/b'],
  ['/a?', '/a?'],
  ['/a?b', '/a?b'],
  ['/a?b=', '/a?b=*'],
  ['/a?b=c', '/a?b=*'],
  ['/a?b=c&d', '/a?b=*&d'],
  ['/a?b=c&d=e', '/a?b=*&d=*'],
  ['/a?b=c=d&e=f?g', '/a?b=*&e=*'],
  ['/a?&&=x&', '/a?&&=*&'],
  ['/a?ключ=значение', '/a?ключ=*'],
  ['/a#access_token=x', '/a#access_token=*'],
  ['https://h/p?t=1#f=2', 'https://h/p?t=*'],
])('the values of a query are replaced: %s', (text, expected) => {
  expect(url(text)).toBe(expected)
})

test('a query can go as a whole, or be kept', () => {
  expect(url('/a?b=c&d', { query: 'all' })).toBe('/a?*')
  expect(url('/a', { query: 'all' })).toBe('/a')
  expect(url('/a?b=c&d', { query: 'none' })).toBe('/a?b=c&d')
})

test('values of named keys are kept', () => {
  expect(url('/a?page=2&token=x&pages=3&page=', { queryKeep: ['page'] })).toBe('/a?page=2&token=*&pages=*&page=')
})

test('path rules apply in order, to the path alone', () => {
  const paths = [
    { pattern: '/users/[^/]+', replace: '/users/{id}' },
    { pattern: '\\d{4,}', replace: '{n}' },
  ]
  expect(url('/users/jane/orders/123456?order=123456', { paths, query: 'none' })).toBe(
    '/users/{id}/orders/{n}?order=123456',
  )
  expect(createRedaction({ ...REDACTION_DEFAULTS, paths }).plainUrlsPass).toBe(false)
})

test('a path rule that makes much of little is cut where the room ends', () => {
  const paths = [{ pattern: 'a', replace: 'é'.repeat(3000) }]
  const text = url('/a', { paths })
  expect(Buffer.byteLength(text)).toBeLessThanOrEqual(2 * 2 + PATH_RULE_ROOM)
  expect(text).toMatch(/^\/é+$/)
})

test('a bad pattern is found at the start', () => {
  expect(() => createRedaction({ ...REDACTION_DEFAULTS, paths: [{ pattern: '(', replace: '' }] })).toThrow(SyntaxError)
})

test('headers are told by name, whatever their case', () => {
  const redaction = createRedaction()
  for (const name of ['authorization', 'Authorization', 'cookie', 'set-cookie', 'proxy-authorization', 'x-api-key']) {
    expect(redaction.header(name), name).toBe(HEADER_SECRET)
  }
  expect(redaction.header('referer')).toBe(HEADER_URL)
  expect(redaction.header('x-envoy-original-path')).toBe(HEADER_URL)
  expect(redaction.header('x-request-id')).toBe(HEADER_KEEP)
  expect(redaction.header('x-forwarded-for')).toBe(HEADER_KEEP)
  const own = createRedaction({ ...REDACTION_DEFAULTS, headers: ['X-Tenant'], maskAddresses: true })
  expect(own.header('x-tenant')).toBe(HEADER_SECRET)
  expect(own.header('authorization')).toBe(HEADER_KEEP)
  expect(own.header('x-forwarded-for')).toBe(HEADER_ADDRESS)
})

test.each([
  ['10.1.2.3', '10.1.2.0'],
  ['10.1.2.3:8080', '10.1.2.0:8080'],
  ['10.1.2.255, 192.0.2.77', '10.1.2.0, 192.0.2.0'],
  ['2001:db8:1:2::3', '2001:db8:1::'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1::'],
  ['2001:db8::1', '2001:db8::'],
  ['::1', '::'],
  ['1::', '1::'],
  ['fe80::1:2:3:4:5:6', 'fe80:0:1::'],
  ['[2001:db8:1:2::3]:443', '[2001:db8:1::]:443'],
  ['::ffff:10.1.2.3', '::ffff:10.1.2.0'],
  ['unknown', 'unknown'],
  ['_hidden', '_hidden'],
  ['a.b.c.d', 'a.b.c.d'],
  ['', ''],
])('addresses lose their host part: %s', (text, expected) => {
  expect(masked(text)).toBe(expected)
})
