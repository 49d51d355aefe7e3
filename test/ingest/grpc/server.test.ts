import { connect, constants } from 'node:http2'
import { connect as connectTcp, createServer } from 'node:net'
import { gzipSync } from 'node:zlib'
import { Metadata, type ServiceError } from '@grpc/grpc-js'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { SidecastError } from '../../../src/errors.ts'
import { createGrpcServer, STATUS, status } from '../../../src/ingest/grpc/index.ts'
import { seededRandom } from '../../../src/lib/random.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { connectGrpc, connectRaw, frame, openRaw, until } from '../../support/grpc-client.ts'
import { STREAM, startTestServer, UNARY } from '../../support/grpc-server.ts'
import {
  connectBare,
  data,
  END_STREAM,
  h2Frame,
  PREFACE,
  requestHeaders,
  reset,
  SETTINGS,
  SETTINGS_ACK,
} from '../../support/h2-frames.ts'

function grpcClient(address: string) {
  const client = connectGrpc(address)
  onTestFinished(() => client.close())
  return client
}

function rawSession(address: string) {
  const session = connectRaw(address)
  onTestFinished(() => session.destroy())
  return session
}

async function failure(finished: Promise<unknown>): Promise<ServiceError> {
  return await finished.then(
    () => {
      throw new Error('the call succeeded')
    },
    (error: ServiceError) => error,
  )
}

