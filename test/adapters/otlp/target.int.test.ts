import { createServer as createHttp2Server } from 'node:http2'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { status } from '@grpc/grpc-js'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { OtlpConfig } from '../../../src/adapters/otlp/faults.ts'
import { openOtlp } from '../../../src/adapters/otlp/open.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { type OtlpSettings, otlpConfig } from '../../support/otlp-config.ts'
import { encodeResponse, logsOf, pointsOf, spansOf } from '../../support/otlp-proto.ts'
import { statusDetails } from '../../support/otlp-status.ts'
import { type OtlpTarget, startOtlpTarget } from '../../support/otlp-target.ts'
import { openRequestsRig } from '../../support/requests-rig.ts'
import { expectConserved } from '../../support/sink-contract.ts'

const TRACES_ALONE: OtlpSettings = {
  traces: { sample: 1 },
  logs: { enabled: false },
  metrics: { enabled: false },
  selfTraces: { enabled: false },
}

async function openTarget(options: Parameters<typeof startOtlpTarget>[0] = {}): Promise<OtlpTarget> {
  const target = await startOtlpTarget(options)
  onTestFinished(() => target.close())
  return target
}

/** The adapter on a journal of its own. */
async function run(settings: OtlpSettings) {
  const rig = await openRequestsRig()
  const config: OtlpConfig = otlpConfig(settings)
  const { journal, dir } = rig
  const shared = { journal, clock: systemClock, log: silentLog, data: dir, host: 'host-1', version: '1.2.3' }
  const adapter = (await openOtlp(config, shared))!
  for (const stage of adapter.stages) await stage.start()
  const stop = async (ms = 5000) => {
    const deadline = new AbortController()
    const timer = setTimeout(() => deadline.abort(), ms)
    for (const stage of adapter.stages.toReversed()) await stage.stop(deadline.signal)
    clearTimeout(timer)
  }
  onTestFinished(() => stop(0))
  return { rig, adapter, stop, counters: () => adapter.counters!() }
}

async function until(holds: () => boolean, what: () => unknown = () => ''): Promise<void> {
  for (const end = performance.now() + 15_000; !holds(); await sleep(5)) {
    if (performance.now() > end) throw new Error(`still not so: ${JSON.stringify(what())}`)
  }
}
const done = (adapter: { deliveries: readonly { backlog(): { segments: number } }[] }) => () =>
  adapter.deliveries.every((delivery) => delivery.backlog().segments === 0)
const servers = (target: OtlpTarget) =>
  target.accepted
    .flatMap(({ signal, bytes }) => (signal === 'traces' ? spansOf(bytes) : []))
    .filter(({ kind }) => kind === 2)

