import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { TextHandler, TextPage, WebHandler } from '../ports.ts'
import { Problem } from '../problem.ts'

export interface Pages {
  readonly metrics: TextHandler
  readonly mesh: TextHandler
  readonly web: WebHandler
}

/** What others make and this server sends on: metrics as text, and the page with its files. */
export function pageRoutes(app: FastifyInstance, pages: Pages): void {
  const metrics = (operationId: string, summary: string) => ({
    schema: {
      operationId,
      summary,
      tags: ['process'],
      response: {
        200: { description: 'Prometheus exposition', content: { 'text/plain': { schema: { type: 'string' } } } },
      },
    },
  })
  app.get('/metrics', metrics('metrics', 'Metrics of Sidecast itself'), async (request, reply) =>
    send(reply, await pages.metrics(request.headers.accept ?? '')),
  )
  app.get('/metrics/mesh', metrics('metricsMesh', 'Metrics of the mesh'), async (request, reply) =>
    send(reply, await pages.mesh(request.headers.accept ?? '')),
  )
  app.get('/openapi.json', { schema: { hide: true } }, (_request, reply) =>
    reply.type('application/json; charset=utf-8').send(JSON.stringify(app.swagger())),
  )
  app.get('/*', { schema: { hide: true } }, async (request, reply) => {
    const [path] = request.url.split('?') as [string]
    const page = await pages.web(path)
    if (page === null) throw new Problem('not_found', `there is nothing at ${path.slice(0, 200)}`)
    reply.headers(page.headers).header('etag', page.etag).header('vary', 'accept-encoding')
    if (request.headers['if-none-match'] === page.etag) return reply.code(304).send()
    if (!/\bgzip\b/.test(request.headers['accept-encoding'] ?? '')) return send(reply, page)
    return send(reply.header('content-encoding', 'gzip'), { type: page.type, body: page.gzip })
  })
}

function send(reply: FastifyReply, { type, body }: TextPage) {
  reply.type(type)
  if (typeof body === 'string') return reply.send(body)
  if (body instanceof Uint8Array) return reply.send(Buffer.from(body.buffer, body.byteOffset, body.byteLength))
  return reply.send(Readable.from(body, { objectMode: false }))
}
