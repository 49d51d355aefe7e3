import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest'
import { seededRandom } from '../../src/lib/random.ts'
import { idText, type SeriesState } from '../../src/metrics/series.ts'
import { createTestDatabase } from '../support/clickhouse.ts'
import { identity } from '../support/metrics.ts'
import { startMetricsPipeline } from '../support/metrics-pipeline.ts'
import { startTestStore, type TestStore } from '../support/store.ts'

let test: TestStore

beforeAll(async () => {
  test = await startTestStore({ keep: true })
})
afterAll(async () => {
  await test?.stop()
})

async function folder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sidecast-metrics-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  return dir
}

it('stores series, samples, histograms, exemplars and spans as the store reads them', async () => {
  const database = await createTestDatabase(test)
  const { metrics, spans, stop } = await startMetricsPipeline(test, await folder(), database)
  const at = Date.now() - 10_000
  const counter = metrics.series(
    identity({
      labels: [
        ['envoy_cluster_name', 'ünï\u0000code'],
        ['z', ''],
      ],
      unit: '1',
    }),
  )
  metrics.setCounter(counter, at, 2 ** 53, at - 5000)
  metrics.stale(counter, at + 15)
  const gauge = metrics.series(identity({ name: 'temperature', type: 'gauge' }))
  metrics.setGauge(gauge, at, -12.75)
  metrics.setGauge(gauge, at + 1, Number.NaN)
  const explicit = metrics.series(identity({ name: 'rq_time', type: 'histogram', unit: 'ms' }))
  metrics.distribution(explicit, at, {
    kind: 'explicit',
    temporality: 'cumulative',
    bounds: [0.5, 1, 250],
    counts: [1, 0, 7, 2],
    sum: 900.5,
  })
  const summary = metrics.series(identity({ name: 'gc', type: 'summary' }))
  metrics.distribution(summary, at, {
    kind: 'summary',
    temporality: 'cumulative',
    count: 5,
    sum: 0.5,
    quantiles: [
      [0.5, 0.1],
      [0.99, Number.NaN],
    ],
  })
  metrics.exemplars(explicit, [
    {
      timeMs: at - 3,
      value: 212.5,
      labels: [
        ['trace_id', '0af7651916cd43dd8448eb211c80319c'],
        ['span_id', 'ünï'],
      ],
    },
    { timeMs: at - 2, value: 0.25, labels: [['traceID', 'x']] },
    { timeMs: at - 1, value: 0, labels: [] },
  ])
  spans.add({
    traceId: Buffer.from('0af7651916cd43dd8448eb211c80319c', 'hex'),
    spanId: Buffer.from('b7ad6b7169203331', 'hex'),
    parentSpanId: new Uint8Array(0),
    name: 'ingress',
    kind: 'server',
    service: 'front',
    nodeId: 'node-1',
    scope: 'envoy',
    startNs: BigInt(at) * 1_000_000n + 5n,
    endNs: BigInt(at) * 1_000_000n + 1_234_567_891n,
    status: 'error',
    statusMessage: 'no healthy upstream',
    attributes: [
      ['http.method', 'GET'],
      ['upstream_cluster', 'backend'],
    ],
    resource: [['service.name', 'front']],
    events: '[{"name":"retry"}]',
  })
  await metrics.synced()
  await stop()

  expect(
    await database.rows(
      `SELECT name, labels, type, unit, toString(id) AS id FROM series WHERE name LIKE 'envoy%' ORDER BY name`,
    ),
  ).toEqual([
    {
      name: counter.name,
      labels: { envoy_cluster_name: 'ünï\u0000code', instance: 'node-1', job: 'envoy-statsd' },
      type: 'counter',
      unit: '1',
      id: idText((counter as SeriesState).id),
    },
  ])
  expect(
    await database.rows(`
      SELECT s.name AS name, toUnixTimestamp64Milli(samples.time) - ${at} AS ms, toString(value) AS value,
        toUnixTimestamp64Milli(start) = ${at - 5000} AS started, stale
      FROM samples INNER JOIN series AS s ON s.id = samples.series ORDER BY name, samples.time`),
  ).toEqual([
    { name: counter.name, ms: 0, value: '9007199254740992', started: 1, stale: false },
    { name: counter.name, ms: 15, value: '0', started: 1, stale: true },
    { name: 'temperature', ms: 0, value: '-12.75', started: 0, stale: false },
    { name: 'temperature', ms: 1, value: 'nan', started: 0, stale: false },
  ])
  expect(
    await database.rows(`
      SELECT s.name AS name, scale, h.count AS n, h.sum AS sum, toString(h.buckets) AS buckets, bounds, bound_counts, quantiles,
        toString(quantile_values) AS quantile_values
      FROM histograms AS h INNER JOIN series AS s ON s.id = h.series ORDER BY name`),
  ).toEqual([
    expect.objectContaining({ name: 'gc', n: 5, sum: 0.5, quantiles: [0.5, 0.99], quantile_values: '[0.1,nan]' }),
    {
      name: 'rq_time',
      scale: 6,
      n: 10,
      sum: 900.5,
      // 0.5 = 2^(−64/64); 250 is in (2^(509/64), 2^(510/64)]; what is above it stands in the bucket after.
      buckets: '{-64:1,510:7,511:2}',
      bounds: [0.5, 1, 250],
      bound_counts: [1, 0, 7, 2],
      quantiles: [],
      quantile_values: '[]',
    },
  ])
  expect(
    await database.rows(`
      SELECT s.name AS name, toUnixTimestamp64Milli(e.time) - ${at} AS ms, value, trace_id, e.labels AS labels
      FROM exemplars AS e INNER JOIN series AS s ON s.id = e.series ORDER BY e.time`),
  ).toEqual([
    {
      name: 'rq_time',
      ms: -3,
      value: 212.5,
      trace_id: '0af7651916cd43dd8448eb211c80319c',
      labels: { trace_id: '0af7651916cd43dd8448eb211c80319c', span_id: 'ünï' },
    },
    { name: 'rq_time', ms: -2, value: 0.25, trace_id: 'x', labels: { traceID: 'x' } },
    { name: 'rq_time', ms: -1, value: 0, trace_id: '', labels: {} },
  ])
  expect(
    await database.rows(
      `SELECT trace_id, span_id, parent_span_id, name, kind, service, node_id, status, status_message, attributes, resource, events,
         toString(toUnixTimestamp64Nano(time)) AS start, duration_ns FROM spans`,
    ),
  ).toEqual([
    {
      trace_id: '0af7651916cd43dd8448eb211c80319c',
      span_id: 'b7ad6b7169203331',
      parent_span_id: '',
      name: 'ingress',
      kind: 'server',
      service: 'front',
      node_id: 'node-1',
      status: 'error',
      status_message: 'no healthy upstream',
      attributes: { 'http.method': 'GET', upstream_cluster: 'backend' },
      resource: { 'service.name': 'front' },
      events: '[{"name":"retry"}]',
      start: String(BigInt(at) * 1_000_000n + 5n),
      duration_ns: 1_234_567_886,
    },
  ])
})

