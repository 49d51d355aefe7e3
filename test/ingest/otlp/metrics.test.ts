import { describe, expect, it } from 'vitest'
import { prometheusName } from '../../../src/ingest/otlp/metric-names.ts'
import { attributesOf, createOtlpDecoding, otlp, SENDER } from '../../support/otlp.ts'

const TIME = '1795231455180225000'
const START = '1795231400000000000'
const NOW_MS = 1_795_231_456_000
const SDK = { 'service.name': 'cart', 'service.namespace': 'shop', 'service.instance.id': 'cart-1' }
const ENVOY = { 'telemetry.sdk.name': 'envoy', 'telemetry.sdk.version': 'abc/1.40.0/Clean/RELEASE/BoringSSL' }

/** What is written for one metric. */
function written(metric: object, resource: Readonly<Record<string, unknown>> = SDK, node = '') {
  const decoding = createOtlpDecoding()
  const request = otlp('metrics', {
    resourceMetrics: [{ resource: { attributes: attributesOf(resource) }, scopeMetrics: [{ metrics: [metric] }] }],
  })
  const decoded = decoding.decoders.metrics.decode(request, 0, request.length, { ...SENDER, node }, NOW_MS)
  return { decoded, written: decoding.metrics.written, identities: decoding.metrics.identities, decoding }
}
const point = (fields: object, attributes: Readonly<Record<string, unknown>> = {}) => ({
  timeUnixNano: TIME,
  startTimeUnixNano: START,
  attributes: attributesOf(attributes),
  ...fields,
})
const CUMULATIVE = { aggregationTemporality: 2 }
const DELTA = { aggregationTemporality: 1 }

