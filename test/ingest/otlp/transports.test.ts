import { connect } from 'node:net'
import { gzipSync } from 'node:zlib'
import { status as grpcStatus } from '@grpc/grpc-js'
import { describe, expect, it, onTestFinished } from 'vitest'
import { SidecastError } from '../../../src/errors.ts'
import { createGrpcServer } from '../../../src/ingest/grpc/index.ts'
import { createExporter, type Exporter } from '../../../src/ingest/otlp/export.ts'
import { createOtlpHttpServer, type OtlpHttpLimits, type OtlpHttpServer } from '../../../src/ingest/otlp/http.ts'
import { createOtlpServices } from '../../../src/ingest/otlp/services.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { connectGrpc, connectRaw, frame, openRaw, until } from '../../support/grpc-client.ts'
import { createTestGate, type TestGate } from '../../support/grpc-server.ts'
import { attributesOf, createOtlpDecoding, logRequest, type OtlpDecoding, otlp } from '../../support/otlp.ts'

interface Running {
  readonly exporter: Exporter
  readonly decoding: OtlpDecoding
  readonly gate: TestGate
  readonly http: OtlpHttpServer
  readonly grpc: string
  /** Syncs that were asked for; each waits until `release` when `held`. */
  readonly syncs: { count: number; held: boolean; full: boolean; release(): void }
}

async function start(
  options: { limits?: Partial<OtlpHttpLimits>; rowsMax?: number; waitMs?: number } = {},
): Promise<Running> {
  const decoding = createOtlpDecoding(options.rowsMax === undefined ? {} : { rowsMax: options.rowsMax })
  const gate = createTestGate()
  let waiting: (() => void)[] = []
  const syncs = {
    count: 0,
    held: false,
    full: false,
    release() {
      syncs.held = false
      for (const go of waiting) go()
      waiting = []
    },
  }
  const synced = async (): Promise<void> => {
    syncs.count++
    if (syncs.held) await new Promise<void>((resolve) => waiting.push(resolve))
    if (syncs.full) throw new SidecastError('SC4104', 'the journal has no room')
  }
  const exporter = createExporter({
    ...decoding.decoders,
    writer: decoding.writing.writer,
    gate,
    rowsSynced: synced,
    metricsSynced: synced,
    restMs: 0,
    ...(options.waitMs === undefined ? {} : { waitMs: options.waitMs }),
  })
  const http = createOtlpHttpServer({
    listen: '127.0.0.1:0',
    exporter,
    log: silentLog,
    ...(options.limits === undefined ? {} : { limits: options.limits }),
  })
  const grpc = createGrpcServer({
    listen: '127.0.0.1:0',
    services: createOtlpServices(exporter),
    log: silentLog,
    limits: { decompressedBytesMax: 1 << 20 },
  })
  await http.start()
  await grpc.start()
  onTestFinished(async () => {
    const deadline = AbortSignal.timeout(200)
    await Promise.all([http.stop(deadline), grpc.stop(deadline)])
  })
  return { exporter, decoding, gate, http, grpc: grpc.address, syncs }
}

const record = (attributes: Readonly<Record<string, unknown>>) => ({
  timeUnixNano: '1795231455406514000',
  attributes: attributesOf(attributes),
})
const GOOD = record({ 'http.response.status_code': 200, 'url.path': '/a' })
const BAD = record({ hello: 'world' })
const logs = (...logRecords: object[]) => ({ resourceLogs: [{ scopeLogs: [{ logRecords }] }] })
const PROTOBUF = { 'content-type': 'application/x-protobuf' }
const JSON_TYPE = { 'content-type': 'application/json' }

async function post(running: Running, path: string, body: Uint8Array | string, headers: Record<string, string>) {
  const answer = await fetch(`http://${running.http.address}${path}`, {
    method: 'POST',
    body: body as Uint8Array<ArrayBuffer>,
    headers,
  })
  const bytes = Buffer.from(await answer.arrayBuffer())
  return { code: answer.status, headers: answer.headers, text: bytes.toString('utf8'), hex: bytes.toString('hex') }
}

