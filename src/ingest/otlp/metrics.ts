import { createGenerations, type Generations } from '../../lib/generations.ts'
import type { BucketRun, Distribution } from '../../metrics/distribution.ts'
import { type EnvoyNames, sanitise } from '../../metrics/envoy-names.ts'
import type { Label, MetricStore, Series, SeriesType } from '../../metrics/store.ts'
import { type AnyValueReader, createAnyValueReader } from './any-value.ts'
import { count, type Decoded } from './counters.ts'
import { FIXED64, Fields, LEN, VARINT } from './fields.ts'
import { envoyMetricName, type MetricName, prometheusName } from './metric-names.ts'
import { type Resource, type ResourceReader, readPair, type Sender } from './resource.ts'

/**
 * Data points of an `ExportMetricsServiceRequest`, into the metric store. A point's series is looked up by the bytes of
 * its metric and attributes, so a sender that tells the same series at every flush is not read anew each time.
 */
export interface MetricsDecoder {
  /** Decodes one request. Never throws for bad input. */
  decode(bytes: Uint8Array, start: number, end: number, sender: Sender, receivedMs: number): Decoded
  readonly counters: Readonly<MetricsCounters>
}

export interface MetricsCounters {
  /** Points rejected, by reason. */
  readonly rejected: Map<string, number>
  /** Points that only say that there is no value. */
  stale: number
  /** Points without a usable time: they are of when they arrived. */
  untimed: number
  /** Attributes left out and texts cut because of limits. */
  cut: number
}

export interface MetricsDecoderOptions {
  readonly store: MetricStore
  readonly resources: ResourceReader
  readonly names: EnvoyNames
  /** What Envoy's sink puts before its names (`prefix` of its configuration). */
  readonly prefix: string
  readonly limits?: Partial<MetricsLimits>
}

export interface MetricsLimits {
  readonly attributesMax: number
  readonly valueBytesMax: number
  readonly bucketsMax: number
  /** Series found by their bytes; past it the older half is looked up anew. */
  readonly cachedMax: number
}

export const METRICS_LIMITS: MetricsLimits = {
  attributesMax: 64,
  valueBytesMax: 1024,
  bucketsMax: 4096,
  cachedMax: 200_000,
}

const NAME_BYTES_MAX = 1024
const FUTURE_MS = 86_400_000
const OLDEST_MS = 946_684_800_000
const DELTA = 1
const CUMULATIVE = 2
/** DataPointFlags. */
const NO_RECORDED_VALUE = 1

/** Where the parts of a metric stand: field numbers of its data, of the attributes and flags of its points. */
const KINDS: Readonly<Record<number, Kind>> = {
  5: { kind: 'gauge', attributes: 7, flags: 8 },
  7: { kind: 'sum', attributes: 7, flags: 8 },
  9: { kind: 'histogram', attributes: 9, flags: 10 },
  10: { kind: 'exponential', attributes: 1, flags: 10 },
  11: { kind: 'summary', attributes: 7, flags: 8 },
}
interface Kind {
  readonly kind: 'gauge' | 'sum' | 'histogram' | 'exponential' | 'summary'
  readonly attributes: number
  readonly flags: number
}

/** A metric of a request. */
interface Metric {
  name: string
  help: string
  unit: string
  /** Null: it has no data, or data of a kind not known here. */
  kind: Kind | null
  temporality: number
  monotonic: boolean
  type: SeriesType
  from: number
  to: number
}

export function createMetricsDecoder(options: MetricsDecoderOptions): MetricsDecoder {
  return new Decoder(options)
}

class Decoder implements MetricsDecoder {
  readonly counters: MetricsCounters = { rejected: new Map(), stale: 0, untimed: 0, cut: 0 }
  readonly #options: MetricsDecoderOptions
  readonly #limits: MetricsLimits
  readonly #any: AnyValueReader
  readonly #series: Generations<string, Series>
  readonly #bounds = new Map<string, readonly number[]>()
  readonly #request = new Fields()
  readonly #group = new Fields()
  readonly #scoped = new Fields()
  readonly #metricFields = new Fields()
  readonly #data = new Fields()
  readonly #point = new Fields()
  readonly #inner = new Fields()
  readonly #pair = new Fields()
  #start = 0
  #receivedMs = 0
  #items = 0
  #rejected = 0
  #reason = ''
  #offset = 0
  #malformed = false

  constructor(options: MetricsDecoderOptions) {
    this.#options = options
    this.#limits = { ...METRICS_LIMITS, ...options.limits }
    this.#any = createAnyValueReader({ depthMax: 16, bytesMax: this.#limits.valueBytesMax })
    this.#series = createGenerations(this.#limits.cachedMax)
  }

