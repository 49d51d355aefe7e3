import { combine } from '../../lib/hash.ts'
import type { Identity } from '../../model/batch.ts'
import {
  ALL_IDENTITY_LABELS,
  answerLabels,
  type Labels,
  overflowAnswerLabels,
  overflowLabels,
  POLICIES,
  PROTOCOLS,
  packValues,
  unpackValues,
} from './labels.ts'

/** Histograms of one series: duration, request bytes, response bytes. */
export const HISTOGRAMS = 3
/** Protocol of a series, index into `PROTOCOLS`. */
export const GRPC = 1
export const TCP = 2

/** Numbers of a key: who, flags, code, and `restOf`. */
const KEY = 4
/** `who` of the overflow series is −1 − reporter. */
const REPORTERS: readonly Identity['reporter'][] = ['source', 'destination', 'gateway', 'waypoint', 'unknown']
/** As labels they are four: gateways report as source. */
const REPORTER_CLASS: Readonly<Record<Identity['reporter'], number>> = {
  source: 0,
  gateway: 0,
  destination: 1,
  waypoint: 3,
  unknown: 4,
}

export function restOf(protocol: number, policy: number, grpcStatus: number): number {
  return ((grpcStatus + 1) << 4) | (policy << 2) | protocol
}

/** `who` of the overflow series of a reporter. */
export function overflowWho(reporter: Identity['reporter']): number {
  return -1 - REPORTER_CLASS[reporter]
}

export interface SeriesOptions {
  /** Label sets, overflow ones not counted. */
  readonly seriesMax: number
  /** Memory of series, their label texts and their classic buckets. */
  readonly bytesMax: number
  /** Classic buckets of each histogram, +Inf included. */
  readonly buckets: number
}

/** A set of identity labels, and the keys of the identities that have it. */
interface Who {
  /** See `packValues`. */
  readonly text: string
  readonly keys: string[]
  series: number
}

const FIRST_CAPACITY = 256
/** What an interned text costs beside its characters: its place in a map, the object that has it. Roughly. */
const KEY_BYTES = 300

/**
 * The label sets and their figures, in typed arrays by series number. A series is one label set of requests (or of TCP
 * connections) with everything that Istio counts of it; each gives a counter and three histograms (four counters).
 */
export class SeriesTable {
  /** One past the highest series number in use. */
  end = 0
  /** Series in use, overflow included. */
  size = 0
  keys = new Int32Array(0)
  /** Requests, or connections. */
  counts = new Float64Array(0)
  /** ns, request bytes, response bytes; of TCP bytes received and sent. */
  sums = new Float64Array(0)
  /** gRPC messages received and sent, where proxies tell them. */
  messages = new Float64Array(0)
  /** Classic buckets, not cumulative, modulo 2^32; how often one wrapped is in `#wraps`, which is nearly always empty. */
  buckets = new Uint32Array(0)
  readonly #wraps = new Map<number, number>()
  /** Unix seconds in which the bucket got its exemplar, per bucket of the duration. */
  exemplarTimes = new Uint32Array(0)
  /** ms since the epoch. */
  created = new Float64Array(0)
  /** Unix seconds, of our clock. */
  lastSeen = new Uint32Array(0)
  /** Pairs of hash and series + 1. */
  slots = new Int32Array(0)
  readonly bucketsPerHistogram: number
  readonly bucketsPerSeries: number
  /** Changes when series are dropped, and with them numbers of `who`. */
  generation = 0
  #capacity = 0
  #bytes = 0
  readonly #bytesPerSeries: number
  readonly #seriesMax: number
  readonly #bytesMax: number
  #overflowSeries = 0
  /** Identities without a series yet: each has room for one set aside, or identities alone would use up the budget. */
  #reserved = 0
  readonly #free: number[] = []
  readonly #who: (Who | undefined)[] = []
  readonly #freeWho: number[] = []
  readonly #whoByKey = new Map<string, number>()
  readonly #whoByText = new Map<string, number>()

