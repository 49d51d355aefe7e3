import { createTableBuilder } from '../model/table-builder.ts'
import type { SideSource } from '../pipeline/lane.ts'
import { add, emptyHistogram, type HistogramState, isValid } from './accumulate.ts'
import type { Distribution } from './distribution.ts'
import { SeriesRegistry, type SeriesState } from './series.ts'
import type {
  Exemplar,
  LatestSample,
  LatestSelector,
  MetricStore,
  MetricStoreCounters,
  Series,
  SeriesIdentity,
} from './store.ts'

/**
 * The metric store: series in memory, values as rows of `series`, `samples` and `histograms`.
 *
 *   setCounter, setGauge, cumulative distribution ─► a row at once
 *   addCounter, addGauge, delta distribution      ─► the sum in memory, marked dirty ─► gather: a row, ≤ 1 a second
 *   a sum that did not change                     ─► a row each minute, as long as its sender sends anything
 *
 * Sums begin at 0 with this process. Their first row is a 0 at their start, so that an increase over a restart comes out
 * right: the reader sees the counter fall to 0, and rise.
 *
 * `series` stands before the rows of its series, in the same segment: whoever finds a value finds its labels.
 */
export interface MetricStoreOptions {
  /** The lane's: hands builders on; false when the journal has no room. */
  readonly flush: () => boolean
  readonly synced: () => Promise<void>
  readonly clock: { now(): number }
  /** Series in memory, some 600 bytes each and their labels. */
  readonly seriesMax: number
  /** How long samples are kept: older ones are not taken. */
  readonly keepMs: number
  /** Rows of a block. */
  readonly rowsMax?: number
}

const ROWS_MAX = 65_536
/** Rows that wait while the journal has no room; what comes then is dropped and counted. */
const WAITING_ROWS_MAX = 2 * ROWS_MAX
/** Of one series that is added to all the time. */
const ROW_EVERY_MS = 1000
/** Well within the 5 minutes that a query looks back. */
const REPEAT_MS = 60_000
/** A sender that sent nothing for so long is gone: its sums are not repeated. */
const SENDER_GONE_MS = 300_000
const UPKEEP_MS = 5000
/** Series not written to are forgotten; sums later, because they begin at 0 again. */
const IDLE_MS = 3_600_000
/** Those that were said to have ended: label sets that come and go must not pile up. */
const IDLE_STALE_MS = 300_000
const IDLE_SUM_MS = 86_400_000
const MS_PER_DAY = 86_400_000
const AHEAD_MS = MS_PER_DAY

export function createMetricStore(options: MetricStoreOptions): MetricStore & SideSource {
  return new Metrics(options)
}

class Metrics implements MetricStore, SideSource {
  readonly name = 'metrics'
  readonly counters: MetricStoreCounters = {
    samples: 0,
    histograms: 0,
    exemplars: 0,
    series: 0,
    staleMarkers: 0,
    resets: 0,
    seriesNow: 0,
    overflow: 0,
    duplicates: 0,
    outOfOrder: 0,
    outOfBounds: 0,
    invalid: 0,
    droppedFull: 0,
  }
  readonly #options: MetricStoreOptions
  readonly #rowsMax: number
  readonly #registry: SeriesRegistry
  /** Wall clock, as of the last `gather`: 50 ms old at most, and cheaper than asking for each value. */
  #nowMs: number
  #dirty: SeriesState[] = []
  #upkeepMs = 0
  #gathering = false

