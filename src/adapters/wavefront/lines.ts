import { type Limits, STRICT_LIMITS } from './limits.ts'
import { quote, type Tags } from './text.ts'
import {
  type Refusal,
  refusal,
  refuseDistribution,
  refusePoint,
  refuseSpan,
  refuseTime,
  type Series,
} from './validate.ts'

/**
 * Lines of Wavefront's protocol, one for each record, ending in a line feed.
 *
 *   point         "name" 42 1793491200 source="gw" "svc"="cart"
 *   distribution  !M 1793491200 #12 4.5 #3 80 "name" source="gw" "svc"="cart"
 *   span          "GET /" source="gw" traceId=… spanId=… "service"="cart" … 1793491200123456 17000
 *   span logs     {"traceId":"…","spanId":"…","logs":[…]}
 *
 * Nothing is repaired here: what a proxy would refuse comes back as a `Refusal` with the proxy's code. Texts are made fit
 * before, by `text.ts`.
 */
export interface Point extends Series {
  /** Of a delta counter (see `DELTA`): the increment, above 0. */
  readonly value: number
  /** Kept at a resolution of 1 s; null: the time of arrival, as delta counters need it. */
  readonly timestampMs: number | null
}

export type Granularity = 'minute' | 'hour' | 'day'

/** Observations of a minute, hour or day. The service adds distributions of one series and bin. */
export interface Distribution extends Series {
  readonly granularity: Granularity
  /** Any time of the bin. */
  readonly timestampMs: number
  /** Ascending, distinct. */
  readonly means: ArrayLike<number>
  /** Of each mean, whole numbers from 1 to 2^31 − 1. */
  readonly counts: ArrayLike<number>
}

export interface Span {
  readonly name: string
  readonly source: string
  /** 32 and 16 hex digits; not zero. */
  readonly traceId: string
  readonly spanId: string
  /** 16 hex digits; '' for a root. */
  readonly parentSpanId: string
  /** µs since 1970, with 16 digits: from 2001 to 2286. */
  readonly startUs: number
  readonly durationUs: number
  /** `application`, `service`, `cluster` and `shard` once each; others may repeat. */
  readonly tags: Tags
}

export interface SpanLog {
  readonly timeUs: number
  readonly fields: Tags
}

export interface LineOptions {
  readonly limits?: Limits
  /** Wall clock, ms, to judge timestamps by; absent: they are not judged. */
  readonly nowMs?: number
}

export const GRANULARITIES: readonly Granularity[] = ['minute', 'hour', 'day']
const LITERALS: Readonly<Record<Granularity, string>> = { minute: '!M', hour: '!H', day: '!D' }
const REQUIRED_OF_SPANS = ['application', 'service', 'cluster', 'shard'] as const
const START_US_MIN = 1e15
const START_US_MAX = 1e16

export function pointLine(point: Point, { limits = STRICT_LIMITS, nowMs }: LineOptions = {}): string | Refusal {
  const refused = refusePoint(point, limits) ?? timeRefusal(point.timestampMs, nowMs, point.name)
  if (refused !== null) return refused
  const time = point.timestampMs === null ? '' : ` ${Math.floor(point.timestampMs / 1000)}`
  return `${quote(point.name)} ${numberText(point.value)}${time} source=${quote(point.source)}${tagsText(point.tags)}\n`
}

export function distributionLine(
  distribution: Distribution,
  { limits = STRICT_LIMITS, nowMs }: LineOptions = {},
): string | Refusal {
  const { means, counts, name, timestampMs } = distribution
  const refused = refuseDistribution(distribution, limits) ?? timeRefusal(timestampMs, nowMs, name)
  if (refused !== null) return refused
  let centroids = ''
  for (let k = 0; k < counts.length; k++) centroids += ` #${counts[k]} ${numberText(means[k]!)}`
  const head = `${LITERALS[distribution.granularity]} ${Math.floor(timestampMs / 1000)}`
  return `${head}${centroids} ${quote(name)} source=${quote(distribution.source)}${tagsText(distribution.tags)}\n`
}

export function spanLine(span: Span, { limits = STRICT_LIMITS }: LineOptions = {}): string | Refusal {
  const { traceId, spanId, parentSpanId, startUs, durationUs } = span
  const tags = parentSpanId === '' ? span.tags : [['parent', spanUuid(parentSpanId)] as const, ...span.tags]
  const refused = refuseSpan({ name: span.name, source: span.source, tags }, limits) ?? refuseIdentity(span)
  if (refused !== null) return refused
  const ids = `traceId=${traceUuid(traceId)} spanId=${spanUuid(spanId)}`
  return `${quote(span.name)} source=${quote(span.source)} ${ids}${tagsText(tags)} ${startUs} ${durationUs}\n`
}

/** `span` is its line: a proxy samples the logs by it as it samples the span. */
export function spanLogsLine(span: Span, logs: readonly SpanLog[], line: string): string {
  return `${JSON.stringify({
    traceId: traceUuid(span.traceId),
    spanId: spanUuid(span.spanId),
    logs: logs.map(({ timeUs, fields }) => ({ timestamp: timeUs, fields: Object.fromEntries(fields) })),
    span: line.trimEnd(),
  })}\n`
}

/** 32 hex digits in the form of a UUID. */
export function traceUuid(hex: string): string {
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

/** 16 hex digits in the form of a UUID, zeros in front. */
export function spanUuid(hex: string): string {
  return traceUuid(hex.padStart(32, '0'))
}

function tagsText(tags: Tags): string {
  let text = ''
  for (const [key, value] of tags) text += ` ${quote(key)}=${quote(value)}`
  return text
}

/** As `Double.parseDouble` reads it; −0 is 0. */
function numberText(value: number): string {
  return value === 0 ? '0' : String(value)
}

function timeRefusal(timestampMs: number | null, nowMs: number | undefined, name: string): Refusal | null {
  if (timestampMs === null || nowMs === undefined) return null
  return refuseTime(timestampMs, nowMs, name)
}

/** What a proxy lets through, and a service cannot show. */
function refuseIdentity(span: Span): Refusal | null {
  if (!isId(span.traceId, 32)) return refusal('WF-300', `traceId is not 32 hex digits: ${span.traceId}`)
  if (!isId(span.spanId, 16)) return refusal('WF-300', `spanId is not 16 hex digits: ${span.spanId}`)
  if (span.parentSpanId !== '' && !isId(span.parentSpanId, 16)) {
    return refusal('WF-300', `parent is not 16 hex digits: ${span.parentSpanId}`)
  }
  const { startUs, durationUs } = span
  if (!(Number.isInteger(startUs) && startUs >= START_US_MIN && startUs < START_US_MAX)) {
    return refusal('WF-402', 'Span outside of reasonable timeframe')
  }
  if (!(Number.isInteger(durationUs) && durationUs >= 0 && durationUs < startUs)) {
    return refusal('WF-300', `duration is not a number of µs: ${durationUs}`)
  }
  for (const key of REQUIRED_OF_SPANS) {
    const times = span.tags.filter(([name]) => name === key).length
    if (times !== 1) return refusal('WF-300', `${key} must be there once, and is ${times} times`)
  }
  return null
}

function isId(text: string, digits: number): boolean {
  return text.length === digits && /^[0-9a-f]+$/.test(text) && !/^0+$/.test(text)
}
