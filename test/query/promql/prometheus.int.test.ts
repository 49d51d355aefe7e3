import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { QueryServer } from '../../../src/query/server.ts'
import { createTestDatabase, type TestDatabase } from '../../support/clickhouse.ts'
import { startMetricsPipeline } from '../../support/metrics-pipeline.ts'
import { createTestServer } from '../../support/query.ts'
import { startTestStore, type TestStore } from '../../support/store.ts'

let test: TestStore
let database: TestDatabase
let server: QueryServer
const ends: (() => Promise<void>)[] = []
/** On a whole second, so that times in answers are short. */
const nowMs = Math.floor(Date.now() / 1000) * 1000 - 60_000
const at = String(nowMs / 1000)

beforeAll(async () => {
  test = await startTestStore({ keep: true })
  const onEnd = (work: () => Promise<void>) => void ends.push(work)
  database = await createTestDatabase(test, { onEnd })
  const dir = await mkdtemp(join(tmpdir(), 'sidecast-promql-'))
  onEnd(() => rm(dir, { recursive: true, force: true }))
  const { metrics, stop } = await startMetricsPipeline(test, dir, database)
  const of = (name: string, type: 'counter' | 'gauge' | 'histogram' | 'summary', k: number) =>
    metrics.series({ job: 'envoy-scrape', instance: `node-${k}`, name, labels: [['cluster', `c${k % 2}`]], type })
  for (let k = 0; k < 4; k++) {
    // 20 samples, 15 s apart, the last one now: a counter that rises by k + 1 each time, and restarts in the middle.
    for (let n = 0; n < 20; n++) {
      const value = (n < 10 ? n : n - 10) * (k + 1)
      metrics.setCounter(of('requests_total', 'counter', k), nowMs - (19 - n) * 15_000, value)
    }
    metrics.setGauge(of('temperature', 'gauge', k), nowMs - 299_000 - (k === 3 ? 2000 : 0), k + 0.5)
    const histogram = of('request_time', 'histogram', k)
    for (const step of [1, 2]) {
      metrics.distribution(histogram, nowMs - (2 - step) * 15_000, {
        kind: 'explicit',
        temporality: 'cumulative',
        bounds: [1, 5, 10],
        counts: [step, 2 * step, step, 0],
        sum: 20 * step,
      })
    }
  }
  const gone = of('gone', 'gauge', 0)
  metrics.setGauge(gone, nowMs - 30_000, 7)
  metrics.stale(gone, nowMs - 15_000)
  metrics.setGauge(of('infinite', 'gauge', 0), nowMs, Number.POSITIVE_INFINITY)
  metrics.distribution(of('pause', 'summary', 0), nowMs, {
    kind: 'summary',
    temporality: 'cumulative',
    count: 10,
    sum: 3,
    quantiles: [
      [0.5, 0.25],
      [0.99, 0.75],
    ],
  })
  const timer = of('timer', 'histogram', 0)
  metrics.distribution(timer, nowMs, { kind: 'values', values: [0, 0.5, 2, 3] })
  await metrics.synced()
  await stop()
  server = createTestServer(database.clickhouse)
  await server.start()
  ends.push(() => server.stop(AbortSignal.timeout(5000)))
})
afterAll(async () => {
  for (const end of ends.reverse()) await end()
  await test?.stop()
})

interface Answer {
  readonly status: string
  readonly errorType?: string
  readonly error?: string
  readonly data: { resultType: string; result: { metric: Record<string, string>; value: [number, string] }[] }
}

async function ask(query: string, time = at): Promise<{ status: number; body: Answer }> {
  const parameters = new URLSearchParams({ query, time })
  const answer = await fetch(`http://${server.address}/prometheus/api/v1/query?${parameters}`)
  return { status: answer.status, body: (await answer.json()) as Answer }
}

/** Values by `instance`, or by all labels when there is none. */
async function values(query: string, time?: string): Promise<Record<string, string>> {
  const { status, body } = await ask(query, time)
  expect(status, JSON.stringify(body)).toBe(200)
  return Object.fromEntries(
    body.data.result.map(({ metric, value }) => {
      const { instance, le, quantile, ...rest } = metric
      return [
        [instance ?? JSON.stringify(rest), le ?? quantile].filter((part) => part !== undefined).join(' '),
        value[1],
      ]
    }),
  )
}

