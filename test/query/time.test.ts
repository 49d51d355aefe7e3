import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Problem } from '../../src/query/problem.ts'
import {
  formatDuration,
  formatTime,
  HOUR,
  MINUTE,
  MS,
  parseInterval,
  parseOtherInterval,
  readDuration,
  readTime,
  SECOND,
  TIME_MAX,
} from '../../src/query/time.ts'

const NOW = BigInt(Date.parse('2026-01-10T12:00:00Z')) * MS
const at = (iso: string) => BigInt(Date.parse(iso)) * MS

describe('times', () => {
  const cases: [string, bigint | null][] = [
    ['now', NOW],
    ['now-15m', NOW - 15n * MINUTE],
    ['-15m', NOW - 15n * MINUTE],
    ['-1h30m', NOW - 90n * MINUTE],
    ['+5m', NOW + 5n * MINUTE],
    ['now + 5m', NOW + 5n * MINUTE],
    ['2026-01-10T11:00:00Z', NOW - HOUR],
    ['2026-01-10t11:00:00z', NOW - HOUR],
    ['2026-01-10 11:00:00', NOW - HOUR],
    ['2026-01-10T11:00Z', NOW - HOUR],
    ['2026-01-10', at('2026-01-10T00:00:00Z')],
    ['2026-01-10T13:00:00+02:00', NOW - HOUR],
    ['2026-01-10T13:00:00 02:00', NOW - HOUR],
    ['2026-01-10T08:30:00-0230', NOW - HOUR],
    ['2026-01-10T11:00:00.123456789Z', NOW - HOUR + 123_456_789n],
    ['2026-01-10T11:00:00.1Z', NOW - HOUR + 100_000_000n],
    ['2026-01-10T11:00:00.1234567899Z', NOW - HOUR + 123_456_789n],
    ['2024-02-29', at('2024-02-29T00:00:00Z')],
    ['2026-12-31T23:59:60Z', at('2027-01-01T00:00:00Z')],
    ['1768042800', 1_768_042_800n * SECOND],
    ['1768042800.5', 1_768_042_800n * SECOND + 500_000_000n],
    ['1768042800.123456789', 1_768_042_800n * SECOND + 123_456_789n],
    ['1768042800000', 1_768_042_800n * SECOND],
    ['1768042800123', 1_768_042_800n * SECOND + 123n * MS],
    ['0', 0n],
    ...[
      '',
      '-',
      '+',
      'nowish',
      'now15m',
      '2026-02-30',
      '2025-02-29',
      '2026-13-01',
      '2026-01-10T24:00:00Z',
      '2026-01-10T11:60:00Z',
      '2026-01-10T11:00:00+25:00',
      '1969-12-31T23:59:59Z',
      '2262-04-12T00:00:00Z',
      '9999999999999999',
      '1e9',
      '-5',
      'yesterday',
      '-15',
      '10:00',
      "2026-01-10'",
      'x'.repeat(100),
      `-${'9'.repeat(60)}w`,
    ].map((text): [string, null] => [text, null]),
  ]
  for (const [text, expected] of cases) {
    it(`reads ${JSON.stringify(text.slice(0, 40))} as ${expected === null ? 'no time' : formatTime(expected)}`, () => {
      expect(readTime(text, NOW)).toBe(expected)
    })
  }

  it('reads back what it writes, to the nanosecond', () => {
    fc.assert(fc.property(fc.bigInt({ min: 0n, max: TIME_MAX }), (time) => readTime(formatTime(time), NOW) === time))
  })

  it('never throws', () => {
    fc.assert(fc.property(fc.string(), (text) => [readTime(text, NOW), readDuration(text)].length === 2))
  })
})

describe('durations', () => {
  const cases: [string, bigint | null][] = [
    ['30s', 30n * SECOND],
    ['5m', 5n * MINUTE],
    ['1h30m', 90n * MINUTE],
    ['7d', 168n * HOUR],
    ['2w', 336n * HOUR],
    ['250ms', 250n * MS],
    ['1.5s', 1500n * MS],
    ['10us', 10_000n],
    ['10µs', 10_000n],
    ['7ns', 7n],
    ['0.5ns', 0n],
    ['0s', 0n],
    ['5', null],
    ['', null],
    ['m', null],
    ['-5m', null],
    ['5 m', null],
    ['5M', null],
    ['300000d', null],
  ]
  for (const [text, expected] of cases) {
    it(`reads ${JSON.stringify(text)} as ${expected} ns`, () => expect(readDuration(text)).toBe(expected))
  }

  it('reads back what it writes', () => {
    fc.assert(fc.property(fc.bigInt({ min: 0n, max: TIME_MAX }), (time) => readDuration(formatDuration(time)) === time))
  })
})

describe('intervals', () => {
  const cases: [Record<string, string>, [bigint, bigint] | string][] = [
    [{}, [NOW - HOUR, NOW]],
    [{ from: '-15m' }, [NOW - 15n * MINUTE, NOW]],
    [{ to: '-1h' }, [NOW - 2n * HOUR, NOW - HOUR]],
    [{ from: '2026-01-01', to: '2026-01-02' }, [at('2026-01-01T00:00:00Z'), at('2026-01-02T00:00:00Z')]],
    [{ around: 'now', width: '20m' }, [NOW - 10n * MINUTE, NOW + 10n * MINUTE]],
    [{ around: 'now' }, [NOW - 5n * MINUTE, NOW + 5n * MINUTE]],
    [{ to: '60' }, [0n, 60n * SECOND]],
    [{ from: 'now', to: 'now' }, 'bad_range from'],
    [{ from: '-1h', to: '-2h' }, 'bad_range from'],
    [{ from: '+1h' }, 'bad_range from'],
    [{ width: '5m' }, 'bad_range width'],
    [{ around: 'now', from: '-1h' }, 'bad_range from'],
    [{ around: 'now', to: '-1h' }, 'bad_range to'],
    [{ around: 'soon' }, 'bad_time around'],
    [{ around: 'now', width: '0s' }, 'bad_time width'],
    [{ from: 'soon' }, 'bad_time from'],
    [{ to: 'soon' }, 'bad_time to'],
  ]
  for (const [query, expected] of cases) {
    it(`reads ${JSON.stringify(query)}`, () => {
      if (typeof expected === 'string') expect(problemOf(() => parseInterval(query, NOW))).toBe(expected)
      else expect(Object.values(parseInterval(query, NOW))).toEqual(expected)
    })
  }

  it('reads a second interval as a shift or in full', () => {
    const base = { from: NOW - HOUR, to: NOW }
    expect(parseOtherInterval('-7d', 'vs', base, NOW)).toEqual({ from: NOW - 169n * HOUR, to: NOW - 168n * HOUR })
    expect(parseOtherInterval('-2h/-1h', 'vs', base, NOW)).toEqual({ from: NOW - 2n * HOUR, to: NOW - HOUR })
    for (const text of ['7d', '', '-', '/', '-1h/', '-1h/-2h', '-300w/x', '-100000d']) {
      expect(
        problemOf(() => parseOtherInterval(text, 'vs', base, NOW)),
        text,
      ).toMatch(/^bad_(time|range) vs$/)
    }
  })
})

function problemOf(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    if (error instanceof Problem) return `${error.code} ${error.body().parameter}`
    throw error
  }
  return 'none'
}
