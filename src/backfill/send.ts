import { setTimeout as wait } from 'node:timers/promises'
import { Backoff } from '../lib/backoff.ts'

/** The other side of `POST /ingest/v1/logs`, for contents that are sent in parts. */
export interface Sender {
  position(key: string): Promise<Position>
  /** Sends the part that begins at `from`. Waits and tries again for as long as the other side has no room or is away. */
  send(key: string, from: number, part: Uint8Array): Promise<Sent>
}

export interface Position {
  /** Bytes that need not be sent. */
  readonly position: number
  /** Bytes that `crc` is of. */
  readonly checked: number
  readonly crc: number
  /** CRC-32 of the first 64 · 4^k bytes. */
  readonly marks: readonly number[]
  readonly accepted: number
  readonly rejected: number
}

export type Sent =
  | { readonly status: 'stored'; readonly accepted: number; readonly rejected: number }
  /** What is stored ends before this part: somebody else is at it, or it was forgotten. */
  | { readonly status: 'elsewhere' }
  | { readonly status: 'failed'; readonly reason: string }

export interface SenderOptions {
  /** `http://host:port`. */
  readonly url: string
  readonly preset?: string | undefined
  readonly format?: string | undefined
  readonly node?: string | undefined
  readonly service?: string | undefined
  readonly signal: AbortSignal
  /** Something that is waited for, to tell people; null when it goes on. */
  readonly onWait: (reason: string | null) => void
  readonly patienceMs?: number
}

const PATIENCE_MS = 300_000

export function createSender(options: SenderOptions): Sender {
  const { url, signal, onWait, patienceMs = PATIENCE_MS } = options
  const query = new URLSearchParams()
  for (const name of ['preset', 'format', 'node', 'service'] as const) {
    const value = options[name]
    if (value !== undefined) query.set(name, value)
  }
  const target = `${url}/ingest/v1/logs`

  /** One call, repeated while there is hope. Throws when there is none. */
  const call = async (path: string, init: RequestInit): Promise<{ status: number; answer: Answer }> => {
    const backoff = new Backoff({ firstMs: 100, maxMs: 5000, random: Math.random })
    const deadline = Date.now() + patienceMs
    for (;;) {
      let reason: string
      let afterMs = 0
      try {
        const response = await fetch(path, { ...init, signal })
        const answer = (await response.json().catch(() => ({}))) as Answer
        if (response.status !== 503 && response.status !== 429 && answer.code !== 'key_in_use') {
          onWait(null)
          return { status: response.status, answer }
        }
        reason = String(answer.detail ?? response.status)
        afterMs = Math.min(10_000, Number(response.headers.get('retry-after') ?? 0) * 1000)
      } catch (error) {
        if (signal.aborted) throw error
        const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
        reason = cause instanceof Error ? cause.message : String(cause)
      }
      if (Date.now() > deadline) throw new Error(`${url}: ${reason}`)
      onWait(reason)
      await wait(backoff.nextMs(afterMs), undefined, { signal })
    }
  }
  return {
    async position(key) {
      const { status, answer } = await call(`${target}/position`, { headers: { 'idempotency-key': key } })
      if (status !== 200) throw new Error(`${url} does not take log lines: ${answer.detail ?? status}`)
      return answer as unknown as Position
    },
    async send(key, from, part) {
      const { status, answer } = await call(`${target}?${query}`, {
        method: 'POST',
        body: part as Uint8Array<ArrayBuffer>,
        headers: {
          'content-type': 'text/plain',
          'idempotency-key': key,
          'content-range': `bytes ${from}-${from + part.length - 1}/*`,
        },
      })
      const { accepted, rejected, code, detail } = answer
      if (code === 'wrong_position') return { status: 'elsewhere' }
      // Nothing but lines that are none is an answer as well.
      if (status === 200 || code === 'nothing_accepted') {
        return { status: 'stored', accepted: Number(accepted), rejected: Number(rejected) }
      }
      return { status: 'failed', reason: String(detail ?? `HTTP ${status}`) }
    },
  }
}

type Answer = Readonly<Record<string, unknown>>
