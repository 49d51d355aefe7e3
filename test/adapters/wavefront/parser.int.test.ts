import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { centroidsOf } from '../../../src/adapters/wavefront/centroids.ts'
import { HOSTED_LIMITS, type Limits, PROXY_LIMITS } from '../../../src/adapters/wavefront/limits.ts'
import {
  type Distribution,
  distributionLine,
  GRANULARITIES,
  type Point,
  pointLine,
  type Span,
  spanLine,
  spanLogsLine,
} from '../../../src/adapters/wavefront/lines.ts'
import { DELTA, type Tags } from '../../../src/adapters/wavefront/text.ts'
import type { Refusal } from '../../../src/adapters/wavefront/validate.ts'
import { Histogram } from '../../../src/model/histogram.ts'
import { startWavefrontParser, type WavefrontParser } from '../../support/wavefront/parser.ts'

let parser: WavefrontParser
beforeAll(async () => {
  parser = await startWavefrontParser()
})
afterAll(() => parser.stop())

const SECONDS = 1_793_491_200
const POINT: Point = { name: 'istio.requests', value: 1, timestampMs: SECONDS * 1000, source: 'gw', tags: [] }
const BINS = { minute: 60_000, hour: 3_600_000, day: 86_400_000 }
const IDS = { traceId: '7b3bf470945611e89eb6529269fb1459', spanId: '0313bafe945711e8', parentSpanId: '' }
const REQUIRED: Tags = [
  ['application', 'shop'],
  ['service', 'cart'],
  ['cluster', 'none'],
  ['shard', 'none'],
]
const SPAN: Span = {
  name: 'GET /cart',
  source: 'gw',
  ...IDS,
  startUs: SECONDS * 1e6,
  durationUs: 17_250,
  tags: REQUIRED,
}

const text = (line: string | Refusal): string => {
  if (typeof line !== 'string') throw new Error(line.reason)
  return line
}

describe('points', () => {
  it.each([
    ['a whole number', POINT],
    ['fractions and exponents', { ...POINT, value: 1.25e-9 }],
    ['large ones', { ...POINT, value: 2 ** 80 }],
    ['negative ones', { ...POINT, value: -3.5 }],
    ['zero', { ...POINT, value: -0 }],
    ['a delta counter', { ...POINT, name: `${DELTA}istio.requests.count`, timestampMs: null }],
    ['an internal name', { ...POINT, name: '~component.heartbeat' }],
    ['quotes of both kinds', { ...POINT, tags: [['q', `"a" 'b' \\"c\\" "`]] }],
    ['backslashes that end nothing', { ...POINT, tags: [['path', 'C:\\dir\\file']] }],
    ['the separators of the protocol', { ...POINT, tags: [['s', '= # !M @Event {x} [y]']] }],
    ['any language', { ...POINT, source: 'Größe 東京 😀', tags: [['city', 'Ελλάδα \u2028 \u00a0x']] }],
    ['keys with every legal character', { ...POINT, tags: [['a,b-c.d/e_9', '1']] }],
    ['as many tags as may be', { ...POINT, tags: Array.from({ length: 20 }, (_, k) => [`k${k}`, `v${k}`] as const) }],
    ['a tag as long as may be', { ...POINT, tags: [['k'.repeat(64), '1'.repeat(190)]] }],
    ['a name as long as may be', { ...POINT, name: 'n'.repeat(256), source: 's'.repeat(128) }],
  ] satisfies [string, Point][])('arrive as they were sent: %s', async (_, point) => {
    const parsed = await parser.parse('metric', text(pointLine(point)))
    const { name, value, source, tags } = point
    expect(parsed).toMatchObject({ name, value: value + 0 === 0 ? 0 : value, source, tags })
    if (point.timestampMs !== null) expect(parsed.timestampMs).toBe(point.timestampMs)
  })
})

