import { describe, expect, test } from 'vitest'
import {
  createPrometheusAdapter,
  type PrometheusAdapter,
  type PrometheusAdapterOptions,
} from '../../../src/adapters/prometheus/adapter.ts'
import { ISTIO_BUCKETS } from '../../../src/adapters/prometheus/classic.ts'
import { nativeIndexOf } from '../../../src/adapters/prometheus/native.ts'
import { SeriesTable } from '../../../src/adapters/prometheus/series.ts'
import { normal, seededRandom } from '../../../src/lib/random.ts'
import { FLAGS } from '../../../src/model/schema.ts'
import { batchOf, identity, origin, party, type Row } from '../../support/batch.ts'
import {
  nativeBuckets,
  type ProtobufFamily,
  type ProtobufHistogram,
  readProtobuf,
  readText,
  type Sample,
  type TextFamily,
} from '../../support/exposition.ts'

const OPENMETRICS = 'application/openmetrics-text; version=1.0.0'
const PROTOBUF = 'application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited'
const NOW = Date.UTC(2026, 0, 1)
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'

function setUp(options: Partial<PrometheusAdapterOptions> = {}): { adapter: PrometheusAdapter; time: { ms: number } } {
  const time = { ms: NOW }
  const clock = { now: () => time.ms, sleep: async () => {} }
  return { adapter: createPrometheusAdapter({ clock, ...options }), time }
}

async function bytesOf(adapter: PrometheusAdapter, accept: string): Promise<Buffer> {
  const parts: Uint8Array[] = []
  for await (const part of adapter.scrape(accept).body) parts.push(part)
  return Buffer.concat(parts)
}
const text = async (adapter: PrometheusAdapter): Promise<Map<string, TextFamily>> =>
  readText((await bytesOf(adapter, 'text/plain')).toString(), false)
const openMetrics = async (adapter: PrometheusAdapter): Promise<Map<string, TextFamily>> =>
  readText((await bytesOf(adapter, OPENMETRICS)).toString(), true)
const protobuf = async (adapter: PrometheusAdapter): Promise<ProtobufFamily[]> =>
  readProtobuf(await bytesOf(adapter, PROTOBUF))

/** Values of a sample by its labels. */
function samplesOf(families: Map<string, TextFamily>, family: string, name: string): Map<string, number> {
  const samples = families.get(family)?.samples.filter((sample) => sample.name === name) ?? []
  return new Map(samples.map((sample) => [keyOnce(sample.labels), sample.value]))
}
const keys = new WeakMap<object, string>()
const keyOnce = (labels: Readonly<Record<string, string>>): string => {
  const known = keys.get(labels)
  if (known !== undefined) return known
  keys.set(labels, labelKey(labels))
  return labelKey(labels)
}
const labelKey = (labels: Readonly<Record<string, string>>): string =>
  JSON.stringify(Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1)))
const total = (values: Map<string, number>): number => [...values.values()].reduce((sum, value) => sum + value, 0)

const reviews = identity({
  reporter: 'destination',
  source: party({ workload: 'web', namespace: 'shop' }),
  destination: party({ workload: 'reviews', namespace: 'shop', service: 'reviews' }),
  destinationHost: 'reviews.shop.svc.cluster.local',
})

function randomRows(n: number, seed: number): Row[] {
  const random = seededRandom(seed)
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!
  const identities = Array.from({ length: 9 }, (_, k) =>
    identity({
      reporter: pick(['source', 'destination', 'waypoint', 'unknown', 'gateway']),
      source: party({ workload: `w${k % 4}`, namespace: 'a"b\\c\nd' }),
      destination: party({ workload: `ü${k}`, service: `s${k}` }),
    }),
  )
  const gateways = [origin({ self: party({ workload: 'gw1' }) }), origin({ self: party({ workload: 'gw2' }) })]
  return Array.from({ length: n }, (): Row => {
    const kind = random() < 0.1 ? 1 : 0
    return {
      identity: pick(identities),
      stream: pick(gateways),
      kind,
      duration: random() < 0.02 ? 0 : Math.floor(3e6 * Math.exp(2 * normal(random))),
      code: pick([200, 200, 200, 404, 503, -1]),
      grpcStatus: pick([-1, -1, 0, 14]),
      flags: pick([0, 0, 0, 1 << FLAGS.indexOf('UF'), (1 << FLAGS.indexOf('UF')) | (1 << FLAGS.indexOf('URX'))]),
      mutualTls: random() < 0.5,
      received: Math.floor(Math.exp(10 * random())),
      sent: Math.floor(Math.exp(20 * random())),
      end: NOW,
      traceId: random() < 0.5 ? TRACE : '',
    }
  })
}

