import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createNodeReader } from '../../../src/ingest/als/node.ts'
import type { Origin } from '../../../src/model/batch.ts'
import { bytes, identifier, message, type NodeParts } from '../../support/wire.ts'

function read(node: NodeParts, logName?: string): Origin {
  const wire = identifier(node, logName)
  return createNodeReader().read(wire, 0, wire.length)
}

const NOBODY = { workload: '', namespace: '', service: '', version: '', principal: '', app: '', cluster: '' }

describe('the node of an Istio proxy', () => {
  test('since 1.2 says everything in its metadata', () => {
    const origin = read(
      {
        id: 'sidecar~10.1.2.3~ledger-v2-6d5f7c9b8-x2k4j.bank~bank.svc.cluster.local',
        cluster: 'ledger.bank',
        locality: ['r1', 'r1-a', 'rack7'],
        version: [1, 40, 2],
        extensions: 500,
        metadata: {
          NAME: 'ledger-v2-6d5f7c9b8-x2k4j',
          NAMESPACE: 'bank',
          WORKLOAD_NAME: 'ledger-v2',
          OWNER: 'kubernetes://apis/apps/v1/namespaces/bank/deployments/other',
          CLUSTER_ID: 'east-1',
          MESH_ID: 'prod-mesh',
          LABELS: {
            app: 'ledger',
            version: 'v2',
            'service.istio.io/canonical-name': 'ledger-main',
            'service.istio.io/canonical-revision': 'r2',
          },
          PROXY_CONFIG: { concurrency: 2, statNameLength: 189 },
          ENVOY_PROMETHEUS_PORT: 15090,
        },
      },
      'http_envoy_accesslog',
    )
    expect(origin).toEqual({
      source: 'als',
      nodeId: 'sidecar~10.1.2.3~ledger-v2-6d5f7c9b8-x2k4j.bank~bank.svc.cluster.local',
      nodeCluster: 'ledger.bank',
      mesh: 'prod-mesh',
      region: 'r1',
      zone: 'r1-a',
      subZone: 'rack7',
      envoyVersion: '1.40.2',
      logName: 'http_envoy_accesslog',
      precisionNs: 1,
      nodeType: 'sidecar',
      self: {
        workload: 'ledger-v2',
        namespace: 'bank',
        service: 'ledger-main',
        version: 'r2',
        principal: '',
        app: 'ledger',
        cluster: 'east-1',
      },
    })
  })

  test('of 1.0 and 1.1 has flat metadata, and its workload is in the name of its pod', () => {
    expect(
      read({
        id: 'sidecar~10.1.2.3~ledger-v2-6d5f7c9b8-x2k4j.bank~bank.svc.cluster.local',
        cluster: 'ledger',
        metadata: { app: 'ledger', version: 'v2', POD_NAME: 'ledger-v2-6d5f7c9b8-x2k4j', ISTIO_PROXY_VERSION: '1.1.0' },
      }),
    ).toMatchObject({
      mesh: '',
      nodeType: 'sidecar',
      self: { ...NOBODY, workload: 'ledger-v2', namespace: 'bank', service: 'ledger', version: 'v2', app: 'ledger' },
    })
  })

  test.each([
    ['sidecar', 'sidecar'],
    ['router', 'router'],
    ['ingress', 'router'],
    ['waypoint', 'waypoint'],
    ['ztunnel', 'ztunnel'],
    ['agentgateway', 'unknown'],
  ])('of type %s is a %s', (type, nodeType) => {
    expect(read({ id: `${type}~10.0.0.1~gw-6d5f7c9b8-x2k4j.edge~edge.svc.cluster.local` })).toMatchObject({
      nodeType,
      self: { workload: 'gw', namespace: 'edge', service: 'gw' },
    })
  })

  test('the cluster id stands in for a mesh without name; the owner for a workload without name', () => {
    expect(
      read({
        id: 'sidecar~10.0.0.1~a.b~b.svc.cluster.local',
        metadata: { CLUSTER_ID: 'c1', OWNER: 'kubernetes://apis/apps/v1/namespaces/b/statefulsets/owner' },
      }),
    ).toMatchObject({ mesh: 'c1', self: { workload: 'owner', namespace: 'b', cluster: 'c1' } })
  })
})

