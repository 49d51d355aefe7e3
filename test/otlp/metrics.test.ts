import { describe, expect, test } from 'vitest'
import { bucketOf } from '../../src/model/buckets.ts'
import { readBlock } from '../../src/model/native-read.ts'
import { PHASES } from '../../src/model/phases.ts'
import { denseOf, type MetricRequestsOptions, metricRequests } from '../../src/otlp/metric-requests.ts'
import { splitRequest } from '../../src/otlp/split.ts'
import { createRollupAggregate } from '../../src/pipeline/rollup-aggregate.ts'
import { type PointRead, pointsOf } from '../support/otlp-proto.ts'
import { type Fill, makeRows } from '../support/otlp-rows.ts'

const SOURCES = ['', 'source', 'destination'] as const

/** Requests of a few services, with durations over six decades. */
const row =
  (k: number): Fill =>
  (entry) => {
    entry.startSeconds = 1_767_225_600
    entry.durationNs = durationOf(k)
    entry.rxEndNs = 0
    entry.upTxBeginNs = Math.min(500, entry.durationNs)
    entry.upRxBeginNs = Math.floor(entry.durationNs / 2)
    entry.downTxEndNs = entry.durationNs
    entry.code = k % 9 === 0 ? 503 : 200
    entry.flags = k % 9 === 0 ? 'UF' : ''
    entry.responseCodeDetails = k % 9 === 0 ? 'upstream_reset' : 'via_upstream'
    entry.method = k % 3 === 0 ? 'POST' : 'GET'
    entry.attempts = 1 + (k % 2)
    entry.downstreamWireReceived = 100
    entry.downstreamWireSent = 1000 + k
    entry.upstreamCluster = 'x'
    entry.reporter = SOURCES[k % 2 === 0 ? 1 : 2]
    entry.source.set('workload', 'web')
    entry.source.set('namespace', 'shop')
    entry.destination.set('service', `svc-${k % 4}`)
    entry.destination.set('namespace', 'shop')
  }
const durationOf = (k: number): number => (k === 0 ? 0 : Math.floor(10 ** (3 + (k % 300) / 50)))

const COUNT = 600
const ROLLUP = readBlock('latency_1m', makeRows(Array.from({ length: COUNT }, (_, k) => row(k))).rollup).block
function points(options: Partial<MetricRequestsOptions> = {}): PointRead[] {
  return requests(options).flatMap(({ bytes, items }) => {
    const read = pointsOf(bytes)
    expect(read.length).toBe(items)
    return read
  })
}

function requests(options: Partial<MetricRequestsOptions> = {}) {
  const aggregate = createRollupAggregate()
  aggregate.addBlock(ROLLUP)
  return [
    ...metricRequests({
      aggregate,
      fromMs: 1_767_225_600_000,
      toMs: 1_767_225_660_000,
      phases: true,
      bucketsMax: 4096,
      bytesMax: 1 << 20,
      version: '1.2.3',
      ...options,
    }),
  ]
}

