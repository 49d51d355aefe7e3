import { describe, expect, test } from 'vitest'
import { commitPage } from '../../../src/ingest/scrape/commit.ts'
import { PAGE_LIMITS, Page, type PageLimits } from '../../../src/ingest/scrape/page.ts'
import { createProtobufParser } from '../../../src/ingest/scrape/protobuf.ts'
import { encodeFamilies, labelsOf } from '../../support/metric-family.ts'
import { recordMetrics } from '../../support/metric-recorder.ts'

const NOW = 1_700_000_000_000
const parser = createProtobufParser()

function read(bytes: Buffer, options: { limits?: Partial<PageLimits>; page?: Page; timestamps?: boolean } = {}) {
  const page = options.page ?? new Page({ ...PAGE_LIMITS, ...options.limits })
  const result = parser.parse(page, bytes, 0, bytes.length, { timestamps: options.timestamps ?? true })
  const store = recordMetrics()
  if (result.failure === null) {
    commitPage(page, { store, timeMs: NOW, attach: (labels) => ({ job: 'j', instance: 'i', labels }) })
  }
  return { page, result, store, rejections: Object.fromEntries(page.rejections) }
}

const gauge = (name: string, value: number) => ({ name, type: 'GAUGE', metric: [{ gauge: { value } }] })

