import { type EnvoyNames, envoyName, sanitise } from '../../metrics/envoy-names.ts'
import type { SeriesIdentity, SeriesType } from '../../metrics/store.ts'
import type { StatsdLine } from './line.ts'
import type { Mapper } from './mapping.ts'

/**
 * Which series a line is of. Called once for each metric of a sender; afterwards the bytes of the line find what it said.
 *
 * In this order: a mapping rule; Envoy's own names, when the line begins with Envoy's prefix (with its tags, or by tag extraction
 * when the sender could not); the name as it is, made valid, with its tags.
 */
export interface IdentityOptions {
  readonly names: EnvoyNames
  readonly mapper: Mapper | null
  /** `prefix` of Envoy's sinks, without the dot. */
  readonly envoyPrefixes: readonly string[]
  /** Tag that says who the sender is; '' when none does. */
  readonly instanceTag: string
}

export interface LineIdentity {
  readonly identity: SeriesIdentity
  /** Milliseconds after which a silent series has ended; 0: never. */
  readonly ttlMs: number
  readonly scale: number
}

export const ENVOY_JOB = 'envoy-statsd'
export const OTHER_JOB = 'statsd'
const TYPES: Readonly<Record<string, SeriesType>> = {
  c: 'counter',
  g: 'gauge',
  t: 'histogram',
  h: 'histogram',
  d: 'histogram',
  s: 'gauge',
}

/** Null: a mapping rule drops it. `tagged` is whether the sender is known to send tags, so that none are looked for in names. */
export function identify(
  line: StatsdLine,
  sender: string,
  tagged: boolean,
  options: IdentityOptions,
): LineIdentity | null {
  const { key, nameEnd, tagsEnd, keyLength, type } = line
  const name = key.toString('utf8', 1, nameEnd)
  const tags = tagsEnd > nameEnd ? readTags(key.toString('utf8', nameEnd + 1, tagsEnd), line.graphite) : []
  const container = keyLength > tagsEnd ? key.toString('utf8', tagsEnd + 1, keyLength).replace(/^ci-/, '') : ''
  const said = options.instanceTag === '' ? undefined : tags.find(([tag]) => tag === options.instanceTag)?.[1]
  const labels = said === undefined ? tags : tags.filter(([tag]) => tag !== options.instanceTag)
  const stat = statOfEnvoy(name, options.envoyPrefixes)
  const base = {
    job: stat === null ? OTHER_JOB : ENVOY_JOB,
    instance: said || container || sender,
    type: TYPES[type]!,
  }
  const mapped = options.mapper?.map(name, type) ?? null
  if (mapped?.action === 'drop') return null
  if (mapped !== null) {
    const sent = labels.map(([tag, value]) => [sanitise(tag), value] as const)
    const all = mapped.honorLabels ? [...mapped.labels, ...sent] : [...sent, ...mapped.labels]
    const identity = { ...base, name: sanitise(mapped.name), labels: lastOfEach(all), help: mapped.help }
    return { identity, ttlMs: mapped.ttlMs, scale: mapped.scale }
  }
  const unit = type === 't' && stat === null ? { unit: 'ms' } : {}
  const found =
    stat === null
      ? { name: sanitise(name), labels: labels.map(([tag, value]) => [sanitise(tag), value] as const) }
      : labels.length > 0 || tagged
        ? envoyName(stat, labels)
        : options.names.ofStat(stat)
  return { identity: { ...base, ...unit, name: found.name, labels: lastOfEach(found.labels) }, ttlMs: 0, scale: 1 }
}

function statOfEnvoy(name: string, prefixes: readonly string[]): string | null {
  for (const prefix of prefixes) {
    if (name.length > prefix.length + 1 && name.startsWith(prefix) && name[prefix.length] === '.') {
      return name.slice(prefix.length + 1)
    }
  }
  return null
}

/** `tag:value,tag` or `tag=value;tag=value`. A tag without a value is one that is there: its value is `true`. */
function readTags(text: string, graphite: boolean): (readonly [string, string])[] {
  const tags: (readonly [string, string])[] = []
  for (const part of text.split(graphite ? ';' : ',')) {
    const at = part.indexOf(graphite ? '=' : ':')
    if (at < 0 ? part !== '' : at > 0) tags.push(at < 0 ? [part, 'true'] : [part.slice(0, at), part.slice(at + 1)])
  }
  return tags
}

function lastOfEach(labels: readonly (readonly [string, string])[]): readonly (readonly [string, string])[] {
  return labels.length < 2 ? labels : [...new Map(labels)]
}
