import { describe, expect, test } from 'vitest'
import { createTokens, HASH_PATTERN, hashToken, makeToken } from '../../src/lib/tokens.ts'

const READ = makeToken()
const SEND = makeToken()
const tokens = () =>
  createTokens([
    { name: 'grafana', hash: hashToken(READ), scopes: ['read'] },
    { name: 'mesh', hash: hashToken(SEND), scopes: ['ingest'] },
  ])
const basic = (pair: string) => `Basic ${Buffer.from(pair).toString('base64')}`

describe('tokens', () => {
  test('are 256 random bits, and their hash is what the configuration takes', () => {
    expect(makeToken()).toMatch(/^sidecast_[\w-]{43}$/)
    expect(makeToken()).not.toBe(makeToken())
    expect(hashToken(READ)).toMatch(new RegExp(HASH_PATTERN))
    expect(hashToken('abc')).toBe('sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
  })

  test.each([
    [`Bearer ${READ}`, 'read', 'ok'],
    [`bearer  ${READ}`, 'read', 'ok'],
    [basic(`anyone:${READ}`), 'read', 'ok'],
    [basic(`:${SEND}`), 'ingest', 'ok'],
    [`Bearer ${READ}`, 'ingest', 'scope'],
    [`Bearer ${SEND}`, 'admin', 'scope'],
    [`Bearer ${READ}x`, 'read', 'unknown'],
    ['Bearer', 'read', 'unknown'],
    ['', 'read', 'unknown'],
    [READ, 'read', 'unknown'],
    [basic(READ), 'read', 'unknown'],
    [`Bearer ${hashToken(READ)}`, 'read', 'unknown'],
    [`Bearer ${'a'.repeat(100_000)}`, 'read', 'unknown'],
    [undefined, 'read', 'missing'],
  ] as const)('%.40s for %s: %s', (authorization, scope, verdict) => {
    const book = tokens()
    expect(book.check(authorization, scope)).toBe(verdict)
    expect(book.counters[verdict]).toBe(1)
  })

  test('are not asked for where none is configured, and are from when one is', () => {
    const book = createTokens([])
    expect([book.required, book.check(undefined, 'admin')]).toEqual([false, 'ok'])
    let told = 0
    book.onReplaced(() => told++)
    book.replace([{ name: 'only', hash: hashToken(READ), scopes: ['read', 'admin'] }])
    expect([book.required, told, book.check(undefined, 'read'), book.check(`Bearer ${READ}`, 'admin')]).toEqual([
      true,
      1,
      'missing',
      'ok',
    ])
  })
})
