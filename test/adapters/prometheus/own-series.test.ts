import { describe, expect, test } from 'vitest'
import { PHASE_BUCKETS } from '../../../src/adapters/prometheus/classic.ts'
import { DistinctValues } from '../../../src/adapters/prometheus/distinct.ts'
import { openPrometheus } from '../../../src/adapters/prometheus/open.ts'
import { PhaseHistogram } from '../../../src/adapters/prometheus/phase-histogram.ts'
import { Proxies } from '../../../src/adapters/prometheus/proxies.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { normal, seededRandom } from '../../../src/lib/random.ts'
import { bucketOf, ZERO_BUCKET } from '../../../src/model/buckets.ts'
import { countsOf } from '../../../src/model/grpc-messages.ts'
import { PHASES, phasesInto } from '../../../src/model/phases.ts'
import { CLASSES, FLAGS, OUTCOMES } from '../../../src/model/schema.ts'
import { identity, origin, party, type Row } from '../../support/batch.ts'
import { nativeBuckets, readProtobuf, readText } from '../../support/exposition.ts'
import { meshRows, openMeshPage } from '../../support/mesh-page.ts'

const PROTOBUF = 'application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited'
const OPENMETRICS = 'application/openmetrics-text; version=1.0.0'
const add = (map: Map<string, number>, key: string, n: number) => map.set(key, (map.get(key) ?? 0) + n)

/** What must be counted of each pair, made the plain way. */
function expected(rows: readonly Row[]) {
  const counts = new Map<string, number>()
  const phases = new Map<string, number[]>()
  const into = new Float64Array(7)
  for (const row of rows) {
    const pair = row.identity!.source.workload
    add(counts, `${pair} requests ${row.outcome} ${row.class}`, 1)
    add(counts, `${pair} attempts`, row.attempts!)
    FLAGS.forEach((flag, bit) => {
      if ((row.flags! & (1 << bit)) !== 0) add(counts, `${pair} flag ${flag}`, 1)
    })
    const p = Array.from({ length: 7 }, (_, k) => row.points![k] ?? -1) as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ]
    if (!phasesInto(into, 0, ...p, row.duration!, false)) continue
    PHASES.forEach((phase, k) => {
      const key = `${pair} ${phase}`
      phases.set(key, [...(phases.get(key) ?? []), into[k]!])
    })
  }
  return { counts, phases }
}

describe('phases, outcomes, attempts and flags', () => {
  const rows = meshRows(600, 3)
  const { counts, phases } = expected(rows)
  const page = openMeshPage({ phaseBuckets: [0.001, 0.01, 0.1] })
  page.take(rows.slice(0, 300))
  page.take(rows.slice(300))

  test.each([
    ['text', 'text/plain', false],
    ['OpenMetrics', OPENMETRICS, true],
  ])('are right in %s', async (_, accept, openMetrics) => {
    const families = readText((await page.page(accept)).toString(), openMetrics)
    const name = (counter: string) => (openMetrics ? counter : `${counter}_total`)
    const seen = new Map<string, number>()
    const each = (family: string) =>
      (families.get(name(family))?.samples ?? []).filter((sample) => sample.name.endsWith('_total'))
    for (const { labels, value } of each('sidecast_requests')) {
      seen.set(`${labels.source_workload} requests ${labels.outcome} ${labels.class}`, value)
    }
    for (const { labels, value } of each('sidecast_request_attempts'))
      seen.set(`${labels.source_workload} attempts`, value)
    for (const { labels, value } of each('sidecast_response_flags'))
      seen.set(`${labels.source_workload} flag ${labels.flag}`, value)
    expect(seen).toEqual(counts)
    const family = families.get('sidecast_request_phase_seconds')!
    expect([family.type, openMetrics ? family.unit : 'seconds']).toEqual(['histogram', 'seconds'])
    let compared = 0
    for (const { name: sample, labels, value, le } of family.samples) {
      const values = phases.get(`${labels.source_workload} ${labels.phase}`)!
      if (sample.endsWith('_sum')) expect(value).toBeCloseTo(values.reduce((sum, ns) => sum + ns, 0) / 1e9, 9)
      if (sample.endsWith('_count')) expect(value).toBe(values.length)
      if (le !== undefined && le < 1) {
        // A value counts as the upper edge of its native bucket.
        expect(value).toBeLessThanOrEqual(values.filter((ns) => ns <= le * 1e9).length)
        expect(value).toBeGreaterThanOrEqual(values.filter((ns) => ns <= (le * 1e9) / 1.011).length)
      }
      compared++
    }
    expect(compared).toBeGreaterThan(14)
  })

  test('are right in protobuf, with native buckets of schema 6', async () => {
    const family = readProtobuf(await page.page(PROTOBUF)).find(
      ({ name }) => name === 'sidecast_request_phase_seconds',
    )!
    for (const { label, histogram } of family.metric) {
      const labels = Object.fromEntries(label.map(({ name, value }) => [name, value]))
      const values = phases.get(`${labels.source_workload} ${labels.phase}`)!
      const buckets = new Map<number, number>()
      for (const ns of values) if (ns > 0) buckets.set(bucketOf(ns), (buckets.get(bucketOf(ns)) ?? 0) + 1)
      expect([histogram!.schema, histogram!.sample_count]).toEqual([6, values.length])
      expect(histogram!.zero_count).toBe(values.filter((ns) => ns === 0).length)
      const filled = [...nativeBuckets(histogram!)].filter(([, count]) => count > 0)
      expect(new Map(filled)).toEqual(buckets)
    }
    expect(family.metric.length).toBe(phases.size)
  })

  test('gRPC messages are there where proxies tell them, and nowhere else', async () => {
    const families = readText((await page.page('text/plain')).toString(), false)
    const grpc = rows.filter((row) => row.messages !== undefined && row.kind !== 1).length
    const sum = (name: string) => families.get(name)!.samples.reduce((all, { value }) => all + value, 0)
    expect(sum('istio_request_messages_total')).toBe(grpc)
    expect(sum('istio_response_messages_total')).toBe(3 * grpc)
    for (const { labels } of families.get('istio_request_messages_total')!.samples)
      expect(labels.request_protocol).toBe('grpc')
    const other = openMeshPage()
    other.take([{ identity: identity(), grpcStatus: 0, duration: 1, code: 200 }])
    expect((await other.page('text/plain')).toString()).not.toContain('messages_total')
  })
})

