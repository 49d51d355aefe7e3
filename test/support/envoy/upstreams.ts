import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import {
  createServer as createHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  constants as http2,
  type ServerHttp2Session,
} from 'node:http2'
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net'

/**
 * Upstream servers with known behaviour; the first word of the path says which.
 *
 *   both          /ok  /delay/<ms>  /status/<code>  /delay-status/<ms>/<code>  /body/<bytes>  /drip/<chunks>/<ms>/<bytes>
 *                 /echo  /flaky/<failures>  /cacheable  /big-headers/<bytes>
 *   HTTP/1.1      /close-before  /reset-before  /close-mid  /reset-mid
 *   HTTP/2        /reset  /refuse  /reset-mid  /close-conn  /close-conn-mid
 *   gRPC          /<service>/Status<n> answers a message and trailers; /<service>/Only<n> trailers alone
 *
 * Every answer carries `x-served-us`: microseconds from the handler's entry to its headers, measured here.
 */
export interface Upstreams {
  readonly ports: Readonly<Record<'h1' | 'h2' | 'echo' | 'garbage' | 'authz', number>>
  stop(): void
}

type Request = IncomingMessage | Http2ServerRequest
type Response = ServerResponse | Http2ServerResponse

export async function startUpstreams(): Promise<Upstreams> {
  /** Attempts seen by x-request-id, for /flaky; forgotten once the last one succeeded. */
  const attempts = new Map<string, number>()

  const h1 = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    if (!breakHttp1(request, response)) behave(request, response, attempts)
  })
  h1.on('upgrade', (_request, socket: Socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n')
    socket.on('data', (data) => socket.write(data))
    socket.on('error', ignore)
  })

  const sessions = new Set<ServerHttp2Session>()
  const h2 = createHttp2Server((request, response) => {
    if (!breakHttp2(request, response) && !answerGrpc(request, response)) behave(request, response, attempts)
  })
  h2.on('session', (session) => {
    sessions.add(session)
    session.on('close', () => sessions.delete(session))
    session.on('error', ignore)
  })

  const sockets = new Set<Socket>()
  const tcp = (serve: (socket: Socket) => void) =>
    createTcpServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
      socket.on('error', ignore)
      serve(socket)
    })
  const echo = tcp((socket) => {
    socket.on('data', (data) => socket.write(data))
    socket.on('end', () => socket.end())
  })
  const garbage = tcp((socket) => socket.once('data', () => socket.end('THIS IS NOT HTTP\r\n\r\n')))
  /** External authorization over HTTP: allows a request that carries x-allow. */
  const authz = createServer((request, response) => {
    response.writeHead(request.headers['x-allow'] === undefined ? 403 : 200)
    response.end()
  })

  const servers = { h1, h2, echo, garbage, authz }
  const port = async (server: Server) => {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(0, '127.0.0.1', resolve)
    })
    return (server.address() as AddressInfo).port
  }
  return {
    ports: {
      h1: await port(h1),
      h2: await port(h2),
      echo: await port(echo),
      garbage: await port(garbage),
      authz: await port(authz),
    },
    stop() {
      for (const connection of [...sessions, ...sockets]) connection.destroy()
      h1.closeAllConnections()
      authz.closeAllConnections()
      for (const server of Object.values(servers)) server.close()
    },
  }
}

