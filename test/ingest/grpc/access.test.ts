import { connect } from 'node:http2'
import { connect as connectTcp } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createHealthService } from '../../../src/ingest/grpc/index.ts'
import { type Access, openAccess } from '../../../src/lib/access.ts'
import { createSenders, type SenderLimits } from '../../../src/lib/senders.ts'
import { createTokens, hashToken, makeToken } from '../../../src/lib/tokens.ts'
import { connectRaw, frame, openRaw, until } from '../../support/grpc-client.ts'
import { STREAM, startTestServer, UNARY } from '../../support/grpc-server.ts'

const SEND = makeToken()
const READ = makeToken()
const TOKENS = [
  { name: 'mesh', hash: hashToken(SEND), scopes: ['ingest' as const] },
  { name: 'page', hash: hashToken(READ), scopes: ['read' as const] },
]
const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

function session(address: string) {
  const one = connectRaw(address)
  onTestFinished(() => one.destroy())
  return one
}

/** Every address of 127.0.0.0/8 is this machine, so one machine can be several senders. */
function sessionFrom(localAddress: string, address: string) {
  const [host, port] = address.split(':')
  const createConnection = () => connectTcp({ host: host!, port: Number(port), localAddress })
  const one = connect(`http://${address}`, { createConnection })
  one.on('error', () => {})
  onTestFinished(() => one.destroy())
  return one
}

function limited(limits: Partial<SenderLimits>, clock?: () => number): Access {
  const all = { connectionsMax: 0, streamsMax: 0, bytesPerSecond: 0, ...limits }
  return { ...openAccess(), senders: createSenders(all, clock) }
}

describe('tokens of gRPC', () => {
  test.each([
    ['none', {}, '16'],
    ['an unknown one', bearer(makeToken()), '16'],
    ['one that may only read', bearer(READ), '7'],
    ['the right one', bearer(SEND), '0'],
  ])('%s: grpc-status %3$s', async (_, headers, code) => {
    const { server, messages } = await startTestServer({ access: { ...openAccess(), tokens: createTokens(TOKENS) } })
    for (const path of [STREAM, UNARY]) {
      const raw = openRaw(session(server.address), path, headers as Record<string, string>)
      raw.stream.end(frame(Buffer.from('x')))
      expect((await raw.trailers)['grpc-status']).toBe(code)
    }
    expect(messages).toHaveLength(code === '0' ? 1 : 0)
    expect(server.counters.streamsUnauthorized).toBe(code === '0' ? 0 : 2)
  })

  test('health needs none', async () => {
    const access = { ...openAccess(), tokens: createTokens(TOKENS) }
    const { server } = await startTestServer({ access, services: [createHealthService(['']).service] })
    const raw = openRaw(session(server.address), '/grpc.health.v1.Health/Check')
    raw.stream.end(frame(Buffer.alloc(0)))
    expect((await raw.trailers)['grpc-status']).toBe('0')
  })

  test('a stream ends when its token is withdrawn, after what was under way was read', async () => {
    const tokens = createTokens(TOKENS)
    const { server, messages, gate } = await startTestServer({ access: { ...openAccess(), tokens } })
    const raw = openRaw(session(server.address), STREAM, bearer(SEND))
    raw.stream.write(frame(Buffer.from('one')))
    await until('the first is read', () => messages.length === 1)
    gate.close()
    raw.stream.write(frame(Buffer.from('two')))
    await until('the second waits', () => server.unreadBytes() > 0)
    tokens.replace(TOKENS.slice(1))
    expect((await raw.trailers)['grpc-status']).toBe('16')
    gate.open()
    await until('the second is read', () => messages.length === 2)
  })
})

describe('bounds of one sender', () => {
  test('connections over the bound are closed and counted, those of others are not', async () => {
    const access = limited({ connectionsMax: 1 })
    const { server } = await startTestServer({ access })
    const first = openRaw(sessionFrom('127.0.0.2', server.address), STREAM)
    await first.headers
    const second = sessionFrom('127.0.0.2', server.address)
    await new Promise((resolve) => second.once('close', resolve))
    await openRaw(sessionFrom('127.0.0.3', server.address), STREAM).headers
    expect([server.counters.connectionsRefused, access.senders.counters.connectionsRefused]).toEqual([1, 1])
    first.session.destroy()
    await until('it is forgotten', () => access.senders.size === 1)
    await openRaw(sessionFrom('127.0.0.2', server.address), STREAM).headers
  })

  test('streams over the bound are refused and counted over all connections of a sender', async () => {
    const access = limited({ streamsMax: 2 })
    const { server } = await startTestServer({ access })
    const first = openRaw(session(server.address), STREAM)
    await first.headers
    await openRaw(session(server.address), STREAM).headers
    const refused = openRaw(session(server.address), STREAM)
    expect(await refused.trailers).toMatchObject({ 'grpc-status': '14' })
    first.stream.end()
    await first.closed
    await until('it counts no more', () => server.counters.streamsOpen === 1)
    await openRaw(session(server.address), STREAM).headers
  })

  test('who is over its bytes a second waits, loses nothing, and nobody else waits', async () => {
    let now = 0
    const access = limited({ bytesPerSecond: 64 * 1024 }, () => now)
    const { server, messages } = await startTestServer({ access })
    const noisy = openRaw(sessionFrom('127.0.0.2', server.address), STREAM)
    const message = frame(Buffer.alloc(4096, 'n'))
    for (let k = 0; k < 100; k++) noisy.stream.write(message)
    noisy.stream.end()
    await until('it is held', () => access.senders.counters.held > 0 && server.unreadBytes() > 0)
    const read = messages.length
    expect(read).toBeLessThan(100)
    const other = openRaw(sessionFrom('127.0.0.3', server.address), STREAM)
    other.stream.end(frame(Buffer.from('other')))
    await other.trailers
    expect(messages.filter((one) => one.toString() === 'other')).toHaveLength(1)
    expect(messages.length).toBe(read + 1)
    const passing = setInterval(() => {
      now += 1000
    }, 5)
    onTestFinished(() => clearInterval(passing))
    expect((await noisy.trailers)['grpc-status']).toBe('0')
    expect(messages).toHaveLength(101)
  })
})

