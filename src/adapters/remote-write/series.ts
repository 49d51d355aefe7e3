/** What goes into a request: series with what is new of them. The same for both versions. */
export interface OutSeries {
  /** `__name__` among them, sorted, without empty values. */
  readonly labels: readonly OutLabel[]
  readonly metadata: OutMetadata
  /** In order of time. A series has samples or histograms, never both. */
  readonly samples: OutSample[]
  readonly histograms: OutHistogram[]
  /** In order of time. */
  readonly exemplars: OutExemplar[]
}

export type OutLabel = readonly [name: string, value: string]

export interface OutMetadata {
  /** Name of the family: without `_bucket`, `_sum`, `_count`. */
  readonly family: string
  readonly type: string
  readonly help: string
  readonly unit: string
}

export interface OutSample {
  readonly value: number
  readonly timeMs: number
  /** When the counter was 0; 0 when not known. */
  readonly startMs: number
  /** The series has ended: Prometheus's marker goes out in place of the value. */
  readonly stale: boolean
}

export interface OutExemplar {
  readonly labels: readonly OutLabel[]
  readonly value: number
  readonly timeMs: number
}

/** Buckets that are not empty, by ascending index: bucket i is (2^((i−1)/2^scale), 2^(i/2^scale)]. */
export interface OutHistogram {
  readonly count: number
  readonly sum: number
  readonly scale: number
  readonly zeroThreshold: number
  readonly zeroCount: number
  readonly positive: readonly Bucket[]
  readonly negative: readonly Bucket[]
  readonly timeMs: number
  readonly startMs: number
  readonly stale: boolean
}
export type Bucket = readonly [index: number, count: number]

/** As Go writes a float and OpenMetrics wants it, which is what a scrape of protobuf stores: `1.0`, `+Inf`. */
export function boundText(bound: number): string {
  if (bound === Number.POSITIVE_INFINITY) return '+Inf'
  if (bound === Number.NEGATIVE_INFINITY) return '-Inf'
  const size = Math.abs(bound)
  if (size !== 0 && (size < 1e-4 || size >= 1e21 || (size >= 1e6 && Number.isInteger(bound)))) {
    const [mantissa, exponent = ''] = bound.toExponential().split('e')
    return `${mantissa}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`
  }
  return Number.isInteger(bound) ? `${bound}.0` : String(bound)
}
