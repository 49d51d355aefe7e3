import { setTimeout as sleep } from 'node:timers/promises'

/** Sends access log lines over HTTP until it is stopped, each batch again and again until it is answered. */
export interface Sender {
  /** Requests that an answer said are fsynced: those numbered from 0 up to this. */
  readonly acknowledged: number
  /** Sends what is under way to its end, and no more. */
  stop(): Promise<void>
}

const BATCH = 100
const PAUSE_MS = 20

/** `url`: of the process that takes them now. The key of a batch is its number: a repetition stores nothing twice. */
export function startSender(options: { readonly url: () => string; readonly seed: number }): Sender {
  let acknowledged = 0
  let stopping = false
  const done = (async () => {
    for (let batch = 0; !stopping; batch++) {
      const from = batch * BATCH
      const body = Array.from({ length: BATCH }, (_, k) => lineOf(from + k)).join('\n')
      while (!(await post(options.url(), `${options.seed}-${batch}`, `${body}\n`))) await sleep(PAUSE_MS)
      acknowledged = from + BATCH
      await sleep(PAUSE_MS)
    }
  })()
  return {
    get acknowledged() {
      return acknowledged
    },
    async stop() {
      stopping = true
      await done
    },
  }
}

async function post(url: string, key: string, body: string): Promise<boolean> {
  try {
    const answer = await fetch(`${url}/ingest/v1/logs?preset=envoy-text&node=sender-1`, {
      method: 'POST',
      headers: { 'content-type': 'text/plain', 'idempotency-key': key },
      body,
      signal: AbortSignal.timeout(20_000),
    })
    const text = await answer.text()
    if (answer.status === 200 && (JSON.parse(text) as { accepted: number }).accepted === BATCH) return true
    if (answer.status < 500 && answer.status !== 429 && answer.status !== 409) {
      throw new Error(`lines are refused: ${answer.status} ${text}`)
    }
    return false
  } catch (error) {
    if (error instanceof Error && error.message.startsWith('lines are refused')) throw error
    return false
  }
}

/** Envoy's default format; the path is what tells requests apart. */
const lineOf = (number: number): string =>
  `[${new Date().toISOString()}] "GET /item/${number} HTTP/1.1" 200 - 30 1200 ${1 + (number % 90)} ${number % 80} "-" "curl/8" ` +
  `"${idOf(number)}" "checkout.shop.svc.cluster.local" "10.0.1.5:8080"`

const idOf = (number: number): string => `00000000-0000-4000-8000-${number.toString(16).padStart(12, '0')}`
