import type { Distribution } from '../../metrics/distribution.ts'
import type { Exemplar, Label } from '../../metrics/store.ts'

/** What a request of remote write brings, one series at a time. The same for both versions. */
export interface WrittenSeries {
  /** `__name__` among them, as they came. */
  readonly labels: readonly Label[]
  /** Of version 2.0, which says it with each series; absent otherwise. */
  readonly metadata?: Metadata
  readonly samples: readonly WrittenSample[]
  readonly histograms: readonly WrittenHistogram[]
  readonly exemplars: readonly Exemplar[]
}

export interface WrittenSample {
  /** NaN of a marker: see `stale`. */
  readonly value: number
  readonly timeMs: number
  /** When the counter was 0; 0 when not said. */
  readonly startMs: number
  /** Prometheus's marker that the series has ended. */
  readonly stale: boolean
}

export interface WrittenHistogram {
  /** Null: it is none, for the reason. */
  readonly distribution: Distribution | null
  readonly reason?: string
  readonly timeMs: number
  readonly stale: boolean
}

/** `MetricMetadata.MetricType` and `Metadata.MetricType`, which have the same numbers. */
export const TYPES = [
  'unknown',
  'counter',
  'gauge',
  'histogram',
  'gaugehistogram',
  'summary',
  'info',
  'stateset',
] as const
export type MetadataType = (typeof TYPES)[number]

export interface Metadata {
  readonly type: MetadataType
  readonly help: string
  readonly unit: string
}

/** Why a request is none; a series that is none is told by its own reason. */
export interface WriteVisitor {
  series(series: WrittenSeries): void
  /** Of version 1.0: of a family, in requests of their own. */
  metadata(family: string, metadata: Metadata): void
  /** A series that cannot be read. */
  invalid(reason: string, samples: number, histograms: number): void
  /** An exemplar that cannot be read; its series is taken all the same. */
  invalidExemplar(reason: string): void
}
