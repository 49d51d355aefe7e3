import fc from 'fast-check'
import { expect, it } from 'vitest'
import { canonicalLabels, keyOfSorted, seriesKey } from '../../src/metrics/series.ts'
import { identity, metricsRig, NOW_MS } from '../support/metrics.ts'

it('is the same series whatever the order of labels, and empty values are no labels', () => {
  const { metrics } = metricsRig()
  const a = metrics.series(
    identity({
      labels: [
        ['a', '1'],
        ['b', '2'],
        ['c', ''],
      ],
    }),
  )
  expect(
    metrics.series(
      identity({
        labels: [
          ['b', '2'],
          ['a', '1'],
        ],
      }),
    ),
  ).toBe(a)
  expect(
    metrics.series(
      identity({
        labels: [
          ['b', '2'],
          ['a', '1'],
          ['c', '3'],
        ],
      }),
    ),
  ).not.toBe(a)
  expect(a.labels).toEqual([
    ['a', '1'],
    ['b', '2'],
    ['instance', 'node-1'],
    ['job', 'envoy-statsd'],
  ])
})

it('has one key for sorted labels, however it is made', () => {
  const names = fc.constantFrom('a', 'instance', 'instancf', 'j', 'job', 'joc', 'z', 'Z', '')
  const texts = fc.constantFrom('', 'x', '\u0000', 'y\u00001')
  const labels = fc.array(fc.tuple(names, texts), { maxLength: 6 })
  fc.assert(
    fc.property(labels, texts, texts, fc.boolean(), (some, job, instance, sorted) => {
      const all = sorted ? some.toSorted(([a], [b]) => (a < b ? -1 : 1)) : some
      const one = identity({ labels: all, job, instance })
      const key = keyOfSorted(one)
      if (key !== null) expect(key).toBe(seriesKey(one.name, canonicalLabels(one)))
    }),
    { numRuns: 2000 },
  )
  expect(
    keyOfSorted(
      identity({
        labels: [
          ['a', '1'],
          ['k', '2'],
        ],
      }),
    ),
  ).not.toBeNull()
  expect(
    keyOfSorted(
      identity({
        labels: [
          ['k', '2'],
          ['a', '1'],
        ],
      }),
    ),
  ).toBeNull()
})

it('keeps series of two ways apart, and of labels that only look alike', () => {
  const { metrics } = metricsRig()
  const seen = new Set([
    metrics.series(identity()),
    metrics.series(identity({ job: 'envoy-scrape' })),
    metrics.series(identity({ instance: 'node-2' })),
    metrics.series(identity({ labels: [['a', 'b\u0000c\u00001\u0000d']] })),
    metrics.series(
      identity({
        labels: [
          ['a', 'b'],
          ['c', 'd'],
        ],
      }),
    ),
  ])
  expect(seen.size).toBe(5)
})

it('writes absolute counters as they are, with the series before them', async () => {
  const { metrics, tables, samples } = metricsRig()
  const series = metrics.series(identity({ unit: 'requests', help: 'All of them' }))
  metrics.setCounter(series, NOW_MS, 10)
  metrics.setCounter(series, NOW_MS + 5000, 25)
  await metrics.synced()
  expect(samples()).toEqual([
    { at: 0, value: 10 },
    { at: 5000, value: 25 },
  ])
  expect(tables.series).toEqual([
    {
      id: tables.samples[0]!.series,
      name: 'envoy_cluster_upstream_rq_total',
      labels: new Map([
        ['envoy_cluster_name', 'backend'],
        ['instance', 'node-1'],
        ['job', 'envoy-statsd'],
      ]),
      job: 'envoy-statsd',
      instance: 'node-1',
      type: 'counter',
      unit: 'requests',
      help: 'All of them',
      time: NOW_MS,
      segment: '0-abc-1',
    },
  ])
  expect([...metrics.latest({ name: series.name })]).toMatchObject([{ value: 25, timeMs: NOW_MS + 5000, resets: 0 }])
})

it('tells the series again on another day, and only then', async () => {
  const { metrics, tables, clock } = metricsRig()
  const series = metrics.series(identity())
  metrics.setCounter(series, NOW_MS, 1)
  metrics.setCounter(series, NOW_MS + 1000, 2)
  clock.ms += 86_400_000
  await metrics.synced()
  metrics.setCounter(series, NOW_MS + 86_400_000, 3)
  metrics.setCounter(series, NOW_MS + 2000, 2)
  await metrics.synced()
  expect(tables.series.map(({ time }) => Number(time) - NOW_MS)).toEqual([0, 86_400_000])
})