describe('metrics of any SDK', () => {
  it.each<[string, object, object]>([
    [
      'a monotonic sum',
      {
        name: 'http.requests',
        sum: { ...CUMULATIVE, isMonotonic: true, dataPoints: [point({ asInt: '7' }, { 'http.route': '/a' })] },
      },
      {
        series: 'shop/cart/cart-1 http_requests_total{http_route="/a"}',
        type: 'counter',
        write: 'setCounter',
        value: 7,
        timeMs: 1_795_231_455_180,
        startMs: 1_795_231_400_000,
      },
    ],
    [
      'its increase',
      { name: 'n', unit: 'By', sum: { ...DELTA, isMonotonic: true, dataPoints: [point({ asDouble: 2.5 })] } },
      { series: 'shop/cart/cart-1 n_bytes_total{}', write: 'addCounter', value: 2.5 },
    ],
    [
      'a sum that goes up and down',
      { name: 'queue', sum: { ...CUMULATIVE, dataPoints: [point({ asInt: '-3' })] } },
      { series: 'shop/cart/cart-1 queue{}', type: 'gauge', write: 'setGauge', value: -3 },
    ],
    [
      'its change',
      { name: 'queue', sum: { ...DELTA, dataPoints: [point({ asInt: '-3' })] } },
      { write: 'addGauge', value: -3 },
    ],
    [
      'a gauge',
      { name: 'temp', unit: 'Cel', gauge: { dataPoints: [point({ asDouble: 21.5 })] } },
      { series: 'shop/cart/cart-1 temp_celsius{}', write: 'setGauge', value: 21.5 },
    ],
    [
      'a gauge that says there is no value',
      { name: 'temp', gauge: { dataPoints: [point({ flags: 1 })] } },
      { write: 'stale', timeMs: 1_795_231_455_180 },
    ],
    [
      'a histogram',
      {
        name: 'took',
        unit: 's',
        histogram: {
          ...DELTA,
          dataPoints: [
            point({ count: '6', sum: 4.5, min: 0.1, max: 2, bucketCounts: ['1', '2', '3'], explicitBounds: [0.5, 1] }),
          ],
        },
      },
      {
        series: 'shop/cart/cart-1 took_seconds{}',
        type: 'histogram',
        write: 'distribution',
        distribution: {
          kind: 'explicit',
          temporality: 'delta',
          startMs: 1_795_231_400_000,
          count: 6,
          sum: 4.5,
          min: 0.1,
          max: 2,
          bounds: [0.5, 1],
          counts: [1, 2, 3],
        },
      },
    ],
    [
      'a histogram of count and sum alone',
      { name: 'took', histogram: { ...CUMULATIVE, dataPoints: [point({ count: '6', sum: 4.5 })] } },
      { distribution: { kind: 'explicit', temporality: 'cumulative', count: 6, sum: 4.5, bounds: [], counts: [6] } },
    ],
    [
      'an exponential histogram: our buckets are numbered one higher',
      {
        name: 'took',
        exponentialHistogram: {
          ...CUMULATIVE,
          dataPoints: [
            point({
              count: '9',
              sum: 3,
              scale: -1,
              zeroCount: '2',
              zeroThreshold: 0.001,
              positive: { offset: -2, bucketCounts: ['1', '0', '300'] },
              negative: { offset: 4, bucketCounts: [5] },
            }),
          ],
        },
      },
      {
        distribution: {
          kind: 'exponential',
          scale: -1,
          zeroCount: 2,
          zeroThreshold: 0.001,
          positive: { offset: -1, counts: [1, 0, 300] },
          negative: { offset: 5, counts: [5] },
        },
      },
    ],
    [
      'a summary, sorted',
      {
        name: 'took',
        summary: {
          dataPoints: [
            point({
              count: '4',
              sum: 10,
              quantileValues: [
                { quantile: 0.99, value: 9 },
                { quantile: 0.5, value: 2 },
              ],
            }),
          ],
        },
      },
      {
        type: 'summary',
        distribution: {
          kind: 'summary',
          temporality: 'cumulative',
          count: 4,
          sum: 10,
          quantiles: [
            [0.5, 2],
            [0.99, 9],
          ],
        },
      },
    ],
  ])('%s', (_name, metric, expected) => {
    const { decoded, written: writes } = written(metric)
    expect(decoded).toMatchObject({ items: 1, rejected: 0 })
    expect(writes[0]).toMatchObject(expected)
    expect(writes.length).toBe(1)
  })

  it('several points of a metric, with attributes of every type', () => {
    const dataPoints = [
      point({ asInt: '1' }, { a: 1, b: true, c: ['x'] }),
      point({ asInt: '2' }, { 'a.b': 'x', a_b: 'y' }),
    ]
    const { written: writes } = written({ name: 'n', gauge: { dataPoints } })
    expect(writes.map(({ labels, value }) => ({ labels, value }))).toEqual([
      { labels: { a: '1', b: 'true', c: '["x"]' }, value: 1 },
      // Names that Prometheus does not tell apart are one label.
      { labels: { a_b: 'x;y' }, value: 2 },
    ])
  })

  it('what a resource says beyond its name is target_info', () => {
    const metric = { name: 'n', gauge: { dataPoints: [point({ asInt: '1' })] } }
    const { written: writes } = written(metric, { ...SDK, 'cloud.region': 'eu' })
    expect(writes[1]).toMatchObject({ series: 'shop/cart/cart-1 target_info{cloud_region="eu"}', value: 1 })
  })

  it.each([
    ['http.server.duration', 'ms', 'other', 'http_server_duration_milliseconds'],
    ['memory.usage_bytes', 'By', 'gauge', 'memory_usage_bytes'],
    ['requests_total', '{request}', 'counter', 'requests_total'],
    ['total.requests', '1', 'counter', 'requests_total'],
    ['cpu', '1', 'gauge', 'cpu_ratio'],
    ['io', 'By/s', 'gauge', 'io_bytes_per_second'],
    ['2xx', '', 'gauge', '_2xx'],
    ['a__b..c', '', 'gauge', 'a_b_c'],
  ] as const)('%s in %s as %s is %s', (name, unit, kind, expected) => {
    expect(prometheusName(name, unit, kind)).toBe(expected)
  })
})