  readonly #series = createTableBuilder('series')
  readonly #samples = createTableBuilder('samples')
  readonly #histograms = createTableBuilder('histograms')
  readonly #exemplars = createTableBuilder('exemplars')
  readonly builders = [this.#series, this.#samples, this.#histograms, this.#exemplars] as const
  readonly #seriesColumns = {
    id: this.#series.wide('id'),
    name: this.#series.text('name'),
    labels: this.#series.textMap('labels'),
    job: this.#series.text('job'),
    instance: this.#series.text('instance'),
    type: this.#series.text('type'),
    unit: this.#series.text('unit'),
    help: this.#series.text('help'),
    time: this.#series.wide('time'),
  }
  readonly #sampleColumns = {
    series: this.#samples.wide('series'),
    time: this.#samples.wide('time'),
    value: this.#samples.number('value'),
    start: this.#samples.wide('start'),
    stale: this.#samples.number('stale'),
  }
  readonly #histogramColumns = {
    series: this.#histograms.wide('series'),
    time: this.#histograms.wide('time'),
    start: this.#histograms.wide('start'),
    scale: this.#histograms.number('scale'),
    count: this.#histograms.number('count'),
    sum: this.#histograms.number('sum'),
    min: this.#histograms.number('min'),
    max: this.#histograms.number('max'),
    zeroThreshold: this.#histograms.number('zero_threshold'),
    zeroCount: this.#histograms.number('zero_count'),
    buckets: this.#histograms.countMap('buckets'),
    negative: this.#histograms.countMap('negative_buckets'),
    bounds: this.#histograms.floats('bounds'),
    boundCounts: this.#histograms.floats('bound_counts'),
    quantiles: this.#histograms.floats('quantiles'),
    quantileValues: this.#histograms.floats('quantile_values'),
    stale: this.#histograms.number('stale'),
  }

  readonly #exemplarColumns = {
    series: this.#exemplars.wide('series'),
    time: this.#exemplars.wide('time'),
    value: this.#exemplars.number('value'),
    labels: this.#exemplars.textMap('labels'),
  }

  constructor(options: MetricStoreOptions) {
    this.#options = options
    this.#rowsMax = options.rowsMax ?? ROWS_MAX
    this.#registry = new SeriesRegistry(options.seriesMax)
    this.#nowMs = options.clock.now()
  }

  async start(): Promise<void> {}

  /** The lane hands on what is here when it stops. */
  async stop(_deadline: AbortSignal): Promise<void> {}

  series(identity: SeriesIdentity): Series {
    const series = this.#registry.series(identity)
    this.counters.seriesNow = this.#registry.size
    return series
  }

  setCounter(of: Series, timeMs: number, value: number, startMs?: number): void {
    if (!(value >= 0 && value < Number.POSITIVE_INFINITY) || isDistribution(of)) {
      this.counters.invalid++
      return
    }
    const series = this.#open(of, timeMs)
    if (series === null) return
    if (timeMs < series.timeMs) {
      this.counters.outOfOrder++
      this.#sample(series, timeMs, value, startMs ?? 0, 0)
      return
    }
    let start = startMs ?? series.startMs
    let reset = startMs !== undefined && series.startMs > 0 && startMs > series.startMs
    if (value < series.value && series.timeMs >= 0) {
      reset = true
      // It was 0 at some moment after the last value.
      if (startMs === undefined || startMs <= series.timeMs) start = startMs ?? series.timeMs + 1
    }
    if (!this.#sample(series, timeMs, value, start, 0)) return
    if (reset) this.#reset(series)
    this.#latest(series, timeMs, value)
    series.startMs = start
  }

  addCounter(of: Series, timeMs: number, delta: number, startMs?: number): void {
    if (!(delta >= 0 && delta < Number.POSITIVE_INFINITY) || isDistribution(of)) {
      this.counters.invalid++
      return
    }
    const series = this.#openSum(of, timeMs, startMs)
    if (series === null) return
    this.#begin(series, timeMs, startMs)
    this.#latest(series, Math.max(timeMs, series.timeMs), series.value + delta)
    this.#markDirty(series)
  }

  setGauge(of: Series, timeMs: number, value: number): void {
    if (isDistribution(of)) {
      this.counters.invalid++
      return
    }
    const series = this.#open(of, timeMs)
    if (series === null) return
    if (timeMs < series.timeMs) {
      this.counters.outOfOrder++
      this.#sample(series, timeMs, value, 0, 0)
      return
    }
    if (this.#sample(series, timeMs, value, 0, 0)) this.#latest(series, timeMs, value)
  }

  addGauge(of: Series, timeMs: number, delta: number): void {
    if (!Number.isFinite(delta) || isDistribution(of)) {
      this.counters.invalid++
      return
    }
    const series = this.#openSum(of, timeMs)
    if (series === null) return
    series.accumulated = true
    this.#latest(series, Math.max(timeMs, series.timeMs), series.value + delta)
    this.#markDirty(series)
  }

  distribution(of: Series, timeMs: number, distribution: Distribution): void {
    if (!isDistribution(of) || !isValid(distribution)) {
      this.counters.invalid++
      return
    }
    if (distribution.kind === 'values' || distribution.temporality === 'delta') this.#addDelta(of, timeMs, distribution)
    else this.#setCumulative(of, timeMs, distribution)
  }

  #addDelta(of: Series, timeMs: number, distribution: Distribution): void {
    const startMs = distribution.kind === 'values' ? undefined : distribution.startMs
    const series = this.#openSum(of, timeMs, startMs)
    if (series === null) return
    this.#begin(series, timeMs, startMs)
    series.histogram ??= emptyHistogram(series.startMs)
    if (!add(series.histogram, distribution)) {
      // Other buckets than before: what there was ends with its last row, and a new one begins.
      if (series.dirty) this.#write(series)
      series.startMs = Math.max(series.rowMs + 1, startMs ?? 0)
      series.histogram = emptyHistogram(series.startMs)
      series.zeroDue = true
      add(series.histogram, distribution)
      this.#reset(series)
    }
    this.#latest(series, Math.max(timeMs, series.timeMs), series.histogram.count)
    this.#markDirty(series)
  }

  #setCumulative(of: Series, timeMs: number, distribution: Exclude<Distribution, { kind: 'values' }>): void {
    const series = this.#open(of, timeMs)
    if (series === null) return
    const { startMs } = distribution
    const state = emptyHistogram(startMs ?? series.startMs)
    add(state, distribution)
    if (timeMs < series.timeMs) {
      this.counters.outOfOrder++
      this.#histogram(series, timeMs, state, 0)
      return
    }
    const later = startMs !== undefined && series.startMs > 0 && startMs > series.startMs
    const fewer = series.timeMs >= 0 && state.count < series.value
    if (fewer && (startMs === undefined || startMs <= series.timeMs)) state.startMs = startMs ?? series.timeMs + 1
    if (!this.#histogram(series, timeMs, state, 0)) return
    if (later || fewer) this.#reset(series)
    this.#latest(series, timeMs, state.count)
    series.startMs = state.startMs
  }

  exemplars(of: Series, exemplars: readonly Exemplar[]): number {
    let taken = 0
    let afterMs: number | null = null
    for (const { timeMs, value, labels } of exemplars) {
      if (!Number.isFinite(value) || labels.length > EXEMPLAR_LABELS_MAX || lengthOf(labels) > EXEMPLAR_CHARS_MAX) {
        this.counters.invalid++
        continue
      }
      const series = this.#current(of, timeMs)
      if (series === null) continue
      afterMs ??= series.exemplarMs
      if (timeMs <= afterMs) continue
      // No value of the series: its rows go on from where they are.
      const { rowMs, writtenMs } = series
      if (!this.#room(series, timeMs)) break
      Object.assign(series, { rowMs, writtenMs })
      const columns = this.#exemplarColumns
      const row = this.#exemplars.rows
      columns.series.setWords(row, series.id[0]!, series.id[1]!, series.id[2]!, series.id[3]!)
      columns.time.setNumber(row, timeMs)
      columns.value.set(row, value)
      columns.labels.set(row, labels)
      this.#exemplars.day = Math.floor(timeMs / MS_PER_DAY)
      this.#exemplars.next()
      this.counters.exemplars++
      series.exemplarMs = Math.max(series.exemplarMs, timeMs)
      taken++
    }
    return taken
  }

  stale(of: Series, timeMs: number): void {
    const series = of as SeriesState
    if (series.overflow || series.forgotten || series.timeMs < 0 || series.stale) return
    if (series.dirty) this.#write(series)
    const at = Math.max(timeMs, series.rowMs + 1)
    const written = isDistribution(series)
      ? this.#histogram(series, at, emptyHistogram(series.startMs), 1)
      : this.#sample(series, at, 0, series.startMs, 1)
    if (!written) return
    this.counters.staleMarkers++
    series.stale = true
    series.timeMs = Math.max(at, series.timeMs)
  }

  async synced(): Promise<void> {
    await this.#options.synced()
  }

  *latest(selector: LatestSelector): Iterable<LatestSample> {
    for (const series of this.#registry.select(selector)) {
      if (series.timeMs < 0) continue
      const { timeMs, value, startMs, resets, stale } = series
      yield { series, timeMs, value, startMs: startMs === 0 ? Number.NaN : startMs, resets, stale }
    }
  }

  gather(all: boolean): boolean {
    if (this.#gathering) return true
    this.#gathering = true
    this.#nowMs = this.#options.clock.now()
    const dirty = this.#dirty
    this.#dirty = []
    for (const series of dirty) {
      // Written meanwhile.
      if (!series.dirty) continue
      const due = all || this.#nowMs - series.writtenMs >= ROW_EVERY_MS || this.#nowMs < series.writtenMs
      // Changes that are no row yet stay in the sum, and are written as soon as there is room.
      if (!due || this.#full || !this.#write(series)) this.#dirty.push(series)
    }
    const done = !this.#full
    if (this.#nowMs - this.#upkeepMs >= UPKEEP_MS || this.#nowMs < this.#upkeepMs) this.#upkeep()
    this.#gathering = false
    return done
  }

  /** Repeats sums that do not change, and forgets what is idle. */
  #upkeep(): void {
    this.#upkeepMs = this.#nowMs
    for (const series of this.#registry.all()) {
      const idleMs = this.#nowMs - series.touchedMs
      const idleMax = series.stale ? IDLE_STALE_MS : series.accumulated ? IDLE_SUM_MS : IDLE_MS
      if (idleMs > idleMax && !series.dirty) {
        this.#registry.forget(series)
        continue
      }
      if (!series.accumulated || series.dirty || series.stale || this.#full) continue
      const sinceMs = this.#nowMs - series.writtenMs
      if (sinceMs < REPEAT_MS || this.#nowMs - series.sender.seenMs > SENDER_GONE_MS) continue
      series.timeMs = series.rowMs + sinceMs
      this.#write(series)
    }
    this.#registry.forgetSenders(this.#nowMs - IDLE_SUM_MS)
    this.counters.seriesNow = this.#registry.size
  }

  /** Whether a value may be written; null when it is dropped, and counted. */
  #open(of: Series, timeMs: number): SeriesState | null {
    const series = this.#current(of, timeMs)
    if (series === null) return null
    if (timeMs === series.timeMs) {
      this.counters.duplicates++
      return null
    }
    return series
  }

  #openSum(of: Series, timeMs: number, startMs?: number): SeriesState | null {
    const series = this.#current(of, timeMs)
    if (series === null) return null
    if (startMs !== undefined && timeMs <= series.addedMs) {
      this.counters.duplicates++
      return null
    }
    series.addedMs = Math.max(series.addedMs, timeMs)
    return series
  }

  #current(of: Series, timeMs: number): SeriesState | null {
    let series = of as SeriesState
    if (series.overflow) {
      this.counters.overflow++
      return null
    }
    if (!(timeMs >= this.#nowMs - this.#options.keepMs && timeMs <= this.#nowMs + AHEAD_MS)) {
      this.counters.outOfBounds++
      return null
    }
    if (series.forgotten && !this.#registry.restore(series)) {
      const successor = this.#registry.successor(series)
      if (successor === undefined) {
        this.counters.overflow++
        return null
      }
      series = successor
    }
    series.touchedMs = this.#nowMs
    series.sender.seenMs = this.#nowMs
    return series
  }

  /** The first increase of a sum: it was 0 until then. */
  #begin(series: SeriesState, timeMs: number, startMs?: number): void {
    if (series.accumulated) return
    const known = startMs !== undefined && startMs < timeMs && startMs > series.rowMs
    // A moment after the last value of the interval before, whose row may come from another process.
    series.startMs = Math.max(known ? startMs + 1 : timeMs - 1, series.rowMs + 1)
    series.accumulated = true
    series.value = 0
    series.histogram = isDistribution(series) ? emptyHistogram(series.startMs) : null
    series.zeroDue = true
    // The first increase need not wait.
    series.writtenMs = 0
  }

  #latest(series: SeriesState, timeMs: number, value: number): void {
    series.timeMs = timeMs
    series.value = value
    series.stale = false
  }

  #reset(series: SeriesState): void {
    series.resets++
    this.counters.resets++
  }

  #markDirty(series: SeriesState): void {
    if (series.dirty) return
    series.dirty = true
    this.#dirty.push(series)
  }

  #rowTime(series: SeriesState): number {
    return Math.max(series.timeMs, series.rowMs + 1)
  }

  /** The sum as a row, after its zero. */
  #write(series: SeriesState): boolean {
    if (series.zeroDue) {
      const { startMs, histogram } = series
      if (histogram === null ? !this.#sample(series, startMs, 0, startMs, 0) : !this.#zeroHistogram(series))
        return false
      series.zeroDue = false
    }
    const timeMs = this.#rowTime(series)
    const written =
      series.histogram === null
        ? this.#sample(series, timeMs, series.value, series.startMs, 0)
        : this.#histogram(series, timeMs, series.histogram, 0)
    if (written) series.dirty = false
    return written
  }

  #zeroHistogram(series: SeriesState): boolean {
    return this.#histogram(series, series.startMs, emptyHistogram(series.startMs), 0)
  }

  get #waiting(): number {
    return this.#samples.rows + this.#histograms.rows + this.#exemplars.rows
  }

  get #full(): boolean {
    return this.#waiting >= WAITING_ROWS_MAX
  }

  /** Makes room for a row, and writes which series it is about if need be. False when there is no room. */
  #room(series: SeriesState, timeMs: number): boolean {
    if (this.#waiting >= this.#rowsMax && !this.#gathering) {
      this.#options.flush()
      if (this.#full) {
        this.counters.droppedFull++
        return false
      }
    }
    const day = Math.floor(timeMs / MS_PER_DAY)
    if (day !== series.day && day !== series.dayBefore) this.#announce(series, timeMs, day)
    series.writtenMs = this.#nowMs
    series.rowMs = Math.max(series.rowMs, timeMs)
    return true
  }

  #announce(series: SeriesState, timeMs: number, day: number): void {
    series.dayBefore = series.day
    series.day = day
    const { id, name, labels, job, instance, type, unit, help, time } = this.#seriesColumns
    const row = this.#series.rows
    id.setWords(row, series.id[0]!, series.id[1]!, series.id[2]!, series.id[3]!)
    name.set(row, series.name)
    labels.set(row, series.labels)
    job.set(row, series.job)
    instance.set(row, series.instance)
    type.set(row, series.type)
    unit.set(row, series.unit)
    help.set(row, series.help)
    time.setNumber(row, timeMs)
    this.#series.day = day
    this.#series.next()
    this.counters.series++
  }

  #sample(series: SeriesState, timeMs: number, value: number, startMs: number, stale: 0 | 1): boolean {
    if (!this.#room(series, timeMs)) return false
    const columns = this.#sampleColumns
    const row = this.#samples.rows
    columns.series.setWords(row, series.id[0]!, series.id[1]!, series.id[2]!, series.id[3]!)
    columns.time.setNumber(row, timeMs)
    columns.value.set(row, value)
    columns.start.setNumber(row, Math.max(0, startMs))
    columns.stale.set(row, stale)
    this.#samples.day = Math.floor(timeMs / MS_PER_DAY)
    this.#samples.next()
    this.counters.samples++
    return true
  }

  #histogram(series: SeriesState, timeMs: number, state: HistogramState, stale: 0 | 1): boolean {
    if (!this.#room(series, timeMs)) return false
    const columns = this.#histogramColumns
    const row = this.#histograms.rows
    columns.series.setWords(row, series.id[0]!, series.id[1]!, series.id[2]!, series.id[3]!)
    columns.time.setNumber(row, timeMs)
    columns.start.setNumber(row, Math.max(0, state.startMs))
    columns.scale.set(row, state.scale)
    columns.count.set(row, state.count)
    columns.sum.set(row, state.sum)
    columns.min.set(row, state.min)
    columns.max.set(row, state.max)
    columns.zeroThreshold.set(row, state.zeroThreshold)
    columns.zeroCount.set(row, state.zeroCount)
    columns.buckets.set(row, byIndex(state.positive))
    columns.negative.set(row, byIndex(state.negative))
    columns.bounds.set(row, state.bounds)
    columns.boundCounts.set(row, state.bounds.length === 0 ? [] : state.boundCounts)
    columns.quantiles.set(row, state.quantiles)
    columns.quantileValues.set(row, state.quantileValues)
    columns.stale.set(row, stale)
    this.#histograms.day = Math.floor(timeMs / MS_PER_DAY)
    this.#histograms.next()
    this.counters.histograms++
    return true
  }
}

/** Of one exemplar: far beyond the 128 characters of OpenMetrics. */
const EXEMPLAR_LABELS_MAX = 16
const EXEMPLAR_CHARS_MAX = 1024
const lengthOf = (labels: Exemplar['labels']): number =>
  labels.reduce((sum, [name, value]) => sum + name.length + value.length, 0)

const isDistribution = ({ type }: Series): boolean => type === 'histogram' || type === 'summary'
const byIndex = (buckets: ReadonlyMap<number, number>): (readonly [number, number])[] =>
  [...buckets].sort(([a], [b]) => a - b)
