import { pipeline, Readable } from 'node:stream'
import { createGzip } from 'node:zlib'
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
    sendPacked(reply, request.headers['accept-encoding'], await pages.metrics(request.headers.accept ?? '')),
  )
  app.get('/metrics/mesh', metrics('metricsMesh', 'Metrics of the mesh'), async (request, reply) =>
    sendPacked(reply, request.headers['accept-encoding'], await pages.mesh(request.headers.accept ?? '')),
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

/** Label texts repeat on every line: at the lowest level a page is a fiftieth already. */
const LEVEL = 1

/** A page that is made while it is sent, packed for who accepts that: Prometheus always does. */
function sendPacked(reply: FastifyReply, accepted: string | string[] | undefined, { type, body }: TextPage) {
  reply.header('vary', 'accept, accept-encoding')
  if (!acceptsGzip(String(accepted ?? ''))) return send(reply, { type, body })
  const gzip = createGzip({ level: LEVEL })
  // When the page fails, or the reader leaves, each ends the other.
  pipeline(Readable.from(typeof body === 'string' || body instanceof Uint8Array ? [body] : body), gzip, () => {})
  return reply.type(type).header('content-encoding', 'gzip').send(gzip)
}

export function acceptsGzip(header: string): boolean {
  for (const range of header.split(',')) {
    const [name, ...parameters] = range.split(';').map((part) => part.trim().toLowerCase())
    if (name === 'gzip') return !parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter))
  }
  return false
}

function send(reply: FastifyReply, { type, body }: TextPage) {
  reply.type(type)
  if (typeof body === 'string') return reply.send(body)
  if (body instanceof Uint8Array) return reply.send(Buffer.from(body.buffer, body.byteOffset, body.byteLength))
  return reply.send(Readable.from(body, { objectMode: false }))
}
