import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createIdentityResolver } from '../../../src/ingest/als/identity.ts'
import { UNKNOWN_ORIGIN } from '../../../src/ingest/als/node.ts'
import type { Identity, IdentityInput, Origin, Party } from '../../../src/model/batch.ts'
import { flatNode } from '../../support/flat-node.ts'
import { any, bytes, struct } from '../../support/wire.ts'

const NOBODY: Party = { workload: '', namespace: '', service: '', version: '', principal: '', app: '', cluster: '' }

const LEDGER: Party = {
  ...NOBODY,
  workload: 'ledger-v2',
  namespace: 'bank',
  service: 'ledger',
  version: 'v2',
  app: 'ledger',
  cluster: 'east-1',
}

function origin(nodeType: Origin['nodeType'], self: Party = NOBODY, rest: Partial<Origin> = {}): Origin {
  return { ...UNKNOWN_ORIGIN, nodeType, self, mesh: 'prod', ...rest }
}

const PLAIN = { ...UNKNOWN_ORIGIN, nodeId: 'edge-1', nodeCluster: 'edge' }

function input(parts: Partial<IdentityInput>): IdentityInput {
  return {
    origin: PLAIN,
    cluster: '',
    route: '',
    authority: '',
    sni: '',
    peerSan: '',
    localSan: '',
    downstreamPeer: null,
    upstreamPeer: null,
    ...parts,
  }
}

function resolve(parts: Partial<IdentityInput>): Identity {
  return createIdentityResolver().resolve(input(parts))
}

const WEB_PEER = any(
  'google.protobuf.Struct',
  struct({ workload: 'web-v1', namespace: 'front', service: 'web', revision: 'v1', app: 'web', cluster: 'east-2' }),
)
const WEB: Party = {
  workload: 'web-v1',
  namespace: 'front',
  service: 'web',
  version: 'v1',
  principal: '',
  app: 'web',
  cluster: 'east-2',
}

describe('an inbound row of a sidecar', () => {
  test('without mutual TLS has the host of its own service, in the domain that an Istio node says', () => {
    const istio = { ...origin('sidecar', LEDGER), nodeId: 'sidecar~10.0.0.9~ledger-5d9f8.bank~bank.svc.cluster.local' }
    const inbound = { cluster: 'inbound|8080||', authority: '10.0.0.9:8080' }
    const { destinationHost } = resolve({ ...inbound, origin: istio })
    expect(destinationHost).toBe(`${LEDGER.service}.bank.svc.cluster.local`)
    expect(resolve({ ...inbound, origin: { ...istio, nodeId: 'ledger-1' } }).destinationHost).toBe('')
    expect(resolve({ ...inbound, origin: { ...istio, nodeType: 'unknown' } }).destinationHost).toBe('')
  })

  test('is reported by the destination, which the node describes; the caller by its peer metadata and certificate', () => {
    expect(
      resolve({
        origin: origin('sidecar', LEDGER),
        cluster: 'inbound|8080||',
        sni: 'outbound_.80_._.ledger.bank.svc.cluster.local',
        authority: 'ledger',
        downstreamPeer: WEB_PEER,
        peerSan: 'spiffe://east/ns/front/sa/web',
        localSan: 'spiffe://east/ns/bank/sa/ledger',
      }),
    ).toEqual({
      id: 1,
      mesh: 'prod',
      reporter: 'destination',
      source: { ...WEB, principal: 'spiffe://east/ns/front/sa/web' },
      destination: { ...LEDGER, principal: 'spiffe://east/ns/bank/sa/ledger' },
      destinationHost: 'ledger.bank.svc.cluster.local',
    })
  })

  test('has the service its callers use, as the SNI has it, before what the workload calls itself', () => {
    const row = { origin: origin('sidecar', LEDGER), cluster: 'inbound|8080||' }
    expect(resolve({ ...row, sni: 'outbound_.80_.v2_.accounts.bank.svc.cluster.local' }).destination.service).toBe(
      'accounts',
    )
    expect(resolve(row).destination.service).toBe('ledger')
    expect(resolve({ ...row, sni: '-' }).destination.service).toBe('ledger')
  })

  test('without SNI and node is not named after the authority, which a health check chooses', () => {
    const row = { cluster: 'inbound|8080||', authority: '10.1.2.3:8080', route: 'default' }
    expect(resolve(row)).toMatchObject({ reporter: 'destination', destination: { ...NOBODY, service: '(none)' } })
    expect(resolve({ ...row, cluster: 'InboundPassthroughCluster', sni: 'api.elsewhere.example' })).toMatchObject({
      reporter: 'destination',
      destination: { service: '(none)' },
    })
  })

  test('of the old form has its service in the cluster name, and no version there', () => {
    const { destination, reporter } = resolve({
      origin: origin('sidecar', { ...NOBODY, workload: 'ledger-v2', namespace: 'bank' }),
      cluster: 'inbound|8080|http|accounts.bank.svc.cluster.local',
    })
    expect(reporter).toBe('destination')
    expect(destination).toMatchObject({ service: 'accounts', namespace: 'bank', workload: 'ledger-v2', version: '' })
  })

  test('knows the namespace of a caller without metadata from its certificate', () => {
    const { source } = resolve({
      origin: origin('sidecar', LEDGER),
      cluster: 'inbound|8080||',
      peerSan: 'east/ns/front/sa/web',
    })
    expect(source).toEqual({ ...NOBODY, namespace: 'front', principal: 'spiffe://east/ns/front/sa/web' })
  })
})

