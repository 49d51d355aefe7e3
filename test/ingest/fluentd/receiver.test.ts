import { connect, type Socket } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { decodeMulti, encode } from '@msgpack/msgpack'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createOrigins } from '../../../src/ingest/entry/origins.ts'
import {
  createFluentdReceiver,
  type FluentdReceiver,
  type FluentdReceiverOptions,
} from '../../../src/ingest/fluentd/receiver.ts'
import { createPreset } from '../../../src/ingest/lines/presets/index.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { createWriting, type Writing } from '../../support/entry-writing.ts'
import { createManualGate, type ManualGate } from '../../support/manual-gate.ts'
import { waitUntil } from '../../support/wait.ts'

interface Started {
  readonly receiver: FluentdReceiver
  readonly writing: Writing
  readonly gate: ManualGate
  readonly decoded: [node: string, decoded: number, rejected: number][]
  /** Let go of what waits for fsync. */
  sync: () => void
}

async function start(options: Partial<FluentdReceiverOptions> = {}, holdsSync = false): Promise<Started> {
  const writing = createWriting({ rowsMax: 256 })
  const gate = createManualGate()
  const waiting: (() => void)[] = []
  const decoded: Started['decoded'] = []
  const receiver = createFluentdReceiver({
    listen: '127.0.0.1:0',
    createParser: () => createPreset('auto')!,
    writer: writing.writer,
    origins: createOrigins(),
    node: '',
    synced: () => (holdsSync ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve()),
    gate,
    log: silentLog,
    onDecoded: (...what) => decoded.push(what),
    ...options,
  })
  const sync = () => {
    for (const resolve of waiting.splice(0)) resolve()
  }
  await receiver.start()
  onTestFinished(() => receiver.stop(AbortSignal.timeout(500)))
  return { receiver, writing, gate, decoded, sync }
}

async function dial({ receiver }: Started): Promise<{ socket: Socket; acks: () => unknown[] }> {
  const [host, port] = receiver.address.split(':')
  const socket = connect(Number(port), host)
  await new Promise((resolve) => socket.once('connect', resolve))
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  socket.on('error', () => {})
  onTestFinished(() => void socket.destroy())
  return { socket, acks: () => [...decodeMulti(Buffer.concat(chunks))] }
}

/** As Envoy's Fluentd access logger with these keys in its record format. */
const record = (path: string) => ({
  start_time: '2026-11-21T03:24:15.406514Z',
  method: 'GET',
  path,
  protocol: 'HTTP/1.1',
  response_code: 200,
  response_flags: '-',
  duration: 12,
  upstream_host: '10.0.0.7:80',
  upstream_cluster: 'backend',
  bytes_sent: 3,
})

