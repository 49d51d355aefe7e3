import type {} from '@fastify/swagger'
import type { RouteShorthandOptions } from 'fastify'
import type { TSchema } from 'typebox'
import { problemAnswer } from '../schemas.ts'

/** The schema of a JSON resource, as it is validated and as `/openapi.json` shows it. `statuses`: further ones of problems. */
export function documented(
  operationId: string,
  summary: string,
  querystring: TSchema,
  answer: TSchema,
  ...statuses: readonly number[]
): RouteShorthandOptions {
  const problem = { description: 'A problem', content: { 'application/problem+json': { schema: problemAnswer } } }
  return {
    schema: {
      operationId,
      summary,
      tags: ['api'],
      querystring,
      response: {
        200: { description: 'The answer', content: { 'application/json': { schema: answer } } },
        400: problem,
        422: problem,
        429: problem,
        503: problem,
        ...Object.fromEntries(statuses.map((status) => [status, problem])),
      },
    },
  }
}
