import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, it, onTestFinished } from 'vitest'
import { createPostJson } from '../../src/alerts/post.ts'
import { clientTls } from '../../src/lib/tls.ts'

async function serve(status: number, headers: Record<string, string>, text: string) {
  const requests: { readonly headers: IncomingMessage['headers']; readonly body: string }[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (part: string) => {
      body += part
    })
    request.on('end', () => {
      requests.push({ headers: request.headers, body })
      response.writeHead(status, headers).end(text)
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const post = createPostJson({
    url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/api/v2/alerts`),
    headers: { authorization: 'Bearer t' },
    tls: clientTls({}, 'alertmanager.tls'),
    timeoutMs: 300,
  })
  onTestFinished(() => {
    post.close()
    server.closeAllConnections()
    server.close()
  })
  return { post, requests, server }
}
const signal = new AbortController().signal

it('sends JSON with what a client has to show, and says what was answered', async () => {
  const { post, requests } = await serve(503, { 'retry-after': '7' }, `no\n${'x'.repeat(10_000)}`)
  const answer = await post('[{"ä":1}]', signal)
  expect(answer).toMatchObject({
    answered: true,
    status: 503,
    afterMs: 7000,
    text: expect.stringMatching(/^no x{497}$/),
  })
  expect(requests).toMatchObject([
    {
      body: '[{"ä":1}]',
      headers: { authorization: 'Bearer t', 'content-type': 'application/json', 'content-length': '10' },
    },
  ])
})

it('does not follow where it is sent to', async () => {
  const { post, requests } = await serve(302, { location: 'http://127.0.0.1:9/' }, '')
  expect(await post('[]', signal)).toMatchObject({ answered: true, status: 302 })
  expect(requests.length).toBe(1)
})

it('says that nobody is there, or nobody answers', async () => {
  const { post, server } = await serve(200, {}, '')
  server.removeAllListeners('request')
  server.on('request', () => {})
  expect(await post('[]', signal)).toMatchObject({ answered: false })
  server.closeAllConnections()
  await new Promise((done) => server.close(done))
  expect(await post('[]', signal)).toMatchObject({ answered: false, error: { code: 'ECONNREFUSED' } })
})
