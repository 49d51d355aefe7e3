import { hostOf } from '../../lib/units.ts'
import { ofCumulative } from '../../metrics/distribution.ts'
import { type EnvoyName, envoyName } from '../../metrics/envoy-names.ts'
import type { Series, SeriesType } from '../../metrics/store.ts'
import type { Origin } from '../../model/batch.ts'
import type { createRejectedLog } from '../als/rejected.ts'
import type { CallInfo } from '../grpc/index.ts'
import { HeadTable, hashOf } from '../scrape/head-table.ts'
import { type CounterMode, type CounterModes, FLUSHES } from './counter-mode.ts'
import { type createMessageReader, METRIC_TYPE, type MetricReader, type MetricVisitor } from './decode.ts'
import {
  METRICS_SERVICE_JOB,
  type MetricsServiceCounters,
  type MetricsServiceOptions,
  type MetricsStreamHandler,
} from './receiver.ts'

export interface StreamShared extends Omit<MetricsServiceOptions, 'clock'> {
  readonly clock: () => number
  readonly counters: MetricsServiceCounters
  readonly rejectedLog: ReturnType<typeof createRejectedLog>
  readonly reader: ReturnType<typeof createMessageReader>
  readonly modes: CounterModes
  readonly onClose: (stream: MetricsStreamHandler) => void
}

export interface MetricsStream {
  readonly peer: string
  /** Null until the stream has said who it is. */
  readonly origin: Origin | null
  readonly counterMode: CounterMode
  readonly sinceMs: number
  readonly lastMs: number
  readonly messages: number
  readonly bytes: number
  /** Different metrics. */
  readonly series: number
}

export function openMetricsStream(shared: StreamShared, call: CallInfo): MetricsStreamHandler {
  return new Stream(shared, call)
}

/** What a stream knows of a metric. */
interface Entry {
  readonly series: Series
  /** What a counter said last, NaN before it said anything. */
  last: number
  /** The sum of all that it said, while it is not known whether these are increases. */
  sum: number
}

/** A distribution that came as summary and may follow as histogram, which says more. */
interface Held {
  readonly number: number
  readonly entry: Entry
  readonly timeMs: number
  readonly count: number
  readonly sum: number
  readonly quantiles: readonly (readonly [number, number])[]
}

/** Metrics that a stream keeps at hand, of about 250 bytes each. A proxy with 1 000 clusters has 150 000. */
const ENTRIES_MAX = 400_000
/** StreamMetricsResponse has no fields. */
const RESPONSE = new Uint8Array(0)
const SEED = (Math.random() * 2 ** 32) | 0
/** Sets of bounds that a stream may use; a proxy has one, and one for each `histogram_bucket_settings`. */
const BOUNDS_MAX = 64
const TYPES: readonly SeriesType[] = ['counter', 'gauge', 'histogram', 'untyped', 'histogram', 'histogram']

class Stream implements MetricsStreamHandler, MetricVisitor {
  readonly #shared: StreamShared
  readonly #call: CallInfo
  #origin: Origin | null = null
  #instance: string
  #mode: CounterMode = 'unknown'
  /** Whether tags come as labels. Then a name without labels has none, and is not searched for any. */
  #labels = false
  #flushes = 0
  #flushMs = 0
  /** A counter above 0 was seen. */
  #counted = false
  readonly #table = new HeadTable()
  #entries: Entry[] = []
  /** By number of the entry: it has come as a histogram, so that its summaries say nothing more. */
  #asHistogram: boolean[] = []
  /** The last summary, while a histogram of the same metric may follow. */
  #held: Held | null = null
  readonly #bounds: (readonly number[])[] = []
  #now = 0
  #messages = 0
  #bytes = 0
  #lastMs: number

  constructor(shared: StreamShared, call: CallInfo) {
    this.#shared = shared
    this.#call = call
    this.#instance = hostOf(call.peer)
    this.#lastMs = call.openedMs
  }

