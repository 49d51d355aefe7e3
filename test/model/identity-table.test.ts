import { expect, test } from 'vitest'
import { seededRandom } from '../../src/lib/random.ts'
import type { IdentityInput } from '../../src/model/batch.ts'
import { createBatchBuilder } from '../../src/model/batch-builder.ts'
import { internText } from '../../src/model/dictionary.ts'
import { echoResolver, originOf } from '../support/als-decoding.ts'

function tableOf(inputs: IdentityInput[], needs: (cluster: string) => number = () => 0) {
  const resolver = { ...echoResolver(inputs), needs: (_: unknown, cluster: string) => needs(cluster) }
  const { columns } = createBatchBuilder({ table: 'requests', rowsMax: 65_535, resolver })
  columns.streamCode(originOf('a'))
  columns.streamCode(originOf('b'))
  return columns
}

test('equal combinations share a code, others do not; what is not needed does not count', () => {
  const inputs: IdentityInput[] = []
  const columns = tableOf(inputs, (cluster) => Number(cluster.slice(1)) & 3)
  const { upstream_cluster, authority, route, sni, peer_san } = columns.dictionaries
  const random = seededRandom(5)
  const below = (count: number): number => Math.floor(random() * count)
  const codes = new Map<string, number>()
  for (let k = 0; k < 20_000; k++) {
    const cluster = below(40)
    const parts = [below(2), cluster, below(3), below(3), below(3), below(2)] as const
    const [stream, , host, path, name, peer] = parts
    const needs = cluster & 3
    const key = JSON.stringify([
      stream,
      cluster,
      peer,
      (needs & 1) === 0 ? null : [host, path],
      (needs & 2) === 0 ? null : name,
    ])
    const code = columns.identities.code(
      stream,
      internText(upstream_cluster, `c${cluster}`),
      0,
      0,
      peer === 0 ? 0 : internText(peer_san, `p${peer}`),
      0,
      internText(authority, `a${host}`),
      internText(route, `r${path}`),
      internText(sni, `s${name}`),
    )
    expect(codes.get(key) ?? code).toBe(code)
    codes.set(key, code)
  }
  expect(new Set(codes.values()).size).toBe(codes.size)
  expect(inputs).toHaveLength(codes.size)
  expect(columns.identities.identities).toHaveLength(codes.size)
  for (const { cluster, authority, sni } of inputs) {
    const needs = Number(cluster.slice(1)) & 3
    expect([authority === '', sni === '']).toEqual([(needs & 1) === 0, (needs & 2) === 0])
  }
})

test('more identities than a batch may have mark the room, and a reset makes place', () => {
  const columns = tableOf([])
  let k = 0
  const next = (): number =>
    columns.identities.code(0, internText(columns.dictionaries.upstream_cluster, `c${k++}`), 0, 0, 0, 0, 0, 0, 0)
  while (!columns.room.exhausted && k < 70_000) next()
  expect(columns.room.exhausted).toBe(true)
  expect(columns.identities.identities.length).toBe(16_384)
  columns.reset()
  expect(columns.room.exhausted).toBe(false)
  columns.streamCode(originOf('a'))
  expect(next()).toBe(0)
  expect(columns.identities.identities).toHaveLength(1)
})

test('more streams than a batch may have are refused, and known ones are not', () => {
  const columns = tableOf([])
  const origins = Array.from({ length: 4094 }, (_, k) => originOf(`node-${k}`))
  expect(origins.map((origin) => columns.streamCode(origin))).toEqual(origins.map((_, k) => k + 2))
  expect(columns.streamCode(originOf('one more'))).toBe(-1)
  expect(columns.streamCode(origins[7]!)).toBe(9)
})