describe('a call by a gRPC library', () => {
  test('a unary request gets its answer, also an empty one', async () => {
    const { server } = await startTestServer()
    const client = grpcClient(server.address)
    expect((await client.unary(UNARY, Buffer.from('abc'))).toString()).toBe('cba')
    expect(await client.unary(UNARY, Buffer.alloc(0))).toHaveLength(0)
  })

  test('a stream hands on its messages in order and gets one answer', async () => {
    const { server, messages } = await startTestServer()
    const { call, finished } = grpcClient(server.address).stream(STREAM)
    const sent = Array.from({ length: 500 }, (_, k) => Buffer.alloc(k * 7, k))
    for (const message of sent) call.write(message)
    call.end()
    expect((await finished).toString()).toBe('done')
    expect(Buffer.concat(messages).equals(Buffer.concat(sent))).toBe(true)
    expect(messages).toHaveLength(500)
  })

  test('messages of megabytes come through', async () => {
    const { server, messages } = await startTestServer()
    const { call, finished } = grpcClient(server.address).stream(STREAM)
    const large = Buffer.alloc(20 << 20, 'large')
    call.write(large)
    call.write(Buffer.from('small'))
    call.end()
    await finished
    expect(messages.map((message) => message.length)).toEqual([large.length, 5])
    expect(messages[0]!.equals(large)).toBe(true)
  })

  test('gzip is inflated', async () => {
    const { server, messages } = await startTestServer()
    const raw = openRaw(rawSession(server.address), STREAM, { 'grpc-encoding': 'gzip' })
    raw.stream.end(Buffer.concat([frame(gzipSync('packed'), 1), frame(Buffer.from('plain'))]))
    expect(await raw.trailers).toMatchObject({ 'grpc-status': '0' })
    expect(messages.map(String)).toEqual(['packed', 'plain'])
    expect((await raw.headers)['grpc-accept-encoding']).toBe('identity,gzip')
  })

  test('metadata of any kind does no harm', async () => {
    const { server } = await startTestServer()
    const metadata = new Metadata()
    metadata.set('x-text', 'value')
    metadata.set('x-data-bin', Buffer.from([0, 255]))
    const { call, finished } = grpcClient(server.address).stream(STREAM, metadata)
    call.end()
    expect((await finished).toString()).toBe('done')
  })

  test('an unknown method or service is 12, and says its name', async () => {
    const { server } = await startTestServer()
    const client = grpcClient(server.address)
    const error = await failure(client.unary('/test.Service/Nothing', Buffer.from('x')))
    expect(error).toMatchObject({ code: STATUS.unimplemented, details: 'unknown method /test.Service/Nothing' })
    expect(await failure(client.unary('/other.Service/Unary', Buffer.from('x')))).toMatchObject({ code: 12 })
    expect(server.counters.streamsUnimplemented).toBe(2)
  })

  test('a status of the handler reaches the client as it is', async () => {
    const { server } = await startTestServer({
      handler: { onMessage: () => status('invalidArgument', 'what is "50 %"? ✓') },
    })
    const { call, finished } = grpcClient(server.address).stream(STREAM)
    call.write(Buffer.from('x'))
    expect(await failure(finished)).toMatchObject({ code: STATUS.invalidArgument, details: 'what is "50 %"? ✓' })
  })

  test('a message over the limit ends the stream with RESOURCE_EXHAUSTED, counted; the next stream is fine', async () => {
    const { server } = await startTestServer({ limits: { messageBytesMax: 1000 } })
    const client = grpcClient(server.address)
    const { call, finished } = client.stream(STREAM)
    call.write(Buffer.alloc(1001))
    expect(await failure(finished)).toMatchObject({ code: STATUS.resourceExhausted })
    expect(server.counters.messagesTooLarge).toBe(1)
    expect((await client.unary(UNARY, Buffer.from('ab'))).toString()).toBe('ba')
  })

  test('a handler that throws ends its own stream and no other', async () => {
    const { server } = await startTestServer({
      handler: {
        onMessage() {
          throw new Error('a bug')
        },
      },
    })
    const client = grpcClient(server.address)
    const { call, finished } = client.stream(STREAM)
    call.write(Buffer.from('x'))
    expect(await failure(finished)).toMatchObject({ code: STATUS.unavailable })
    expect(server.counters.streamsFailed).toBe(1)
    expect((await client.unary(UNARY, Buffer.from('ab'))).toString()).toBe('ba')
  })

  test('a service that cannot open a stream refuses it alone', async () => {
    const { server } = await startTestServer({
      services: [
        {
          name: 'bad.Service',
          methods: {
            Stream: {
              kind: 'streaming',
              open() {
                throw new Error('a bug')
              },
            },
          },
        },
      ],
    })
    const client = grpcClient(server.address)
    await failure(client.stream('/bad.Service/Stream').finished)
    expect(server.counters).toMatchObject({ streamsFailed: 1, streamsOpen: 0 })
    expect((await client.unary(UNARY, Buffer.from('ab'))).toString()).toBe('ba')
  })

  test('200 streams side by side keep apart', async () => {
    const { server, messages } = await startTestServer()
    const client = grpcClient(server.address)
    const streams = Array.from({ length: 200 }, () => client.stream(STREAM))
    for (let round = 0; round < 3; round++) {
      for (const [k, { call }] of streams.entries()) call.write(Buffer.alloc(5000, `${k}:${round}`))
    }
    for (const { call } of streams) call.end()
    await Promise.all(streams.map(({ finished }) => finished))
    expect(messages).toHaveLength(600)
    const expected = streams.flatMap((_, k) => [0, 1, 2].map((round) => Buffer.alloc(5000, `${k}:${round}`).toString()))
    expect(new Set(messages.map(String))).toEqual(new Set(expected))
    expect(server.counters.streamsOpened).toBe(200)
  })
})