  decode(bytes: Uint8Array, start: number, end: number, sender: Sender, receivedMs: number): Decoded {
    this.#start = start
    this.#receivedMs = receivedMs
    this.#items = 0
    this.#rejected = 0
    this.#reason = ''
    this.#offset = 0
    this.#malformed = false
    const cutBefore = this.#any.cut
    const request = this.#request.enter(bytes, start, end)
    while (request.next()) if (request.number === 1 && request.wireType === LEN) this.#resourceMetrics(sender)
    this.#check(request)
    this.counters.cut += this.#any.cut - cutBefore
    return {
      items: this.#items,
      rejected: this.#rejected,
      reason: this.#reason,
      offset: this.#offset,
      malformed: this.#malformed,
    }
  }

  #resourceMetrics(sender: Sender): void {
    const request = this.#request
    const group = this.#group.into(request)
    let from = request.from
    let to = request.from
    while (group.next()) {
      if (group.number !== 1 || group.wireType !== LEN) continue
      from = group.from
      to = group.to
    }
    const resource = this.#options.resources.read(request.bytes, from, to, sender)
    group.into(request)
    while (group.next()) {
      if (group.number !== 2 || group.wireType !== LEN) continue
      const scoped = this.#scoped.into(group)
      while (scoped.next()) if (scoped.number === 2 && scoped.wireType === LEN) this.#metric(resource)
      this.#check(scoped)
    }
    this.#check(group)
    if (!resource.envoy) this.#describe(resource)
  }

  /**
   * `target_info`: what a resource says of itself beyond its job and instance, as Prometheus has it. Each time, so that
   * it does not go stale while the sender lives.
   */
  #describe(resource: Resource): void {
    if (resource.job === '') return
    const labels: Label[] = []
    for (const [name, value] of resource.attributes) {
      if (!OF_THE_JOB.has(name)) labels.push([sanitise(name), value])
    }
    if (labels.length === 0) return
    const series = this.#options.store.series({
      job: resource.job,
      instance: resource.instance,
      name: 'target_info',
      labels: merged(labels),
      type: 'gauge',
    })
    this.#options.store.setGauge(series, this.#receivedMs, 1)
  }

  #metric(resource: Resource): void {
    const metric = this.#head()
    if (metric === null) return
    const { kind } = metric
    if (kind === null) return // Nothing in it, or a kind of a later version: unknown fields are ignored.
    const { bytes } = this.#scoped
    const data = this.#data.enter(bytes, metric.from, metric.to)
    while (data.next()) {
      if (data.number !== 1 || data.wireType !== LEN) continue
      this.#items++
      if (metric.name === '') this.#refuse('no_name', data.from)
      else if (metric.temporality !== DELTA && metric.temporality !== CUMULATIVE) {
        this.#refuse('no_temporality', data.from)
      } else this.#dataPoint(resource, metric, kind)
    }
    this.#check(data)
  }

  /** Everything of a Metric but its points, wherever it stands. Null: it cannot be read. */
  #head(): Metric | null {
    const fields = this.#metricFields.into(this.#scoped)
    const metric: Metric = {
      name: '',
      help: '',
      unit: '',
      kind: null,
      temporality: CUMULATIVE,
      monotonic: false,
      type: 'gauge',
      from: 0,
      to: 0,
    }
    while (fields.next()) {
      if (fields.wireType !== LEN) continue
      if (fields.number === 1) metric.name = fields.text(NAME_BYTES_MAX)
      else if (fields.number === 2) metric.help = fields.text(NAME_BYTES_MAX)
      else if (fields.number === 3) metric.unit = fields.text(64)
      else if (Object.hasOwn(KINDS, fields.number)) {
        metric.kind = KINDS[fields.number]!
        metric.from = fields.from
        metric.to = fields.to
      }
    }
    if (fields.broken) {
      this.#check(fields)
      return null
    }
    const { kind } = metric
    if (kind !== null && kind.kind !== 'gauge' && kind.kind !== 'summary') {
      metric.temporality = 0
      const data = this.#data.enter(fields.bytes, metric.from, metric.to)
      while (data.next()) {
        if (data.wireType !== VARINT) continue
        if (data.number === 2) metric.temporality = data.value
        else if (data.number === 3) metric.monotonic = data.value !== 0
      }
    }
    metric.type = typeOf(metric)
    return metric
  }

  #dataPoint(resource: Resource, metric: Metric, kind: Kind): void {
    const series = this.#seriesOf(resource, metric, kind)
    if (series === null) return
    const point = this.#point.into(this.#data)
    let timeMs = 0
    let startMs = 0
    let flags = 0
    let value = Number.NaN
    let has = false
    while (point.next()) {
      const { number, wireType } = point
      if (number === kind.flags && wireType === VARINT) flags = point.value
      else if (wireType !== FIXED64) continue
      else if (number === 2) startMs = point.timeMs
      else if (number === 3) timeMs = point.timeMs
      else if (number === 4) {
        value = point.double
        has = true
      } else if (number === 6) {
        value = point.signed64
        has = true
      }
    }
    if (timeMs < OLDEST_MS || timeMs > this.#receivedMs + FUTURE_MS) {
      this.counters.untimed++
      timeMs = this.#receivedMs
    }
    // Envoy before 1.37 gives the time of the last flush as the start of values that are since its own start.
    const told = startMs >= OLDEST_MS && startMs <= timeMs && (resource.startTimes || metric.temporality === DELTA)
    const start = told ? startMs : undefined
    if ((flags & NO_RECORDED_VALUE) !== 0) {
      this.counters.stale++
      this.#options.store.stale(series, timeMs)
    } else if (kind.kind === 'gauge' || kind.kind === 'sum') {
      if (has) this.#number(series, metric, timeMs, value, start)
      else this.#refuse('no_value', this.#data.from)
    } else this.#distribution(series, metric, kind, timeMs, start)
  }

  #number(series: Series, metric: Metric, timeMs: number, value: number, startMs: number | undefined): void {
    const { store } = this.#options
    if (metric.type === 'counter') {
      if (Number.isNaN(value)) this.#refuse('not_a_number', this.#data.from)
      else if (value < 0) this.#refuse('negative', this.#data.from)
      else if (metric.temporality === DELTA) store.addCounter(series, timeMs, value, startMs)
      else store.setCounter(series, timeMs, value, startMs)
    } else if (metric.temporality === DELTA) store.addGauge(series, timeMs, value)
    else store.setGauge(series, timeMs, value)
  }

  #distribution(series: Series, metric: Metric, kind: Kind, timeMs: number, startMs: number | undefined): void {
    const distribution =
      kind.kind === 'histogram'
        ? this.#histogram(metric, startMs)
        : kind.kind === 'exponential'
          ? this.#exponential(metric, startMs)
          : this.#summary(startMs)
    if (typeof distribution === 'string') this.#refuse(distribution, this.#data.from)
    else this.#options.store.distribution(series, timeMs, distribution)
  }

  /** HistogramDataPoint: `count` #4, `sum` #5, `bucket_counts` #6, `explicit_bounds` #7, `min` #11, `max` #12. */
  #histogram(metric: Metric, startMs: number | undefined): Distribution | string {
    const point = this.#point.into(this.#data)
    const figures = { count: 0, sum: Number.NaN, min: Number.NaN, max: Number.NaN }
    const counts: number[] = []
    let bounds: readonly number[] = []
    while (point.next()) {
      const { number, wireType } = point
      if (wireType === FIXED64) {
        if (number === 4) figures.count = point.unsigned64
        else if (number === 5) figures.sum = point.double
        else if (number === 6) counts.push(point.unsigned64)
        else if (number === 7) bounds = [...bounds, point.double]
        else if (number === 11) figures.min = point.double
        else if (number === 12) figures.max = point.double
      } else if (wireType === LEN && (number === 6 || number === 7)) {
        if ((point.to - point.from) % 8 !== 0) return 'malformed'
        if (point.to - point.from > 8 * this.#limits.bucketsMax) return 'too_many_buckets'
        if (number === 7) bounds = this.#boundsOf(point)
        else {
          for (let at = point.from; at < point.to; at += 8) {
            counts.push(point.view.getUint32(at + 4, true) * 2 ** 32 + point.view.getUint32(at, true))
          }
        }
      }
      if (bounds.length > this.#limits.bucketsMax) return 'too_many_buckets'
    }
    if (point.broken) return 'malformed'
    // A histogram may have no buckets at all: count and sum alone.
    if (counts.length === 0 && bounds.length === 0) counts.push(figures.count)
    if (counts.length !== bounds.length + 1) return 'bad_buckets'
    for (let k = 0; k < bounds.length; k++) {
      if (Number.isNaN(bounds[k]!) || (k > 0 && bounds[k]! <= bounds[k - 1]!)) return 'bad_buckets'
    }
    return { kind: 'explicit', ...figuresOf(figures), ...since(metric.temporality, startMs), bounds, counts }
  }

  /** Bounds are the same at every flush: one array for equal ones. */
  #boundsOf(point: Fields): readonly number[] {
    const key = Buffer.from(point.bytes.buffer, point.bytes.byteOffset + point.from, point.to - point.from).toString(
      'latin1',
    )
    const found = this.#bounds.get(key)
    if (found !== undefined) return found
    const bounds: number[] = []
    for (let at = point.from; at < point.to; at += 8) bounds.push(point.view.getFloat64(at, true))
    if (this.#bounds.size >= BOUNDS_MAX) this.#bounds.clear()
    this.#bounds.set(key, bounds)
    return bounds
  }

  /** ExponentialHistogramDataPoint: `scale` #6, `zero_count` #7, `positive` #8, `negative` #9, `zero_threshold` #14. */
  #exponential(metric: Metric, startMs: number | undefined): Distribution | string {
    const point = this.#point.into(this.#data)
    const figures = { count: 0, sum: Number.NaN, min: Number.NaN, max: Number.NaN }
    let scale = 0
    let zeroCount = 0
    let zeroThreshold = 0
    let positive: BucketRun | string = NO_BUCKETS
    let negative: BucketRun | string = NO_BUCKETS
    while (point.next()) {
      const { number, wireType } = point
      if (wireType === FIXED64) {
        if (number === 4) figures.count = point.unsigned64
        else if (number === 5) figures.sum = point.double
        else if (number === 7) zeroCount = point.unsigned64
        else if (number === 12) figures.min = point.double
        else if (number === 13) figures.max = point.double
        else if (number === 14) zeroThreshold = point.double
      } else if (wireType === VARINT && number === 6) scale = point.zigzag
      else if (wireType === LEN && number === 8) positive = this.#buckets()
      else if (wireType === LEN && number === 9) negative = this.#buckets()
    }
    if (point.broken) return 'malformed'
    if (typeof positive === 'string') return positive
    if (typeof negative === 'string') return negative
    if (scale < -10 || scale > 20) return 'bad_scale'
    return {
      kind: 'exponential',
      ...figuresOf(figures),
      ...since(metric.temporality, startMs),
      scale,
      zeroCount,
      ...(zeroThreshold > 0 ? { zeroThreshold } : {}),
      positive,
      ...(negative.counts.length > 0 ? { negative } : {}),
    }
  }

  /** Buckets: `offset` #1 (sint32), `bucket_counts` #2. Bucket i of OTLP is above 2^(i/2^scale); ours is up to it. */
  #buckets(): BucketRun | string {
    const buckets = this.#inner.into(this.#point)
    const counts: number[] = []
    let offset = 0
    while (buckets.next()) {
      const { number, wireType } = buckets
      if (number === 1 && wireType === VARINT) offset = buckets.zigzag
      else if (number === 2 && wireType === VARINT) counts.push(buckets.value)
      else if (number === 2 && wireType === LEN && !packedVarints(buckets, counts, this.#limits.bucketsMax)) {
        return 'bad_buckets'
      }
      if (counts.length > this.#limits.bucketsMax) return 'too_many_buckets'
    }
    if (buckets.broken) return 'malformed'
    return Math.abs(offset) > OFFSET_MAX ? 'bad_buckets' : { offset: offset + 1, counts }
  }

  /** SummaryDataPoint: `count` #4, `sum` #5, `quantile_values` #6 {`quantile` #1, `value` #2}. */
  #summary(startMs: number | undefined): Distribution | string {
    const point = this.#point.into(this.#data)
    const figures = { count: 0, sum: 0 }
    const quantiles: [number, number][] = []
    while (point.next()) {
      const { number, wireType } = point
      if (wireType === FIXED64 && number === 4) figures.count = point.unsigned64
      else if (wireType === FIXED64 && number === 5) figures.sum = point.double
      else if (wireType === LEN && number === 6) {
        const pair = this.#inner.into(point)
        let quantile = 0
        let value = 0
        while (pair.next()) {
          if (pair.wireType !== FIXED64) continue
          if (pair.number === 1) quantile = pair.double
          else if (pair.number === 2) value = pair.double
        }
        if (pair.broken) return 'malformed'
        if (!(quantile >= 0 && quantile <= 1)) return 'bad_quantile'
        if (quantiles.push([quantile, value]) > this.#limits.bucketsMax) return 'too_many_buckets'
      }
    }
    if (point.broken) return 'malformed'
    quantiles.sort((a, b) => a[0] - b[0])
    return { kind: 'summary', ...figures, ...since(CUMULATIVE, startMs), quantiles }
  }

  /** Null: its attributes cannot be read, which is counted. */
  #seriesOf(resource: Resource, metric: Metric, kind: Kind): Series | null {
    const point = this.#point.into(this.#data)
    const { bytes } = point
    let key = `${seriesPrefix(resource)}\n${metric.name}\n${metric.type}\n${metric.unit}\n`
    while (point.next()) {
      if (point.number !== kind.attributes || point.wireType !== LEN) continue
      key += Buffer.from(bytes.buffer, bytes.byteOffset + point.from, point.to - point.from).toString('latin1')
      key += '\n'
    }
    if (point.broken) {
      this.#refuse('malformed', point.at)
      return null
    }
    const found = this.#series.get(key)
    if (found !== undefined && !found.overflow) return found
    const series = this.#makeSeries(resource, metric, this.#labels(kind))
    this.#series.set(key, series)
    return series
  }

  #labels(kind: Kind): Label[] {
    const point = this.#point.into(this.#data)
    const labels: Label[] = []
    while (point.next()) {
      if (point.number !== kind.attributes || point.wireType !== LEN) continue
      if (labels.length >= this.#limits.attributesMax) {
        this.counters.cut++
        continue
      }
      const [name, from, to] = readPair(this.#pair.into(point))
      labels.push([name, this.#any.text(point.bytes, from, to)])
    }
    return labels
  }

  #makeSeries(resource: Resource, metric: Metric, labels: readonly Label[]): Series {
    const named: MetricName = resource.envoy
      ? envoyMetricName(this.#options.names, this.#options.prefix, metric.name, labels)
      : {
          name: prometheusName(
            metric.name,
            metric.unit,
            metric.type === 'counter' || metric.type === 'gauge' ? metric.type : 'other',
          ),
          labels: merged(labels.map(([name, value]) => [sanitise(name), value])),
        }
    return this.#options.store.series({
      job: resource.envoy ? 'envoy-otlp' : resource.job || 'otlp',
      instance: resource.instance,
      name: named.name,
      labels: named.labels,
      type: metric.type,
      unit: metric.unit,
      help: metric.help,
    })
  }

  #check(fields: Fields): void {
    if (!fields.broken) return
    this.#malformed = true
    this.#refuse('malformed', fields.at)
  }

  #refuse(reason: string, at: number): void {
    this.#rejected++
    count(this.counters.rejected, reason)
    if (this.#reason === '') {
      this.#reason = reason
      this.#offset = at - this.#start
    }
  }
}

