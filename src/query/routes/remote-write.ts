import type { FastifyInstance } from 'fastify'
import type { RemoteWritePort } from '../ports.ts'

/** `POST /prometheus/api/v1/write`: bodies are the receiver's to read and to judge; answers are texts, as Prometheus's own. */
export function remoteWriteRoute(app: FastifyInstance, remoteWrite: RemoteWritePort): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  app.post('/prometheus/api/v1/write', { schema: { hide: true } }, async (request, reply) => {
    const { headers } = request
    const {
      status,
      headers: more,
      message,
    } = await remoteWrite.take({
      body: request.raw,
      contentType: headers['content-type'] ?? '',
      contentEncoding: headers['content-encoding'] ?? '',
      contentLength: Number(headers['content-length'] ?? Number.NaN),
    })
    // What is left of the body is not waited for.
    if (!request.raw.complete) reply.header('connection', 'close')
    reply.code(status).headers(more)
    return status === 204 ? reply.send() : reply.type('text/plain; charset=utf-8').send(`${message}\n`)
  })
}