describe('an outbound row of a sidecar', () => {
  const row = { origin: origin('sidecar', WEB), cluster: 'outbound|80||ledger.bank.svc.cluster.local' }

  test('is reported by the source, which the node describes; the called service is in the cluster name', () => {
    expect(resolve(row)).toEqual({
      id: 1,
      mesh: 'prod',
      reporter: 'source',
      source: WEB,
      destination: { ...NOBODY, service: 'ledger', namespace: 'bank' },
      destinationHost: 'ledger.bank.svc.cluster.local',
    })
  })

  test('has workload, version and principal of the callee from its peer metadata', () => {
    const upstreamPeer = any(
      'google.protobuf.Struct',
      struct({ ...LEDGER, service: 'ledger-main', identity: 'spiffe://east/ns/bank/sa/ledger' }),
    )
    expect(resolve({ ...row, upstreamPeer }).destination).toEqual({
      ...LEDGER,
      principal: 'spiffe://east/ns/bank/sa/ledger',
    })
  })

  test('takes a subset that looks like a version for one, unless the peer says', () => {
    const cluster = 'outbound|80|v7|ledger.bank.svc.cluster.local'
    expect(resolve({ ...row, cluster }).destination.version).toBe('v7')
    expect(resolve({ ...row, cluster, upstreamPeer: WEB_PEER }).destination.version).toBe('v1')
    expect(resolve({ ...row, cluster: 'outbound|80|http--calls|ledger.bank.svc' }).destination.version).toBe('')
  })

  test('that leaves the mesh is named after the host it asked for', () => {
    const passed = { ...row, cluster: 'PassthroughCluster', route: 'allow_any', authority: 'API.Elsewhere.example:443' }
    expect(resolve(passed)).toMatchObject({
      reporter: 'source',
      destination: { service: 'api.elsewhere.example', namespace: '' },
      destinationHost: 'api.elsewhere.example',
    })
    for (const authority of ['', '10.2.3.4:9000', '[fd00::1]:443']) {
      expect(resolve({ ...passed, authority }).destination.service).toBe('(none)')
    }
    expect(resolve({ ...passed, cluster: 'BlackHoleCluster' })).toMatchObject({ reporter: 'source' })
    expect(resolve({ ...passed, upstreamPeer: WEB_PEER }).destination.service).toBe('web')
  })
})

describe('a row without a cluster', () => {
  test('is told apart by SNI and peers, and named after route or authority where it may be outbound', () => {
    const row = { origin: origin('sidecar', LEDGER), route: 'default', authority: 'accounts:80' }
    expect(resolve({ ...row, sni: 'outbound_.80_._.ledger.bank.svc.cluster.local' })).toMatchObject({
      reporter: 'destination',
      destination: { service: 'ledger', workload: 'ledger-v2' },
    })
    expect(resolve({ ...row, downstreamPeer: WEB_PEER })).toMatchObject({ reporter: 'destination', source: WEB })
    expect(resolve({ ...row, upstreamPeer: WEB_PEER })).toMatchObject({
      reporter: 'source',
      source: LEDGER,
      destination: WEB,
    })
    expect(resolve(row)).toMatchObject({ reporter: 'unknown', source: NOBODY, destination: { service: 'accounts' } })
    expect(resolve({ ...row, route: 'to-accounts' }).destination.service).toBe('to-accounts')
  })
})

