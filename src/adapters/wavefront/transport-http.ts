import { type Agent as HttpAgent, request as httpRequest, type RequestOptions } from 'node:http'
import { type Agent, request as httpsRequest } from 'node:https'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { retryAfterMs } from '../../lib/retry-after.ts'
import { type Format, later, type Sent, TAKEN, type Transport } from './transport.ts'

/**
 * `POST …/report?f=<format>` with compressed lines: to the service with a token (direct ingestion), or to a proxy, whose
 * ports take both HTTP and plain lines. An answer of 2xx means that the lines were read; lines that are wrong are not
 * reported, which is why we check them first.
 */
export interface HttpTransportOptions {
  /** Of points and distributions, and of spans and their logs: the service's, or one port each of a proxy. */
  readonly url: URL
  readonly traceUrl: URL
  /** Asked for each request; '' sends none. */
  readonly token: () => string
  readonly timeoutMs: number
  readonly agent: HttpAgent | Agent
  readonly userAgent: string
  /** Wall clock, ms, for `Retry-After` dates. */
  readonly now: () => number
}

/** What a wrong token costs: nothing is thrown away, and the target is asked rarely. */
const AUTH_RETRY_MS = 60_000
/** Of an answer that nobody needs. */
const ANSWER_BYTES_MAX = 64 * 1024
const compress = promisify(gzip)

export function createHttpTransport(options: HttpTransportOptions): Transport {
  const { url, traceUrl, token, timeoutMs, agent, userAgent, now } = options
  return {
    endpoint: `${url.protocol}//${url.host}${url.pathname}`,
    async send(format: Format, body: Buffer, signal: AbortSignal): Promise<Sent> {
      const target = reportUrl(format === 'trace' || format === 'spanLogs' ? traceUrl : url, format)
      const secret = token()
      const packed = await compress(body, { level: 4 })
      const headers = {
        'content-type': 'application/octet-stream',
        'content-encoding': 'gzip',
        'content-length': packed.length,
        'user-agent': userAgent,
        ...(secret === '' ? {} : { authorization: `Bearer ${secret}` }),
      }
      try {
        const signals = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])
        const answer = await post(target, { method: 'POST', agent, headers, signal: signals }, packed)
        return judge(answer, now())
      } catch (cause) {
        if (signal.aborted) return later('given up: the process stops')
        const { name, message } = cause as Error
        return later(name === 'TimeoutError' ? `no answer within ${timeoutMs} ms` : message, { cause })
      }
    },
    close() {
      agent.destroy()
    },
  }
}

interface Answer {
  readonly status: number
  readonly retryAfter: string | undefined
  readonly text: string
}

/** What an answer means for the lines that were sent. */
export function judge({ status, retryAfter, text }: Answer, nowMs: number): Sent {
  if (status >= 200 && status < 300) return TAKEN
  const said = text.trim() === '' ? '' : `: ${text.trim().slice(0, 200)}`
  const error = new Error(`answered ${status}${said}`)
  if (status === 400) return { status: 'refused', error }
  if (status === 413) return { status: 'too_large', error }
  const asked = retryAfterMs(retryAfter, nowMs)
  // The token may be mended, and the feature switched on: until then the lines wait in the journal.
  const afterMs = status === 401 || status === 403 ? Math.max(asked ?? 0, AUTH_RETRY_MS) : asked
  return { status: 'later', error, ...(afterMs === undefined ? {} : { afterMs }) }
}

/** `/report` below the path of the URL, unless it ends so already. */
function reportUrl(url: URL, format: Format): URL {
  const target = new URL(url)
  if (!target.pathname.endsWith('/report')) target.pathname = `${target.pathname.replace(/\/$/, '')}/report`
  target.searchParams.set('f', format)
  return target
}

function post(url: URL, options: RequestOptions, body: Buffer): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, options, (response) => {
      const parts: Buffer[] = []
      let bytes = 0
      response.on('data', (part: Buffer) => {
        bytes += part.length
        if (bytes <= ANSWER_BYTES_MAX) parts.push(part)
        else request.destroy()
      })
      const answered = (): void =>
        resolve({
          status: response.statusCode ?? 0,
          retryAfter: response.headers['retry-after'],
          text: Buffer.concat(parts).toString('utf8'),
        })
      response.on('end', answered)
      // The status counts, however the rest of the answer ends.
      response.on('error', answered)
      response.on('close', answered)
    })
    request.on('error', reject)
    request.end(body)
  })
}