describe('a call by hand', () => {
  test('what is no gRPC gets HTTP’s own answer', async () => {
    const { server } = await startTestServer()
    const session = rawSession(server.address)
    const json = openRaw(session, STREAM, { 'content-type': 'application/json' })
    expect((await json.headers)[':status']).toBe(415)
    const get = session.request({ ':method': 'GET', ':path': '/' })
    const code = await new Promise((resolve) => get.on('response', (headers) => resolve(headers[':status'])))
    expect(code).toBe(405)
    get.resume()
    for (const type of ['application/grpc+proto', 'application/grpc;charset=utf-8', 'Application/GRPC']) {
      const good = openRaw(session, STREAM, { 'content-type': type })
      good.stream.end()
      expect(await good.trailers).toMatchObject({ 'grpc-status': '0' })
    }
    expect(server.counters.streamsNotGrpc).toBe(2)
  })

  test('an unknown method is answered in the headers alone', async () => {
    const { server } = await startTestServer()
    const raw = openRaw(rawSession(server.address), '/a.B/C')
    raw.stream.write(frame(Buffer.from('x')))
    expect(await raw.trailers).toMatchObject({ ':status': 200, 'grpc-status': '12' })
    await raw.closed
  })

  test('headers are sent before the first message', async () => {
    const { server } = await startTestServer()
    const raw = openRaw(rawSession(server.address), STREAM)
    expect(await raw.headers).toMatchObject({ ':status': 200, 'content-type': 'application/grpc' })
  })

  test('a stream that ends inside a message is told so and counted', async () => {
    const { server, messages } = await startTestServer()
    const raw = openRaw(rawSession(server.address), STREAM)
    raw.stream.end(Buffer.concat([frame(Buffer.from('whole')), frame(Buffer.from('half')).subarray(0, 6)]))
    expect(await raw.trailers).toMatchObject({ 'grpc-status': '13' })
    expect(messages.map(String)).toEqual(['whole'])
    expect(server.counters.messagesCut).toBe(1)
  })

  test('a reset keeps what came before it', async () => {
    const seen = await startTestServer()
    const { socket } = connectBare(seen.server.address)
    socket.write(Buffer.concat([PREFACE, SETTINGS, requestHeaders(1, STREAM), data(1, frame(Buffer.from('before')))]))
    socket.write(reset(1, constants.NGHTTP2_CANCEL))
    await until('the stream is closed', () => seen.closed === 1)
    expect(seen.messages.map(String)).toEqual(['before'])
    expect(seen.ended).toBe(0)
    expect(seen.server.counters).toMatchObject({ streamsCut: 1, streamsEnded: 0, streamsOpen: 0, streamsFailed: 0 })
  })

  test('two requests or none to a unary method are an error', async () => {
    const { server } = await startTestServer()
    const session = rawSession(server.address)
    const two = openRaw(session, UNARY)
    two.stream.end(Buffer.concat([frame(Buffer.from('a')), frame(Buffer.from('b'))]))
    expect(await two.trailers).toMatchObject({ 'grpc-status': '13' })
    const none = openRaw(session, UNARY)
    none.stream.end()
    expect(await none.trailers).toMatchObject({ 'grpc-status': '13' })
  })

  test('streams over the bound are refused, and there is room again when one has closed', async () => {
    const { server } = await startTestServer({ limits: { streamsMax: 2 } })
    const session = rawSession(server.address)
    const first = openRaw(session, STREAM)
    const second = openRaw(session, STREAM)
    await Promise.all([first.headers, second.headers])
    expect(await openRaw(session, STREAM).trailers).toMatchObject({ 'grpc-status': '14' })
    expect(server.counters.streamsRefused).toBe(1)
    first.stream.end()
    await first.closed
    await until('one is closed', () => server.counters.streamsOpen === 1)
    expect(await openRaw(session, STREAM).headers).toMatchObject({ ':status': 200 })
  })

  test('connections over the bound are refused and counted', async () => {
    const { server } = await startTestServer({ limits: { connectionsMax: 1 } })
    const raw = openRaw(rawSession(server.address), STREAM)
    await raw.headers
    const second = connectTcp(Number(server.address.split(':')[1]), '127.0.0.1')
    onTestFinished(() => void second.destroy())
    second.on('error', () => {})
    await until('the second is refused', () => server.counters.connectionsRefused === 1)
  })
})

