import { describe, expect, test } from 'vitest'
import { commitPage } from '../../../src/ingest/scrape/commit.ts'
import { PAGE_LIMITS, Page, type PageLimits } from '../../../src/ingest/scrape/page.ts'
import { createTextParser } from '../../../src/ingest/scrape/text.ts'
import { type MetricRecorder, recordMetrics } from '../../support/metric-recorder.ts'

const NOW = 1_700_000_000_000
const parser = createTextParser()

interface Options {
  readonly openMetrics?: boolean
  readonly timestamps?: boolean
  readonly limits?: Partial<PageLimits>
  readonly page?: Page
}

function read(text: string | Buffer, options: Options = {}) {
  const { openMetrics = false, timestamps = true, limits = {} } = options
  const page = options.page ?? new Page({ ...PAGE_LIMITS, ...limits })
  const bytes = Buffer.from(text)
  const result = parser.parse(page, bytes, 0, bytes.length, { openMetrics, timestamps })
  const store = recordMetrics()
  if (result.failure === null) {
    commitPage(page, { store, timeMs: NOW, attach: (labels) => ({ job: 'j', instance: 'i', labels }) })
  }
  return { page, result, store, rejections: Object.fromEntries(page.rejections) }
}

function values(store: MetricRecorder): Record<string, number> {
  return Object.fromEntries(store.written.map(({ series, value }) => [series.slice('j/i '.length), value]))
}

