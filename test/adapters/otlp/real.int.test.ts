import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { openOtlp } from '../../../src/adapters/otlp/open.ts'
import { createGrpcServer } from '../../../src/ingest/grpc/index.ts'
import { createExporter } from '../../../src/ingest/otlp/export.ts'
import { createOtlpServices } from '../../../src/ingest/otlp/services.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { PHASES } from '../../../src/model/phases.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { createTestGate } from '../../support/grpc-server.ts'
import { createOtlpDecoding } from '../../support/otlp.ts'
import { type OtlpSettings, otlpConfig } from '../../support/otlp-config.ts'
import { type JaegerSpan, startCollector, startJaeger } from '../../support/otlp-programs.ts'
import { openRequestsRig } from '../../support/requests-rig.ts'
import { expectConserved } from '../../support/sink-contract.ts'

const ALL: OtlpSettings = {
  traces: { sample: 1 },
  logs: { sample: 1 },
  metrics: { interval: '100ms' },
  selfTraces: { enabled: false },
}

async function run(settings: OtlpSettings) {
  const rig = await openRequestsRig()
  const { journal, dir } = rig
  const shared = { journal, clock: systemClock, log: silentLog, data: dir, host: 'host-1', version: '1.2.3' }
  const adapter = (await openOtlp(otlpConfig(settings), shared))!
  for (const stage of adapter.stages) await stage.start()
  const stop = async (signal: AbortSignal) => {
    for (const stage of adapter.stages.toReversed()) await stage.stop(signal)
  }
  onTestFinished(() => stop(AbortSignal.abort()))
  return {
    rig,
    adapter,
    stop,
    delivered: () => until(() => adapter.deliveries.every((one) => one.backlog().segments === 0)),
  }
}

async function until<T>(holds: () => T | Promise<T>): Promise<NonNullable<Exclude<T, false>>> {
  for (const end = performance.now() + 20_000; ; await sleep(20)) {
    const value = await holds()
    if (value !== false && value !== null && value !== undefined) return value as NonNullable<Exclude<T, false>>
    if (performance.now() > end) throw new Error('still not so')
  }
}

const tagOf = (span: JaegerSpan, key: string): unknown => span.tags.find((tag) => tag.key === key)?.value
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'

describe('a real Jaeger', () => {
  test('has a request as server and client span, with phases, and nothing to complain about', async () => {
    const jaeger = await startJaeger()
    const { rig, adapter, delivered } = await run({ ...ALL, endpoint: jaeger.address })
    await rig.seal(1, (entry) => {
      entry.traceId = TRACE
      entry.spanId = ''
      entry.code = 503
      entry.responseCodeDetails = 'via_upstream'
    })
    await rig.seal(200)
    await delivered()
    const trace = await until(() => jaeger.trace(TRACE))
    expect(trace.spans.length).toBe(2)
    const server = trace.spans.find((span) => tagOf(span, 'span.kind') === 'server')!
    const client = trace.spans.find((span) => tagOf(span, 'span.kind') === 'client')!
    expect(client.references).toMatchObject([{ refType: 'CHILD_OF', spanID: server.spanID }])
    expect([server.warnings, client.warnings]).toEqual([null, null])
    expect(tagOf(server, 'error')).toBe(true)
    expect(tagOf(server, 'error.type')).toBe('503')
    expect(tagOf(server, 'http.response.status_code')).toBe(503)
    expect(trace.processes[server.processID]!.serviceName).toBe('web')
    const events = server.logs.map(({ fields }) => fields.find(({ key }) => key === 'event')?.value)
    expect(events.every((event) => PHASES.some((phase) => event === `phase.${phase}`))).toBe(true)
    const lasted = server.logs.map(({ fields }) => Number(fields.find(({ key }) => key.endsWith('duration_ns'))!.value))
    expect(Math.floor(lasted.reduce((sum, ns) => sum + ns, 0) / 1000)).toBe(server.duration)
    expect((await jaeger.traces('web', 1000)).length).toBe(201)
    // Jaeger has no place for metrics and logs.
    expect(adapter.counters!()).toMatchObject({ traces_items_accepted_total: 402, logs_items_accepted_total: 0 })
    expectConserved(adapter)
  })

  test('has the traces of Sidecast’s own batches: the segment, and each delivery of it', async () => {
    const jaeger = await startJaeger()
    const { rig, stop, delivered } = await run({ ...ALL, endpoint: jaeger.address, selfTraces: { enabled: true } })
    const segment = await rig.seal(5)
    await delivered()
    await stop(new AbortController().signal)
    const traces = await until(async () => {
      const found = await jaeger.traces('sidecast', 10)
      return found.length > 0 ? found : null
    })
    expect(traces.length).toBe(1)
    const [{ spans }] = traces as [(typeof traces)[0]]
    const root = spans.find(({ operationName }) => operationName === 'segment')!
    expect(tagOf(root, 'sidecast.segment')).toBe(segment.id)
    expect(tagOf(root, 'sidecast.rows.requests')).toBe(5)
    expect(spans.map(({ operationName }) => operationName).sort()).toEqual([
      'deliver otlp-logs',
      'deliver otlp-metrics',
      'deliver otlp-traces',
      'segment',
    ])
    for (const span of spans) {
      // A delivery begins after its segment has ended, which Jaeger may take for a wrong clock; a parent that is missing it says too.
      expect((span.warnings ?? []).filter((warning) => !warning.startsWith('clock skew'))).toEqual([])
      if (span !== root) expect(span.references).toMatchObject([{ spanID: root.spanID }])
    }
    const delivery = spans.find(({ operationName }) => operationName === 'deliver otlp-traces')!
    expect([tagOf(delivery, 'sidecast.outcome'), tagOf(delivery, 'sidecast.rows')]).toEqual(['accepted', 5])
  })
})

