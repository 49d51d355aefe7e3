import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import type { ClientTls } from '../../lib/tls.ts'

/**
 * One GET with a bound on everything: time as a whole (a sender that drips bytes gets no more), bytes as they come, bytes after
 * gunzip, redirects. Expected failures are values.
 */
export interface HttpGet {
  get(request: GetRequest): Promise<GetResult>
  /** Closes idle connections. */
  close(): void
}

export interface GetRequest {
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  /** Sent to the origin of `url` alone, not to where it redirects. */
  readonly secretHeaders: Readonly<Record<string, string>>
  readonly timeoutMs: number
  /** After gunzip as well. */
  readonly bodyBytesMax: number
  readonly signal: AbortSignal
}

export type GetFailure =
  | 'unreachable'
  | 'timeout'
  | 'tls'
  | 'status'
  | 'redirects'
  | 'body_limit'
  | 'memory'
  | 'encoding'
  | 'cut_off'
  | 'stopped'
export type GetResult =
  | { readonly ok: true; readonly body: Buffer; readonly contentType: string; readonly wireBytes: number }
  | { readonly ok: false; readonly reason: GetFailure; readonly message: string }

/** Bytes of bodies that are under way, of all targets together. */
export interface BodyBudget {
  bytes: number
  readonly bytesMax: number
}

const REDIRECTS_MAX = 5
const HEADER_BYTES_MAX = 16 * 1024
const unzip = promisify(gunzip)

export function createHttpGet(budget: BodyBudget, tls: Pick<ClientTls, 'agent'>): HttpGet {
  // One connection for each target at a time; kept open, as intervals are short.
  const options = { keepAlive: true, maxSockets: 2, maxFreeSockets: 1, scheduling: 'lifo' as const }
  const plain = new HttpAgent(options)
  const secure = tls.agent(options)
  return {
    async get(request) {
      const deadline = new AbortController()
      // Not AbortSignal.any: each of its results stays alive with the long-lived signal.
      const stop = (): void => deadline.abort('stopped')
      request.signal.addEventListener('abort', stop, { once: true })
      const timer = setTimeout(() => deadline.abort('timeout'), request.timeoutMs)
      try {
        return request.signal.aborted ? stopped() : await follow(request, deadline.signal, { plain, secure, budget })
      } finally {
        clearTimeout(timer)
        request.signal.removeEventListener('abort', stop)
      }
    },
    close() {
      plain.destroy()
      secure.destroy()
    },
  }
}

async function follow(
  request: GetRequest,
  signal: AbortSignal,
  { plain, secure, budget }: { plain: HttpAgent; secure: HttpAgent; budget: BodyBudget },
): Promise<GetResult> {
  let { url } = request
  for (let hops = 0; hops <= REDIRECTS_MAX; hops++) {
    const headers =
      url.origin === request.url.origin ? { ...request.headers, ...request.secretHeaders } : request.headers
    const options = { headers, signal, maxHeaderSize: HEADER_BYTES_MAX }
    const answer = await new Promise<IncomingMessage | GetResult>((resolve) => {
      const sent =
        url.protocol === 'https:'
          ? httpsRequest(url, { ...options, agent: secure }, resolve)
          : httpRequest(url, { ...options, agent: plain }, resolve)
      sent.on('error', (error: NodeJS.ErrnoException) => resolve(failureOf(error, signal)))
      sent.end()
    })
    if (!('statusCode' in answer)) return answer as GetResult
    const status = answer.statusCode ?? 0
    const location = answer.headers.location
    if (status >= 300 && status < 400 && status !== 304 && location !== undefined) {
      answer.destroy()
      const next = URL.parse(location, url)
      if (next === null || (next.protocol !== 'http:' && next.protocol !== 'https:')) {
        return { ok: false, reason: 'redirects', message: `a redirect to ${location.slice(0, 200)}` }
      }
      // A page that was asked for with TLS is not taken without.
      if (url.protocol === 'https:' && next.protocol === 'http:') {
        return { ok: false, reason: 'redirects', message: 'a redirect from https to http' }
      }
      url = next
      continue
    }
    if (status !== 200) {
      answer.destroy()
      return { ok: false, reason: 'status', message: `status ${status}` }
    }
    return read(answer, request, signal, budget)
  }
  return { ok: false, reason: 'redirects', message: `more than ${REDIRECTS_MAX} redirects` }
}

async function read(
  answer: IncomingMessage,
  { bodyBytesMax }: GetRequest,
  signal: AbortSignal,
  budget: BodyBudget,
): Promise<GetResult> {
  const encoding = (answer.headers['content-encoding'] ?? 'identity').trim().toLowerCase()
  if (encoding !== 'identity' && encoding !== 'gzip' && encoding !== 'x-gzip') {
    answer.destroy()
    return { ok: false, reason: 'encoding', message: `content-encoding ${encoding.slice(0, 40)}` }
  }
  const tooLarge = { ok: false, reason: 'body_limit', message: `more than ${bodyBytesMax} bytes` } as const
  const noMemory = { ok: false, reason: 'memory', message: 'too many bytes of other targets are under way' } as const
  const chunks: Buffer[] = []
  let bytes = 0
  let reserved = 0
  try {
    // Leaving the loop before its end destroys the connection.
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > bodyBytesMax) return tooLarge
      reserved += chunk.length
      budget.bytes += chunk.length
      if (budget.bytes > budget.bytesMax) return noMemory
      chunks.push(chunk)
    }
    if (!answer.complete) return { ok: false, reason: 'cut_off', message: 'the answer was cut off' }
    const contentType = answer.headers['content-type'] ?? ''
    const wire = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)
    if (encoding === 'identity') return { ok: true, body: wire, contentType, wireBytes: bytes }
    const room = Math.min(bodyBytesMax, budget.bytesMax - budget.bytes)
    if (room <= 0) return noMemory
    // Text shrinks to a tenth or less; what takes more is not counted before it is there, but is bounded.
    const expected = Math.min(room, 10 * bytes)
    reserved += expected
    budget.bytes += expected
    try {
      return { ok: true, body: await unzip(wire, { maxOutputLength: room }), contentType, wireBytes: bytes }
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      if (code === 'ERR_BUFFER_TOO_LARGE') return room < bodyBytesMax ? noMemory : tooLarge
      return { ok: false, reason: 'encoding', message: `gzip: ${message}` }
    }
  } catch (error) {
    return failureOf(error as NodeJS.ErrnoException, signal, 'cut_off')
  } finally {
    budget.bytes -= reserved
  }
}

function failureOf(
  error: NodeJS.ErrnoException,
  signal: AbortSignal,
  otherwise: GetFailure = 'unreachable',
): GetResult {
  if (signal.aborted) {
    return signal.reason === 'timeout'
      ? { ok: false, reason: 'timeout', message: 'no whole answer in time' }
      : stopped()
  }
  const code = error.code ?? ''
  const isTls = /^(?:ERR_TLS|ERR_SSL|CERT_|DEPTH_|UNABLE_TO|SELF_SIGNED|EPROTO)/.test(code)
  return {
    ok: false,
    reason: isTls ? 'tls' : otherwise,
    message: code === '' ? error.message : `${code}: ${error.message}`,
  }
}

function stopped(): GetResult {
  return { ok: false, reason: 'stopped', message: 'shutting down' }
}
