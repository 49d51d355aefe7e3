import { describe, expect, test } from 'vitest'
import { ClassicBuckets, ISTIO_BUCKETS } from '../../../src/adapters/prometheus/classic.ts'
import { openMetricsNumber } from '../../../src/adapters/prometheus/exposition-text.ts'
import {
  answerLabels,
  flagsText,
  identityLabels,
  overflowAnswerLabels,
  overflowLabels,
} from '../../../src/adapters/prometheus/labels.ts'
import { negotiate } from '../../../src/adapters/prometheus/negotiate.ts'
import { HeavyKeys } from '../../../src/adapters/prometheus/sketch.ts'
import { seededRandom } from '../../../src/lib/random.ts'
import { FLAGS, type Flag } from '../../../src/model/schema.ts'
import { identity, origin, party } from '../../support/batch.ts'

describe('classic buckets', () => {
  test('hold values up to and including their bound', () => {
    const ms = new ClassicBuckets(ISTIO_BUCKETS, 1e6)
    const plain = (ns: number): number => {
      const k = ISTIO_BUCKETS.findIndex((bound) => ns <= bound * 1e6)
      return k < 0 ? ISTIO_BUCKETS.length : k
    }
    const random = seededRandom(2)
    const values = Array.from({ length: 5000 }, () => Math.floor(2 ** (random() * 53)))
    for (const bound of ISTIO_BUCKETS) values.push(bound * 1e6 - 1, bound * 1e6, bound * 1e6 + 1)
    for (const ns of [0, 1, ...values]) expect(ms.indexOf(ns), String(ns)).toBe(plain(ns))
    const bytes = new ClassicBuckets(ISTIO_BUCKETS, 1)
    expect([0, 1, 2, 5, 6, 3_600_000, 3_600_001, 2 ** 40].map((value) => bytes.indexOf(value))).toEqual([
      0, 1, 2, 2, 3, 18, 19, 19,
    ])
  })

  test('must ascend', () => {
    for (const bounds of [[], [1, 1], [2, 1], [0], [Number.NaN], [1, Number.POSITIVE_INFINITY]]) {
      expect(() => new ClassicBuckets(bounds, 1)).toThrow(RangeError)
    }
  })
})

describe('labels', () => {
  const shop = identity({
    reporter: 'source',
    source: party({
      workload: 'web',
      namespace: 'shop',
      service: 'web',
      version: 'v3',
      principal: 'spiffe://a/ns/shop/sa/web',
      app: 'web',
      cluster: 'east',
    }),
    destination: party({ workload: 'reviews-v1', namespace: 'shop', service: 'reviews' }),
    destinationHost: 'reviews.shop.svc.cluster.local',
  })

  test('are Istio’s, in its order, with `unknown` and `latest` for what is missing', () => {
    expect(identityLabels(shop, undefined)).toEqual([
      ['reporter', 'source'],
      ['source_workload', 'web'],
      ['source_workload_namespace', 'shop'],
      ['source_principal', 'spiffe://a/ns/shop/sa/web'],
      ['source_app', 'web'],
      ['source_version', 'v3'],
      ['source_canonical_service', 'web'],
      ['source_canonical_revision', 'v3'],
      ['source_cluster', 'east'],
      ['destination_workload', 'reviews-v1'],
      ['destination_workload_namespace', 'shop'],
      ['destination_principal', 'unknown'],
      ['destination_app', 'unknown'],
      ['destination_version', 'unknown'],
      ['destination_canonical_service', 'reviews'],
      ['destination_canonical_revision', 'latest'],
      ['destination_cluster', 'unknown'],
      ['destination_service', 'reviews.shop.svc.cluster.local'],
      ['destination_service_name', 'reviews'],
      ['destination_service_namespace', 'shop'],
    ])
  })

  test('a gateway reports as the source of what it sends on', () => {
    const through = identity({ ...shop, reporter: 'gateway', source: party({ workload: 'caller' }) })
    const gateway = origin({ self: party({ workload: 'ingress', namespace: 'edge' }) })
    const labels = new Map(identityLabels(through, gateway))
    expect([labels.get('reporter'), labels.get('source_workload'), labels.get('source_workload_namespace')]).toEqual([
      'source',
      'ingress',
      'edge',
    ])
  })

  test.each([
    ['api.example.com', 'api.example.com', 'shop'],
    ['a.b.svc', 'a', 'b'],
    ['svc.example.com', 'svc.example.com', 'shop'],
    ['', 'reviews', 'shop'],
  ])('the service behind host %j is %s in %s', (destinationHost, name, namespace) => {
    const labels = new Map(identityLabels(identity({ ...shop, destinationHost }), undefined))
    expect(labels.get('destination_service')).toBe(destinationHost || 'reviews')
    expect(labels.get('destination_service_name')).toBe(name)
    expect(labels.get('destination_service_namespace')).toBe(namespace)
  })

  test('say how a request went', () => {
    const http = {
      protocol: 'http',
      code: 503,
      grpcStatus: -1,
      flags: 1 << FLAGS.indexOf('UF'),
      policy: 'mutual_tls',
    } as const
    expect(answerLabels(http)).toEqual([
      ['request_protocol', 'http'],
      ['response_code', '503'],
      ['grpc_response_status', ''],
      ['response_flags', 'UF'],
      ['connection_security_policy', 'mutual_tls'],
    ])
    const labels = new Map(answerLabels({ ...http, protocol: 'grpc', code: -1, grpcStatus: 14, flags: 0 }))
    expect([labels.get('response_code'), labels.get('grpc_response_status'), labels.get('response_flags')]).toEqual([
      '0',
      '14',
      '-',
    ])
    expect(answerLabels({ ...http, protocol: 'tcp' }).map(([name]) => name)).toEqual([
      'request_protocol',
      'response_flags',
      'connection_security_policy',
    ])
  })

  test('of overflow series are the same names', () => {
    const names = (labels: readonly (readonly [string, string])[]): string[] => labels.map(([name]) => name)
    expect(names(overflowLabels('gateway'))).toEqual(names(identityLabels(shop, undefined)))
    expect(overflowLabels('gateway')[0]).toEqual(['reporter', 'source'])
    for (const protocol of ['http', 'grpc', 'tcp'] as const) {
      const answer = { protocol, code: 200, grpcStatus: 0, flags: 0, policy: 'none' } as const
      expect(names(overflowAnswerLabels(protocol))).toEqual(names(answerLabels(answer)))
    }
  })

  test('flags are short names in Envoy’s order', () => {
    const bits = (...flags: Flag[]): number => flags.reduce((all, flag) => all | (1 << FLAGS.indexOf(flag)), 0)
    expect(flagsText(0)).toBe('-')
    expect(flagsText(bits('URX', 'UF'))).toBe('UF,URX')
    expect(flagsText(bits('DR', 'DO', 'DF', 'UDO', 'LH'))).toBe('LH,DF,DO,DR,UDO')
  })
})