/** What must be counted, made the plain way: by label set, in maps. */
function expected(rows: readonly Row[]) {
  const sets = new Map<string, Row[]>()
  for (const row of rows) {
    const who = row.identity!
    const source = who.reporter === 'gateway' ? row.stream!.self : who.source
    const reporter = who.reporter === 'gateway' ? 'source' : who.reporter
    const server = reporter === 'destination' || reporter === 'waypoint'
    const tcp = row.kind === 1
    const labels: Record<string, string> = {
      reporter,
      request_protocol: tcp ? 'tcp' : row.grpcStatus! >= 0 ? 'grpc' : 'http',
      response_flags: FLAGS.filter((_, bit) => (row.flags! & (1 << bit)) !== 0).join(',') || '-',
      connection_security_policy: server ? (row.mutualTls ? 'mutual_tls' : 'none') : 'unknown',
      destination_service: who.destination.service,
      destination_service_name: who.destination.service,
      destination_service_namespace: 'unknown',
    }
    if (labels.response_flags === 'UF,URX') labels.response_flags = 'UF,URX'
    if (!tcp) {
      labels.response_code = String(Math.max(row.code!, 0))
      labels.grpc_response_status = row.grpcStatus! < 0 ? '' : String(row.grpcStatus)
    }
    for (const [side, { workload, namespace, service }] of [
      ['source', source],
      ['destination', who.destination],
    ] as const) {
      labels[`${side}_workload`] = workload || 'unknown'
      labels[`${side}_workload_namespace`] = namespace || 'unknown'
      labels[`${side}_canonical_service`] = service || 'unknown'
      labels[`${side}_canonical_revision`] = 'latest'
      for (const name of ['principal', 'app', 'version', 'cluster']) labels[`${side}_${name}`] = 'unknown'
    }
    const key = labelKey(labels)
    sets.set(key, [...(sets.get(key) ?? []), row])
  }
  return sets
}