describe('the Fluentd forward receiver', () => {
  test('makes rows of Envoy’s records, in all modes', async () => {
    const started = await start()
    const { socket } = await dial(started)
    const pairs = [1, 2].map((k) => encode([1_763_695_455, record(`/packed/${k}`)]))
    socket.write(encode(['envoy', [[1_763_695_455, record('/forward')]]]))
    socket.write(encode(['envoy', 1_763_695_455, record('/message')]))
    socket.write(encode(['envoy', Buffer.concat(pairs)]))
    socket.write(encode(['envoy', gzipSync(encode([1_763_695_455, record('/gzip')])), { compressed: 'gzip' }]))
    await waitUntil(() => started.receiver.counters.rows === 5)
    const { requests } = started.writing.take()
    expect(requests.map(({ path }) => path)).toEqual(['/forward', '/message', '/packed/1', '/packed/2', '/gzip'])
    expect(requests[0]).toMatchObject({
      source: 'json',
      node_id: '127.0.0.1',
      log_name: 'envoy',
      method: 'GET',
      response_code: 200,
      upstream_cluster: 'backend',
    })
    expect(started.receiver.counters).toMatchObject({ messages: 4, events: 5 })
  })

  test('the time of the event is that of the end, where the record has none', async () => {
    const started = await start({ node: 'edge-1' })
    const { socket } = await dial(started)
    const { start_time: _, ...untimed } = record('/x')
    socket.write(encode(['envoy', [[1_763_695_455, untimed]]]))
    await waitUntil(() => started.receiver.counters.rows === 1)
    const [row] = started.writing.take().requests
    expect(row).toMatchObject({ node_id: 'edge-1' })
    expect(String(row!.end_time)).toBe(String(1_763_695_455_000_000_000n))
  })

  test('a line that a collector has put into a record', async () => {
    const started = await start()
    const { socket } = await dial(started)
    const log = `${JSON.stringify(record('/kube'))}\n`
    const kubernetes = { pod_name: 'web-7d4b9c-x2x', namespace_name: 'shop', container_name: 'istio-proxy' }
    socket.write(
      encode(['kube.x', [[1_763_695_455, { log, stream: 'stdout', time: '2026-11-21T03:24:16Z', kubernetes }]]]),
    )
    await waitUntil(() => started.receiver.counters.rows === 1)
    expect(started.writing.take().requests[0]).toMatchObject({ path: '/kube', node_id: 'web-7d4b9c-x2x.shop' })
  })

  test('acknowledges a chunk after it is fsynced, and one that comes again at once', async () => {
    const started = await start({}, true)
    const { socket, acks } = await dial(started)
    const message = encode(['envoy', [[1_763_695_455, record('/a')]], { chunk: 'abc=' }])
    socket.write(message)
    await waitUntil(() => started.receiver.counters.rows === 1)
    await wait(20)
    expect(acks()).toEqual([])
    started.sync()
    await waitUntil(() => acks().length === 1)
    socket.write(message)
    await waitUntil(() => acks().length === 2)
    expect(acks()).toEqual([{ ack: 'abc=' }, { ack: 'abc=' }])
    expect(started.receiver.counters).toMatchObject({ rows: 1, repeated: 1, acks: 2 })
  })

  test('a message in pieces of one byte', async () => {
    const started = await start()
    const { socket } = await dial(started)
    socket.setNoDelay(true)
    for (const byte of encode(['envoy', [[1_763_695_455, record('/slow')]]])) {
      socket.write(Buffer.of(byte))
      if (byte % 16 === 0) await wait(0)
    }
    await waitUntil(() => started.receiver.counters.rows === 1)
  })

  test('does not read while the journal takes nothing, and loses nothing', async () => {
    const started = await start({ limits: { bytesMax: 4 << 20 } })
    const { socket, acks } = await dial(started)
    started.gate.close()
    started.writing.closed = true
    // More rows than a builder has room for.
    const many = Array.from({ length: 6000 }, (_, k) => [1_763_695_455, { ...record(`/${k}`), k }])
    const count = 12
    for (let k = 0; k < count; k++) {
      socket.write(encode(['envoy', many.slice(k * 500, (k + 1) * 500), { chunk: `c${k}` }]))
    }
    await waitUntil(() => started.writing.writer.pending > 0)
    const { messages } = started.receiver.counters
    await wait(50)
    expect(started.receiver.counters.messages).toBe(messages)
    expect(messages).toBeLessThan(count)
    started.writing.closed = false
    started.gate.open()
    await waitUntil(() => acks().length === count, { timeout: 5000 })
    expect(started.writing.take().requests).toHaveLength(count * 500)
    expect(started.receiver.counters.rejected.size).toBe(0)
  })

  test('records that are no access log, counted by reason; the rest of the message is stored', async () => {
    const started = await start()
    const { socket, acks } = await dial(started)
    const events = [[1, { level: 'info', msg: 'started' }], [1, record('/ok')], [1, { a: 1 }], 'no event']
    socket.write(encode(['envoy', events, { chunk: 'c' }]))
    await waitUntil(() => acks().length === 1)
    expect(started.writing.take().requests.map(({ path }) => path)).toEqual(['/ok'])
    expect(Object.fromEntries(started.receiver.counters.rejected)).toEqual({
      bad_event: 1,
      not_an_entry: 1,
      unmatched: 1,
    })
    expect(started.decoded).toEqual([['127.0.0.1', 0, 2]])
    expect(started.receiver.rejected().map(({ reason }) => reason)).toContain('unmatched')
  })

  test.each([
    ['malformed', Buffer.from([0xc1])],
    ['too_deep', Buffer.alloc(100, 0x91)],
    ['too_large', Buffer.from('c6ffffffff', 'hex')],
    ['malformed', Buffer.from('GET / HTTP/1.1\r\n')],
  ])('%s: costs the sender its connection at most, and nobody else', async (reason, bytes) => {
    const started = await start()
    const bad = await dial(started)
    const good = await dial(started)
    bad.socket.end(bytes)
    await waitUntil(() => started.receiver.counters.rejected.has(reason))
    good.socket.write(encode(['envoy', [[1, record('/fine')]]]))
    await waitUntil(() => started.receiver.counters.rows === 1)
  })

  test('a message that does not end in time', async () => {
    const started = await start({ limits: { stallMs: 50, sweepMs: 20 } })
    const { socket } = await dial(started)
    const bytes = encode(['envoy', [[1, record('/x')]]])
    let k = 0
    const timer = setInterval(() => socket.write(Buffer.of(bytes[k++]!)), 20)
    await waitUntil(() => started.receiver.connections.stalled === 1, { timeout: 4000 })
    clearInterval(timer)
    await waitUntil(() => started.receiver.counters.rejected.get('cut_off') === 1)
  })

  test('unfinished messages of all connections have a bound together', async () => {
    const started = await start({ limits: { bufferedBytesMax: 10_000 } })
    for (let k = 0; k < 3; k++) {
      const { socket } = await dial(started)
      socket.write(encode(['t', 'x'.repeat(20_000)]).subarray(0, 6000))
    }
    await waitUntil(() => (started.receiver.counters.rejected.get('memory') ?? 0) >= 1)
  })

  test('more connections than allowed', async () => {
    const started = await start({ limits: { connectionsMax: 2 } })
    for (let k = 0; k < 3; k++) await dial(started)
    await waitUntil(() => started.receiver.connections.refused === 1)
  })

  test('stops while a chunk waits for fsync, at the deadline, twice; and one that never started', async () => {
    const started = await start({}, true)
    const { socket, acks } = await dial(started)
    socket.write(encode(['envoy', [[1, record('/x')]], { chunk: 'c' }]))
    await waitUntil(() => started.receiver.counters.rows === 1)
    await started.receiver.stop(AbortSignal.timeout(50))
    await started.receiver.stop(AbortSignal.timeout(50))
    expect(acks()).toEqual([])
  })
})
