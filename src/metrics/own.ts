import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../lib/clock.ts'
import type { Stage } from '../pipeline/sink.ts'
import type { Log } from '../telemetry/log.ts'
import { type Distribution, ofCumulative } from './distribution.ts'
import type { Exemplar, Label, MetricStore, Series, SeriesIdentity } from './store.ts'

/**
 * Stores our own two pages as stats, as a Prometheus would that scraped them: `/metrics` as job `sidecast`, `/metrics/mesh`
 * as job `sidecast-mesh`.
 *
 * Of the mesh only label sets that had traffic are written each time, the others once a minute. One that has traffic
 * after a rest is written as it was at the time before, too, so that the rise is not spread over the rest.
 */
export interface OwnSamplerOptions {
  readonly store: MetricStore
  readonly clock: Clock
  readonly log: Log
  readonly everyMs: number
  /** Address under which the pages are. Asked at each sample: it is not known before the server listens. */
  readonly instance: () => string
  readonly process: () => Promise<readonly ProcessMetric[]>
  /** Null when the page is off. */
  readonly mesh: (() => Iterable<MeshSeries>) | null
  /** Series of the mesh stored at one time, some 4 KB each; further label sets are on the page alone. */
  readonly meshSeriesMax?: number
  /** Wall clock, ms. */
  readonly startedMs: number
}

/** A metric as prom-client gives it. Values of a histogram have the name of their part: `…_bucket`, `…_sum`, `…_count`. */
export interface ProcessMetric {
  readonly name: string
  readonly help: string
  readonly type: unknown
  readonly values: readonly {
    readonly value: number
    readonly labels: Readonly<Record<string, string | number | undefined>>
    readonly metricName?: string
  }[]
}

/** A label set of the mesh: see the Prometheus adapter. */
export interface MeshSeries {
  readonly number: number
  readonly createdMs: number
  readonly count: number
  /** It takes what had no room for a label set of its own. */
  readonly overflow?: boolean
  labels(): readonly Label[]
  metrics(): readonly MeshMetric[]
}
export type MeshMetric = { readonly name: string; readonly help: string; readonly unit: string } & (
  | { readonly type: 'counter' | 'gauge'; readonly value: number }
  | {
      readonly type: 'histogram'
      readonly bounds: readonly number[]
      readonly counts: ArrayLike<number>
      readonly sum: number
      /** Native buckets that are not empty, ascending; what is in none of them is zero. */
      readonly native?: {
        readonly schema: number
        readonly buckets: readonly (readonly [index: number, count: number])[]
      }
      readonly exemplars?: readonly { readonly timeMs: number; readonly value: number; readonly traceId: string }[]
    }
)

const REPEAT_MS = 60_000
const MESH_SERIES_MAX = 20_000
/** Other work gets its turn after so long: label sets that are new at one time may be tens of thousands. */
const SLICE_MS = 5
const PROCESS_JOB = 'sidecast'
const MESH_JOB = 'sidecast-mesh'

export function createOwnSampler(options: OwnSamplerOptions): Stage & { sample(): Promise<void> } {
  return new OwnSampler(options)
}

/** What was written of a label set last. */
interface Written {
  readonly createdMs: number
  /** Not among those that `meshSeriesMax` bounds. */
  readonly overflow: boolean
  readonly series: Series[]
  count: number
  metrics: readonly MeshMetric[]
  atMs: number
  /** Last sample that saw the label set. */
  seenMs: number
}

class OwnSampler implements Stage {
  readonly name = 'own metrics'
  readonly #options: OwnSamplerOptions
  readonly #stopping = new AbortController()
  readonly #mesh = new Map<number, Written>()
  #loop: Promise<void> | undefined
  #lastMs = 0
  #failed = false
  /** Series of the mesh that are stored, and label sets that were not at the last sample. */
  #stored = 0
  #notStored = 0

