import { describe, expect, test } from 'vitest'
import { requireConfig } from '../../src/config.ts'
import { SidecastError } from '../../src/errors.ts'
import { Problem } from '../../src/query/problem.ts'
import { createNoDelivery, createNoStore } from '../../src/roles/no-store.ts'
import { checkRole, isRole, ROLES, type Role } from '../../src/roles.ts'

const KAFKA = 'adapters.kafka.brokers=["10.0.0.1:9092"]'
const configOf = (...set: string[]) => requireConfig({ set, env: {} }).config

function refusal(role: Role, ...set: string[]): string | null {
  try {
    checkRole(role, configOf(...set))
    return null
  } catch (error) {
    if (!(error instanceof SidecastError) || error.code !== 'SC1205') throw error
    return error.message
  }
}

describe('a role is refused where the configuration lacks what it lives on', () => {
  test.each([
    ['edge', [], 'adapters.kafka.brokers'],
    ['writer', [], 'adapters.kafka.brokers'],
    ['writer', [KAFKA, 'adapters.kafka.encoding=json'], 'adapters.kafka.encoding'],
    ['query', [], 'store.clickhouse.url'],
  ] as const)('%s with %j', (role, set, option) => {
    expect(refusal(role, ...set)).toContain(option)
  })

  test.each([
    ['all', []],
    ['edge', [KAFKA]],
    ['edge', [KAFKA, 'adapters.kafka.encoding=otlp']],
    ['writer', [KAFKA]],
    ['query', ['store.clickhouse.url=http://127.0.0.1:8123']],
  ] as const)('and not otherwise: %s with %j', (role, set) => {
    expect(refusal(role, ...set)).toBeNull()
  })
})

test('roles have names', () => {
  for (const role of ROLES) expect(isRole(role)).toBe(true)
  expect(isRole('reader')).toBe(false)
})

test('an edge answers questions with where to ask instead, and misses no store', async () => {
  const { reader, sink, disk } = createNoStore()
  const signal = AbortSignal.timeout(1000)
  const asked = reader.query({ sql: 'SELECT 1', params: {} }, { signal })
  await expect(asked).rejects.toBeInstanceOf(Problem)
  await expect(asked).rejects.toMatchObject({ code: 'store_unavailable' })
  await expect(
    reader.stream({ sql: 'SELECT 1', params: {} }, { signal })[Symbol.asyncIterator]().next(),
  ).rejects.toThrow('edge')
  expect(await reader.ping(signal)).toBe(true)
  expect(disk.usage.over).toBe(false)
  expect(await sink.settle(signal)).toEqual({ status: 'accepted' })
  expect(createNoDelivery().account()).toMatchObject({ received: 0, held: 0 })
})
