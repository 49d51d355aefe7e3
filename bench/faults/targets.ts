import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { openOtlp } from '../../src/adapters/otlp/open.ts'
import { openRemoteWrite } from '../../src/adapters/remote-write/open.ts'
import { openWavefront } from '../../src/adapters/wavefront/open.ts'
import type { Adapter, AdapterShared } from '../../src/pipeline/adapter.ts'
import { createDelivery } from '../../src/pipeline/delivery.ts'
import type { Segment } from '../../src/pipeline/segment.ts'
import { readSegment } from '../../src/pipeline/segment-reader.ts'
import type { Outcome, SegmentSink } from '../../src/pipeline/sink.ts'
import { remoteWriteConfig } from '../../test/adapters/remote-write/config.ts'
import { otlpConfig } from '../../test/support/otlp-config.ts'
import { spansOf } from '../../test/support/otlp-proto.ts'
import { startOtlpTarget } from '../../test/support/otlp-target.ts'
import { startFakeReceiver } from '../../test/support/remote-write.ts'
import { wavefrontConfig } from '../../test/support/wavefront/config.ts'
import { startHttpTarget, startTcpTarget } from '../../test/support/wavefront/target.ts'
import { traceIdOf } from '../support/made-request.ts'
import type { TargetMode, TargetName } from './plan.ts'

/** A target that speaks its protocol, and the adapter that sends to it. */
export interface FaultTarget {
  readonly name: TargetName
  readonly port: () => number
  /** Whether the protocol tells what was taken. */
  readonly answers: boolean
  behave(mode: TargetMode): Promise<void> | void
  /** The adapter, sending to this port: that of what stands in between. */
  open(shared: AdapterShared, port: number): Promise<Adapter | null>
  /** What it has of the requests numbered below `written`. */
  took(written: number): Took
  close(): Promise<void>
}

export interface Took {
  /** Numbers of requests; null where only a sum is known. */
  readonly numbers: ReadonlySet<number> | null
  /** How many it counts, with those that came twice. */
  readonly total: number
  /** Whether it promises that nothing is seen twice. */
  readonly once: boolean
}

/** For an answer: what a half-open connection costs, and enough for a busy machine. */
const TIMEOUT = '1500ms'
const TIMEOUT_MS = 1500

export const START: Readonly<Record<TargetName, () => Promise<FaultTarget>>> = {
  store: startTokenStore,
  otlp: startOtlp,
  'wavefront-http': () => startWavefront('wavefront-http'),
  'wavefront-tcp': () => startWavefront('wavefront-tcp'),
  'remote-write': startRemoteWrite,
}

/**
 * What the journal promises a store that knows tokens: each segment is offered until it is taken, under the same id. Keeps
 * what came first under an id, and only when all of it came.
 */
