import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { openRemoteWrite, type RemoteWriteConfig } from '../../../src/adapters/remote-write/open.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { retryAfterMs } from '../../../src/lib/retry-after.ts'
import type { Adapter } from '../../../src/pipeline/adapter.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { openMetricsLane } from '../../support/metrics-lane.ts'
import { startFakeReceiver } from '../../support/remote-write.ts'
import { remoteWriteConfig } from './config.ts'

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-rw-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

async function run(dir: string, config: Partial<RemoteWriteConfig>) {
  const rig = await openMetricsLane(join(dir, 'journal'), { ageMs: 3_600_000 })
  const { journal, metrics } = rig
  const shared = { journal, clock: systemClock, log: silentLog, data: dir, host: 'h', version: '1.2.3' }
  const adapter: Adapter = (await openRemoteWrite(remoteWriteConfig(config), shared))!
  await rig.start()
  for (const stage of adapter.stages) await stage.start()
  const [delivery] = adapter.deliveries
  const of = (name: string, path = '', job = 'sidecast-mesh') =>
    metrics.series({ job, instance: 'i', name, labels: [['path', path]], type: 'counter', help: 'Help.' })
  let stopped = false
  const stop = async () => {
    if (stopped) return
    stopped = true
    for (const stage of adapter.stages.toReversed()) await stage.stop(AbortSignal.timeout(300))
    await rig.stop()
    await journal.stop(AbortSignal.timeout(1000))
  }
  onTestFinished(stop)
  return {
    adapter,
    delivery: delivery!,
    metrics,
    of,
    stop,
    async seal() {
      await metrics.synced()
      journal.seal()
      await journal.settled()
    },
    async drained() {
      for (const end = performance.now() + 10_000; delivery!.backlog().segments > 0; await sleep(10)) {
        if (performance.now() > end) throw new Error(JSON.stringify(delivery!.stats()))
      }
    },
  }
}

test('only the jobs that are configured go out, with external labels, headers and the version', async () => {
  const receiver = await startFakeReceiver()
  onTestFinished(() => receiver.close())
  const { metrics, of, seal, drained, adapter } = await run(folder(), {
    url: receiver.url,
    externalLabels: { site: 'berlin', path: 'never' },
    headers: { 'x-scope-orgid': 'tenant' },
    token: 'secret',
  })
  metrics.setCounter(of('a_total', '/x'), Date.now(), 3, Date.now() - 5000)
  metrics.setCounter(of('b_total', '/x', 'envoy-scrape'), Date.now(), 4)
  await seal()
  await drained()
  expect(receiver.requests.flatMap(({ series }) => series.map(({ key, help, type }) => [key, help, type]))).toEqual([
    ['a_total{instance="i",job="sidecast-mesh",path="/x",site="berlin"}', 'Help.', 'COUNTER'],
  ])
  expect(receiver.requests[0]?.headers).toMatchObject({
    'content-encoding': 'snappy',
    'x-prometheus-remote-write-version': '2.0.0',
    'user-agent': 'sidecast/1.2.3',
    'x-scope-orgid': 'tenant',
    authorization: 'Bearer secret',
  })
  expect(adapter.counters!()).toMatchObject({ version: 2, samples_delivered_total: 1, series_known: 1 })
  expect(adapter.endpoint).not.toContain('secret')
})

test('a receiver of 1.0 gets 1.0, and metadata once a minute', async () => {
  const receiver = await startFakeReceiver(['1.0'])
  onTestFinished(() => receiver.close())
  const { metrics, of, seal, drained, adapter } = await run(folder(), { url: receiver.url })
  for (let k = 0; k < 3; k++) {
    metrics.setCounter(of('a_total'), Date.now() + k, k)
    await seal()
  }
  await drained()
  expect(receiver.requests.map(({ headers }) => headers['x-prometheus-remote-write-version'])).toEqual([
    '0.1.0',
    '0.1.0',
    '0.1.0',
  ])
  expect(receiver.metadata).toEqual([expect.objectContaining({ type: 'COUNTER', metric_family_name: 'a_total' })])
  expect(adapter.counters!()).toMatchObject({ version: 1, requests_total: 4 })
})

test('of a segment that failed half-way the rest is sent, and no sample twice', async () => {
  const receiver = await startFakeReceiver()
  onTestFinished(() => receiver.close())
  const { metrics, of, seal, drained } = await run(folder(), { url: receiver.url, samplesMax: 1 })
  metrics.setCounter(of('zero_total'), Date.now(), 1)
  await seal()
  await drained()
  receiver.answerWith({ status: 503, headers: { 'retry-after': '0' } }, { status: 429 })
  for (let k = 0; k < 4; k++) metrics.setCounter(of(`n${k}_total`), Date.now(), k)
  await seal()
  await drained()
  const names = receiver.requests.flatMap(({ series }) => series.map(({ labels }) => labels.__name__))
  expect(names).toEqual(['zero_total', 'n0_total', 'n1_total', 'n2_total', 'n3_total'])
})

test('after a restart the labels of series that the journal told before are known', async () => {
  const receiver = await startFakeReceiver()
  onTestFinished(() => receiver.close())
  const dir = folder()
  const first = await run(dir, { url: receiver.url })
  first.metrics.setCounter(first.of('a_total', '/1'), Date.now() - 1000, 1)
  await first.seal()
  await first.drained()
  await receiver.behave('away')
  first.metrics.setCounter(first.of('a_total', '/1'), Date.now(), 2)
  await first.seal()
  await first.stop()
  // A torn line, as a power cut leaves it.
  writeFileSync(join(dir, 'remote-write', 'series.log'), 'abcdef01 ["x",{"na', { flag: 'a' })
  await receiver.behave('accept')
  const second = await run(dir, { url: receiver.url })
  await second.drained()
  expect(receiver.requests.flatMap(({ series }) => series.map(({ key, samples }) => [key, samples[0]?.value]))).toEqual(
    [
      ['a_total{instance="i",job="sidecast-mesh",path="/1"}', 1],
      ['a_total{instance="i",job="sidecast-mesh",path="/1"}', 2],
    ],
  )
  expect(second.adapter.counters!().series_log_damaged_total).toBe(0)
  expect(readFileSync(join(dir, 'remote-write', 'series.log'), 'utf8')).not.toContain('abcdef01')
})

