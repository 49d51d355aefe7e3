import type { MetricStore, Series } from '../../metrics/store.ts'
import { createRejectedLog, type RejectedGroup } from '../als/rejected.ts'
import { HeadTable, hashOf } from '../scrape/head-table.ts'
import { type IdentityOptions, identify } from './identity.ts'
import { type LineProblem, StatsdLine } from './line.ts'
import { createSetCounter, type SetCounter, type SetLimits } from './sets.ts'

/**
 * From lines to series. What a line adds is kept with its metric and handed to the store every `FLUSH_MS`, so that a metric that comes
 * a thousand times costs the store one write.
 *
 *   datagram ─► lines ─► Sender (by address, never by port) ─► entry (by bytes) ─► pending ──100 ms──► metric store
 */
export interface StatsdCollector {
  /** Lines separated by `\n`, of the sender with this address. */
  take(bytes: Uint8Array, start: number, end: number, sender: string): void
  /** One line that is whole. */
  takeLine(bytes: Uint8Array, start: number, end: number, sender: string): void
  /** A line that is too long to be held. */
  oversized(sender: string): void
  /** Hands on what is pending. */
  flush(): void
  start(): void
  stop(): void
  readonly counters: Readonly<StatsdLineCounters>
  rejected(): RejectedGroup[]
}

export interface StatsdLineCounters {
  /** Lines taken as metrics. */
  lines: number
  /** Values in them. */
  values: number
  events: number
  serviceChecks: number
  /** Dropped by a mapping rule. */
  mappedAway: number
  /** Lines refused, by reason. */
  readonly rejected: Map<LineProblem, number>
  /** Increases of a counter below 0, which are left out. */
  negative: number
  senders: number
  /** Metrics at hand now, over all senders. */
  metrics: number
  /** Senders forgotten because there were too many of them, or too many metrics; they go on, at the cost of being found again. */
  forgotten: number
  /** Different values of sets at hand, and those that had no room: the gauge is then too low. */
  setValues: number
  setValuesDropped: number
  /** Wall clock, ms, of the last line, as the next flush finds it; 0 before the first. */
  lastMs: number
}

export interface StatsdCollectorOptions extends IdentityOptions {
  readonly metrics: MetricStore
  /** Sets are counted for so long. */
  readonly setIntervalMs?: number
  readonly limits?: Partial<CollectorLimits & SetLimits>
  /** Wall clock, ms. */
  readonly clock?: () => number
}

export interface CollectorLimits {
  readonly sendersMax: number
  /** Over all senders; 400 bytes each. */
  readonly metricsMax: number
}

const LIMITS: CollectorLimits = { sendersMax: 4096, metricsMax: 1_000_000 }
const FLUSH_MS = 100
/** Observations held for one metric between flushes. */
const VALUES_HELD = 1024
const SWEEP_MS = 1000
const SET_INTERVAL_MS = 10_000
const COLON = 0x3a
/** A sender of nothing but damage costs one look at it in this time. */
const SAMPLE_MS = 100
const NEWLINE = 0x0a
const RETURN = 0x0d

interface Entry {
  /** Null: a mapping rule drops the metric. */
  readonly series: Series | null
  readonly kind: 'counter' | 'gauge' | 'observer' | 'set'
  readonly scale: number
  readonly ttlMs: number
  dirty: boolean
  /** Increase of a counter, change or value of a gauge. */
  pending: number
  /** Whether `pending` is a value and no change. */
  absolute: boolean
  /** Observations, all of one weight. */
  values: number[]
  weight: number
  lastMs: number
  stale: boolean
}

class Sender {
  readonly address: string
  readonly table = new HeadTable()
  readonly entries: Entry[] = []
  /** It has sent tags: names are not searched for them. */
  tagged = false

  constructor(address: string) {
    this.address = address
  }
}

export function createStatsdCollector(options: StatsdCollectorOptions): StatsdCollector {
  return new Collector(options)
}

class Collector implements StatsdCollector {
  readonly counters: StatsdLineCounters = {
    lines: 0,
    values: 0,
    events: 0,
    serviceChecks: 0,
    mappedAway: 0,
    rejected: new Map(),
    negative: 0,
    senders: 0,
    metrics: 0,
    forgotten: 0,
    setValues: 0,
    setValuesDropped: 0,
    lastMs: 0,
  }
  readonly #options: StatsdCollectorOptions
  readonly #limits: CollectorLimits
  readonly #clock: () => number
  readonly #line = new StatsdLine()
  readonly #senders = new Map<string, Sender>()
  #last: Sender | null = null
  /** Lines at the last flush. */
  #flushed = 0
  #dirty: Entry[] = []
  /** Entries with a time to live. */
  readonly #mortal = new Set<Entry>()
  readonly #rejectedLog = createRejectedLog()
  #sampledMs = 0
  readonly #sets: SetCounter
  readonly #seed = (Math.random() * 2 ** 32) | 0
  #flushTimer: NodeJS.Timeout | null = null
  #sweepTimer: NodeJS.Timeout | null = null