describe('metrics of an interval', () => {
  test('durations: every request once, in the bucket that OTLP gives it, with exact figures', () => {
    const all = points().filter(({ name }) => /^http\..*duration$/.test(name))
    const rows = Array.from({ length: COUNT }, (_, k) => k)
    for (const point of all) {
      expect(point).toMatchObject({
        unit: 's',
        temporality: 1,
        start: 1_767_225_600_000_000_000n,
        end: 1_767_225_660_000_000_000n,
      })
      const client = point.name === 'http.client.request.duration'
      expect(point.attributes['sidecast.reporter']).toBe(client ? 'source' : 'destination')
      const service = point.attributes['sidecast.destination.service']
      expect(point.resource['service.name']).toBe(client ? 'web' : service)
      const mine = rows.filter(
        (k) =>
          (k % 2 === 0) === client &&
          service === `svc-${k % 4}` &&
          (k % 3 === 0 ? 'POST' : 'GET') === point.attributes['http.request.method'] &&
          (k % 9 === 0) === (point.attributes['error.type'] === 'server_error'),
      )
      const ns = mine.map(durationOf)
      const { scale, count, sum, min, max, zeroCount, offset, counts } = point.histogram!
      expect(count).toBe(mine.length)
      expect(sum).toBeCloseTo(ns.reduce((total, value) => total + value, 0) / 1e9, 9)
      expect([min, max]).toEqual([Math.min(...ns) / 1e9, Math.max(...ns) / 1e9])
      expect(scale).toBe(6)
      const expected = new Map<number, number>()
      for (const value of ns) {
        if (value === 0) continue
        // The definition of OTLP, in floating point; edges in whole ns are a test of their own.
        const index = Math.ceil(Math.log2(value / 1e9) * 64) - 1
        expected.set(index, (expected.get(index) ?? 0) + 1)
      }
      const got = new Map(counts.flatMap((n, k) => (n === 0 ? [] : [[offset + k, n] as const])))
      expect([...got].sort(([a], [b]) => a - b)).toEqual([...expected].sort(([a], [b]) => a - b))
      expect(zeroCount).toBe(ns.filter((value) => value === 0).length)
    }
    expect(all.reduce((sum, { histogram }) => sum + histogram!.count, 0)).toBe(COUNT)
  })

  test('phases add up to the durations', () => {
    const all = points()
    const sum = (of: (point: PointRead) => boolean) =>
      all.filter(of).reduce((total, { histogram }) => total + histogram!.sum, 0)
    expect(sum(({ name }) => name === 'sidecast.phase.duration')).toBeCloseTo(
      sum(({ name }) => name.startsWith('http.')),
      6,
    )
    const phases = new Set(all.flatMap(({ attributes }) => attributes['sidecast.phase'] ?? []))
    expect(phases).toEqual(new Set(PHASES))
    expect(points({ phases: false }).some(({ name }) => name === 'sidecast.phase.duration')).toBe(false)
  })

  test('attempts, bytes and flags are monotonic sums of the interval', () => {
    const all = points()
    const total = (name: string) =>
      all.filter((point) => point.name === name).reduce((sum, { value }) => sum + (value ?? 0), 0)
    expect(total('sidecast.upstream.attempts')).toBe(1.5 * COUNT)
    expect(total('sidecast.request.bytes')).toBe(100 * COUNT)
    expect(total('sidecast.response.bytes')).toBe(1000 * COUNT + (COUNT * (COUNT - 1)) / 2)
    expect(total('sidecast.response_flags')).toBe(Math.ceil(COUNT / 9))
    for (const { value, temporality, monotonic } of all.filter((point) => point.value !== null)) {
      expect([temporality, monotonic, value! > 0]).toEqual([1, true, true])
    }
  })

  test('requests are no larger than asked for, and halves have all points', () => {
    const small = requests({ bytesMax: 4000 })
    expect(small.length).toBeGreaterThan(5)
    for (const { bytes } of small) expect(bytes.length).toBeLessThan(4000 + 8000)
    const names = (read: readonly PointRead[]) =>
      read.map((point) => JSON.stringify([point.name, point.attributes])).sort()
    expect(names(small.flatMap(({ bytes }) => pointsOf(bytes)))).toEqual(names(points()))
    const [whole] = requests()
    const halves = splitRequest(whole!)!
    expect(halves.map(({ items }) => items).reduce((a, b) => a + b)).toBe(whole!.items)
    expect(names(halves.flatMap(({ bytes }) => pointsOf(bytes)))).toEqual(names(pointsOf(whole!.bytes)))
  })
})

describe('buckets', () => {
  test('the upper edge of a bucket of ours is that of OTLP’s', () => {
    // 1 s is 2^0: OTLP's bucket −1, which ends there; the next ns begins bucket 0.
    const at = (ns: number) => denseOf([bucketOf(ns)], [1], { bucketsMax: 10 }).offset
    expect([at(1e9), at(1e9 + 1), at(2e9), at(2e9 + 1)]).toEqual([-1, 0, 63, 64])
  })

  test('wide histograms are told at a lower scale, by the rule of OTLP', () => {
    const buckets = [-100, -99, 0, 1, 2, 3, 300]
    const dense = denseOf(buckets, [1, 2, 4, 8, 16, 32, 64], { bucketsMax: 101 })
    expect(dense.scale).toBe(4)
    const expected = new Map<number, number>()
    for (const [k, bucket] of buckets.entries()) {
      const index = Math.floor((bucket - 1) / 4)
      expected.set(index, (expected.get(index) ?? 0) + 2 ** k)
    }
    expect(dense.counts.flatMap((n, k) => (n === 0 ? [] : [[dense.offset + k, n]]))).toEqual([...expected])
    expect(dense.counts.length).toBeLessThanOrEqual(101)
  })
})