describe('Prometheus text', () => {
  test('as Envoy writes it', () => {
    const { store, result } = read(`# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="backend"} 12
# TYPE envoy_server_live gauge
envoy_server_live{} 1
# TYPE envoy_cluster_upstream_rq_time histogram
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="backend",le="0.5"} 0
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="backend",le="1"} 5
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="backend",le="+Inf"} 12
envoy_cluster_upstream_rq_time_sum{envoy_cluster_name="backend"} 498.5
envoy_cluster_upstream_rq_time_count{envoy_cluster_name="backend"} 12
`)
    expect(result).toMatchObject({ samples: 7, rejected: 0, failure: null })
    expect(store.written).toHaveLength(3)
    expect(store.written[0]).toMatchObject({
      series: 'j/i envoy_cluster_upstream_rq{envoy_cluster_name="backend",envoy_response_code="200"}',
      write: 'setCounter',
      type: 'counter',
      timeMs: NOW,
      value: 12,
    })
    expect(store.written[1]).toMatchObject({ series: 'j/i envoy_server_live{}', write: 'setGauge', value: 1 })
    expect(store.written[2]).toMatchObject({
      series: 'j/i envoy_cluster_upstream_rq_time{envoy_cluster_name="backend"}',
      type: 'histogram',
      distribution: {
        kind: 'explicit',
        temporality: 'cumulative',
        bounds: [0.5, 1],
        counts: Float64Array.of(0, 5, 7),
        sum: 498.5,
        count: 12,
      },
    })
  })

  test('summaries, with quantiles of nothing', () => {
    const { store } = read(`# TYPE rt summary
rt{quantile="0.99"} NaN
rt{quantile="0.5"} 3
rt_sum 17
rt_count 4
`)
    expect(store.written).toHaveLength(1)
    const { distribution } = store.written[0]!
    expect(distribution).toMatchObject({ kind: 'summary', sum: 17, count: 4 })
    expect(distribution).toHaveProperty('quantiles', [
      [0.5, 3],
      [0.99, Number.NaN],
    ])
  })

  test.each([
    ['no TYPE: untyped', 'x 1\n', { 'x{}': 1 }],
    ['blanks and tabs', ' \tx\t{ a = "1" ,\tb="2", }\t  7  \n', { 'x{a="1",b="2"}': 7 }],
    ['empty lines and comments', '\n\n# a comment\n#\n#x\nx 1\n\n', { 'x{}': 1 }],
    ['an empty label is none', 'x{a=""} 1\n', { 'x{}': 1 }],
    ['escapes', 'x{a="q\\"b\\\\s\\nn\\t"} 1\n', { 'x{a="q"b\\s\nn\\t"}': 1 }],
    ['braces, commas, blanks and # in a value', 'x{a="}{, # "} 1\n', { 'x{a="}{, # "}': 1 }],
    ['colons in names', 'a:b:c 1\n', { 'a:b:c{}': 1 }],
    ['UTF-8 in values', 'x{a="größer"} 1\n', { 'x{a="größer"}': 1 }],
    ['quoted names', '{"my.name","my.label"="v",b="w"} 1\n', { 'my.name{b="w",my.label="v"}': 1 }],
    ['carriage returns', 'x 1\r\ny{a="b"} 2\r\n', { 'x{}': 1, 'y{a="b"}': 2 }],
    [
      'special numbers',
      'x +Inf\ny NaN\nz -1e-3\n',
      { 'x{}': Number.POSITIVE_INFINITY, 'y{}': Number.NaN, 'z{}': -0.001 },
    ],
    ['a name that is the beginning of another', 'x 1\nx_y 2\nx{a="b"} 3\n', { 'x{}': 1, 'x_y{}': 2, 'x{a="b"}': 3 }],
  ])('%s', (_, text, expected) => {
    const page = new Page()
    for (const repeat of [1, 2, 3]) {
      const { store, result } = read(text, { page })
      expect(values(store), `scrape ${repeat}`).toEqual(expected)
      expect(result.rejected).toBe(0)
    }
  })

  test('timestamps, when they are wanted', () => {
    const text = 'x 1 1395066363000\ny{a="b"} 2\n'
    expect(read(text).store.written.map(({ timeMs }) => timeMs)).toEqual([1395066363000, NOW])
    expect(read(text, { timestamps: false }).store.written.map(({ timeMs }) => timeMs)).toEqual([NOW, NOW])
  })

  test('families that come back without a new TYPE, as in Istio 1.5', () => {
    const { store } = read(`# TYPE a counter
a{x="1"} 1
# TYPE b gauge
b 2
a{x="2"} 3
`)
    expect(store.written.map(({ write, value }) => [write, value])).toEqual([
      ['setCounter', 1],
      ['setGauge', 2],
      ['setCounter', 3],
    ])
  })

  test('a family of its own goes before a part of another', () => {
    const { store } = read(`# TYPE x histogram
# TYPE x_sum gauge
x_sum 5
x_bucket{le="+Inf"} 1
x_count 1
`)
    expect(store.written.map(({ name, type }) => [name, type])).toEqual([
      ['x_sum', 'gauge'],
      ['x', 'histogram'],
    ])
  })

  test('a type that changes from one page to the next', () => {
    const page = new Page()
    expect(read('x_sum 1\n', { page }).store.written).toMatchObject([{ name: 'x_sum', type: 'untyped' }])
    const histogram = '# TYPE x histogram\nx_sum 1\nx_bucket{le="+Inf"} 1\nx_count 1\n'
    expect(read(histogram, { page }).store.written).toMatchObject([{ name: 'x', type: 'histogram' }])
    const counter = '# TYPE x counter\nx 1\n'
    expect(read(counter, { page }).store.written).toMatchObject([{ name: 'x', type: 'counter' }])
    expect(read(histogram, { page }).store.written).toMatchObject([{ name: 'x', type: 'histogram' }])
  })

  test('buckets in any order, with others than before', () => {
    const page = new Page()
    const head = '# TYPE h histogram\n'
    const first = read(`${head}h_bucket{le="+Inf"} 9\nh_bucket{le="10"} 4\nh_bucket{le="1.0"} 1\n`, { page })
    expect(first.store.written[0]!.distribution).toMatchObject({ bounds: [1, 10], counts: Float64Array.of(1, 3, 5) })
    const second = read(`${head}h_bucket{le="1"} 2\nh_bucket{le="5"} 4\nh_bucket{le="+Inf"} 9\nh_count 9\n`, { page })
    expect(second.store.written[0]!.distribution).toMatchObject({ bounds: [1, 5], counts: Float64Array.of(2, 2, 5) })
  })

  test('the same bounds are the same array from scrape to scrape', () => {
    const page = new Page()
    const text = '# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="2"} 1\nh_bucket{le="+Inf"} 1\n'
    const bounds = [1, 2].map(() => (read(text, { page }).store.written[0]!.distribution as { bounds: unknown }).bounds)
    expect(bounds[0]).toBe(bounds[1])
  })

  test.each([
    ['no value', 'x\nok 1\n', 'syntax'],
    ['no value behind labels', 'x{a="b"}\nok 1\n', 'value'],
    ['a value that is none', 'x one\nok 1\n', 'value'],
    ['something behind the time', 'x 1 2 3\nok 1\n', 'syntax'],
    ['a time that is none', 'x 1 soon\nok 1\n', 'timestamp'],
    ['a time with a fraction', 'x 1 1.5\nok 1\n', 'timestamp'],
    ['an exemplar, which only OpenMetrics has', 'x 1 # {a="b"} 1\nok 1\n', 'syntax'],
    ['a label without value', 'x{a} 1\nok 1\n', 'syntax'],
    ['a label without quotes', 'x{a=b} 1\nok 1\n', 'syntax'],
    ['a label name that is none', 'x{1a="b"} 1\nok 1\n', 'syntax'],
    ['a quote that does not end', 'x{a="b} 1\nok 1\n', 'syntax'],
    ['a brace that does not end', 'x{a="b" 1\nok 1\n', 'syntax'],
    ['braces twice', 'x{a="b"}{c="d"} 1\nok 1\n', 'value'],
    ['no name', '{a="b"} 1\nok 1\n', 'name'],
    ['two names', 'x{"y"} 1\nok 1\n', 'syntax'],
    ['a name that is none', '1x 1\nok 1\n', 'name'],
    ['__name__ as a label', 'x{__name__="y"} 1\nok 1\n', 'name'],
    ['a label twice', 'x{a="1",a="2"} 1\nok 1\n', 'duplicate_label'],
    ['a series twice', 'ok 1\nok 2\n', 'duplicate'],
    ['a series twice, labels in another order', 'ok 1\nx{a="1",b="2"} 1\nx{b="2",a="1"} 1\n', 'duplicate'],
    ['a bucket without bound', '# TYPE h histogram\nh_bucket 1\nok 1\n', 'bucket'],
    ['a bound that is no number', '# TYPE h histogram\nh_bucket{le="x"} 1\nok 1\n', 'bucket'],
    ['bytes that are not UTF-8', Buffer.from('x{a="\xff"} 1\nok 1\n', 'latin1'), 'utf8'],
    ['a last line that does not end', 'ok 1\nx 12', 'syntax'],
  ])('rejects one line alone: %s', (_, text, reason) => {
    const page = new Page()
    for (const repeat of [1, 2, 3]) {
      const { store, result, rejections } = read(text, { page })
      expect(rejections, `scrape ${repeat}`).toEqual({ [reason]: 1 })
      expect(result).toMatchObject({ failure: null, rejected: 1, firstReason: reason })
      expect(store.last('ok')).toMatchObject({ value: 1 })
    }
  })

  test('names the place of the first line that it rejects', () => {
    expect(read('a 1\nb 2\nc x\nd y\n').result).toMatchObject({ rejected: 2, firstOffset: 8 })
  })

  test('limits of labels, lengths, buckets and samples', () => {
    const limits = { labelsMax: 2, labelNameBytesMax: 10, labelValueBytesMax: 20, bucketsMax: 2, samplesMax: 5 }
    const labels = 'x{a="1",b="2",c="3"} 1\n'
    expect(read(`ok 1\n${labels}`, { limits }).rejections).toEqual({ labels_limit: 1 })
    expect(read(`ok 1\nx{a="${'v'.repeat(21)}"} 1\n`, { limits }).rejections).toEqual({ label_length: 1 })
    expect(read(`ok 1\nx{${'n'.repeat(11)}="v"} 1\n`, { limits }).rejections).toEqual({ label_length: 1 })
    const buckets = '# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="2"} 1\nh_bucket{le="3"} 1\n'
    expect(read(buckets, { limits }).rejections).toEqual({ buckets_limit: 1 })
    const many = read('a 1\nb 1\nc 1\nd 1\ne 1\nf 1\n', { limits })
    expect(many.result).toMatchObject({ failure: 'sample_limit' })
    expect(many.store.written).toEqual([])
  })

  test('a page without a single sample that could be read is none', () => {
    expect(read('<html><body>404 page not found</body></html>\n').result.failure).toBe('malformed')
    expect(read('{"error":"no"}\n').result.failure).toBe('malformed')
    expect(read('').result).toMatchObject({ failure: null, samples: 0 })
    expect(read('# TYPE x counter\n').result).toMatchObject({ failure: null, samples: 0 })
  })

  test('a page of a million distinct heads is given up at the limit', () => {
    const text = Array.from({ length: 30_000 }, (_, k) => `x{k="${k}"} ${k}\n`).join('')
    expect(read(text, { limits: { samplesMax: 1000 } }).result.failure).toBe('sample_limit')
  })

  test('memory of lines that no longer come is given back', () => {
    let page = new Page()
    for (let scrape = 0; scrape < 20; scrape++) {
      const text = Array.from({ length: 500 }, (_, k) => `x{scrape="${scrape}",k="${k}"} ${k}\n`).join('')
      read(text, { page })
      if (page.isMostlyOld) page = page.compacted()
    }
    expect(page.items.length).toBeLessThan(3000)
  })

  test('a compacted page knows its series', () => {
    const text = '# TYPE h histogram\nh_bucket{le="+Inf"} 1\nh_count 1\nx{a="b"} 2\n'
    const before = read(text)
    const page = before.page.compacted()
    expect(page.items.map(({ series }) => series)).toEqual(before.page.items.map(({ series }) => series))
    const after = read(text, { page })
    expect(after.store.written).toHaveLength(2)
    expect(after.page.items).toHaveLength(2)
  })
})

