import type { LogEntry } from '../../src/demo/als-encode.ts'

/** A request to checkout that has just ended: answered quickly, with 503 where it failed. */
export function checkoutEntry(number: number, failed: boolean): LogEntry {
  return {
    startMs: Date.now() - 5,
    rxEnd: 0.1,
    upTxBegin: 0.2,
    upTxEnd: 0.3,
    upRxBegin: 3,
    upRxEnd: 4,
    downTxBegin: 4.1,
    downTxEnd: 4.5,
    duration: 4.6,
    cluster: 'outbound|8080||checkout.shop.svc.cluster.local',
    upstreamPort: 8080,
    route: 'checkout',
    method: 'GET',
    authority: 'checkout.shop.svc.cluster.local',
    path: '/buy',
    requestId: `00000000-0000-4000-8000-${number.toString(16).padStart(12, '0')}`,
    requestBytes: 0,
    responseBytes: 10,
    code: failed ? 503 : 200,
    details: 'via_upstream',
    flag: null,
    attempts: 1,
  }
}