describe('a hop between the two ends', () => {
  test('a gateway is neither end: the caller by its peer, the callee by the cluster', () => {
    const gateway = origin('router', { ...NOBODY, workload: 'ingress', namespace: 'edge', service: 'ingress' })
    const row = { origin: gateway, cluster: 'outbound|80||ledger.bank.svc.cluster.local', localSan: 'shop.example' }
    expect(resolve(row)).toMatchObject({
      reporter: 'gateway',
      source: NOBODY,
      destination: { ...NOBODY, service: 'ledger', namespace: 'bank' },
    })
    expect(resolve({ ...row, downstreamPeer: WEB_PEER }).source).toEqual(WEB)
  })

  test('an egress gateway that routes by SNI is named by it', () => {
    expect(
      resolve({ origin: origin('router'), cluster: 'InboundPassthroughCluster', sni: 'api.elsewhere.example' }),
    ).toMatchObject({ reporter: 'gateway', destination: { service: 'api.elsewhere.example' } })
  })

  test('a waypoint is known by its node or by its clusters', () => {
    const cluster = 'inbound-vip|80|http|ledger.bank.svc.cluster.local;'
    for (const node of [origin('waypoint'), PLAIN]) {
      expect(resolve({ origin: node, cluster, downstreamPeer: WEB_PEER, upstreamPeer: WEB_PEER })).toMatchObject({
        reporter: 'waypoint',
        source: WEB,
        destination: { service: 'ledger', namespace: 'bank', workload: 'web-v1' },
        destinationHost: 'ledger.bank.svc.cluster.local',
      })
    }
  })
})

describe('a row of another product', () => {
  test.each<[string, Partial<IdentityInput>, Partial<Identity>]>([
    [
      'Consul, inbound',
      {
        origin: origin('sidecar', { ...NOBODY, workload: 'billing', service: 'billing', namespace: 'fin' }),
        cluster: 'local_app',
        peerSan: 'spiffe://0f3a.consul/ns/web/dc/east/svc/checkout',
      },
      {
        reporter: 'destination',
        source: {
          ...NOBODY,
          service: 'checkout',
          namespace: 'web',
          principal: 'spiffe://0f3a.consul/ns/web/dc/east/svc/checkout',
        },
        destination: { ...NOBODY, workload: 'billing', service: 'billing', namespace: 'fin' },
      },
    ],
    [
      'Consul, outbound',
      { origin: origin('sidecar', WEB), cluster: 'v2.billing.fin.east.internal.0f3a.consul' },
      {
        reporter: 'source',
        source: WEB,
        destination: { ...NOBODY, service: 'billing', namespace: 'fin', version: 'v2', cluster: 'east' },
      },
    ],
    [
      'Kuma, outbound, node not known',
      { cluster: 'basket_store_svc_8080-00a1b2c3d4e5f607' },
      { reporter: 'source', destination: { ...NOBODY, service: 'basket', namespace: 'store' } },
    ],
    [
      'Kuma, inbound',
      { origin: origin('sidecar', LEDGER), cluster: 'localhost_3000' },
      { reporter: 'destination', destination: LEDGER },
    ],
    [
      'App Mesh, inbound',
      {
        origin: origin(
          'sidecar',
          { ...NOBODY, workload: 'basket_store', service: 'basket_store' },
          { mesh: 'my_shop' },
        ),
        cluster: 'cds_ingress_my_shop_basket_store_http_8080',
      },
      {
        reporter: 'destination',
        destination: { ...NOBODY, workload: 'basket_store', service: 'basket_store', cluster: 'my_shop' },
      },
    ],
    [
      'Envoy Gateway',
      { cluster: 'httproute/store/basket/rule/0', route: 'httproute/store/basket/rule/0/match/0/shop_example' },
      { reporter: 'gateway', destination: { ...NOBODY, service: 'httproute/store/basket/rule/0' } },
    ],
  ])('%s', (_, parts, expected) => {
    expect(resolve(parts)).toMatchObject(expected)
  })
})