it('finds what the store has lost of stats and spans, and stores it again', async () => {
  const database = await createTestDatabase(test)
  const { metrics, sink, delivery, stop } = await startMetricsPipeline(test, await folder(), database)
  const series = metrics.series(identity())
  const at = Date.now() - 1000
  for (let n = 0; n < 100; n++) metrics.setCounter(series, at + n, n)
  await metrics.synced()
  await expect.poll(() => delivery.stats().deliveredSegments, { timeout: 60_000 }).toBeGreaterThan(0)
  const counts = 'SELECT (SELECT count() FROM samples) AS samples, (SELECT count() FROM series) AS series'
  const [stored] = await database.rows<Record<string, number>>(counts)
  expect(stored).toEqual({ samples: 100, series: 1 })
  // All of one table, and a part of another twice.
  const run = (sql: string) =>
    database.clickhouse.execute({ sql, params: {} }, { signal: new AbortController().signal })
  await run('TRUNCATE TABLE samples')
  await run('INSERT INTO series SELECT * FROM series')
  sink.engineStarted()
  expect(await sink.settle(new AbortController().signal)).toEqual({ status: 'accepted' })
  expect(await database.rows(counts)).toEqual([stored])
  expect(sink.counters).toMatchObject({ daysMissing: 1, daysWrong: 1 })
  await stop()
})