describe('the budget of pairs', () => {
  const hostile = (k: number): Row => ({
    identity: identity({ reporter: 'source', destination: party({ workload: `w${k}`, service: `s${k}` }) }),
    duration: 1000 + k,
    points: [1, 2, 3, 900, 950, 940, 1000 + k],
    attempts: 1,
    code: 200,
  })

  test('what has no room is counted in the overflow pair of its reporter; sums stay exact', async () => {
    const { mesh, take, page } = openMeshPage({ pairBytesMax: 100_000, seriesMax: 100 })
    for (let k = 0; k < 20; k++) take(Array.from({ length: 500 }, (_, n) => hostile(k * 500 + n)))
    const stats = mesh.stats()
    expect(stats.pairBytes).toBeLessThan(130_000)
    expect(stats.pairs).toBeLessThan(100)
    expect(stats.overflowPairRows).toBeGreaterThan(9000)
    const samples = readText((await page('text/plain')).toString(), false).get('sidecast_requests_total')!.samples
    expect(samples.reduce((sum, { value }) => sum + value, 0)).toBe(10_000)
    const overflow = samples.find(({ labels }) => labels.destination_workload === 'overflow')
    expect(overflow?.labels).toMatchObject({
      reporter: 'source',
      destination_service: 'overflow',
      source_workload: 'overflow',
    })
    expect(overflow?.value).toBe(stats.overflowPairRows)
  })

  test('pairs that nothing comes for are dropped, and start again', async () => {
    const time = { ms: 1_700_000_000_000 }
    const clock = { now: () => time.ms, sleep: async () => {} }
    const { mesh, take, page } = openMeshPage({ clock, expiryMs: 60_000 })
    take([hostile(1), hostile(2)])
    time.ms += 50_000
    take([hostile(2)])
    time.ms += 50_000
    const samples = async () =>
      (readText((await page('text/plain')).toString(), false).get('sidecast_requests_total')?.samples ?? []).map(
        ({ labels, value }) => [labels.destination_workload, value],
      )
    expect(await samples()).toEqual([['w2', 2]])
    expect(mesh.stats()).toMatchObject({ pairs: 1, expiredPairs: 1 })
    take([hostile(1)])
    expect(await samples()).toEqual([
      ['w1', 1],
      ['w2', 2],
    ])
  })
})

describe('a histogram of one phase', () => {
  test('keeps every observation where memory is short, at a lower schema', () => {
    const random = seededRandom(5)
    const values = Array.from({ length: 3000 }, () => Math.ceil(1e6 * Math.exp(4 * normal(random))))
    for (const bytesMax of [1e6, 2000, 700, 0]) {
      const histogram = new PhaseHistogram()
      for (let k = 0; k < values.length; k += 30) {
        const sorted = values.slice(k, k + 30).toSorted((a, b) => a - b)
        histogram.count += sorted.length
        const words = Uint32Array.from(sorted, (ns) => (5 << 12) | (bucketOf(ns) - ZERO_BUCKET))
        const counts = new Uint32Array(sorted.length).fill(1)
        histogram.add({ words, counts, mask: 4095, offset: ZERO_BUCKET }, 0, sorted.length, bytesMax)
      }
      const buckets = [...histogram.buckets()]
      expect(buckets.reduce((sum, [, count]) => sum + count, 0)).toBe(values.length)
      expect(histogram.zeros).toBe(0)
      if (bytesMax >= 700) expect(histogram.bytes).toBeLessThan(Math.max(bytesMax, 900) + 600)
      // Each bucket holds what a histogram of its schema would.
      const perOctave = 2 ** histogram.schema
      for (const [index, count] of buckets) {
        const low = 1e9 * 2 ** ((index - 1) / perOctave)
        const high = 1e9 * 2 ** (index / perOctave)
        expect(count).toBe(values.filter((ns) => ns > Math.floor(low) && ns <= Math.floor(high)).length)
      }
      expect(histogram.classic(PHASE_BUCKETS).reduce((sum, count) => sum + count, 0)).toBe(values.length)
    }
  })
})

