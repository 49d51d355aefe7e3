import type { FastifyInstance, FastifyReply } from 'fastify'
import type { QueryContext } from '../context.ts'
import { healthAnswer, noQuery } from '../schemas.ts'

const schema = (operationId: string, summary: string) => {
  const content = { 'application/json': { schema: healthAnswer } }
  return {
    schema: {
      operationId,
      summary,
      tags: ['process'],
      querystring: noQuery,
      response: { 200: { description: 'All is well', content }, 503: { description: 'It is not', content } },
    },
  }
}

/** For orchestrators: `/healthz` asks for a restart when it fails, `/readyz` for no work. */
export function healthRoutes(app: FastifyInstance, context: QueryContext): void {
  app.get('/healthz', schema('healthz', 'Whether the process is alive'), (_request, reply) =>
    answer(reply, context.status.unhealthy()),
  )
  app.get('/readyz', schema('readyz', 'Whether it takes and answers requests'), async (_request, reply) => {
    if (context.stopping.aborted) return answer(reply, ['stopping'])
    return answer(reply, await context.status.unready(context.stopping))
  })
}

function answer(reply: FastifyReply, reasons: readonly string[]) {
  const ok = reasons.length === 0
  return reply.code(ok ? 200 : 503).send({ status: ok ? 'ok' : 'failing', reasons })
}
