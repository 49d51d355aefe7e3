import type { Origin } from '../../model/batch.ts'
import { OVERFLOW } from '../../model/schema.ts'

/**
 * Istio's proxies that sent rows lately, by version: each proxy of Istio has `istio_build{component="proxy"} 1` on its own
 * page, and this is their sum. Bounded; what does not fit is not counted, and `full` says so.
 */
export class Proxies {
  full = false
  readonly #byNode = new Map<string, { version: string; seenSeconds: number }>()

  see({ nodeId, istioVersion }: Origin, nowSeconds: number): void {
    if (istioVersion === undefined || nodeId === '') return
    const known = this.#byNode.get(nodeId)
    if (known !== undefined) {
      known.seenSeconds = nowSeconds
      if (known.version !== istioVersion) known.version = istioVersion
    } else if (this.#byNode.size < PROXIES_MAX) {
      this.#byNode.set(nodeId, { version: istioVersion, seenSeconds: nowSeconds })
    } else this.full = true
  }

  dropIdle(beforeSeconds: number): void {
    for (const [node, { seenSeconds }] of this.#byNode) if (seenSeconds < beforeSeconds) this.#byNode.delete(node)
    if (this.#byNode.size < PROXIES_MAX) this.full = false
  }

  byVersion(): Map<string, number> {
    const counts = new Map<string, number>()
    for (const { version } of this.#byNode.values()) {
      const tag = counts.has(version) || counts.size < VERSIONS_MAX ? version : OVERFLOW
      counts.set(tag, (counts.get(tag) ?? 0) + 1)
    }
    return counts
  }
}

/** Node ids of 60 characters: 4 MB. */
const PROXIES_MAX = 20_000
const VERSIONS_MAX = 100
