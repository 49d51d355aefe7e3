import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { answerWith, type QueryContext } from '../context.ts'
import { Problem } from '../problem.ts'
import { PromError } from '../promql/ast.ts'
import { type Evaluation, evaluate, keyOf, type Value } from '../promql/evaluate.ts'
import { parse } from '../promql/parse.ts'
import { readSeries } from '../promql/read.ts'

/**
 * `/prometheus/api/v1/query`: PromQL over the stats that were received, at one time, with the envelope and the errors of
 * Prometheus' own API. `/prometheus` as the address of a Prometheus is what Grafana and others are given.
 */
export function prometheusRoutes(app: FastifyInstance, context: QueryContext): void {
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string' },
    (_request: FastifyRequest, body: string | Buffer, done: (error: Error | null, value?: unknown) => void) =>
      done(null, Object.fromEntries(new URLSearchParams(String(body)))),
  )
  for (const method of ['GET', 'POST'] as const) {
    app.route({
      method,
      url: '/prometheus/api/v1/query',
      schema: { hide: true },
      // Clients of Prometheus send parameters that we do not know: those are passed over.
      validatorCompiler: () => () => true,
      handler: (request, reply) => query(context, request, reply),
    })
  }
}

async function query(context: QueryContext, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
  const parameters = { ...record(request.query), ...record(request.body) }
  try {
    const atMs = timeOf(parameters.time, context.now())
    const expr = parse(parameters.query ?? '')
    // What the query itself is wrong about is an answer here, and no failure of ours.
    const answer = await answerWith(context, request, reply, async (question) => {
      const read: Evaluation['read'] = (selector, selectorMs) => readSeries(question, selector, selectorMs)
      try {
        return { status: 'success', data: dataOf(await evaluate(expr, { atMs, read }), atMs) }
      } catch (error) {
        if (error instanceof PromError) return error
        throw error
      }
    })
    if (answer instanceof PromError) throw answer
    return answer
  } catch (error) {
    const { status, errorType, message } = failure(error)
    return reply
      .code(status)
      .type('application/json; charset=utf-8')
      .send({ status: 'error', errorType, error: message })
  }
}

function record(value: unknown): Record<string, string> {
  if (typeof value !== 'object' || value === null) return {}
  const entries = Object.entries(value).map(([name, one]) => [name, String(Array.isArray(one) ? one[0] : one)])
  return Object.fromEntries(entries)
}

/** Years 1970 to 2106, as Unix seconds with fractions or RFC 3339. */
const SECONDS_MAX = 2 ** 32

function timeOf(text: string | undefined, nowMs: number): number {
  if (text === undefined || text === '') return nowMs
  const ms = /^[-+]?[\d.]+(?:[eE][-+]?\d+)?$/.test(text) ? Math.round(Number(text) * 1000) : Date.parse(text)
  if (Number.isNaN(ms)) {
    throw new PromError(
      'bad_data',
      `invalid parameter "time": cannot parse ${JSON.stringify(text)} to a valid timestamp`,
    )
  }
  return Math.min(Math.max(ms, 0), SECONDS_MAX * 1000)
}

function dataOf(value: Value, atMs: number): unknown {
  const at = atMs / 1000
  switch (value.type) {
    case 'scalar':
      return { resultType: 'scalar', result: [at, formatValue(value.value)] }
    case 'string':
      return { resultType: 'string', result: [at, value.value] }
    case 'vector': {
      const seen = new Set<string>()
      for (const { labels } of value.samples) {
        const key = keyOf(labels)
        if (seen.has(key)) throw new PromError('execution', 'vector cannot contain metrics with the same labelset')
        seen.add(key)
      }
      return {
        resultType: 'vector',
        result: value.samples.map((one) => ({
          metric: Object.fromEntries(one.labels),
          value: [at, formatValue(one.value)],
        })),
      }
    }
    case 'matrix':
      return {
        resultType: 'matrix',
        result: value.series.map(({ labels, samples }) => ({
          metric: Object.fromEntries(labels),
          values: samples.map((sample) => [sample.ms / 1000, formatValue(sample.value)]),
        })),
      }
  }
}

/** As Go prints the shortest decimal that reads back the same. */
export function formatValue(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf'
  if (value === Number.NEGATIVE_INFINITY) return '-Inf'
  return String(value).replace(/e([+-])(\d)$/, 'e$10$2')
}

/** Only 400, 422 and 503 are read by clients of Prometheus. */
function failure(error: unknown): { status: number; errorType: string; message: string } {
  if (error instanceof PromError) {
    return { status: error.errorType === 'bad_data' ? 400 : 422, errorType: error.errorType, message: error.message }
  }
  if (!(error instanceof Problem)) throw error
  const { message } = error
  switch (error.code) {
    case 'query_timeout':
      return { status: 503, errorType: 'timeout', message }
    case 'bad_filter':
      return { status: 400, errorType: 'bad_data', message }
    case 'query_memory':
    case 'query_rows':
    case 'too_many_series':
    case 'too_many_points':
      return { status: 422, errorType: 'execution', message }
    case 'store_unavailable':
    case 'stopping':
    case 'too_many_queries':
      return { status: 503, errorType: 'unavailable', message }
    default:
      return { status: 500, errorType: 'internal', message }
  }
}