describe('distributions', () => {
  const histogram = new Histogram()
  for (let k = 1; k <= 5000; k++) histogram.record(Math.floor(1000 * 1.002 ** k))

  it.each(GRANULARITIES)('of a %s arrive with their centroids as they were', async (granularity) => {
    const [centroids] = centroidsOf(histogram)
    const distribution: Distribution = { ...POINT, granularity, timestampMs: SECONDS * 1000 + 59_000, ...centroids! }
    const parsed = await parser.parse('histogram', text(distributionLine(distribution)))
    expect(parsed).toMatchObject({ name: POINT.name, binMs: BINS[granularity], ...centroids! })
    expect(parsed.timestampMs).toBe(Math.floor(distribution.timestampMs / BINS[granularity]) * BINS[granularity])
    expect(centroids!.means).toHaveLength(64)
  })

  it('of one value, and of two', async () => {
    for (const values of [[7], [7, 7, 7], [0, 9]]) {
      const few = new Histogram()
      for (const value of values) few.record(value)
      const [centroids] = centroidsOf(few)
      const line = text(
        distributionLine({ ...POINT, timestampMs: SECONDS * 1000, granularity: 'minute', ...centroids! }),
      )
      expect(await parser.parse('histogram', line)).toMatchObject({ ...centroids! })
    }
  })
})

describe('spans', () => {
  it('arrive as they were sent, with parent and repeated tags', async () => {
    const span: Span = {
      ...SPAN,
      parentSpanId: '2f64e538945711e8',
      tags: [...REQUIRED, ['http.method', 'GET'], ['x', 'a "b" c'], ['x', '2']],
    }
    expect(await parser.parse('span', text(spanLine(span)))).toEqual({
      name: 'GET /cart',
      source: 'gw',
      traceId: '7b3bf470-9456-11e8-9eb6-529269fb1459',
      spanId: '00000000-0000-0000-0313-bafe945711e8',
      startMs: SECONDS * 1000,
      durationMs: 17,
      tags: [['parent', '00000000-0000-0000-2f64-e538945711e8'], ...span.tags],
    })
  })

  it('have logs', async () => {
    const line = text(spanLine(SPAN))
    const fields = { event: 'retry "x" \\', 'log.message': 'zwei\nZeilen 😀' }
    const logs = [{ timeUs: SECONDS * 1e6 + 5, fields: Object.entries(fields) }]
    expect(await parser.parse('spanLogs', spanLogsLine(SPAN, logs, line))).toEqual({
      traceId: '7b3bf470-9456-11e8-9eb6-529269fb1459',
      spanId: '00000000-0000-0000-0313-bafe945711e8',
      span: line.trimEnd(),
      logs: [{ timeUs: SECONDS * 1e6 + 5, fields }],
    })
  })
})

/** As somebody would write it who checks nothing. */
const naive = (text: string): string => `"${text.replaceAll('"', '\\"')}"`
const naiveTags = (tags: Tags): string => tags.map(([key, value]) => ` ${naive(key)}=${naive(value)}`).join('')
const many = (count: number): Tags => Array.from({ length: count }, (_, k) => [`k${k}`, 'v'] as const)

