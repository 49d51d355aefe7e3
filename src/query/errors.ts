import type { Socket } from 'node:net'
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { nearest } from '../lib/nearest.ts'
import type { Log } from '../telemetry/log.ts'
import { Problem, type ProblemCode, shown } from './problem.ts'

export const PROBLEM_TYPE = 'application/problem+json; charset=utf-8'

/** The one place where what went wrong becomes an answer. */
export function handleErrors(app: FastifyInstance, log: Log): void {
  app.setErrorHandler<FastifyError>((error, request, reply) => sendProblem(reply, problemOf(error, request, log)))
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?')[0]!
    // Every path answers GET, if only to say that there is nothing: the method is at fault where a resource is.
    if (app.hasRoute({ url: path, method: 'GET' })) {
      const further = (['PUT', 'POST', 'DELETE'] as const).filter((method) => app.hasRoute({ url: path, method }))
      reply.header('allow', ['GET', 'HEAD', ...further].join(', '))
      return sendProblem(reply, new Problem('method_not_allowed', `${path} has no ${request.method}`))
    }
    return sendProblem(reply, new Problem('not_found', `there is nothing at ${path.slice(0, 200)}`))
  })
}

export function sendProblem(reply: FastifyReply, problem: Problem): FastifyReply {
  if (problem.retryAfter !== undefined) reply.header('retry-after', String(problem.retryAfter))
  return reply.code(problem.status).type(PROBLEM_TYPE).send(JSON.stringify(problem.body()))
}

const FASTIFY_CODES: Readonly<Record<string, ProblemCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'body_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_BAD_URL: 'bad_parameter',
}

function problemOf(error: FastifyError, request: FastifyRequest, log: Log): Problem {
  if (error instanceof Problem) return error
  if (error.validation !== undefined) return validationProblem(error.validation, request)
  const code = FASTIFY_CODES[error.code]
  if (code !== undefined) return new Problem(code, error.message, { cause: error })
  if (error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500) {
    return new Problem('bad_parameter', error.message, { cause: error })
  }
  log.error({ error, path: request.url.split('?')[0] }, 'A request failed in a way that is not foreseen')
  return new Problem('internal', 'the request could not be answered; the log says more', { cause: error })
}

type Validation = NonNullable<FastifyError['validation']>

function validationProblem(validation: Validation, request: FastifyRequest): Problem {
  const [first] = validation
  const unknown = first?.params.additionalProperty
  if (typeof unknown === 'string') {
    const querystring = request.routeOptions.schema?.querystring as { properties?: object } | undefined
    const names = Object.keys(querystring?.properties ?? {})
    const guess = nearest(unknown.slice(0, 64), names)
    return new Problem('unknown_parameter', `there is no parameter ${shown(unknown)}`, {
      parameter: unknown.slice(0, 100),
      help:
        guess !== undefined
          ? `did you mean ${guess}?`
          : names.length === 0
            ? 'it has no parameters'
            : `parameters are ${names.join(', ')}`,
    })
  }
  const parameter = first?.instancePath.split('/')[1]
  const allowed: unknown = first?.params.allowedValues
  const value = parameter === undefined ? undefined : (request.query as Readonly<Record<string, unknown>>)[parameter]
  const found = Array.isArray(value) && first?.params.type === 'string' ? 'is given more than once' : first?.message
  return new Problem('bad_parameter', `${parameter ?? 'the request'} ${found ?? 'is not valid'}`, {
    ...(parameter === undefined ? {} : { parameter }),
    ...(Array.isArray(allowed) ? { help: `use one of ${allowed.join(', ')}` } : {}),
  })
}

/** For what is not HTTP, or has more headers than allowed: there is no request yet, so the answer is written by hand. */
export function refuseConnection(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const tooLarge = error.code === 'HPE_HEADER_OVERFLOW'
  const problem = new Problem('bad_parameter', tooLarge ? 'the headers are too large' : 'this is not HTTP')
  const status = tooLarge ? 431 : 400
  const body = JSON.stringify({ ...problem.body(), status })
  socket.end(
    `HTTP/1.1 ${status} ${tooLarge ? 'Request Header Fields Too Large' : 'Bad Request'}\r\ncontent-type: ${PROBLEM_TYPE}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  )
}