it('has every acknowledged value once though writer and engine are killed again and again', async () => {
  const seed = 20_260_102
  const random = seededRandom(seed)
  const dir = await folder()
  const database = await createTestDatabase(test)
  const fromMs = Date.now() - 3_600_000
  let first = 0
  let acknowledged = 0
  let [lives, written] = [0, 0]
  for (; lives < 5; lives++) {
    const life = await killedWriter(dir, fromMs, first, 150 + random() * 400)
    acknowledged = Math.max(acknowledged, life.synced)
    written += life.written - first + 1
    first = life.written + 1
  }
  const delivered = await startMetricsPipeline(test, dir, database)
  for (let kills = 0; kills < 3; kills++) {
    const { pid } = test.store
    if (pid !== undefined) process.kill(pid, 'SIGKILL')
    while (test.store.pid === pid || test.store.state !== 'ready') await sleep(10)
    await sleep(random() * 200)
  }
  await delivered.stop()
  expect(await delivered.sink.settle(new AbortController().signal)).toEqual({ status: 'accepted' })

  const [absolute] = await database.rows<Record<string, number>>(`
    SELECT toUInt32(count()) AS n, toUInt32(uniqExact(series, time)) AS times, toUInt32(uniqExact(series)) AS counters,
      countIf(value != (toUnixTimestamp64Milli(time) - ${fromMs}) / 10 + 1) AS wrong, toUInt32(max(value)) AS last,
      toUInt32(min(value)) AS least
    FROM samples WHERE series IN (SELECT id FROM series WHERE name = 'absolute_total')`)
  const n = Number(absolute!.n)
  const note = `seed ${seed}: ${JSON.stringify({ absolute, acknowledged, written })}`
  expect(Number(absolute!.wrong), note).toBe(0)
  expect(n, note).toBe(Number(absolute!.times))
  expect(absolute!.counters).toBe(20)
  // A killed process may leave a number that was written and not acknowledged, and lose one: nothing in between.
  expect(n, note).toBeGreaterThanOrEqual((acknowledged + 2 - lives) * 20)
  expect(n, note).toBeLessThanOrEqual(written * 20)
  expect(acknowledged, note).toBeGreaterThan(20)
  const missing = await database.rows<{ n: number }>(`
    SELECT toUInt32(number) AS n FROM numbers(${acknowledged + 1}) WHERE number NOT IN (
      SELECT toUInt64(value - 1) FROM samples WHERE series IN (SELECT id FROM series WHERE name = 'absolute_total'))`)
  // Each is one that was being written when its process was killed.
  expect(missing.length, note).toBeLessThan(lives)

  // Increases over all lives, as a reader takes them: what a value has more than the one before, all of it after a fall.
  const increase = async (rows: string) => {
    const [sum] = await database.rows<{ increase: number }>(`
      SELECT arraySum(arrayMap((v, before) -> if(v < before, v, v - before), arraySlice(vs, 2), arrayPopBack(vs))) AS increase
      FROM (SELECT groupArray(v) AS vs FROM (${rows} ORDER BY time))`)
    return Number(sum!.increase)
  }
  const sum = await increase(
    `SELECT value AS v, time FROM samples WHERE series IN (SELECT id FROM series WHERE name = 'sum_total')`,
  )
  const observed = await increase(
    `SELECT count AS v, time FROM histograms WHERE series IN (SELECT id FROM series WHERE name = 'observed')`,
  )
  expect(sum, note).toBe(n / 20)
  expect(observed, note).toBe(sum)
})

/** Runs the writer and kills it. The last number it wrote, and the last it has on disk. */
async function killedWriter(dir: string, fromMs: number, first: number, afterMs: number) {
  const writer = new URL('../support/metrics-writer.ts', import.meta.url).pathname
  const child = spawn(process.execPath, [writer, dir, String(fromMs), String(first)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  let errors = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  const closed = once(child, 'close')
  const deadline = Date.now() + 10_000
  while (!output.includes('s ') && child.exitCode === null && Date.now() < deadline) await sleep(5)
  await sleep(afterMs)
  child.kill('SIGKILL')
  await closed
  const last = (kind: string) => {
    const lines = output.split('\n').filter((line) => line.startsWith(`${kind} `))
    if (lines.length === 0) throw new Error(`the writer said nothing: ${errors}`)
    return Number(lines.at(-1)!.slice(2))
  }
  return { written: last('w'), synced: last('s') }
}