/** Bound sets kept; a process has a handful. */
const BOUNDS_MAX = 1024
/** Scale 20 has 2^20 buckets for each of the 2 048 powers of two that a double can be. */
const OFFSET_MAX = 2 ** 31 - 2
const NO_BUCKETS: BucketRun = { offset: 0, counts: [] }
/** Attributes of a resource that are its job and instance. */
const OF_THE_JOB = new Set(['service.name', 'service.namespace', 'service.instance.id'])

function seriesPrefix(resource: Resource): string {
  return `${resource.envoy ? 'envoy' : resource.job}\n${resource.instance}`
}

function typeOf(metric: Metric): SeriesType {
  switch (metric.kind?.kind) {
    case 'sum':
      return metric.monotonic ? 'counter' : 'gauge'
    case 'histogram':
    case 'exponential':
      return 'histogram'
    case 'summary':
      return 'summary'
    default:
      return 'gauge'
  }
}

function since(temporality: number, startMs: number | undefined) {
  const start = startMs === undefined ? {} : { startMs }
  return { temporality: temporality === DELTA ? ('delta' as const) : ('cumulative' as const), ...start }
}

/** Without what the sender left out. */
function figuresOf(figures: { count: number; sum: number; min: number; max: number }) {
  return {
    count: figures.count,
    ...(Number.isNaN(figures.sum) ? {} : { sum: figures.sum }),
    ...(Number.isNaN(figures.min) ? {} : { min: figures.min }),
    ...(Number.isNaN(figures.max) ? {} : { max: figures.max }),
  }
}

/** False: not whole varints, or too many. */
function packedVarints(fields: Fields, counts: number[], most: number): boolean {
  let value = 0
  let scale = 1
  for (let at = fields.from; at < fields.to; at++) {
    const byte = fields.bytes[at]!
    value += (byte & 127) * scale
    if (byte < 128) {
      if (counts.push(value) > most) return false
      value = 0
      scale = 1
    } else scale *= 128
    if (scale > 2 ** 63) return false
  }
  return scale === 1
}

/** Names that have become the same by what Prometheus allows in them: one label, values joined, as the specification says. */
function merged(labels: readonly Label[]): Label[] {
  const values = new Map<string, string>()
  for (const [name, value] of labels) {
    const before = values.get(name)
    values.set(name, before === undefined ? value : `${before};${value}`)
  }
  return [...values]
}
