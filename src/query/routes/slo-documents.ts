import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import { envelopeOf, type QueryContext } from '../context.ts'
import type { SloSource } from '../ports.ts'
import { Problem } from '../problem.ts'
import { envelope, noQuery, problemAnswer } from '../schemas.ts'
import { findingOf } from '../slo/book.ts'

const TYPES = ['application/yaml', 'application/json', 'application/x-yaml', 'text/yaml', 'text/x-yaml']

const params = Type.Object({
  name: Type.String({
    pattern: '^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$',
    description: 'Name of an objective',
  }),
})
const putAnswer = Type.Object(
  {
    ...envelope.properties,
    name: Type.String({ description: 'metadata.name of the document' }),
    created: Type.Boolean({ description: 'false: it has taken the place of one of the same name' }),
    objectives: Type.Array(Type.String(), { description: 'Names of what it says: one for each target' }),
    warnings: Type.Array(
      Type.Object({
        file: Type.Optional(Type.String()),
        line: Type.Integer(),
        column: Type.Integer(),
        field: Type.String(),
        message: Type.String(),
        help: Type.String(),
      }),
      { description: 'What is allowed, and may not be what is meant' },
    ),
  },
  { additionalProperties: false },
)

/** `PUT` and `DELETE /api/v1/slos/NAME`: objectives over HTTP, on disk before the answer. */
export function sloDocumentsRoutes(
  app: FastifyInstance,
  context: QueryContext,
  documents: NonNullable<SloSource['documents']>,
): void {
  // Read as text whatever its type: so what is wrong in it has a line.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(TYPES, { parseAs: 'string' }, (_request, body, done) => done(null, body))
  const problem = { description: 'A problem', content: { 'application/problem+json': { schema: problemAnswer } } }
  app.put<{ Params: Static<typeof params>; Body: unknown }>(
    '/api/v1/slos/:name',
    {
      schema: {
        operationId: 'putSlo',
        summary: 'Keeps an objective: an OpenSLO document, as YAML or JSON',
        tags: ['api'],
        consumes: TYPES.slice(0, 2),
        querystring: noQuery,
        params,
        body: Type.String({ description: 'One document of kind SLO, whose metadata.name is the name of the address' }),
        response: {
          200: { description: 'Replaced', content: { 'application/json': { schema: putAnswer } } },
          201: { description: 'New', content: { 'application/json': { schema: putAnswer } } },
          400: problem,
          409: problem,
          413: problem,
          415: problem,
          422: problem,
          503: problem,
        },
      },
      // A missing body is told as what is missing in it.
      attachValidation: false,
    },
    async (request, reply): Promise<Static<typeof putAnswer>> => {
      const { name } = request.params
      if (typeof request.body !== 'string') {
        throw new Problem('bad_body', 'there is no body', { help: `send a document as ${TYPES[0]}` })
      }
      const { created, slos, warnings } = await documents.put(name, request.body)
      context.log.info({ name, created }, 'an objective came over HTTP')
      reply.code(created ? 201 : 200)
      return {
        ...envelopeOf(context, null),
        name,
        created,
        objectives: slos.map((slo) => slo.name),
        warnings: warnings.map((warning) => findingOf(warning, warning.file)),
      }
    },
  )
  app.delete<{ Params: Static<typeof params> }>(
    '/api/v1/slos/:name',
    {
      schema: {
        operationId: 'deleteSlo',
        summary: 'Forgets an objective that was put here',
        tags: ['api'],
        querystring: noQuery,
        params,
        response: {
          204: { type: 'null', description: 'Forgotten' },
          400: problem,
          404: problem,
          409: problem,
          503: problem,
        },
      },
    },
    async (request, reply) => {
      const { name } = request.params
      await documents.remove(name)
      context.log.info({ name }, 'an objective was deleted over HTTP')
      return reply.code(204).send()
    },
  )
}
