import { describe, expect, test } from 'vitest'
import { parseSans, sanAllowed } from '../../src/lib/tls-san.ts'

describe('names of a certificate', () => {
  test.each([
    ['', []],
    ['DNS:a.example, DNS:b.example', ['DNS=a.example', 'DNS=b.example']],
    ['URI:spiffe://mesh/ns/shop, IP Address:10.0.0.1', ['URI=spiffe://mesh/ns/shop', 'IP Address=10.0.0.1']],
    ['DNS:"a, DNS:b.example", DNS:c', ['DNS=a, DNS:b.example', 'DNS=c']],
    ['DNS:"a\\"b"', ['DNS=a"b']],
    ['email:a@b.example', ['email=a@b.example']],
    ['DNS:"open', []],
  ])('%j are read', (text, names) => {
    expect(parseSans(text).map(({ type, value }) => `${type}=${value}`)).toEqual(names)
  })

  test.each([
    ['URI:spiffe://mesh/ns/shop', 'spiffe://mesh/ns/shop', true],
    ['URI:spiffe://mesh/ns/shop', 'spiffe://mesh/*', true],
    ['URI:spiffe://mesh/ns/shop', 'spiffe://mesh/ns', false],
    ['URI:spiffe://other/ns/shop', 'spiffe://mesh/*', false],
    // A host name that looks like a URI is no URI.
    ['DNS:"spiffe://mesh/ns/shop"', 'spiffe://mesh/*', false],
    ['DNS:A.Example', 'a.example', true],
    ['DNS:x.a.example', '*.a.example', true],
    ['DNS:y.x.a.example', '*.a.example', false],
    ['DNS:a.example', '*.a.example', false],
    ['URI:a.example', 'a.example', false],
    ['IP Address:0:0:0:0:0:0:0:1', '::1', true],
    ['IP Address:10.0.0.1', '10.0.0.1', true],
    ['IP Address:10.0.0.1', '10.0.0.2', false],
    ['DNS:10.0.0.1', '10.0.0.1', false],
    ['email:a@b.example', 'A@b.example', true],
    ['DNS:a, DNS:b', 'b', true],
    ['', 'a', false],
  ])('%s and the list %s: %s', (text, entry, allowed) => {
    expect(sanAllowed(parseSans(text), [entry])).toBe(allowed)
  })
})