describe('OTLP over gRPC', () => {
  test('RetryInfo is waited for, and the same request comes again', async () => {
    const target = await openTarget()
    const times: number[] = []
    target.answer(() => {
      times.push(performance.now())
      if (times.length > 1) return { response: Buffer.alloc(0) }
      return {
        code: status.RESOURCE_EXHAUSTED,
        details: 'quota',
        trailers: { 'grpc-status-details-bin': statusDetails(8, { retryDelayMs: 700 }) },
      }
    })
    const { rig, adapter } = await run({ ...TRACES_ALONE, endpoint: target.address })
    await rig.seal(10)
    await until(done(adapter))
    // Not before: timers of Node may be a millisecond early.
    expect(times[1]! - times[0]!).toBeGreaterThanOrEqual(699)
    expect(servers(target).length).toBe(10)
  })

  test('a partial success is counted and never sent again', async () => {
    const target = await openTarget()
    target.answer(({ signal }) => ({ response: encodeResponse(signal, 4, 'too old') }))
    const { rig, adapter, counters } = await run({ ...TRACES_ALONE, endpoint: target.address })
    await rig.seal(10)
    await until(done(adapter))
    expect(target.calls.traces).toBe(1)
    expect(counters()).toMatchObject({
      traces_items_accepted_total: 16,
      traces_items_rejected_total: 4,
      traces_partial_total: 1,
      traces_rows_total: 10,
    })
    expectConserved(adapter)
  })

  test('what is too large is halved until it fits; a single span that never does is rejected', async () => {
    const target = await openTarget({ messageMax: 6000 })
    const { rig, adapter, counters } = await run({ ...TRACES_ALONE, compression: 'none', endpoint: target.address })
    await rig.seal(40, (entry, k) => {
      if (k === 7) entry.path = `/${'x'.repeat(8000)}`
    })
    await until(done(adapter))
    const made = counters()
    expect(servers(target).length).toBe(39)
    // The long path is in both spans of its row.
    expect(made).toMatchObject({ traces_items_accepted_total: 78, traces_items_rejected_total: 2 })
    expect(made.traces_split_total).toBeGreaterThan(5)
    for (const { bytes } of target.accepted) expect(bytes.length).toBeLessThanOrEqual(6000)
    expectConserved(adapter)
  })

  test('a retry goes on where it was: what the target has is not sent again', async () => {
    const target = await openTarget()
    let calls = 0
    target.answer(() =>
      ++calls === 3 || calls === 7 ? { code: status.UNAVAILABLE, details: '' } : { response: Buffer.alloc(0) },
    )
    const { rig, adapter } = await run({ ...TRACES_ALONE, requestMax: '4 KiB', endpoint: target.address })
    await rig.seal(60)
    await until(done(adapter))
    const ids = servers(target).map(({ spanId }) => spanId)
    expect(target.accepted.length).toBeGreaterThan(8)
    expect([ids.length, new Set(ids).size]).toEqual([60, 60])
  })

  test('a target without logs and metrics gets its spans; the rest counts as dropped, and no disk fills', async () => {
    const target = await openTarget()
    target.answer(({ signal }) =>
      signal === 'traces' ? { response: Buffer.alloc(0) } : { code: status.UNIMPLEMENTED, details: 'unknown service' },
    )
    const { rig, adapter, counters } = await run({
      endpoint: target.address,
      traces: { sample: 1 },
      logs: { sample: 1 },
      metrics: { interval: '100ms' },
      selfTraces: { enabled: false },
    })
    for (let k = 0; k < 3; k++) await rig.seal(10)
    await until(done(adapter))
    expect(servers(target).length).toBe(30)
    expect([target.calls.logs, target.calls.metrics]).toEqual([1, 1])
    expect(rig.journal.stats().deadLettered).toBe(0)
    expect(counters().logs_items_rejected_total).toBe(30)
    expect(adapter.deliveries.map((delivery) => [delivery.sink, delivery.account().dropped])).toEqual([
      ['otlp-traces', 0],
      ['otlp-logs', 30],
      ['otlp-metrics', 30],
    ])
    expectConserved(adapter)
  })

  test('a key that is not taken sets the segment aside after one request', async () => {
    const target = await openTarget()
    target.answer(({ metadata }) =>
      metadata.get('x-api-key')[0] === 'right'
        ? { response: Buffer.alloc(0) }
        : { code: status.UNAUTHENTICATED, details: 'who' },
    )
    const wrong = await run({
      ...TRACES_ALONE,
      requestMax: '4 KiB',
      headers: { 'x-api-key': 'wrong' },
      endpoint: target.address,
    })
    await wrong.rig.seal(60)
    await until(done(wrong.adapter))
    expect(target.calls.traces).toBe(1)
    expect(wrong.adapter.deliveries[0]!.account()).toMatchObject({ rejected: 60, delivered: 0 })
    expect(wrong.rig.journal.stats().deadLettered).toBe(1)
    const right = await run({ ...TRACES_ALONE, headers: { 'X-Api-Key': 'right' }, endpoint: target.address })
    await right.rig.seal(5)
    await until(done(right.adapter))
    expect(servers(target).length).toBe(5)
  })

  test('filters and rules leave out what they say, and every row is accounted for', async () => {
    const target = await openTarget()
    const { rig, adapter, counters } = await run({
      ...TRACES_ALONE,
      endpoint: target.address,
      where: ['path=~/kept.*'],
      traces: { sample: 0, rare: 0, slow: '0s', classes: ['server_error'], wholeTraces: false },
    })
    await rig.seal(90, (entry, k) => {
      entry.path = k % 3 === 0 ? '/left' : '/kept'
      entry.code = k % 10 === 1 ? 503 : 200
    })
    await until(done(adapter))
    const kept = Array.from({ length: 90 }, (_, k) => k).filter((k) => k % 3 !== 0 && k % 10 === 1).length
    expect(servers(target).length).toBe(kept)
    expect(counters()).toMatchObject({
      traces_rows_total: 90,
      traces_rows_filtered_total: 30,
      traces_rows_sampled_out_total: 60 - kept,
    })
    expect(adapter.deliveries[0]!.account()).toMatchObject({ received: 90, delivered: kept, dropped: 90 - kept })
  })

  test('a target that goes away in the middle, for long, loses nothing and delays nobody', async () => {
    const away = await openTarget()
    const other = await openTarget()
    const both = await openRequestsRig()
    const { journal, dir } = both
    const shared = { journal, clock: systemClock, log: silentLog, data: dir, host: 'host-1', version: '1.2.3' }
    const settings: OtlpSettings = {
      ...TRACES_ALONE,
      traces: { sample: 1 },
      logs: { sample: 1 },
      metrics: { interval: '100ms' },
    }
    const first = (await openOtlp(otlpConfig({ ...settings, endpoint: away.address }), shared))!
    // Another adapter on the same journal needs readers of its own.
    const named = new Proxy(journal, {
      get(_, key) {
        if (key === 'reader') return (name: string) => journal.reader(`other-${name}`)
        const value = Reflect.get(journal, key)
        return typeof value === 'function' ? value.bind(journal) : value
      },
    })
    const second = (await openOtlp(otlpConfig({ ...settings, endpoint: other.address }), {
      ...shared,
      journal: named,
    }))!
    for (const stage of [...first.stages, ...second.stages]) await stage.start()
    onTestFinished(async () => {
      const over = AbortSignal.abort()
      for (const stage of [...first.stages, ...second.stages].toReversed()) await stage.stop(over)
    })
    await both.seal(20)
    await until(() => done(first)() && done(second)())
    await away.behave('away')
    for (let k = 0; k < 30; k++) {
      await both.seal(20)
      // Segment by segment: the other one is never behind.
      await until(() => second.deliveries.slice(0, 2).every((delivery) => delivery.backlog().segments === 0))
    }
    expect(first.deliveries[0]!.backlog()).toMatchObject({ segments: 30, rows: 600 })
    await away.behave('accept')
    await until(
      () => done(first)() && done(second)(),
      () => first.deliveries.map((delivery) => delivery.stats()),
    )
    for (const target of [away, other]) {
      const spans = servers(target).map(({ spanId }) => spanId)
      expect([spans.length, new Set(spans).size]).toEqual([620, 620])
      const logs = target.accepted.flatMap(({ signal, bytes }) => (signal === 'logs' ? logsOf(bytes) : []))
      expect(logs.length).toBe(620)
      const points = target.accepted.flatMap(({ signal, bytes }) => (signal === 'metrics' ? pointsOf(bytes) : []))
      const requests = points.filter(({ name }) => /^http\..*duration$/.test(name))
      expect(requests.reduce((sum, { histogram }) => sum + histogram!.count, 0)).toBe(620)
    }
    expectConserved(first)
  })

  test('a proxy that answers 404 in place of the target is waited out', async () => {
    const target = await openTarget()
    let away = true
    const proxy = createHttp2Server((request, response) => {
      request.resume()
      response.writeHead(404, { 'content-type': 'text/html' })
      response.end('<h1>nowhere</h1>')
    })
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void proxy.close())
    const { port } = proxy.address() as { readonly port: number }
    const way = await startWay(() => (away ? `127.0.0.1:${port}` : target.address))
    const { rig, adapter } = await run({ ...TRACES_ALONE, endpoint: way.address })
    await rig.seal(10)
    await until(() => adapter.deliveries[0]!.stats().retries >= 2)
    expect(adapter.deliveries[0]!.account()).toMatchObject({ held: 10, dropped: 0, rejected: 0 })
    away = false
    way.cut()
    await until(done(adapter))
    expect(servers(target).length).toBe(10)
  })

  test('a connection that is cut inside a request is no loss', async () => {
    const target = await openTarget()
    const cutter = await startCutter(target.address)
    const { rig, adapter } = await run({
      ...TRACES_ALONE,
      compression: 'none',
      requestMax: '64 KiB',
      endpoint: cutter.address,
    })
    await rig.seal(300)
    await until(done(adapter))
    expect(cutter.cuts).toBe(3)
    expect(new Set(servers(target).map(({ spanId }) => spanId)).size).toBe(300)
    expectConserved(adapter)
  })
})

