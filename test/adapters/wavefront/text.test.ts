import { describe, expect, it } from 'vitest'
import { centroidsOf } from '../../../src/adapters/wavefront/centroids.ts'
import { HOSTED_LIMITS, PROXY_LIMITS, STRICT_LIMITS } from '../../../src/adapters/wavefront/limits.ts'
import { pointLine, spanLine } from '../../../src/adapters/wavefront/lines.ts'
import {
  DELTA,
  isBlank,
  isLegalName,
  sanitiseKey,
  sanitiseName,
  sanitiseSpanKey,
  sanitiseSpanName,
  sanitiseTags,
  sanitiseValue,
} from '../../../src/adapters/wavefront/text.ts'
import { seededRandom } from '../../../src/lib/random.ts'
import { Histogram } from '../../../src/model/histogram.ts'

describe('texts are made fit', () => {
  it.each([
    ['requests', 'requests'],
    ['a b:c', 'a-b-c'],
    ['GET /cart,x', 'GET-/cart,x'],
    [`${DELTA}count`, '-count'],
    ['~internal', '-internal'],
    ['größe', 'gr--e'],
    ['', '-'],
    ['n'.repeat(300), 'n'.repeat(256)],
  ])('as names: %j', (text, name) => {
    expect(sanitiseName(text)).toBe(name)
    expect(isLegalName(name)).toBe(true)
  })

  it.each([
    ['plain', 'plain'],
    ['  trimmed\u00a0', 'trimmed'],
    ['C:\\dir\\', 'C:\\dir-'],
    ['\\\\', '\\-'],
    ['a\nb\r\tc', 'a\\nb\\r\\tc'],
    ['\u0000\u0004\u007f\u0085', '----'],
    ['half \ud83d', 'half \ufffd'],
    ['"quoted" \'too\'', '"quoted" \'too\''],
    ['123456789', '12345678'],
    ['1234567😀', '1234567'],
    ['1234567 9', '1234567'],
    ['1234567\\9', '1234567-'],
  ])('as values of at most 8 units where that is said: %j', (text, value) => {
    expect(sanitiseValue(text, text.startsWith('1234567') ? 8 : 255)).toBe(value)
  })

  it('as keys, never one that a proxy takes for something else', () => {
    expect(['source', 'host', 'tag', 'a b', 'Source'].map((key) => sanitiseKey(key))).toEqual([
      '_source',
      '_host',
      '_tag',
      'a-b',
      'Source',
    ])
    expect(['123', 'spanId', 'traceId', 'parent', '_spanLogs', '1a'].map((key) => sanitiseSpanKey(key))).toEqual([
      '_123',
      '_spanId',
      '_traceId',
      '_parent',
      '__spanLogs',
      '1a',
    ])
    expect(sanitiseSpanName('GET *')).toBe('GET -')
  })

  it('as tags: blank ones are left out, of the same key the last counts, key and value fit together', () => {
    expect(
      sanitiseTags([
        ['a', ' '],
        ['b c', '1'],
        ['b:c', '2'],
        ['k'.repeat(64), 'v'.repeat(300)],
      ]),
    ).toEqual([
      ['b-c', '2'],
      ['k'.repeat(64), 'v'.repeat(190)],
    ])
    const many = Array.from({ length: 30 }, (_, k) => [`k${k}`, 'v'] as const)
    expect(sanitiseTags(many)).toEqual(many.slice(0, 20))
  })
})

it('is blank what Java finds blank, and nothing else', () => {
  for (const blank of ['', ' ', '\t\n\u000b\f\r', '\u001c\u001d\u001e\u001f', '\u2028\u3000\u1680']) {
    expect(isBlank(blank)).toBe(true)
  }
  for (const text of ['a', '\u00a0', '\u2007', '\u202f', '\ufeff', '\u0085', '\u200b'])
    expect(isBlank(text)).toBe(false)
})

it('limits are those that both the service and a proxy keep', () => {
  for (const name of Object.keys(STRICT_LIMITS) as (keyof typeof STRICT_LIMITS)[]) {
    expect(STRICT_LIMITS[name]).toBe(Math.min(HOSTED_LIMITS[name], PROXY_LIMITS[name]))
  }
})

