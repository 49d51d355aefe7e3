import { expect, it } from 'vitest'
import { nearest } from '../../src/lib/nearest.ts'
import { formatAddress, hostOf, isLoopback, parseAddress, parseBytes, parseDuration } from '../../src/lib/units.ts'

it.each([
  ['30s', 30_000],
  ['1h30m', 5_400_000],
  ['7d', 604_800_000],
  ['3y', 94_608_000_000],
  ['250ms', 250],
  ['1.5h', 5_400_000],
  ['', null],
  ['5', null],
  ['-1s', null],
  ['1s ', null],
  ['1 s', null],
])('reads the duration %j', (text, ms) => expect(parseDuration(text)).toBe(ms))

it.each([
  ['512', 512],
  ['64 MiB', 67_108_864],
  ['10GB', 1e10],
  ['1.5 KiB', 1536],
  ['1kb', null],
  ['-1', null],
  ['', null],
])('reads the size %j', (text, bytes) => expect(parseBytes(text)).toBe(bytes))

it.each([
  ['127.0.0.1:0', { host: '127.0.0.1', port: 0 }],
  ['[::1]:8080', { host: '::1', port: 8080 }],
  ['localhost:65535', { host: 'localhost', port: 65_535 }],
  ['::1:8080', null],
  ['host:65536', null],
  ['host', null],
  [':80', null],
])('reads the address %j', (text, address) => expect(parseAddress(text)).toEqual(address))

it.each(['127.0.0.1:0', '[::1]:8080', 'localhost:65535'])('writes and takes apart the address %j', (text) => {
  const { host, port } = parseAddress(text)!
  expect(formatAddress(host, port)).toBe(text)
  expect(hostOf(text)).toBe(host)
})

it('knows loopback', () => {
  expect(['127.0.0.1', '127.8.9.1', '::1', 'localhost'].map(isLoopback)).toEqual([true, true, true, true])
  expect(['0.0.0.0', '::', '10.0.0.1', 'example.org', '127.0.0.1.evil.org'].map(isLoopback)).not.toContain(true)
})

it('finds what was probably meant, and nothing when nothing is near', () => {
  expect(nearest('grcp', ['http', 'grpc', 'kafka'])).toBe('grpc')
  expect(nearest('Listen', ['listen'])).toBe('listen')
  expect(nearest('zebra', ['http', 'grpc'])).toBeUndefined()
})
