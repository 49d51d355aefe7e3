import { createGenerations } from '../lib/generations.ts'
import { createTagExtractor, ENVOY_TAGS, type TagRule } from './envoy-tags.ts'
import { splitIstioName } from './istio-tags.ts'
import type { Label } from './store.ts'

/**
 * What Envoy itself would call a stat at `/stats/prometheus`, so that a stat is the same series whichever way it came:
 *
 *   cluster.backend.upstream_rq_5xx  ─►  envoy_cluster_upstream_rq_xx{envoy_cluster_name="backend",envoy_response_code_class="5"}
 */
export interface EnvoyNames {
  /** Of a full stat name, by tag extraction. Names seen lately are looked up; the object is the same as long as they are. */
  ofStat(stat: string): EnvoyName
  /** Names in the cache. */
  readonly size: number
}

export interface EnvoyName {
  readonly name: string
  /** In the order in which the rules found them. */
  readonly labels: readonly Label[]
}

export interface EnvoyNamesOptions {
  /** Envoy's own when absent. */
  readonly rules?: readonly TagRule[]
  /** Stat names kept, of about 400 bytes each. A proxy with 1 000 clusters has 150 000. */
  readonly cacheMax?: number
}

const CACHE_MAX = 200_000

export function createEnvoyNames(options: EnvoyNamesOptions = {}): EnvoyNames {
  const extractor = createTagExtractor(options.rules ?? ENVOY_TAGS)
  const cache = createGenerations<string, EnvoyName>(options.cacheMax ?? CACHE_MAX)
  return {
    ofStat(stat) {
      const known = cache.get(stat)
      if (known !== undefined) return known
      const { name, tags } = splitIstioName(stat) ?? extractor.extract(stat)
      const made = envoyName(name, tags)
      cache.set(stat, made)
      return made
    },
    get size() {
      return cache.size
    },
  }
}

/** Of a name whose tags are known already: DogStatsD, Graphite, MetricsService with `emit_tags_as_labels`, OTLP. */
export function envoyName(tagExtracted: string, tags: Iterable<readonly [string, string]>): EnvoyName {
  const labels: Label[] = []
  for (const [tag, value] of tags) labels.push([sanitise(tag), value])
  return { name: metricName(tagExtracted), labels }
}

/** Metrics of Istio and of Wasm extensions keep their own name, without the root that Envoy gives them. */
const CUSTOM_ROOTS = ['istiocustom.', 'wasmcustom.']

function metricName(tagExtracted: string): string {
  for (const root of CUSTOM_ROOTS) {
    if (tagExtracted.startsWith(root)) return sanitise(tagExtracted.slice(root.length))
  }
  return `envoy_${replaceInvalid(tagExtracted)}`
}

/** A name as Prometheus allows it: bytes outside `[a-zA-Z0-9_]` become `_`, and a digit does not come first. */
export function sanitise(name: string): string {
  const valid = replaceInvalid(name)
  return valid === '' || /^\d/.test(valid) ? `_${valid}` : valid
}

/** Envoy replaces byte by byte, so a letter outside ASCII becomes as many `_` as it has bytes in UTF-8. */
function replaceInvalid(name: string): string {
  return name.replace(/[^a-zA-Z0-9_]/gu, (character) => {
    const code = character.codePointAt(0)!
    if (code < 0x80) return '_'
    return code < 0x800 ? '__' : code < 0x10000 ? '___' : '____'
  })
}
