import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { type EnvoyProcess, freePorts, startEnvoy } from '../../../src/demo/envoy-process.ts'
import { createOrigins } from '../../../src/ingest/entry/origins.ts'
import { createFluentdReceiver, type FluentdReceiver } from '../../../src/ingest/fluentd/receiver.ts'
import { createPreset } from '../../../src/ingest/lines/presets/index.ts'
import { openScrape, type ScrapeConfig } from '../../../src/ingest/scrape/open.ts'
import type { ExplicitBuckets } from '../../../src/metrics/distribution.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { createWriting, type Writing } from '../../support/entry-writing.ts'
import { createManualGate } from '../../support/manual-gate.ts'
import { recordMetrics } from '../../support/metric-recorder.ts'
import { envoy } from '../../support/programs.ts'
import { waitUntil } from '../../support/wait.ts'

/** An Envoy that logs to the Fluentd receiver, and whose admin page is scraped. */
let dir = ''
let proxy: EnvoyProcess
let adminPort = 0
let mainPort = 0
let fluentd: FluentdReceiver
let writing: Writing
const upstream = createServer((_, response) => response.end('ok\n'))

const RECORD = {
  start_time: '%START_TIME%',
  method: '%REQ(:METHOD)%',
  path: '%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%',
  protocol: '%PROTOCOL%',
  response_code: '%RESPONSE_CODE%',
  response_flags: '%RESPONSE_FLAGS%',
  duration: '%DURATION%',
  bytes_sent: '%BYTES_SENT%',
  upstream_cluster: '%UPSTREAM_CLUSTER%',
  upstream_host: '%UPSTREAM_HOST%',
  request_id: '%REQ(X-REQUEST-ID)%',
}

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'sidecast-scrape-envoy-'))
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve))
  writing = createWriting()
  fluentd = createFluentdReceiver({
    listen: '127.0.0.1:0',
    createParser: () => createPreset('auto')!,
    writer: writing.writer,
    origins: createOrigins(),
    node: '',
    synced: async () => {},
    gate: createManualGate(),
    log: silentLog,
  })
  await fluentd.start()
  ;[adminPort, mainPort] = (await freePorts(2)) as [number, number]
  const cluster = (name: string, port: number) => ({
    name,
    type: 'STATIC',
    load_assignment: {
      cluster_name: name,
      endpoints: [
        { lb_endpoints: [{ endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } } }] },
      ],
    },
  })
  const listen = (port: number) => ({ socket_address: { address: '127.0.0.1', port_value: port } })
  const type = (name: string) => `type.googleapis.com/envoy.extensions.${name}`
  const config = {
    node: { id: 'edge-42', cluster: 'edge' },
    admin: { address: listen(adminPort) },
    stats_flush_interval: '0.2s',
    static_resources: {
      clusters: [
        cluster('backend', (upstream.address() as AddressInfo).port),
        cluster('sidecast', Number(fluentd.address.split(':')[1])),
      ],
      listeners: [
        {
          name: 'main',
          address: listen(mainPort),
          filter_chains: [
            {
              filters: [
                {
                  name: 'http',
                  typed_config: {
                    '@type': type('filters.network.http_connection_manager.v3.HttpConnectionManager'),
                    stat_prefix: 'main',
                    access_log: [
                      {
                        name: 'envoy.access_loggers.fluentd',
                        typed_config: {
                          '@type': type('access_loggers.fluentd.v3.FluentdAccessLogConfig'),
                          cluster: 'sidecast',
                          tag: 'envoy.access',
                          stat_prefix: 'sidecast',
                          buffer_flush_interval: '0.1s',
                          record: RECORD,
                        },
                      },
                    ],
                    http_filters: [
                      { name: 'router', typed_config: { '@type': type('filters.http.router.v3.Router') } },
                    ],
                    route_config: {
                      virtual_hosts: [
                        {
                          name: 'all',
                          domains: ['*'],
                          routes: [{ match: { prefix: '/' }, route: { cluster: 'backend' } }],
                        },
                      ],
                    },
                  },
                },
              ],
            },
          ],
        },
      ],
    },
  }
  writeFileSync(join(dir, 'envoy.json'), JSON.stringify(config))
  proxy = await startEnvoy({ binary: await envoy(), config: join(dir, 'envoy.json'), adminPort, dir })
  for (let k = 0; k < 100; k++) await (await fetch(`http://127.0.0.1:${mainPort}/page/${k}?token=secret`)).text()
  // Envoy merges the histograms of its threads at each flush.
  const merged = 'envoy_cluster_upstream_rq_time_count{envoy_cluster_name="backend"} 100'
  const admin = async () => (await proxy.admin('/stats/prometheus')).text.includes(merged)
  await waitUntil(admin, { timeout: 60_000, interval: 50 })
})
afterAll(async () => {
  await proxy?.stop()
  await fluentd?.stop(AbortSignal.timeout(1000))
  upstream.closeAllConnections()
  upstream.close()
  rmSync(dir, { recursive: true, force: true })
})

