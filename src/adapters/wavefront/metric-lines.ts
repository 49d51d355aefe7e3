import { Histogram } from '../../model/histogram.ts'
import {
  DURATION,
  REQUEST_SIZE,
  RESPONSE_SIZE,
  SPAN_DURATION,
  TCP_RECEIVED,
  TCP_SENT,
  type WavefrontAggregate,
} from './aggregate.ts'
import { centroidsOf } from './centroids.ts'
import { distributionLine, type Granularity, pointLine } from './lines.ts'
import type { Group } from './measures.ts'
import type { MeshSeries, RedSeries } from './names.ts'
import { DELTA, type Tags } from './text.ts'
import type { Format, Line } from './transport.ts'
import type { Refusal } from './validate.ts'

/**
 * The lines of one interval.
 *
 *   ∆istio.requestcount.count             increment                                        as Mixer's adapter
 *   istio.requestduration.95-percentile   and nine more points of each histogram           as Mixer's adapter
 *   !M … istio.requestduration            the whole distribution, by minute, hour or day   any quantile, and it merges
 *   ∆tracing.derived.….invocation.count   and errors, total time, distribution             as derived from spans
 */
export interface MetricLinesOptions {
  readonly prefix: string
  readonly source: string
  /** Ten points for each histogram and interval. */
  readonly points: boolean
  readonly distributions: readonly Granularity[]
  /** Of the points: when the interval was over. */
  readonly timestampMs: number
  /** Wall clock, to judge timestamps by. */
  readonly nowMs: number
  readonly onRefused: (refusal: Refusal) => void
}

/** Name of the metric at the wire, and which histogram of a series it is. */
const HTTP_METRICS = [
  ['requestduration', DURATION],
  ['requestsize', REQUEST_SIZE],
  ['responsesize', RESPONSE_SIZE],
] as const
const TCP_METRICS = [
  ['tcpsentbytes', TCP_SENT],
  ['tcpreceivedbytes', TCP_RECEIVED],
] as const
/** Connections are known when they end: Mixer's histograms of ones, opened and closed, are the same then. */
const TCP_COUNTS = ['tcpconnectionsopened', 'tcpconnectionsclosed'] as const
const PERCENTILES = [
  ['50-percentile', 0.5],
  ['75-percentile', 0.75],
  ['95-percentile', 0.95],
  ['99-percentile', 0.99],
  ['999-percentile', 0.999],
] as const
const MS_PER: Readonly<Record<Granularity, number>> = { minute: 60_000, hour: 3_600_000, day: 86_400_000 }

/** All points first, then all distributions, because a body of lines has one format. Made while they are read. */
export function* metricLines(aggregate: WavefrontAggregate, options: MetricLinesOptions): Generator<readonly Line[]> {
  const mesh = aggregate.mesh.measures.bySeries()
  const red = aggregate.red?.measures.bySeries()
  for (const format of ['wavefront', 'histogram'] as const) {
    for (const [number, groups] of mesh) {
      yield meshLines(format, aggregate.mesh.series.list[number]!, groups, options)
    }
    for (const [number, groups] of red ?? []) {
      yield redLines(format, aggregate.red!.series.list[number]!, groups, options)
    }
  }
}

function meshLines(
  format: 'wavefront' | 'histogram',
  { tcp, tags }: MeshSeries,
  groups: readonly Group[],
  options: MetricLinesOptions,
): Line[] {
  const { prefix, points, distributions } = options
  const write = lineWriter(tags, options)
  for (const [metric, index] of tcp ? TCP_METRICS : HTTP_METRICS) {
    const name = `${prefix}.${metric}`
    if (format === 'histogram') {
      for (const granularity of distributions) write.distributions(name, granularity, groups, index)
      continue
    }
    const whole = merged(groups, index)
    if (index === DURATION) write.delta(`${prefix}.requestcount.count`, whole.count)
    if (!points) continue
    write.summary(name, summaryOf(whole))
    if (index === TCP_SENT) for (const ones of TCP_COUNTS) write.summary(`${prefix}.${ones}`, onesOf(whole.count))
  }
  return write.lines
}