describe('back-pressure', () => {
  test('a closed gate holds the sender back; nothing is lost when it opens', async () => {
    const { server, gate, messages } = await startTestServer({ limits: { streamWindowBytes: 64 * 1024 } })
    const raw = openRaw(rawSession(server.address), STREAM)
    await raw.headers
    gate.close()
    const sent = Array.from({ length: 300 }, (_, k) => frame(Buffer.alloc(10_000, k)))
    for (const message of sent) raw.stream.write(message)
    raw.stream.end()
    await until('the window is full', () => server.unreadBytes() > 60 * 1024)
    await delay(50)
    expect(messages).toHaveLength(0)
    expect(server.unreadBytes()).toBeLessThan(200 * 1024)
    gate.open()
    expect(await raw.trailers).toMatchObject({ 'grpc-status': '0' })
    expect(messages).toHaveLength(300)
    expect(server.unreadBytes()).toBe(0)
  })

  test('the gate may close at every message: each comes once, in order', async () => {
    const received: number[] = []
    const seen = await startTestServer({
      handler: {
        onMessage(bytes, start) {
          received.push(Buffer.from(bytes.buffer, bytes.byteOffset).readUInt32LE(start))
          seen.gate.close()
          setImmediate(() => seen.gate.open())
          return null
        },
      },
    })
    const raw = openRaw(rawSession(seen.server.address), STREAM)
    const sent = Array.from({ length: 400 }, (_, k) => {
      const message = Buffer.alloc(4 + ((k * 37) % 700))
      message.writeUInt32LE(k)
      return frame(message)
    })
    raw.stream.end(Buffer.concat(sent))
    expect(await raw.trailers).toMatchObject({ 'grpc-status': '0' })
    expect(received).toEqual(sent.map((_, k) => k))
  })

  test('a message that was not done is given again, the same bytes', async () => {
    const given: string[] = []
    const seen = await startTestServer({
      handler: {
        onMessage(bytes, start, end) {
          given.push(Buffer.from(bytes.subarray(start, end)).toString())
          if (given.length % 2 === 0) return null
          seen.gate.close()
          setTimeout(() => seen.gate.open(), 2)
          return 'again'
        },
      },
    })
    const raw = openRaw(rawSession(seen.server.address), STREAM)
    raw.stream.end(Buffer.concat(['one', 'two'.repeat(20_000), 'three'].map((text) => frame(Buffer.from(text)))))
    expect(await raw.trailers).toMatchObject({ 'grpc-status': '0' })
    expect(given).toEqual(['one', 'one', 'two'.repeat(20_000), 'two'.repeat(20_000), 'three', 'three'])
    expect(seen.server.counters.messages).toBe(3)
  })

  test.each(['reset', 'cancelled', 'cut off'])(
    'what a stream sent before it was %s is read when the gate opens',
    async (how) => {
      const seen = await startTestServer()
      const { socket } = connectBare(seen.server.address)
      socket.write(Buffer.concat([PREFACE, SETTINGS, requestHeaders(1, STREAM)]))
      await until('it is open', () => seen.opened === 1)
      seen.gate.close()
      for (let k = 0; k < 10; k++) socket.write(data(1, frame(Buffer.alloc(5000, k))))
      await until('it has arrived', () => seen.server.unreadBytes() >= 10 * 5005)
      if (how === 'cut off') socket.destroy()
      else socket.write(reset(1, how === 'reset' ? constants.NGHTTP2_NO_ERROR : constants.NGHTTP2_CANCEL))
      await delay(50)
      expect(seen.closed).toBe(0)
      seen.gate.open()
      await until('it is read', () => seen.closed === 1)
      expect(seen.messages.map((message) => message[0])).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
      expect(seen.server.unreadBytes()).toBe(0)
      expect(seen.server.counters.streamsOpen).toBe(0)
    },
  )

  test('a stream that we have ended is read to its reset as well', async () => {
    let now = 0
    const seen = await startTestServer({ streamAgeMs: 1000, random: () => 0.5, clock: () => now })
    const { socket } = connectBare(seen.server.address)
    socket.write(Buffer.concat([PREFACE, SETTINGS, requestHeaders(1, STREAM), data(1, frame(Buffer.from('1')))]))
    await until('it is open', () => seen.messages.length === 1)
    now = 1000
    await until('it is ended', () => seen.server.counters.connectionsAged === 1)
    await delay(20)
    seen.gate.close()
    socket.write(data(1, frame(Buffer.from('2'))))
    await until('the first chunk has arrived', () => seen.server.unreadBytes() >= 6)
    socket.write(data(1, frame(Buffer.from('3'))))
    await until('the second, too', () => seen.server.unreadBytes() >= 12)
    socket.write(reset(1, constants.NGHTTP2_CANCEL))
    await delay(50)
    seen.gate.open()
    await until('it is read', () => seen.closed === 1)
    expect(seen.messages.map(String)).toEqual(['1', '2', '3'])
  })

  test('over the bound of all unread bytes the fullest streams are cut off, counted, the others kept', async () => {
    const seen = await startTestServer({ limits: { unreadBytesMax: 100_000 } })
    const session = rawSession(seen.server.address)
    const small = openRaw(session, STREAM)
    const large = openRaw(session, STREAM)
    await Promise.all([small.headers, large.headers])
    seen.gate.close()
    small.stream.write(frame(Buffer.alloc(1000)))
    for (let k = 0; k < 12; k++) large.stream.write(frame(Buffer.alloc(10_000)))
    expect(await large.trailers).toMatchObject({ 'grpc-status': '14' })
    expect(seen.server.counters.streamsShed).toBe(1)
    expect(seen.server.counters.unreadBytesLost).toBeGreaterThan(100_000)
    seen.gate.open()
    await until('the small one is read', () => seen.messages.length === 1)
    expect(seen.messages[0]).toHaveLength(1000)
  })
})

