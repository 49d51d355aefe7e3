import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import Fastify from 'fastify'
import { expect, onTestFinished, test } from 'vitest'
import { createLogsReceiver, type LogsLimits } from '../../../src/ingest/lines/http.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { handleErrors } from '../../../src/query/errors.ts'
import { logsRoute } from '../../../src/query/routes/logs.ts'
import { silentLog } from '../../../src/telemetry/log.ts'
import { FaultyFiles, unsyncedFiles } from '../../support/journal.ts'
import { type LinesRig, openLinesRig } from '../../support/lines-rig.ts'

interface Server {
  readonly rig: LinesRig
  readonly dir: string
  readonly files: FaultyFiles
  post(
    body: string | Uint8Array,
    headers?: Record<string, string>,
    query?: string,
  ): Promise<{ status: number; answer: Answer }>
  position(key: string): Promise<Answer>
  stop(): Promise<void>
}
type Answer = Record<string, unknown>

async function serve(options: { dir?: string; limits?: Partial<LogsLimits>; rowsMax?: number } = {}): Promise<Server> {
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'sidecast-logs-'))
  const files = Object.assign(new FaultyFiles(), {
    sync: unsyncedFiles.sync,
    syncDirectory: unsyncedFiles.syncDirectory,
  })
  const rig = await openLinesRig(dir, { rowsMax: options.rowsMax ?? 1000, journal: { files } })
  const logs = createLogsReceiver({
    writer: rig.writer,
    origins: rig.origins,
    gate: rig.lane.gate,
    synced: () => rig.lane.synced(),
    addNoteSource: (source) => rig.lane.addNoteSource(source),
    notes: (prefix) => rig.journal.notes(prefix),
    forget: (key) => rig.journal.forget(key),
    clock: systemClock,
    limits: { roomMs: 100, ...options.limits },
  })
  const app = Fastify({ ajv: { customOptions: { removeAdditional: false } } })
  handleErrors(app, silentLog)
  app.register(async (scope) => logsRoute(scope, logs))
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  let stopped = false
  const stop = async (): Promise<void> => {
    if (stopped) return
    stopped = true
    await logs.stop(new AbortController().signal)
    await app.close()
    await rig.stop()
  }
  onTestFinished(async () => {
    await stop()
    rmSync(dir, { recursive: true, force: true })
  })
  return {
    rig,
    dir,
    files,
    async post(body, headers = {}, query = '') {
      const response = await fetch(`${url}/ingest/v1/logs${query}`, {
        method: 'POST',
        body: body as string,
        headers: { 'content-type': 'application/x-ndjson', ...headers },
      })
      return { status: response.status, answer: (await response.json()) as Answer }
    },
    async position(key) {
      const response = await fetch(`${url}/ingest/v1/logs/position`, { headers: { 'idempotency-key': key } })
      return (await response.json()) as Answer
    },
    stop,
  }
}

const line = (path: string) =>
  `{"start_time":"2024-01-31T10:00:00.000Z","method":"GET","path":"${path}","protocol":"HTTP/1.1","response_code":200,"response_flags":"-","duration":5,"bytes_sent":1,"bytes_received":0,"upstream_cluster":"outbound|80||a.b.svc.cluster.local"}`
const lines = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, k) => `${line(`/${from + k}`)}\n`).join('')
const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, k) => from + k)
const stored = async (rig: LinesRig) => (await rig.stored()).map((path) => Number(path.slice(1))).sort((a, b) => a - b)