test.each([
  [
    '{"@type":"type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterObject","value":"CAMQrAI="}',
    [3, 300],
  ],
  ['{"@type":"type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterObject","value":""}', [0, 0]],
  ['{"request_message_count":"7","response_message_count":"8"}', [7, 8]],
  ['{"requestMessageCount":"7"}', [7, 0]],
  ['{"@type":"type.googleapis.com/a.FilterObject","value":"CAP/"}', null],
  ['{"@type":"type.googleapis.com/a.FilterObject","value":"CAOa"}', null],
  ['{"request_message_count":"many"}', null],
  ['"3,12"', [3, 12]],
  ['"text"', null],
  ['not json', null],
])('%s are messages %j', (json, counts) => expect(countsOf(json)).toEqual(counts))

describe('proxies', () => {
  test('are counted by version of Istio, once each, as long as they send', () => {
    const proxies = new Proxies()
    const of = (nodeId: string, istioVersion: string) => origin({ nodeId, istioVersion })
    proxies.see(of('a', '1.28.0'), 10)
    proxies.see(of('b', '1.29.0'), 10)
    proxies.see(of('a', '1.28.0'), 20)
    proxies.see(of('c', '1.29.0'), 30)
    proxies.see(origin({ nodeId: 'plain' }), 30)
    expect([...proxies.byVersion()]).toEqual([
      ['1.28.0', 1],
      ['1.29.0', 2],
    ])
    proxies.see(of('a', '1.29.0'), 40)
    proxies.dropIdle(25)
    expect([...proxies.byVersion()]).toEqual([['1.29.0', 2]])
  })

  test('versions are bounded, and so are nodes', () => {
    const proxies = new Proxies()
    for (let k = 0; k < 20_100; k++) proxies.see(origin({ nodeId: `n${k}`, istioVersion: `v${k}` }), 1)
    const versions = proxies.byVersion()
    expect([versions.size, versions.get('overflow'), proxies.full]).toEqual([101, 19_900, true])
  })
})

test('the label with many values is found', () => {
  const distinct = new DistinctValues(['service', 'version', 'none'])
  for (let k = 0; k < 200_000; k++) {
    distinct.see(0, `service-${k}`)
    distinct.see(1, `v${k % 40}`)
  }
  const [service, version, ...rest] = distinct.estimates()
  expect([service?.label, version?.label, rest]).toEqual(['service', 'version', []])
  expect(Math.abs(service!.values / 200_000 - 1)).toBeLessThan(0.1)
  expect(Math.abs(version!.values - 40)).toBeLessThan(5)
})

test('bounds that do not ascend are told at the start', () => {
  const config = { seriesMax: 100, memory: '1 MiB', expiry: '1m', buckets: [1, 5, 5], phaseBuckets: [1] }
  expect(() => openPrometheus(config, systemClock)).toThrow('adapters.prometheus.buckets: 5 is not above 5')
  const own = openPrometheus({ ...config, buckets: [7, 70] }, systemClock)
  expect([...own.series()]).toEqual([])
})

test('every outcome, class, flag and phase has a number of its own for whoever stores the page', () => {
  const { mesh, take } = openMeshPage()
  const who = identity()
  const rows: Row[] = OUTCOMES.flatMap((outcome) =>
    CLASSES.map((one) => ({
      identity: who,
      outcome,
      class: one,
      flags: (2 ** 30 - 1) | 0,
      duration: 10,
      points: [1, 2, 3, 4, 5, 6, 10],
    })),
  )
  take([
    ...rows,
    { identity: identity({ reporter: 'source' }), duration: 1, stream: origin({ istioVersion: '1.2.3', nodeId: 'n' }) },
  ])
  const all = [...mesh.series(true)]
  const numbers = all.map(({ number }) => number)
  expect(new Set(numbers).size).toBe(numbers.length)
  const own = all.filter((one) => one.metrics()[0]!.name.startsWith('sidecast_'))
  expect(own.length).toBe(1 + 25 + 30 + 7 + 2)
})