  constructor(options: OwnSamplerOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    if (this.#options.everyMs > 0) this.#loop ??= this.#run()
  }

  async stop(_deadline: AbortSignal): Promise<void> {
    this.#stopping.abort()
    await this.#loop
  }

  async #run(): Promise<void> {
    const { clock, everyMs, log } = this.#options
    const { signal } = this.#stopping
    while (!signal.aborted) {
      await clock.sleep(everyMs - (clock.now() % everyMs), signal)
      if (signal.aborted) return
      try {
        await this.sample()
        this.#failed = false
      } catch (error) {
        if (!this.#failed) log.warn({ error }, 'our own metrics could not be stored')
        this.#failed = true
      }
    }
  }

  async sample(): Promise<void> {
    const { process, mesh, clock } = this.#options
    const metrics = await process()
    // One time for both pages, and always a later one.
    const nowMs = Math.max(clock.now(), this.#lastMs + 1)
    for (const metric of metrics) this.#storeProcess(metric, nowMs)
    if (mesh !== null) await this.#storeMesh(mesh(), nowMs)
    this.#lastMs = nowMs
  }

  #storeProcess({ name, help, type, values }: ProcessMetric, nowMs: number): void {
    const { store, startedMs } = this.#options
    const of = (kind: SeriesIdentity['type'], labels: readonly Label[]): Series =>
      store.series({ job: PROCESS_JOB, instance: this.#options.instance(), name, labels, type: kind, help })
    if (type === 'counter') {
      for (const one of values) store.setCounter(of('counter', labelsOf(one.labels)), nowMs, one.value, startedMs)
    } else if (type === 'gauge') {
      for (const one of values) store.setGauge(of('gauge', labelsOf(one.labels)), nowMs, one.value)
    } else if (type === 'histogram') {
      for (const { labels, buckets, sum } of histogramsOf(values)) {
        buckets.sort(([a], [b]) => a - b)
        store.distribution(of('histogram', labels), nowMs, {
          kind: 'explicit',
          temporality: 'cumulative',
          startMs: startedMs,
          bounds: buckets.map(([le]) => le).filter((le) => le !== Number.POSITIVE_INFINITY),
          counts: ofCumulative(buckets.map(([, count]) => count)),
          sum,
        })
      }
    }
  }

  async #storeMesh(all: Iterable<MeshSeries>, nowMs: number): Promise<void> {
    const { meshSeriesMax = MESH_SERIES_MAX } = this.#options
    const ended = new Set<Series>()
    const begun: Series[] = []
    let notStored = 0
    let sinceMs = performance.now()
    const end = (number: number, written: Written): void => {
      for (const series of written.series) ended.add(series)
      if (!written.overflow) this.#stored -= written.series.length
      this.#mesh.delete(number)
    }
    for (const one of all) {
      if (performance.now() - sinceMs > SLICE_MS) {
        await setImmediate()
        sinceMs = performance.now()
      }
      const written = this.#mesh.get(one.number)
      if (written?.createdMs === one.createdMs) {
        this.#goOn(one, written, nowMs)
        continue
      }
      if (written !== undefined) end(one.number, written)
      if (this.#stored >= meshSeriesMax && one.overflow !== true) notStored++
      else begun.push(...this.#begin(one, nowMs))
    }
    for (const [number, written] of this.#mesh) if (written.seenMs !== nowMs) end(number, written)
    this.#tell(notStored)
    // A label set may have ended and come again since the last sample.
    for (const series of begun) ended.delete(series)
    for (const series of ended) this.#options.store.stale(series, nowMs)
  }

  #tell(notStored: number): void {
    if (notStored > 0 && this.#notStored === 0) {
      this.#options.log.warn(
        { series: this.#stored, labelSets: notStored },
        'label sets of /metrics/mesh are not stored as stats: metrics.meshSeriesMax is reached',
      )
    }
    this.#notStored = notStored
  }

  #begin(one: MeshSeries, nowMs: number): readonly Series[] {
    const metrics = one.metrics()
    const series = this.#seriesOf(one, metrics)
    const { createdMs, count, overflow = false } = one
    const written: Written = { createdMs, overflow, series, count, metrics, atMs: nowMs, seenMs: nowMs }
    this.#mesh.set(one.number, written)
    if (!written.overflow) this.#stored += series.length
    this.#write(written, nowMs)
    return series
  }

  #seriesOf(one: MeshSeries, metrics: readonly MeshMetric[]): Series[] {
    const { store, instance } = this.#options
    const labels = one.labels()
    const at = instance()
    return metrics.map(({ name, help, unit, type }) =>
      store.series({ job: MESH_JOB, instance: at, name, help, unit, type, labels }),
    )
  }

  #goOn(one: MeshSeries, written: Written, nowMs: number): void {
    written.seenMs = nowMs
    const changed = one.count !== written.count
    if (!changed && nowMs - written.atMs < REPEAT_MS) return
    if (changed) {
      if (written.atMs < this.#lastMs) this.#write(written, this.#lastMs)
      written.count = one.count
      written.metrics = one.metrics()
      // A label set can get further metrics, behind those that it has.
      const more = written.metrics.slice(written.series.length)
      if (more.length > 0) {
        written.series.push(...this.#seriesOf(one, more))
        if (!written.overflow) this.#stored += more.length
      }
    }
    this.#write(written, nowMs)
  }

  #write(written: Written, atMs: number): void {
    const { store } = this.#options
    written.atMs = atMs
    written.metrics.forEach((metric, k) => {
      const series = written.series[k]!
      if (metric.type === 'histogram') {
        store.distribution(series, atMs, distributionOf(metric, written.createdMs))
        const exemplars = metric.exemplars ?? []
        if (exemplars.length > 0) store.exemplars(series, exemplars.map(exemplarOf))
      } else if (metric.type === 'gauge') store.setGauge(series, atMs, metric.value)
      else store.setCounter(series, atMs, metric.value, written.createdMs)
    })
  }
}

/** Zero bucket of native histograms: Prometheus's default, 2^−128. */
const ZERO_THRESHOLD = 2 ** -128

function distributionOf(metric: Extract<MeshMetric, { type: 'histogram' }>, startMs: number): Distribution {
  const { bounds, counts, sum, native } = metric
  const figures = { temporality: 'cumulative', startMs, sum } as const
  if (native === undefined) return { kind: 'explicit', bounds, counts, ...figures }
  const { schema: scale, buckets } = native
  const [offset] = buckets[0] ?? [0]
  const [last] = buckets.at(-1) ?? [-1]
  const run = new Float64Array(last - offset + 1)
  let inBuckets = 0
  for (const [index, count] of buckets) {
    run[index - offset] = count
    inBuckets += count
  }
  let count = 0
  for (let k = 0; k < counts.length; k++) count += counts[k]!
  const zeroCount = count - inBuckets
  const positive = { offset, counts: run }
  const classic = { bounds, counts }
  return { kind: 'exponential', scale, zeroCount, zeroThreshold: ZERO_THRESHOLD, positive, classic, count, ...figures }
}

function exemplarOf({ timeMs, value, traceId }: { timeMs: number; value: number; traceId: string }): Exemplar {
  return { timeMs, value, labels: [['trace_id', traceId]] }
}

function labelsOf(labels: Readonly<Record<string, string | number | undefined>>): Label[] {
  return Object.entries(labels).map(([name, value]) => [name, String(value ?? '')])
}

interface ProcessHistogram {
  readonly labels: readonly Label[]
  /** Upper bound and observations up to it. */
  readonly buckets: [le: number, count: number][]
  sum: number
}

function histogramsOf(values: ProcessMetric['values']): Iterable<ProcessHistogram> {
  const found = new Map<string, ProcessHistogram>()
  for (const { value, labels, metricName = '' } of values) {
    const { le, ...rest } = labels
    const own = labelsOf(rest)
    const key = JSON.stringify(own)
    const histogram = found.get(key) ?? { labels: own, buckets: [], sum: Number.NaN }
    found.set(key, histogram)
    if (metricName.endsWith('_sum')) histogram.sum = value
    else if (le !== undefined) histogram.buckets.push([le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le), value])
  }
  return found.values()
}