describe('the node of another proxy', () => {
  test.each<[string, NodeParts, Partial<Origin>]>([
    [
      'Consul sidecar',
      {
        id: 'billing-7f8d-sidecar-proxy',
        cluster: 'billing',
        metadata: { namespace: 'fin', partition: 'team1', envoy_version: '1.36.0' },
      },
      { nodeType: 'sidecar', self: { ...NOBODY, workload: 'billing', namespace: 'fin', service: 'billing' } },
    ],
    [
      'Consul gateway',
      { id: 'mesh-gateway-1', cluster: 'mesh-gateway', metadata: { namespace: 'default', partition: 'default' } },
      { nodeType: 'router' },
    ],
    [
      'Kuma on Kubernetes',
      {
        id: 'prod.basket-6d5f7c9b8-x2k4j.store',
        cluster: 'basket_store_svc_8080',
        metadata: { 'dataplane.proxyType': 'dataplane', 'dataplane.admin.port': '9901' },
      },
      {
        mesh: 'prod',
        nodeType: 'sidecar',
        self: { ...NOBODY, workload: 'basket', namespace: 'store', service: 'basket' },
      },
    ],
    [
      'Kuma on a machine',
      { id: 'prod.basket-1', cluster: 'basket', metadata: { 'dataplane.admin.port': '9901' } },
      { mesh: 'prod', nodeType: 'sidecar', self: { ...NOBODY, workload: 'basket-1', service: 'basket' } },
    ],
    [
      'Kuma zone ingress',
      { id: 'default.zone-in', cluster: 'ingress', metadata: { 'dataplane.proxyType': 'ingress' } },
      { nodeType: 'router' },
    ],
    [
      'Envoy Gateway',
      { id: 'envoy-infra-eg-5391c79d-7f8d9b6c54-x2k4j', cluster: 'infra/eg' },
      {
        nodeType: 'router',
        self: { ...NOBODY, workload: 'envoy-infra-eg-5391c79d', namespace: 'infra', service: 'eg' },
      },
    ],
    [
      'App Mesh virtual node',
      { id: 'mesh/shop/virtualNode/basket_store', cluster: 'mesh/shop/virtualNode/basket_store' },
      { mesh: 'shop', nodeType: 'sidecar', self: { ...NOBODY, workload: 'basket_store', service: 'basket_store' } },
    ],
    [
      'App Mesh virtual gateway by ARN',
      { id: 'arn:aws:appmesh:us-west-2:123456789012:mesh/shop/virtualGateway/edge', cluster: 'x' },
      { mesh: 'shop', nodeType: 'router', self: { ...NOBODY, workload: 'edge', service: 'edge' } },
    ],
    [
      'Gloo',
      {
        id: 'gateway-proxy-7f8d9b6c54-x2k4j.gloo-system',
        cluster: 'gateway',
        metadata: { role: 'gloo-system~gateway-proxy' },
      },
      {
        nodeType: 'router',
        self: { ...NOBODY, workload: 'gateway-proxy', namespace: 'gloo-system', service: 'gateway-proxy' },
      },
    ],
    [
      'Contour',
      { id: 'envoy-x2k4j', cluster: 'projectcontour' },
      { nodeType: 'router', self: { ...NOBODY, workload: 'envoy' } },
    ],
    [
      'a plain Envoy',
      { id: 'edge-1', cluster: 'edge', version: [1, 40, 0] },
      { mesh: '', nodeType: 'unknown', self: NOBODY, nodeId: 'edge-1', nodeCluster: 'edge', envoyVersion: '1.40.0' },
    ],
    ['nobody', {}, { nodeType: 'unknown', self: NOBODY, nodeId: '', nodeCluster: '', envoyVersion: '' }],
  ])('%s', (_, node, expected) => {
    expect(read(node)).toMatchObject(expected)
  })
})

describe('a reader of nodes', () => {
  test('gives the same object for the same content, whatever extensions are listed', () => {
    const reader = createNodeReader()
    const give = (node: NodeParts, logName?: string): Origin => {
      const wire = identifier(node, logName)
      return reader.read(wire, 0, wire.length)
    }
    const first = give({ id: 'edge-1', cluster: 'edge', extensions: 3 })
    expect(give({ id: 'edge-1', cluster: 'edge', extensions: 500 })).toBe(first)
    expect(give({ id: 'edge-1', cluster: 'edge' }, 'another_log')).not.toBe(first)
    expect(give({ id: 'edge-2', cluster: 'edge' })).not.toBe(first)
  })

  test('remembers a bounded number of origins', () => {
    const reader = createNodeReader({ originsMax: 100 })
    const wire = (k: number) => identifier({ id: `edge-${k}` })
    const first = reader.read(wire(0), 0, wire(0).length)
    for (let k = 1; k <= 500; k++) reader.read(wire(k), 0, wire(k).length)
    const again = reader.read(wire(0), 0, wire(0).length)
    expect(again).toEqual(first)
    expect(again).not.toBe(first)
  })

  test('reads a range, and a node without log name or a log name without node', () => {
    const node = identifier({ id: 'edge-1' }, 'log')
    const wire = message(Buffer.alloc(7, 0xff), node, Buffer.alloc(7, 0xff))
    expect(createNodeReader().read(wire, 7, 7 + node.length)).toMatchObject({ nodeId: 'edge-1', logName: 'log' })
    const alone = bytes(2, 'log')
    expect(createNodeReader().read(alone, 0, alone.length)).toMatchObject({ nodeId: '', logName: 'log' })
  })

  test('gets what it can out of damaged nodes, in bounded time', () => {
    const good = identifier({
      id: 'sidecar~10.1.2.3~a-6d5f7c9b8-x2k4j.b~b.svc.cluster.local',
      locality: ['r', 'z', 's'],
      version: [1, 2, 3],
      metadata: { NAME: 'a', LABELS: { app: 'x' }, list: ['a', { b: 'c' }] },
      extensions: 5,
    })
    const reader = createNodeReader()
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 5 }),
        fc.nat(good.length),
        (changes, cut) => {
          const damaged = Buffer.from(good)
          for (const [at, value] of changes) damaged[at] = value
          const origin = reader.read(damaged, 0, cut)
          expect(typeof origin.nodeId).toBe('string')
          expect(typeof origin.self.workload).toBe('string')
        },
      ),
      { numRuns: 2000 },
    )
    fc.assert(fc.property(fc.uint8Array({ maxLength: 500 }), (wire) => void reader.read(wire, 0, wire.length)))
  })

  // What took more time than its size is worth would not end before the test is given up.
  test('is not slowed down by a huge or strange node', () => {
    const labels = Object.fromEntries(Array.from({ length: 50_000 }, (_, k) => [`label-${k}`, 'x'.repeat(50)]))
    const wire = identifier({ id: '~'.repeat(1 << 20), cluster: 'c'.repeat(1 << 20), metadata: { LABELS: labels } })
    const origin = createNodeReader().read(wire, 0, wire.length)
    expect(origin.nodeCluster).toHaveLength(512)
  })
})
