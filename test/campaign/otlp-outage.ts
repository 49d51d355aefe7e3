import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { logsOf, pointsOf, spansOf } from '../support/otlp-proto.ts'
import { startOtlpTarget, type TargetAnswer, type TargetCall } from '../support/otlp-target.ts'
import { startSidecast } from '../support/sidecast.ts'

/**
 * The target of OTLP is away for a long time, while requests go on:
 *
 *   node test/campaign/otlp-outage.ts [--minutes 30] [--rate 20]
 *
 * What must hold: after it came back it has every request as span and log record, and all of them in its metrics; nothing
 * was delayed meanwhile on its way to the store. Prints one JSON object; the exit code is 1 when something does not hold.
 */
const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '30' }, rate: { type: 'string', default: '20' } },
})
const outageMs = Number(values.minutes) * 60_000
const rate = Number(values.rate)
/** Of half of the probes; the machine may be busy with other things. */
const FRESH_MS_MAX = 2000
const AROUND_MS = 10_000

const spans = new Set<string>()
const logs = new Set<string>()
const counts = { spans: 0, logs: 0, counted: 0 }
const target = await startOtlpTarget()
target.answer(counting)
const sidecast = await startSidecast({
  set: [
    `adapters.otlp.endpoint=${target.address}`,
    'adapters.otlp.traces.sample=1',
    'adapters.otlp.logs.sample=1',
    'adapters.otlp.metrics.interval=10s',
    'adapters.otlp.selfTraces.enabled=false',
  ],
})
const differences: string[] = []
let sent = 0
let stopped = false
/** How long requests took to be found, ms. */
const probes: number[] = []
try {
  const sending = send()
  const probing = probe()
  await sleep(AROUND_MS)
  await target.behave('away')
  await sleep(outageMs)
  const held = await account()
  await target.behave('accept')
  // `behave` sets an answer of its own.
  target.answer(counting)
  const back = performance.now()
  await sleep(AROUND_MS)
  stopped = true
  await Promise.all([sending, probing])
  for (const end = performance.now() + 300_000; performance.now() < end && !complete(); await sleep(200));
  const drainedMs = Math.round(performance.now() - back)
  if (spans.size !== sent) differences.push(`${spans.size} of ${sent} requests are spans`)
  if (logs.size !== sent) differences.push(`${logs.size} of ${sent} requests are log records`)
  if (counts.counted !== sent) differences.push(`${counts.counted} of ${sent} requests are in the metrics`)
  const [median = 0, p99 = 0] = [0.5, 0.99].map((q) => probes.toSorted((a, b) => a - b)[Math.floor(q * probes.length)])
  if (median > FRESH_MS_MAX) differences.push(`the store was ${median} ms behind`)
  const stored = await storedRows()
  if (stored !== sent) differences.push(`${stored} of ${sent} requests are stored`)
  console.log(
    JSON.stringify({
      campaign: 'otlp-outage',
      ...values,
      sent,
      stored,
      spans: spans.size,
      logs: logs.size,
      counted: counts.counted,
      sentTwice: counts.spans - spans.size + counts.logs - logs.size,
      heldAtTheEnd: held,
      drainedMs,
      probes: probes.length,
      freshnessMs: { median, p99 },
      differences,
    }),
  )
} finally {
  stopped = true
  await sidecast.close()
  await target.close()
}
process.exitCode = differences.length === 0 ? 0 : 1

/** Counts what came, and takes it. */
function counting({ signal, bytes }: TargetCall): TargetAnswer {
  if (signal === 'traces') {
    for (const { kind, spanId, traceId } of spansOf(bytes)) {
      if (kind !== 2) continue
      counts.spans++
      spans.add(`${traceId} ${spanId}`)
    }
  } else if (signal === 'logs') {
    for (const { spanId, traceId } of logsOf(bytes)) {
      counts.logs++
      logs.add(`${traceId} ${spanId}`)
    }
  } else {
    for (const { name, histogram } of pointsOf(bytes)) {
      if (histogram !== null && name !== 'sidecast.phase.duration') counts.counted += histogram.count
    }
  }
  return { response: Buffer.alloc(0) }
}

function complete(): boolean {
  return spans.size >= sent && logs.size >= sent && counts.counted >= sent
}

async function send(): Promise<void> {
  for (let next = performance.now(); !stopped; next += 1000) {
    await post(Array.from({ length: rate }, () => line(sent++)))
    await sleep(Math.max(0, next + 1000 - performance.now()))
  }
}

async function post(lines: readonly string[]): Promise<void> {
  const response = await fetch(`http://${sidecast.http}/ingest/v1/logs`, { method: 'POST', body: lines.join('\n') })
  const { accepted } = (await response.json()) as { readonly accepted: number }
  if (accepted !== lines.length) throw new Error(`${accepted} of ${lines.length} lines were accepted`)
}

function line(n: number): string {
  return JSON.stringify({
    start_time: new Date().toISOString(),
    method: 'GET',
    path: `/orders/${n}`,
    protocol: 'HTTP/1.1',
    response_code: 200,
    response_flags: '-',
    response_code_details: 'via_upstream',
    duration: n % 400,
    bytes_sent: 1234,
    bytes_received: 0,
    upstream_host: `10.0.0.${n % 250}:8080`,
    upstream_cluster: `outbound|80||orders-${n % 10}.shop.svc.cluster.local`,
    authority: `orders-${n % 10}`,
    request_id: `${n.toString(16).padStart(8, '0')}-1111-4222-8333-944445555666`,
    route_name: 'default',
  })
}

/** How long a request takes from its answer to be found, every few seconds. */
async function probe(): Promise<void> {
  while (!stopped) {
    const n = sent++
    await post([line(n)])
    const began = performance.now()
    for (;;) {
      const found = await sidecast.get<{ rows: readonly unknown[] }>(
        `/api/v1/requests?from=-5m&limit=1&where=${encodeURIComponent(`path=/orders/${n}`)}`,
      )
      if (found.rows.length > 0) break
      await sleep(50)
    }
    probes.push(Math.round(performance.now() - began))
    await sleep(5000)
  }
}

async function storedRows(): Promise<number> {
  const { series } = await sidecast.get<{ series: { points: { n: number }[] }[] }>(
    '/api/v1/latency?from=-3h&to=now&q=0.5&view=all',
  )
  return series[0]?.points[0]?.n ?? 0
}

/** Rows that wait for each part of the adapter. */
async function account(): Promise<unknown> {
  const { adapters } = await sidecast.get<{ adapters?: unknown }>('/api/v1/status')
  return adapters ?? null
}
