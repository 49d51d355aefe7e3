import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import { COLUMN_NAMES, requireColumn } from '../columns.ts'
import { answerWith, envelopeOf, type QueryContext } from '../context.ts'
import { Problem } from '../problem.ts'
import type { Question } from '../question.ts'
import { type CellValue, ROW_TYPES, rowText } from '../rows-format.ts'
import { envelope, noQuery } from '../schemas.ts'
import { Bindings } from '../sql.ts'
import { documented } from './documented.ts'

/** What belongs to one trace: its spans, as the tracer of a proxy or a program sent them, and the requests with its id. */
const params = Type.Object({
  id: Type.String({ pattern: '^[0-9a-fA-F]{16,32}$', description: 'Trace id, 32 or 16 hexadecimal digits' }),
})
const text = (description: string) => Type.String({ description })
const span = Type.Object({
  time: text('When it started'),
  end_time: text('When it ended'),
  duration_ns: Type.Number({ description: 'How long it took' }),
  span_id: text('16 hexadecimal digits'),
  parent_span_id: text('Of the span that it is a part of; empty for a root'),
  name: text('What was done'),
  kind: text('internal, server, client, producer, consumer, or empty'),
  service: text('Who did it'),
  node_id: text('Node id of the proxy, or what stands for it'),
  scope: text('Instrumentation scope'),
  status: text('ok, error, or empty'),
  status_message: text('What the sender says of the status'),
  attributes: Type.Record(Type.String(), Type.String(), { description: 'Other than texts as JSON' }),
  resource: Type.Record(Type.String(), Type.String()),
  events: Type.Array(Type.Unknown(), { description: 'Events and links' }),
})
export const traceAnswer = Type.Object({
  ...envelope.properties,
  trace_id: text('32 hexadecimal digits'),
  spans: Type.Array(span, { description: 'By start' }),
  requests: Type.Array(Type.Record(Type.String(), Type.Unknown()), {
    description: 'Rows of `requests` with this trace id, as /api/v1/requests gives them, by start',
  }),
})
type Span = Static<typeof span>
interface StoredSpan extends Omit<Span, 'events'> {
  readonly events: string
}

/** A trace of more spans, or requests, than this is cut off at its end. */
const SPANS_MAX = 10_000
const REQUESTS_MAX = 1000

export function tracesRoute(app: FastifyInstance, context: QueryContext): void {
  const options = documented('trace', 'The spans and requests of one trace', noQuery, traceAnswer)
  app.get<{ Params: Static<typeof params> }>(
    '/api/v1/traces/:id',
    { ...options, schema: { ...options.schema, params } },
    (request, reply) =>
      answerWith(context, request, reply, async (question) => {
        const id = request.params.id.toLowerCase().padStart(32, '0')
        const [spans, requests] = await Promise.all([readSpans(question, id), readRequests(question, id)])
        if (spans.length === 0 && requests.length === 0) {
          throw new Problem('not_found', `nothing is stored of trace ${id}`, { parameter: 'id' })
        }
        const head = {
          ...envelopeOf(context, { interval: { from: 0n, to: 0n }, stored: requests.length, precisionNs: null }),
          trace_id: id,
          spans,
        }
        reply.type('application/json; charset=utf-8')
        return `${JSON.stringify(head).slice(0, -1)},"requests":[${requests.join(',')}]}`
      }),
  )
}

async function readSpans(question: Question, id: string): Promise<Span[]> {
  const bindings = new Bindings()
  const statement = bindings.statement(
    `SELECT time, end_time, duration_ns, span_id, parent_span_id, name, kind, service,
       node_id, scope, status, status_message, attributes, resource, events
     FROM spans WHERE trace_uuid = toUUID(${bindings.bind(uuidOf(id), 'String')})
     ORDER BY time, span_number LIMIT ${SPANS_MAX}`,
  )
  const spans: Span[] = []
  for await (const batch of question.stream<StoredSpan>(statement)) {
    for (const { time, end_time, events, ...rest } of batch) {
      spans.push({
        time: instant(time),
        end_time: instant(end_time),
        ...rest,
        events: events === '' ? [] : (JSON.parse(events) as unknown[]),
      })
    }
  }
  return spans
}

async function readRequests(question: Question, id: string): Promise<string[]> {
  const columns = COLUMN_NAMES.map((name) => requireColumn(name, 'columns'))
  const bindings = new Bindings()
  const statement = bindings.statement(
    `SELECT ${COLUMN_NAMES.join(', ')}
     FROM requests WHERE NOT secondary AND trace_uuid = toUUID(${bindings.bind(uuidOf(id), 'String')})
     ORDER BY time, span_number LIMIT ${REQUESTS_MAX}`,
  )
  const rows: string[] = []
  for await (const batch of question.stream<Readonly<Record<string, CellValue>>>(statement)) {
    for (const row of batch) rows.push(rowText(ROW_TYPES[0], columns, row))
  }
  return rows
}

function uuidOf(id: string): string {
  return id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/** The store's form of a time as RFC 3339. */
const instant = (text: string): string => `${text.replace(' ', 'T')}Z`