describe('turns', () => {
  test('a sender with many streams waits as long for its second turn as others for their first', async () => {
    const STREAMS = 40
    const EACH = 20
    const order: string[] = []
    // Room for ten messages at a time, as a journal has that is drained slowly.
    const { server, gate } = await startTestServer({
      handler: {
        onMessage(bytes, start) {
          order.push(String.fromCharCode(bytes[start]!))
          if (order.length % 10 === 0) {
            gate.close()
            setImmediate(() => gate.open())
          }
          return null
        },
      },
    })
    gate.close()
    const noisy = sessionFrom('127.0.0.2', server.address)
    for (let k = 0; k < STREAMS; k++) {
      const { stream } = openRaw(noisy, STREAM)
      for (let n = 0; n < EACH; n++) stream.write(frame(Buffer.alloc(1000, 'n')))
    }
    await until('all of it is here', () => server.unreadBytes() >= STREAMS * EACH * 1005)
    const quiet = ['a', 'b', 'c'].map((name, k) => {
      const { stream } = openRaw(sessionFrom(`127.0.0.${3 + k}`, server.address), STREAM)
      stream.write(frame(Buffer.alloc(1000, name)))
      return name
    })
    await until('the others are here', () => server.unreadBytes() >= (STREAMS * EACH + 3) * 1005)
    gate.open()
    await until('everything is read', () => order.length === STREAMS * EACH + 3)
    // One stream's bytes for each turn: the others are behind one, or two when the first was cut short.
    for (const name of quiet) expect(order.indexOf(name)).toBeLessThan(2 * EACH + 10)
  })

  test('a sender is read its share in one turn of the event loop, others in the same turn', async () => {
    const STREAMS = 40
    const EACH = 20
    const SHARE = 8 * 1024
    /** A turn ends with the chunk that it is in: at most all that a stream has. */
    const SHARE_AND_CHUNK = SHARE + EACH * 1005
    const order: string[] = []
    const bytesOfTurns = [0]
    const { server, gate } = await startTestServer({
      limits: { turnBytes: SHARE, turnBytesAlone: SHARE },
      handler: {
        onMessage(bytes, start, end) {
          order.push(String.fromCharCode(bytes[start]!))
          if (order.at(-1) === 'n') bytesOfTurns[bytesOfTurns.length - 1]! += end - start
          return null
        },
      },
    })
    gate.close()
    const noisy = sessionFrom('127.0.0.2', server.address)
    for (let k = 0; k < STREAMS; k++) {
      const { stream } = openRaw(noisy, STREAM)
      for (let n = 0; n < EACH; n++) stream.write(frame(Buffer.alloc(1000, 'n')))
    }
    await until('all of it is here', () => server.unreadBytes() >= STREAMS * EACH * 1005)
    const quiet = openRaw(sessionFrom('127.0.0.3', server.address), STREAM)
    quiet.stream.write(frame(Buffer.alloc(1000, 'q')))
    await until('the other is here', () => server.unreadBytes() >= (STREAMS * EACH + 1) * 1005)
    const count = () => {
      bytesOfTurns.push(0)
      if (order.length < STREAMS * EACH + 1) setImmediate(count)
    }
    setImmediate(count)
    gate.open()
    await until('everything is read', () => order.length === STREAMS * EACH + 1)
    expect(order.indexOf('q')).toBeLessThan(SHARE_AND_CHUNK / 1000)
    // Theirs and this counter's turns end at different moments of the same one.
    expect(Math.max(...bytesOfTurns)).toBeLessThanOrEqual(2 * SHARE_AND_CHUNK)
    expect(bytesOfTurns.filter((bytes) => bytes > 0).length).toBeGreaterThan(10)
  })

  test('no more calls are held for a turn than are allowed, and nothing is lost', async () => {
    const { server, messages } = await startTestServer({ limits: { turnBytes: 1, turnBytesAlone: 1, turnCallsMax: 2 } })
    let most = 0
    const streams = Array.from({ length: 12 }, () => openRaw(sessionFrom('127.0.0.2', server.address), STREAM))
    for (const { stream } of streams) {
      for (let n = 0; n < 20; n++) stream.write(frame(Buffer.alloc(10_000, 'n')))
      stream.end()
    }
    const look = setInterval(() => {
      most = Math.max(most, server.unreadBytes())
    }, 1)
    onTestFinished(() => clearInterval(look))
    for (const { trailers } of streams) expect((await trailers)['grpc-status']).toBe('0')
    expect(messages).toHaveLength(240)
    expect(server.counters.turnsWaited).toBeGreaterThan(0)
    // Two windows, and what the streams' own buffers have.
    expect(most).toBeLessThanOrEqual(2 * 2 * 256 * 1024)
  })
})
