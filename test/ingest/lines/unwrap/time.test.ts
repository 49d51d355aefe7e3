import { expect, it, test } from 'vitest'
import { instantOfEpoch, parseInstant } from '../../../../src/ingest/lines/unwrap/time.ts'

const SECONDS = Date.UTC(2026, 0, 1) / 1000

it.each<[string, number, number]>([
  ['2026-01-01T00:00:00Z', SECONDS, 0],
  ['2026-01-01T00:00:00.250Z', SECONDS, 250_000_000],
  ['2026-01-01T00:00:00.123456789Z', SECONDS, 123_456_789],
  ['2026-01-01T00:00:00.1234567891Z', SECONDS, 123_456_789],
  ['2026-01-01t00:00:00z', SECONDS, 0],
  ['2026-01-01T01:30:00+01:30', SECONDS, 0],
  ['2025-12-31T19:00:00.5-0500', SECONDS, 500_000_000],
  ['2026-01-01 00:00:00.25 +0000 UTC', SECONDS, 250_000_000],
  ['2026-01-01T00:00:00', SECONDS, 0],
  ['2026-01-01T00:00:00,250', SECONDS, 250_000_000],
  ['2025-12-31T23:59:60Z', SECONDS, 0],
])('%s', (text, seconds, nanos) => {
  expect(parseInstant(text)).toEqual({ seconds, nanos })
})

it.each([
  '2026-02-29T00:00:00Z',
  '2026-13-01T00:00:00Z',
  '2026-00-01T00:00:00Z',
  '2026-01-00T00:00:00Z',
  '2026-01-01T24:00:00Z',
  '2026-01-01T00:60:00Z',
  '2026-01-01T00:00:61Z',
  '2026-01-01T00:00:00.Z',
  '2026-01-01T00:00:00.25xZ',
  '2026-01-01T0:00:00Z',
  '2026-01-01',
  '',
])('%s is no time', (text) => {
  expect(parseInstant(text)).toBeNull()
})

test('every day from 1970 to 2199 is where it is for the runtime', () => {
  for (let ms = 0; ms < Date.UTC(2200, 0); ms += 86_400_000) {
    const text = new Date(ms).toISOString()
    if (parseInstant(text)?.seconds !== ms / 1000) expect.unreachable(text)
  }
})

it.each([
  [1_767_225_600, SECONDS, 0],
  [1_767_225_600.25, SECONDS, 250_000_000],
  [1_767_225_600_250, SECONDS, 250_000_000],
  [1_767_225_600_250_000, SECONDS, 250_000_000],
  // Nanoseconds: a number of JSON has them to 256.
  [1_767_225_600_250_000_000, SECONDS, 249_999_872],
])('an epoch of %d', (value, seconds, nanos) => {
  expect(instantOfEpoch(value)).toEqual({ seconds, nanos })
})

it.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])('%d is no epoch', (value) => {
  expect(instantOfEpoch(value)).toBeNull()
})