describe('an instant query', () => {
  it('has the form that Prometheus has', async () => {
    const { status, body } = await ask('requests_total{instance="node-0"}')
    expect(status).toBe(200)
    expect(body).toEqual({
      status: 'success',
      data: {
        resultType: 'vector',
        result: [
          {
            metric: { __name__: 'requests_total', cluster: 'c0', instance: 'node-0', job: 'envoy-scrape' },
            value: [nowMs / 1000, '9'],
          },
        ],
      },
    })
    expect((await ask('1+1', '4')).body.data).toEqual({ resultType: 'scalar', result: [4, '2'] })
  })

  it('takes a form by POST, and RFC 3339', async () => {
    const answer = await fetch(`http://${server.address}/prometheus/api/v1/query`, {
      method: 'POST',
      body: new URLSearchParams({ query: 'sum(requests_total)', time: new Date(nowMs).toISOString(), timeout: '5s' }),
    })
    expect(await answer.json()).toMatchObject({ data: { result: [{ metric: {}, value: [nowMs / 1000, '90'] }] } })
  })

  it.each([
    ['requests_total{instance=~"node-[01]"}', { 'node-0': '9', 'node-1': '18' }],
    ['requests_total{instance!="node-0",cluster="c0"}', { 'node-2': '27' }],
    ['requests_total{instance!~"node-[012]"}', { 'node-3': '36' }],
    ['{__name__=~"requests.*",instance="node-1"}', { 'node-1': '18' }],
    ['requests_total{instance=~"ode-0"}', {}],
    ['requests_total{nothing=""} > 30', { 'node-3': '36' }],
    ['requests_total{nothing!=""}', {}],
    ['sum by (cluster) (requests_total)', { '{"cluster":"c0"}': '36', '{"cluster":"c1"}': '54' }],
    ['requests_total{instance="node-0"} offset 1m', { 'node-0': '5' }],
    [`requests_total{instance="node-0"} @ ${nowMs / 1000 - 150}`, { 'node-0': '9' }],
    // 19 steps of 15 s, 18 of which rise: 9 × 1 twice; the fall is to 0.
    ['increase(requests_total{instance="node-0"}[285s])', { 'node-0': String((17 * 285) / 270) }],
    ['resets(requests_total[10m]) == 1', { 'node-0': '1', 'node-1': '1', 'node-2': '1', 'node-3': '1' }],
    ['infinite', { 'node-0': '+Inf' }],
  ])('%s', async (query, wanted) => {
    expect(await values(query)).toEqual(wanted)
  })

  it('looks back five minutes, without their first instant, and not past the end of a series', async () => {
    expect(await values('temperature')).toEqual({ 'node-0': '0.5', 'node-1': '1.5', 'node-2': '2.5' })
    expect(await values('temperature', String(nowMs / 1000 + 1))).toEqual({})
    expect(await values('gone', String(nowMs / 1000 - 16))).toEqual({ 'node-0': '7' })
    expect(await values('gone')).toEqual({})
    expect(await values('count_over_time(gone[5m])')).toEqual({ 'node-0': '1' })
  })

  it('shows histograms and summaries as their classic series', async () => {
    const of = (name: string) => `${name}{instance="node-0"}`
    expect(await values(of('request_time_bucket'))).toEqual({
      'node-0 1': '2',
      'node-0 5': '6',
      'node-0 10': '8',
      'node-0 +Inf': '8',
    })
    expect(await values(of('request_time_count'))).toEqual({ 'node-0': '8' })
    expect(await values(of('request_time_sum'))).toEqual({ 'node-0': '40' })
    expect(await values(of('request_time'))).toEqual({})
    expect(await values('request_time_bucket{instance="node-0",le="5.0"}')).toEqual({ 'node-0 5': '6' })
    expect(await values('sum by (le) (request_time_bucket{le=~"1|5"})')).toEqual({ '{} 1': '8', '{} 5': '24' })
    const median = await values('histogram_quantile(0.5, sum by (le) (rate(request_time_bucket[1m])))')
    expect(Number(median['{}'])).toBeCloseTo(3, 9)
    expect(await values('pause')).toEqual({ 'node-0 0.5': '0.25', 'node-0 0.99': '0.75' })
    expect(await values('pause_count')).toEqual({ 'node-0': '10' })
    // Observations: as fine as our buckets are.
    expect(await values('timer_count')).toEqual({ 'node-0': '4' })
    const timer = await values('timer_bucket')
    expect(Object.values(timer)).toEqual(['1', '2', '3', '4', '4'])
  })

  it.each([
    ['sum(', 400, 'bad_data'],
    ['', 400, 'bad_data'],
    ['requests_total{instance=~"("}', 400, 'bad_data'],
    ['label_replace(a, "b", "c", "d", "e")', 422, 'execution'],
    ['requests_total / on() requests_total', 422, 'execution'],
  ])('%s is refused as Prometheus does', async (query, status, errorType) => {
    const answer = await ask(query)
    expect(answer.status).toBe(status)
    expect(answer.body).toMatchObject({ status: 'error', errorType, error: expect.stringMatching(/./) })
  })

  it('refuses a time that is none', async () => {
    expect((await ask('up', 'yesterday')).body).toMatchObject({ errorType: 'bad_data' })
  })
})
