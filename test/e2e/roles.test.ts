import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { type KafkaBroker, startKafka } from '../support/kafka.ts'
import { killRoles } from '../support/kill-roles.ts'
import { startAs } from '../support/run-roles.ts'

let broker: KafkaBroker
beforeAll(async () => {
  broker = await startKafka()
})
afterAll(() => broker?.stop())

test('edge, writer and engine killed, the broker restarted: every line is stored once', async () => {
  const result = await killRoles({
    broker,
    seed: 11,
    kills: 3,
    restarts: 1,
    driver: 'platformatic',
    lines: 50,
    everyMs: 100,
  })
  expect(result.differences).toEqual([])
  expect(result.killed).toEqual({ edge: 1, writer: 1, engine: 1 })
  expect(result.sent).toBeGreaterThan(100)
})

test('an edge has no store and says so; a refused role ends with a sentence and not with a stack', async () => {
  const edge = await startAs('edge', { broker: broker.address, prefix: 'lone.' })
  onTestFinished(() => edge.close())
  const status = await edge.get<{ store: { kind: string; ready: boolean }; adapters: { name: string }[] }>(
    '/api/v1/status',
  )
  expect(status.store).toMatchObject({ kind: 'none', ready: true })
  expect(status.adapters.map(({ name }) => name)).toEqual(['kafka'])
  const answer = await fetch(`http://${edge.http}/api/v1/services`)
  expect(answer.status).toBe(503)
  expect(await answer.json()).toMatchObject({
    code: 'store_unavailable',
    help: expect.stringContaining('--role query'),
  })
  expect((await fetch(`http://${edge.http}/readyz`)).status).toBe(200)
  await expect(startAs('query', { broker: broker.address, prefix: 'lone.' })).rejects.toThrow(
    /SC1205.*store\.clickhouse\.url/,
  )
})
