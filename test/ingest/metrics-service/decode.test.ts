import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { createMessageReader, METRIC_TYPE, type MetricReader } from '../../../src/ingest/metrics-service/decode.ts'
import { framed } from '../../support/metrics-frames.ts'
import { metricFamily, metricsMessage } from '../../support/metrics-message.ts'
import { bytes, message } from '../../support/wire.ts'

interface Expected {
  readonly message: number
  readonly families?: number
  readonly index?: number
  readonly family?: {
    readonly name: string
    readonly type: string
    readonly metric: readonly {
      readonly label?: readonly { readonly name: string; readonly value: string }[]
      readonly timestamp_ms: string
      readonly [value: string]: unknown
    }[]
  }
  readonly [key: string]: unknown
}

const text = (buffer: Uint8Array, from: number, to: number): string => Buffer.from(buffer.subarray(from, to)).toString()

/** A metric in the form of the expected values. */
function seen(metric: MetricReader): unknown {
  const { bytes: source, labels, labelCount } = metric
  const label = Array.from({ length: labelCount }, (_, k) => ({
    name: text(source, labels[4 * k]!, labels[4 * k + 1]!),
    value: text(source, labels[4 * k + 2]!, labels[4 * k + 3]!),
  }))
  const points = Array.from({ length: metric.points }, (_, k) => [metric.at[k]!, metric.of[k]!] as const)
  const figures = { sample_count: String(metric.count), sample_sum: metric.sum }
  const values = {
    [METRIC_TYPE.counter]: { counter: { value: metric.value } },
    [METRIC_TYPE.gauge]: { gauge: { value: metric.value } },
    [METRIC_TYPE.summary]: {
      summary: { ...figures, quantile: points.map(([quantile, value]) => ({ quantile, value })) },
    },
    [METRIC_TYPE.histogram]: {
      histogram: {
        ...figures,
        bucket: points.map(([bound, count]) => ({ cumulative_count: String(count), upper_bound: bound })),
      },
    },
  } as Record<number, object>
  return {
    name: text(source, metric.nameFrom, metric.nameTo),
    type: ['COUNTER', 'GAUGE', 'SUMMARY', 'UNTYPED', 'HISTOGRAM'][metric.type],
    metric: [{ ...values[metric.type], ...(label.length > 0 && { label }), timestamp_ms: String(metric.timestampMs) }],
  }
}

/** NaN is text in JSON. */
const unquoted = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value), (_key, part) => (part === 'NaN' ? null : part))

test('messages of a real Envoy are read as the official library reads them', () => {
  const folder = new URL('../../fixtures/metrics-service/', import.meta.url)
  const expected = readFileSync(new URL('metrics-service.expected.jsonl', folder), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Expected)
  const reader = createMessageReader()
  let compared = 0
  let identifiers = 0
  for (const [k, frame] of framed(readFileSync(new URL('metrics-service.bin', folder))).entries()) {
    const metrics: unknown[] = []
    const types = new Map<number, number>()
    const result = reader.read(frame, 0, frame.length, {
      onIdentifier: () => identifiers++,
      onMetric(metric) {
        metrics.push(seen(metric))
        types.set(metric.type, (types.get(metric.type) ?? 0) + 1)
      },
    })
    const counts = expected.find((line) => line.message === k && line.families !== undefined)!
    expect(result).toMatchObject({ families: counts.families, metrics: counts.families, rejected: 0 })
    for (const type of [0, 1, 2, 4]) expect(types.get(type) ?? 0).toBe(counts[`type_${type}`] ?? 0)
    for (const line of expected) {
      if (line.message !== k || line.family === undefined) continue
      expect(unquoted(metrics[line.index!])).toEqual(unquoted(line.family))
      compared++
    }
  }
  expect(identifiers).toBe(1)
  expect(compared).toBeGreaterThan(180)
})

test('a vector of the reference', () => {
  const vector = Buffer.from(
    'EngKGGNsdXN0ZXIudXBzdHJlYW1fcnFfdGltZRgEIloKHQoSZW52b3kuY2x1c3Rlcl9uYW1lEgdiYWNrZW5kMIj36ra3MzoyCAMRAAAAAADATkAaCwgAEQAAAAAAAOA/GgsIAhEAAAAAAAA5QBoLCAMRAAAAAAAASUA=',
    'base64',
  )
  const metrics: unknown[] = []
  createMessageReader().read(vector, 0, vector.length, {
    onIdentifier() {},
    onMetric: (metric) => metrics.push(seen(metric)),
  })
  expect(metrics).toEqual([
    {
      name: 'cluster.upstream_rq_time',
      type: 'HISTOGRAM',
      metric: [
        {
          label: [{ name: 'envoy.cluster_name', value: 'backend' }],
          timestamp_ms: '1767225605000',
          histogram: {
            sample_count: '3',
            sample_sum: 61.5,
            bucket: [
              { cumulative_count: '0', upper_bound: 0.5 },
              { cumulative_count: '2', upper_bound: 25 },
              { cumulative_count: '3', upper_bound: 50 },
            ],
          },
        },
      ],
    },
  ])
})

const good = metricFamily({ name: 'good', type: 'counter', value: 7 })
const cut = good.subarray(0, good.length - 3)

test.each([
  ['a family that is cut', message(bytes(2, cut), bytes(2, good)), 1, 'malformed'],
  ['a message that is cut', message(bytes(2, good), bytes(2, good).subarray(0, 9)), 1, 'malformed'],
  ['a metric without a value', message(bytes(2, message(bytes(1, 'x'), bytes(4, ''))), bytes(2, good)), 1, 'no_value'],
  [
    'a name of ten thousand bytes',
    message(bytes(2, metricFamily({ name: 'n'.repeat(10_000), type: 'gauge' })), bytes(2, good)),
    1,
    'oversized',
  ],
  [
    'two hundred labels',
    message(
      bytes(
        2,
        metricFamily({ name: 'x', type: 'gauge', labels: Array.from({ length: 200 }, (_, k) => [`l${k}`, 'v']) }),
      ),
      bytes(2, good),
    ),
    1,
    'oversized',
  ],
  ['unknown fields', message(bytes(9, 'later'), bytes(2, message(good, bytes(12, 'later')))), 0, null],
])('%s costs only itself', (_what, input, rejected, reason) => {
  const names: string[] = []
  const result = createMessageReader().read(input, 0, input.length, {
    onIdentifier() {},
    onMetric: (metric) => names.push(text(metric.bytes, metric.nameFrom, metric.nameTo)),
  })
  expect(result).toMatchObject({ rejected, reason })
  expect(names).toEqual(['good'])
})

test('keys tell metrics apart by type, name and labels', () => {
  const keys = new Set<string>()
  const input = metricsMessage([
    { name: 'a', type: 'counter' },
    { name: 'a', type: 'gauge' },
    { name: 'a', type: 'gauge', labels: [['x', '1']] },
    { name: 'a', type: 'gauge', labels: [['x', '2']] },
    { name: 'a', type: 'summary' },
    { name: 'a', type: 'histogram' },
    { name: 'a', type: 'counter', value: 5 },
  ])
  createMessageReader().read(input, 0, input.length, {
    onIdentifier() {},
    onMetric: ({ key, keyLength }) => keys.add(Buffer.from(key.subarray(0, keyLength)).toString('hex')),
  })
  expect(keys.size).toBe(5)
})
