import fc from 'fast-check'
import { expect, test } from 'vitest'
import { encodeV1, encodeV2 } from '../../../src/adapters/remote-write/encode.ts'
import { boundText, type OutHistogram, type OutSeries } from '../../../src/adapters/remote-write/series.ts'
import { decodeWriteRequest, decodeWriteRequestV2 } from '../../../src/ingest/remote-write/decode.ts'
import type { WrittenSeries } from '../../../src/ingest/remote-write/series.ts'
import { readV1, readV2 } from '../../support/remote-write.ts'

const metadata = { family: 'istio_requests', type: 'counter', help: 'Requests.', unit: '' }
const counter: OutSeries = {
  labels: [
    ['__name__', 'istio_requests_total'],
    ['instance', 'a:1'],
    ['path', 'ü"\n'],
  ],
  metadata,
  samples: [
    { value: 1.5, timeMs: 1_700_000_000_000, startMs: 1_699_999_999_000, stale: false },
    { value: 2, timeMs: 1_700_000_000_001, startMs: 0, stale: false },
  ],
  histograms: [],
  exemplars: [
    { labels: [['trace_id', 'ab']], value: 1.25, timeMs: 1_700_000_000_000 },
    { labels: [], value: 2, timeMs: 1_700_000_000_001 },
  ],
}
const whole: OutHistogram = {
  count: 12,
  sum: 18.4,
  scale: 0,
  zeroThreshold: 0.001,
  zeroCount: 2,
  positive: [
    [-2, 3],
    [-1, 5],
    [2, 1],
    [4, 3],
    [5, 2],
  ],
  negative: [[7, 4]],
  timeMs: 1_700_000_000_000,
  startMs: 1_699_999_999_000,
  stale: false,
}
const histogram: OutSeries = {
  labels: [['__name__', 'latency']],
  metadata: { family: 'latency', type: 'histogram', help: 'Latency.', unit: 'ms' },
  samples: [],
  histograms: [whole],
  exemplars: [],
}

test('1.0 is what its definition reads', () => {
  const { series, metadata: said } = readV1(encodeV1([counter, histogram], [metadata]))
  expect(series[0]).toEqual({
    key: 'istio_requests_total{instance="a:1",path="ü"\n"}',
    labels: { __name__: 'istio_requests_total', instance: 'a:1', path: 'ü"\n' },
    samples: [
      { value: 1.5, timestamp: 1_700_000_000_000 },
      { value: 2, timestamp: 1_700_000_000_001 },
    ],
    exemplars: [
      { labels: [{ name: 'trace_id', value: 'ab' }], value: 1.25, timestamp: 1_700_000_000_000 },
      { labels: [], value: 2, timestamp: 1_700_000_000_001 },
    ],
    histograms: [],
  })
  // The example of the format's own description.
  expect(series[1]?.histograms[0]).toMatchObject({
    count_int: 12,
    sum: 18.4,
    zero_threshold: 0.001,
    zero_count_int: 2,
    positive_spans: [
      { offset: -2, length: 2 },
      { offset: 2, length: 1 },
      { offset: 1, length: 2 },
    ],
    positive_deltas: [3, 2, -4, 2, -1],
    negative_spans: [{ offset: 7, length: 1 }],
    negative_deltas: [4],
    timestamp: 1_700_000_000_000,
  })
  expect(said).toEqual([{ type: 'COUNTER', metric_family_name: 'istio_requests', help: 'Requests.' }])
})

