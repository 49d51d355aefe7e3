import { normal, type Random } from '../lib/random.ts'

/**
 * The shop of the demo: who calls whom, how fast each service answers, and what is wrong with it. The upstream servers
 * behave by this table, and so does the built-in client that stands in for Envoy where the binary cannot be had.
 *
 *            ┌► cart      sometimes 503, retried
 *   gateway ─┼► search    now and then hangs: cut off at 400 ms; sometimes closes the connection; slow exports
 *            ├► mail      no healthy host for 8 s of every minute
 *            └► checkout ─► pay      v1 is quick, v2 (one call in five) is slow
 */
export const SERVICES = ['checkout', 'cart', 'search', 'mail', 'pay'] as const
export type Service = (typeof SERVICES)[number]

/** What one service does with one request. */
export interface Answer {
  /** Until the headers. */
  readonly waitMs: number
  readonly status: number
  readonly bytes: number
  /** Over which the body is sent; 0 for at once. */
  readonly bodyMs: number
  /** Closes the connection instead of answering. */
  readonly closes: boolean
}

/** What the client does, beside waiting for the answer. */
export interface Visit {
  readonly service: Exclude<Service, 'pay'>
  readonly method: 'GET' | 'POST'
  readonly path: string
  /** Bytes of the request's body, and how long the client takes to send them. */
  readonly bytes: number
  readonly sendMs: number
  /** When the client gives up, if the answer is not complete; Infinity for never. */
  readonly patienceMs: number
}

/** A number in [0, 1). */

export const SEARCH_TIMEOUT_MS = 400
export const CHECKOUT_TIMEOUT_MS = 1_500
export const PAY_V2_SHARE = 0.2
export const CART_RETRIES = 2
const MAIL_PERIOD_MS = 60_000
const MAIL_DOWN_MS = 8_000

/** Whether mail has a healthy host, `elapsedMs` after the demo began. The first failure comes after 15 s. */
export function mailIsUp(elapsedMs: number): boolean {
  const phase = (elapsedMs + MAIL_PERIOD_MS - 15_000) % MAIL_PERIOD_MS
  return elapsedMs < 15_000 || phase >= MAIL_DOWN_MS
}

/** Draws what a service answers. The wait is log-normal about a median, as waits of real services are. */
export function answerOf(service: Service, version: 'v1' | 'v2', random: Random): Answer {
  const plain = (medianMs: number, sigma: number): Answer => ({
    waitMs: lognormal(medianMs, sigma, random),
    status: 200,
    bytes: 500,
    bodyMs: 0,
    closes: false,
  })
  const chance = random()
  switch (service) {
    case 'checkout':
      return plain(6, 0.3)
    case 'pay':
      return version === 'v2' ? plain(310, 0.45) : plain(18, 0.3)
    case 'cart':
      return chance < 0.12 ? { ...plain(3, 0.3), status: 503 } : plain(5, 0.4)
    case 'search':
      if (chance < 0.03) return { ...plain(SEARCH_TIMEOUT_MS * 5, 0.1), bytes: 2_000 }
      if (chance < 0.035) return { ...plain(5, 0.1), closes: true }
      if (chance < 0.06) return { ...plain(40, 0.3), bytes: 200_000, bodyMs: 150 + 150 * random() }
      return { ...plain(24, 0.5), bytes: 2_000 }
    case 'mail':
      return plain(30, 0.25)
  }
}

/** Draws what a client does next. */
export function visitOf(random: Random): Visit {
  const chance = random()
  const id = Math.floor(random() * 10_000)
  const plain = { bytes: 0, sendMs: 0, patienceMs: Number.POSITIVE_INFINITY }
  if (chance < 0.4) {
    const impatient = random() < 0.05
    return {
      ...plain,
      service: 'search',
      method: 'GET',
      path: `/search?q=shoes-${id}`,
      patienceMs: impatient ? 20 : Number.POSITIVE_INFINITY,
    }
  }
  if (chance < 0.65) return { ...plain, service: 'cart', method: 'GET', path: `/cart/${id}` }
  if (chance < 0.75) {
    const slowLine = random() < 0.1
    return {
      ...plain,
      service: 'cart',
      method: 'POST',
      path: `/cart/${id}/items`,
      bytes: 2_000,
      sendMs: slowLine ? 120 : 0,
    }
  }
  if (chance < 0.93) {
    const impatient = random() < 0.05
    return {
      ...plain,
      service: 'checkout',
      method: 'POST',
      path: `/checkout/${id}`,
      bytes: 600,
      patienceMs: impatient ? 150 : Number.POSITIVE_INFINITY,
    }
  }
  return { ...plain, service: 'mail', method: 'POST', path: '/mail/receipt', bytes: 900 }
}

/** Name of a service's cluster, as Istio writes it. */
export function clusterOf(service: Service, version: 'v1' | 'v2' | '' = ''): string {
  return `outbound|80|${version}|${hostOf(service)}`
}

export function hostOf(service: Service): string {
  return `${service}.shop.svc.cluster.local`
}

/** What a proxy of the shop says of itself, in the fields of Istio's nodes. */
export function nodeOf(workload: 'gateway' | 'checkout') {
  const type = workload === 'gateway' ? 'router' : 'sidecar'
  return {
    id: `${type}~127.0.0.1~${workload}-0.shop~shop.svc.cluster.local`,
    cluster: `${workload}.shop`,
    metadata: {
      NAME: `${workload}-0`,
      NAMESPACE: 'shop',
      WORKLOAD_NAME: workload,
      MESH_ID: 'demo',
      CLUSTER_ID: 'demo',
      ISTIO_VERSION: '1.29.0',
      LABELS: {
        app: workload,
        version: 'v1',
        'service.istio.io/canonical-name': workload,
        'service.istio.io/canonical-revision': 'v1',
      },
    },
  }
}

function lognormal(median: number, sigma: number, random: Random): number {
  return median * Math.exp(sigma * normal(random))
}