async function startTokenStore(): Promise<FaultTarget> {
  let mode: TargetMode = 'accept'
  const segments = new Map<string, readonly number[]>()
  const sockets = new Set<Socket>()
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer)
    } catch {
      return
    }
    if (mode === 'hang') return
    if (mode === 'slow') await sleep(40)
    if (mode === 'retry') {
      response.writeHead(chunks.length % 2 === 0 ? 500 : 429, { 'retry-after': '0' }).end()
      return
    }
    const token = String(request.headers['x-token'])
    const body = Buffer.concat(chunks).toString()
    if (!body.endsWith('\n')) return void response.writeHead(400).end()
    if (!segments.has(token)) segments.set(token, JSON.parse(body) as number[])
    response.writeHead(204).end()
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    name: 'store',
    answers: true,
    port: () => (server.address() as AddressInfo).port,
    behave(next) {
      mode = next
      for (const socket of sockets) socket.destroy()
    },
    async open({ journal, clock, log }, port) {
      const sink = tokenSink(port)
      const delivery = createDelivery({ sink, journal, clock, log, freshFirst: port % 2 === 0 })
      return { name: 'store', endpoint: `127.0.0.1:${port}`, stages: [sink, delivery], deliveries: [delivery] }
    },
    took() {
      const all = [...segments.values()].flat()
      return { numbers: new Set(all), total: all.length, once: true }
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function tokenSink(port: number): SegmentSink {
  return {
    name: 'store',
    async start() {},
    async stop() {},
    async send(segment: Segment, signal: AbortSignal): Promise<Outcome> {
      const numbers: number[] = []
      for await (const block of readSegment(segment, 'requests', { signal })) {
        for (let row = 0; row < block.rows; row++) numbers.push(Number(block.text('path', row).slice('/item/'.length)))
      }
      try {
        const answer = await fetch(`http://127.0.0.1:${port}/`, {
          method: 'POST',
          headers: { 'x-token': segment.id },
          body: `${JSON.stringify(numbers)}\n`,
          signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
        })
        await answer.body?.cancel()
        if (answer.ok) return { status: 'accepted' }
        return { status: 'retry', error: new Error(`the store answered ${answer.status}`) }
      } catch (error) {
        return { status: 'retry', error: error as Error }
      }
    },
  }
}

async function startOtlp(): Promise<FaultTarget> {
  const target = await startOtlpTarget()
  return {
    name: 'otlp',
    answers: true,
    port: () => Number(target.address.split(':')[1]),
    behave: (mode) => target.behave(mode),
    open: (shared, port) =>
      openOtlp(
        otlpConfig({
          endpoint: `127.0.0.1:${port}`,
          timeout: TIMEOUT,
          traces: { sample: 1 },
          logs: { sample: 1 },
          metrics: { interval: '100ms' },
          selfTraces: { enabled: false },
        }),
        shared,
      ),
    took(written) {
      const numberOf = new Map(Array.from({ length: written }, (_, number) => [traceIdOf(number), number]))
      const spans = target.accepted
        .filter(({ signal }) => signal === 'traces')
        .flatMap(({ bytes }) => spansOf(bytes))
        .filter(({ kind }) => kind === 2)
      const numbers = new Set(spans.map(({ traceId }) => numberOf.get(traceId) ?? -1))
      return { numbers, total: spans.length, once: false }
    },
    close: () => target.close(),
  }
}

async function startWavefront(name: 'wavefront-http' | 'wavefront-tcp'): Promise<FaultTarget> {
  const http = name === 'wavefront-http'
  const target = await (http ? startHttpTarget() : startTcpTarget())
  const traces = { ...wavefrontConfig({}).traces, enabled: false }
  return {
    name,
    answers: http,
    port: () => target.port,
    behave: (mode) => target.behave(mode),
    open: (shared, port) =>
      openWavefront(
        wavefrontConfig({
          ...(http ? { url: `http://127.0.0.1:${port}`, token: 'secret' } : { proxy: `127.0.0.1:${port}` }),
          timeout: TIMEOUT,
          traces,
        }),
        shared,
      ),
    took: () => ({ numbers: null, total: target.taken(), once: false }),
    close: () => target.close(),
  }
}

/** A sample for each request, in a series of its own that has its number. */
async function startRemoteWrite(): Promise<FaultTarget> {
  const target = await startFakeReceiver()
  return {
    name: 'remote-write',
    answers: true,
    port: () => Number(new URL(target.url).port),
    behave: (mode) => target.behave(mode),
    open: (shared, port) =>
      openRemoteWrite(
        remoteWriteConfig({ url: `http://127.0.0.1:${port}/api/v1/write`, timeout: TIMEOUT, version: '2.0' }),
        shared,
      ),
    took() {
      const all = target.requests.flatMap(({ series }) =>
        series.flatMap(({ labels, samples }) => samples.map(() => labels)),
      )
      const numbers = all.flatMap(({ path }) => (path === undefined ? [] : [Number(path.slice('/item/'.length))]))
      return { numbers: new Set(numbers), total: numbers.length, once: false }
    },
    close: () => target.close(),
  }
}