test('2.0 is what its definition reads: each text once, starts with their samples', () => {
  const bytes = encodeV2([counter, histogram])
  const series = readV2(bytes)
  expect(series[0]).toMatchObject({
    key: 'istio_requests_total{instance="a:1",path="ü"\n"}',
    type: 'COUNTER',
    help: 'Requests.',
    unit: '',
    samples: [
      { value: 1.5, timestamp: 1_700_000_000_000, start_timestamp: 1_699_999_999_000 },
      { value: 2, timestamp: 1_700_000_000_001 },
    ],
  })
  expect(series[1]).toMatchObject({
    type: 'HISTOGRAM',
    unit: 'ms',
    histograms: [{ count_int: 12, start_timestamp: 1_699_999_999_000 }],
  })
  expect(Buffer.from(bytes).toString('latin1').split('__name__').length).toBe(2)
  // A receiver of 1.0 that does not look at the type finds nothing.
  expect(readV1(bytes).series).toEqual([])
})

test('counts that are not whole go out as floats; the end of a series as its marker', () => {
  const sampled = { ...whole, count: 12.5, positive: [[1, 2.5]] as const }
  const [one] = readV1(encodeV1([{ ...histogram, histograms: [sampled] }])).series
  expect(one?.histograms[0]).toMatchObject({ count_float: 12.5, positive_counts: [2.5], positive_deltas: [] })
  const seen: WrittenSeries[] = []
  const visitor = {
    series: (series: WrittenSeries) => void seen.push(series),
    metadata() {},
    invalid() {},
    invalidExemplar() {},
  }
  const ended = { ...counter, samples: [{ ...counter.samples[0]!, stale: true }] }
  decodeWriteRequest(Buffer.from(encodeV1([ended, { ...histogram, histograms: [{ ...whole, stale: true }] }])), visitor)
  expect(seen.map(({ samples, histograms }) => [...samples, ...histograms].map(({ stale }) => stale))).toEqual([
    [true],
    [true],
  ])
})

test('our own receiver reads back whatever is sent, in both versions', () => {
  const text = fc.string({ minLength: 1, maxLength: 8, unit: 'grapheme' })
  const time = fc.integer({ min: 1, max: 4e12 })
  const series = fc.record({
    labels: fc
      .uniqueArray(text, { maxLength: 5 })
      .map((names) => [['__name__', 'x'] as const, ...names.map((name) => [`l_${name}`, name] as const)]),
    samples: fc.array(
      fc.record({
        value: fc.double({ noNaN: true }),
        timeMs: time,
        startMs: fc.constant(0),
        stale: fc.constant(false),
      }),
      { maxLength: 3 },
    ),
    histograms: fc.constant([] as OutHistogram[]),
    exemplars: fc.array(
      fc.record({
        labels: fc
          .uniqueArray(text, { maxLength: 3 })
          .map((names) => names.map((name) => [`e_${name}`, name] as const)),
        value: fc.double({ noNaN: true }),
        timeMs: time,
      }),
      { maxLength: 3 },
    ),
    metadata: fc.constant(metadata),
  })
  fc.assert(
    fc.property(fc.array(series, { maxLength: 4 }), (all) => {
      for (const [encode, decode] of [
        [encodeV1, decodeWriteRequest],
        [encodeV2, decodeWriteRequestV2],
      ] as const) {
        const seen: WrittenSeries[] = []
        decode(Buffer.from(encode(all)), {
          series: (one) => void seen.push(one),
          metadata() {},
          invalid: (reason) => {
            throw new Error(reason)
          },
          invalidExemplar: (reason) => {
            throw new Error(reason)
          },
        })
        expect(seen.map(({ labels, samples, exemplars }) => ({ labels, samples, exemplars }))).toEqual(
          all.map(({ labels, samples, exemplars }) => ({ labels, samples, exemplars })),
        )
      }
    }),
    { numRuns: 100 },
  )
})

test.each([
  [0.5, '0.5'],
  [1, '1.0'],
  [10_000, '10000.0'],
  [1_800_000, '1.8e+06'],
  [0.00001, '1e-05'],
  [0, '0.0'],
  [-2.5, '-2.5'],
  [Number.POSITIVE_INFINITY, '+Inf'],
])('the bound %d is written %s', (bound, text) => expect(boundText(bound)).toBe(text))
