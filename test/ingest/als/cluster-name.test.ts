import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type ClusterName, parseClusterName, parseIstioSni } from '../../../src/ingest/als/cluster-name.ts'

const NOTHING = {
  direction: 'unknown',
  service: '',
  namespace: '',
  host: '',
  versionHint: '',
  port: 0,
  cluster: '',
}

function expected(parts: Partial<ClusterName>): ClusterName {
  return { ...NOTHING, form: 'plain', ...parts } as ClusterName
}

describe('the name of a cluster', () => {
  test.each<[string, Partial<ClusterName>]>([
    [
      'outbound|8443||ledger.bank.svc.cluster.local',
      {
        form: 'istio',
        direction: 'outbound',
        service: 'ledger',
        namespace: 'bank',
        host: 'ledger.bank.svc.cluster.local',
        port: 8443,
      },
    ],
    [
      'outbound|80|v3|ledger.bank.svc.cluster.local;',
      {
        form: 'istio',
        direction: 'outbound',
        service: 'ledger',
        namespace: 'bank',
        host: 'ledger.bank.svc.cluster.local',
        port: 80,
        versionHint: 'v3',
      },
    ],
    // A subset is any name; only what looks like a version is a hint at one.
    [
      'outbound|80|eu-west|ledger.bank.svc',
      { form: 'istio', direction: 'outbound', service: 'ledger', namespace: 'bank', host: 'ledger.bank.svc', port: 80 },
    ],
    [
      'outbound|443||api.payments.example',
      {
        form: 'istio',
        direction: 'outbound',
        service: 'api.payments.example',
        host: 'api.payments.example',
        port: 443,
      },
    ],
    [
      'outbound|80||ledger.bank.global',
      {
        form: 'istio',
        direction: 'outbound',
        service: 'ledger',
        namespace: 'bank',
        host: 'ledger.bank.global',
        port: 80,
      },
    ],
    [
      'outbound_.8080_.v2_.ledger.bank.svc.cluster.local',
      {
        form: 'istio',
        direction: 'outbound',
        service: 'ledger',
        namespace: 'bank',
        host: 'ledger.bank.svc.cluster.local',
        port: 8080,
        versionHint: 'v2',
      },
    ],
    ['inbound|8080||', { form: 'istio', direction: 'inbound', port: 8080 }],
    // The third part is the name of the port.
    [
      'inbound|8080|v1|ledger.bank.svc.cluster.local',
      {
        form: 'istio',
        direction: 'inbound',
        service: 'ledger',
        namespace: 'bank',
        host: 'ledger.bank.svc.cluster.local',
        port: 8080,
      },
    ],
    [
      'inbound-vip|7070|grpc|ledger.bank.svc.cluster.local;',
      {
        form: 'istio',
        direction: 'waypoint',
        service: 'ledger',
        namespace: 'bank',
        host: 'ledger.bank.svc.cluster.local',
        port: 7070,
      },
    ],
    [
      'inbound-vip|7070|http/v2|ledger.bank.svc.cluster.local',
      {
        form: 'istio',
        direction: 'waypoint',
        service: 'ledger',
        namespace: 'bank',
        host: 'ledger.bank.svc.cluster.local',
        port: 7070,
        versionHint: 'v2',
      },
    ],
    [
      'inbound-vip|7070|http/canary|ledger.bank.svc.cluster.local',
      {
        form: 'istio',
        direction: 'waypoint',
        service: 'ledger',
        namespace: 'bank',
        host: 'ledger.bank.svc.cluster.local',
        port: 7070,
      },
    ],
    ['inbound-pod|7070||10.1.2.3', { form: 'istio', direction: 'waypoint', port: 7070 }],
    ['PassthroughCluster', { form: 'passthrough', direction: 'outbound' }],
    ['InboundPassthroughCluster', { form: 'passthrough', direction: 'inbound' }],
    ['InboundPassthroughClusterIpv6', { form: 'passthrough', direction: 'inbound' }],
    ['inbound_passthrough_ipv4', { form: 'passthrough', direction: 'inbound' }],
    ['BlackHoleCluster', { form: 'blackhole', direction: 'outbound' }],
    ['original_destination_cluster', { form: 'passthrough' }],
    ['original-destination', { form: 'passthrough', direction: 'outbound' }],
    ['xds-grpc', { form: 'helper' }],
    ['prometheus_stats', { form: 'helper' }],
    ['kuma:envoy:admin', { form: 'helper' }],
    ['local_agent', { form: 'helper' }],
    ['local_app', { form: 'local', direction: 'inbound' }],
    ['localhost_3000', { form: 'local', direction: 'inbound', port: 3000 }],
    [
      'billing.default.east.internal.0f3a-11.consul',
      {
        form: 'consul',
        direction: 'outbound',
        service: 'billing',
        namespace: 'default',
        host: 'billing.default.east.internal.0f3a-11.consul',
        cluster: 'east',
      },
    ],
    [
      'v2.billing.default.east.internal.0f3a-11.consul',
      {
        form: 'consul',
        direction: 'outbound',
        service: 'billing',
        namespace: 'default',
        host: 'v2.billing.default.east.internal.0f3a-11.consul',
        cluster: 'east',
        versionHint: 'v2',
      },
    ],
    [
      'failover-target~billing.fin.team1.west.internal-v1.0f3a-11.consul',
      {
        form: 'consul',
        direction: 'outbound',
        service: 'billing',
        namespace: 'fin',
        host: 'billing.fin.team1.west.internal-v1.0f3a-11.consul',
        cluster: 'west',
      },
    ],
    [
      'nearest-billing.default.east.query.0f3a-11.consul',
      {
        form: 'consul',
        direction: 'outbound',
        service: 'nearest-billing',
        namespace: 'default',
        host: 'nearest-billing.default.east.query.0f3a-11.consul',
        cluster: 'east',
      },
    ],
    [
      'billing.default.default.partner.external.0f3a-11.consul',
      {
        form: 'consul',
        direction: 'outbound',
        service: 'billing',
        namespace: 'default',
        host: 'billing.default.default.partner.external.0f3a-11.consul',
        cluster: 'partner',
      },
    ],
    [
      'basket_store_svc_8080',
      { form: 'kuma', direction: 'outbound', service: 'basket', namespace: 'store', port: 8080 },
    ],
    [
      'basket_store_svc_8080-00a1b2c3d4e5f607',
      { form: 'kuma', direction: 'outbound', service: 'basket', namespace: 'store', port: 8080 },
    ],
    [
      'basket_store_svc{mesh=prod}',
      { form: 'kuma', direction: 'outbound', service: 'basket', namespace: 'store', cluster: 'prod' },
    ],
    ['httproute/store/basket/rule/2', { form: 'route', direction: 'gateway' }],
    ['grpcroute/store/basket/rule/0', { form: 'route', direction: 'gateway' }],
    [
      'store/basket/8080/0a1b2c3d4e',
      { form: 'contour', direction: 'gateway', service: 'basket', namespace: 'store', port: 8080 },
    ],
    [
      'store-basket-8080_gloo-system',
      { form: 'gloo', direction: 'gateway', service: 'basket', namespace: 'store', port: 8080 },
    ],
    // Where the namespace ends cannot be told: nothing is guessed.
    [
      'my-store-basket-8080_gloo-system',
      { form: 'gloo', direction: 'gateway', service: 'my-store-basket-8080', port: 8080 },
    ],
    [
      'cds_egress_shop_basket-vn_http_8080',
      { form: 'app-mesh', direction: 'outbound', service: 'basket-vn', port: 8080, cluster: 'shop' },
    ],
    [
      'cds_ingress_shop_basket_store_grpc_9000',
      { form: 'app-mesh', direction: 'inbound', service: 'basket_store', port: 9000, cluster: 'shop' },
    ],
    ['cds_egress_shop_mesh-allow-all', { form: 'passthrough', direction: 'outbound' }],
    ['cds_egress_shop_amazonaws', { form: 'passthrough', direction: 'outbound' }],
    ['backend', {}],
    ['service-a_prod-8080_x', {}],
    ['outbound|http||host', {}],
    ['outbound|80|v1', {}],
    ['upwards|80||host.ns.svc', {}],
    ['a.b.internal', {}],
    ['..internal.x', {}],
    ['', { form: 'none' }],
    [';', { form: 'none' }],
  ])('%s', (name, parts) => {
    expect(parseClusterName(name)).toEqual(expected(parts))
  })

  test('App Mesh names may contain the separator: the mesh of the proxy tells where they part', () => {
    const name = 'cds_egress_my_shop_basket_store_http2_8080'
    expect(parseClusterName(name, { mesh: 'my_shop' })).toMatchObject({ service: 'basket_store', cluster: 'my_shop' })
    expect(parseClusterName(name)).toMatchObject({ cluster: 'my' })
  })

  test('any text is parsed at once, without an error', () => {
    const part = fc.constantFrom(
      'outbound',
      'inbound',
      '|',
      '_.',
      '.',
      '~',
      '_svc_',
      'internal',
      '-',
      '8080',
      '/',
      'cds_egress_',
      'é',
      '\0',
      ';',
    )
    fc.assert(
      fc.property(fc.array(fc.oneof(part, fc.string()), { maxLength: 40 }), (parts) => {
        const parsed = parseClusterName(parts.join(''))
        expect(Object.values(parsed).every((value) => value !== undefined)).toBe(true)
        expect(Number.isInteger(parsed.port)).toBe(true)
      }),
      { numRuns: 3000 },
    )
    for (const evil of ['~', '_', '-', '.', '|', 'a-', 'a.', 'a_', '_a', 'internal.', '/a'].map((text) =>
      text.repeat(20_000),
    )) {
      const started = performance.now()
      parseClusterName(evil)
      parseClusterName(`cds_egress_${evil}`)
      parseClusterName(`${evil}.internal.x`)
      parseClusterName(`${evil}_svc_1`)
      expect(performance.now() - started, evil.slice(0, 4)).toBeLessThan(2000)
    }
  })
})

test('the SNI of Istio names service, port and subset; any other SNI does not', () => {
  expect(parseIstioSni('outbound_.8080_._.ledger.bank.svc.cluster.local')).toMatchObject({
    service: 'ledger',
    namespace: 'bank',
    port: 8080,
    versionHint: '',
  })
  expect(parseIstioSni('outbound_.8080_.v2_.ledger.bank.svc.cluster.local')).toMatchObject({ versionHint: 'v2' })
  for (const sni of ['', '-', 'ledger.bank.svc.cluster.local', 'outbound_.x_._.h', 'outbound_.80']) {
    expect(parseIstioSni(sni)).toBeNull()
  }
})