  constructor(options: StatsdCollectorOptions) {
    this.#options = options
    this.#limits = { ...LIMITS, ...options.limits }
    this.#clock = options.clock ?? Date.now
    const { metrics, limits = {}, setIntervalMs = SET_INTERVAL_MS } = options
    this.#sets = createSetCounter({ metrics, limits, intervalMs: setIntervalMs })
  }

  start(): void {
    this.#flushTimer ??= setInterval(() => this.flush(), FLUSH_MS).unref()
    this.#sweepTimer ??= setInterval(() => this.#sweep(), SWEEP_MS).unref()
  }

  stop(): void {
    if (this.#flushTimer !== null) clearInterval(this.#flushTimer)
    if (this.#sweepTimer !== null) clearInterval(this.#sweepTimer)
    this.#flushTimer = this.#sweepTimer = null
    this.flush()
    this.#sets.end(this.#clock())
  }

  rejected(): RejectedGroup[] {
    return this.#rejectedLog.list()
  }

  take(bytes: Uint8Array, start: number, end: number, sender: string): void {
    let from = start
    while (from < end) {
      let to = from
      while (to < end && bytes[to] !== NEWLINE) to++
      this.takeLine(bytes, from, to, sender)
      from = to + 1
    }
  }

  takeLine(bytes: Uint8Array, start: number, end: number, address: string): void {
    const last = end > start && bytes[end - 1] === RETURN ? end - 1 : end
    if (last === start) return
    const line = this.#line
    if (!line.parse(bytes, start, last)) {
      this.#reject(line.problem!, bytes, start, last, address)
      return
    }
    if (line.kind !== 'metric') {
      if (line.kind === 'event') this.counters.events++
      else this.counters.serviceChecks++
      return
    }
    this.counters.lines++
    this.counters.values += line.count
    const sender = this.#last?.address === address ? this.#last : this.#senderOf(address)
    const entry = this.#entryOf(sender, line)
    if (entry.series === null) this.counters.mappedAway++
    else if (entry.kind === 'set') this.#addTexts(entry, entry.series, bytes)
    else if (line.timeMs > 0 && entry.kind !== 'observer') this.#writeTimed(entry, entry.series, line)
    else this.#add(entry, line)
  }

  oversized(address: string): void {
    this.#reject('oversized', EMPTY, 0, 0, address)
  }

  flush(): void {
    this.#sets.flush(this.#clock())
    Object.assign(this.counters, this.#sets.counters)
    const { lines } = this.counters
    if (lines === this.#flushed && this.#dirty.length === 0) return
    const now = this.#clock()
    if (lines > this.#flushed) this.counters.lastMs = now
    this.#flushed = lines
    const dirty = this.#dirty
    this.#dirty = []
    // One that was written in between is in the list twice.
    for (const entry of dirty) if (entry.dirty) this.#write(entry, now)
  }

  #write(entry: Entry, now: number): void {
    const { metrics } = this.#options
    const series = entry.series!
    entry.dirty = false
    entry.lastMs = now
    entry.stale = false
    if (entry.kind === 'counter') metrics.addCounter(series, now, entry.pending)
    else if (entry.kind === 'observer') {
      const { values, weight } = entry
      entry.values = []
      metrics.distribution(series, now, { kind: 'values', values, weight })
    } else if (entry.absolute) metrics.setGauge(series, now, entry.pending)
    else metrics.addGauge(series, now, entry.pending)
    entry.pending = 0
    entry.absolute = false
  }

  #add(entry: Entry, line: StatsdLine): void {
    const { values, count, rate } = line
    if (entry.kind === 'observer') {
      const weight = 1 / rate
      if (entry.values.length > 0 && (entry.weight !== weight || entry.values.length + count > VALUES_HELD))
        this.#write(entry, this.#clock())
      entry.weight = weight
      for (let k = 0; k < count; k++) entry.values.push(values[k]! * entry.scale)
    } else if (entry.kind === 'counter') {
      for (let k = 0; k < count; k++) {
        if (values[k]! < 0) this.counters.negative++
        else entry.pending += (values[k]! * entry.scale) / rate
      }
    } else {
      for (let k = 0; k < count; k++) {
        if (line.signed) entry.pending += values[k]! * entry.scale
        else {
          entry.pending = values[k]! * entry.scale
          entry.absolute = true
        }
      }
    }
    if (entry.dirty) return
    entry.dirty = true
    this.#dirty.push(entry)
  }

  /** Values of a set, colons between them. A rate says nothing of how many there are. */
  #addTexts(entry: Entry, series: Series, bytes: Uint8Array): void {
    const { valuesFrom, valuesTo } = this.#line
    for (let from = valuesFrom; from < valuesTo; ) {
      let to = from
      while (to < valuesTo && bytes[to] !== COLON) to++
      this.#sets.add(series, bytes, from, to)
      from = to + 1
    }
    entry.lastMs = this.#clock()
    entry.stale = false
  }

  /** The sender says when it was: it stands for itself. */
  #writeTimed(entry: Entry, series: Series, line: StatsdLine): void {
    const { metrics } = this.#options
    if (entry.dirty && entry.kind === 'gauge') this.#write(entry, this.#clock())
    for (let k = 0; k < line.count; k++) {
      const value = line.values[k]! * entry.scale
      if (entry.kind === 'gauge') metrics.setGauge(series, line.timeMs, value)
      else if (value < 0) this.counters.negative++
      else metrics.addCounter(series, line.timeMs, value / line.rate)
    }
    entry.lastMs = this.#clock()
    entry.stale = false
  }

  #entryOf(sender: Sender, line: StatsdLine): Entry {
    const { table } = sender
    const { key, keyLength } = line
    const expected = table.expected(key, 0, keyLength)
    if (expected >= 0 && table.lengthOf(expected) === keyLength) return sender.entries[expected]!
    const hash = hashOf(key, 0, keyLength, this.#seed)
    const number = table.find(key, 0, keyLength, hash)
    if (number >= 0) return sender.entries[number]!
    if (this.counters.metrics >= this.#limits.metricsMax) this.#forgetAll()
    if (line.tagsEnd > line.nameEnd + 1) sender.tagged = true
    const entry = this.#makeEntry(sender, line)
    sender.entries.push(entry)
    table.add(key, 0, keyLength, hash)
    this.counters.metrics++
    return entry
  }

  #makeEntry(sender: Sender, line: StatsdLine): Entry {
    const found = identify(line, sender.address, sender.tagged, this.#options)
    const entry: Entry = {
      series: found === null ? null : this.#options.metrics.series(found.identity),
      kind: KINDS[line.type],
      scale: found?.scale ?? 1,
      ttlMs: found?.ttlMs ?? 0,
      dirty: false,
      pending: 0,
      absolute: false,
      values: [],
      weight: 1,
      lastMs: this.#clock(),
      stale: false,
    }
    if (entry.ttlMs > 0) this.#mortal.add(entry)
    return entry
  }

  #senderOf(address: string): Sender {
    let sender = this.#senders.get(address)
    if (sender === undefined) {
      if (this.#senders.size >= this.#limits.sendersMax) this.#forget(this.#senders.values().next().value!)
      sender = new Sender(address)
      this.#senders.set(address, sender)
      this.counters.senders = this.#senders.size
    }
    this.#last = sender
    return sender
  }

  #forgetAll(): void {
    this.flush()
    for (const sender of this.#senders.values()) {
      this.counters.forgotten++
      sender.table.clear()
      sender.entries.length = 0
    }
    this.#mortal.clear()
    this.counters.metrics = 0
  }

  #forget(sender: Sender): void {
    this.flush()
    this.counters.forgotten++
    this.counters.metrics -= sender.entries.length
    for (const entry of sender.entries) this.#mortal.delete(entry)
    this.#senders.delete(sender.address)
  }

  #sweep(): void {
    const now = this.#clock()
    for (const entry of this.#mortal) {
      if (entry.dirty || entry.stale || now - entry.lastMs < entry.ttlMs) continue
      entry.stale = true
      this.#options.metrics.stale(entry.series!, now)
    }
  }

  #reject(reason: LineProblem, bytes: Uint8Array, start: number, end: number, peer: string): void {
    const { rejected } = this.counters
    rejected.set(reason, (rejected.get(reason) ?? 0) + 1)
    const timeMs = this.#clock()
    if (timeMs - this.#sampledMs < SAMPLE_MS) return
    this.#sampledMs = timeMs
    this.#rejectedLog.add({ timeMs, reason, peer, nodeId: '', logName: '', count: 1, bytes, start, end, offset: 0 })
  }
}

const EMPTY = new Uint8Array(0)
const KINDS = { c: 'counter', g: 'gauge', t: 'observer', h: 'observer', d: 'observer', s: 'set' } as const