test('what a receiver has newer ones of is passed over; what it refuses is a dead letter; set-up is waited for', async () => {
  const receiver = await startFakeReceiver()
  onTestFinished(() => receiver.close())
  const { metrics, of, seal, drained, adapter, delivery } = await run(folder(), { url: receiver.url, version: '2.0' })
  const send = async (answer: { status: number; text?: string }) => {
    receiver.answerWith(answer)
    metrics.setCounter(of('a_total'), Date.now(), 1)
    await sleep(2)
    await seal()
    await drained()
  }
  await send({ status: 400, text: 'out of order sample' })
  expect(adapter.counters!()).toMatchObject({ samples_out_of_order_total: 1, samples_rejected_total: 0 })
  await send({ status: 400, text: 'label value too long' })
  expect(adapter.counters!()).toMatchObject({ samples_rejected_total: 1 })
  expect(delivery.stats()).toMatchObject({
    rejectedSegments: 1,
    lastError: expect.stringContaining('label value too long'),
  })
  await send({ status: 401, text: 'who are you' })
  expect(delivery.stats()).toMatchObject({ rejectedSegments: 1, retries: 1, failures: 0 })
})

test.each(['1.0', '2.0'] as const)('exemplars go with their series, at their bucket, in %s', async (version) => {
  const receiver = await startFakeReceiver()
  onTestFinished(() => receiver.close())
  const { metrics, of, seal, drained, adapter } = await run(folder(), { url: receiver.url, version })
  const at = Date.now() - 1000
  const exemplar = (value: number, trace: string, ms = 0) => ({
    timeMs: at + ms,
    value,
    labels: [['trace_id', trace] as const],
  })
  const latency = metrics.series({ job: 'sidecast-mesh', instance: 'i', name: 'ms', labels: [], type: 'histogram' })
  metrics.setCounter(of('a_total'), at, 3)
  metrics.exemplars(of('a_total'), [exemplar(1, 'of-a')])
  metrics.distribution(latency, at, { kind: 'explicit', temporality: 'cumulative', bounds: [1, 10], counts: [1, 1, 1] })
  metrics.exemplars(latency, [exemplar(10, 'in-10', 1), exemplar(99, 'above', 2), exemplar(0.5, 'in-1')])
  metrics.exemplars(of('not_ours_total', '', 'envoy-scrape'), [exemplar(7, 'never')])
  await seal()
  // No value of the series in this segment.
  metrics.exemplars(latency, [exemplar(2, 'late', 5)])
  await seal()
  await drained()
  const told = receiver.requests.map(({ series }) =>
    series
      .filter(({ exemplars }) => exemplars.length > 0)
      .map(({ labels, exemplars }) => [
        `${labels.__name__} ${labels.le ?? ''}`,
        exemplars.map(({ value, timestamp }) => [value, timestamp - at]),
      ]),
  )
  expect(told.flat()).toEqual([
    ['a_total ', [[1, 0]]],
    ['ms_bucket 1.0', [[0.5, 0]]],
    ['ms_bucket 10.0', [[10, 1]]],
    ['ms_bucket +Inf', [[99, 2]]],
    ['ms_bucket 10.0', [[2, 5]]],
  ])
  expect(adapter.counters!()).toMatchObject({ exemplars_delivered_total: 5, exemplars_dropped_total: 0 })
})

test('exemplars stay here where that is said', async () => {
  const receiver = await startFakeReceiver()
  onTestFinished(() => receiver.close())
  const { metrics, of, seal, drained } = await run(folder(), { url: receiver.url, exemplars: false })
  metrics.setCounter(of('a_total'), Date.now(), 3)
  metrics.exemplars(of('a_total'), [{ timeMs: Date.now(), value: 1, labels: [['trace_id', 'x']] }])
  await seal()
  await drained()
  expect(receiver.requests.flatMap(({ series }) => series.map(({ exemplars }) => exemplars.length))).toEqual([0])
})

test('too large a request is cut in halves', async () => {
  const receiver = await startFakeReceiver()
  onTestFinished(() => receiver.close())
  const { metrics, of, seal, drained } = await run(folder(), { url: receiver.url, version: '2.0' })
  receiver.answerWith({ status: 413 })
  for (let k = 0; k < 5; k++) metrics.setCounter(of(`n${k}_total`), Date.now(), k)
  await seal()
  await drained()
  expect(receiver.requests.map(({ series }) => series.length)).toEqual([2, 3])
})

test('a wrong address is told at the start', async () => {
  await expect(run(folder(), { url: 'ftp://somewhere' })).rejects.toThrow('no http:// or https:// URL')
  await expect(run(folder(), { url: 'http://user:secret@somewhere' })).rejects.toThrow(
    /^(?!.*secret).*user or a password/,
  )
})

test.each([
  ['3', 3000],
  ['999999', 3_600_000],
  ['Wed, 21 Oct 2026 07:28:10 GMT', 10_000],
  ['soon', undefined],
  [undefined, undefined],
])('Retry-After: %s is %s ms', (text, ms) => expect(retryAfterMs(text, Date.UTC(2026, 9, 21, 7, 28))).toBe(ms))
