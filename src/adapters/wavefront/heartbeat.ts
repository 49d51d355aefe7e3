import type { Clock } from '../../lib/clock.ts'
import type { Stage } from '../../pipeline/sink.ts'
import { createLineQueue } from './batches.ts'
import type { WavefrontCounters } from './counters.ts'
import { pointLine } from './lines.ts'
import { COMPONENT, type NameOptions } from './names.ts'
import type { Line, Transport } from './transport.ts'

/**
 * `~component.heartbeat 1`, by which Wavefront knows which services and components there are: at once and every five
 * minutes, for the adapter itself and for every service that had spans since the last one but one. One that the
 * target does not take is sent again, anew.
 */
export interface Heartbeat extends Stage {
  seen(services: Iterable<string>): void
}

export interface HeartbeatOptions {
  readonly names: NameOptions
  readonly transport: Transport
  readonly counters: WavefrontCounters
  readonly clock: Clock
  readonly everyMs?: number
}

const EVERY_MS = 300_000
const RETRY_MS = 30_000
const SERVICES_MAX = 10_000

export function createHeartbeat(options: HeartbeatOptions): Heartbeat {
  const { names, transport, counters, clock, everyMs = EVERY_MS } = options
  const { application, cluster, shard, source } = names
  /** Beats that a service still gets. */
  const services = new Map<string, number>()
  const ending = new AbortController()
  let loop: Promise<void> | null = null

  function* lines(): Generator<readonly Line[]> {
    const timestampMs = clock.now()
    const components = [['sidecast', 'sidecast'], ...[...services.keys()].map((service) => [service, COMPONENT])]
    for (const [service, component] of components as [string, string][]) {
      const text = pointLine({
        name: '~component.heartbeat',
        value: 1,
        timestampMs,
        source,
        tags: [
          ['application', application],
          ['cluster', cluster],
          ['service', service],
          ['shard', shard],
          ['component', component],
        ],
      })
      if (typeof text === 'string') yield [{ format: 'wavefront', text }]
      else counters.refuse(text)
    }
  }

  async function run(): Promise<void> {
    while (!ending.signal.aborted) {
      const { status } = await createLineQueue({ lines: lines(), counters: counters.lines }).drain(
        transport,
        ending.signal,
      )
      if (status === 'retry') {
        await clock.sleep(Math.min(RETRY_MS, everyMs), ending.signal)
        continue
      }
      for (const [service, left] of services) {
        if (left <= 1) services.delete(service)
        else services.set(service, left - 1)
      }
      await clock.sleep(everyMs, ending.signal)
    }
  }

  return {
    name: 'wavefront heartbeat',
    seen(found) {
      for (const service of found) {
        if (services.has(service) || services.size < SERVICES_MAX) services.set(service, 2)
      }
    },
    async start() {
      loop ??= run()
    },
    async stop() {
      ending.abort()
      await loop
    },
  }
}