it('sees resets by a decrease and by a later start, and says since when a counter counts', async () => {
  const { metrics, tables } = metricsRig()
  const series = metrics.series(identity())
  metrics.setCounter(series, NOW_MS, 10)
  metrics.setCounter(series, NOW_MS + 1000, 4)
  metrics.setCounter(series, NOW_MS + 2000, 9, NOW_MS + 1500)
  metrics.setCounter(series, NOW_MS + 3000, 9, NOW_MS + 1500)
  await metrics.synced()
  expect(tables.samples.map(({ start }) => (Number(start) === 0 ? null : Number(start) - NOW_MS))).toEqual([
    null,
    1,
    1500,
    1500,
  ])
  expect([...metrics.latest({ name: series.name })]).toMatchObject([{ resets: 2, startMs: NOW_MS + 1500 }])
})

it('drops a value that comes twice, and keeps one that comes late', async () => {
  const { metrics, samples } = metricsRig()
  const series = metrics.series(identity())
  metrics.setCounter(series, NOW_MS + 5000, 5)
  metrics.setCounter(series, NOW_MS + 5000, 5)
  metrics.setCounter(series, NOW_MS, 3)
  await metrics.synced()
  expect(samples()).toEqual([
    { at: 5000, value: 5 },
    { at: 0, value: 3 },
  ])
  expect(metrics.counters).toMatchObject({ duplicates: 1, outOfOrder: 1, resets: 0 })
  expect([...metrics.latest({ name: series.name })]).toMatchObject([{ value: 5 }])
})

it('adds increases up from a zero at their start', async () => {
  const { metrics, samples } = metricsRig()
  const series = metrics.series(identity())
  metrics.addCounter(series, NOW_MS, 3)
  metrics.addCounter(series, NOW_MS, 4)
  await metrics.synced()
  metrics.addCounter(series, NOW_MS + 5000, 0)
  metrics.addCounter(series, NOW_MS + 5000, 5)
  await metrics.synced()
  expect(samples()).toEqual([
    { at: -1, value: 0 },
    { at: 0, value: 7 },
    { at: 5000, value: 12 },
  ])
})

it('writes a sum within the next tick, and then no more than once a second', () => {
  const { metrics, samples, flush, clock } = metricsRig()
  const series = metrics.series(identity())
  for (let k = 0; k < 100; k++) {
    metrics.addCounter(series, clock.ms, 1)
    flush()
    clock.ms += 50
  }
  const values = samples().map(({ value }) => value)
  expect(values.slice(0, 3)).toEqual([0, 1, 21])
  expect(values.length).toBeLessThanOrEqual(7)
  expect([...metrics.latest({ name: series.name })]).toMatchObject([{ value: 100 }])
})

it('takes an increase of one interval once', async () => {
  const { metrics, samples } = metricsRig()
  const series = metrics.series(identity())
  metrics.addCounter(series, NOW_MS + 1000, 3, NOW_MS)
  metrics.addCounter(series, NOW_MS + 1000, 3, NOW_MS)
  metrics.addCounter(series, NOW_MS + 2000, 2, NOW_MS + 1000)
  await metrics.synced()
  expect(samples().at(-1)).toEqual({ at: 2000, value: 5 })
  expect(metrics.counters.duplicates).toBe(1)
})

it('repeats a sum while its sender sends something, and stops when the sender is gone', () => {
  const { metrics, tables, flush, clock } = metricsRig()
  const quiet = metrics.series(identity())
  const busy = metrics.series(identity({ name: 'envoy_server_live', type: 'gauge', labels: [] }))
  metrics.addCounter(quiet, clock.ms, 7)
  for (let k = 0; k < 60; k++) {
    if (k < 30) metrics.setGauge(busy, clock.ms, 1)
    flush()
    clock.ms += 10_000
  }
  const { id } = tables.series.find(({ name }) => name === quiet.name)!
  const rows = tables.samples.filter(({ series }) => series === id).map(({ time }) => (Number(time) - NOW_MS) / 1000)
  // 300 s of a sender that lives, and as long again until it counts as gone.
  expect(rows).toEqual([-0.001, 0, 60, 120, 180, 240, 300, 360, 420, 480, 540].slice(0, rows.length))
  expect(rows.length).toBeGreaterThanOrEqual(10)
  expect([...metrics.latest({ name: quiet.name })]).toMatchObject([{ value: 7 }])
})