describe.each([
  ['hosted', HOSTED_LIMITS],
  ['proxy', PROXY_LIMITS],
] as const)('what the proxy refuses is refused before, with its reason: limits %s', (kind, limits: Limits) => {
  it.each([
    ['a space in the name', { name: 'a b' }],
    ['an empty name', { name: '' }],
    ['a delta sign inside', { name: `a${DELTA}` }],
    ['a name too long', { name: 'n'.repeat(limits.metricName + 1) }],
    ['no source', { source: '' }],
    ['a blank source', { source: ' \t\u2003' }],
    ['a source too long', { source: 's'.repeat(limits.source + 1) }],
    ['too many tags', { tags: many(limits.tags + 1) }],
    ['a bad key', { tags: [['a:b', 'x']] }],
    ['an empty key', { tags: [['', 'x']] }],
    ['a key too long', { tags: [['k'.repeat(limits.tagKey + 1), '']] }],
    ['key and value too long', { tags: [['k'.repeat(60), 'v'.repeat(195)]] }],
    ['an empty value', { tags: [['k', '']] }],
    ['a blank value', { tags: [['k', ' \u001c\u3000']] }],
    ['a value that takes the quote', { tags: [['k', 'C:\\']] }],
    ['a delta of zero', { name: `${DELTA}a`, value: 0 }],
    ['a negative delta', { name: '\u0394a', value: -1 }],
  ] satisfies [string, Partial<Point>][])('points: %s', async (_, part) => {
    const point: Point = { ...POINT, ...part }
    const line = `${naive(point.name)} ${point.value} ${SECONDS} source=${naive(point.source)}${naiveTags(point.tags)}`
    const theirs = await parser.parse('metric', line, kind)
    expect(theirs.error).toBeDefined()
    expect(refusedBy(pointLine(point, { limits }))).toBe(reasonOf(theirs.error!))
  })

  it('points: a name that takes the quote, with whatever reason the rest of the line gives', async () => {
    const theirs = await parser.parse('metric', `${naive('x\\')} 1 ${SECONDS} source="gw"`, kind)
    expect(theirs.type).toBe('ParseException')
    expect(refusedBy(pointLine({ ...POINT, name: 'x\\' }, { limits }))).toMatch(/^WF-300: /)
  })

  it.each([
    ['none', [], []],
    ['too many', Array(101).fill(1), Array.from({ length: 101 }, (_, k) => k)],
    ['a weight that is no whole number', [1.5], [1]],
    ['a weight too large', [2 ** 31], [1]],
    ['no weight at all', [0, 0], [1, 2]],
  ] as [string, number[], number[]][])('distributions, centroids: %s', async (_, counts, means) => {
    const theirs = await parser.parse(
      'histogram',
      `!M ${SECONDS}${counts.map((count, k) => ` #${count} ${means[k]}`).join('')} "a.b" source="gw"`,
      kind,
    )
    const ours = distributionLine(
      { ...POINT, timestampMs: SECONDS * 1000, granularity: 'minute', counts, means },
      { limits },
    )
    expect(theirs.error).toBeDefined()
    expect(refusedBy(ours)).toBe(reasonOf(theirs.error!))
  })

  it.each([
    ['a bad name', { name: 'a b' }],
    ['a name too long', { name: 'n'.repeat(limits.histogramName + 1) }],
    ['no source', { source: '' }],
    ['a blank value', { tags: [['k', ' ']] }],
  ] satisfies [string, Partial<Point>][])('distributions: %s', async (_, part) => {
    const { name, source, tags } = { ...POINT, ...part }
    const theirs = await parser.parse(
      'histogram',
      `!M ${SECONDS} #1 2 ${naive(name)} source=${naive(source)}${naiveTags(tags)}`,
      kind,
    )
    const series = { name, source, tags, timestampMs: SECONDS * 1000 }
    const ours = distributionLine({ ...series, granularity: 'minute', counts: [1], means: [2] }, { limits })
    expect(theirs.error).toBeDefined()
    expect(refusedBy(ours)).toBe(reasonOf(theirs.error!))
  })

  it.each([
    ['a star', { name: 'GET *' }],
    ['a name too long', { name: 'n'.repeat(129) }],
    ['no source', { source: '' }],
    ['a source too long', { source: 's'.repeat(limits.source + 1) }],
    ['too many tags', { tags: [...REQUIRED, ...many(limits.spanTags)] }],
    ['a key too long', { tags: [...REQUIRED, ['k'.repeat(129), 'v']] }],
    ['a bad key', { tags: [...REQUIRED, ['a b', 'v']] }],
    ['a blank value', { tags: [...REQUIRED, ['k', ' ']] }],
  ] satisfies [string, Partial<Span>][])('spans: %s', async (_, part) => {
    const span: Span = { ...SPAN, ...part }
    const ids = 'traceId=7b3bf470-9456-11e8-9eb6-529269fb1459 spanId=00000000-0000-0000-0313-bafe945711e8'
    const line = `${naive(span.name)} source=${naive(span.source)} ${ids}${naiveTags(span.tags)} ${SPAN.startUs} 1`
    const theirs = await parser.parse('span', line, kind)
    expect(theirs.error).toBeDefined()
    expect(refusedBy(spanLine(span, { limits }))).toBe(reasonOf(theirs.error!))
  })
})

function refusedBy(line: string | Refusal): string {
  if (typeof line === 'string') throw new Error(`not refused: ${line}`)
  return line.reason
}

/** What does not parse has no code of its own there: the proxy logs it as WF-300. */
function reasonOf(error: string): string {
  return error.startsWith('WF-') ? error : `WF-300: ${error}`
}
