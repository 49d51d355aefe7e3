import { expect, onTestFinished, test } from 'vitest'
import { createGrpcServer, createHealthService, STATUS } from '../../../src/ingest/grpc/index.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { connectGrpc, until } from '../../support/grpc-client.ts'
import { bytes } from '../../support/wire.ts'

const CHECK = '/grpc.health.v1.Health/Check'
const WATCH = '/grpc.health.v1.Health/Watch'
const [SERVING, NOT_SERVING, SERVICE_UNKNOWN] = [1, 2, 3].map((state) => Buffer.of(0x08, state))

async function start(limits = {}) {
  const health = createHealthService(['a.Service'])
  const server = createGrpcServer({
    listen: '127.0.0.1:0',
    services: [health.service],
    log: silentLog,
    sweepMs: 10,
    limits,
  })
  await server.start()
  const client = connectGrpc(server.address)
  onTestFinished(async () => {
    client.close()
    await server.stop(AbortSignal.abort())
  })
  return { health, server, client }
}

test('Check says whether the server and each service serve', async () => {
  const { health, client } = await start()
  expect(await client.unary(CHECK, Buffer.alloc(0))).toEqual(NOT_SERVING)
  health.set('', true)
  expect(await client.unary(CHECK, Buffer.alloc(0))).toEqual(SERVING)
  expect(await client.unary(CHECK, bytes(1, ''))).toEqual(SERVING)
  expect(await client.unary(CHECK, bytes(1, 'a.Service'))).toEqual(NOT_SERVING)
  health.set('a.Service', true)
  expect(await client.unary(CHECK, bytes(1, 'a.Service'))).toEqual(SERVING)
})

test('Check of a service nobody knows is NOT_FOUND, and of what is no request INVALID_ARGUMENT', async () => {
  const { client } = await start()
  await expect(client.unary(CHECK, bytes(1, 'other.Service'))).rejects.toMatchObject({ code: STATUS.notFound })
  for (const junk of [Buffer.from([0xff]), bytes(2, 'x'), bytes(1, 'x').subarray(0, 2), bytes(1, 'x'.repeat(300))]) {
    await expect(client.unary(CHECK, junk)).rejects.toMatchObject({ code: STATUS.invalidArgument })
  }
})

test('Watch tells the state at once and at every change, also of a service that comes later', async () => {
  const { health, client } = await start()
  const known = client.watch(WATCH, bytes(1, 'a.Service'))
  const later = client.watch(WATCH, bytes(1, 'later.Service'))
  await until('both have heard', () => known.messages.length === 1 && later.messages.length === 1)
  health.set('a.Service', true)
  health.set('a.Service', true)
  health.set('later.Service', true)
  health.set('a.Service', false)
  await until('the changes have come', () => known.messages.length === 3 && later.messages.length === 2)
  expect(known.messages).toEqual([NOT_SERVING, SERVING, NOT_SERVING])
  expect(later.messages).toEqual([SERVICE_UNKNOWN, SERVING])
})

test('a watcher that leaves is forgotten, and one that stays is told when the server leaves', async () => {
  const { health, server, client } = await start()
  const leaves = client.watch(WATCH, Buffer.alloc(0))
  const stays = client.watch(WATCH, Buffer.alloc(0))
  await until('both have heard', () => leaves.messages.length === 1 && stays.messages.length === 1)
  leaves.cancel()
  await until('one is gone', () => server.counters.streamsOpen === 1)
  health.set('', true)
  await until('the other has heard', () => stays.messages.length === 2)
  expect(leaves.messages).toHaveLength(1)
  await server.stop(AbortSignal.timeout(5000))
  const ended = await stays.status
  // On a busy machine the end of the connection overtakes the trailers, and the client makes its own status of it.
  expect([STATUS.unavailable, 13]).toContain(ended.code)
  if (ended.code === STATUS.unavailable) expect(ended).toMatchObject({ code: STATUS.unavailable })
})
