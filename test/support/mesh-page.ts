import { createPrometheusAdapter, type PrometheusAdapterOptions } from '../../src/adapters/prometheus/adapter.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { normal, seededRandom } from '../../src/lib/random.ts'
import { FLAGS } from '../../src/model/schema.ts'
import { createRollup } from '../../src/pipeline/rollup.ts'
import { batchOf, identity, origin, party, type Row } from './batch.ts'

/** The page of the mesh, filled as in the product: rows from batches, phases from the rollup of each segment. */
export function openMeshPage(options: Partial<PrometheusAdapterOptions> = {}) {
  const mesh = createPrometheusAdapter({ clock: systemClock, ...options })
  const rollup = createRollup({ onBlock: (parts) => mesh.takeRollup(parts) })
  return {
    mesh,
    /** Takes rows, and seals. */
    take(rows: readonly Row[]): void {
      for (let k = 0; k < rows.length; k += 10_000) {
        const batch = batchOf(rows.slice(k, k + 10_000))
        mesh.take(batch)
        rollup.add(batch)
      }
      rollup.seal()
    },
    async page(accept: string): Promise<Buffer> {
      const parts: Uint8Array[] = []
      for await (const part of mesh.scrape(accept).body) parts.push(part)
      return Buffer.concat(parts)
    },
  }
}

export const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'

const CHECKOUT = identity({
  reporter: 'destination',
  source: party({ workload: 'web', namespace: 'shop', service: 'web' }),
  destination: party({ workload: 'checkout', namespace: 'shop', service: 'checkout', version: 'v2' }),
  destinationHost: 'checkout.shop.svc.cluster.local',
})
const HOSTILE = identity({
  reporter: 'source',
  source: party({ workload: 'w"1\\', namespace: 'line\nbreak' }),
  destination: party({ workload: 'ü', service: 'reviews' }),
})
const PROXY = origin({ nodeId: 'sidecar~10.0.0.1~checkout-1.shop~shop.svc.cluster.local', istioVersion: '1.29.0' })

/** Requests of a pair of services with a long tail, all phases, some flags, gRPC and TCP. */
export function meshRows(count: number, seed: number): Row[] {
  const random = seededRandom(seed)
  return Array.from({ length: count }, (_, k): Row => {
    const duration = Math.floor(2e6 * Math.exp(1.2 * normal(random)))
    const at = (share: number) => Math.floor(duration * share)
    const failed = random() < 0.03
    const row: Row = {
      identity: CHECKOUT,
      stream: PROXY,
      end: Date.now(),
      duration,
      points: [at(0.02), at(0.05), at(0.06), at(0.8), at(0.95), at(0.85), duration],
      code: failed ? 503 : 200,
      class: failed ? 'server_error' : 'success',
      outcome: failed ? 'proxy' : 'upstream',
      flags: failed ? 1 << FLAGS.indexOf('UF') : 0,
      attempts: failed ? 2 : 1,
      mutualTls: true,
      received: 300,
      sent: 1000 + k,
      traceId: TRACE,
    }
    if (k % 50 === 0) return { ...row, identity: HOSTILE, kind: 1, points: [] }
    return k % 10 === 0 ? { ...row, identity: HOSTILE, grpcStatus: 0, messages: [1, 3] } : row
  })
}

/** The value of rank ⌈q·n⌉. */
export function exactQuantile(values: readonly number[], q: number): number {
  return values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil(q * values.length) - 1)]!
}
