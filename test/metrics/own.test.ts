import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { expect, it } from 'vitest'
import { systemClock } from '../../src/lib/clock.ts'
import { createOwnSampler, type MeshSeries } from '../../src/metrics/own.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { metricsRig, NOW_MS } from '../support/metrics.ts'

function rig() {
  const stats = metricsRig()
  const registry = new Registry()
  const mesh = new Map<number, { createdMs: number; count: number }>()
  const series = function* (): Generator<MeshSeries> {
    for (const [number, { createdMs, count }] of mesh) {
      yield {
        number,
        createdMs,
        count,
        labels: () => [
          ['reporter', 'destination'],
          ['n', String(number)],
        ],
        metrics: () => [
          { name: 'istio_requests_total', help: 'h', unit: '', type: 'counter', value: count },
          {
            name: 'istio_bytes',
            help: 'h',
            unit: 'bytes',
            type: 'histogram',
            bounds: [1, 2],
            counts: [count, 0, 1],
            sum: 9,
          },
        ],
      }
    }
  }
  const sampler = createOwnSampler({
    store: stats.metrics,
    clock: { ...systemClock, now: () => stats.clock.ms },
    log: silentLog,
    everyMs: 15_000,
    instance: () => '127.0.0.1:8080',
    process: () => registry.getMetricsAsJSON(),
    mesh: series,
    startedMs: NOW_MS - 1000,
  })
  const tick = async () => {
    await sampler.sample()
    stats.flush()
    stats.clock.ms += 15_000
  }
  const rowsOf = (name: string, table: 'samples' | 'histograms' = 'samples') => {
    const ids = stats.tables.series.filter((row) => row.name === name).map(({ id }) => id)
    return stats.tables[table].filter((row) => ids.includes(row.series!))
  }
  return { ...stats, registry, mesh, tick, rowsOf }
}

it('stores counters, gauges and histograms of the process', async () => {
  const { registry, tick, rowsOf, tables } = rig()
  new Counter({ name: 'c_total', help: 'c', labelNames: ['k'], registers: [registry] }).inc({ k: 'v' }, 3)
  new Gauge({ name: 'g', help: 'g', registers: [registry] }).set(-2)
  const histogram = new Histogram({ name: 'h', help: 'h', buckets: [1, 10], labelNames: ['k'], registers: [registry] })
  for (const value of [0.5, 5, 5, 50]) histogram.observe({ k: 'v' }, value)
  await tick()
  expect(rowsOf('c_total')).toMatchObject([{ time: NOW_MS, value: 3, start: NOW_MS - 1000 }])
  expect(rowsOf('g')).toMatchObject([{ value: -2 }])
  expect(rowsOf('h', 'histograms')).toMatchObject([{ count: 4, sum: 60.5, bounds: [1, 10], bound_counts: [1, 2, 1] }])
  expect(tables.series.find(({ name }) => name === 'c_total')!.labels).toEqual(
    new Map([
      ['instance', '127.0.0.1:8080'],
      ['job', 'sidecast'],
      ['k', 'v'],
    ]),
  )
})

it('stores label sets of the mesh while they change, once a minute while they rest, and how they were before they go on', async () => {
  const { mesh, tick, rowsOf } = rig()
  mesh.set(7, { createdMs: NOW_MS - 5, count: 1 })
  const counts = [1, 2, 2, 2, 2, 2, 2, 9, 9]
  for (const count of counts) {
    mesh.set(7, { createdMs: NOW_MS - 5, count })
    await tick()
  }
  expect(rowsOf('istio_requests_total').map((row) => [(Number(row.time) - NOW_MS) / 15_000, row.value])).toEqual([
    [0, 1],
    [1, 2],
    [5, 2],
    [6, 2],
    [7, 9],
  ])
  expect(rowsOf('istio_bytes', 'histograms').map((row) => row.count)).toEqual([2, 3, 3, 3, 10])
})