describe('leaving', () => {
  test('stop ends every stream with status 0 and a GOAWAY, and reads what is under way', async () => {
    const seen = await startTestServer()
    const session = rawSession(seen.server.address)
    const goaways: number[] = []
    session.on('goaway', (code) => goaways.push(code))
    const raw = openRaw(session, STREAM)
    await raw.headers
    const stopped = seen.server.stop(AbortSignal.timeout(5000))
    const trailers = await raw.trailers
    // Under way while the trailers were: still read.
    raw.stream.end(frame(Buffer.from('late')))
    await stopped
    expect(trailers).toMatchObject({ 'grpc-status': '0' })
    expect(goaways).toContain(0)
    expect(seen.messages.map(String)).toEqual(['late'])
    expect(seen.closed).toBe(1)
    expect(seen.server.counters.connectionsOpen).toBe(0)
  })

  test('a library’s client stream ends well, with an answer', async () => {
    const { server } = await startTestServer()
    const { call, finished } = grpcClient(server.address).stream(STREAM)
    call.write(Buffer.from('x'))
    await until('it is open', () => server.counters.messages === 1)
    await server.stop(AbortSignal.timeout(5000))
    expect(await finished).toHaveLength(0)
  })

  test('stop while busy loses no message that was sent', async () => {
    const { server, messages } = await startTestServer()
    const { call, finished } = grpcClient(server.address).stream(STREAM)
    let sent = 0
    const timer = setInterval(() => {
      for (let k = 0; k < 20; k++) if (call.write(Buffer.alloc(2000))) sent++
    }, 1)
    await until('it is busy', () => messages.length > 200)
    await server.stop(AbortSignal.timeout(5000))
    clearInterval(timer)
    await finished
    expect(messages.length).toBeGreaterThan(200)
    expect(server.counters.messagesCut).toBe(0)
    expect(sent).toBeGreaterThan(0)
  })

  test('a client that does not leave is cut off when it has lingered, or at the deadline', async () => {
    const lingering = await startTestServer({ limits: { lingerMs: 30 } })
    await openRaw(rawSession(lingering.server.address), STREAM).headers
    const started = performance.now()
    await lingering.server.stop(AbortSignal.timeout(10_000))
    expect(performance.now() - started).toBeLessThan(10_000)

    const stuck = await startTestServer({ limits: { lingerMs: 60_000 } })
    await openRaw(rawSession(stuck.server.address), STREAM).headers
    await stuck.server.stop(AbortSignal.timeout(50))
    expect(stuck.closed).toBe(1)
  })

  test('stop behind a closed gate waits for it until the deadline, then counts what is lost', async () => {
    const opens = await startTestServer()
    const first = openRaw(rawSession(opens.server.address), STREAM)
    await first.headers
    opens.gate.close()
    first.stream.end(frame(Buffer.from('waits')))
    await until('it has arrived', () => opens.server.unreadBytes() > 0)
    setTimeout(() => opens.gate.open(), 50)
    await opens.server.stop(AbortSignal.timeout(5000))
    expect(opens.messages.map(String)).toEqual(['waits'])

    const stays = await startTestServer()
    const second = openRaw(rawSession(stays.server.address), STREAM)
    await second.headers
    stays.gate.close()
    second.stream.write(frame(Buffer.alloc(100)))
    await until('it has arrived', () => stays.server.unreadBytes() > 0)
    await stays.server.stop(AbortSignal.timeout(50))
    expect(stays.server.counters.unreadBytesLost).toBe(105)
    expect(stays.closed).toBe(1)
  })

  test('stop before start, and twice, is fine; afterwards nothing listens', async () => {
    const never = createGrpcServer({ listen: '127.0.0.1:0', services: [], log: silentLog })
    await never.stop(AbortSignal.timeout(100))
    await never.stop(AbortSignal.timeout(100))
    const { server } = await startTestServer()
    await Promise.all([server.stop(AbortSignal.timeout(100)), server.stop(AbortSignal.timeout(100))])
    await server.stop(AbortSignal.abort())
    const refused = connectTcp(Number(server.address.split(':')[1]), '127.0.0.1')
    const code = await new Promise((resolve) =>
      refused.on('error', (error: NodeJS.ErrnoException) => resolve(error.code)),
    )
    expect(code).toBe('ECONNREFUSED')
  })

  test('an address in use stops the start, naming option and address', async () => {
    const taken = createServer().listen(0, '127.0.0.1')
    onTestFinished(() => void taken.close())
    await new Promise((resolve) => taken.once('listening', resolve))
    const listen = `127.0.0.1:${(taken.address() as { port: number }).port}`
    const server = createGrpcServer({ listen, services: [], log: silentLog })
    const error = await server.start().catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(SidecastError)
    expect(error).toMatchObject({
      code: 'SC4101',
      message: `ingest.grpc.listen: cannot listen on ${listen}: the address is in use`,
      cause: { code: 'EADDRINUSE' },
    })
    await server.stop(AbortSignal.timeout(100))
  })
})