const JOB: ScrapeConfig = {
  job: 'envoy-scrape',
  targets: [],
  files: [],
  scheme: 'http',
  path: '/stats/prometheus',
  interval: '500ms',
  timeout: '500ms',
  labels: {},
  honorLabels: false,
  honorTimestamps: true,
  protobuf: false,
  nodeId: true,
  bodyMax: '16 MiB',
  samplesMax: 100_000,
  tls: { ca: '', cert: '', key: '', serverName: '', insecure: false },
  token: '',
  tokenFile: '',
  username: '',
  password: '',
}

describe('an Envoy that is scraped', () => {
  test.each([
    ['text', {}, 'explicit'],
    ['protobuf', { protobuf: true }, 'explicit'],
    [
      'native histograms',
      { protobuf: true, path: '/stats/prometheus?histogram_buckets=prometheusnative&prom_protobuf=1' },
      'exponential',
    ],
    ['summaries', { path: '/stats/prometheus?histogram_buckets=summary' }, 'summary'],
  ])('%s: node id, counters and histograms', async (_, more, kind) => {
    const store = recordMetrics()
    const receiver = openScrape([{ ...JOB, targets: [`127.0.0.1:${adminPort}`], ...more }], {
      store,
      gate: { closed: false },
      log: silentLog,
      userAgent: 'test',
    })
    await receiver.start()
    onTestFinished(() => receiver.stop(AbortSignal.timeout(1000)))
    await waitUntil(() => store.last('up') !== undefined, { timeout: 60_000 })
    expect(store.last('up')).toMatchObject({ value: 1, series: 'envoy-scrape/edge-42 up{}' })
    expect(receiver.counters.rejected).toEqual(new Map())
    expect(store.last('envoy_http_downstream_rq_total', { envoy_http_conn_manager_prefix: 'main' })).toMatchObject({
      write: 'setCounter',
      value: 100,
    })
    const time = store.last('envoy_cluster_upstream_rq_time', { envoy_cluster_name: 'backend' })!
    expect(time.distribution).toMatchObject({ kind, temporality: 'cumulative' })
    if (kind !== 'summary') expect((time.distribution as ExplicitBuckets).count).toBe(100)
    expect(store.last('envoy_server_live')).toMatchObject({ write: 'setGauge', value: 1 })
  })
})

test('Envoy’s Fluentd access logger: a row of each request', async () => {
  await waitUntil(() => fluentd.counters.rows === 100, { timeout: 60_000 })
  const { requests } = writing.take()
  expect(new Set(requests.map(({ path }) => path)).size).toBe(100)
  for (const row of requests) {
    expect(row).toMatchObject({
      source: 'json',
      method: 'GET',
      response_code: 200,
      upstream_cluster: 'backend',
      log_name: 'envoy.access',
    })
    expect(String(row.path)).toMatch(/^\/page\/\d+\?token=\*$/)
  }
  expect(fluentd.counters.rejected).toEqual(new Map())
})