describe('OTLP over HTTP', () => {
  it.each([
    ['protobuf', PROTOBUF, otlp('logs', logs(GOOD)), ''],
    ['protobuf, compressed', { ...PROTOBUF, 'content-encoding': 'gzip' }, gzipSync(otlp('logs', logs(GOOD))), ''],
    ['JSON', { 'content-type': 'application/json; charset=utf-8' }, JSON.stringify(logs(GOOD)), '{}'],
    ['JSON, compressed', { ...JSON_TYPE, 'content-encoding': 'gzip' }, gzipSync(JSON.stringify(logs(GOOD))), '{}'],
    ['nothing', PROTOBUF, new Uint8Array(0), ''],
  ])('%s is answered with 200 and an empty response', async (name, headers, body, expected) => {
    const running = await start()
    const answer = await post(running, '/v1/logs', body, headers)
    expect({ code: answer.code, text: answer.text }).toEqual({ code: 200, text: expected })
    expect(answer.headers.get('content-type')).toBe(headers['content-type'].split(';')[0])
    expect(running.decoding.writing.take().requests.length).toBe(name === 'nothing' ? 0 : 1)
  })

  it('any path that ends in /v1/logs, /v1/metrics or /v1/traces', async () => {
    const running = await start()
    const span = { traceId: '5b8efff798038103d269b633813fc60c', spanId: 'eee19b7ec3c1b174', name: 'x' }
    const spans = { resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] }
    const metrics = {
      resourceMetrics: [{ scopeMetrics: [{ metrics: [{ name: 'n', gauge: { dataPoints: [{ asInt: 1 }] } }] }] }],
    }
    expect((await post(running, '/any/where/v1/logs?x=1', JSON.stringify(logs(GOOD)), JSON_TYPE)).code).toBe(200)
    expect((await post(running, '/v1/traces', otlp('traces', spans), PROTOBUF)).code).toBe(200)
    expect((await post(running, '/v1/metrics', otlp('metrics', metrics), PROTOBUF)).code).toBe(200)
    expect(running.decoding.spans.length).toBe(1)
    expect(running.decoding.metrics.written.length).toBe(1)
    expect(running.exporter.counters.traces).toMatchObject({ requests: 1, items: 1, accepted: 1 })
  })

  it('part of a request is a partial success', async () => {
    const running = await start()
    const json = await post(running, '/v1/logs', JSON.stringify(logs(GOOD, BAD, BAD)), JSON_TYPE)
    expect(json.code).toBe(200)
    expect(JSON.parse(json.text)).toEqual({
      partialSuccess: {
        rejectedLogRecords: '2',
        errorMessage: expect.stringMatching(/^2 rejected: log records that are no access log entries/),
      },
    })
    const protobuf = await post(running, '/v1/logs', otlp('logs', logs(GOOD, BAD)), PROTOBUF)
    expect(protobuf.code).toBe(200)
    expect(protobuf.hex).toMatch(/^0a..080112/)
    expect(running.decoding.writing.take().requests.length).toBe(2)
    expect(running.exporter.counters.logs).toMatchObject({ requests: 2, items: 5, accepted: 2 })
    expect(running.exporter.counters.logs.rejected).toEqual(new Map([['not_access_log', 3]]))
    expect(running.exporter.rejected()[0]).toMatchObject({ reason: 'not_access_log', count: 3, logName: 'otlp logs' })
  })

  it('a damaged request is a 400 with a Status in its own format', async () => {
    const running = await start()
    const whole = otlp('logs', logs(GOOD))
    const cut = await post(running, '/v1/logs', whole.subarray(0, whole.length - 3), PROTOBUF)
    expect(cut.code).toBe(400)
    expect(cut.headers.get('content-type')).toBe('application/x-protobuf')
    expect(cut.hex).toMatch(/^080312/)
    const json = await post(running, '/v1/logs', '{"resourceLogs":3}', JSON_TYPE)
    expect(json.code).toBe(400)
    expect(JSON.parse(json.text)).toEqual({ code: 3, message: '$.resourceLogs must be an array' })
    const notGzip = await post(running, '/v1/logs', whole, { ...PROTOBUF, 'content-encoding': 'gzip' })
    expect(notGzip.code).toBe(400)
    expect(running.exporter.counters.logs.refused).toEqual(
      new Map([
        ['malformed', 1],
        ['json_wrong_type', 1],
        ['bad_compression', 1],
      ]),
    )
  })

  it.each([
    ['another path', '/v2/logs', 'POST', PROTOBUF, 404],
    ['another method', '/v1/logs', 'GET', undefined, 405],
    ['another content type', '/v1/logs', 'POST', { 'content-type': 'text/plain' }, 415],
    ['another encoding', '/v1/logs', 'POST', { ...PROTOBUF, 'content-encoding': 'br' }, 415],
    ['a page in a browser', '/v1/logs', 'POST', { ...PROTOBUF, origin: 'http://evil.example' }, 403],
  ])('%s', async (_name, path, method, headers, code) => {
    const running = await start()
    const body = method === 'POST' ? { body: otlp('logs', logs(GOOD)) as Uint8Array<ArrayBuffer> } : {}
    const answer = await fetch(`http://${running.http.address}${path}`, {
      method,
      ...(headers && { headers }),
      ...body,
    })
    expect(answer.status).toBe(code)
    if (code === 405) expect(answer.headers.get('allow')).toBe('POST')
    await answer.arrayBuffer()
    expect(running.decoding.writing.take().requests.length).toBe(0)
  })

  it('large bodies are refused: by their length, as they come, and when unpacked', async () => {
    const running = await start({ limits: { bodyBytesMax: 1000, decompressedBytesMax: 100_000 } })
    const announced = await post(running, '/v1/logs', new Uint8Array(1001), PROTOBUF)
    expect(announced.code).toBe(413)
    const bomb = gzipSync(Buffer.alloc(200_000))
    expect(bomb.length).toBeLessThan(1000)
    expect((await post(running, '/v1/logs', bomb, { ...PROTOBUF, 'content-encoding': 'gzip' })).code).toBe(413)
    const chunked = await fetch(`http://${running.http.address}/v1/logs`, {
      method: 'POST',
      headers: PROTOBUF,
      body: new Blob([new Uint8Array(500), new Uint8Array(600)]).stream(),
      duplex: 'half',
    } as RequestInit)
    expect(chunked.status).toBe(413)
    expect(running.exporter.counters.logs.refused).toEqual(new Map([['too_large', 3]]))
    // Nothing is held any more, and others are served.
    expect((await post(running, '/v1/logs', otlp('logs', logs(GOOD)), PROTOBUF)).code).toBe(200)
  })

  it('more bodies at one time than may be held are told to come again', async () => {
    const running = await start({ limits: { heldBytesMax: 2000 } })
    const busy = await post(running, '/v1/logs', new Uint8Array(3000), PROTOBUF)
    expect(busy.code).toBe(429)
    expect(busy.headers.get('retry-after')).toBe('1')
    expect((await post(running, '/v1/logs', otlp('logs', logs(GOOD)), PROTOBUF)).code).toBe(200)
  })

  it('a sender that dawdles is cut off, others are not held up', async () => {
    const running = await start({ limits: { headersMs: 100, requestMs: 200 } })
    const [host, port] = running.http.address.split(':') as [string, string]
    const answers = await Promise.all(
      [
        'POST /v1/lo',
        'POST /v1/logs HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 100\r\n\r\nab',
      ].map(async (slow) => {
        const socket = connect(Number(port), host)
        let text = ''
        socket.on('data', (chunk: Buffer) => {
          text += chunk.toString()
        })
        socket.write(slow)
        const closed = new Promise((resolve) => socket.once('close', resolve))
        expect((await post(running, '/v1/logs', otlp('logs', logs(GOOD)), PROTOBUF)).code).toBe(200)
        await closed
        return text
      }),
    )
    for (const answer of answers) expect(answer).toMatch(/^HTTP\/1.1 408 /)
    expect(running.http.counters.slow).toBe(2)
    await until('the body that was cut off is counted', () => running.exporter.counters.logs.refused.size > 0)
    expect(running.exporter.counters.logs.refused).toEqual(new Map([['cut_off', 1]]))
  })

  it('what is no HTTP is counted and closed', async () => {
    const running = await start()
    const [host, port] = running.http.address.split(':') as [string, string]
    const socket = connect(Number(port), host)
    socket.on('error', () => {})
    socket.resume()
    socket.write('\x16\x03\x01 hello\r\n\r\n')
    await new Promise((resolve) => socket.once('close', resolve))
    expect(running.http.counters.malformed).toBe(1)
  })

  it('the answer waits until everything is safe', async () => {
    const running = await start()
    running.syncs.held = true
    let answered = false
    const answer = post(running, '/v1/logs', otlp('logs', logs(GOOD)), PROTOBUF).then((value) => {
      answered = true
      return value
    })
    await until('a sync runs', () => running.syncs.count === 1)
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(answered).toBe(false)
    running.syncs.release()
    expect((await answer).code).toBe(200)
  })

  it('while the journal is full: 503, and nothing was read', async () => {
    const running = await start()
    running.gate.close()
    const answer = await post(running, '/v1/logs', otlp('logs', logs(GOOD)), PROTOBUF)
    expect(answer.code).toBe(503)
    expect(answer.headers.get('retry-after')).toBe('1')
    expect(answer.hex).toMatch(/^080e12/)
    running.gate.open()
    expect(running.decoding.writing.take().requests.length).toBe(0)
    expect((await post(running, '/v1/logs', otlp('logs', logs(GOOD)), PROTOBUF)).code).toBe(200)
  })

  it('stops twice, and answers what is under way first', async () => {
    const running = await start()
    running.syncs.held = true
    const answer = post(running, '/v1/logs', otlp('logs', logs(GOOD)), PROTOBUF)
    await until('a sync runs', () => running.syncs.count === 1)
    const deadline = AbortSignal.timeout(5000)
    const stopped = running.http.stop(deadline)
    running.syncs.release()
    expect((await answer).code).toBe(200)
    await Promise.all([stopped, running.http.stop(deadline)])
    await expect(post(running, '/v1/logs', new Uint8Array(0), PROTOBUF)).rejects.toThrow()
  })

  it('an address in use is told with the option', async () => {
    const running = await start()
    const second = createOtlpHttpServer({ listen: running.http.address, exporter: running.exporter, log: silentLog })
    await expect(second.start()).rejects.toMatchObject({
      code: 'SC4101',
      message: `ingest.otlpHttp.listen: cannot listen on ${running.http.address}: the address is in use`,
    })
    await second.stop(AbortSignal.timeout(100))
  })
})