/** Items below `resource…[] → scope…[]` of OTLP's JSON form. */
function itemsOf(
  bodies: readonly Record<string, unknown>[],
  names: readonly [string, string, string],
): Record<string, unknown>[] {
  return bodies.flatMap((body) =>
    (body[names[0]] as readonly Record<string, readonly Record<string, unknown>[]>[]).flatMap((group) =>
      group[names[1]]!.flatMap((scoped) => scoped[names[2]] as Record<string, unknown>[]),
    ),
  )
}

describe('a real OpenTelemetry Collector', () => {
  test('understands all three signals, and says the same as we do', async () => {
    const collector = await startCollector()
    const { rig, adapter, delivered } = await run({ ...ALL, endpoint: collector.address })
    await rig.seal(300, (entry, k) => {
      if (k % 10 === 0) entry.code = 500
    })
    await delivered()
    const spans = itemsOf(collector.received.traces, ['resourceSpans', 'scopeSpans', 'spans'])
    const logs = itemsOf(collector.received.logs, ['resourceLogs', 'scopeLogs', 'logRecords'])
    const metrics = itemsOf(collector.received.metrics, ['resourceMetrics', 'scopeMetrics', 'metrics'])
    expect([spans.length, logs.length]).toEqual([600, 300])
    expect(new Set(logs.map(({ spanId }) => spanId as string))).toEqual(
      new Set(spans.filter(({ kind }) => kind === 2).map(({ spanId }) => spanId as string)),
    )
    expect(logs.filter(({ severityText }) => severityText === 'ERROR').length).toBe(30)
    const points = metrics
      .filter(({ name }) => name === 'http.client.request.duration')
      .flatMap(({ exponentialHistogram: histogram }) => {
        expect(histogram).toMatchObject({ aggregationTemporality: 1 })
        return (histogram as { readonly dataPoints: readonly Record<string, unknown>[] }).dataPoints
      })
    expect(points.reduce((sum, { count }) => sum + Number(count), 0)).toBe(300)
    for (const { count, scale, positive } of points) {
      expect(scale).toBe(6)
      const { bucketCounts } = positive as { readonly bucketCounts: readonly string[] }
      expect(bucketCounts.reduce((sum, value) => sum + Number(value), 0)).toBe(Number(count))
    }
    expect(adapter.counters!()).toMatchObject({
      traces_items_accepted_total: 600,
      traces_items_rejected_total: 0,
      logs_items_accepted_total: 300,
      metrics_items_rejected_total: 0,
    })
    expectConserved(adapter)
  })
})

describe('Sidecast’s own receiver', () => {
  test('takes all three signals', async () => {
    const decoding = createOtlpDecoding()
    const exporter = createExporter({
      ...decoding.decoders,
      writer: decoding.writing.writer,
      gate: createTestGate(),
      rowsSynced: async () => {},
      metricsSynced: async () => {},
    })
    const server = createGrpcServer({
      listen: '127.0.0.1:0',
      option: 'test',
      services: createOtlpServices(exporter),
      log: silentLog,
    })
    await server.start()
    onTestFinished(() => server.stop(AbortSignal.abort()))
    const { rig, adapter, delivered } = await run({ ...ALL, endpoint: server.address })
    await rig.seal(50)
    await delivered()
    expect(decoding.spans.length).toBe(100)
    expect(decoding.spans.filter(({ kind }) => kind === 'server').length).toBe(50)
    expect(adapter.counters!()).toMatchObject({ traces_items_rejected_total: 0, metrics_items_rejected_total: 0 })
    expect(adapter.counters!().metrics_items_accepted_total).toBeGreaterThan(0)
  })
})
