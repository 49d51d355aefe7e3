import { describe, expect, onTestFinished, test } from 'vitest'
import type { AlsDecoder, DecodeResult } from '../../../src/ingest/als/decode.ts'
import { createNodeReader } from '../../../src/ingest/als/node.ts'
import { type AlsReceiverOptions, createAlsReceiver } from '../../../src/ingest/als/receiver.ts'
import { createGrpcServer } from '../../../src/ingest/grpc/index.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { connectGrpc, connectRaw, frame, openRaw, until } from '../../support/grpc-client.ts'
import { createTestGate } from '../../support/grpc-server.ts'
import { bytes, identifier, message } from '../../support/wire.ts'

const V3 = '/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs'
const V2 = '/envoy.service.accesslog.v2.AccessLogService/StreamAccessLogs'

/**
 * A decoder for these tests: field 1 is the identifier, every field 2 an entry that is kept as text, `!` is damage.
 * `room` is how many entries fit before the builder is full.
 */
function createTestDecoder() {
  const reader = createNodeReader()
  const kept: string[] = []
  const state = { room: Number.POSITIVE_INFINITY }
  const decoder: AlsDecoder = {
    decode(wire, start, end, stream, _receivedMs, from) {
      const result: DecodeResult = {
        requests: 0,
        attempts: 0,
        progress: 0,
        connections: 0,
        rejected: 0,
        reason: null,
        offset: 0,
        cut: 0,
        untimed: 0,
        full: null,
        resume: -1,
      }
      for (let at = from ?? start; at < end; ) {
        const [field, length] = [wire[at]! >> 3, wire[at + 1]!]
        const text = Buffer.from(wire.subarray(at + 2, at + 2 + length)).toString()
        if (field === 1) stream.origin = reader.read(wire, at + 2, at + 2 + length)
        else if (text === '!' || stream.origin === null) {
          result.rejected++
          result.reason ??= stream.origin === null ? 'no_identifier' : 'malformed'
          result.offset = at - start
        } else if (kept.length >= state.room) {
          return { ...result, full: 'requests', resume: at }
        } else {
          kept.push(`${stream.origin.nodeId}:${text}`)
          result.requests++
        }
        at += 2 + length
      }
      return result
    },
  }
  return { decoder, kept, state }
}

async function start(options: Partial<AlsReceiverOptions> = {}) {
  const { decoder, kept, state } = createTestDecoder()
  const gate = createTestGate()
  let now = 1_000_000
  const receiver = createAlsReceiver({ decoder, gate, flush: () => true, clock: () => now, ...options })
  const server = createGrpcServer({ listen: '127.0.0.1:0', services: receiver.services, log: silentLog, sweepMs: 10 })
  await server.start()
  const client = connectGrpc(server.address)
  onTestFinished(async () => {
    client.close()
    await server.stop(AbortSignal.abort())
  })
  return { receiver, server, client, kept, state, gate, tick: (ms: number) => (now += ms) }
}

const named = (id: string): Uint8Array => bytes(1, identifier({ id, cluster: 'edge' }, 'log'))
const entries = (...texts: string[]): Uint8Array => message(...texts.map((text) => bytes(2, text)))