describe('when the journal is full in the middle of a request', () => {
  const many = otlp('logs', logs(...Array.from({ length: 1000 }, () => GOOD)))

  it('the request is answered when there is room again, with every record stored once', async () => {
    const running = await start({ rowsMax: 256 })
    const { writing } = running.decoding
    writing.closed = true
    let answered = false
    const answer = post(running, '/v1/logs', many, PROTOBUF).then((value) => {
      answered = true
      return value
    })
    await until('some wait', () => writing.writer.pending > 0)
    running.gate.close()
    expect(answered).toBe(false)
    expect(writing.writer.pending).toBe(1000 - 256)
    // Room, but only for one builder more, and then for all.
    running.gate.open()
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(answered).toBe(false)
    writing.closed = false
    running.gate.open()
    expect((await answer).code).toBe(200)
    expect(writing.take().requests.length).toBe(1000)
  })

  it('a sender that waits too long is told so', async () => {
    const running = await start({ rowsMax: 256, waitMs: 50 })
    running.decoding.writing.closed = true
    expect((await post(running, '/v1/logs', many, PROTOBUF)).code).toBe(503)
    expect(running.exporter.counters.logs.refused).toEqual(new Map([['no_room', 1]]))
  })

  it('no room at the sync: it is tried again when the gate opens', async () => {
    const running = await start()
    running.syncs.full = true
    const answer = post(running, '/v1/logs', otlp('logs', logs(GOOD)), PROTOBUF)
    running.gate.open()
    await until('a sync failed', () => running.syncs.count >= 1)
    await new Promise((resolve) => setTimeout(resolve, 10))
    running.syncs.full = false
    running.gate.open()
    expect((await answer).code).toBe(200)
  })
})

