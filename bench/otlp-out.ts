import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { SpanKind, SpanStatusCode, TraceFlags } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import { resourceFromAttributes } from '@opentelemetry/resources'
import type { ReadableSpan } from '@opentelemetry/sdk-trace'
import { createOtlpClient } from '../src/adapters/otlp/client.ts'
import { createRowsSink } from '../src/adapters/otlp/rows-sink.ts'
import { clientTls } from '../src/lib/tls.ts'
import type { RowSignal } from '../src/otlp/row-requests.ts'
import { createRowFilter, isFilterFault } from '../src/pipeline/row-filter.ts'
import { silentLog } from '../src/telemetry/log.ts'
import { type Fill, makeRows, makeSegment } from '../test/support/otlp-rows.ts'
import { startOtlpTarget } from '../test/support/otlp-target.ts'

/**
 * What a row costs on its way to a target of OTLP over gRPC, and what the same spans cost through OpenTelemetry's own
 * exporter:
 *
 *   node bench/otlp-out.ts [--rows 200000] [--gzip]
 *
 * CPU of this process, from the segment's file to the target's answer; the target is another process. JSON.
 */
const { values } = parseArgs({
  options: { rows: { type: 'string', default: '200000' }, gzip: { type: 'boolean', default: false } },
})
if (process.send !== undefined) {
  const target = await startOtlpTarget()
  target.answer(() => ({ response: Buffer.alloc(0) }))
  process.send(target.address)
  await new Promise(() => {})
}

const BLOCK = 10_000
const total = Number(values.rows)
const child = fork(import.meta.filename, { stdio: 'inherit' })
const [address] = (await once(child, 'message')) as [string]
const dir = mkdtempSync(join(tmpdir(), 'sidecast-bench-otlp-'))
const everything = createRowFilter([])
if (isFilterFault(everything)) throw new Error('no filter')

const client = createOtlpClient({
  endpoint: { secure: false, target: address },
  headers: {},
  gzip: values.gzip,
  timeoutMs: 30_000,
  userAgent: 'bench',
  tls: clientTls({}, 'tls'),
})
try {
  const blocks = Array.from({ length: Math.ceil(total / BLOCK) }, (_, b) =>
    makeRows(Array.from({ length: BLOCK }, (_, k) => request(b * BLOCK + k))),
  )
  const rows = blocks.length * BLOCK
  const segment = makeSegment(dir, blocks)
  const run = async (signal: RowSignal, sample: number) => {
    const sink = createRowsSink({
      signal,
      name: 'bench',
      client,
      filter: everything,
      rules: { sample, classes: ['server_error', 'aborted'], slowNs: 1e9, rare: 5, wholeTraces: true },
      requestBytesMax: 3 << 20,
      version: 'bench',
      log: silentLog,
    })
    const cost = await cpuOf(async () => {
      const outcome = await sink.send(segment, new AbortController().signal)
      if (outcome.status !== 'accepted') throw new Error(outcome.error.message)
    })
    const { itemsAccepted, bytes } = sink.counters
    return {
      usPerRow: round(cost / rows),
      items: itemsAccepted,
      bytesPerItem: round(bytes / Math.max(itemsAccepted, 1)),
    }
  }
  // Once for the compilers.
  await run('traces', 1)
  await run('logs', 1)
  console.log(
    JSON.stringify({
      bench: 'otlp-out',
      rows,
      gzip: values.gzip,
      spansOfAllRows: await run('traces', 1),
      spansOfATenth: await run('traces', 0.1),
      recordsOfAllRows: await run('logs', 1),
      openTelemetryExporter: await exporter(Math.min(rows, 20_000)),
    }),
  )
} finally {
  client.close()
  child.kill()
  rmSync(dir, { recursive: true, force: true })
}

function round(value: number): number {
  return Math.round(value * 100) / 100
}

/** µs. */
async function cpuOf(work: () => Promise<void>): Promise<number> {
  const before = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(before)
  return user + system
}

/** The same two spans for each row, as objects, through the exporter of OpenTelemetry in batches of 512. */
async function exporter(rows: number): Promise<object> {
  const otel = new OTLPTraceExporter({
    url: `http://${address}`,
    ...(values.gzip ? { compression: 'gzip' as never } : {}),
  })
  const resource = resourceFromAttributes({ 'service.name': 'edge', 'service.instance.id': 'edge-1' })
  const send = (spans: ReadableSpan[]) =>
    new Promise<void>((resolve, reject) =>
      otel.export(spans, ({ code, error }) => (code === 0 ? resolve() : reject(error))),
    )
  const pass = () =>
    cpuOf(async () => {
      for (let from = 0; from < rows; from += 256) {
        const spans: ReadableSpan[] = []
        for (let k = from; k < Math.min(from + 256, rows); k++) spans.push(...readableSpans(k, resource))
        await send(spans)
      }
    })
  await pass()
  const cost = await pass()
  await otel.shutdown()
  return { rows, usPerRow: round(cost / rows) }
}

