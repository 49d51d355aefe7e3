import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { framed } from '../../support/als-decoding.ts'
import { type BytesClient, connectGrpc } from '../../support/grpc-client.ts'
import { type Sidecast, startSidecast } from '../../support/sidecast.ts'

/** What Envoy recorded, sent to the whole product by both transports, and read back from its API. */
let sidecast: Sidecast
let client: BytesClient
beforeAll(async () => {
  sidecast = await startSidecast()
  client = connectGrpc(sidecast.grpc)
})
afterAll(async () => {
  client?.close()
  await sidecast?.close()
})

const messages = (name: string): Buffer[] =>
  framed(readFileSync(new URL(`../../fixtures/otlp/${name}.bin`, import.meta.url)))
const INTERVAL = 'from=2026-11-20T00:00:00Z&to=2026-11-23T00:00:00Z'

interface Requests {
  readonly rows: readonly { readonly [column: string]: unknown; readonly trace_id: string }[]
}
interface Trace {
  readonly trace_id: string
  readonly spans: readonly { readonly [column: string]: unknown; readonly span_id: string }[]
  readonly requests: readonly { readonly trace_id: string; readonly span_id: string }[]
}

/** Waits until the store has what was acknowledged. */
async function eventually<T>(ask: () => Promise<T>, done: (answer: T) => boolean): Promise<T> {
  for (let k = 0; ; k++) {
    const answer = await ask()
    if (done(answer) || k === 100) return answer
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

test('access logs become requests, once, and a request leads to the spans of its trace', async () => {
  for (const message of messages('otlp-logs')) {
    const path = '/opentelemetry.proto.collector.logs.v1.LogsService/Export'
    expect((await client.unary(path, message)).length).toBe(0)
  }
  for (const message of messages('otlp-logs-http')) {
    const headers = { 'content-type': 'application/x-protobuf' }
    const body = new Uint8Array(message)
    const answer = await fetch(`http://${sidecast.otlpHttp}/v1/logs`, { method: 'POST', headers, body })
    expect(answer.status).toBe(200)
    await answer.arrayBuffer()
  }
  for (const message of messages('otlp-traces')) {
    await client.unary('/opentelemetry.proto.collector.trace.v1.TraceService/Export', message)
  }
  const { rows } = await eventually(
    () => sidecast.get<Requests>(`/api/v1/requests?view=all&limit=1000&${INTERVAL}`),
    (answer) => answer.rows.length >= 85,
  )
  expect(rows.length).toBe(85)
  expect(rows.every((row) => row.source === 'otlp' && row.node_id === 'edge-1')).toBe(true)

  const slow = rows.find((row) => (row.custom_tags as Record<string, string>)['envoy.scenario'] === 'ok-delay')!
  const trace = await eventually(
    () => sidecast.get<Trace>(`/api/v1/traces/${slow.trace_id}`),
    (answer) => answer.spans.length >= 2,
  )
  expect(trace.requests.map((request) => request.trace_id)).toEqual([slow.trace_id])
  expect(trace.spans.map(({ kind, service, scope }) => ({ kind, service, scope }))).toEqual([
    { kind: 'server', service: 'edge', scope: 'envoy' },
    { kind: 'client', service: 'edge', scope: 'envoy' },
  ])
  const [server, downstream] = trace.spans
  expect(downstream!.parent_span_id).toBe(server!.span_id)
  expect(slow.span_id).toBe(server!.span_id)
  // The tracer and the access log time the same stream.
  expect(Math.abs(Number(server!.duration_ns) - Number(slow.duration_ns))).toBeLessThan(5_000_000)
  expect(JSON.stringify(server!.attributes)).not.toMatch(/\?[^"]*=[^*]/)
  expect((downstream!.events as unknown[]).length).toBeGreaterThan(2)
})

test('a trace that there is not, and ids that are none', async () => {
  const ask = async (id: string) => (await fetch(`http://${sidecast.http}/api/v1/traces/${id}`)).status
  expect(await ask('00000000000000000000000000000001')).toBe(404)
  expect(await ask('nonsense')).toBe(400)
})

test("Envoy's stats are series under the names of its own page", async () => {
  for (const message of messages('otlp-metrics')) {
    const headers = { 'content-type': 'application/x-protobuf', 'x-sidecast-node': 'edge-1' }
    const body = new Uint8Array(message)
    const answer = await fetch(`http://${sidecast.otlpHttp}/v1/metrics`, { method: 'POST', headers, body })
    expect(answer.status).toBe(200)
    await answer.arrayBuffer()
  }
  interface Vector {
    readonly data: {
      readonly result: readonly { readonly metric: object; readonly value: readonly [number, string] }[]
    }
  }
  const query = encodeURIComponent('envoy_cluster_membership_healthy{envoy_cluster_name="up_h1"}')
  const at = '2026-11-21T03:24:20Z'
  const { data } = await eventually(
    () => sidecast.get<Vector>(`/prometheus/api/v1/query?query=${query}&time=${at}`),
    (answer) => answer.data.result.length > 0,
  )
  expect(data.result).toEqual([
    {
      metric: {
        __name__: 'envoy_cluster_membership_healthy',
        envoy_cluster_name: 'up_h1',
        instance: 'edge-1',
        job: 'envoy-otlp',
      },
      value: [Date.parse(at) / 1000, '1'],
    },
  ])
})

test('what was received is counted at /metrics and in the status', async () => {
  const page = await (await fetch(`http://${sidecast.http}/metrics`)).text()
  expect(page).toMatch(/^sidecast_otlp_accepted_total\{signal="logs"\} 85$/m)
  expect(page).toMatch(/^sidecast_otlp_accepted_total\{signal="metrics"\} 1469$/m)
  expect(page).toMatch(/^sidecast_otlp_accepted_total\{signal="traces"\} 144$/m)
  expect(page).toMatch(/^sidecast_otlp_http_answers_total\{code="200"\} 7$/m)
  interface Status {
    readonly listeners: readonly { readonly name: string; readonly address: string }[]
    readonly receivers: readonly { readonly name: string; readonly rows: number; readonly rejected: number }[]
  }
  const { listeners, receivers } = await sidecast.get<Status>('/api/v1/status')
  expect(listeners).toContainEqual({ name: 'otlp_http', address: sidecast.otlpHttp, state: 'listening', error: null })
  expect(receivers).toContainEqual(expect.objectContaining({ name: 'otlp', rows: 85, rejected: 0 }))
})