it('marks the end of a series once, and begins again after it', async () => {
  const { metrics, tables } = metricsRig()
  const series = metrics.series(identity({ type: 'gauge' }))
  metrics.setGauge(series, NOW_MS, 3)
  metrics.stale(series, NOW_MS + 15_000)
  metrics.stale(series, NOW_MS + 30_000)
  expect([...metrics.latest({ name: series.name })]).toMatchObject([{ stale: true }])
  metrics.setGauge(series, NOW_MS + 45_000, 4)
  await metrics.synced()
  expect(tables.samples.map((row) => [Number(row.time) - NOW_MS, row.value, row.stale])).toEqual([
    [0, 3, 0],
    [15_000, 0, 1],
    [45_000, 4, 0],
  ])
  expect(metrics.counters.staleMarkers).toBe(1)
})

it('drops what no metric can be, by reason', () => {
  const { metrics } = metricsRig()
  const counter = metrics.series(identity())
  for (const value of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
    metrics.setCounter(counter, NOW_MS, value)
    metrics.addCounter(counter, NOW_MS, value)
  }
  metrics.distribution(counter, NOW_MS, { kind: 'values', values: [1] })
  expect(metrics.counters.invalid).toBe(7)
  metrics.setCounter(counter, NOW_MS + 2 * 86_400_000, 1)
  metrics.setCounter(counter, NOW_MS - 20 * 86_400_000, 1)
  metrics.setCounter(counter, Number.NaN, 1)
  expect(metrics.counters.outOfBounds).toBe(3)
  expect([...metrics.latest({ name: counter.name })]).toEqual([])
})

it('has so many series and no more, counts what it refuses, and takes new ones when old ones are idle', () => {
  const { metrics, clock, flush } = metricsRig({ seriesMax: 10 })
  const all = Array.from({ length: 15 }, (_, k) => metrics.series(identity({ labels: [['k', String(k)]] })))
  for (const series of all) metrics.setCounter(series, NOW_MS, 1)
  expect(all.filter(({ overflow }) => overflow)).toHaveLength(5)
  expect(metrics.counters).toMatchObject({ overflow: 5, samples: 10, seriesNow: 10 })
  clock.ms += 3_700_000
  flush()
  expect(metrics.counters.seriesNow).toBe(0)
  metrics.setCounter(all[0]!, clock.ms, 2)
  expect([...metrics.latest({ name: all[0]!.name })]).toMatchObject([{ value: 2 }])
  // Another object of the same identity is the series now; the old one leads to it.
  const again = metrics.series(identity({ labels: [['k', '1']] }))
  metrics.setCounter(again, clock.ms, 5)
  metrics.setCounter(all[1]!, clock.ms + 1, 6)
  expect([...metrics.latest({ name: again.name, labels: { k: '1' } })]).toMatchObject([{ value: 6 }])
})

it('keeps sums, and drops and counts rows, while the journal has no room', async () => {
  const { metrics, journal, samples } = metricsRig({ rowsMax: 10 })
  const sum = metrics.series(identity())
  const gauge = metrics.series(identity({ name: 'g', type: 'gauge' }))
  journal.full = true
  await expect(metrics.synced())
    .resolves.toBeUndefined()
    .catch(() => {})
  for (let k = 0; k < 140_000; k++) metrics.setGauge(gauge, NOW_MS + k, k)
  metrics.addCounter(sum, NOW_MS, 5)
  metrics.addCounter(sum, NOW_MS + 1000, 5)
  expect(metrics.counters.droppedFull).toBeGreaterThan(8000)
  await expect(metrics.synced()).rejects.toThrow('no room')
  journal.full = false
  await metrics.synced()
  expect(samples().at(-1)).toEqual({ at: 1000, value: 10 })
  expect(samples()).toHaveLength(metrics.counters.samples)
})