test('lines, JSON and text are taken, however they are packed, and said back when they are on disk', async () => {
  const server = await serve()
  const body = lines(0, 5)
  const json = { 'content-type': 'application/json' }
  const values = [0, 1, 2, 3, 4].map((n) => line(`/${n}`))
  const text = '[2024-01-31T10:00:00.000Z] "GET /7 HTTP/1.1" 200 - 0 1 5 4 "-" "curl" "id" "host" "10.0.0.1:80"'
  const accepted = { status: 200, answer: { accepted: 5, rejected: 0, errors: [] } }
  expect(await server.post(body)).toEqual(accepted)
  expect(await server.post(body.trimEnd(), { 'content-type': 'text/plain' })).toEqual(accepted)
  expect(await server.post(gzipSync(body), { 'content-encoding': 'gzip' })).toEqual(accepted)
  expect(await server.post(deflateSync(body), { 'content-encoding': 'deflate' })).toEqual(accepted)
  expect(await server.post(zstdCompressSync(body), { 'content-encoding': 'zstd' })).toEqual(accepted)
  expect(await server.post(`[${values.join(',')}]`, json)).toEqual(accepted)
  expect(
    await server.post(
      JSON.stringify(
        values.map((text) => JSON.parse(text)),
        null,
        2,
      ),
      json,
    ),
  ).toEqual(accepted)
  expect(await server.post(JSON.stringify(values), json)).toEqual(accepted)
  expect(await server.post(values.join('\n\n'), json)).toEqual(accepted)
  expect((await server.post(text, {}, '?preset=envoy-text&service=web&node=n')).answer).toMatchObject({ accepted: 1 })
  const format = encodeURIComponent('%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %DURATION%')
  expect((await server.post('GET /8 200 15\nnothing of the kind\n', {}, `?format=${format}`)).answer).toEqual({
    accepted: 1,
    rejected: 1,
    errors: [{ line: 2, reason: 'unmatched' }],
  })
  const all = await stored(server.rig)
  expect(all).toEqual([...numbers(0, 5).flatMap((n) => Array(9).fill(n)), 7, 8])
})

test('what cannot be taken is refused by its name', async () => {
  const server = await serve({ limits: { bodyBytesMax: 10_000, decompressedBytesMax: 100_000, lineBytesMax: 5000 } })
  const code = async (...args: Parameters<Server['post']>) => {
    const { status, answer } = await server.post(...args)
    return `${status} ${answer.code} ${answer.parameter ?? ''}`.trim()
  }
  expect(await code(lines(0, 1), {}, '?preset=istio-jsn')).toBe('400 bad_parameter preset')
  expect(await code(lines(0, 1), {}, '?format=%25NOPE')).toBe('400 bad_parameter format')
  expect(await code(lines(0, 1), {}, '?preset=auto&format=x')).toBe('400 bad_parameter format')
  expect(await code(lines(0, 1), {}, '?prset=auto')).toMatch(/^400/)
  expect(await code(lines(0, 1), { 'content-type': 'image/png' })).toBe('415 unsupported_media_type')
  expect(await code(lines(0, 1), { 'content-encoding': 'br' })).toBe('415 unsupported_media_type')
  expect(await code('not gzip', { 'content-encoding': 'gzip' })).toBe('400 bad_body')
  expect(await code(gzipSync(lines(0, 9)).subarray(0, 100), { 'content-encoding': 'gzip' })).toBe('400 bad_body')
  expect(await code(lines(0, 100))).toBe('413 body_too_large')
  // A bomb: 10 MB in 10 kB.
  expect(await code(gzipSync(Buffer.alloc(9_000_000, '\n')), { 'content-encoding': 'gzip' })).toBe('413 body_too_large')
  expect(await code(`[{"a":"${'x'.repeat(6000)}"}]`, { 'content-type': 'application/json' })).toBe(
    '422 nothing_accepted',
  )
  expect(await code('hello\nworld\n')).toBe('422 nothing_accepted')
  expect(await code('x', { 'content-range': 'bytes 0-1/*' })).toBe('400 bad_parameter')
  expect(await code('x', { 'idempotency-key': 'k'.repeat(300) })).toBe('400 bad_parameter')
  const long = `${line('/1')}\n{"path":"${'x'.repeat(6000)}"}\n${line('/2')}\n`
  expect((await server.post(long)).answer).toEqual({
    accepted: 2,
    rejected: 1,
    errors: [{ line: 2, reason: 'too_large' }],
  })
  // Refusals take back nothing that was accepted before: what a body held up to its fault is stored.
  expect((await stored(server.rig)).filter((n) => n === 1 || n === 2).length).toBeGreaterThanOrEqual(2)
})