  onMessage(bytes: Uint8Array, start: number, end: number): null {
    const { reader, counters, clock } = this.#shared
    this.#now = clock()
    this.#table.rewind()
    const result = reader.read(bytes, start, end, this)
    counters.messages++
    counters.bytes += end - start
    counters.families += result.families
    counters.lastMs = this.#lastMs = this.#now
    this.#messages++
    this.#bytes += end - start
    if (result.rejected > 0) {
      const reason = result.reason ?? 'malformed'
      counters.rejected.set(reason, (counters.rejected.get(reason) ?? 0) + result.rejected)
      this.#shared.rejectedLog.add({
        timeMs: this.#now,
        reason,
        peer: this.#call.peer,
        nodeId: this.#origin?.nodeId ?? '',
        logName: '',
        count: result.rejected,
        bytes,
        start,
        end,
        offset: result.offset,
      })
    }
    return null
  }

  onEnd(): Uint8Array {
    return RESPONSE
  }

  onClose(): void {
    this.#releaseHeld()
    this.#shared.onClose(this)
  }

  describe(): MetricsStream {
    return {
      peer: this.#call.peer,
      origin: this.#origin,
      counterMode: this.#mode,
      sinceMs: this.#call.openedMs,
      lastMs: this.#lastMs,
      messages: this.#messages,
      bytes: this.#bytes,
      series: this.#entries.length,
    }
  }

  onIdentifier(bytes: Uint8Array, from: number, to: number): void {
    const origin = this.#shared.nodes.read(bytes, from, to)
    const instance = origin.nodeId || hostOf(this.#call.peer)
    if (instance !== this.#instance) this.#forget()
    this.#origin = origin
    this.#instance = instance
    this.#mode = this.#shared.modes.get(instance)
    this.#flushes = 0
  }

  onMetric(metric: MetricReader): void {
    if (metric.labelCount > 0 && !this.#labels) {
      // Names that came before may have been searched for tags which the sender's own rules do not know.
      this.#labels = true
      this.#forget()
    }
    const timeMs = metric.timestampMs > 0 ? metric.timestampMs : this.#now
    const number = this.#numberOf(metric)
    const entry = number < 0 ? { series: this.#seriesOf(metric), last: Number.NaN, sum: 0 } : this.#entries[number]!
    if (this.#held !== null && this.#held.number !== number) this.#releaseHeld()
    if (metric.type === METRIC_TYPE.counter) this.#counter(entry, timeMs, metric.value)
    else if (metric.type === METRIC_TYPE.summary) this.#summary(entry, number, timeMs, metric)
    else if (metric.type >= METRIC_TYPE.histogram) this.#histogram(entry, number, timeMs, metric)
    else if (Number.isFinite(metric.value)) {
      this.#shared.counters.metrics++
      this.#shared.metrics.setGauge(entry.series, timeMs, metric.value)
    } else this.#shared.counters.notFinite++
  }

  #counter(entry: Entry, timeMs: number, value: number): void {
    const { metrics, counters } = this.#shared
    if (!Number.isFinite(value) || value < 0) {
      counters.notFinite++
      return
    }
    counters.metrics++
    if (timeMs > this.#flushMs) {
      this.#flushMs = timeMs
      this.#onFlush()
    }
    if (this.#mode === 'unknown' && value < entry.last) this.#foundDelta()
    if (value > 0) this.#counted = true
    if (this.#mode === 'delta') metrics.addCounter(entry.series, timeMs, value)
    else metrics.setCounter(entry.series, timeMs, value)
    entry.last = value
    entry.sum += value
  }

  #onFlush(): void {
    this.#flushes++
    if (this.#mode !== 'unknown' || this.#flushes <= FLUSHES || !this.#counted) return
    this.#mode = 'absolute'
    this.#shared.modes.set(this.#instance, 'absolute')
  }

  /**
   * A counter fell: what came were increases. The store begins to add up at 0, so each counter is given all that it said so far: what was
   * written as totals ends there.
   */
  #foundDelta(): void {
    for (const { series, sum } of this.#entries) {
      if (series.type === 'counter') this.#shared.metrics.addCounter(series, this.#flushMs, sum)
    }
    this.#mode = 'delta'
    this.#shared.modes.set(this.#instance, 'delta')
  }

  #summary(entry: Entry, number: number, timeMs: number, metric: MetricReader): void {
    if (number >= 0 && this.#asHistogram[number]) {
      this.#shared.counters.summariesBeside++
      return
    }
    const { count, sum, points, at, of } = metric
    const quantiles: (readonly [number, number])[] = []
    for (let k = 0; k < points; k++) quantiles.push([at[k]!, of[k]!])
    this.#held = { number, entry, timeMs, count, sum, quantiles }
    if (number < 0) this.#releaseHeld()
  }

  /** No histogram followed: the summary is all there is. */
  #releaseHeld(): void {
    const held = this.#held
    this.#held = null
    if (held === null) return
    const { entry, timeMs, count, sum, quantiles } = held
    this.#shared.counters.metrics++
    this.#shared.metrics.distribution(entry.series, timeMs, {
      kind: 'summary',
      temporality: 'delta',
      count,
      sum,
      quantiles: count === 0 ? [] : quantiles,
    })
  }

  #histogram(entry: Entry, number: number, timeMs: number, metric: MetricReader): void {
    const { counters, metrics } = this.#shared
    if (number >= 0) this.#asHistogram[number] = true
    if (this.#held !== null) {
      this.#held = null
      counters.summariesBeside++
    }
    const { points, at, of, count, sum } = metric
    const cumulative = new Float64Array(points + 1)
    cumulative.set(of.subarray(0, points))
    cumulative[points] = count
    counters.metrics++
    metrics.distribution(entry.series, timeMs, {
      kind: 'explicit',
      temporality: 'delta',
      count,
      sum,
      bounds: this.#boundsOf(at, points),
      counts: ofCumulative(cumulative),
    })
  }

  /** The same array for the same bounds. */
  #boundsOf(at: Float64Array, length: number): readonly number[] {
    for (const known of this.#bounds) {
      if (known.length !== length) continue
      let k = 0
      while (k < length && known[k] === at[k]) k++
      if (k === length) return known
    }
    const bounds = [...at.subarray(0, length)]
    if (this.#bounds.length < BOUNDS_MAX) this.#bounds.push(bounds)
    return bounds
  }

  /** Number of the metric's entry; −1 when no more are kept. */
  #numberOf(metric: MetricReader): number {
    const { key, keyLength } = metric
    const hash = hashOf(key, 0, keyLength, SEED)
    const known = this.#table.find(key, 0, keyLength, hash)
    if (known >= 0) return known
    if (this.#entries.length === ENTRIES_MAX) {
      this.#shared.counters.uncached++
      return -1
    }
    this.#entries.push({ series: this.#seriesOf(metric), last: Number.NaN, sum: 0 })
    this.#asHistogram.push(false)
    return this.#table.add(key, 0, keyLength, hash)
  }

  #seriesOf(metric: MetricReader): Series {
    const { name, labels } = this.#nameOf(metric)
    return this.#shared.metrics.series({
      job: METRICS_SERVICE_JOB,
      instance: this.#instance,
      name,
      labels,
      type: TYPES[metric.type] ?? 'untyped',
    })
  }

  #nameOf({ bytes, nameFrom, nameTo, labelCount, labels }: MetricReader): EnvoyName {
    const stat = textOf(bytes, nameFrom, nameTo)
    if (!this.#labels) {
      const { envoy, istio } = this.#shared.names
      return (isIstio(this.#origin) ? istio : envoy).ofStat(stat)
    }
    const tags: [string, string][] = []
    for (let k = 0; k < 4 * labelCount; k += 4) {
      tags.push([textOf(bytes, labels[k]!, labels[k + 1]!), textOf(bytes, labels[k + 2]!, labels[k + 3]!)])
    }
    return envoyName(stat, tags)
  }

  #forget(): void {
    this.#releaseHeld()
    this.#table.clear()
    this.#entries = []
    this.#asHistogram = []
  }
}

/** `<type>~<ip>~<pod>.<namespace>~<domain>`: Istio's proxies have tag rules of their own. */
function isIstio(origin: Origin | null): boolean {
  return origin !== null && origin.nodeId.split('~').length === 4
}

function textOf(bytes: Uint8Array, from: number, to: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString('utf8')
}

/** A sender that does not say who it is, is its address: the port changes with every connection. */
