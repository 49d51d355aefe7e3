import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { createNodeReader } from '../../../src/ingest/als/node.ts'
import type { StreamHandler, StreamingMethod } from '../../../src/ingest/grpc/service.ts'
import {
  createMetricsServiceReceiver,
  type MetricsServiceOptions,
} from '../../../src/ingest/metrics-service/receiver.ts'
import { createEnvoyNames } from '../../../src/metrics/envoy-names.ts'
import { ISTIO_TAGS } from '../../../src/metrics/istio-tags.ts'
import { createMemoryMetrics } from '../../support/memory-metrics.ts'
import { framed } from '../../support/metrics-frames.ts'
import { type FamilyParts, metricsMessage } from '../../support/metrics-message.ts'
import { identifier } from '../../support/wire.ts'

const NOW = 1_795_231_460_000

function setUp(options: Partial<MetricsServiceOptions> = {}) {
  const recorder = createMemoryMetrics()
  const receiver = createMetricsServiceReceiver({
    metrics: recorder.store,
    nodes: createNodeReader(),
    names: { envoy: createEnvoyNames(), istio: createEnvoyNames({ rules: ISTIO_TAGS }) },
    gate: { closed: false, onOpen() {} },
    clock: () => NOW,
    ...options,
  })
  const open = (peer = '10.0.0.1:4000'): StreamHandler => {
    const { open } = receiver.services[0]!.methods.StreamMetrics as StreamingMethod
    return open({ peer, path: '', headers: {}, openedMs: NOW })
  }
  const send = (stream: StreamHandler, families: readonly FamilyParts[], node?: string): void => {
    const message = metricsMessage(families, node === undefined ? undefined : identifier({ id: node }))
    expect(stream.onMessage(message, 0, message.length)).toBeNull()
  }
  const value = (series: string): number | undefined => recorder.series.get(series)?.value
  return { recorder, receiver, open, send, value }
}

const counter = (name: string, value: number, timestampMs: number): FamilyParts => ({
  name,
  type: 'counter',
  value,
  timestampMs,
})

test('both paths are served', () => {
  expect(setUp().receiver.services.map(({ name }) => name)).toEqual([
    'envoy.service.metrics.v3.MetricsService',
    'envoy.service.metrics.v2.MetricsService',
  ])
})

test('recorded messages: names, labels, node; increases are added up; every histogram once', () => {
  const { recorder, receiver, open } = setUp()
  const file = readFileSync(new URL('../../fixtures/metrics-service/metrics-service.bin', import.meta.url))
  const stream = open()
  const messages = framed(file)
  for (const message of messages) stream.onMessage(message, 0, message.length)
  stream.onClose()
  const page = readFileSync(new URL('../../fixtures/stats/stats-prometheus.txt', import.meta.url), 'utf8')
  const known = new Set([...page.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => `${name} ${type}`))
  for (const { identity } of recorder.series.values()) {
    expect(known).toContain(`${identity.name} ${identity.type}`)
    expect(identity).toMatchObject({ job: 'envoy-metrics-service', instance: 'edge-1' })
  }
  expect(receiver.streams()).toEqual([])
  expect(receiver.counters).toMatchObject({ messages: messages.length, notFinite: 0, uncached: 0 })
  expect(receiver.counters.rejected.size).toBe(0)
  // The sink sends increases: 20 listeners were made at the start, and none later.
  const made = recorder.series.get('envoy_listener_manager_listener_create_success{}')!
  expect(made.value).toBe(20)
  expect(made.writes).toBeGreaterThan(1)
  const times = recorder.series.get('envoy_cluster_upstream_rq_time{envoy_cluster_name="recv_otlp"}')!
  expect(times.distributions[0]).toMatchObject({ kind: 'explicit', temporality: 'delta' })
  const [first] = times.distributions
  expect(first?.kind === 'explicit' && first.bounds).toHaveLength(19)
  expect(receiver.counters.summariesBeside).toBeGreaterThan(20)
  // One look-up for each series: later messages find what they know by its bytes.
  expect(recorder.lookups()).toBeLessThan(recorder.series.size + 100)
})

test('names without labels get the tags that Envoy would give them', () => {
  const { open, send, value } = setUp()
  send(
    open(),
    [counter('cluster.web.upstream_rq_200', 3, NOW), { name: 'server.live', type: 'gauge', value: 1 }],
    'edge-1',
  )
  expect(value('envoy_cluster_upstream_rq{envoy_cluster_name="web",envoy_response_code="200"}')).toBe(3)
  expect(value('envoy_server_live{}')).toBe(1)
})

test("names of Istio's proxies get Istio's tags", () => {
  const { open, send, value } = setUp()
  send(
    open(),
    [counter('cluster.outbound|80||web.shop.svc.cluster.local;.upstream_rq_200', 3, NOW)],
    'sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local',
  )
  expect(
    value('envoy_cluster_upstream_rq{cluster_name="outbound|80||web.shop.svc.cluster.local",response_code="200"}'),
  ).toBe(3)
})

