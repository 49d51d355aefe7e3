import { CENTROIDS_MAX, FUTURE_MS_MAX, type Limits, PAST_MS_MAX, TAG_MAX, WEIGHT_MAX } from './limits.ts'
import { isBlank, isDeltaName, isLegalName, type Tags } from './text.ts'

/**
 * What a Wavefront proxy would refuse, with its codes and in its words, so that it is refused here and counted here: over
 * TCP a proxy answers nothing, and over HTTP it takes a body whatever is in its lines. The order of the checks is the
 * proxy's too (`Validation` of its java-lib), so that the reason is the same where several hold.
 *
 * Stricter than the proxy in two points that it lets through and a service cannot use: values that are no number, and
 * spans without ids or without the tags that name their service.
 */
export interface Refusal {
  /** `WF-408`: key of counters and of docs. */
  readonly code: RefusalCode
  /** As the proxy logs it. */
  readonly reason: string
}

export const REFUSAL_CODES = [
  'WF-300',
  'WF-400',
  'WF-401',
  'WF-402',
  'WF-403',
  'WF-404',
  'WF-405',
  'WF-406',
  'WF-407',
  'WF-408',
  'WF-409',
  'WF-410',
  'WF-411',
  'WF-412',
  'WF-413',
  'WF-414',
  'WF-415',
  'WF-416',
  'WF-426',
  'WF-427',
  'WF-428',
  'WF-430',
  'WF-432',
  'WF-433',
  'WF-434',
] as const
export type RefusalCode = (typeof REFUSAL_CODES)[number]

export function refusal(code: RefusalCode, reason: string): Refusal {
  return { code, reason: `${code}: ${reason}` }
}

export interface Series {
  readonly name: string
  readonly source: string
  readonly tags: Tags
}

export function refusePoint(point: Series & { readonly value: number }, limits: Limits): Refusal | null {
  const unreadable = refuseText([point.name, point.source, ...point.tags.flat()])
  if (unreadable !== null) return unreadable
  const series = refuseSeries(point, limits, 'metric')
  if (series !== null) return series
  if (!Number.isFinite(point.value)) {
    return refusal('WF-403', `Value is not a long/double/histogram object: ${point.value}`)
  }
  if (isDeltaName(point.name) && point.value <= 0) return refusal('WF-404', 'Delta metrics cannot be non-positive')
  return null
}

export function refuseDistribution(
  distribution: Series & { readonly means: ArrayLike<number>; readonly counts: ArrayLike<number> },
  limits: Limits,
): Refusal | null {
  const { name, source, tags, means, counts } = distribution
  return (
    refuseText([name, source, ...tags.flat()]) ??
    refuseCentroids(means, counts) ??
    refuseSeries(distribution, limits, 'histogram') ??
    refuseEmpty(counts)
  )
}

/** The time of a point or distribution, against the clock. */
export function refuseTime(timestampMs: number, nowMs: number, name: string): Refusal | null {
  if (timestampMs >= nowMs - PAST_MS_MAX && timestampMs <= nowMs + FUTURE_MS_MAX) return null
  return refusal('WF-402', `Point outside of reasonable timeframe (${name})`)
}

export interface SpanText {
  readonly name: string
  readonly source: string
  /** Annotations as they stand in the line, without source and ids. */
  readonly tags: Tags
}