  constructor(options: SeriesOptions) {
    this.bucketsPerHistogram = options.buckets
    this.bucketsPerSeries = HISTOGRAMS * options.buckets
    this.#seriesMax = options.seriesMax
    this.#bytesMax = options.bytesMax
    // Arrays double: up to twice of what is in use.
    this.#bytesPerSeries = 2 * (4 * KEY + 8 + 24 + 16 + 4 * this.bucketsPerSeries + 4 * options.buckets + 8 + 4 + 32)
    this.#grow()
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Label sets that the overflow series are not counted among. */
  get own(): number {
    return this.size - this.#overflowSeries
  }

  /**
   * Number of the identity labels behind a key; −1 when there is no room for a new one. Several keys can have the same
   * labels (a name that is missing, and one that is `unknown`), and must not be two series then.
   */
  whoOf(key: string, labelsOf: () => Labels): number {
    const known = this.#whoByKey.get(key)
    if (known !== undefined) return known
    const bytes = keyBytes(key)
    if (!this.#hasRoom(2 * bytes)) return -1
    const labels = labelsOf()
    const text = packValues(labels)
    let who = this.#whoByText.get(text)
    if (who === undefined) {
      who = this.#freeWho.pop() ?? this.#who.length
      this.#who[who] = { text, keys: [], series: 0 }
      this.#whoByText.set(text, who)
      this.#bytes += keyBytes(text)
      this.#reserved++
    }
    this.#who[who]!.keys.push(key)
    this.#whoByKey.set(key, who)
    this.#bytes += bytes
    return who
  }

  /** A new series for a key that has none; −1 when the budget is used up. */
  create(who: number, flags: number, code: number, rest: number, nowMs: number): number {
    const overflow = who < 0
    const reserved = !overflow && this.#who[who]!.series === 0
    if (!overflow && !reserved && !this.#hasRoom(0)) return -1
    if (reserved) this.#reserved--
    const series = this.#free.pop() ?? this.end++
    if (series >= this.#capacity) this.#grow()
    this.size++
    if (overflow) this.#overflowSeries++
    else this.#who[who]!.series++
    this.#bytes += this.#bytesPerSeries
    this.keys.set([who, flags, code, rest], series * KEY)
    this.created[series] = Math.max(nowMs, 1)
    this.lastSeen[series] = nowMs / 1000
    this.#place(combine(who, flags, code, rest), series)
    return series
  }

  /** Number of the series with this key, or −1. */
  find(who: number, flags: number, code: number, rest: number): number {
    const hash = combine(who, flags, code, rest)
    const { slots, keys } = this
    const mask = slots.length - 1
    for (let at = (hash << 1) & mask; ; at = (at + 2) & mask) {
      const series = slots[at + 1]! - 1
      if (series < 0) return -1
      const key = series * KEY
      if (
        slots[at] === hash &&
        keys[key] === who &&
        keys[key + 1] === flags &&
        keys[key + 2] === code &&
        keys[key + 3] === rest
      )
        return series
    }
  }

  isUsed(series: number): boolean {
    return this.created[series] !== 0
  }

  /** Whether a proxy ever told how many messages there were. */
  hasMessages(series: number): boolean {
    return this.messages[2 * series]! > 0 || this.messages[2 * series + 1]! > 0
  }

  protocolOf(series: number): number {
    return this.keys[series * KEY + 3]! & 3
  }

  /** What identifies the first part of the labels of a series: its `who`, for caching texts by it. */
  whoOfSeries(series: number): number {
    return this.keys[series * KEY]!
  }

  identityLabelsOf(who: number): Labels {
    return who < 0 ? overflowLabels(REPORTERS[-1 - who]!) : unpackValues(ALL_IDENTITY_LABELS, this.#who[who]!.text)
  }

  answerLabelsOf(series: number): Labels {
    const key = series * KEY
    const rest = this.keys[key + 3]!
    const protocol = PROTOCOLS[rest & 3]!
    if (this.keys[key]! < 0) return overflowAnswerLabels(protocol)
    return answerLabels({
      protocol,
      policy: POLICIES[(rest >>> 2) & 3]!,
      grpcStatus: (rest >> 4) - 1,
      flags: this.keys[key + 1]!,
      code: this.keys[key + 2]!,
    })
  }

  /** One more observation in a classic bucket: series × bucketsPerSeries + histogram × bucketsPerHistogram + bucket. */
  increment(at: number): void {
    if (++this.buckets[at]! > 0xffff_ffff) this.#wraps.set(at, (this.#wraps.get(at) ?? 0) + 1)
  }

  /** Observations in one classic bucket. */
  bucket(series: number, histogram: number, k: number): number {
    const at = series * this.bucketsPerSeries + histogram * this.bucketsPerHistogram + k
    const wraps = this.#wraps.size === 0 ? undefined : this.#wraps.get(at)
    return this.buckets[at]! + (wraps === undefined ? 0 : wraps * 2 ** 32)
  }

  /** Drops series (never overflow ones) not seen since `seconds`, and identities that nothing uses any more. */
  dropIdle(seconds: number): ReadonlySet<number> {
    const gone = new Set<number>()
    for (let series = 0; series < this.end; series++) {
      if (!this.isUsed(series) || this.keys[series * KEY]! < 0 || this.lastSeen[series]! >= seconds) continue
      gone.add(series)
    }
    for (const series of gone) this.#drop(series)
    if (gone.size > 0) {
      this.#rehash()
      this.generation++
    }
    this.#who.forEach((who, number) => {
      if (who === undefined || who.series > 0) return
      this.#reserved--
      for (const key of who.keys) {
        this.#bytes -= keyBytes(key)
        this.#whoByKey.delete(key)
      }
      this.#bytes -= keyBytes(who.text)
      this.#whoByText.delete(who.text)
      this.#who[number] = undefined
      this.#freeWho.push(number)
      this.generation++
    })
    return gone
  }

  #drop(series: number): void {
    const who = this.#who[this.keys[series * KEY]!]!
    who.series--
    if (who.series === 0) this.#reserved++
    this.counts[series] = 0
    this.sums.fill(0, series * HISTOGRAMS, (series + 1) * HISTOGRAMS)
    this.messages.fill(0, 2 * series, 2 * series + 2)
    this.buckets.fill(0, series * this.bucketsPerSeries, (series + 1) * this.bucketsPerSeries)
    for (const at of this.#wraps.keys()) if (Math.floor(at / this.bucketsPerSeries) === series) this.#wraps.delete(at)
    this.exemplarTimes.fill(0, series * this.bucketsPerHistogram, (series + 1) * this.bucketsPerHistogram)
    this.created[series] = 0
    this.#bytes -= this.#bytesPerSeries
    this.size--
    this.#free.push(series)
  }

  #rehash(): void {
    this.slots.fill(0)
    for (let series = 0; series < this.end; series++) {
      if (!this.isUsed(series)) continue
      const key = series * KEY
      const { keys } = this
      this.#place(combine(keys[key]!, keys[key + 1]!, keys[key + 2]!, keys[key + 3]!), series)
    }
  }

  /** For one more series, and `bytes`. */
  #hasRoom(bytes: number): boolean {
    const held = this.#bytes + this.#reserved * this.#bytesPerSeries
    return this.own + this.#reserved < this.#seriesMax && held + bytes + this.#bytesPerSeries <= this.#bytesMax
  }

  #place(hash: number, series: number): void {
    const { slots } = this
    const mask = slots.length - 1
    let at = (hash << 1) & mask
    while (slots[at + 1] !== 0) at = (at + 2) & mask
    slots[at] = hash
    slots[at + 1] = series + 1
  }

  #grow(): void {
    const before = this.#capacity
    const capacity = before === 0 ? FIRST_CAPACITY : before * 2
    this.#capacity = capacity
    this.keys = grown(this.keys, new Int32Array(capacity * KEY))
    this.counts = grown(this.counts, new Float64Array(capacity))
    this.sums = grown(this.sums, new Float64Array(capacity * HISTOGRAMS))
    this.messages = grown(this.messages, new Float64Array(capacity * 2))
    this.buckets = grown(this.buckets, new Uint32Array(capacity * this.bucketsPerSeries))
    this.exemplarTimes = grown(this.exemplarTimes, new Uint32Array(capacity * this.bucketsPerHistogram))
    this.created = grown(this.created, new Float64Array(capacity))
    this.lastSeen = grown(this.lastSeen, new Uint32Array(capacity))
    this.slots = new Int32Array(4 * capacity)
    this.#rehash()
  }
}

function keyBytes(key: string): number {
  return KEY_BYTES + 2 * key.length
}

function grown<A extends Int32Array | Uint32Array | Float64Array>(before: A, after: A): A {
  after.set(before)
  return after
}