describe('refused before a proxy would have to', () => {
  const point = { name: 'a', value: 1, source: 'gw', tags: [] }
  const NOW = Date.UTC(2026, 0, 1)
  const year = 8760 * 3_600_000

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('a value of %d', (value) => {
    expect(pointLine({ ...point, value, timestampMs: null })).toMatchObject({ code: 'WF-403' })
  })

  it('times older than a year or more than a day ahead', () => {
    const at = (timestampMs: number) => pointLine({ ...point, timestampMs }, { nowMs: NOW })
    expect(at(NOW - year)).toEqual(expect.any(String))
    expect(at(NOW - year - 1)).toEqual({ code: 'WF-402', reason: 'WF-402: Point outside of reasonable timeframe (a)' })
    expect(at(NOW + 86_400_000)).toEqual(expect.any(String))
    expect(at(NOW + 86_400_001)).toMatchObject({ code: 'WF-402' })
  })

  it('spans that no service can show', () => {
    const tags = ['application', 'service', 'cluster', 'shard'].map((key) => [key, 'x'] as const)
    const ids = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), parentSpanId: '' }
    const span = { name: 'GET', source: 'gw', ...ids, startUs: NOW * 1000, durationUs: 5, tags }
    expect(spanLine(span)).toEqual(expect.any(String))
    expect(spanLine({ ...span, traceId: 'abc' })).toMatchObject({ code: 'WF-300' })
    expect(spanLine({ ...span, spanId: '0'.repeat(16) })).toMatchObject({ code: 'WF-300' })
    expect(spanLine({ ...span, parentSpanId: 'B'.repeat(16) })).toMatchObject({ code: 'WF-300' })
    expect(spanLine({ ...span, tags: tags.slice(1) })).toMatchObject({ code: 'WF-300' })
    expect(spanLine({ ...span, tags: [...tags, ['service', 'y']] })).toMatchObject({ code: 'WF-300' })
    expect(spanLine({ ...span, startUs: NOW })).toMatchObject({ code: 'WF-402' })
    expect(spanLine({ ...span, durationUs: -1 })).toMatchObject({ code: 'WF-300' })
    expect(spanLine({ ...span, tags: [...tags, ['x', 'v'.repeat(129)]] })).toMatchObject({ code: 'WF-433' })
  })
})

describe('centroids', () => {
  const SHAPES: Readonly<Record<string, (random: () => number) => number>> = {
    uniform: (random) => Math.floor(random() * 1e9),
    'log-normal': (random) => Math.floor(Math.exp(10 + 8 * (random() + random() + random() - 1.5))),
    'two humps': (random) => (random() < 0.97 ? 1e6 + Math.floor(random() * 1e5) : 1e9 + Math.floor(random() * 1e8)),
    'small numbers': (random) => Math.floor(random() * 40),
    'one value': () => 123_456,
  }

  it.each(Object.keys(SHAPES))('of %s keep count, extremes and mean, and quantiles within a few per cent', (shape) => {
    const random = seededRandom(3)
    const histogram = new Histogram()
    const values = Array.from({ length: 50_000 }, () => SHAPES[shape]!(random))
    for (const value of values) histogram.record(value)
    values.sort((a, b) => a - b)
    const [{ means, counts }] = centroidsOf(histogram) as [ReturnType<typeof centroidsOf>[number]]
    expect(means.length).toBeLessThanOrEqual(64)
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(values.length)
    expect(counts.every((count) => Number.isInteger(count) && count >= 1)).toBe(true)
    expect(means.every((mean, k) => k === 0 || mean > means[k - 1]!)).toBe(true)
    expect([means[0], means.at(-1)]).toEqual([values[0], values.at(-1)])
    const sum = means.reduce((total, mean, k) => total + mean * counts[k]!, 0)
    expect(sum / values.reduce((total, value) => total + value, 0)).toBeCloseTo(1, 6)
    // What a rank's centroid says, against the values around the rank that the centroid stands for.
    let seen = 0
    means.forEach((mean, k) => {
      const [low, high] = [values[seen]!, values[seen + counts[k]! - 1]!]
      seen += counts[k]!
      expect(mean).toBeGreaterThanOrEqual(low * 0.98 - 1)
      expect(mean).toBeLessThanOrEqual(high * 1.02 + 1)
    })
  })

  it('of more observations than a weight can hold are several distributions', () => {
    const histogram = new Histogram()
    histogram.record(5, 2 ** 32 + 1)
    const parts = centroidsOf(histogram)
    expect(parts.map(({ counts }) => counts)).toEqual([[1431655765], [1431655766], [1431655766]])
    expect(centroidsOf(new Histogram())).toEqual([])
  })
})