function readableSpans(k: number, resource: ReadableSpan['resource']): ReadableSpan[] {
  const traceId = `${k.toString(16).padStart(16, '0')}b34da6a3ce929d0e`
  const attributes = {
    'http.request.method': 'GET',
    'http.response.status_code': 200,
    'url.scheme': 'https',
    'url.path': `/orders/${k}`,
    'server.address': 'shop.example',
    'user_agent.original': 'okhttp/4.12.0',
    'client.address': '10.1.2.3',
    'network.peer.address': '10.0.0.1',
    'network.peer.port': 40_000,
    'network.protocol.name': 'http',
    'network.protocol.version': '2',
    'envoy.upstream_cluster': 'outbound|80||orders.shop.svc.cluster.local',
    'envoy.response_code_details': 'via_upstream',
    'envoy.attempts': 1,
    'http.response.body.size': 1234,
    'http.request.header.x-request-id': [`${k.toString(16).padStart(8, '0')}-1111-4222-8333-944445555666`],
    'sidecast.outcome': 'upstream',
    'sidecast.class': 'success',
    'sidecast.reporter': 'source',
    'sidecast.destination.service': 'orders',
    'sidecast.destination.namespace': 'shop',
    'sidecast.segment': 'segment-1',
  }
  const start = 1_767_225_600
  const span = (kind: SpanKind, spanId: string, events: number): ReadableSpan => ({
    name: 'GET',
    kind,
    spanContext: () => ({ traceId, spanId, traceFlags: TraceFlags.SAMPLED }),
    startTime: [start, k],
    endTime: [start, k + 1000],
    status: { code: SpanStatusCode.UNSET },
    attributes,
    links: [],
    events: Array.from({ length: events }, (_, at) => ({
      name: 'phase.upstream_wait',
      time: [start, k + at] as [number, number],
      attributes: { 'sidecast.phase.duration_ns': at },
      droppedAttributesCount: 0,
    })),
    duration: [0, 1000],
    ended: true,
    resource,
    instrumentationScope: { name: 'sidecast', version: 'bench' },
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  })
  return [span(SpanKind.SERVER, '00f067aa0ba902b7', 7), span(SpanKind.CLIENT, '00f067aa0ba902b8', 0)]
}

/** A request as a sidecar's access log has it. */
function request(k: number): Fill {
  return (entry) => {
    entry.startSeconds = 1_767_225_600
    entry.startNanos = k
    entry.durationNs = 1_000_000 + (k % 1000) * 100_000
    entry.rxEndNs = 100
    entry.upTxBeginNs = 1100
    entry.upTxEndNs = 1200
    entry.upRxBeginNs = entry.durationNs - 300_000
    entry.downTxBeginNs = entry.durationNs - 200_000
    entry.upRxEndNs = entry.durationNs - 100_000
    entry.downTxEndNs = entry.durationNs
    entry.code = k % 100 === 0 ? 503 : 200
    entry.responseCodeDetails = 'via_upstream'
    entry.attempts = 1
    entry.method = 'GET'
    entry.protocol = 'HTTP/2'
    entry.scheme = 'https'
    entry.authority = `orders-${k % 40}.shop`
    entry.path = `/orders/${k}`
    entry.userAgent = 'okhttp/4.12.0'
    entry.requestId = `${k.toString(16).padStart(8, '0')}-1111-4222-8333-944445555666`
    entry.traceId = `${(Math.imul(k + 1, 0x9e3779b1) >>> 0).toString(16).padStart(8, '0')}77b34da6${(Math.imul(k + 7, 0x85ebca6b) >>> 0).toString(16).padStart(8, '0')}${(Math.imul(k + 3, 0xc2b2ae35) >>> 0).toString(16).padStart(8, '0')}`
    entry.spanId = `${k.toString(16).padStart(16, '0')}`
    entry.upstreamCluster = `outbound|80||orders-${k % 40}.shop.svc.cluster.local`
    entry.upstreamHost = `10.0.${k % 4}.${k % 250}:8080`
    entry.downstreamRemote = `10.1.${k % 9}.${k % 251}:41234`
    entry.downstreamDirect = '10.0.0.1:40000'
    entry.responseBodyBytes = 1234
  }
}
