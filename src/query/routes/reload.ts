import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import type { ReloadPort } from '../ports.ts'
import { Problem } from '../problem.ts'
import { noQuery, problemAnswer } from '../schemas.ts'

const reloadAnswer = Type.Object({
  changes: Type.Array(Type.String(), { description: 'What is another one now; empty: nothing' }),
  listeners_closed: Type.Literal(0, { description: 'A reload never closes one' }),
})

/** `POST /-/reload`: the configuration of the command line, read again. The same as SIGHUP, with an answer. */
export function reloadRoute(app: FastifyInstance, reload: ReloadPort): void {
  app.post(
    '/-/reload',
    {
      schema: {
        operationId: 'reload',
        summary: 'Reads the configuration again and takes what has changed, whole or not at all',
        tags: ['process'],
        querystring: noQuery,
        response: {
          200: { description: 'Taken', content: { 'application/json': { schema: reloadAnswer } } },
          422: { description: 'Refused', content: { 'application/problem+json': { schema: problemAnswer } } },
        },
      },
    },
    async () => {
      const { taken, changes, reasons } = await reload.run('http')
      if (taken) return { changes: changes.map(({ text }) => text), listeners_closed: 0 as const }
      throw new Problem('reload_refused', reasons.join('; '), {
        help: 'the configuration of before still counts; mend it and reload again',
        figures: { reasons: reasons.map((reason) => ({ reason })) },
      })
    },
  )
}