describe('OpenMetrics', () => {
  const text = `# TYPE http_requests counter
# UNIT http_requests requests
# HELP http_requests All \\"requests\\".
http_requests_total{code="200"} 7 1520879607.789 # {trace_id="abc"} 0.67 1520879606.5
http_requests_created{code="200"} 1520430000.123
# TYPE latency_seconds histogram
# UNIT latency_seconds seconds
latency_seconds_bucket{le="0.1"} 3 # {trace_id="KOO5S4vxi0o"} 0.067
latency_seconds_bucket{le="+Inf"} 5
latency_seconds_count 5
latency_seconds_sum 1.25
latency_seconds_created 1520430000
# TYPE build info
build_info{version="1"} 1
# TYPE state stateset
state{state="a"} 1
state{state="b"} 0
# TYPE sizes gaugehistogram
sizes_bucket{le="1"} 2
sizes_bucket{le="+Inf"} 3
sizes_gcount 3
sizes_gsum 4
# TYPE thing unknown
thing 3
# EOF
`

  test('all types, units, times of creation', () => {
    const { store, result } = read(text, { openMetrics: true })
    expect(result).toMatchObject({ failure: null, rejected: 0, exemplars: 2, samples: 15 })
    expect(store.last('http_requests_total')).toMatchObject({
      write: 'setCounter',
      value: 7,
      timeMs: 1520879607789,
      startMs: 1520430000123,
    })
    expect(store.last('latency_seconds')?.distribution).toMatchObject({
      bounds: [0.1],
      counts: Float64Array.of(3, 2),
      sum: 1.25,
      startMs: 1520430000000,
    })
    expect(store.last('build_info')).toMatchObject({ type: 'gauge', labels: { version: '1' } })
    expect(store.last('state', { state: 'b' })).toMatchObject({ type: 'gauge', value: 0 })
    expect(store.last('sizes')?.distribution).toMatchObject({ counts: Float64Array.of(2, 1), sum: 4, count: 3 })
    expect(store.last('thing')).toMatchObject({ type: 'untyped', value: 3 })
    expect(store.identities.find(({ name }) => name === 'latency_seconds')).toMatchObject({ unit: 'seconds' })
  })

  test('hands on exemplars to who wants them', () => {
    const page = new Page()
    const exemplars: unknown[] = []
    page.onExemplar = (item, exemplar) => exemplars.push([item.name, exemplar])
    read(text, { openMetrics: true, page })
    expect(exemplars).toEqual([
      ['http_requests_total', { labels: [['trace_id', 'abc']], value: 0.67, time: 1520879606.5 }],
      ['latency_seconds', { labels: [['trace_id', 'KOO5S4vxi0o']], value: 0.067, time: Number.NaN }],
    ])
  })

  test('without its end mark the page is not whole', () => {
    const { result, store } = read(text.replace('# EOF\n', ''), { openMetrics: true })
    expect(result.failure).toBe('no_eof')
    expect(store.written).toEqual([])
  })

  test('the end mark counts in every scrape', () => {
    const page = new Page()
    read('x 1\n# EOF\n', { openMetrics: true, page })
    expect(read('x 1\n', { openMetrics: true, page }).result.failure).toBe('no_eof')
    expect(read('x 1\n# EOF', { openMetrics: true, page }).result.failure).toBeNull()
  })
})