describe('content negotiation', () => {
  const PROTOBUF = 'application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited'
  test.each([
    [undefined, 'text', 'text/plain; version=0.0.4; charset=utf-8'],
    ['', 'text', 'text/plain; version=0.0.4; charset=utf-8'],
    ['*/*', 'text', 'text/plain; version=0.0.4; charset=utf-8'],
    ['text/html, */*;q=0.1', 'text', 'text/plain; version=0.0.4; charset=utf-8'],
    ['application/json', 'text', 'text/plain; version=0.0.4; charset=utf-8'],
    ['application/openmetrics-text', 'openmetrics', 'application/openmetrics-text; version=1.0.0; charset=utf-8'],
    [
      'application/openmetrics-text; version=0.0.1,text/plain;q=0.5',
      'openmetrics',
      'application/openmetrics-text; version=0.0.1; charset=utf-8',
    ],
    [
      'application/openmetrics-text; version=2.0.0,text/plain;q=0.5',
      'text',
      'text/plain; version=0.0.4; charset=utf-8',
    ],
    [`${PROTOBUF};q=0`, 'text', 'text/plain; version=0.0.4; charset=utf-8'],
    [`text/plain;q=0.9,${PROTOBUF};q=0.1`, 'text', 'text/plain; version=0.0.4; charset=utf-8'],
    [
      'application/vnd.google.protobuf;proto=other;encoding=delimited',
      'text',
      'text/plain; version=0.0.4; charset=utf-8',
    ],
    [
      // Prometheus 3 with native histograms.
      `${PROTOBUF};escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1`,
      'protobuf',
      'application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=allow-utf-8',
    ],
    [
      // Prometheus 2.42 by default.
      'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1',
      'openmetrics',
      'application/openmetrics-text; version=1.0.0; charset=utf-8',
    ],
  ])('%s', (accept, exposition, contentType) => {
    expect(negotiate(accept)).toEqual({ exposition, contentType })
  })
})

test('numbers in OpenMetrics are as Go writes them', () => {
  expect([0.5, 1, 10_000, 600_000, 1_800_000, 3_600_000, 1e21, 12.25].map(openMetricsNumber)).toEqual([
    '0.5',
    '1.0',
    '10000.0',
    '600000.0',
    '1.8e+06',
    '3.6e+06',
    '1e+21',
    '12.25',
  ])
})

describe('the heaviest keys', () => {
  test('are found in fixed memory, their weight never too low and too high by little', () => {
    const sketch = new HeavyKeys()
    const random = seededRandom(4)
    const truth = new Map<string, number>()
    for (let k = 0; k < 50_000; k++) {
      const key = random() < 0.4 ? `heavy ${Math.floor(random() * 4)}` : `light ${Math.floor(random() * 1e6)}`
      truth.set(key, (truth.get(key) ?? 0) + 1)
      sketch.add(key, 1)
    }
    const top = sketch.top(4)
    expect(top.map(({ key }) => key).toSorted()).toEqual(['heavy 0', 'heavy 1', 'heavy 2', 'heavy 3'])
    for (const { key, weight, error } of top) {
      expect(weight).toBeGreaterThanOrEqual(truth.get(key)!)
      expect(weight - error).toBeLessThanOrEqual(truth.get(key)!)
      expect(weight).toBeLessThanOrEqual(truth.get(key)! * 1.01)
    }
    expect(sketch.top(1000).length).toBe(64)
    expect(sketch.weight).toBe(50_000)
  })
})