describe('age and keepalive', () => {
  test('a connection of age is asked to go, its streams end with status 0, and the next connection serves on', async () => {
    let now = 0
    const { server, messages } = await startTestServer({ streamAgeMs: 1000, random: () => 0.5, clock: () => now })
    const client = grpcClient(server.address)
    const first = client.stream(STREAM)
    first.call.write(Buffer.from('1'))
    await until('it is read', () => messages.length === 1)
    now = 999
    await delay(30)
    expect(server.counters.connectionsAged).toBe(0)
    now = 1000
    expect(await first.finished).toHaveLength(0)
    const second = client.stream(STREAM)
    second.call.write(Buffer.from('2'))
    await until('the second is read', () => messages.length === 2)
    expect(server.counters).toMatchObject({ connectionsAccepted: 2, connectionsAged: 1 })
  })

  test('ages are spread by ± 20 %', async () => {
    for (const [random, age] of [
      [0, 800],
      [1, 1200],
    ] as const) {
      let now = 0
      const { server } = await startTestServer({ streamAgeMs: 1000, random: () => random, clock: () => now })
      const raw = openRaw(rawSession(server.address), STREAM)
      await raw.headers
      now = age - 1
      await delay(30)
      expect(server.counters.connectionsAged).toBe(0)
      now = age
      expect(await raw.trailers).toMatchObject({ 'grpc-status': '0' })
    }
  })

  test('a silent peer is asked by PING and kept while it answers', async () => {
    let now = 0
    const { server } = await startTestServer({ keepaliveMs: 1000, streamAgeMs: 1e9, clock: () => now })
    const session = rawSession(server.address)
    let pings = 0
    session.on('ping', () => pings++)
    await openRaw(session, STREAM).headers
    await delay(30)
    for (let k = 1; k <= 5; k++) {
      now += 1001
      await until(`ping ${k} has come`, () => pings === k)
      await delay(20)
    }
    expect(server.counters.connectionsDead).toBe(0)
    expect(server.counters.connectionsOpen).toBe(1)
  })

  test('a dead peer is closed after two unanswered PINGs, a slow but talking one is not', async () => {
    let now = 0
    const seen = await startTestServer({ keepaliveMs: 1000, streamAgeMs: 1e9, clock: () => now })
    // Opens a connection and is never heard of again.
    connectBare(seen.server.address).socket.write(Buffer.concat([PREFACE, SETTINGS, SETTINGS_ACK]))
    const talking = openRaw(rawSession(seen.server.address), STREAM)
    await talking.headers
    for (let k = 0; k < 4; k++) {
      now += 1001
      talking.stream.write(frame(Buffer.from('x')))
      await until('it is read', () => seen.messages.length === k + 1)
      await delay(25)
    }
    expect(seen.server.counters).toMatchObject({ connectionsDead: 1, connectionsOpen: 1 })
  })

  test('a connection without streams is told to go after a while', async () => {
    let now = 0
    const { server } = await startTestServer({ limits: { idleConnectionMs: 5000 }, clock: () => now })
    const session = rawSession(server.address)
    const raw = openRaw(session, STREAM)
    raw.stream.end()
    await raw.closed
    now = 6000
    await new Promise((resolve) => session.once('goaway', resolve))
    await until('it is closed', () => server.counters.connectionsOpen === 0)
  })
})