describe('the figures', () => {
  const rows = randomRows(800, 21)
  const { adapter } = setUp()
  for (let k = 0; k < rows.length; k += 400) adapter.take(batchOf(rows.slice(k, k + 400)))
  const sets = expected(rows)
  const requests = [...sets].filter(([, [row]]) => row!.kind === 0)
  const tcp = [...sets].filter(([, [row]]) => row!.kind === 1)
  const sum = (of: readonly Row[], value: (row: Row) => number): number => of.reduce((all, row) => all + value(row), 0)
  const histograms = [
    ['istio_request_duration_milliseconds', (row: Row) => row.duration! / 1e6],
    ['istio_request_bytes', (row: Row) => row.received!],
    ['istio_response_bytes', (row: Row) => row.sent!],
  ] as const

  test.each([
    ['text', text, ''],
    ['OpenMetrics', openMetrics, '_total'],
  ] as const)('are right in %s', async (_, scrape, suffix) => {
    const families = await scrape(adapter)
    const counter = (name: string): Map<string, number> =>
      samplesOf(families, suffix === '' ? `${name}_total` : name, `${name}_total`)
    expect(counter('istio_requests')).toEqual(new Map(requests.map(([key, of]) => [key, of.length])))
    for (const name of ['opened', 'closed']) {
      const want = new Map(tcp.map(([key, of]) => [key, of.length]))
      expect(counter(`istio_tcp_connections_${name}`)).toEqual(want)
    }
    expect(counter('istio_tcp_sent_bytes')).toEqual(new Map(tcp.map(([key, of]) => [key, sum(of, (row) => row.sent!)])))
    expect(counter('istio_tcp_received_bytes')).toEqual(
      new Map(tcp.map(([key, of]) => [key, sum(of, (row) => row.received!)])),
    )
    for (const [name, value] of histograms) {
      const family = families.get(name)!
      expect(family.type).toBe('histogram')
      expect(samplesOf(families, name, `${name}_count`).size).toBe(requests.length)
      const buckets = new Map<string, Map<number, number>>()
      for (const { name: sample, labels, le, value: count } of family.samples) {
        if (sample !== `${name}_bucket`) continue
        const key = keyOnce(labels)
        buckets.set(key, (buckets.get(key) ?? new Map()).set(le!, count))
      }
      const sums = samplesOf(families, name, `${name}_sum`)
      for (const [key, of] of requests) {
        expect(sums.get(key)).toBeCloseTo(sum(of, value), 3)
        for (const le of [...ISTIO_BUCKETS, Number.POSITIVE_INFINITY]) {
          expect(buckets.get(key)!.get(le)).toBe(of.filter((row) => value(row) <= le).length)
        }
      }
    }
  })

  test('are right in protobuf, with native buckets of schema 8', async () => {
    const families = await protobuf(adapter)
    const byName = new Map(families.map((family) => [family.name, family]))
    expect(byName.size).toBe(families.length)
    const keyOf = (label: readonly { name: string; value: string }[]): string =>
      labelKey(Object.fromEntries(label.map(({ name, value }) => [name, value])))
    const counters = byName.get('istio_requests_total')!
    expect(counters.type).toBe('COUNTER')
    expect(new Map(counters.metric.map(({ label, counter }) => [keyOf(label), counter!.value]))).toEqual(
      new Map(requests.map(([key, of]) => [key, of.length])),
    )
    for (const [name, value] of histograms) {
      const family = byName.get(name)!
      expect([family.type, family.metric.length]).toEqual(['HISTOGRAM', requests.length])
      expect(family.unit).toBe(name.endsWith('bytes') ? 'bytes' : 'milliseconds')
      const all = new Map(family.metric.map(({ label, histogram }) => [keyOf(label), histogram!]))
      for (const [key, of] of requests) {
        const histogram = all.get(key)!
        expect(histogram.sample_count).toBe(of.length)
        expect(histogram.sample_sum).toBeCloseTo(sum(of, value), 3)
        expect(histogram.start_timestamp).toEqual({ seconds: NOW / 1000, nanos: 0 })
        expect(histogram.bucket.map(({ upper_bound, cumulative_count }) => [upper_bound, cumulative_count])).toEqual(
          [...ISTIO_BUCKETS, Number.POSITIVE_INFINITY].map((le) => [le, of.filter((row) => value(row) <= le).length]),
        )
        if (name === 'istio_request_duration_milliseconds') expectNative(histogram, of)
        else expect([histogram.positive_span, histogram.zero_threshold]).toEqual([[], 0])
      }
    }
  })

  function expectNative(histogram: ProtobufHistogram, of: readonly Row[]): void {
    const want = new Map<number, number>()
    for (const row of of) {
      if (row.duration === 0) continue
      const index = nativeIndexOf(row.duration!)
      want.set(index, (want.get(index) ?? 0) + 1)
    }
    expect([histogram.schema, histogram.zero_threshold]).toEqual([8, 2 ** -128])
    expect(histogram.zero_count).toBe(of.filter((row) => row.duration === 0).length)
    expect(nativeBuckets(histogram)).toEqual(new Map([...want].toSorted(([a], [b]) => a - b)))
  }

  test('UDP sessions are counted as skipped, other tables are not looked at', () => {
    const other = setUp().adapter
    other.take(batchOf([{ kind: 2 }, { kind: 0 }]))
    other.take(batchOf([{}], 'attempts'))
    expect(other.stats()).toMatchObject({ rows: 2, skippedRows: 1, series: 1 })
  })
})

test('an empty registry is a valid page', async () => {
  const { adapter } = setUp()
  expect((await bytesOf(adapter, 'text/plain')).toString()).toBe('')
  expect((await bytesOf(adapter, OPENMETRICS)).toString()).toBe('# EOF\n')
  expect((await bytesOf(adapter, PROTOBUF)).length).toBe(0)
})

