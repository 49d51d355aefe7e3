import type { Identity } from '../../model/batch.ts'
import { ZERO_BUCKET } from '../../model/buckets.ts'
import { PHASES } from '../../model/phases.ts'
import { CLASSES, FLAGS, OUTCOMES, OVERFLOW } from '../../model/schema.ts'
import { OVERFLOW_ID, type RollupParts } from '../../pipeline/rollup-block.ts'
import { COUNTERS, KEY, SUMS } from '../../pipeline/rollup-groups.ts'
import { CODE_BITS, CODE_MASK, GROUP_MASK, METRIC_SHIFT } from '../../pipeline/rollup-log.ts'
import { type Labels, packValues, reporterLabel, serviceLabels, UNKNOWN, unpackValues } from './labels.ts'
import { PhaseHistogram } from './phase-histogram.ts'
import { HeavyKeys } from './sketch.ts'

/**
 * What Istio has no metric for: outcomes and classes, attempts, response flags, and the seven phases, of each pair of
 * workloads. Added up from the rollup of each segment when it is made, once a second, so a request costs nothing here.
 *
 *   rollup block ─► groups by (who, class, outcome) ─► counters
 *                └► runs of (phase, group, bucket)  ─► histograms
 *
 * Pairs are bounded by memory; what does not fit is counted in the overflow pair of its reporter.
 */
export interface OwnPair {
  labels(): Labels
  readonly overflow: boolean
  readonly number: number
  readonly createdMs: number
  /** By outcome × CLASSES + class. */
  readonly requests: Float64Array
  attempts: number
  /** By bit; null as long as there was none. */
  flags: Float64Array | null
  /** By phase; null as long as no phases were known. */
  phases: readonly PhaseHistogram[] | null
}

export interface OwnSeriesOptions {
  readonly bytesMax: number
  readonly expirySeconds: number
}

/** What a pair costs beside its key and histograms: the object, its place in a map, counters. */
const PAIR_BYTES = 700
const FLAG_BYTES = 8 * FLAGS.length + 64
/** Of one phase of one pair: 12 octaves at schema 6. Where it is more, the schema goes down. */
const PHASE_BYTES_MAX = 8 * 64 * 12

/** Values of the labels are in the key: see `packValues`. */
class Pair implements OwnPair {
  attempts = 0
  flags: Float64Array | null = null
  phases: readonly PhaseHistogram[] | null = null
  lastSeen = 0
  bytes: number
  readonly key: string
  readonly number: number
  readonly createdMs: number
  readonly requests = new Float64Array(OUTCOMES.length * CLASSES.length)

  constructor(key: string, number: number, createdMs: number) {
    this.key = key
    this.number = number
    this.createdMs = createdMs
    this.bytes = PAIR_BYTES + 2 * key.length
  }

  get overflow(): boolean {
    return this.key.startsWith(OVERFLOW_KEY)
  }

  labels(): Labels {
    if (!this.overflow) return unpackValues(PAIR_LABELS, this.key)
    const reporter = this.key.slice(OVERFLOW_KEY.length)
    return PAIR_LABELS.map((name) => [name, name === 'reporter' ? reporter : OVERFLOW])
  }
}

export class OwnSeries {
  /** Requests taken, and those of them counted in overflow pairs. */
  rows = 0
  overflowRows = 0
  /** Pairs dropped because nothing came for them. */
  expired = 0
  readonly offenders = new HeavyKeys()
  readonly #options: OwnSeriesOptions
  readonly #pairs = new Map<string, Pair>()
  /** By number; holes are free. */
  readonly #byNumber: (Pair | undefined)[] = []
  readonly #free: number[] = []
  #bytes = 0

  constructor(options: OwnSeriesOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#pairs.size
  }

  get bytes(): number {
    return this.#bytes
  }