export function refuseSpan(span: SpanText, limits: Limits): Refusal | null {
  const unreadable = refuseText([span.name, span.source, ...span.tags.flat()])
  if (unreadable !== null) return unreadable
  const { name, source, tags } = span
  if (isBlank(source)) return refusal('WF-426', 'Span source/host name is required')
  if (source.length > limits.source) {
    return refusal('WF-427', `Span source/host name is too long ${of(source, limits.source)}`)
  }
  if (name.length > limits.spanName) return refusal('WF-428', `Span name is too long ${of(name, limits.spanName)}`)
  if (name.includes('*')) return refusal('WF-415', `Span name has illegal character *: ${name}`)
  if (tags.length > limits.spanTags) {
    return refusal('WF-430', `Span has too many annotations (${tags.length}, max ${limits.spanTags})`)
  }
  for (const [key, value] of tags) {
    if (key.length > limits.spanTagKey) {
      return refusal('WF-432', `Span annotation key is too long ${of(key, limits.spanTagKey)}`)
    }
    if (!isLegalName(key)) return refusal('WF-416', `Span annotation key has illegal character(s): ${key}`)
    if (isBlank(value)) return refusal('WF-434', `Span annotation value for ${key} is empty or missing `)
    if (value.length > limits.spanTagValue) {
      const length = of(value, limits.spanTagValue).replace(/\): .*$/s, ')')
      return refusal('WF-433', `Span annotation value for ${key} is too long ${length}`)
    }
  }
  return null
}

function refuseSeries({ name, source, tags }: Series, limits: Limits, kind: 'metric' | 'histogram'): Refusal | null {
  if (isBlank(source)) return refusal('WF-406', 'Source/host name is required')
  if (source.length > limits.source) {
    return refusal('WF-407', `Source/host name is too long ${of(source, limits.source)}`)
  }
  if (kind === 'metric' && name.length > limits.metricName) {
    return refusal('WF-408', `Metric name is too long ${of(name, limits.metricName)}`)
  }
  if (kind === 'histogram' && name.length > limits.histogramName) {
    return refusal('WF-409', `Histogram name is too long ${of(name, limits.histogramName)}`)
  }
  if (!isLegalName(name)) return refusal('WF-400', `Point metric has illegal character(s): ${name}`)
  if (tags.length > limits.tags) {
    return refusal('WF-410', `Too many point tags (${tags.length}, max ${limits.tags}): `)
  }
  for (const [key, value] of tags) {
    const both = key.length + value.length
    if (both > TAG_MAX) {
      return refusal('WF-411', `Point tag (key+value) too long (${both + 1} characters, max: 255): ${key}=${value}`)
    }
    if (key.length > limits.tagKey) return refusal('WF-412', `Point tag key is too long ${of(key, limits.tagKey)}`)
    if (!isLegalName(key)) return refusal('WF-401', `Point tag key has illegal character(s): ${key}`)
    if (isBlank(value)) return refusal('WF-414', `Point tag value for ${key} is empty or missing`)
    if (value.length > limits.tagValue) {
      return refusal('WF-413', `Point tag value is too long ${of(value, limits.tagValue)}`)
    }
  }
  return null
}

function refuseCentroids(means: ArrayLike<number>, counts: ArrayLike<number>): Refusal | null {
  if (counts.length === 0) return refusal('WF-300', 'Empty histogram (no centroids)')
  for (let k = 0; k < counts.length; k++) {
    const [count, mean] = [counts[k]!, means[k]!]
    if (!Number.isInteger(count) || Math.abs(count) > WEIGHT_MAX) {
      return refusal('WF-300', `Expected: centroid weight, got: ${count}`)
    }
    if (!Number.isFinite(mean)) return refusal('WF-300', `Expected: centroid value, got: ${mean}`)
  }
  return counts.length > CENTROIDS_MAX ? refusal('WF-300', `Too many centroids (max: ${CENTROIDS_MAX})`) : null
}

/** Centroids without weight do not count. */
function refuseEmpty(counts: ArrayLike<number>): Refusal | null {
  for (let k = 0; k < counts.length; k++) if (counts[k]! > 0) return null
  return refusal('WF-405', 'Empty histogram')
}

/** What quoting cannot carry: the line would end, or not be read to its end. */
function refuseText(texts: readonly string[]): Refusal | null {
  for (const text of texts) {
    if (text.endsWith('\\')) return refusal('WF-300', 'Unmatched quote character: (")')
    if (LINE_BREAKING.test(text)) return refusal('WF-300', 'a line feed, carriage return or U+0004 inside a value')
  }
  return null
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: that one makes a proxy drop the line.
const LINE_BREAKING = /[\n\r\u0004]/

const of = (text: string, max: number): string => `(${text.length} characters, max: ${max}): ${text}`