function redLines(
  format: 'wavefront' | 'histogram',
  { name, tags, error }: RedSeries,
  groups: readonly Group[],
  options: MetricLinesOptions,
): Line[] {
  if (format === 'histogram') {
    const write = lineWriter(error ? [...tags, ['error', 'true']] : tags, options)
    write.distributions(`${name}.duration.micros`, 'minute', groups, SPAN_DURATION)
    return write.lines
  }
  const write = lineWriter(tags, options)
  const { count, sum } = merged(groups, SPAN_DURATION)
  write.delta(`${name}.invocation.count`, count)
  if (error) write.delta(`${name}.error.count`, count)
  write.delta(`${name}.total_time.millis.count`, Math.floor(Number(sum) / 1000))
  return write.lines
}

function merged(groups: readonly Group[], index: number): Histogram {
  const whole = new Histogram()
  for (const group of groups) {
    const histogram = group.histogram(index)
    if (histogram !== null) whole.merge(histogram)
  }
  return whole
}

/** Histograms put together by the bin that their minutes are in. */
function byBin(groups: readonly Group[], index: number, granularity: Granularity): Map<number, Histogram> {
  const bins = new Map<number, Histogram>()
  for (const group of groups) {
    const histogram = group.histogram(index)
    if (histogram === null) continue
    const { minute } = group
    const bin = Math.floor((minute * MS_PER.minute) / MS_PER[granularity]) * MS_PER[granularity]
    const sum = bins.get(bin) ?? new Histogram()
    sum.merge(histogram)
    bins.set(bin, sum)
  }
  return bins
}

type Summary = readonly (readonly [suffix: string, value: number])[]

/** What the Go library behind Mixer's adapter told of a histogram. */
function summaryOf(histogram: Histogram): Summary {
  return [
    ['count', histogram.count],
    ['min', histogram.min],
    ['max', histogram.max],
    ['mean', histogram.mean],
    ['std-dev', deviationOf(histogram)],
    ...PERCENTILES.map(([suffix, q]) => [suffix, histogram.quantile(q).value] as const),
  ]
}

function onesOf(count: number): Summary {
  const same = ['min', 'max', 'mean', ...PERCENTILES.map(([suffix]) => suffix)]
  return [['count', count], ['std-dev', 0], ...same.map((suffix) => [suffix, 1] as const)]
}

/** Square root of the mean square distance from the mean, by the centroids of the buckets. */
function deviationOf(histogram: Histogram): number {
  const { mean, count } = histogram
  let squares = 0
  for (const { means, counts } of centroidsOf(histogram, Number.POSITIVE_INFINITY)) {
    for (let k = 0; k < means.length; k++) squares += (means[k]! - mean) ** 2 * counts[k]!
  }
  return Math.sqrt(squares / count)
}

function lineWriter(tags: Tags, { source, timestampMs, nowMs, onRefused }: MetricLinesOptions) {
  const lines: Line[] = []
  const put = (format: Format, text: string | Refusal): void => {
    if (typeof text === 'string') lines.push({ format, text })
    else onRefused(text)
  }
  return {
    lines,
    /** An increment of 0 says nothing, and a proxy drops it. */
    delta(name: string, value: number): void {
      if (value === 0) return
      put('wavefront', pointLine({ name: `${DELTA}${name}`, value, timestampMs: null, source, tags }))
    },
    summary(name: string, summary: Summary): void {
      for (const [suffix, value] of summary) {
        put('wavefront', pointLine({ name: `${name}.${suffix}`, value, timestampMs, source, tags }, { nowMs }))
      }
    },
    distributions(name: string, granularity: Granularity, groups: readonly Group[], index: number): void {
      for (const [binMs, histogram] of byBin(groups, index, granularity)) {
        for (const { means, counts } of centroidsOf(histogram)) {
          const series = { name, source, tags, granularity, timestampMs: binMs }
          put('histogram', distributionLine({ ...series, means, counts }, { nowMs }))
        }
      }
    },
  }
}
