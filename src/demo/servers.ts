import {
  Agent,
  createServer,
  request as httpRequest,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type { Random } from '../lib/random.ts'
import type { UpstreamPorts } from './envoy-config.ts'
import { type Answer, answerOf, mailIsUp, type Service } from './shop.ts'

export interface ShopServers {
  readonly ports: UpstreamPorts
  stop(): void
}

/** The shop's services as HTTP servers. `payPort` is where checkout's sidecar will listen. */
export async function startShop({ payPort, random }: { payPort: number; random: Random }): Promise<ShopServers> {
  const started = performance.now()
  const servers: Server[] = []
  const agent = new Agent({ keepAlive: true, maxSockets: 64 })
  const serve = async (handle: RequestListener): Promise<number> => {
    const server = createServer({ keepAliveTimeout: 60_000 }, handle)
    servers.push(server)
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(0, '127.0.0.1', resolve)
    })
    return (server.address() as AddressInfo).port
  }
  const service =
    (name: Service, version: 'v1' | 'v2' = 'v1'): RequestListener =>
    (request, response) => {
      request.on('error', () => {})
      request.resume()
      request.on('end', () => reply(response, answerOf(name, version, random)))
    }
  const mail = service('mail')
  const ports = {
    checkout: await serve(async (request, response) => {
      request.on('error', () => {})
      request.resume()
      const answer = answerOf('checkout', 'v1', random)
      const status = await call(agent, payPort, '/pay/charge').catch(() => 502)
      reply(response, { ...answer, status: status < 500 ? answer.status : 502 })
    }),
    cart: await serve(service('cart')),
    search: await serve(service('search')),
    mail: await serve((request, response) => {
      const up = mailIsUp(performance.now() - started)
      if (request.url !== '/health') return mail(request, response)
      response.writeHead(up ? 200 : 503)
      response.end()
    }),
    payV1: await serve(service('pay', 'v1')),
    payV2: await serve(service('pay', 'v2')),
  }
  return {
    ports,
    stop() {
      agent.destroy()
      for (const server of servers) {
        server.close()
        server.closeAllConnections()
      }
    },
  }
}

function reply(response: ServerResponse, answer: Answer): void {
  setTimeout(() => {
    if (response.destroyed) return
    if (answer.closes) {
      response.socket?.end()
      return
    }
    response.writeHead(answer.status, { 'content-length': String(answer.bytes), 'content-type': 'text/plain' })
    if (answer.bodyMs === 0) {
      response.end(Buffer.alloc(answer.bytes, 'x'))
      return
    }
    response.write(Buffer.alloc(1, 'x'))
    setTimeout(() => response.end(Buffer.alloc(answer.bytes - 1, 'x')), answer.bodyMs)
  }, answer.waitMs)
}

/** A POST that resolves with the status. */
function call(agent: Agent, port: number, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { agent, host: '127.0.0.1', port, path, method: 'POST', timeout: 10_000 },
      (response) => {
        text(response).then(() => resolve(response.statusCode ?? 502), reject)
      },
    )
    request.on('error', reject)
    request.on('timeout', () => request.destroy(new Error('timed out')))
    request.end('{"amount":1}')
  })
}
