import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { retryAfterMs } from '../lib/retry-after.ts'
import type { ClientTls } from '../lib/tls.ts'

/** One POST of JSON. Redirects are not followed: they would lead the token elsewhere. */
export type PostJson = (body: string, signal: AbortSignal) => Promise<PostAnswer>

export type PostAnswer =
  | {
      readonly answered: true
      readonly status: number
      /** The first of it, one line. */
      readonly text: string
      readonly afterMs?: number
    }
  | { readonly answered: false; readonly error: Error }

export interface PostOptions {
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly tls: ClientTls
  readonly timeoutMs: number
}

const TEXT_CHARS_MAX = 4096

export function createPostJson({ url, headers, tls, timeoutMs }: PostOptions): PostJson & { close(): void } {
  const secure = url.protocol === 'https:'
  const agent = secure
    ? tls.agent({ keepAlive: true, maxSockets: 1 })
    : new HttpAgent({ keepAlive: true, maxSockets: 1 })
  const post: PostJson = (body, signal) =>
    new Promise((resolve) => {
      const failed = (error: Error): void => resolve({ answered: false, error })
      const request = (secure ? httpsRequest : httpRequest)(
        url,
        {
          method: 'POST',
          agent,
          signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
          headers: { ...headers, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
        },
        (response) => {
          let text = ''
          response.setEncoding('utf8')
          response.on('data', (part: string) => {
            if (text.length < TEXT_CHARS_MAX) text += part
          })
          response.on('error', failed)
          response.on('end', () => {
            const afterMs = retryAfterMs(response.headers['retry-after'], Date.now())
            resolve({
              answered: true,
              status: response.statusCode ?? 0,
              text: text.slice(0, 500).replace(/\s+/g, ' ').trim(),
              ...(afterMs === undefined ? {} : { afterMs }),
            })
          })
        },
      )
      request.on('error', failed)
      request.end(body)
    })
  return Object.assign(post, { close: () => agent.destroy() })
}