describe('a row of a plain Envoy', () => {
  test.each<[Partial<IdentityInput>, string]>([
    [{ cluster: 'backend', route: 'r', authority: 'a.example' }, 'backend'],
    [{ route: 'to-backend', authority: 'a.example' }, 'to-backend'],
    [{ authority: 'A.Example:8443' }, 'a.example'],
    [{ authority: '[::1]:80' }, '[::1]'],
    [{}, '(none)'],
    [{ cluster: 'localhost_8080' }, 'localhost_8080'],
    [{ cluster: 'xds_cluster' }, 'xds_cluster'],
  ])('falls back to cluster, route, authority, (none): %j', (parts, service) => {
    const identity = resolve(parts)
    if (parts.cluster === 'localhost_8080') expect(identity.reporter).toBe('unknown')
    expect(identity).toMatchObject({ reporter: 'unknown', source: NOBODY, destination: { ...NOBODY, service } })
  })

  test('has both ends from peers when they are there', () => {
    expect(resolve({ downstreamPeer: WEB_PEER, upstreamPeer: WEB_PEER })).toMatchObject({
      reporter: 'unknown',
      source: WEB,
      destination: WEB,
    })
  })
})

describe('peers', () => {
  test('that cannot be read cost no more than themselves', () => {
    const broken = any('google.protobuf.BytesValue', bytes(1, 'junk'))
    expect(
      resolve({
        origin: origin('sidecar', LEDGER),
        cluster: 'inbound|80||',
        downstreamPeer: broken,
        upstreamPeer: broken,
      }),
    ).toMatchObject({ reporter: 'destination', source: NOBODY, destination: LEDGER })
  })

  test('as FlatBuffers are read as well', () => {
    const downstreamPeer = any(
      'google.protobuf.BytesValue',
      bytes(1, flatNode({ namespace: 'front', workload: 'web-v1', labels: { app: 'web', version: 'v1' } })),
    )
    expect(resolve({ origin: origin('sidecar', LEDGER), cluster: 'inbound|80||', downstreamPeer }).source).toEqual({
      ...WEB,
      cluster: '',
    })
  })
})

describe('rules', () => {
  const rules = [
    { when: { cluster: 'backend' }, set: { destination_service: 'catalog', destination_namespace: 'shop' } },
    {
      when: { authority: '(\\w+)\\.(\\w+)\\.internal(?::\\d+)?' },
      set: { destination_service: '$1', destination_namespace: '$2' },
    },
    { when: { node_id: 'edge-\\d+', log_name: '' }, set: { source_workload: 'edge', destination_service: 'never' } },
  ]

  test('name what is not known, in order, with groups of what matched', () => {
    const resolver = createIdentityResolver({ rules })
    expect(resolver.resolve(input({ cluster: 'backend' }))).toMatchObject({
      source: { workload: 'edge' },
      destination: { service: 'catalog', namespace: 'shop' },
    })
    expect(resolver.resolve(input({ authority: 'cart.shop.internal:80' }))).toMatchObject({
      destination: { service: 'cart', namespace: 'shop' },
    })
    expect(resolver.resolve(input({ cluster: 'backend-2' }))).toMatchObject({ destination: { service: 'never' } })
  })

  test('never hide what a proxy says', () => {
    const resolver = createIdentityResolver({
      rules: [{ when: {}, set: { destination_service: 'x', source_workload: 'y' } }],
    })
    expect(
      resolver.resolve(
        input({ origin: origin('sidecar', WEB), cluster: 'outbound|80||ledger.bank.svc.cluster.local' }),
      ),
    ).toMatchObject({ source: WEB, destination: { service: 'ledger' } })
  })

  test('match the whole text', () => {
    const resolver = createIdentityResolver({
      rules: [{ when: { cluster: 'back|end' }, set: { destination_service: 'x' } }],
    })
    expect(resolver.resolve(input({ cluster: 'backend' })).destination.service).toBe('backend')
    expect(resolver.resolve(input({ cluster: 'end' })).destination.service).toBe('x')
  })
})