function behave(request: Request, response: Response, attempts: Map<string, number>): void {
  const started = performance.now()
  const [, verb, a = '', b = '', c = ''] = pathOf(request).split('/')
  const head = (status: number, headers: Record<string, string> = {}): void => {
    const servedUs = String(Math.round((performance.now() - started) * 1000))
    ;(response as ServerResponse).writeHead(status, { 'x-served-us': servedUs, ...headers })
  }
  const end = (body?: string | Buffer): void => {
    ;(response as ServerResponse).end(body)
  }
  switch (verb) {
    case 'ok':
      head(200)
      end('ok\n')
      return
    case 'delay':
      after(Number(a), started, () => {
        head(200)
        end('late\n')
      })
      return
    case 'status':
      head(Number(a))
      end()
      return
    case 'delay-status':
      after(Number(a), started, () => {
        head(Number(b))
        end('x')
      })
      return
    case 'big-headers':
      head(200, { 'x-big': 'a'.repeat(Number(a)) })
      end()
      return
    case 'body':
      head(200, { 'content-length': a })
      end(Buffer.alloc(Number(a), 'x'))
      return
    case 'drip':
      head(200)
      drip(response as ServerResponse, Number(a), Number(b), Number(c || 1))
      return
    case 'echo': {
      let bytes = 0
      request.on('data', (data: Buffer) => {
        bytes += data.length
      })
      request.on('end', () => {
        head(200, { 'content-type': 'text/plain' })
        end(String(bytes))
      })
      return
    }
    case 'flaky': {
      const id = String(request.headers['x-request-id'] ?? '')
      const attempt = (attempts.get(id) ?? 0) + 1
      const fails = attempt <= Number(a)
      if (fails) attempts.set(id, attempt)
      else attempts.delete(id)
      head(fails ? 503 : 200)
      end()
      return
    }
    case 'cacheable':
      head(200, { 'cache-control': 'public, max-age=60', date: new Date().toUTCString() })
      end('cached\n')
      return
    default:
      head(404)
      end('no such behaviour\n')
  }
}

/** Connections that end where an answer should be. Says whether it did something. */
function breakHttp1(request: IncomingMessage, response: ServerResponse): boolean {
  const { socket } = request
  const verb = pathOf(request).split('/')[1]
  switch (verb) {
    case 'close-before':
      socket.end()
      return true
    case 'reset-before':
      socket.resetAndDestroy()
      return true
    case 'close-mid':
    case 'reset-mid':
      response.writeHead(200, { 'content-length': '1000' })
      response.write('partial')
      setTimeout(() => (verb === 'close-mid' ? socket.end() : socket.resetAndDestroy()), 20)
      return true
    default:
      return false
  }
}

function breakHttp2(request: Http2ServerRequest, response: Http2ServerResponse): boolean {
  const { stream } = response
  stream.on('error', ignore)
  const partial = (then: () => void) => {
    stream.respond({ ':status': 200 })
    stream.write('partial')
    setTimeout(then, 20)
  }
  switch (pathOf(request).split('/')[1]) {
    case 'reset':
      stream.close(http2.NGHTTP2_INTERNAL_ERROR)
      return true
    case 'refuse':
      stream.close(http2.NGHTTP2_REFUSED_STREAM)
      return true
    case 'reset-mid':
      partial(() => stream.destroy(new Error('reset'))) // close() would end the body first.
      return true
    case 'close-conn':
      stream.session?.destroy()
      return true
    case 'close-conn-mid':
      partial(() => stream.session?.destroy())
      return true
    default:
      return false
  }
}

function answerGrpc(request: Http2ServerRequest, response: Http2ServerResponse): boolean {
  if (!String(request.headers['content-type']).startsWith('application/grpc')) return false
  const { stream } = response
  const method = pathOf(request).split('/')[2] ?? ''
  const [, kind, code = '12'] = /^(Status|Only)(\d+)$/.exec(method) ?? []
  const trailers = { 'grpc-status': code, 'grpc-message': code === '0' ? '' : `code%20${code}` }
  const head = { ':status': 200, 'content-type': 'application/grpc' }
  request.resume()
  if (kind === 'Only') {
    stream.respond({ ...head, ...trailers }, { endStream: true })
    return true
  }
  stream.respond(head, { waitForTrailers: true })
  stream.removeAllListeners('wantTrailers') // The compatibility layer would send its own.
  stream.on('wantTrailers', () => stream.sendTrailers(trailers))
  stream.end(Buffer.from([0, 0, 0, 0, 0]))
  return true
}

function drip(response: ServerResponse, chunks: number, everyMs: number, bytes: number): void {
  let left = chunks
  const step = (): void => {
    if (response.destroyed) return
    response.write(Buffer.alloc(bytes, '.'))
    if (--left <= 0) response.end()
    else setTimeout(step, everyMs)
  }
  step()
}

/** Calls `then` when `ms` have passed since `since`, never before: a timer alone can fire up to 1 ms early. */
function after(ms: number, since: number, then: () => void): void {
  const left = since + ms - performance.now()
  if (left <= 0) then()
  else setTimeout(() => after(ms, since, then), Math.max(1, Math.ceil(left)))
}

function pathOf(request: Request): string {
  return request.url?.split('?')[0] ?? '/'
}

function ignore(): void {}