test('identities with the same labels are one series', async () => {
  const { adapter } = setUp()
  const twin = { ...reviews, id: reviews.id + 1_000_000 }
  adapter.take(batchOf([{ identity: reviews }, { identity: twin }]))
  adapter.take(batchOf([{ identity: twin }]))
  // Missing and `unknown` are the same text, as are a service without a host and a host that is its service.
  const source = party({ ...reviews.source, app: 'unknown' })
  adapter.take(batchOf([{ identity: identity({ ...twin, id: -1, source }) }]))
  const plain = { reporter: 'source', destination: party({ service: 'cluster-7' }) } as const
  adapter.take(
    batchOf([{ identity: identity(plain) }, { identity: identity({ ...plain, destinationHost: 'cluster-7' }) }]),
  )
  const requests = samplesOf(await text(adapter), 'istio_requests_total', 'istio_requests_total')
  expect([...requests.values()]).toEqual([4, 2])
})

describe('exemplars', () => {
  const row = (duration: number, traceId: string, end = NOW): Row => ({ identity: reviews, duration, traceId, end })
  const exemplarsOf = async (adapter: PrometheusAdapter): Promise<NonNullable<Sample['exemplar']>[]> =>
    (await openMetrics(adapter))
      .get('istio_request_duration_milliseconds')!
      .samples.flatMap(({ exemplar }) => exemplar ?? [])

  test('name the trace of a request in its bucket, in OpenMetrics and protobuf', async () => {
    const { adapter } = setUp()
    adapter.take(batchOf([row(300_000, ''), row(7_250_000, TRACE, NOW - 1500), row(7_300_000, 'f'.repeat(32))]))
    const want = { labels: { trace_id: TRACE }, value: 7.25, time: NOW / 1000 - 1.5 }
    expect(await exemplarsOf(adapter)).toEqual([want])
    const family = (await protobuf(adapter)).find(({ name }) => name === 'istio_request_duration_milliseconds')!
    const exemplars = family.metric[0]!.histogram!.bucket.map(({ exemplar }) => exemplar)
    expect(exemplars.filter((exemplar) => exemplar !== null)).toEqual([
      {
        label: [{ name: 'trace_id', value: TRACE }],
        value: 7.25,
        timestamp: { seconds: NOW / 1000 - 2, nanos: 500_000_000 },
      },
    ])
    expect(exemplars[3]).not.toBeNull() // (5, 10] ms
  })

  test('are renewed after the interval, and bounded in number', async () => {
    const { adapter, time } = setUp({ exemplarsMax: 1, exemplarIntervalMs: 15_000 })
    adapter.take(batchOf([row(1e6, TRACE), row(50e6, TRACE)]))
    expect((await exemplarsOf(adapter)).map(({ value }) => value)).toEqual([1])
    time.ms += 14_000
    adapter.take(batchOf([row(0.9e6, TRACE)]))
    expect((await exemplarsOf(adapter)).map(({ value }) => value)).toEqual([1])
    time.ms += 1000
    adapter.take(batchOf([row(0.8e6, TRACE)]))
    expect((await exemplarsOf(adapter)).map(({ value }) => value)).toEqual([0.8])
    expect(adapter.stats().exemplars).toBe(1)
  })
})