describe('stats of Envoy', () => {
  const gauge = (name: string, attributes: Readonly<Record<string, unknown>> = {}) => ({
    name,
    gauge: { dataPoints: [point({ asInt: '1' }, attributes)] },
  })
  const expected = 'envoy-otlp/10.0.0.9 envoy_cluster_upstream_cx_active{envoy_cluster_name="backend"}'

  it.each([
    ['with prefix and tags', gauge('envoy.cluster.upstream_cx_active', { 'envoy.cluster_name': 'backend' })],
    ['without prefix', gauge('cluster.upstream_cx_active', { 'envoy.cluster_name': 'backend' })],
    ['the full name alone', gauge('envoy.cluster.backend.upstream_cx_active')],
    ['the full name and tags', gauge('cluster.backend.upstream_cx_active', { 'envoy.cluster_name': 'backend' })],
  ])('%s', (_name, metric) => {
    expect(written(metric, ENVOY).written[0]!.series).toBe(expected)
  })

  it('a tag-extracted name that looks like a full one', () => {
    const name = 'cluster.circuit_breakers.default.cx_open'
    expect(written(gauge(name, { 'envoy.cluster_name': 'backend' }), ENVOY).written[0]!.series).toBe(
      'envoy-otlp/10.0.0.9 envoy_cluster_circuit_breakers_default_cx_open{envoy_cluster_name="backend"}',
    )
  })

  it('the node is named by the header, else by the resource', () => {
    expect(written(gauge('server.live'), ENVOY, 'edge-7').written[0]!.series).toBe(
      'envoy-otlp/edge-7 envoy_server_live{}',
    )
    const named = { ...ENVOY, 'service.instance.id': 'edge-8', 'service.name': 'edge' }
    expect(written(gauge('server.live'), named).written[0]!.series).toBe('envoy-otlp/edge-8 envoy_server_live{}')
  })

  it.each([
    ['1.40.0', 1_795_231_400_000],
    ['1.36.2', undefined],
  ])('start times of cumulative values of %s', (version, startMs) => {
    const metric = { name: 'cluster.x', sum: { ...CUMULATIVE, isMonotonic: true, dataPoints: [point({ asInt: '1' })] } }
    const resource = { ...ENVOY, 'telemetry.sdk.version': `abc/${version}/Clean/RELEASE/BoringSSL` }
    expect(written(metric, resource).written[0]!.startMs).toBe(startMs)
  })
})

describe('points that cannot be taken', () => {
  const sum = (fields: object) => ({
    name: 'n',
    sum: { ...CUMULATIVE, isMonotonic: true, dataPoints: [point(fields)] },
  })
  const histogram = (fields: object) => ({ name: 'n', histogram: { ...DELTA, dataPoints: [point(fields)] } })
  it.each<[string, object]>([
    ['no_name', { gauge: { dataPoints: [point({ asInt: 1 })] } }],
    ['no_value', sum({})],
    ['no_temporality', { name: 'n', sum: { isMonotonic: true, dataPoints: [point({ asInt: 1 })] } }],
    ['not_a_number', sum({ asDouble: 'NaN' })],
    ['negative', sum({ asInt: -1 })],
    ['bad_buckets', histogram({ count: 3, bucketCounts: [1, 2], explicitBounds: [1, 2] })],
    ['bad_buckets', histogram({ count: 3, bucketCounts: [1, 1, 1], explicitBounds: [2, 1] })],
    ['bad_buckets', histogram({ count: 3, bucketCounts: [1, 1, 1], explicitBounds: [1, 'NaN'] })],
    ['too_many_buckets', histogram({ count: 3, bucketCounts: new Array(5000).fill(1), explicitBounds: [] })],
    ['bad_scale', { name: 'n', exponentialHistogram: { ...DELTA, dataPoints: [point({ count: 1, scale: 99 })] } }],
    ['bad_quantile', { name: 'n', summary: { dataPoints: [point({ quantileValues: [{ quantile: 2, value: 1 }] })] } }],
  ])('%s', (reason, metric) => {
    const { decoded, written: writes, decoding } = written(metric)
    expect(decoded).toMatchObject({ items: 1, rejected: 1, reason, malformed: false })
    expect(decoding.decoders.metrics.counters.rejected).toEqual(new Map([[reason, 1]]))
    expect(writes).toEqual([])
  })

  it('others of the same request are taken', () => {
    const dataPoints = [point({ asInt: 1 }), point({}), point({ asInt: 3 })]
    const { decoded, written: writes } = written({ name: 'n', gauge: { dataPoints } })
    expect(decoded).toMatchObject({ items: 3, rejected: 1, reason: 'no_value' })
    expect(writes.map(({ value }) => value)).toEqual([1, 3])
  })

  it('points of a strange time are of when they arrived', () => {
    const metric = {
      name: 'n',
      gauge: {
        dataPoints: [
          { timeUnixNano: '0', asInt: 1 },
          { timeUnixNano: '9'.repeat(19), asInt: 2 },
        ],
      },
    }
    const { written: writes, decoding } = written(metric)
    expect(writes.map(({ timeMs }) => timeMs)).toEqual([NOW_MS, NOW_MS])
    expect(decoding.decoders.metrics.counters.untimed).toBe(2)
  })
})
