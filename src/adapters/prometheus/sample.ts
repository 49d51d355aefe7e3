import { FAMILIES, type Registry } from './families.ts'
import type { Labels } from './labels.ts'
import { SCHEMA_MAX } from './native.ts'
import { ANSWERS, FLAG_LABELS, OWN_FAMILIES, PHASE_LABELS } from './own-families.ts'
import type { OwnPair } from './own-series.ts'
import { GRPC, HISTOGRAMS, TCP } from './series.ts'

/** One label set as it stands, for whoever stores what a scrape would see. */
export interface MeshSeries {
  /** Stays the same as long as the label set is there, then may be another's: see `createdMs`. */
  readonly number: number
  readonly createdMs: number
  /** Requests, or connections: as long as it is the same nothing has changed. */
  readonly count: number
  /** It takes what had no room for a label set of its own. */
  readonly overflow?: boolean
  labels(): Labels
  /** Metrics of it, by name. */
  metrics(): readonly MeshMetric[]
}

export type Bucket = readonly [index: number, count: number]
export type MeshMetric = { readonly name: string; readonly help: string; readonly unit: string } & (
  | { readonly type: 'counter' | 'gauge'; readonly value: number }
  | {
      readonly type: 'histogram'
      /** Upper bounds without +Inf, and observations of each bucket alone. */
      readonly bounds: readonly number[]
      readonly counts: Float64Array
      readonly sum: number
      /** Buckets that are not empty, ascending; what is in none of them is zero. */
      readonly native?: { readonly schema: number; readonly buckets: readonly Bucket[] }
      /** One of each bucket that has one. */
      readonly exemplars?: readonly MeshExemplar[]
    }
)

/** Numbers of label sets that are not in the table: far above its own. */
const PAIRS_FROM = 1e6
const NUMBERS_PER_PAIR = 64
const PROXIES_FROM = 1e9

export function* sampleSeries(registry: Registry, native: boolean): Generator<MeshSeries> {
  const { table } = registry
  for (const pair of registry.own.pairs()) yield* samplePair(pair, registry, native)
  yield* sampleProxies(registry)
  for (let number = 0; number < table.end; number++) {
    if (!table.isUsed(number)) continue
    yield {
      number,
      createdMs: table.created[number]!,
      count: table.counts[number]!,
      overflow: table.whoOfSeries(number) < 0,
      labels: () => [...table.identityLabelsOf(table.whoOfSeries(number)), ...table.answerLabelsOf(number)],
      metrics: () => metricsOf(registry, number, native),
    }
  }
}

/** An observation, in the unit of the metric, and the trace that it was in. */
export interface MeshExemplar {
  readonly timeMs: number
  readonly value: number
  readonly traceId: string
}

function metricsOf(registry: Registry, number: number, withNative: boolean): MeshMetric[] {
  const { table, bounds, cells } = registry
  const protocol = table.protocolOf(number)
  const has = {
    requests: protocol !== TCP,
    grpc: protocol === GRPC && table.hasMessages(number),
    tcp: protocol === TCP,
  }
  return FAMILIES.filter((family) => has[family.of]).map((family): MeshMetric => {
    const { name, help, unit = '' } = family
    if (family.type === 'counter') return { name, help, unit, type: 'counter', value: family.value(table, number) }
    const counts = Float64Array.from({ length: bounds.length + 1 }, (_, k) => table.bucket(number, family.histogram, k))
    const sum = table.sums[number * HISTOGRAMS + family.histogram]! / family.scale
    const plain = { name, help, unit, type: 'histogram', bounds, counts, sum } as const
    if (!family.native) return plain
    const histogram = { ...plain, exemplars: exemplarsOf(registry, number) }
    if (!withNative) return histogram
    // Since the label set before, more may have come.
    cells.count()
    const buckets: Bucket[] = []
    cells.each(number, (index, count) => buckets.push([index, count]))
    return { ...histogram, native: { schema: SCHEMA_MAX - cells.shifts[number]!, buckets } }
  })
}

function exemplarsOf({ bounds, exemplars }: Registry, number: number): MeshExemplar[] {
  const found: MeshExemplar[] = []
  for (let k = 0; k <= bounds.length; k++) {
    const exemplar = exemplars.get(number * (bounds.length + 1) + k)
    if (exemplar === undefined) continue
    const { time, value, traceId } = exemplar
    found.push({ timeMs: Math.round(time * 1000), value, traceId })
  }
  return found
}

function* samplePair(pair: OwnPair, { phaseBounds }: Registry, native: boolean): Generator<MeshSeries> {
  const first = PAIRS_FROM + pair.number * NUMBERS_PER_PAIR
  const { createdMs, requests, flags, phases, attempts } = pair
  const set = (number: number, more: Labels, count: number, metric: () => MeshMetric): MeshSeries => ({
    number: first + number,
    createdMs,
    count,
    overflow: pair.overflow,
    labels: () => [...pair.labels(), ...more],
    metrics: () => [metric()],
  })
  const counter = (number: number, more: Labels, name: string, value: number): MeshSeries => {
    const { help } = OWN_HELP[name]!
    return set(number, more, value, () => ({ name, help, unit: '', type: 'counter', value }))
  }
  yield counter(0, [], 'sidecast_request_attempts_total', attempts)
  for (let k = 0; k < ANSWERS.length; k++) {
    if (requests[k]! > 0) yield counter(1 + k, ANSWERS[k]!, 'sidecast_requests_total', requests[k]!)
  }
  for (let bit = 0; flags !== null && bit < FLAG_LABELS.length; bit++) {
    if (flags[bit]! > 0) yield counter(26 + bit, FLAG_LABELS[bit]!, 'sidecast_response_flags_total', flags[bit]!)
  }
  for (let k = 0; phases !== null && k < phases.length; k++) {
    const phase = phases[k]!
    const name = 'sidecast_request_phase_seconds'
    yield set(57 + k, PHASE_LABELS[k]!, phase.count, () => ({
      name,
      help: OWN_HELP[name]!.help,
      unit: 'seconds',
      type: 'histogram',
      bounds: phaseBounds,
      counts: phase.classic(phaseBounds),
      sum: phase.sum / 1e9,
      ...(native ? { native: { schema: phase.schema, buckets: [...phase.buckets()] } } : {}),
    }))
  }
}

const OWN_HELP = Object.fromEntries(OWN_FAMILIES.map((family) => [family.name, family]))

function* sampleProxies(registry: Registry): Generator<MeshSeries> {
  let number = PROXIES_FROM
  for (const family of OWN_FAMILIES) {
    if (family.type !== 'gauge') continue
    const { name, help, type } = family
    for (const { labels, value } of family.series(registry)) {
      const [, tag] = labels
      // The same number for the same version, as long as there are not two of one hash.
      const own = number + (hashOf(tag?.[1] ?? '') >>> 0)
      yield {
        number: own,
        createdMs: 1,
        count: value,
        labels: () => labels,
        metrics: () => [{ name, help, unit: '', type, value }],
      }
    }
    number += 2 ** 32
  }
}

function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let k = 0; k < text.length; k++) hash = Math.imul(hash ^ text.charCodeAt(k), 0x01000193)
  return hash
}
