import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parsePeer } from '../../../src/ingest/als/peer.ts'
import { type FlatNode, flatNode } from '../../support/flat-node.ts'
import { any, bytes, struct } from '../../support/wire.ts'

const NOTHING = { workload: '', namespace: '', service: '', version: '', principal: '', app: '', cluster: '' }

const structPeer = (fields: Readonly<Record<string, unknown>>): Uint8Array =>
  any('google.protobuf.Struct', struct(fields))
const bytesPeer = (value: Uint8Array | string): Uint8Array => any('google.protobuf.BytesValue', bytes(1, value))
const flatPeer = (node: FlatNode): Uint8Array => bytesPeer(flatNode(node))

describe('peer metadata as a Struct', () => {
  test('has its fields under their names', () => {
    const peer = parsePeer(
      structPeer({
        workload: 'ledger-v2',
        type: 'deployment',
        name: 'ledger-v2-6d5f7c9b8-x2k4j',
        cluster: 'east-1',
        namespace: 'bank',
        service: 'ledger',
        revision: 'v2',
        app: 'ledger-app',
        version: 'two',
        identity: 'spiffe://east/ns/bank/sa/ledger',
        region: 'r1',
        labels: { app: 'other' },
      }),
    )
    expect(peer).toEqual({
      workload: 'ledger-v2',
      namespace: 'bank',
      service: 'ledger',
      version: 'v2',
      principal: 'spiffe://east/ns/bank/sa/ledger',
      app: 'ledger-app',
      cluster: 'east-1',
    })
  })

  test('has its keys in any case, and node metadata is one of the forms', () => {
    expect(
      parsePeer(
        structPeer({
          NAME: 'ledger-v2-6d5f7c9b8-x2k4j',
          NAMESPACE: 'bank',
          OWNER: 'kubernetes://apis/apps/v1/namespaces/bank/deployments/ledger-v2',
          CLUSTER_ID: 'east-1',
          LABELS: { app: 'ledger', version: 'v2', 'service.istio.io/canonical-name': 'ledger-main' },
        }),
      ),
    ).toEqual({
      workload: 'ledger-v2',
      namespace: 'bank',
      service: 'ledger-main',
      version: 'v2',
      principal: '',
      app: 'ledger',
      cluster: 'east-1',
    })
  })

  test('may have any part of it; "latest" is no version', () => {
    expect(parsePeer(structPeer({ namespace: 'bank' }))).toEqual({ ...NOTHING, namespace: 'bank' })
    expect(parsePeer(structPeer({ revision: 'latest', workload: 'w' }))).toEqual({
      ...NOTHING,
      workload: 'w',
      service: 'w',
    })
    expect(parsePeer(structPeer({ revision: 'latest', version: 'v7' }))).toMatchObject({ version: 'v7' })
    expect(parsePeer(structPeer({ labels: { app: 'a' } }))).toEqual({ ...NOTHING, service: 'a', app: 'a' })
  })

  test('is nobody when it says nothing', () => {
    expect(parsePeer(structPeer({}))).toBeNull()
  })
})

describe('peer metadata as a FlatBuffer', () => {
  test('has workload, labels and identity', () => {
    expect(
      parsePeer(
        flatPeer({
          name: 'ledger-v2-6d5f7c9b8-x2k4j',
          namespace: 'bank',
          labels: { app: 'ledger', version: 'v2', 'app.kubernetes.io/name': 'the-ledger' },
          owner: 'kubernetes://apis/apps/v1/namespaces/bank/deployments/from-owner',
          workload: 'ledger-v2',
          clusterId: 'east-1',
          identity: 'spiffe://east/ns/bank/sa/ledger',
        }),
      ),
    ).toEqual({
      workload: 'ledger-v2',
      namespace: 'bank',
      service: 'the-ledger',
      version: 'v2',
      principal: 'spiffe://east/ns/bank/sa/ledger',
      app: 'ledger',
      cluster: 'east-1',
    })
  })

  test('may have any part of it', () => {
    const owner = 'kubernetes://apis/apps/v1/namespaces/bank/deployments/ledger'
    expect(parsePeer(flatPeer({ owner }))).toMatchObject({ workload: 'ledger', service: 'ledger' })
    expect(parsePeer(flatPeer({ namespace: 'bank', labels: { version: 'v2' } }))).toEqual({
      ...NOTHING,
      namespace: 'bank',
      version: 'v2',
    })
    expect(parsePeer(flatPeer({}))).toBeNull()
  })
})

test('a peer id is a node id', () => {
  const id = 'sidecar~10.0.0.7~ledger-v2-6d5f7c9b8-x2k4j.bank~bank.svc.cluster.local'
  expect(parsePeer(bytesPeer(id))).toEqual({ ...NOTHING, workload: 'ledger-v2', namespace: 'bank' })
})

describe('what is not understood', () => {
  test.each([
    ['nothing', Buffer.alloc(0)],
    ['an Any without value', bytes(1, 'type.googleapis.com/google.protobuf.Struct')],
    ['another type', any('example.Other', bytes(1, 'opaque'))],
    ['a text', bytesPeer('neither flat nor a node')],
    ['a cut Any', structPeer({ namespace: 'bank' }).subarray(0, 60)],
    ['a damaged Struct', any('google.protobuf.Struct', Buffer.from([0x0a, 0x7f, 1]))],
    ['an empty FlatBuffer', bytesPeer(Buffer.alloc(64))],
    ['offsets to far away', bytesPeer(Buffer.alloc(64, 0xff))],
  ])('costs the peer: %s', (_, bytesOfAny) => {
    expect(parsePeer(bytesOfAny)).toBeNull()
  })

  test('costs no more than the peer, wherever a byte is wrong', () => {
    const good = flatPeer({
      name: 'pod',
      namespace: 'bank',
      labels: { app: 'ledger', version: 'v2' },
      workload: 'ledger',
    })
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 6 }),
        fc.nat(good.length),
        (changes, cut) => {
          const damaged = Buffer.from(good)
          for (const [at, value] of changes) damaged[at] = value
          const started = performance.now()
          parsePeer(damaged.subarray(0, cut))
          parsePeer(damaged)
          expect(performance.now() - started).toBeLessThan(2000)
        },
      ),
      { numRuns: 3000 },
    )
  })

  test('random values never throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (value) => {
        parsePeer(value)
        parsePeer(any('google.protobuf.Struct', value))
        parsePeer(bytesPeer(value))
      }),
      { numRuns: 2000 },
    )
  })

  test('a label vector that claims to be endless is read as far as the bound', () => {
    const good = Buffer.from(flatNode({ namespace: 'bank', labels: { app: 'ledger' } }))
    for (let at = 0; at + 4 <= good.length; at += 4) {
      const endless = Buffer.from(good)
      if (endless.readUInt32LE(at) !== 1) continue
      endless.writeUInt32LE(0xffff_ffff, at)
      const started = performance.now()
      parsePeer(bytesPeer(endless))
      expect(performance.now() - started).toBeLessThan(2000)
    }
  })
})