describe('protobuf expositions', () => {
  test('single numbers, with labels, times and times of creation', () => {
    const bytes = encodeFamilies(
      {
        name: 'requests_total',
        help: 'All of them',
        type: 'COUNTER',
        unit: 'requests',
        metric: [
          {
            label: labelsOf({ code: '200', a: 'ü' }),
            counter: { value: 7, start_timestamp: { seconds: 1_520_430_000, nanos: 123_000_000 } },
            timestamp_ms: 1_520_879_607_789,
          },
          { label: labelsOf({ code: '500' }), counter: { value: 0.5 } },
        ],
      },
      gauge('g', -3),
      { name: 'u', type: 'UNTYPED', metric: [{ untyped: { value: 4 }, timestamp_ms: -1 }] },
    )
    const page = new Page()
    for (const repeat of [1, 2]) {
      const { store, result } = read(bytes, { page })
      expect(result, `scrape ${repeat}`).toMatchObject({ samples: 4, rejected: 0, failure: null })
      expect(store.written).toMatchObject([
        {
          series: 'j/i requests_total{a="ü",code="200"}',
          write: 'setCounter',
          value: 7,
          timeMs: 1_520_879_607_789,
          startMs: 1_520_430_000_123,
        },
        { labels: { code: '500' }, value: 0.5, timeMs: NOW },
        { name: 'g', write: 'setGauge', value: -3 },
        { name: 'u', type: 'untyped', value: 4, timeMs: -1 },
      ])
    }
    expect(read(bytes, { page: new Page() }).store.identities[0]).toMatchObject({
      unit: 'requests',
      help: 'All of them',
    })
    expect(read(bytes, { timestamps: false }).store.written.every(({ timeMs }) => timeMs === NOW)).toBe(true)
  })

  test('a summary, as text says it', () => {
    const summary = {
      sample_count: 4,
      sample_sum: 17.5,
      quantile: [
        { quantile: 0.99, value: Number.NaN },
        { quantile: 0.5, value: 3 },
      ],
    }
    const { store, result } = read(encodeFamilies({ name: 's', type: 'SUMMARY', metric: [{ summary }] }))
    expect(result.samples).toBe(4)
    expect(store.written[0]!.distribution).toMatchObject({ kind: 'summary', count: 4, sum: 17.5 })
    expect(store.written[0]!.distribution).toHaveProperty('quantiles', [
      [0.5, 3],
      [0.99, Number.NaN],
    ])
  })

  test.each([
    ['whole counts', { cumulative_count: 3 }, { cumulative_count: 9 }, { sample_count: 9 }],
    ['float counts', { cumulative_count_float: 3 }, { cumulative_count_float: 9 }, { sample_count_float: 9 }],
  ])('a classic histogram with %s, with and without +Inf', (_, first, second, count) => {
    for (const last of [[], [{ ...second, upper_bound: Number.POSITIVE_INFINITY }]]) {
      const bucket = [{ ...first, upper_bound: 0.5 }, { ...second, upper_bound: 1 }, ...last]
      const metric = [{ histogram: { ...count, sample_sum: 2.5, bucket } }]
      const { store, result } = read(encodeFamilies({ name: 'h', type: 'HISTOGRAM', metric }))
      expect(result.samples).toBe(5)
      expect(store.written[0]!.distribution).toMatchObject({
        kind: 'explicit',
        bounds: [0.5, 1],
        counts: Float64Array.of(3, 6, 0),
        count: 9,
        sum: 2.5,
      })
    }
  })

  test('a native histogram with gaps, both signs and a zero bucket', () => {
    const histogram = {
      sample_count: 21,
      sample_sum: 12.25,
      schema: 3,
      zero_threshold: 1e-128,
      zero_count: 2,
      positive_span: [
        { offset: -2, length: 2 },
        { offset: 3, length: 1 },
      ],
      positive_delta: [4, -1, 5],
      negative_span: [{ offset: 1, length: 1 }],
      negative_delta: [4],
      start_timestamp: { seconds: 5 },
    }
    const { store, result } = read(encodeFamilies({ name: 'h', type: 'HISTOGRAM', metric: [{ histogram }] }))
    expect(result).toMatchObject({ samples: 1, rejected: 0 })
    expect(store.written[0]!.distribution).toEqual({
      kind: 'exponential',
      temporality: 'cumulative',
      scale: 3,
      zeroCount: 2,
      zeroThreshold: 1e-128,
      positive: { offset: -2, counts: Float64Array.of(4, 3, 0, 0, 0, 8) },
      negative: { offset: 1, counts: Float64Array.of(4) },
      count: 21,
      sum: 12.25,
      startMs: 5000,
    })
  })

  test('a native histogram of floats', () => {
    const histogram = {
      sample_count_float: 3.5,
      sample_sum: 1,
      schema: 0,
      zero_count_float: 0.5,
      positive_span: [{ offset: 0, length: 2 }],
      positive_count: [1, 2],
    }
    const { store } = read(encodeFamilies({ name: 'h', type: 'GAUGE_HISTOGRAM', metric: [{ histogram }] }))
    expect(store.written[0]!.distribution).toMatchObject({
      zeroCount: 0.5,
      positive: { offset: 0, counts: Float64Array.of(1, 2) },
      count: 3.5,
    })
  })

  test('an empty native histogram has one empty span', () => {
    const histogram = { sample_count: 0, sample_sum: 0, schema: 3, positive_span: [{ offset: 0, length: 0 }] }
    const { store } = read(encodeFamilies({ name: 'h', type: 'HISTOGRAM', metric: [{ histogram }] }))
    expect(store.written[0]!.distribution).toMatchObject({
      kind: 'exponential',
      positive: { counts: new Float64Array() },
    })
  })

  test('one that is native and classic is native', () => {
    const histogram = {
      sample_count: 3,
      sample_sum: 1,
      bucket: [{ cumulative_count: 3, upper_bound: 1 }],
      schema: 2,
      zero_threshold: 0.001,
      positive_span: [{ offset: 0, length: 1 }],
      positive_delta: [3],
    }
    const { store } = read(encodeFamilies({ name: 'h', type: 'HISTOGRAM', metric: [{ histogram }] }))
    expect(store.written).toMatchObject([{ distribution: { kind: 'exponential' } }])
  })

  const native = (more: object) => ({
    name: 'h',
    type: 'HISTOGRAM',
    metric: [{ histogram: { sample_count: 1, sample_sum: 1, schema: 0, zero_threshold: 1, ...more } }],
  })
  test.each([
    ['a schema that is none', native({ schema: 9 })],
    ['own bounds, which protobuf has no form for', native({ schema: -53 })],
    ['fewer counts than spans', native({ positive_span: [{ offset: 0, length: 2 }], positive_delta: [1] })],
    ['more counts than spans', native({ positive_span: [{ offset: 0, length: 1 }], positive_delta: [1, 1] })],
    ['a count below 0', native({ positive_span: [{ offset: 0, length: 2 }], positive_delta: [1, -2] })],
    ['a span of four billion', native({ positive_span: [{ offset: 0, length: 4_294_967_295 }], positive_delta: [1] })],
    [
      'spans two billion apart',
      native({
        positive_span: [
          { offset: 0, length: 1 },
          { offset: 2_000_000_000, length: 1 },
        ],
        positive_delta: [1, 1],
      }),
    ],
    [
      'spans that overlap',
      native({
        positive_span: [
          { offset: 0, length: 2 },
          { offset: -1, length: 1 },
        ],
        positive_delta: [1, 1, 1],
      }),
    ],
  ])('rejects a native histogram alone: %s', (_, family) => {
    const { store, rejections, result } = read(encodeFamilies(family, gauge('ok', 1)))
    expect(rejections).toEqual({ native: 1 })
    expect(result.failure).toBeNull()
    expect(store.written).toMatchObject([{ name: 'ok' }])
  })

  test.each([
    ['no name', { type: 'GAUGE', metric: [{ gauge: { value: 1 } }] }, 'name'],
    ['a body of another type', { name: 'c', type: 'COUNTER', metric: [{ gauge: { value: 1 } }] }, 'value'],
    ['no body', { name: 'c', type: 'COUNTER', metric: [{}] }, 'value'],
    ['a series twice', { name: 'ok', type: 'GAUGE', metric: [{ gauge: { value: 2 } }] }, 'duplicate'],
    [
      'a label twice',
      {
        name: 'c',
        type: 'COUNTER',
        metric: [{ label: [...labelsOf({ a: '1' }), ...labelsOf({ a: '2' })], counter: { value: 1 } }],
      },
      'duplicate_label',
    ],
    [
      'a bound that is no number',
      {
        name: 'h',
        type: 'HISTOGRAM',
        metric: [{ histogram: { sample_count: 1, bucket: [{ upper_bound: Number.NaN }] } }],
      },
      'bucket',
    ],
  ])('rejects one metric alone: %s', (_, family, reason) => {
    const page = new Page()
    for (const repeat of [1, 2]) {
      const { store, rejections, result } = read(encodeFamilies(gauge('ok', 1), family), { page })
      expect(rejections, `scrape ${repeat}`).toEqual({ [reason]: 1 })
      expect(result.failure).toBeNull()
      expect(store.written).toMatchObject([{ name: 'ok', value: 1 }])
    }
  })

  test('labels that are not UTF-8', () => {
    const bytes = encodeFamilies(gauge('ok', 1), {
      name: 'c',
      type: 'COUNTER',
      metric: [{ label: labelsOf({ a: 'XXXX' }), counter: { value: 1 } }],
    })
    bytes.fill(0xff, bytes.indexOf('XXXX'), bytes.indexOf('XXXX') + 4)
    expect(read(bytes).rejections).toEqual({ utf8: 1 })
  })

  test('unknown fields and types are passed over', () => {
    const bytes = encodeFamilies(gauge('g', 1))
    // Field 999 of MetricFamily: a varint, eight bytes, four bytes, a text.
    const unknown = Buffer.from('b83e01b93e0000000000000000bd3e00000000ba3e0161', 'hex')
    const message = Buffer.concat([bytes.subarray(1), unknown])
    const { store, result } = read(Buffer.concat([Buffer.from([message.length]), message]))
    expect(result.rejected).toBe(0)
    expect(store.written).toMatchObject([{ name: 'g', value: 1 }])
  })

  test('exemplars go to who wants them', () => {
    const page = new Page()
    const exemplars: unknown[] = []
    page.onExemplar = (item, exemplar) => exemplars.push([item.name, exemplar])
    const exemplar = { label: labelsOf({ trace_id: 'abc' }), value: 0.5, timestamp: { seconds: 7, nanos: 500_000_000 } }
    const bytes = encodeFamilies(
      { name: 'c', type: 'COUNTER', metric: [{ counter: { value: 1, exemplar } }] },
      {
        name: 'h',
        type: 'HISTOGRAM',
        metric: [{ histogram: { sample_count: 1, bucket: [{ cumulative_count: 1, upper_bound: 1, exemplar }] } }],
      },
      native({ exemplars: [exemplar] }),
    )
    bytes[bytes.lastIndexOf('h')] = 0x6e // A name of its own for the native one.
    expect(read(bytes, { page }).result).toMatchObject({ exemplars: 3, rejected: 0 })
    const expected = { labels: [['trace_id', 'abc']], value: 0.5, time: 7.5 }
    expect(exemplars).toEqual([
      ['c', expected],
      ['h', expected],
      ['n', expected],
    ])
  })

  test('a page that is cut off anywhere fails as a whole, unless between two families', () => {
    const families = [gauge('a', 1), native({ positive_span: [{ offset: 0, length: 1 }], positive_delta: [1] })]
    const bytes = encodeFamilies(...families)
    const between = bytes[0]! + 1
    for (let length = 1; length < bytes.length; length++) {
      const { result, store } = read(bytes.subarray(0, length))
      if (length === between) expect(result).toMatchObject({ samples: 1, failure: null })
      else {
        expect(result.failure, `cut at ${length}`).toBe('malformed')
        expect(store.written).toEqual([])
      }
    }
  })

  test('too many samples', () => {
    const many = Array.from({ length: 11 }, (_, k) => gauge(`g${k}`, k))
    expect(read(encodeFamilies(...many), { limits: { samplesMax: 10 } }).result.failure).toBe('sample_limit')
  })
})