it('marks the end of a label set, but not of one that ended and came again', async () => {
  const { mesh, tick, rowsOf } = rig()
  mesh.set(0, { createdMs: NOW_MS - 5, count: 4 })
  await tick()
  mesh.set(0, { createdMs: NOW_MS + 9000, count: 1 })
  await tick()
  mesh.delete(0)
  await tick()
  await tick()
  expect(rowsOf('istio_requests_total').map((row) => [row.value, row.stale ?? 0])).toEqual([
    [4, 0],
    [1, 0],
    [undefined, 1],
  ])
})

it('stores gauges, native buckets beside classic ones, and metrics that a label set gets later', async () => {
  const stats = metricsRig()
  let grpc = false
  const native = {
    schema: 6,
    buckets: [
      [-3, 2],
      [1, 4],
    ] as const,
  }
  const sampler = createOwnSampler({
    store: stats.metrics,
    clock: { ...systemClock, now: () => stats.clock.ms },
    log: silentLog,
    everyMs: 15_000,
    instance: () => 'i',
    process: async () => [],
    mesh: () => [
      {
        number: 1,
        createdMs: NOW_MS,
        count: grpc ? 8 : 7,
        labels: () => [['reporter', 'destination']],
        metrics: () => [
          {
            name: 'latency',
            help: 'h',
            unit: 'ms',
            type: 'histogram',
            bounds: [1, 2],
            counts: [3, 0, 4],
            sum: 9,
            native,
          },
          ...(grpc ? [{ name: 'messages_total', help: 'h', unit: '', type: 'counter', value: 5 } as const] : []),
        ],
      },
      {
        number: 2,
        createdMs: 1,
        count: 2,
        labels: () => [['tag', '1.29']],
        metrics: () => [{ name: 'istio_build', help: 'h', unit: '', type: 'gauge', value: 2 }],
      },
    ],
    startedMs: NOW_MS,
  })
  await sampler.sample()
  grpc = true
  stats.clock.ms += 15_000
  await sampler.sample()
  stats.flush()
  const { series, samples, histograms } = stats.tables
  const nameOf = (id: unknown) => series.find((row) => row.id === id)?.name
  expect(samples.map((row) => [nameOf(row.series), row.value])).toEqual([
    ['istio_build', 2],
    ['messages_total', 5],
  ])
  expect(histograms).toHaveLength(2)
  expect(histograms[1]).toMatchObject({ scale: 6, count: 7, zero_count: 1, zero_threshold: 2 ** -128 })
  expect([...(histograms[1]!.buckets as unknown as Map<number, number>)]).toEqual([
    [-3, 2],
    [1, 4],
  ])
  expect([histograms[1]!.bounds, histograms[1]!.bound_counts]).toEqual([
    [1, 2],
    [3, 0, 4],
  ])
})

it('stores no more series of the mesh than it may, those that were there first, and what overflows always', async () => {
  const stats = metricsRig()
  let from = 0
  const one = (number: number, overflow = false): MeshSeries => ({
    number,
    createdMs: NOW_MS,
    count: 1,
    overflow,
    labels: () => [['n', String(number)]],
    metrics: () => [{ name: 'x_total', help: '', unit: '', type: 'counter', value: 1 }],
  })
  const sampler = createOwnSampler({
    store: stats.metrics,
    clock: { ...systemClock, now: () => stats.clock.ms },
    log: silentLog,
    everyMs: 15_000,
    instance: () => 'i',
    process: async () => [],
    mesh: () => [0, 1, 2, 3, 4].map((k) => one(from + k)).concat(one(99, true)),
    meshSeriesMax: 3,
    startedMs: NOW_MS,
  })
  await sampler.sample()
  const stored = () =>
    [...stats.metrics.latest({ name: 'x_total' })]
      .filter(({ stale }) => !stale)
      .map(({ series }) => series.labels.find(([name]) => name === 'n')?.[1])
  expect(stored().toSorted()).toEqual(['0', '1', '2', '99'])
  // Those that end make room.
  from = 2
  stats.clock.ms += 15_000
  await sampler.sample()
  stats.clock.ms += 15_000
  await sampler.sample()
  expect(stored().toSorted()).toEqual(['2', '3', '4', '99'])
})
