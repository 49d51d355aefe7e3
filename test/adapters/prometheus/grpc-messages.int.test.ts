import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { createPrometheusAdapter } from '../../../src/adapters/prometheus/adapter.ts'
import { freePorts, startEnvoy } from '../../../src/demo/envoy-process.ts'
import { createAlsDecoder } from '../../../src/ingest/als/decode.ts'
import { createIdentityResolver } from '../../../src/ingest/als/identity.ts'
import { createNodeReader } from '../../../src/ingest/als/node.ts'
import { createAlsReceiver } from '../../../src/ingest/als/receiver.ts'
import { createGrpcServer } from '../../../src/ingest/grpc/index.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { type BatchBuilder, createBatchBuilder } from '../../../src/model/batch-builder.ts'
import { ROW_TABLES, type RowTable } from '../../../src/model/schema.ts'
import { createRedaction } from '../../../src/pipeline/redact.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { readText } from '../../support/exposition.ts'
import { connectGrpc, until } from '../../support/grpc-client.ts'
import { createTestGate, STREAM, startTestServer, UNARY } from '../../support/grpc-server.ts'
import { envoy } from '../../support/programs.ts'

const ANY = 'type.googleapis.com/envoy.'
const address = (port: number) => ({ socket_address: { address: '127.0.0.1', port_value: port } })
const http2 = {
  'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
    '@type': `${ANY}extensions.upstreams.http.v3.HttpProtocolOptions`,
    explicit_http_config: { http2_protocol_options: {} },
  },
}
const cluster = (name: string, port: number) => ({
  name,
  type: 'STATIC',
  typed_extension_protocol_options: http2,
  load_assignment: {
    cluster_name: name,
    endpoints: [{ lb_endpoints: [{ endpoint: { address: address(port) } }] }],
  },
})

/** As Istio configures its proxies: the filter leaves its counts in the filter state, and the log has them. */
const configOf = (ports: { admin: number; listen: number; upstream: number; als: number }) => ({
  node: {
    id: 'sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local',
    cluster: 'web.shop',
    metadata: { ISTIO_VERSION: '1.29.0', WORKLOAD_NAME: 'web', NAMESPACE: 'shop' },
  },
  admin: { address: address(ports.admin) },
  static_resources: {
    listeners: [
      {
        address: address(ports.listen),
        filter_chains: [
          {
            filters: [
              {
                name: 'envoy.filters.network.http_connection_manager',
                typed_config: {
                  '@type': `${ANY}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`,
                  stat_prefix: 'in',
                  codec_type: 'HTTP2',
                  route_config: {
                    virtual_hosts: [
                      {
                        name: 'all',
                        domains: ['*'],
                        routes: [{ match: { prefix: '/' }, route: { cluster: 'upstream' } }],
                      },
                    ],
                  },
                  http_filters: [
                    {
                      name: 'envoy.filters.http.grpc_stats',
                      typed_config: {
                        '@type': `${ANY}extensions.filters.http.grpc_stats.v3.FilterConfig`,
                        emit_filter_state: true,
                        stats_for_all_methods: false,
                      },
                    },
                    {
                      name: 'envoy.filters.http.router',
                      typed_config: { '@type': `${ANY}extensions.filters.http.router.v3.Router` },
                    },
                  ],
                  access_log: [
                    {
                      name: 'envoy.access_loggers.http_grpc',
                      typed_config: {
                        '@type': `${ANY}extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig`,
                        common_config: {
                          log_name: 'http_envoy_accesslog',
                          transport_api_version: 'V3',
                          buffer_flush_interval: '0.1s',
                          grpc_service: { envoy_grpc: { cluster_name: 'als' } },
                          filter_state_objects_to_log: ['envoy.filters.http.grpc_stats'],
                        },
                      },
                    },
                  ],
                },
              },
            ],
          },
        ],
      },
    ],
    clusters: [cluster('upstream', ports.upstream), cluster('als', ports.als)],
  },
})

const portOf = (listen: string): number => Number(listen.split(':').at(-1))

test('gRPC messages that a real Envoy counted, and its version of Istio, are on the page', async () => {
  const mesh = createPrometheusAdapter({ clock: systemClock })
  const resolver = createIdentityResolver()
  const builders = Object.fromEntries(
    ROW_TABLES.map((table) => [table, createBatchBuilder({ table, rowsMax: 100, resolver })]),
  ) as Record<RowTable, BatchBuilder>
  const nodes = createNodeReader()
  const decoder = createAlsDecoder({
    builders,
    redaction: createRedaction(),
    onIdentifier: (bytes, start, end) => nodes.read(bytes, start, end),
  })
  const flush = (table: RowTable): boolean => {
    const builder = builders[table]
    if (builder.rows > 0) mesh.take(builder.seal())
    builder.reset()
    return true
  }
  const receiver = createAlsReceiver({ decoder, flush, gate: createTestGate() })
  const als = createGrpcServer({ listen: '127.0.0.1:0', log: silentLog, services: receiver.services })
  await als.start()
  onTestFinished(() => als.stop(AbortSignal.abort()))
  const upstream = await startTestServer()
  const [admin, listen] = (await freePorts(2)) as [number, number]
  const dir = await mkdtemp(join(tmpdir(), 'sidecast-grpc-messages-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  const config = join(dir, 'envoy.json')
  const ports = { admin, listen, upstream: portOf(upstream.server.address), als: portOf(als.address) }
  await writeFile(config, JSON.stringify(configOf(ports)))
  const proxy = await startEnvoy({ binary: await envoy(), config, adminPort: admin, dir, concurrency: 1 })
  onTestFinished(() => proxy.stop())

  const client = connectGrpc(`127.0.0.1:${listen}`)
  onTestFinished(() => client.close())
  for (let k = 0; k < 3; k++) await client.unary(UNARY, Buffer.from('abc'))
  const { call, finished } = client.stream(STREAM)
  for (let k = 0; k < 7; k++) call.write(Buffer.from(`message ${k}`))
  call.end()
  await finished
  await until('the log of four calls has arrived', () => {
    flush('requests')
    return mesh.stats().rows === 4
  })
  const parts: Uint8Array[] = []
  for await (const part of mesh.scrape('text/plain').body) parts.push(part)
  const families = readText(Buffer.concat(parts).toString(), false)
  const sum = (name: string) => families.get(name)?.samples.reduce((all, { value }) => all + value, 0)
  expect(sum('istio_requests_total')).toBe(4)
  expect(sum('istio_request_messages_total')).toBe(3 + 7)
  expect(sum('istio_response_messages_total')).toBe(3 + 1)
  expect(families.get('istio_build')?.samples.map(({ labels, value }) => [labels, value])).toEqual([
    [{ component: 'proxy', tag: '1.29.0' }, 1],
  ])
})