/** A way to the target that breaks off its first three connections after 20 000 bytes. */
async function startCutter(address: string): Promise<{ readonly address: string; readonly cuts: number }> {
  const [host, port] = address.split(':') as [string, string]
  let cuts = 0
  const server: Server = createServer((client: Socket) => {
    const target = connect(Number(port), host)
    let bytes = 0
    client.on('data', (chunk) => {
      bytes += chunk.length
      if (cuts < 3 && bytes > 20_000) {
        cuts++
        client.resetAndDestroy()
        target.destroy()
      } else target.write(chunk)
    })
    target.on('data', (chunk) => client.write(chunk))
    for (const socket of [client, target]) {
      socket.on('error', () => {})
      socket.on('close', () => {
        client.destroy()
        target.destroy()
      })
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const bound = server.address() as { readonly port: number }
  return {
    address: `127.0.0.1:${bound.port}`,
    get cuts() {
      return cuts
    },
  }
}

/** Leads connections to wherever `to` says when they come. */
async function startWay(to: () => string): Promise<{ readonly address: string; cut(): void }> {
  const open = new Set<Socket>()
  const server = createServer((client) => {
    const [host, port] = to().split(':') as [string, string]
    const target = connect(Number(port), host)
    client.pipe(target).pipe(client)
    for (const socket of [client, target]) {
      open.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        client.destroy()
        target.destroy()
        open.delete(socket)
      })
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const cut = () => {
    for (const socket of open) socket.destroy()
  }
  onTestFinished(() => {
    cut()
    server.close()
  })
  const { port } = server.address() as { readonly port: number }
  return { address: `127.0.0.1:${port}`, cut }
}