describe('hostile and mistaken clients', () => {
  test('HTTP/1 and TLS are told so, counted, and logged once each', async () => {
    const warn = vi.fn()
    const { server } = await startTestServer({ log: { ...silentLog, warn } })
    for (let k = 0; k < 3; k++) {
      const http1 = connectBare(server.address)
      http1.socket.write('GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n')
      expect((await http1.closed).toString()).toContain('speaks gRPC over HTTP/2 without TLS')
    }
    const tls = connectBare(server.address)
    tls.socket.write(Buffer.from([0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3]))
    expect((await tls.closed)[0]).toBe(0x15)
    const other = connectBare(server.address)
    other.socket.write('SSH-2.0-OpenSSH_9.2\r\n')
    await other.closed
    expect(server.counters).toMatchObject({ connectionsHttp1: 3, connectionsTls: 1, connectionsOther: 1 })
    expect(warn.mock.calls.map(([fields]) => fields.spoken)).toEqual(['http1', 'tls', 'other'])
    expect(server.lastStranger).toMatchObject({ spoken: 'other', peer: expect.stringMatching(/^127\.0\.0\.1:\d+$/) })
  })

  test('a port check is counted and not logged', async () => {
    const warn = vi.fn()
    const { server } = await startTestServer({ log: { ...silentLog, warn } })
    const { socket } = connectBare(server.address)
    socket.end()
    await until('it is counted', () => server.counters.connectionsEmpty === 1)
    expect(warn).not.toHaveBeenCalled()
  })

  test('a preface in single bytes is understood', async () => {
    const { server } = await startTestServer()
    const { socket } = connectBare(server.address)
    socket.setNoDelay(true)
    for (const byte of Buffer.concat([PREFACE, SETTINGS])) {
      socket.write(Buffer.of(byte))
      await new Promise((resolve) => setImmediate(resolve))
    }
    const answer = await new Promise<Buffer>((resolve) => socket.once('data', resolve))
    expect(answer[3]).toBe(4) // SETTINGS.
  })

  test.each([
    ['half a preface', PREFACE.subarray(0, 10)],
    ['a preface and no SETTINGS', PREFACE],
    ['nothing', Buffer.alloc(0)],
  ])('a client that sends %s is closed in time', async (_, bytes) => {
    const { server } = await startTestServer({ limits: { handshakeMs: 60 } })
    const { socket, closed } = connectBare(server.address)
    socket.write(bytes)
    await closed
    expect(server.counters.connectionsSlow).toBe(1)
    await until('nothing is open', () => server.counters.connectionsOpen === 0)
  })

  test('headers that never end are closed by keepalive', async () => {
    const { server } = await startTestServer({ keepaliveMs: 40 })
    const { socket, closed } = connectBare(server.address)
    // HEADERS without END_HEADERS, and no CONTINUATION: no other frame may come, not even the answer to a PING.
    socket.write(Buffer.concat([PREFACE, SETTINGS, SETTINGS_ACK, requestHeaders(1, STREAM, 0)]))
    await closed
    expect(server.counters.connectionsDead).toBe(1)
  })

  test('rapid reset is stopped by closing the connection', async () => {
    const { server } = await startTestServer()
    const session = rawSession(server.address)
    const closed = new Promise<void>((resolve) => session.once('close', () => resolve()))
    let gone = false
    void closed.then(() => {
      gone = true
    })
    for (let k = 0; k < 200 && !gone; k++) {
      for (let n = 0; n < 50; n++) {
        if (session.destroyed || session.closed) break
        const raw = openRaw(session, STREAM)
        raw.stream.close(constants.NGHTTP2_CANCEL)
      }
      await new Promise((resolve) => setImmediate(resolve))
    }
    await closed
    expect(server.counters.streamsOpened).toBeLessThan(5000)
    expect((await grpcClient(server.address).unary(UNARY, Buffer.from('ab'))).toString()).toBe('ba')
  })

  test('a flood of SETTINGS and of PING does not fill the memory', async () => {
    const { server } = await startTestServer()
    for (const flood of [SETTINGS, h2Frame(6, 0, 0, Buffer.from('12345678'))]) {
      const { socket, closed } = connectBare(server.address)
      socket.pause() // Answers are not read, so they pile up.
      socket.write(Buffer.concat([PREFACE, SETTINGS]))
      const many = Buffer.concat(Array.from({ length: 5000 }, () => flood))
      for (let k = 0; k < 20 && !socket.destroyed; k++) {
        if (!socket.write(many))
          await Promise.race([new Promise((resolve) => socket.once('drain', resolve)), closed, delay(300)])
      }
      socket.resume()
      await Promise.race([closed, delay(1000)])
      expect(socket.destroyed || socket.readableEnded).toBe(true)
    }
    expect((await grpcClient(server.address).unary(UNARY, Buffer.from('ab'))).toString()).toBe('ba')
  })

  test('frames with any bytes wrong end at most their own connection', async () => {
    const { server } = await startTestServer()
    const good = Buffer.concat([
      PREFACE,
      SETTINGS,
      requestHeaders(1, STREAM),
      data(1, frame(Buffer.from('one'))),
      requestHeaders(3, UNARY),
      data(3, frame(Buffer.from('two')), END_STREAM),
      reset(1, constants.NGHTTP2_CANCEL),
    ])
    const random = seededRandom(20_260_101)
    const clients = Array.from({ length: 150 }, () => {
      const bytes = Buffer.from(good)
      for (let k = 0; k < 1 + random() * 6; k++) {
        bytes[PREFACE.length + Math.floor(random() * (bytes.length - PREFACE.length))] = Math.floor(random() * 256)
      }
      const client = connectBare(server.address)
      client.socket.end(bytes.subarray(0, Math.floor(bytes.length * (0.5 + random()))))
      return client
    })
    await until('all are gone', () => clients.every(({ socket }) => socket.readableEnded || socket.destroyed), 10_000)
    for (const { socket } of clients) socket.destroy()
    expect((await grpcClient(server.address).unary(UNARY, Buffer.from('ab'))).toString()).toBe('ba')
    await until('nothing is left', () => server.counters.streamsOpen === 0 && server.counters.connectionsOpen <= 1)
    expect(server.counters.streamsFailed).toBe(0)
  })

  test('headers beyond the limit are refused, the connection or at least the stream', async () => {
    const { server } = await startTestServer()
    const session = connect(`http://${server.address}`, { maxSendHeaderBlockLength: 1 << 20 })
    onTestFinished(() => session.destroy())
    session.on('error', () => {})
    const many = Object.fromEntries(Array.from({ length: 150 }, (_, k) => [`x-${k}`, 'v']))
    const raw = openRaw(session, STREAM, many)
    await raw.closed
    expect(server.counters.streamsOpen).toBe(0)
    expect((await grpcClient(server.address).unary(UNARY, Buffer.from('ab'))).toString()).toBe('ba')
  })
})

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