describe('the budget', () => {
  const service = (k: number, reporter: 'source' | 'destination' = 'destination') =>
    identity({ reporter, destination: party({ service: `s${k}` }) })

  test('what does not fit goes to the overflow series of its reporter and protocol; sums stay exact', async () => {
    const { adapter } = setUp({ seriesMax: 5 })
    const heavy = service(99)
    const rows = Array.from(
      { length: 20 },
      (_, k): Row => ({ identity: service(k), duration: 2e6, grpcStatus: k % 2 ? 0 : -1 }),
    )
    adapter.take(batchOf(rows))
    adapter.take(
      batchOf([
        ...Array.from({ length: 50 }, () => ({ identity: heavy })),
        { identity: service(100, 'source'), kind: 1 },
      ]),
    )
    // A series that was there before the budget was used up goes on.
    adapter.take(batchOf([{ ...rows[0]! }]))
    const families = await text(adapter)
    const requests = samplesOf(families, 'istio_requests_total', 'istio_requests_total')
    expect(total(requests)).toBe(71)
    expect(requests.size).toBe(5 + 2)
    const overflow = [...requests].filter(([key]) => key.includes('["destination_service","overflow"]'))
    expect(overflow.map(([key, n]) => [/"request_protocol","(\w+)"/.exec(key)![1], n])).toEqual([
      ['grpc', 8],
      ['http', 57],
    ])
    expect(overflow.every(([key]) => key.includes('["reporter","destination"]'))).toBe(true)
    const closed = samplesOf(families, 'istio_tcp_connections_closed_total', 'istio_tcp_connections_closed_total')
    expect([...closed].map(([key, n]) => [key.includes('["reporter","source"]'), n])).toEqual([[true, 1]])
    expect(
      total(samplesOf(families, 'istio_request_duration_milliseconds', 'istio_request_duration_milliseconds_count')),
    ).toBe(71)
    const stats = adapter.stats()
    expect(stats).toMatchObject({ rows: 72, overflowRows: 66 })
    expect(stats.offenders[0]).toEqual({ identity: 'destination: unknown.unknown → s99', rows: 50, error: 0 })
  })

  test('holds in bytes for hundreds of thousands of identities and answers', async () => {
    const bytesMax = 1024 * 1024
    const { adapter } = setUp({ seriesMax: 1_000_000, bytesMax })
    const n = 50_000
    const template = batchOf(Array.from({ length: n }, (): Row => ({ identity: reviews, code: 200 })))
    for (let part = 0; part < 3; part++) {
      const identities = Array.from({ length: n }, (_, k) => ({ ...service(part * n + k), mesh: 'm' }))
      adapter.take({ ...template, identities, identity: Uint16Array.from({ length: n }, (_, k) => k) })
    }
    // One identity, but a code for each request.
    adapter.take({ ...template, code: Int32Array.from({ length: n }, (_, k) => k) })
    const stats = adapter.stats()
    expect(stats.bytes).toBeLessThanOrEqual(bytesMax + 20_000)
    expect(stats.series).toBeGreaterThan(200)
    expect(stats.rows).toBe(4 * n)
    const requests = samplesOf(await text(adapter), 'istio_requests_total', 'istio_requests_total')
    expect(total(requests)).toBe(4 * n)
    expect(requests.size).toBe(stats.series)
  })

  test('a bucket counts on past 2^32', () => {
    const table = new SeriesTable({ seriesMax: 10, bytesMax: 1e6, buckets: 20 })
    const series = table.create(
      table.whoOf('key', () => [['reporter', 'source']]),
      0,
      200,
      0,
      NOW,
    )
    const at = series * table.bucketsPerSeries + table.bucketsPerHistogram + 3
    table.buckets[at] = 0xffff_ffff
    table.increment(at)
    table.increment(at)
    expect(table.bucket(series, 1, 3)).toBe(2 ** 32 + 1)
    expect(table.bucket(series, 1, 2)).toBe(0)
  })
})

