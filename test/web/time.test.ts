import { expect, test } from 'vitest'
import { clock, moveWindow, parseTime, stepFor, windowText, zoneName, zoomWindow } from '../../src/web/page/time.ts'

const NOW = Date.parse('2026-03-04T14:05:10.250Z')

test.each([
  ['now', NOW],
  ['-15m', NOW - 900_000],
  ['-1h30m', NOW - 5_400_000],
  ['-7d', NOW - 604_800_000],
  ['2026-03-04T14:00:00Z', NOW - 310_250],
  ['1772632800', 1_772_632_800_000],
  ['1772632800123', 1_772_632_800_123],
  ['yesterday', null],
  ['-15', null],
  ['', null],
])('parseTime(%j)', (text, ms) => {
  expect(parseTime(text, NOW)).toBe(ms)
})

test('a step never makes more points than asked for', () => {
  for (const range of [1_000, 60_000, 900_000, 3_600_000, 86_400_000, 30 * 86_400_000]) {
    expect(range / stepFor(range, 200).ms).toBeLessThanOrEqual(200)
  }
  expect(stepFor(900_000, 200)).toEqual({ text: '5s', ms: 5_000 })
})

test('times are printed in UTC, with date and milliseconds on demand', () => {
  expect(clock(NOW, 'utc')).toBe('14:05:10')
  expect(clock(NOW, 'utc', { millis: true, date: true })).toBe('2026-03-04 14:05:10.250')
  expect(zoneName('utc', NOW)).toBe('UTC')
  expect(zoneName('local', NOW)).toMatch(/^UTC[+−]\d\d:\d\d$/)
})

test('a window says what it is', () => {
  expect(windowText('-15m', 'now', NOW, 'utc')).toBe('Last 15 min')
  expect(windowText('-1h', 'now', NOW, 'utc')).toBe('Last 1 h')
  expect(windowText('2026-03-04T13:00:00Z', '2026-03-04T14:00:00Z', NOW, 'utc')).toBe('2026-03-04 13:00:00 – 14:00:00')
})

test('windows move by their own length and zoom about their middle', () => {
  expect(moveWindow(NOW - 60_000, NOW, -1)).toEqual({
    from: '2026-03-04T14:03:10.250Z',
    to: '2026-03-04T14:04:10.250Z',
  })
  expect(zoomWindow(NOW - 60_000, NOW, 2)).toEqual({ from: '2026-03-04T14:03:40.250Z', to: '2026-03-04T14:05:40.250Z' })
})