  /** In order of number. */
  *pairs(): Generator<OwnPair> {
    for (const pair of this.#byNumber) if (pair !== undefined) yield pair
  }

  take({ groups, runs, identities }: RollupParts, nowMs: number): void {
    const pairOfIdentity = new Array<Pair | undefined>(identities.length)
    const pairs = new Array<Pair>(groups.length)
    const nowSeconds = Math.floor(nowMs / 1000)
    for (let g = 0; g < groups.length; g++) {
      const id = groups.keys[g * KEY]!
      const n = groups.counters[g * COUNTERS]!
      let pair = id === OVERFLOW_ID ? this.#overflow('unknown', nowMs) : pairOfIdentity[id]
      if (pair === undefined) {
        pair = this.#pairOf(identities[id]!, nowMs)
        pairOfIdentity[id] = pair
      }
      if (pair.overflow) {
        this.overflowRows += n
        if (id !== OVERFLOW_ID) this.offenders.add(describePair(identities[id]!), n)
      }
      pairs[g] = pair
      pair.lastSeen = nowSeconds
      this.#addGroup(pair, groups, g, n)
    }
    this.#addRuns(pairs, runs)
  }

  /** Drops pairs that nothing came for, never overflow ones. */
  dropIdle(nowMs: number): void {
    const before = Math.floor(nowMs / 1000) - this.#options.expirySeconds
    for (const pair of this.#pairs.values()) {
      if (pair.lastSeen >= before || pair.overflow) continue
      this.#pairs.delete(pair.key)
      this.#byNumber[pair.number] = undefined
      this.#free.push(pair.number)
      this.#bytes -= pair.bytes
      this.expired++
    }
  }

  #addGroup(pair: Pair, groups: RollupParts['groups'], g: number, n: number): void {
    const rest = groups.keys[g * KEY + 2]!
    const place = rest === OVERFLOW_ID ? 0 : (rest & 7) * CLASSES.length + ((rest >>> 3) & 7)
    this.rows += n
    pair.requests[place]! += n
    pair.attempts += groups.counters[g * COUNTERS + 2]!
    if (groups.flagRows[g]! > 0) {
      if (pair.flags === null) {
        pair.flags = new Float64Array(FLAGS.length)
        this.#charge(pair, FLAG_BYTES)
      }
      for (let bit = 0; bit < FLAGS.length; bit++) pair.flags[bit]! += groups.flagCount(g, bit)
    }
    const known = groups.counters[g * COUNTERS + 1]!
    if (known === 0) return
    if (pair.phases === null) {
      pair.phases = PHASES.map(() => new PhaseHistogram())
      for (const phase of pair.phases) this.#charge(pair, phase.bytes)
    }
    pair.phases.forEach((phase, k) => {
      phase.count += known
      phase.sum += Number(groups.carriedSum(g, k + 1) ?? groups.sums[g * SUMS + k + 1]!)
    })
  }

  #addRuns(pairs: readonly Pair[], { words, counts, length }: RollupParts['runs']): void {
    const cells = { words, counts, mask: CODE_MASK, offset: ZERO_BUCKET }
    // Runs of the whole duration stand first, and are Istio's histogram.
    for (let at = firstOfPhases(words, length); at < length; ) {
      const which = words[at]! >>> CODE_BITS
      const from = at
      while (at < length && words[at]! >>> CODE_BITS === which) at++
      const pair = pairs[which & GROUP_MASK]
      const phase = pair?.phases?.[(which >>> (METRIC_SHIFT - CODE_BITS)) - 1]
      // Cannot be; and what seals segments must not end by it.
      if (pair === undefined || phase === undefined) continue
      const before = phase.bytes
      const bytesMax = this.#bytes < this.#options.bytesMax ? PHASE_BYTES_MAX : before
      phase.add(cells, from, at, bytesMax)
      if (phase.bytes !== before) this.#charge(pair, phase.bytes - before)
    }
  }

  #charge(pair: Pair, bytes: number): void {
    pair.bytes += bytes
    this.#bytes += bytes
  }

  #pairOf(identity: Identity, nowMs: number): Pair {
    const key = packValues(pairLabels(identity))
    const known = this.#pairs.get(key)
    if (known !== undefined) return known
    if (this.#bytes + PAIR_BYTES + 2 * key.length > this.#options.bytesMax) {
      return this.#overflow(reporterLabel(identity.reporter), nowMs)
    }
    return this.#create(key, nowMs)
  }

  #overflow(reporter: string, nowMs: number): Pair {
    const key = OVERFLOW_KEY + reporter
    return this.#pairs.get(key) ?? this.#create(key, nowMs)
  }

  #create(key: string, nowMs: number): Pair {
    const number = this.#free.pop() ?? this.#byNumber.length
    const pair = new Pair(key, number, nowMs)
    this.#pairs.set(key, pair)
    this.#byNumber[number] = pair
    this.#bytes += pair.bytes
    return pair
  }
}

/** No reporter is called so. */
const OVERFLOW_KEY = '\0overflow '

export const PAIR_LABELS = [
  'reporter',
  'source_workload',
  'source_workload_namespace',
  'destination_service',
  'destination_service_name',
  'destination_service_namespace',
  'destination_workload',
  'destination_workload_namespace',
] as const

function pairLabels(identity: Identity): Labels {
  const { source, destination } = identity
  const service = serviceLabels(identity)
  return [
    ['reporter', reporterLabel(identity.reporter)],
    ['source_workload', source.workload || UNKNOWN],
    ['source_workload_namespace', source.namespace || UNKNOWN],
    ['destination_service', service.host],
    ['destination_service_name', service.name],
    ['destination_service_namespace', service.namespace],
    ['destination_workload', destination.workload || UNKNOWN],
    ['destination_workload_namespace', destination.namespace || UNKNOWN],
  ]
}

const describePair = (identity: Identity): string => {
  const labels = new Map(pairLabels(identity))
  const source = `${labels.get('source_workload')}.${labels.get('source_workload_namespace')}`
  return `${labels.get('reporter')}: ${source} → ${labels.get('destination_service')}`
}

/** First word of a metric above 0. */
function firstOfPhases(words: Uint32Array, length: number): number {
  let low = 0
  let high = length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (words[middle]! >>> METRIC_SHIFT === 0) low = middle + 1
    else high = middle
  }
  return low
}