describe('what a resolver needs to tell rows apart', () => {
  const resolver = createIdentityResolver()
  test.each([
    ['outbound|80||ledger.bank.svc.cluster.local', 0],
    ['backend', 0],
    ['httproute/store/basket/rule/0', 0],
    ['inbound|8080|http|ledger.bank.svc.cluster.local', 0],
    ['inbound|8080||', 2],
    ['InboundPassthroughCluster', 2],
    ['local_app', 2],
    ['PassthroughCluster', 1],
    ['BlackHoleCluster', 1],
    ['', 3],
  ])('%s: %i', (cluster, bits) => {
    expect(resolver.needs(PLAIN, cluster)).toBe(bits)
  })

  test('rules that look at more need more', () => {
    const byRoute = createIdentityResolver({ rules: [{ when: { route: 'x' }, set: {} }] })
    expect(byRoute.needs(PLAIN, 'backend')).toBe(1)
    const bySni = createIdentityResolver({ rules: [{ when: { sni: 'x' }, set: {} }] })
    expect(bySni.needs(PLAIN, 'backend')).toBe(2)
  })

  test('is all that changes an identity', () => {
    const text = fc.constantFrom('', 'a.example', 'outbound_.80_._.ledger.bank.svc.cluster.local', 'default', 'b')
    const cluster = fc.constantFrom(
      '',
      'backend',
      'inbound|80||',
      'outbound|80||l.b.svc',
      'PassthroughCluster',
      'InboundPassthroughCluster',
      'local_app',
      'xds-grpc',
      'inbound-vip|80|http|l.b.svc',
      'inbound-pod|80||10.0.0.1',
      'httproute/a/b/rule/0',
      'cds_ingress_m_n_http_80',
      'original_destination_cluster',
    )
    const node = fc.constantFrom(
      PLAIN,
      origin('sidecar', LEDGER),
      origin('router'),
      origin('waypoint'),
      origin('sidecar'),
    )
    fc.assert(
      fc.property(node, cluster, text, text, text, (from, name, route, authority, sni) => {
        const bits = resolver.needs(from, name)
        const full = resolver.resolve(input({ origin: from, cluster: name, route, authority, sni }))
        const needed = resolver.resolve(
          input({
            origin: from,
            cluster: name,
            ...((bits & 1) !== 0 ? { route, authority } : {}),
            ...((bits & 2) !== 0 ? { sni } : {}),
          }),
        )
        expect(needed).toBe(full)
      }),
      { numRuns: 2000 },
    )
  })
})

describe('identities', () => {
  test('are one object per combination, with ids that grow', () => {
    const resolver = createIdentityResolver()
    const row = { origin: origin('sidecar', WEB), cluster: 'outbound|80||ledger.bank.svc.cluster.local' }
    const first = resolver.resolve(input(row))
    expect(resolver.resolve(input(row))).toBe(first)
    // The authority does not matter here, so it makes no second identity; nor does another proxy of the same workload.
    expect(resolver.resolve(input({ ...row, authority: 'other' }))).toBe(first)
    expect(resolver.resolve(input({ ...row, origin: origin('sidecar', WEB, { nodeId: 'other' }) }))).toBe(first)
    const second = resolver.resolve(input({ ...row, cluster: 'backend' }))
    expect([first.id, second.id]).toEqual([1, 2])
  })

  test('are forgotten past the bound, and come again with new ids', () => {
    const resolver = createIdentityResolver({ entriesMax: 100 })
    const ids = Array.from({ length: 1000 }, (_, k) => resolver.resolve(input({ authority: `host-${k}` })).id)
    expect(new Set(ids).size).toBe(1000)
    expect(resolver.resolve(input({ authority: 'host-0' })).id).toBe(1001)
    expect(resolver.resolve(input({ authority: 'host-999' })).id).toBe(1000)
  })

  test('come of any input without an error', () => {
    const resolver = createIdentityResolver({ entriesMax: 1000 })
    const bytesOrNull = fc.option(fc.uint8Array({ maxLength: 200 }), { nil: null })
    const types = fc.constantFrom<Origin['nodeType']>('sidecar', 'router', 'waypoint', 'ztunnel', 'unknown')
    fc.assert(
      fc.property(
        types,
        fc.record({
          cluster: fc.string(),
          route: fc.string(),
          authority: fc.string(),
          sni: fc.string(),
          peerSan: fc.string(),
          localSan: fc.string(),
          downstreamPeer: bytesOrNull,
          upstreamPeer: bytesOrNull,
        }),
        (nodeType, parts) => {
          const identity = resolver.resolve(input({ origin: origin(nodeType), ...parts }))
          expect(identity.destination.service).not.toBe('')
        },
      ),
      { numRuns: 2000 },
    )
  })

  test('cost no time for hostile texts', () => {
    const resolver = createIdentityResolver()
    const started = performance.now()
    for (const evil of ['a.', '/', ':0', ',', '~', 'x'].map((text) => text.repeat(50_000))) {
      resolver.resolve(input({ authority: evil, peerSan: evil, localSan: evil, sni: evil }))
      resolver.resolve(input({ origin: origin('sidecar', LEDGER), cluster: evil, peerSan: `spiffe://${evil}` }))
    }
    const huge = any('google.protobuf.Struct', struct({ name: 'x'.repeat(1 << 20) }))
    resolver.resolve(input({ downstreamPeer: huge }))
    expect(performance.now() - started).toBeLessThan(5000)
  })
})
