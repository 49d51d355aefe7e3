import type { Stage } from '../pipeline/sink.ts'
import type { Distribution } from './distribution.ts'

/**
 * Where every receiver of stats puts them. A series is one name with one set of labels; what is written to it becomes rows
 * of `samples`, `histograms` and `exemplars`, beside requests in the same journal segments.
 *
 *   receiver ─► series() ─► setCounter, addCounter, setGauge, … ─► columns ─► ≤ 50 ms ─► journal ─► store
 *                                     │
 *                                     └─► the latest value of each series, for `latest()`
 *
 * Everything in the store is cumulative: a delta is added to what came before (`start` tells since when), so that counters
 * and histograms by different ways compare. All writes are synchronous and never throw; what cannot be taken is counted.
 */
export interface MetricStore extends Stage {
  /**
   * The series of a name and labels: the same object for the same identity. Cheap to call again, and cheaper not to: keep
   * the object. When the bound on series is reached it returns one with `overflow` set, to which writes are counted and
   * dropped. A series that was forgotten for being idle comes back by itself when it is written to.
   */
  series(identity: SeriesIdentity): Series

  /**
   * An absolute value of a counter. A decrease, or a later `startMs`, is a reset of the sender's counter. `startMs` is when
   * it was 0 (OTLP start time, OpenMetrics `_created`); when absent it is not known before the first decrease.
   */
  setCounter(series: Series, timeMs: number, value: number, startMs?: number): void
  /**
   * An increase of a counter. Added up here, from 0 at the first one of this process. Written to the journal within 50 ms,
   * and a second for a series that changes all the time; at once by `synced`. With `startMs` (OTLP delta) the increase is
   * of (startMs, timeMs], and one that is not later than the last one came twice and is dropped.
   */
  addCounter(series: Series, timeMs: number, delta: number, startMs?: number): void
  setGauge(series: Series, timeMs: number, value: number): void
  /** A change of a gauge (StatsD `+3|g`). Written as `addCounter`. */
  addGauge(series: Series, timeMs: number, delta: number): void
  /** A histogram, summary, or single observations: see `Distribution`. Of series of these two types alone. */
  distribution(series: Series, timeMs: number, distribution: Distribution): void
  /**
   * Observations of a series that say in which trace they were. A sender tells the same ones again and again: those that
   * are not later than the latest one of the calls before are passed over. How many were new, and taken.
   */
  exemplars(series: Series, exemplars: readonly Exemplar[]): number
  /** The series has ended or its sender is gone: queries after this time do not see it. */
  stale(series: Series, timeMs: number): void

  /** Hands on everything, and resolves when it is fsynced. Rejects with SC4104 when the journal has no room. */
  synced(): Promise<void>

  /** Series with what was last written to them, from memory. Those of another process life are not here. */
  latest(selector: LatestSelector): Iterable<LatestSample>
  readonly counters: Readonly<MetricStoreCounters>
}

export interface Exemplar {
  readonly timeMs: number
  readonly value: number
  /** Names are distinct; as a rule `trace_id`, and `span_id`. Of 128 characters together, as OpenMetrics has it, or some more. */
  readonly labels: readonly Label[]
}

export const SERIES_TYPES = ['untyped', 'counter', 'gauge', 'histogram', 'summary'] as const
export type SeriesType = (typeof SERIES_TYPES)[number]

/** Name and value. Names are valid Prometheus label names, or are made so. Order does not matter. */
export type Label = readonly [name: string, value: string]

export interface SeriesIdentity {
  /** What brought it: `envoy-statsd`, `envoy-metrics-service`, `envoy-otlp`, `envoy-scrape`; others: what they say of themselves. */
  readonly job: string
  /** Node id, or what stands for it. */
  readonly instance: string
  /** As at `/stats/prometheus`: `envoy_cluster_upstream_rq_total`. A histogram's without `_bucket`, `_sum`, `_count`. */
  readonly name: string
  /** Without `job` and `instance`. An empty value is the same as no label. */
  readonly labels: readonly Label[]
  readonly type: SeriesType
  /** Unit of the values as UCUM or words: `ms`, `bytes`; '' or absent when not known. */
  readonly unit?: string
  readonly help?: string
}

/** One series. Made by `MetricStore.series` alone. */
export interface Series {
  readonly job: string
  readonly instance: string
  readonly name: string
  /** With `job` and `instance`, sorted by name, without empty values. */
  readonly labels: readonly Label[]
  readonly type: SeriesType
  /** Writes to it are counted and dropped: the bound on series was reached. */
  readonly overflow: boolean
}

export interface LatestSelector {
  readonly name: string
  readonly job?: string
  readonly instance?: string
  /** Labels that the series must have with these values. */
  readonly labels?: Readonly<Record<string, string>>
}

export interface LatestSample {
  readonly series: Series
  /** Of the sender, ms since the epoch. */
  readonly timeMs: number
  /** Of a histogram or summary: its count. */
  readonly value: number
  /** When the counter was 0; NaN when not known. */
  readonly startMs: number
  /** Resets seen since the series is known, by start time or by decrease. */
  readonly resets: number
  readonly stale: boolean
}

export interface MetricStoreCounters {
  /** Rows written to the journal. */
  samples: number
  histograms: number
  exemplars: number
  series: number
  staleMarkers: number
  resets: number
  /** Series in memory now. */
  seriesNow: number
  /** Writes dropped because the bound on series was reached. */
  overflow: number
  /** Writes dropped: the time of the last one again. */
  duplicates: number
  /** Written, but older than what the series had. */
  outOfOrder: number
  /** Writes dropped: more than a day ahead, or older than stats are kept. */
  outOfBounds: number
  /** Writes dropped for what they are: no number, a negative delta, bounds that do not ascend, another type than the series has. */
  invalid: number
  /** Rows dropped because the journal had no room and the buffer for them was full. */
  droppedFull: number
}