describe('the access log receiver', () => {
  test.each([V3, V2])('takes messages at %s, each stream under the name of its first', async (path) => {
    const { client, receiver, kept } = await start()
    const first = client.stream(path)
    const second = client.stream(path)
    first.call.write(message(named('a'), entries('1', '2')))
    await until('the first is there', () => kept.length === 2)
    second.call.write(message(named('b'), entries('3')))
    await until('the second is there', () => kept.length === 3)
    first.call.write(entries('4'))
    first.call.end()
    expect(await first.finished).toHaveLength(0)
    expect(kept).toEqual(['a:1', 'a:2', 'b:3', 'a:4'])
    expect(receiver.counters).toMatchObject({ messages: 3, requests: 4 })
  })

  test('knows the streams that are open, and what came on each', async () => {
    const { client, receiver, tick } = await start()
    const { call, finished } = client.stream(V3)
    await until('it is open', () => receiver.streams().length === 1)
    expect(receiver.streams()[0]).toMatchObject({ origin: null, messages: 0, entries: 0 })
    tick(5000)
    const wire = message(named('a'), entries('1', '2', '!'))
    call.write(wire)
    await until('it is read', () => receiver.streams()[0]!.messages === 1)
    expect(receiver.streams()[0]).toMatchObject({
      origin: { nodeId: 'a', nodeCluster: 'edge', logName: 'log' },
      lastMs: 1_005_000,
      messages: 1,
      bytes: wire.length,
      entries: 2,
      rejected: 1,
    })
    expect(receiver.streams()[0]!.peer).toMatch(/^127\.0\.0\.1:\d+$/)
    call.end()
    await finished
    await until('it is closed', () => receiver.streams().length === 0)
  })

  test('lives on after damage, counts it by reason and keeps a sample', async () => {
    const { client, receiver, kept } = await start()
    const { call, finished } = client.stream(V3)
    call.write(entries('early'))
    call.write(message(named('a'), entries('1', '!', '2', '!')))
    call.write(entries('3'))
    call.end()
    await finished
    expect(kept).toEqual(['a:1', 'a:2', 'a:3'])
    expect([...receiver.counters.rejected]).toEqual([
      ['no_identifier', 1],
      ['malformed', 2],
    ])
    expect(receiver.rejected()).toMatchObject([
      { reason: 'malformed', count: 2, nodeId: 'a', logName: 'log' },
      { reason: 'no_identifier', count: 1, nodeId: '', offset: 0, sample: '>12< 05 text(5)' },
    ])
  })

  test('hands a full builder on and goes on in the same message', async () => {
    const flushed: string[] = []
    const setup = await start({
      flush(table) {
        flushed.push(table)
        setup.state.room += 2
        return true
      },
    })
    setup.state.room = 2
    const { call, finished } = setup.client.stream(V3)
    call.write(message(named('a'), entries('1', '2', '3', '4', '5')))
    call.end()
    await finished
    expect(setup.kept).toEqual(['a:1', 'a:2', 'a:3', 'a:4', 'a:5'])
    expect(flushed).toEqual(['requests', 'requests'])
    expect(setup.receiver.counters).toMatchObject({ messages: 1, requests: 5 })
  })

  test('goes on at the right place when the message lies elsewhere the second time', async () => {
    const setup = await start({
      flush() {
        setup.gate.close()
        setImmediate(() => {
          setup.state.room++
          setup.gate.open()
        })
        return false
      },
    })
    setup.state.room = 0
    const session = connectRaw(setup.server.address)
    onTestFinished(() => session.destroy())
    const raw = openRaw(session, V3)
    // All in one chunk: what is left of it is cut off its front each time.
    raw.stream.end(
      Buffer.concat([
        frame(message(named('a'), entries('1', '2', '3'))),
        frame(entries('4', '5')),
        frame(message(named('b'), entries('6'))),
      ]),
    )
    expect(await raw.trailers).toMatchObject({ 'grpc-status': '0' })
    expect(setup.kept).toEqual(['a:1', 'a:2', 'a:3', 'a:4', 'a:5', 'b:6'])
  })

  test('waits in the middle of a message when there is no room, and loses and doubles nothing', async () => {
    const decoded: [string, number, number][] = []
    const setup = await start({
      flush() {
        setup.gate.close()
        return false
      },
      onDecoded: (...counts) => decoded.push(counts),
    })
    setup.state.room = 3
    const streams = ['a', 'b'].map((id) => {
      const stream = setup.client.stream(V3)
      stream.call.write(message(named(id), entries('1', '2', '3', '4', '!')))
      stream.call.write(entries('5'))
      stream.call.end()
      return stream
    })
    await until('it is full', () => setup.gate.closed)
    await new Promise((resolve) => setTimeout(resolve, 30))
    expect(setup.kept).toHaveLength(3)
    for (const room of [4, 6, 7, 100]) {
      setup.state.room = room
      setup.gate.open()
      await until(`${Math.min(room, 10)} are there`, () => setup.kept.length === Math.min(room, 10))
    }
    await Promise.all(streams.map(({ finished }) => finished))
    expect(setup.kept.toSorted()).toEqual(
      ['a', 'b'].flatMap((id) => ['1', '2', '3', '4', '5'].map((k) => `${id}:${k}`)),
    )
    expect(setup.receiver.counters).toMatchObject({ messages: 4, requests: 10 })
    expect([...setup.receiver.counters.rejected]).toEqual([['malformed', 2]])
    const sum = (k: 1 | 2): number => decoded.reduce((total, counts) => total + counts[k], 0)
    expect([sum(1), sum(2)]).toEqual([10, 2])
  })
})
