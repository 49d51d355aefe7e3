import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { gunzipSync } from 'node:zlib'
import type { Behaviour, ContractTarget } from '../sink-contract.ts'

/** Something that takes Wavefront's lines, by TCP or HTTP, and does as it is told. */
export interface LineTarget extends ContractTarget {
  readonly port: number
  /** All lines taken, in order. */
  readonly lines: readonly string[]
  /** Lines taken of one format; over TCP all are ''. */
  of(format: string): readonly string[]
  readonly requests: readonly { readonly url: string; readonly authorization: string; readonly status: number }[]
  /** HTTP: status and headers of the answers to come, one for each; then as `behave` says. */
  answer(...answers: readonly { readonly status: number; readonly headers?: Record<string, string> }[]): void
}

const SLOW_MS = 200
const REQUESTS = /^"\u2206[^"]*\.requestcount\.count" (\d+) /

export function startTcpTarget(): Promise<LineTarget> {
  return startTarget((target) =>
    createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => {})
      target.opened(socket)
      if (target.how === 'retry') {
        socket.resetAndDestroy()
        return
      }
      if (target.how === 'hang') return
      const parts: Buffer[] = []
      socket.on('data', (part: Buffer) => parts.push(part))
      socket.on('end', () => {
        const done = (): void => {
          target.take('', Buffer.concat(parts).toString('utf8'))
          socket.end()
        }
        if (target.how === 'slow') setTimeout(done, SLOW_MS)
        else done()
      })
    }),
  )
}

export function startHttpTarget(): Promise<LineTarget> {
  return startTarget((target) => {
    const answer = (request: IncomingMessage, response: ServerResponse, body: Buffer): void => {
      const planned = target.planned.shift()
      const status = planned?.status ?? { retry: 503, reject: 400 }[target.how as string] ?? 202
      const { url = '' } = request
      target.requests.push({ url, authorization: request.headers.authorization ?? '', status })
      if (status < 300)
        target.take(new URL(url, 'http://x').searchParams.get('f') ?? '', gunzipSync(body).toString('utf8'))
      response.writeHead(status, planned?.headers ?? {})
      response.end()
    }
    const server = createHttpServer((request, response) => {
      const parts: Buffer[] = []
      request.on('data', (part: Buffer) => parts.push(part))
      request.on('end', () => {
        if (target.how === 'hang') return
        const body = Buffer.concat(parts)
        if (target.how === 'slow') setTimeout(() => answer(request, response, body), SLOW_MS)
        else answer(request, response, body)
      })
    })
    server.on('connection', (socket: Socket) => target.opened(socket))
    return server
  })
}

class Target implements LineTarget {
  how: Behaviour = 'accept'
  port = 0
  readonly lines: string[] = []
  readonly requests: { url: string; authorization: string; status: number }[] = []
  readonly planned: { readonly status: number; readonly headers?: Record<string, string> }[] = []
  readonly #formats: string[] = []
  readonly #sockets = new Set<Socket>()
  readonly #make: (target: Target) => Server
  #server: Server | null = null

  constructor(make: (target: Target) => Server) {
    this.#make = make
  }

  opened(socket: Socket): void {
    this.#sockets.add(socket)
    socket.on('close', () => this.#sockets.delete(socket))
  }

  take(format: string, body: string): void {
    for (const line of body.split('\n')) {
      if (line === '') continue
      this.lines.push(line)
      this.#formats.push(format)
    }
  }

  of(format: string): readonly string[] {
    return this.lines.filter((_, k) => this.#formats[k] === format)
  }

  answer(...answers: readonly { readonly status: number; readonly headers?: Record<string, string> }[]): void {
    this.planned.push(...answers)
  }

  async behave(how: Behaviour): Promise<void> {
    this.how = how
    for (const socket of this.#sockets) socket.destroy()
    if (how === 'away') await this.#close()
    else if (this.#server === null) await this.listen()
  }

  taken(): number {
    return this.lines.reduce((sum, line) => sum + Number(REQUESTS.exec(line)?.[1] ?? 0), 0)
  }

  async listen(): Promise<void> {
    const server = this.#make(this)
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.port, '127.0.0.1', resolve)
    })
    this.#server = server
    this.port = (server.address() as AddressInfo).port
  }

  async #close(): Promise<void> {
    const server = this.#server
    this.#server = null
    for (const socket of this.#sockets) socket.destroy()
    if (server !== null) await new Promise<void>((resolve) => server.close(() => resolve()))
  }

  close(): Promise<void> {
    return this.#close()
  }
}

async function startTarget(make: (target: Target) => Server): Promise<LineTarget> {
  const target = new Target(make)
  await target.listen()
  return target
}
