import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { spansOf } from '../support/otlp-proto.ts'
import { startOtlpTarget } from '../support/otlp-target.ts'
import { startSidecast } from '../support/sidecast.ts'

const LINES = 40
const line = (k: number): string =>
  JSON.stringify({
    start_time: new Date().toISOString(),
    method: 'GET',
    path: `/orders/${k}`,
    protocol: 'HTTP/1.1',
    response_code: k % 4 === 0 ? 503 : 200,
    response_flags: k % 4 === 0 ? 'UF' : '-',
    response_code_details: k % 4 === 0 ? 'upstream_reset_before_response_started' : 'via_upstream',
    duration: 20,
    upstream_host: '10.0.0.7:8080',
    upstream_cluster: 'outbound|80||orders.shop.svc.cluster.local',
    authority: 'orders',
    request_id: `${k.toString(16).padStart(8, '0')}-1111-4222-8333-944445555666`,
  })

test('with an endpoint, failed requests become spans, and the status says what became of every row', async () => {
  const target = await startOtlpTarget()
  onTestFinished(() => target.close())
  const sidecast = await startSidecast({
    set: [
      `adapters.otlp.endpoint=${target.address}`,
      'adapters.otlp.traces={sample: 0, rare: 0}',
      'adapters.otlp.logs.enabled=false',
      'adapters.otlp.metrics.interval=500ms',
    ],
  })
  onTestFinished(() => sidecast.close())
  const lines = Array.from({ length: LINES }, (_, k) => line(k))
  await fetch(`http://${sidecast.http}/ingest/v1/logs`, { method: 'POST', body: lines.join('\n') })
  interface Told {
    readonly sink: string
    readonly received: number
    readonly delivered: number
    readonly dropped: number
    readonly held: number
  }
  const told = async (): Promise<readonly Told[]> =>
    (await sidecast.get<{ adapters: readonly Told[] }>('/api/v1/status')).adapters
  for (let k = 0; k < 400; k++) {
    if ((await told()).every(({ received, held }) => received === LINES && held === 0)) break
    await sleep(50)
  }
  const spans = target.accepted.flatMap(({ signal, bytes }) => (signal === 'traces' ? spansOf(bytes, false) : []))
  const failed = spans.filter(({ resource, kind }) => resource['service.name'] !== 'sidecast' && kind === 2)
  expect(failed.map(({ attributes }) => attributes['url.path']).sort()).toEqual(
    Array.from({ length: LINES / 4 }, (_, k) => `/orders/${4 * k}`).sort(),
  )
  expect(await told()).toMatchObject([
    { sink: 'otlp-traces', received: LINES, delivered: LINES / 4, dropped: LINES - LINES / 4, held: 0 },
    { sink: 'otlp-metrics', received: LINES, delivered: LINES, dropped: 0, held: 0 },
  ])
  // The last batch of the traces of its own goes out when it stops.
  expect(await sidecast.stop()).toBe(0)
  const own = target.accepted.flatMap(({ signal, bytes }) => (signal === 'traces' ? spansOf(bytes, false) : []))
  const names = own.filter(({ resource }) => resource['service.name'] === 'sidecast').map(({ name }) => name)
  expect(names).toEqual(
    expect.arrayContaining(['segment', 'deliver clickhouse', 'deliver otlp-traces', 'deliver otlp-metrics']),
  )
})
