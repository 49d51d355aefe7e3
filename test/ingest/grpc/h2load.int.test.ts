import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, expect, onTestFinished, test } from 'vitest'
import { frame } from '../../support/grpc-client.ts'
import { STREAM, startTestServer, UNARY } from '../../support/grpc-server.ts'
import * as programs from '../../support/programs.ts'

// h2load of nghttp2 as the client: another implementation of HTTP/2, with many connections and streams at once.
let h2load = ''
beforeAll(async () => {
  h2load = await programs.h2load()
})

const run = promisify(execFile)

async function load(address: string, path: string, body: Uint8Array, options: string): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'h2load-'))
  onTestFinished(() => rm(dir, { recursive: true }))
  const file = join(dir, 'body')
  await writeFile(file, body)
  const headers = ['-H', 'content-type: application/grpc', '-H', 'te: trailers']
  const { stdout } = await run(h2load, [...options.split(' '), '-d', file, ...headers, `http://${address}${path}`])
  return stdout
}

test('20 connections with 100 streams each are all answered', async () => {
  const { server } = await startTestServer()
  const said = await load(server.address, UNARY, frame(Buffer.alloc(2000, 'x')), '-n 10000 -c 20 -m 100')
  expect(said).toContain('10000 total, 10000 started, 10000 done, 10000 succeeded, 0 failed, 0 errored, 0 timeout')
  expect(said).toContain('status codes: 10000 2xx')
  expect(server.counters).toMatchObject({ messages: 10_000, streamsEnded: 10_000, connectionsFailed: 0 })
})

test('small windows and frames of the client change nothing', async () => {
  const { server, messages } = await startTestServer()
  const body = Buffer.concat(Array.from({ length: 50 }, (_, k) => frame(Buffer.alloc(k * 97, k))))
  const said = await load(server.address, STREAM, body, '-n 500 -c 4 -m 10 -w 10 -W 12')
  expect(said).toContain('500 succeeded, 0 failed')
  expect(messages).toHaveLength(25_000)
  expect(server.counters.messagesCut).toBe(0)
})

test('a stop in the middle ends what has begun and refuses nothing half-way', async () => {
  const { server } = await startTestServer()
  const running = load(server.address, UNARY, frame(Buffer.alloc(500)), '-n 200000 -c 4 -m 20').catch(
    (error: { stdout: string }) => error.stdout,
  )
  while (server.counters.messages < 1000) await new Promise((resolve) => setTimeout(resolve, 5))
  await server.stop(AbortSignal.timeout(5000))
  const said = await running
  expect(server.counters).toMatchObject({ streamsOpen: 0, connectionsOpen: 0, messagesCut: 0 })
  expect(said).toMatch(/status codes: \d+ 2xx, 0 3xx, 0 4xx, 0 5xx/)
})
