import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { retryAfterMs } from '../../lib/retry-after.ts'
import type { ClientTls } from '../../lib/tls.ts'

/** One POST to a receiver of remote write. */
export type Post = (body: Uint8Array, version: WriteVersion, signal: AbortSignal) => Promise<PostAnswer>
export type WriteVersion = '1.0' | '2.0'

export type PostAnswer =
  | {
      readonly answered: true
      readonly status: number
      /** The first of it, one line. */
      readonly text: string
      readonly afterMs?: number
      /** Samples and histograms that the receiver says it has written; null when it says nothing. */
      readonly written: number | null
    }
  | { readonly answered: false; readonly error: Error }

export interface PostOptions {
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly tls: ClientTls
  readonly timeoutMs: number
  readonly userAgent: string
}

const CONTENT_TYPES: Readonly<Record<WriteVersion, string>> = {
  '1.0': 'application/x-protobuf',
  '2.0': 'application/x-protobuf;proto=io.prometheus.write.v2.Request',
}
const PROTOCOL_VERSIONS: Readonly<Record<WriteVersion, string>> = { '1.0': '0.1.0', '2.0': '2.0.0' }
const TEXT_BYTES_MAX = 4096
const WRITTEN = ['samples', 'histograms'] as const

export function createPost(options: PostOptions): Post & { close(): void } {
  const { url, headers, tls, timeoutMs, userAgent } = options
  const secure = url.protocol === 'https:'
  const agent = secure
    ? tls.agent({ keepAlive: true, maxSockets: 1 })
    : new HttpAgent({ keepAlive: true, maxSockets: 1 })
  const post: Post = (body, version, signal) =>
    new Promise((resolve) => {
      const failed = (error: Error): void => resolve({ answered: false, error })
      const request = (secure ? httpsRequest : httpRequest)(
        url,
        {
          method: 'POST',
          agent,
          signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
          headers: {
            ...headers,
            'content-type': CONTENT_TYPES[version],
            'content-encoding': 'snappy',
            'content-length': body.length,
            'user-agent': userAgent,
            'x-prometheus-remote-write-version': PROTOCOL_VERSIONS[version],
          },
        },
        (response) => {
          let text = ''
          response.setEncoding('utf8')
          response.on('data', (part: string) => {
            if (text.length < TEXT_BYTES_MAX) text += part
          })
          response.on('error', failed)
          response.on('end', () => {
            const afterMs = retryAfterMs(response.headers['retry-after'], Date.now())
            resolve({
              answered: true,
              status: response.statusCode ?? 0,
              text: text.slice(0, 500).replace(/\s+/g, ' ').trim(),
              written: writtenOf(response.headers),
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

function writtenOf(headers: Readonly<Record<string, string | string[] | undefined>>): number | null {
  const said = WRITTEN.map((what) => headers[`x-prometheus-remote-write-${what}-written`])
  if (said.every((value) => value === undefined)) return null
  return said.reduce((sum, value) => sum + (Number(value ?? 0) || 0), 0)
}
