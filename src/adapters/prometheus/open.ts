import { SidecastError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { parseBytes, parseDuration } from '../../lib/units.ts'
import { createPrometheusAdapter, type PrometheusAdapter } from './adapter.ts'

/** `adapters.prometheus`, as the configuration has it; remote write has a folder of its own. */
export interface PrometheusConfig {
  readonly seriesMax: number
  readonly memory: string
  readonly expiry: string
  readonly buckets: readonly number[]
  readonly phaseBuckets: readonly number[]
}

/** A third of the memory is for pairs of workloads, the rest for Istio's label sets. */
export function openPrometheus(config: PrometheusConfig, clock: Clock): PrometheusAdapter {
  for (const option of ['buckets', 'phaseBuckets'] as const) checkBounds(config[option], option)
  const bytes = parseBytes(config.memory)!
  return createPrometheusAdapter({
    clock,
    seriesMax: config.seriesMax,
    bytesMax: Math.floor((bytes / 3) * 2),
    pairBytesMax: Math.floor(bytes / 3),
    expiryMs: parseDuration(config.expiry)!,
    classicBuckets: config.buckets,
    phaseBuckets: config.phaseBuckets,
  })
}

function checkBounds(bounds: readonly number[], option: string): void {
  const at = bounds.findIndex((bound, k) => k > 0 && bound <= bounds[k - 1]!)
  if (at < 0) return
  throw new SidecastError('SC1205', `adapters.prometheus.${option}: ${bounds[at]} is not above ${bounds[at - 1]}`, {
    help: 'write the bounds in ascending order, each once',
  })
}