it('never falls and never loses an increase, whatever the order of increases and ticks', () => {
  const step = fc.oneof(
    fc.record({ add: fc.nat(1000), at: fc.integer({ min: -3000, max: 3000 }) }),
    fc.record({ tick: fc.nat(3000) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { metrics, samples, flush, clock } = metricsRig()
      const series = metrics.series(identity())
      let sum = 0
      for (const one of steps) {
        if ('add' in one) {
          metrics.addCounter(series, clock.ms + one.at, one.add)
          sum += one.add
        } else {
          clock.ms += one.tick
          flush()
        }
      }
      flush(true)
      const rows = samples()
      for (let k = 1; k < rows.length; k++) {
        expect(rows[k]!.at).toBeGreaterThan(rows[k - 1]!.at)
        expect(Number(rows[k]!.value)).toBeGreaterThanOrEqual(Number(rows[k - 1]!.value))
      }
      expect(rows.at(-1)?.value ?? 0).toBe(sum)
    }),
    { numRuns: 200 },
  )
})

it('keeps exemplars once, however often they are told, and each with its series', () => {
  const { metrics, flush, tables } = metricsRig()
  const series = metrics.series(identity({ type: 'histogram', name: 'rq_time' }))
  const exemplar = (ms: number, value: number, trace = 'ab') => ({
    timeMs: NOW_MS + ms,
    value,
    labels: [['trace_id', trace] as const],
  })
  // Those of one call may be of different buckets, in any order.
  expect(metrics.exemplars(series, [exemplar(-10, 1), exemplar(-2000, 2), exemplar(-2000, 3, 'cd')])).toBe(3)
  expect(metrics.exemplars(series, [exemplar(-10, 1), exemplar(-2000, 2)])).toBe(0)
  expect(metrics.exemplars(series, [exemplar(-10, 1), exemplar(-5, 9)])).toBe(1)
  flush(true)
  expect(
    tables.exemplars.map(({ time, value, labels }) => [
      Number(time) - NOW_MS,
      value,
      Object.fromEntries(labels as Map<string, string>),
    ]),
  ).toEqual([
    [-10, 1, { trace_id: 'ab' }],
    [-2000, 2, { trace_id: 'ab' }],
    [-2000, 3, { trace_id: 'cd' }],
    [-5, 9, { trace_id: 'ab' }],
  ])
  expect(tables.series).toHaveLength(1)
  expect(new Set(tables.exemplars.map((row) => row.series))).toEqual(new Set([tables.series[0]!.id]))
  // They are no values: the series goes on where it was.
  metrics.distribution(series, NOW_MS - 7, { kind: 'explicit', temporality: 'cumulative', bounds: [1], counts: [1, 0] })
  flush(true)
  expect(tables.histograms.map(({ time }) => Number(time) - NOW_MS)).toEqual([-7])
  expect(metrics.counters).toMatchObject({ exemplars: 4, invalid: 0 })
})

it('takes no exemplar that is none, too long, or of another time, and drops what has no room', () => {
  const { metrics, flush, journal, tables } = metricsRig({ rowsMax: 100 })
  const series = metrics.series(identity())
  const labels = [['trace_id', 'ab'] as const]
  const many = Array.from({ length: 17 }, (_, k) => [`l${k}`, 'x'] as const)
  expect(
    metrics.exemplars(series, [
      { timeMs: NOW_MS, value: Number.NaN, labels },
      { timeMs: NOW_MS, value: 1, labels: [['trace_id', 'x'.repeat(1020)]] },
      { timeMs: NOW_MS, value: 1, labels: many },
      { timeMs: NOW_MS - 16 * 86_400_000, value: 1, labels },
      { timeMs: NOW_MS + 2 * 86_400_000, value: 1, labels },
    ]),
  ).toBe(0)
  expect(metrics.counters).toMatchObject({ exemplars: 0, invalid: 3, outOfBounds: 2 })
  journal.full = true
  const waiting = 200_000
  const list = Array.from({ length: waiting }, (_, k) => ({ timeMs: NOW_MS - waiting + k, value: k, labels }))
  const taken = metrics.exemplars(series, list)
  expect(taken).toBeLessThan(waiting)
  expect(metrics.counters.droppedFull).toBeGreaterThan(0)
  journal.full = false
  flush(true)
  expect(tables.exemplars).toHaveLength(taken)
})
