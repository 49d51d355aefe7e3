import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { openRemoteWrite } from '../../../src/adapters/remote-write/open.ts'
import { boundText } from '../../../src/adapters/remote-write/series.ts'
import { createRemoteWriteReceiver } from '../../../src/ingest/remote-write/receiver.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { createOwnSampler } from '../../../src/metrics/own.ts'
import type { QueryStore } from '../../../src/model/query.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { readText } from '../../support/exposition.ts'
import { exactQuantile, meshRows, openMeshPage, TRACE } from '../../support/mesh-page.ts'
import { recordMetrics } from '../../support/metric-recorder.ts'
import { openMetricsLane } from '../../support/metrics-lane.ts'
import { type PromSample, startPrometheus, type TestPrometheus } from '../../support/prometheus.ts'
import { createTestServer } from '../../support/query.ts'
import { remoteWriteConfig } from '../remote-write/config.ts'

const QUANTILES = [0.5, 0.9, 0.95, 0.99, 0.999]
/** Width of a native bucket of schema 6, in which Prometheus interpolates. */
const BUCKET = 0.011

async function eventually<T>(read: () => Promise<T>, holds: (value: T) => boolean): Promise<T> {
  for (const end = performance.now() + 20_000; ; await sleep(100)) {
    const value = await read()
    if (holds(value)) return value
    if (performance.now() > end) throw new Error(`still not so: ${JSON.stringify(value).slice(0, 2000)}`)
  }
}

const numberOf = (samples: readonly PromSample[]): number => Number(samples[0]?.value?.[1] ?? Number.NaN)

async function expectQuantiles(prometheus: TestPrometheus, histogram: string, values: readonly number[]) {
  for (const q of QUANTILES) {
    const said = numberOf(await prometheus.query(`histogram_quantile(${q}, sum(${histogram}))`))
    const exact = exactQuantile(values, q)
    expect(Math.abs(said - exact) / exact, `${q} of ${histogram}: ${said}, and not ${exact}`).toBeLessThan(BUCKET)
  }
}

