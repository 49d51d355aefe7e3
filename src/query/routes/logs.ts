import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import type { LogsPort, LogsTaken } from '../ports.ts'
import { Problem } from '../problem.ts'
import { problemAnswer } from '../schemas.ts'

const text = (description: string) => Type.Optional(Type.String({ minLength: 1, maxLength: 8192, description }))

const logsQuery = Type.Object(
  {
    preset: text('Name of the product that wrote the lines; found out line by line if it is not given'),
    format: text('Envoy format string of the lines, or its JSON format'),
    service: text('Service of the proxies'),
    node: text('Node id of the proxy'),
  },
  { additionalProperties: false },
)

const logsAnswer = Type.Object({
  accepted: Type.Integer({ description: 'Lines that are rows, on disk' }),
  rejected: Type.Integer({ description: 'Lines that made no row' }),
  errors: Type.Array(Type.Object({ line: Type.Integer(), reason: Type.String() }), {
    description: 'The first of them',
  }),
})

const positionAnswer = Type.Object({
  position: Type.Integer({ description: 'Bytes of the content that need not be sent' }),
  checked: Type.Integer({ description: 'Bytes that `crc` is of' }),
  crc: Type.Integer({ description: 'CRC-32 of the content stored so far' }),
  marks: Type.Array(Type.Integer(), { description: 'CRC-32 of its first 64, 256, 1024 … bytes' }),
  accepted: Type.Integer(),
  rejected: Type.Integer(),
})

const PATH = '/ingest/v1/logs'

/** `POST /ingest/v1/logs`: bodies are read while they come, and never stand in memory as a whole. */
export function logsRoute(app: FastifyInstance, logs: LogsPort): void {
  // Every type and compression is the receiver's to judge.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  const problem = { description: 'A problem', content: { 'application/problem+json': { schema: problemAnswer } } }
  const problems = { 400: problem, 409: problem, 413: problem, 415: problem, 422: problem, 503: problem }
  app.post<{ Querystring: Static<typeof logsQuery> }>(
    PATH,
    {
      schema: {
        operationId: 'ingestLogs',
        summary: 'Takes log lines: NDJSON, JSON, or text; answered when they are on disk',
        tags: ['ingest'],
        consumes: ['application/x-ndjson', 'application/json', 'text/plain'],
        querystring: logsQuery,
        response: {
          200: { description: 'The answer', content: { 'application/json': { schema: logsAnswer } } },
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const { headers, query } = request
      const leaving = new AbortController()
      request.raw.once('close', () => {
        if (!request.raw.complete) leaving.abort()
      })
      const taken = await logs.take({
        ...query,
        // A body that is announced and empty has no parser's stream.
        body: request.raw,
        contentType: headers['content-type'] ?? '',
        contentEncoding: headers['content-encoding'] ?? '',
        key: single(headers['idempotency-key']),
        from: rangeStart(headers['content-range']),
        peer: request.ip,
        signal: leaving.signal,
      })
      if (taken.refused !== undefined) {
        // What is left of the body is not waited for.
        if (!request.raw.complete) reply.header('connection', 'close')
        throw problemOf(taken, taken.refused)
      }
      return taken
    },
  )
  app.get(
    `${PATH}/position`,
    {
      schema: {
        operationId: 'ingestLogsPosition',
        summary: 'How far the content of an Idempotency-Key is stored, for those who send it in parts',
        tags: ['ingest'],
        response: {
          200: { description: 'The answer', content: { 'application/json': { schema: positionAnswer } } },
          400: problem,
        },
      },
    },
    async (request) => {
      const key = single(request.headers['idempotency-key'])
      if (key === undefined) throw new Problem('bad_parameter', 'the header Idempotency-Key is missing')
      return logs.position(key)
    },
  )
}

function problemOf(taken: LogsTaken, refused: NonNullable<LogsTaken['refused']>): Problem {
  const { accepted, rejected, errors, parameter, help, retryAfterSeconds } = taken
  return new Problem(refused, taken.detail ?? refused, {
    ...(parameter === undefined ? {} : { parameter }),
    ...(help === undefined ? {} : { help }),
    ...(retryAfterSeconds === undefined ? {} : { retryAfter: retryAfterSeconds }),
    figures: { accepted, rejected, errors },
  })
}

const single = (header: string | string[] | undefined): string | undefined =>
  Array.isArray(header) ? header.join(', ') : header

/** `bytes 4096-8191/*`. Where the part ends, the body says. */
function rangeStart(header: string | undefined): number | undefined {
  if (header === undefined) return undefined
  const match = /^bytes (\d{1,15})-\d*\/(?:\d+|\*)$/.exec(header.trim())
  if (match === null) {
    throw new Problem('bad_parameter', 'Content-Range is not of the form bytes FROM-TO/*', {
      parameter: 'Content-Range',
    })
  }
  return Number(match[1])
}