test('a request repeated under its key stores nothing twice and is answered alike', async () => {
  let server = await serve()
  const key = { 'idempotency-key': 'batch 1' }
  const body = `${lines(0, 50)}rubbish\n${lines(50, 60)}`
  const answer = { accepted: 60, rejected: 1, errors: [{ line: 51, reason: 'unmatched' }] }
  expect((await server.post(body, key)).answer).toEqual(answer)
  expect((await server.post(body, key)).answer).toEqual(answer)
  expect((await server.post(gzipSync(body), { ...key, 'content-encoding': 'gzip' })).answer).toEqual(answer)
  expect((await server.post(lines(100, 160), key)).answer).toMatchObject({ code: 'key_reused', accepted: 60 })
  expect((await server.post(lines(0, 3), key)).answer).toMatchObject({ code: 'key_reused' })
  const { dir } = server
  await server.rig.lane.synced()
  await server.stop()
  server = await serve({ dir })
  expect((await server.post(body, key)).answer).toEqual(answer)
  expect(await stored(server.rig)).toEqual(numbers(0, 60))
})

test('a body that broke off goes on under its key where it was', async () => {
  const server = await serve({ rowsMax: 40 })
  const body = gzipSync(lines(0, 3000))
  const key = { 'idempotency-key': 'k', 'content-encoding': 'gzip' }
  const { status, answer } = await server.post(body.subarray(0, body.length / 2), key)
  expect(status).toBe(400)
  expect(answer.accepted).toBeGreaterThan(100)
  expect((await server.post(body, key)).answer).toMatchObject({ accepted: 3000, rejected: 0 })
  expect(await stored(server.rig)).toEqual(numbers(0, 3000))
})

test('a content sent in parts is one body, wherever the parts begin and whoever asks again', async () => {
  const server = await serve()
  const whole = lines(0, 40)
  const third = whole.indexOf('\n', whole.length / 3) + 1
  const part = (from: number, text: string) =>
    server.post(text, { 'idempotency-key': 'file', 'content-range': `bytes ${from}-/*` })
  expect(await server.position('file')).toMatchObject({ position: 0 })
  expect((await part(third, whole.slice(third))).answer).toMatchObject({ code: 'wrong_position' })
  const { answer } = await part(0, whole.slice(0, third))
  expect(answer.rejected).toBe(0)
  expect(await server.position('file')).toMatchObject({
    position: third,
    crc: crc32(whole.slice(0, third)),
    accepted: answer.accepted,
  })
  // The begin of a line is not taken before its end has come.
  expect((await part(third, whole.slice(third, third + 20))).answer).toMatchObject({ accepted: answer.accepted })
  expect((await part(0, whole)).answer).toMatchObject({ accepted: 40 })
  expect((await part(third, whole.slice(third))).answer).toMatchObject({ accepted: 40 })
  expect(await stored(server.rig)).toEqual(numbers(0, 40))
})

test('while the journal has no room requests are refused, and nothing is lost or doubled under a key', async () => {
  const server = await serve({ rowsMax: 20 })
  const { files } = server
  expect((await server.post(lines(0, 10))).status).toBe(200)
  files.room = 0
  const key = { 'idempotency-key': 'k' }
  const body = lines(10, 200)
  expect(await server.post(body, key)).toMatchObject({ status: 503, answer: { code: 'journal_full' } })
  const response = await server.post(lines(300, 301))
  expect(response).toMatchObject({ status: 503 })
  files.room = Number.POSITIVE_INFINITY
  await expect.poll(async () => (await server.post(body, key)).status, { timeout: 5000 }).toBe(200)
  expect((await server.post(body, key)).answer).toMatchObject({ accepted: 190 })
  expect(await stored(server.rig)).toEqual(numbers(0, 200))
})

test('requests at the same time do not mix', async () => {
  const server = await serve({ rowsMax: 64 })
  const bodies = Array.from({ length: 8 }, (_, k) => lines(k * 400, k * 400 + 400))
  const answers = await Promise.all(bodies.map((body, k) => server.post(body, { 'idempotency-key': `${k}` })))
  for (const { answer } of answers) expect(answer).toEqual({ accepted: 400, rejected: 0, errors: [] })
  expect(await stored(server.rig)).toEqual(numbers(0, 3200))
})