describe('OTLP over gRPC', () => {
  const LOGS = '/opentelemetry.proto.collector.logs.v1.LogsService/Export'

  it('each service answers with an empty response, or a partial success', async () => {
    const running = await start()
    const client = connectGrpc(running.grpc)
    onTestFinished(() => client.close())
    expect((await client.unary(LOGS, logRequest(GOOD))).length).toBe(0)
    expect((await client.unary(LOGS, otlp('logs', logs(GOOD, BAD)))).toString('hex')).toMatch(/^0a..080112/)
    const empty = new Uint8Array(0)
    const { metrics, traces } = {
      metrics: '/opentelemetry.proto.collector.metrics.v1.MetricsService/Export',
      traces: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
    }
    expect((await client.unary(metrics, empty)).length).toBe(0)
    expect((await client.unary(traces, empty)).length).toBe(0)
    expect(running.decoding.writing.take().requests.map((row) => row.node_id)).toEqual(['edge-1', '127.0.0.1'])
  })

  it('damage is INVALID_ARGUMENT, a full journal UNAVAILABLE', async () => {
    const running = await start()
    const client = connectGrpc(running.grpc)
    onTestFinished(() => client.close())
    await expect(client.unary(LOGS, Buffer.from('0aff', 'hex'))).rejects.toMatchObject({
      code: grpcStatus.INVALID_ARGUMENT,
    })
    running.gate.close()
    await expect(client.unary(LOGS, logRequest(GOOD))).rejects.toMatchObject({ code: grpcStatus.UNAVAILABLE })
    running.gate.open()
    expect((await client.unary(LOGS, logRequest(GOOD))).length).toBe(0)
  })

  it('messages may be compressed, within a bound; the header names the node', async () => {
    const running = await start()
    const session = connectRaw(running.grpc)
    onTestFinished(() => session.destroy())
    const send = async (message: Buffer): Promise<unknown> => {
      const raw = openRaw(session, LOGS, { 'grpc-encoding': 'gzip', 'x-sidecast-node': 'edge-9' })
      raw.stream.end(frame(gzipSync(message), 1))
      return (await raw.trailers)['grpc-status']
    }
    expect(await send(otlp('logs', logs(GOOD)))).toBe('0')
    expect(await send(Buffer.alloc(2 << 20))).toBe(String(grpcStatus.RESOURCE_EXHAUSTED))
    expect(running.decoding.writing.take().requests.map((row) => row.node_id)).toEqual(['edge-9'])
  })

  it('requests at one time share a sync', async () => {
    const running = await start()
    const client = connectGrpc(running.grpc)
    onTestFinished(() => client.close())
    running.syncs.held = true
    const first = client.unary(LOGS, logRequest(GOOD))
    await until('the first sync runs', () => running.syncs.count === 1)
    const others = Array.from({ length: 50 }, () => client.unary(LOGS, logRequest(GOOD)))
    await until('all have come', () => running.exporter.counters.logs.requests === 51)
    running.syncs.release()
    await Promise.all([first, ...others])
    expect(running.syncs.count).toBe(2)
  })
})
