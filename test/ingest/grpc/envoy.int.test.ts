import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { createNodeReader } from '../../../src/ingest/als/node.ts'
import { eachField, LEN } from '../../../src/ingest/als/protobuf.ts'
import {
  createGrpcServer,
  type GrpcServer,
  type GrpcServerOptions,
  type GrpcService,
} from '../../../src/ingest/grpc/index.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { settledAccessLog } from '../../support/envoy/access-log.ts'
import { type Rig, startRig } from '../../support/envoy/rig.ts'
import { until } from '../../support/grpc-client.ts'
import { createTestGate, type TestGate } from '../../support/grpc-server.ts'

/** A real Envoy as the client: whatever we do to its streams, every request it logged to its file arrives. */
interface Counted {
  readonly gate: TestGate
  readonly services: readonly GrpcService[]
  /** Entries of the log `edge_http`. */
  readonly entries: number
  readonly nodes: ReadonlySet<string>
}

function createCounter(): Counted {
  const gate = createTestGate()
  const reader = createNodeReader()
  const nodes = new Set<string>()
  let entries = 0
  return {
    gate,
    nodes,
    get entries() {
      return entries
    },
    services: [
      {
        name: 'envoy.service.accesslog.v3.AccessLogService',
        gate,
        methods: {
          StreamAccessLogs: {
            kind: 'streaming',
            open() {
              let logName = ''
              return {
                onMessage(bytes, start, end) {
                  eachField(bytes, start, end, (field, wireType, from, to) => {
                    if (wireType !== LEN) return
                    if (field === 1) {
                      const origin = reader.read(bytes, from, to)
                      logName = origin.logName
                      nodes.add(`${origin.nodeId} ${origin.nodeCluster} ${origin.envoyVersion}`)
                    } else if (logName === 'edge_http') eachField(bytes, from, to, () => void entries++)
                  })
                  return null
                },
                onEnd: () => new Uint8Array(0),
                onClose() {},
              }
            },
          },
        },
      },
    ],
  }
}

async function start(
  options: Partial<GrpcServerOptions> = {},
): Promise<{ counted: Counted; server: GrpcServer; rig: Rig }> {
  const counted = createCounter()
  const server = createGrpcServer({ listen: '127.0.0.1:0', log: silentLog, ...options, services: counted.services })
  await server.start()
  onTestFinished(() => server.stop(AbortSignal.abort()))
  const rig = await startRig({ als: Number(server.address.split(':')[1]) })
  onTestFinished(() => rig.stop())
  return { counted, server, rig }
}

/** Plain requests at a steady rate for a while; returns how many were answered. */
async function traffic(rig: Rig, ms: number, perSecond: number): Promise<number> {
  const end = performance.now() + ms
  let answered = 0
  const running = new Set<Promise<void>>()
  while (performance.now() < end) {
    for (let k = 0; k < perSecond / 50; k++) {
      const one: Promise<void> = fetch(`http://127.0.0.1:${rig.ports.main}/ok`, { headers: { 'x-scenario': 'ok' } })
        .then(async (response) => {
          await response.arrayBuffer()
          answered++
        })
        .finally(() => running.delete(one))
      running.add(one)
    }
    await sleep(20)
  }
  await Promise.all(running)
  return answered
}

async function logged(rig: Rig): Promise<number> {
  const lines = await settledAccessLog(rig)
  return lines.filter((line) => line.scenario === 'ok' && line.access_log_type === 'DownstreamEnd').length
}

test('an Envoy whose streams reach their age every second opens new ones and loses nothing', async () => {
  const { counted, server, rig } = await start({ streamAgeMs: 1000, sweepMs: 20 })
  const answered = await traffic(rig, 6000, 400)
  expect(await logged(rig)).toBe(answered)
  await until('all entries have arrived', () => counted.entries >= answered)
  await sleep(300)
  expect(counted.entries).toBe(answered)
  expect(server.counters.connectionsAged).toBeGreaterThan(4)
  expect([...counted.nodes]).toEqual(['edge-1 edge 1.40.0'])
})

test('an Envoy that is held back by a closed gate delivers everything when it opens', async () => {
  const { counted, server, rig } = await start()
  let answered = await traffic(rig, 500, 200)
  counted.gate.close()
  // On a slow machine it takes longer until so much waits unread.
  for (let k = 0; k < 50 && server.unreadBytes() <= 100_000; k++) answered += await traffic(rig, 500, 400)
  expect(server.unreadBytes()).toBeGreaterThan(100_000)
  const before = counted.entries
  await sleep(500)
  expect(counted.entries).toBe(before)
  counted.gate.open()
  expect(await logged(rig)).toBe(answered)
  await until('all entries have arrived', () => counted.entries >= answered)
  await sleep(300)
  expect(counted.entries).toBe(answered)
})

test('an Envoy loses nothing over a stop and a start at the same address while it is quiet', async () => {
  const { counted, server, rig } = await start()
  const first = await traffic(rig, 500, 200)
  await until('the first have arrived', () => counted.entries === first)
  await server.stop(AbortSignal.timeout(10_000))
  expect(server.counters).toMatchObject({ connectionsOpen: 0, streamsOpen: 0, messagesCut: 0 })
  const next = createGrpcServer({ listen: server.address, log: silentLog, services: counted.services })
  await next.start()
  onTestFinished(() => next.stop(AbortSignal.abort()))
  const second = await traffic(rig, 500, 200)
  expect(await logged(rig)).toBe(first + second)
  await until('the second have arrived', () => counted.entries >= first + second)
  expect(counted.entries).toBe(first + second)
})
