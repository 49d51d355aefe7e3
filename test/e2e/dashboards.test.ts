import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { QUERIES, type Query } from '../../dashboards/queries.ts'
import { expandPromQl } from '../support/grafana.ts'
import { type PromSample, startPrometheus } from '../support/prometheus.ts'

/**
 * A real Prometheus scrapes a Sidecast that two real Envoys feed: every query of the Prometheus set has an answer, and
 * every metric and label that it names exists.
 */
test('every query of the Prometheus dashboards has data', async () => {
  const http = await startDemo()
  const scrape = { scrape_interval: '1s', static_configs: [{ targets: [http] }] }
  const prometheus = await startPrometheus({
    features: ['exemplar-storage'],
    config: {
      scrape_configs: [
        { job_name: 'sidecast', metrics_path: '/metrics', ...scrape },
        { job_name: 'sidecast-mesh', metrics_path: '/metrics/mesh', ...scrape },
      ],
    },
  })
  // Failures and retries of the demo come by chance; within this many scrapes there are some.
  await expect
    .poll(() => prometheus.query('sum(sidecast_requests_total{class="server_error"}) > 3'), { timeout: 60_000 })
    .toHaveLength(1)
  await sleep(8000)

  const empty: string[] = []
  for (const [name, query] of Object.entries(QUERIES) as [string, Query][]) {
    for (const { expr } of query.prometheus) {
      const found = await prometheus.query(expandPromQl(expr, 20))
      if (!found.some(hasFigure)) empty.push(`${name}: ${expr.slice(0, 200)}`)
    }
  }
  expect(empty).toEqual([])

  // Chosen by a variable, and grouped: one figure for each service, which add up to the whole.
  const [whole] = await prometheus.query(expandPromQl(QUERIES.mesh_rate.prometheus[0]!.expr, 20))
  const services = await prometheus.query(expandPromQl(QUERIES.mesh_rate_by_service.prometheus[0]!.expr, 20))
  expect(services.map(({ metric }) => metric.destination_service_name)).toContain('cart')
  expect(services.reduce((sum, sample) => sum + figureOf(sample), 0)).toBeCloseTo(figureOf(whole!), 0)
  // An edge out of a gateway, chosen by variables.
  const chosen = { source: ['gateway'], service: ['cart'] }
  for (const name of ['edge_rate', 'edge_latency', 'edge_figures', 'edge_answers'] as const) {
    for (const { expr } of QUERIES[name].prometheus) {
      const found = await prometheus.query(expandPromQl(expr, 20, chosen))
      expect(found.filter(hasFigure).length, name).toBeGreaterThan(0)
    }
  }
  const phases = await prometheus.query(expandPromQl(QUERIES.phase_share.prometheus[0]!.expr, 20))
  expect(phases).toHaveLength(7)
  expect(phases.reduce((sum, sample) => sum + figureOf(sample), 0)).toBeCloseTo(1, 6)
})

const figureOf = (sample: PromSample): number => Number(sample.value?.[1])
const hasFigure = (sample: PromSample): boolean => Number.isFinite(figureOf(sample))

/** `sidecast demo` as a person starts it; the address of its API. */
async function startDemo(): Promise<string> {
  const listeners = [
    'http.listen',
    'ingest.grpc.listen',
    'ingest.otlpHttp.listen',
    'ingest.statsd.udp',
    'ingest.statsd.tcp',
  ]
  const set = listeners.flatMap((path) => ['--set', `${path}=127.0.0.1:0`])
  const demo = spawn(process.execPath, ['src/main.ts', 'demo', ...set], { stdio: ['ignore', 'ignore', 'pipe'] })
  const exited = once(demo, 'exit')
  onTestFinished(async () => {
    demo.kill('SIGINT')
    await exited
  })
  let said = ''
  demo.stderr.on('data', (data) => {
    said += String(data)
  })
  const page = () => /Page\s+http:\/\/([^/\s]+)/.exec(said)?.[1]
  await expect.poll(page, { timeout: 60_000 }).toBeDefined()
  expect(said).toContain('Two Envoys')
  return page()!
}
