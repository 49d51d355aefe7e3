import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { type EnvoyProcess, freePorts, startEnvoy } from '../../src/demo/envoy-process.ts'
import { type CertificateName, type Certificates, makeCertificates } from '../support/certificates.ts'
import { envoy } from '../support/programs.ts'
import { startSafeSidecast } from '../support/safe-sidecast.ts'
import { waitUntil } from '../support/wait.ts'

/** Loggers of one Envoy, each with the certificate that its cluster shows; null: none. */
const LOGGERS: Readonly<Record<string, CertificateName | null>> = {
  allowed: 'client',
  'other-name': 'other-name',
  stranger: 'stranger',
  expired: 'expired',
  nobody: null,
}
const REQUESTS = 200
const WAITS = { timeout: 60_000, interval: 100 }

test('a real Envoy comes in by its certificate, and by no other', async () => {
  const certificates = makeCertificates()
  onTestFinished(() => certificates.remove())
  const dir = mkdtempSync(join(tmpdir(), 'sidecast-envoy-tls-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  const sidecast = await startSafeSidecast(certificates)
  onTestFinished(() => sidecast.close())
  const [admin, listen] = (await freePorts(2)) as [number, number]
  const config = join(dir, 'envoy.json')
  writeFileSync(config, JSON.stringify(bootstrap({ admin, listen, grpc: sidecast.process.grpcPort, certificates })))
  const proxy = await startEnvoy({ binary: await envoy(), config, adminPort: admin, dir, concurrency: 1 })
  onTestFinished(() => proxy.stop())

  for (let k = 0; k < REQUESTS; k++) {
    const answer = await fetch(`http://127.0.0.1:${listen}/${k}`)
    await answer.text()
    expect(answer.status).toBe(200)
  }
  const rows = async () => {
    const { body } = await sidecast.ask('/api/v1/requests?from=-10m&columns=path,log_name&limit=10000')
    return (JSON.parse(body) as { rows: { path: string; log_name: string }[] }).rows
  }
  await waitUntil(async () => (await rows()).length >= REQUESTS, WAITS)
  for (const [reason, name] of [
    ['wrong_san', 'other-name'],
    ['unknown_ca', 'stranger'],
    ['expired', 'expired'],
    ['no_certificate', 'nobody'],
  ] as const) {
    const refused = () => sidecast.metric('sidecast_tls_refused_total', { listener: 'grpc', reason })
    await waitUntil(async () => (await refused()) > 0, WAITS)
    expect(await clusterStat(proxy, name, 'upstream_cx_total'), name).toBeGreaterThan(0)
  }
  const all = await rows()
  expect(new Set(all.map(({ log_name: name }) => name))).toEqual(new Set(['allowed']))
  expect(new Set(all.map(({ path }) => path)).size).toBe(REQUESTS)
  expect(all.length).toBe(REQUESTS)
  // What Envoy itself says: its certificate served, and its handshake with us.
  expect(await clusterStat(proxy, 'allowed', 'ssl.handshake')).toBeGreaterThan(0)
  expect(await clusterStat(proxy, 'allowed', 'upstream_cx_connect_fail')).toBe(0)
})

async function clusterStat(proxy: EnvoyProcess, cluster: string, stat: string): Promise<number> {
  const { text } = await proxy.admin(`/stats?filter=^cluster[.]${cluster}[.]${stat}$`)
  return Number(/: (\d+)/.exec(text)?.[1] ?? 0)
}

interface Options {
  readonly admin: number
  readonly listen: number
  readonly grpc: number
  readonly certificates: Certificates
}

const typed = (path: string) => `type.googleapis.com/envoy.extensions.${path}`
const at = (port: number) => ({ socket_address: { address: '127.0.0.1', port_value: port } })

function bootstrap({ admin, listen, grpc, certificates }: Options): object {
  const loggers = Object.keys(LOGGERS).map((name) => ({
    name: 'envoy.access_loggers.http_grpc',
    typed_config: {
      '@type': typed('access_loggers.grpc.v3.HttpGrpcAccessLogConfig'),
      common_config: {
        log_name: name,
        transport_api_version: 'V3',
        buffer_flush_interval: '0.1s',
        grpc_service: { envoy_grpc: { cluster_name: name } },
      },
    },
  }))
  const routes = [{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'ok' } } }]
  const manager = {
    '@type': typed('filters.network.http_connection_manager.v3.HttpConnectionManager'),
    stat_prefix: 'main',
    access_log: loggers,
    route_config: { virtual_hosts: [{ name: 'all', domains: ['*'], routes }] },
    http_filters: [{ name: 'router', typed_config: { '@type': typed('filters.http.router.v3.Router') } }],
  }
  return {
    node: { id: 'sidecar~10.0.0.7~web-1.shop~shop.svc.cluster.local', cluster: 'web' },
    admin: { address: at(admin) },
    static_resources: {
      listeners: [
        {
          name: 'main',
          address: at(listen),
          filter_chains: [{ filters: [{ name: 'http', typed_config: manager }] }],
        },
      ],
      clusters: Object.entries(LOGGERS).map(([name, as]) => cluster(name, as, grpc, certificates)),
    },
  }
}

function cluster(name: string, as: CertificateName | null, grpc: number, certificates: Certificates): object {
  const pair = as === null ? null : certificates.pair(as)
  const own =
    pair === null
      ? {}
      : { tls_certificates: [{ certificate_chain: { filename: pair.cert }, private_key: { filename: pair.key } }] }
  return {
    name,
    type: 'STATIC',
    connect_timeout: '5s',
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address: at(grpc) } }] }] },
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': typed('upstreams.http.v3.HttpProtocolOptions'),
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
    transport_socket: {
      name: 'envoy.transport_sockets.tls',
      typed_config: {
        '@type': typed('transport_sockets.tls.v3.UpstreamTlsContext'),
        sni: 'localhost',
        common_tls_context: {
          ...own,
          validation_context: {
            trusted_ca: { filename: certificates.ca },
            match_typed_subject_alt_names: [{ san_type: 'DNS', matcher: { exact: 'localhost' } }],
          },
        },
      },
    },
  }
}
