import { expect, test } from 'vitest'
import { TimeOfAnyForm } from '../../../../src/ingest/lines/format/any-time.ts'
import { DEFAULT_TIME, TimeReader } from '../../../../src/ingest/lines/format/time.ts'

/** Unix seconds of 2026-01-02T03:04:05Z. */
const AT = 1_767_323_045
const MS = 1_000_000

/** Format, what it prints, seconds and nanoseconds. */
const TIMES: readonly (readonly [string, string, number, number])[] = [
  [DEFAULT_TIME, '2026-01-02T03:04:05.678Z', AT, 678 * MS],
  ['%Y-%m-%dT%H:%M:%S.%3fZ', '2026-01-02T03:04:05.678Z', AT, 678 * MS],
  ['%Y-%m-%dT%H:%M:%S.%6fZ', '2026-01-02T03:04:05.678901Z', AT, 678_901_000],
  ['%Y-%m-%dT%H:%M:%S.%fZ', '2026-01-02T03:04:05.678901234Z', AT, 678_901_234],
  ['%Y-%m-%dT%H:%M:%S.%1f', '2026-01-02T03:04:05.6', AT, 600 * MS],
  ['%s', '1767323045', AT, 0],
  ['%s.%3f', '1767323045.678', AT, 678 * MS],
  ['%s.%9f', '1767323045.000000001', AT, 1],
  ['%s%3f', '1767323045678', AT, 678 * MS],
  ['%Y/%m/%dT%H:%M:%S%z', '2026/01/02T04:04:05+0100', AT, 0],
  ['%Y/%m/%dT%H:%M:%S%z %s', '2026/01/02T04:04:05+0100 1767323045', AT, 0],
  ['%Y-%m-%d %H:%M:%S %z', '2026-01-01 22:34:05 -0430', AT, 0],
  ['%FT%T%Ez', '2026-01-02T04:04:05+01:00', AT, 0],
  ['%Y-%m-%d%ET%H:%M:%E3S%E*z', '2026-01-02T03:04:05.678+00:00:00', AT, 678 * MS],
  ['%Y-%m-%dT%H:%M:%E*SZ', '2026-01-02T03:04:05Z', AT, 0],
  ['%Y-%m-%dT%H:%M:%E*SZ', '2026-01-02T03:04:05.67Z', AT, 670 * MS],
  ['%E4Y-%m-%d %H:%M:%E6S', '2026-01-02 03:04:05.678901', AT, 678_901_000],
  ['%d/%b/%Y:%H:%M:%S %z', '02/Jan/2026:03:04:05 +0000', AT, 0],
  ['%A, %d %B %Y %I:%M:%S %p', 'Friday, 02 January 2026 03:04:05 AM', AT, 0],
  ['%I:%M:%S %p %d.%m.%y', '03:04:05 PM 02.01.26', AT + 12 * 3600, 0],
  ['%I:%M:%S %p %d.%m.%y', '12:04:05 AM 02.01.26', AT - 3 * 3600, 0],
  ['%I:%M:%S %p %d.%m.%y', '12:04:05 PM 02.01.26', AT + 9 * 3600, 0],
  ['%a %b %e %H:%M:%S %Y', 'Fri Jan  2 03:04:05 2026', AT, 0],
  ['%c', 'Fri Jan  2 03:04:05 2026', AT, 0],
  ['%D %R', '01/02/26 03:04', AT - 5, 0],
  ['%x %X', '01/02/26 03:04:05', AT, 0],
  ['%D %r', '01/02/26 03:04:05 AM', AT, 0],
  ['%Y %j %T', '2026 002 03:04:05', AT, 0],
  ['%y%m%d %k:%M:%S', '260102  3:04:05', AT, 0],
  ['%Y-%m-%dT%H:%M:%SZ week %V day %u of %G', '2026-01-02T03:04:05Z week 01 day 5 of 2026', AT, 0],
  ['%Y-%m-%d %H:%M:%S %Z', '2026-01-02 03:04:05 UTC', AT, 0],
  ['100%% %t%s', '100% \t1767323045', AT, 0],
  ['%H:%M', '03:04', 0, 0],
]

test.each(TIMES)('%s reads %s', (format, printed, seconds, nanos) => {
  const reader = new TimeReader(format)
  expect(reader.read(`[${printed}]`, 1)).toBe(1 + printed.length)
  expect(reader).toMatchObject({ seconds, nanos })
})

test.each([
  [DEFAULT_TIME, '2026-01-02T03:04:05.678'],
  [DEFAULT_TIME, '2026-01-02T03:04:05Z'],
  [DEFAULT_TIME, '2026-13-02T03:04:05.678Z'],
  [DEFAULT_TIME, '2026-01-32T03:04:05.678Z'],
  [DEFAULT_TIME, '2026-01-02T25:04:05.678Z'],
  [DEFAULT_TIME, '2026-01-02T03:60:05.678Z'],
  [DEFAULT_TIME, '2026-01-02T03:04:05.67xZ'],
  [DEFAULT_TIME, '2026-01-02T03:04:05.x78Z'],
  [DEFAULT_TIME, '20x6-01-02T03:04:05.678Z'],
  ['%s.%3f', '1767323045.67'],
  ['%d/%b/%Y', '02/Foo/2026'],
  ['%z', '01:00'],
  ['%p', 'XM'],
])('%s does not read %s', (format, printed) => {
  expect(new TimeReader(format).read(printed, 0)).toBe(-1)
})

test('every day of four centuries is the day that the platform says', () => {
  const reader = new TimeReader(DEFAULT_TIME)
  for (let day = -25_567; day < 120_000; day += 17) {
    const text = new Date(day * 86_400_000 + 123).toISOString()
    expect(reader.read(text, 0)).toBe(text.length)
    expect(reader.seconds, text).toBe(day * 86_400)
  }
})

test('a local time without a zone is that of this machine', () => {
  const reader = new TimeReader('%Y-%m-%d %H:%M:%S', { local: true })
  for (const month of [0, 6]) {
    const local = new Date(2026, month, 2, 3, 4, 5)
    const text = `2026-0${month + 1}-02 03:04:05`
    expect(reader.read(text, 0)).toBe(text.length)
    expect(reader.seconds).toBe(local.getTime() / 1000)
  }
})

test.each([
  ['2026-01-02T03:04:05Z', AT, 0],
  ['2026-01-02 03:04:05.678901 UTC', AT, 678_901_000],
  ['2026-01-02T04:04:05.5+01:00', AT, 500 * MS],
  ['2026-01-02T03:04:05', AT, 0],
  ['1767323045', AT, 0],
  ['1767323045.5', AT, 500 * MS],
  ['1767323045678', AT, 678 * MS],
  ['1767323045678901', AT, 678_901_000],
  ['1767323045678901234', AT, 678_901_234],
])('a time of any form: %s', (text, seconds, nanos) => {
  const time = new TimeOfAnyForm()
  expect(time.read(text)).toBe(true)
  expect(time).toMatchObject({ seconds, nanos })
})

test.each(['', 'today', '2026-01-02', '2026-01-02T03:04:05 and', '-5', '0'])('no time: %s', (text) => {
  expect(new TimeOfAnyForm().read(text)).toBe(false)
})