test('a real Prometheus scrapes the page, and sends what it has by remote write', async () => {
  const { mesh, take } = openMeshPage()
  const received = recordMetrics()
  const remoteWrite = createRemoteWriteReceiver({ store: received, gate: { closed: false } })
  const server = createTestServer({} as QueryStore, {
    mesh: (accept) => {
      const { contentType: type, body } = mesh.scrape(accept)
      return { type, body }
    },
    remoteWrite,
  })
  await server.start()
  onTestFinished(() => server.stop(AbortSignal.timeout(2000)))
  const rows = meshRows(4000, 11)
  take(rows)
  const prometheus = await startPrometheus({
    config: {
      global: { scrape_interval: '1s', scrape_timeout: '1s' },
      storage: { exemplars: { max_exemplars: 10_000 } },
      scrape_configs: [
        { job_name: 'mesh', metrics_path: '/metrics/mesh', static_configs: [{ targets: [server.address] }] },
      ],
      remote_write: [
        {
          url: `http://${server.address}/prometheus/api/v1/write`,
          send_native_histograms: true,
          send_exemplars: true,
          queue_config: { batch_send_deadline: '100ms' },
          metadata_config: { send_interval: '1s' },
        },
      ],
    },
  })
  const http = rows.filter(({ kind }) => kind !== 1)
  await eventually(
    async () => numberOf(await prometheus.query('sum(istio_requests_total)')),
    (total) => total === http.length,
  )
  const total = async (expr: string) => numberOf(await prometheus.query(expr))
  expect(await total('up{job="mesh"}')).toBe(1)
  expect(await total('sum(istio_tcp_connections_closed_total)')).toBe(rows.length - http.length)
  expect(await total('sum(sidecast_requests_total)')).toBe(rows.length)
  expect(await total('sum(sidecast_request_attempts_total)')).toBe(rows.reduce((sum, row) => sum + row.attempts!, 0))
  const failed = rows.filter(({ flags }) => flags !== 0).length
  expect(await total('sum(sidecast_response_flags_total{flag="UF"})')).toBe(failed)
  expect(await total('sum(sidecast_requests_total{class="server_error",outcome="proxy"})')).toBe(failed)
  const grpc = rows.filter(({ kind, grpcStatus }) => kind !== 1 && grpcStatus === 0).length
  expect(await total('sum(istio_request_messages_total{request_protocol="grpc"})')).toBe(grpc)
  expect(await total('sum(istio_response_messages_total)')).toBe(3 * grpc)
  expect(await prometheus.query('istio_build')).toMatchObject([
    { metric: { component: 'proxy', tag: '1.29.0' }, value: [expect.any(Number), '1'] },
  ])

  const durations = http.map(({ duration }) => duration! / 1e6)
  await expectQuantiles(prometheus, 'istio_request_duration_milliseconds', durations)
  const waits = rows.filter(({ points }) => points!.length > 0).map(({ duration }) => waitOf(duration!) / 1e9)
  await expectQuantiles(prometheus, 'sidecast_request_phase_seconds{phase="upstream_wait"}', waits)
  const natives = await prometheus.query('count({__name__=~".+"}) by (__name__)')
  expect(natives.length).toBeGreaterThan(10)

  const query = encodeURIComponent('istio_request_duration_milliseconds')
  const exemplars = await prometheus.get<{ data: { exemplars: { labels: object; value: string }[] }[] }>(
    `/api/v1/query_exemplars?query=${query}&start=${Date.now() / 1000 - 300}&end=${Date.now() / 1000 + 60}`,
  )
  const all = exemplars.data.flatMap((one) => one.exemplars)
  expect(all.length).toBeGreaterThan(0)
  for (const { labels, value } of all) {
    expect(labels).toEqual({ trace_id: TRACE })
    expect(durations).toContain(Number(value))
  }

  await eventually(
    async () => received.written.filter(({ write }) => write === 'exemplars'),
    (list) => list.length > 0,
  )
  for (const { name, value } of received.written.filter(({ write }) => write === 'exemplars')) {
    expect(name).toMatch(/^istio_request_duration_milliseconds(_bucket)?$/)
    expect(durations).toContain(value)
  }

  // What it sent back is what it had: numbers, native histograms, labels as they are.
  await eventually(
    async () => received.written.filter(({ write }) => write === 'distribution').length,
    (count) => count >= 2,
  )
  const back = received.written.filter(({ name }) => name === 'istio_requests_total')
  expect(back.length).toBeGreaterThan(0)
  expect(back[0]?.series).toMatch(/^mesh\/127\.0\.0\.1:\d+ istio_requests_total\{/)
  const native = received.written.findLast(
    ({ name, labels }) =>
      name === 'istio_request_duration_milliseconds' &&
      labels.destination_workload === 'checkout' &&
      labels.response_code === '200',
  )
  const ofCheckout = http.filter((row) => row.identity === rows[1]!.identity && row.code === 200)
  expect(native?.distribution).toMatchObject({ kind: 'exponential', count: ofCheckout.length })
  expect(remoteWrite.counters.rejected.size).toBe(0)
  expect([...remoteWrite.counters.answers.keys()]).toEqual([204])
  expect(prometheus.log()).not.toMatch(/level=(error|warn).*(scrape|remote)/i)
})

/** From the last byte sent to the first byte of the answer: points 2 and 3 of `meshRows`. */
const waitOf = (duration: number): number => Math.floor(duration * 0.8) - Math.floor(duration * 0.06)

test('a real Prometheus takes our remote write, and has exactly what the page showed', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'sidecast-remote-write-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  const prometheus = await startPrometheus({ config: { storage: { exemplars: { max_exemplars: 1000 } } } })
  const { mesh, take, page } = openMeshPage()
  const rig = await openMetricsLane(join(dir, 'journal'))
  const { journal } = rig
  const shared = { journal, clock: systemClock, log: silentLog, data: dir, host: 'h', version: '0' }
  const config = remoteWriteConfig({
    url: `${prometheus.url}/api/v1/write`,
    samplesMax: 100,
    externalLabels: { site: 'a' },
  })
  const adapter = (await openRemoteWrite(config, shared))!
  await rig.start()
  for (const stage of adapter.stages) await stage.start()
  const sampler = createOwnSampler({
    store: rig.metrics,
    clock: systemClock,
    log: silentLog,
    everyMs: 0,
    instance: () => 'here:1',
    process: async () => [],
    mesh: () => mesh.series(true),
    startedMs: Date.now(),
  })
  const rows = meshRows(3000, 5)
  take(rows.slice(0, 1000))
  await sampler.sample()
  await sleep(20)
  take(rows.slice(1000))
  await sampler.sample()
  const shown = readText((await page('text/plain')).toString(), false)
  await rig.metrics.synced()
  await rig.stop()
  const [delivery] = adapter.deliveries
  await eventually(
    async () => delivery!.backlog().segments,
    (left) => left === 0,
  )

  expect(delivery!.stats()).toMatchObject({ rejectedSegments: 0 })
  // 2.42 knows 1.0 alone: it finds nothing in what 2.0 sends, and says so by saying nothing.
  expect(adapter.counters!()).toMatchObject({ version: 1, samples_rejected_total: 0, samples_out_of_order_total: 0 })
  const stored = new Map<string, number>()
  for (const { metric, value } of await prometheus.query('{job="sidecast-mesh"}')) {
    const { job, instance, site, ...labels } = metric
    expect([job, instance, site]).toEqual(['sidecast-mesh', 'here:1', 'a'])
    if (value !== undefined) stored.set(keyOf(labels), Number(value[1]))
  }
  let compared = 0
  for (const { samples } of shown.values()) {
    for (const { name, labels, le, value } of samples) {
      const bound = le === undefined ? {} : { le: boundText(le) }
      // Empty labels are no labels to Prometheus.
      const own = Object.fromEntries(Object.entries(labels).filter(([, text]) => text !== ''))
      const key = keyOf({ __name__: name, ...own, ...bound })
      expect(stored.get(key), key).toBe(value)
      stored.delete(key)
      compared++
    }
  }
  expect(compared).toBeGreaterThan(500)
  expect([...stored.keys()]).toEqual([])
  const durations = rows.filter(({ kind }) => kind !== 1).map(({ duration }) => duration! / 1e6)
  await expectQuantiles(prometheus, 'istio_request_duration_milliseconds', durations)

  // Traces that are an example of a bucket are at that bucket, as OpenMetrics shows them.
  const onPage = new Set<string>()
  for (const { samples } of readText((await page('application/openmetrics-text')).toString(), true).values()) {
    for (const { exemplar } of samples)
      if (exemplar !== undefined) onPage.add(`${exemplar.labels.trace_id} ${exemplar.value}`)
  }
  const query = encodeURIComponent('istio_request_duration_milliseconds_bucket')
  const { data } = await prometheus.get<{ data: ExemplarSeries[] }>(
    `/api/v1/query_exemplars?query=${query}&start=0&end=${Date.now() / 1000 + 86_400}`,
  )
  const arrived = new Set<string>()
  for (const { seriesLabels, exemplars } of data) {
    const bound = Number(seriesLabels.le === '+Inf' ? Number.POSITIVE_INFINITY : seriesLabels.le)
    for (const { labels, value } of exemplars) {
      expect(Number(value)).toBeLessThanOrEqual(bound)
      arrived.add(`${labels.trace_id} ${Number(value)}`)
    }
  }
  expect(onPage.size).toBeGreaterThan(0)
  expect([...onPage].filter((one) => !arrived.has(one))).toEqual([])
  expect(adapter.counters!().exemplars_delivered_total).toBeGreaterThanOrEqual(onPage.size)
  for (const stage of adapter.stages.toReversed()) await stage.stop(AbortSignal.timeout(2000))
  await journal.stop(AbortSignal.timeout(2000))
})

interface ExemplarSeries {
  readonly seriesLabels: Readonly<Record<string, string>>
  readonly exemplars: readonly { readonly labels: Readonly<Record<string, string>>; readonly value: string }[]
}

const keyOf = (labels: Readonly<Record<string, string>>): string =>
  JSON.stringify(Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1)))
