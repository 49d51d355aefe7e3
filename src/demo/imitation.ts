import { randomUUID } from 'node:crypto'
import type { Random } from '../lib/random.ts'
import type { LogEntry } from './als-encode.ts'
import {
  answerOf,
  CART_RETRIES,
  CHECKOUT_TIMEOUT_MS,
  clusterOf,
  hostOf,
  mailIsUp,
  PAY_V2_SHARE,
  SEARCH_TIMEOUT_MS,
  type Visit,
  visitOf,
} from './shop.ts'

/** What the gateway and checkout's sidecar would log of one visit, by the same table the real services behave by. */
export interface Imitated {
  readonly gateway: LogEntry
  /** Checkout's call to pay, where there was one. */
  readonly checkout: LogEntry | null
}

/** Upstream ports as the log shows them; nothing listens there. */
const PORTS = { checkout: 9_101, cart: 9_102, search: 9_103, mail: 9_104, payV1: 9_105, payV2: 9_106 } as const
/** A proxy's own work before and after the service, ms. */
const PROXY_MS = 0.15
const RETRY_PAUSE_MS = 12
const TIMEOUT_MS = { checkout: CHECKOUT_TIMEOUT_MS, cart: 5_000, search: SEARCH_TIMEOUT_MS, mail: 5_000 } as const

/** One visit that ends now, at `nowMs` of Unix time. */
export function imitate(random: Random, nowMs: number, elapsedMs: number): Imitated {
  const visit = visitOf(random)
  if (visit.service === 'mail' && !mailIsUp(elapsedMs)) return { gateway: noHost(visit, nowMs), checkout: null }
  if (visit.service !== 'checkout') return { gateway: withAnswer(visit, nowMs, 0, random), checkout: null }
  const pay = payCall(random, nowMs)
  return { gateway: withAnswer(visit, nowMs, pay.duration, random), checkout: pay }
}

/** A request of the gateway; `innerMs` is what the service itself waits for others. */
function withAnswer(visit: Visit, nowMs: number, innerMs: number, random: Random): LogEntry {
  let answer = answerOf(visit.service, 'v1', random)
  let attempts = 1
  let sentAt = PROXY_MS
  if (visit.service === 'cart') {
    for (; answer.status >= 500 && attempts <= CART_RETRIES; attempts++) {
      sentAt += answer.waitMs + RETRY_PAUSE_MS * random()
      answer = answerOf('cart', 'v1', random)
    }
  }
  const rxEnd = visit.sendMs + 0.05
  const upTxEnd = Math.max(sentAt, rxEnd) + 0.02
  const answerAt = upTxEnd + answer.waitMs + innerMs
  const cutOff = Math.min(TIMEOUT_MS[visit.service], visit.patienceMs)
  const base = {
    ...common(visit, nowMs),
    cluster: clusterOf(visit.service),
    upstreamPort: PORTS[visit.service],
    rxEnd,
    upTxBegin: sentAt,
    upTxEnd,
    attempts,
  }
  if (answerAt >= cutOff && visit.patienceMs <= TIMEOUT_MS[visit.service]) {
    const gone = { upRxBegin: null, upRxEnd: null, downTxBegin: null, downTxEnd: null, duration: cutOff, code: null }
    return finish({ ...base, ...gone, flag: 'DC', details: 'downstream_remote_disconnect', responseBytes: 0 })
  }
  if (answerAt >= cutOff) {
    return finish(localReply(base, cutOff, 504, 'UT', 'response_timeout'))
  }
  if (answer.closes) {
    const details = 'upstream_reset_before_response_started{connection_termination}'
    return finish(localReply(base, answerAt, 503, 'UC', details))
  }
  const upRxEnd = answerAt + answer.bodyMs
  return finish({
    ...base,
    upRxBegin: answerAt,
    upRxEnd,
    downTxBegin: answerAt + PROXY_MS,
    downTxEnd: upRxEnd + PROXY_MS,
    duration: upRxEnd + PROXY_MS + 0.05,
    code: answer.status,
    flag: answer.status >= 500 && attempts > CART_RETRIES ? 'URX' : null,
    details: 'via_upstream',
    responseBytes: answer.bytes,
  })
}

function payCall(random: Random, nowMs: number): LogEntry {
  const version = random() < PAY_V2_SHARE ? 'v2' : 'v1'
  const answer = answerOf('pay', version, random)
  const answerAt = PROXY_MS + answer.waitMs
  return finish({
    startMs: nowMs,
    rxEnd: 0.05,
    upTxBegin: PROXY_MS,
    upTxEnd: PROXY_MS + 0.02,
    upRxBegin: answerAt,
    upRxEnd: answerAt + 0.05,
    downTxBegin: answerAt + PROXY_MS,
    downTxEnd: answerAt + PROXY_MS + 0.05,
    duration: answerAt + PROXY_MS + 0.1,
    cluster: clusterOf('pay', version),
    upstreamPort: version === 'v1' ? PORTS.payV1 : PORTS.payV2,
    route: 'pay',
    method: 'POST',
    authority: hostOf('pay'),
    path: '/pay/charge',
    requestId: randomUUID(),
    requestBytes: 12,
    responseBytes: answer.bytes,
    code: answer.status,
    details: 'via_upstream',
    flag: null,
    attempts: 1,
  })
}

/** Envoy names no cluster when there was no host to choose. */
function noHost(visit: Visit, nowMs: number): LogEntry {
  const nothing = { upTxBegin: null, upTxEnd: null, cluster: '', upstreamPort: null, attempts: 1 }
  const base = { ...common(visit, nowMs), ...nothing, rxEnd: 0.05 }
  return finish(localReply(base, 0.2, 503, 'UH', 'no_healthy_upstream'))
}

type Sent = Omit<
  LogEntry,
  'upRxBegin' | 'upRxEnd' | 'downTxBegin' | 'downTxEnd' | 'duration' | 'code' | 'flag' | 'details' | 'responseBytes'
>

function localReply(base: Sent, atMs: number, code: number, flag: LogEntry['flag'], details: string): LogEntry {
  return {
    ...base,
    upRxBegin: null,
    upRxEnd: null,
    downTxBegin: atMs,
    downTxEnd: atMs + 0.02,
    duration: atMs + 0.05,
    code,
    flag,
    details,
    responseBytes: 24,
  }
}

function common(visit: Visit, nowMs: number) {
  return {
    startMs: nowMs,
    route: visit.service,
    method: visit.method,
    authority: hostOf(visit.service),
    path: visit.path,
    requestId: randomUUID(),
    requestBytes: visit.bytes,
  }
}

/** `startMs` holds the end until here: entries are logged when the request is over. */
function finish(entry: LogEntry): LogEntry {
  return { ...entry, startMs: entry.startMs - entry.duration }
}
