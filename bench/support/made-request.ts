import type { AccessEntry } from '../../src/ingest/entry/entry.ts'

/** A request like many, told apart by `number`: its ids, path and duration follow from it. */
export function request(entry: AccessEntry, number: number, endMs: number): void {
  const durationNs = 1_000_000 + (number % 1000) * 250_000
  const startMs = endMs - durationNs / 1e6
  entry.startSeconds = Math.floor(startMs / 1000)
  entry.startNanos = Math.round((startMs % 1000) * 1e6)
  entry.durationNs = durationNs
  entry.rxEndNs = 10_000
  entry.upTxBeginNs = 100_000
  entry.upTxEndNs = 120_000
  entry.upRxBeginNs = durationNs - 200_000
  entry.upRxEndNs = durationNs - 100_000
  entry.downTxBeginNs = durationNs - 150_000
  entry.downTxEndNs = durationNs
  entry.method = 'GET'
  entry.path = `/item/${number}`
  entry.authority = 'checkout.shop.svc.cluster.local'
  entry.protocol = 'HTTP/1.1'
  entry.scheme = 'http'
  entry.code = 200
  entry.responseCodeDetails = 'via_upstream'
  entry.attempts = 1
  entry.upstreamCluster = 'outbound|80||checkout.shop.svc.cluster.local'
  entry.upstreamHost = '10.0.1.5:8080'
  entry.route = 'default'
  entry.downstreamWireReceived = 300
  entry.downstreamWireSent = 1200
  entry.requestId = `00000000-0000-4000-8000-${number.toString(16).padStart(12, '0')}`
  entry.traceId = traceIdOf(number)
  entry.spanId = (number + 1).toString(16).padStart(16, '0')
}

/** 32 hex digits, of which no two numbers have the same. */
export const traceIdOf = (number: number): string =>
  (BigInt(number) * 0x9e3779b97f4a7c15n + 1n).toString(16).padStart(32, '0').slice(-32)