test('with labels a name is taken as it is, also one that looks as if there were tags in it', () => {
  const { open, send, value } = setUp()
  send(
    open(),
    [
      counter('cluster.web.upstream_rq_total', 1, NOW),
      { ...counter('cluster.upstream_rq_total', 2, NOW), labels: [['service', 'api']] },
      counter('cluster.web.upstream_cx_total', 3, NOW),
    ],
    'edge-1',
  )
  expect(value('envoy_cluster_upstream_rq_total{service="api"}')).toBe(2)
  expect(value('envoy_cluster_web_upstream_cx_total{}')).toBe(3)
})

test('increases are told from totals, and nothing is lost on the way', () => {
  const { open, send, value, receiver } = setUp()
  const stream = open()
  send(stream, [counter('started', 20, NOW), counter('rq', 5, NOW), counter('late', 1, NOW)], 'edge-1')
  expect(receiver.streams()[0]!.counterMode).toBe('unknown')
  send(stream, [counter('rq', 7, NOW + 5000), counter('started', 0, NOW + 5000), counter('late', 4, NOW + 5000)])
  expect(receiver.streams()[0]!.counterMode).toBe('delta')
  send(stream, [counter('rq', 2, NOW + 10_000), counter('started', 0, NOW + 10_000)])
  expect(value('envoy_rq{}')).toBe(14)
  expect(value('envoy_started{}')).toBe(20)
  expect(value('envoy_late{}')).toBe(5)
  // A new stream of the same node goes on at once.
  stream.onClose()
  send(open(), [counter('rq', 100, NOW + 15_000)], 'edge-1')
  expect(value('envoy_rq{}')).toBe(114)
})

test('totals stay totals, and fall only when the process is another one', () => {
  const { open, send, value, receiver } = setUp()
  const stream = open()
  for (let k = 0; k < 8; k++) send(stream, [counter('rq', 10 * k, NOW + 5000 * k)], k === 0 ? 'edge-1' : undefined)
  expect(receiver.streams()[0]!.counterMode).toBe('absolute')
  expect(value('envoy_rq{}')).toBe(70)
  stream.onClose()
  send(open(), [counter('rq', 3, NOW + 60_000)], 'edge-1')
  expect(value('envoy_rq{}')).toBe(3)
})

test('the way of counting can be said', () => {
  const { open, send, value } = setUp({ counterValues: 'delta' })
  const stream = open()
  send(stream, [counter('rq', 5, NOW)], 'edge-1')
  send(stream, [counter('rq', 5, NOW + 5000)])
  expect(value('envoy_rq{}')).toBe(10)
})

test('a flush in several messages (batch_size): a summary and its histogram may come apart', () => {
  const { open, send, recorder, receiver } = setUp()
  const stream = open()
  const figures = { count: 3, sum: 61.5, timestampMs: NOW }
  send(stream, [{ name: 'time', type: 'summary', points: [[0.5, 20]], ...figures }], 'edge-1')
  send(stream, [
    {
      name: 'time',
      type: 'histogram',
      points: [
        [25, 2],
        [50, 3],
      ],
      ...figures,
    },
  ])
  const time = recorder.series.get('envoy_time{}')!
  expect(time.distributions).toEqual([
    { kind: 'explicit', temporality: 'delta', count: 3, sum: 61.5, bounds: [25, 50], counts: Float64Array.of(2, 1, 0) },
  ])
  expect(receiver.counters.summariesBeside).toBe(1)
})

test('summaries alone are stored as what they are', () => {
  const { open, send, recorder } = setUp()
  const stream = open()
  send(stream, [
    {
      name: 'a',
      type: 'summary',
      count: 2,
      sum: 9,
      points: [
        [0.5, 4],
        [1, 5],
      ],
      timestampMs: NOW,
    },
    { name: 'b', type: 'summary', count: 0, points: [[0.5, Number.NaN]], timestampMs: NOW },
  ])
  stream.onClose()
  expect(recorder.series.get('envoy_a{}')!.distributions).toEqual([
    {
      kind: 'summary',
      temporality: 'delta',
      count: 2,
      sum: 9,
      quantiles: [
        [0.5, 4],
        [1, 5],
      ],
    },
  ])
  expect(recorder.series.get('envoy_b{}')!.distributions).toEqual([
    { kind: 'summary', temporality: 'delta', count: 0, sum: 0, quantiles: [] },
  ])
})

test('what cannot be a value is counted and costs nothing else; senders without a name are their address', () => {
  const { open, send, receiver, recorder } = setUp()
  const stream = open('[::1]:5000')
  send(stream, [
    { name: 'a', type: 'gauge', value: Number.NaN },
    counter('b', -1, NOW),
    counter('c', Number.POSITIVE_INFINITY, NOW),
    counter('d', 1, NOW),
  ])
  stream.onMessage(Buffer.from([0x12, 0x05, 1]), 0, 3)
  expect(receiver.counters.notFinite).toBe(3)
  expect(recorder.series.get('envoy_d{}')!.identity.instance).toBe('::1')
  expect([...receiver.counters.rejected]).toEqual([['malformed', 1]])
  expect(receiver.rejected()[0]).toMatchObject({ reason: 'malformed', count: 1 })
})