describe('idle series', () => {
  const other = identity({ reporter: 'source', destination: party({ service: 'other' }) })

  test('are dropped, and start again with a new created time', async () => {
    const { adapter, time } = setUp({ expiryMs: 60_000 })
    const rows = [{ identity: reviews, duration: 5e6, traceId: TRACE }, { identity: other }]
    adapter.take(batchOf(rows))
    for (let k = 0; k < 8; k++) {
      time.ms += 10_000
      adapter.take(batchOf([{ identity: other }]))
    }
    expect(adapter.stats()).toMatchObject({ series: 1, expiredSeries: 1, exemplars: 0, nativeBuckets: 0 })
    const families = await openMetrics(adapter)
    expect([...samplesOf(families, 'istio_requests', 'istio_requests_total').values()]).toEqual([9])
    adapter.take(batchOf([{ identity: reviews, duration: 7e6 }]))
    const again = await openMetrics(adapter)
    const created = samplesOf(again, 'istio_requests', 'istio_requests_created')
    expect([...created.values()].toSorted()).toEqual([NOW / 1000, NOW / 1000 + 80])
    const sums = samplesOf(again, 'istio_request_duration_milliseconds', 'istio_request_duration_milliseconds_sum')
    expect([...sums.values()].toSorted()).toEqual([0, 7])
  })

  test('make room for others, many times over', async () => {
    const { adapter, time } = setUp({ expiryMs: 20_000, seriesMax: 100 })
    for (let round = 0; round < 20; round++) {
      const rows = Array.from(
        { length: 100 },
        (_, k): Row => ({
          identity: identity({ destination: party({ service: `s${round}-${k}` }) }),
          duration: 1e6 + k,
        }),
      )
      adapter.take(batchOf(rows))
      time.ms += 31_000
    }
    expect(adapter.stats()).toMatchObject({ overflowRows: 0, expiredSeries: 1900, series: 100 })
    expect((await bytesOf(adapter, 'text/plain')).toString()).toBe('') // The scrape comes 31 s after the last of them.
    expect(adapter.stats()).toMatchObject({ series: 0, bytes: 0 })
  })

  test('stay while a page is written, but do not wait for a reader that left', async () => {
    const { adapter, time } = setUp({ expiryMs: 30_000 })
    const rows = Array.from(
      { length: 400 },
      (_, k): Row => ({ identity: identity({ mesh: 'm', destination: party({ service: `s${k}` }) }) }),
    )
    adapter.take(batchOf(rows))
    const slow = adapter.scrape('text/plain').body
    await slow.next()
    time.ms += 60_000
    adapter.take(batchOf([{ identity: reviews }]))
    expect(adapter.stats().series).toBe(401)
    await slow.next()
    time.ms += 61_000
    adapter.take(batchOf([{ identity: reviews }]))
    expect(adapter.stats().series).toBe(1)
    await expect(slow.next()).rejects.toThrow('took too long')
    const left = adapter.scrape('text/plain').body
    await left.next()
    await left.return()
    time.ms += 31_000
    adapter.take(batchOf([{ identity: other }]))
    expect(adapter.stats().series).toBe(1)
  })
})

test('100 000 samples are written in parts of well below 50 ms each, while counting goes on', async () => {
  const { adapter } = setUp()
  const rows = Array.from(
    { length: 1500 },
    (_, k): Row => ({
      identity: identity({
        destination: party({ service: `service-${k}`, workload: `workload-${k}`, namespace: 'shop' }),
      }),
      duration: 1e6 * k,
    }),
  )
  const batch = batchOf(rows)
  adapter.take(batch)
  for (const accept of ['text/plain', PROTOBUF]) {
    // The longest stretch between two turns of the event loop, seen by an immediate that runs all the time. In CPU time,
    // so that other work on the machine does not count.
    let longest = 0
    let running = true
    let before = process.threadCpuUsage()
    const watch = (): void => {
      const now = process.threadCpuUsage()
      longest = Math.max(longest, now.user + now.system - before.user - before.system)
      before = now
      if (running) setImmediate(watch)
    }
    setImmediate(watch)
    const parts: Uint8Array[] = []
    for await (const part of adapter.scrape(accept).body) if (parts.push(part) % 16 === 0) adapter.take(batch)
    running = false
    expect(longest / 1000).toBeLessThan(50)
    expect(parts.length).toBeGreaterThan(3)
    const page = Buffer.concat(parts)
    if (accept === 'text/plain') {
      const families = [...readText(page.toString(), false).values()]
      expect(families.reduce((sum, { samples }) => sum + samples.length, 0)).toBeGreaterThan(100_000)
      continue
    }
    for (const { metric } of readProtobuf(page)) {
      for (const { histogram } of metric) {
        if (histogram === null || histogram.zero_threshold === 0) continue
        const counts = [...nativeBuckets(histogram).values()].reduce((sum, n) => sum + n, histogram.zero_count)
        expect(counts).toBe(histogram.sample_count)
      }
    }
  }
})
