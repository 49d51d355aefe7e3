import { expect, test } from 'vitest'
import { createOrigins } from '../../../src/ingest/entry/origins.ts'

const ISTIO = 'sidecar~10.0.0.7~web-6d5f7c9b8-x2k4j.shop~shop.svc.cluster.local'

test('equal senders have one object', () => {
  const origins = createOrigins()
  const sender = { source: 'json', precisionNs: 1_000_000, nodeId: 'edge-1' } as const
  expect(origins.of(sender)).toBe(origins.of({ ...sender }))
  expect(origins.of(sender)).not.toBe(origins.of({ ...sender, source: 'text' }))
})

test('the id of an Istio proxy says which workload it is', () => {
  const origin = createOrigins().of({ source: 'text', precisionNs: 1_000_000, nodeId: ISTIO })
  expect(origin).toMatchObject({ nodeType: 'sidecar', self: { workload: 'web', namespace: 'shop' }, precisionNs: 1e6 })
})

test('what the sender says goes before what its id says', () => {
  const origin = createOrigins().of({
    source: 'text',
    precisionNs: 1,
    nodeId: ISTIO,
    mesh: 'mesh2',
    nodeType: 'router',
    self: { workload: 'front', namespace: '' },
  })
  expect(origin).toMatchObject({ mesh: 'mesh2', nodeType: 'router', self: { workload: 'front', namespace: 'shop' } })
})
