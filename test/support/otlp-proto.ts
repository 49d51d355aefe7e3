import { join } from 'node:path'
import protobuf from 'protobufjs'

/** OTLP by its official definitions (test/fixtures/otlp-proto), read by protobufjs: the oracle of what we send. */
const root = new protobuf.Root()
const folder = join(import.meta.dirname, '..', 'fixtures', 'otlp-proto')
root.resolvePath = (_, target) => join(folder, target)
root.loadSync(
  ['trace/v1/trace_service', 'metrics/v1/metrics_service', 'logs/v1/logs_service'].map(
    (name) => `opentelemetry/proto/collector/${name}.proto`,
  ),
  { keepCase: false },
)

const REQUESTS = {
  traces: 'opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest',
  metrics: 'opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest',
  logs: 'opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest',
} as const
export type SignalName = keyof typeof REQUESTS

/** A request as an object: 64-bit numbers as decimal texts, enums as numbers, bytes as hex. */
export function decodeRequest(signal: SignalName, bytes: Uint8Array, ours = true): unknown {
  const type = root.lookupType(REQUESTS[signal])
  const message = type.decode(bytes)
  // What the definitions do not know would be passed over: encoding again must give as many bytes. Others write zeros too.
  const again = type.encode(message).finish().length
  if (ours && again !== bytes.length) throw new Error(`${bytes.length - again} bytes mean nothing by the definitions`)
  return hexed(type.toObject(message, { longs: String, enums: Number, bytes: Buffer }))
}

export function encodeResponse(signal: SignalName, rejected: number, message: string): Buffer {
  const name = { traces: 'Trace', metrics: 'Metrics', logs: 'Logs' }[signal]
  const field = { traces: 'rejectedSpans', metrics: 'rejectedDataPoints', logs: 'rejectedLogRecords' }[signal]
  const type = root.lookupType(REQUESTS[signal].replace(/Export.*$/, `Export${name}ServiceResponse`))
  return Buffer.from(
    type.encode(type.fromObject({ partialSuccess: { [field]: rejected, errorMessage: message } })).finish(),
  )
}

function hexed(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return value.toString('hex')
  if (Array.isArray(value)) return value.map(hexed)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, hexed(inner)]))
}

interface AnyValue {
  readonly stringValue?: string
  readonly intValue?: string
  readonly doubleValue?: number
  readonly boolValue?: boolean
  readonly arrayValue?: { readonly values: readonly AnyValue[] }
}
export type Attributes = Readonly<Record<string, unknown>>
interface KeyValue {
  readonly key: string
  readonly value: AnyValue
}

function plain(value: AnyValue): unknown {
  if (value.arrayValue !== undefined) return value.arrayValue.values.map(plain)
  if (value.intValue !== undefined) return Number(value.intValue)
  return value.stringValue ?? value.doubleValue ?? value.boolValue
}

/** By key; a key that stands twice is an error. */
export function attributesOf(pairs: readonly KeyValue[] = []): Attributes {
  const attributes: Record<string, unknown> = {}
  for (const { key, value } of pairs) {
    if (key in attributes) throw new Error(`attribute ${key} stands twice`)
    attributes[key] = plain(value)
  }
  return attributes
}

export interface SpanRead {
  readonly resource: Attributes
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string
  readonly traceState: string
  readonly name: string
  readonly kind: number
  readonly start: bigint
  readonly end: bigint
  readonly attributes: Attributes
  readonly events: readonly { readonly name: string; readonly time: bigint; readonly attributes: Attributes }[]
  readonly status: { readonly code?: number; readonly message?: string }
  readonly flags: number
}

type Raw = Readonly<Record<string, never>>
interface Scoped {
  readonly scope: { readonly name: string; readonly version: string }
  readonly spans?: readonly Raw[]
  readonly logRecords?: readonly Raw[]
  readonly metrics?: readonly Raw[]
}

function* each(
  signal: SignalName,
  bytes: Uint8Array,
  ours = true,
): Generator<{ resource: Attributes; item: Record<string, never> }> {
  const request = decodeRequest(signal, bytes, ours) as Record<string, readonly Record<string, never>[]>
  const [groups, scopes, items] = {
    traces: ['resourceSpans', 'scopeSpans', 'spans'],
    metrics: ['resourceMetrics', 'scopeMetrics', 'metrics'],
    logs: ['resourceLogs', 'scopeLogs', 'logRecords'],
  }[signal] as ['resourceSpans', 'scopeSpans', 'spans']
  for (const group of request[groups] ?? []) {
    const resource = attributesOf((group.resource as unknown as { attributes?: readonly KeyValue[] }).attributes)
    for (const scoped of (group as Record<string, readonly Scoped[]>)[scopes] ?? []) {
      for (const item of scoped[items] ?? []) yield { resource, item: item as Record<string, never> }
    }
  }
}

export function spansOf(bytes: Uint8Array, ours = true): SpanRead[] {
  return [...each('traces', bytes, ours)].map(({ resource, item }) => ({
    resource,
    traceId: item.traceId ?? '',
    spanId: item.spanId ?? '',
    parentSpanId: item.parentSpanId ?? '',
    traceState: item.traceState ?? '',
    name: item.name ?? '',
    kind: item.kind ?? 0,
    start: BigInt(item.startTimeUnixNano ?? 0),
    end: BigInt(item.endTimeUnixNano ?? 0),
    attributes: attributesOf(item.attributes),
    events: ((item.events ?? []) as readonly Record<string, never>[]).map((event) => ({
      name: event.name ?? '',
      time: BigInt(event.timeUnixNano ?? 0),
      attributes: attributesOf(event.attributes),
    })),
    status: item.status ?? {},
    flags: item.flags ?? 0,
  }))
}

export interface LogRead {
  readonly resource: Attributes
  readonly time: bigint
  readonly observed: bigint
  readonly severity: number
  readonly severityText: string
  readonly body: unknown
  readonly attributes: Attributes
  readonly traceId: string
  readonly spanId: string
  readonly flags: number
  readonly eventName: string
}

export function logsOf(bytes: Uint8Array): LogRead[] {
  return [...each('logs', bytes)].map(({ resource, item }) => ({
    resource,
    time: BigInt(item.timeUnixNano ?? 0),
    observed: BigInt(item.observedTimeUnixNano ?? 0),
    severity: item.severityNumber ?? 0,
    severityText: item.severityText ?? '',
    body: item.body === undefined ? undefined : plain(item.body),
    attributes: attributesOf(item.attributes),
    traceId: item.traceId ?? '',
    spanId: item.spanId ?? '',
    flags: item.flags ?? 0,
    eventName: item.eventName ?? '',
  }))
}

export interface PointRead {
  readonly resource: Attributes
  readonly name: string
  readonly unit: string
  readonly temporality: number
  readonly monotonic: boolean | null
  readonly attributes: Attributes
  readonly start: bigint
  readonly end: bigint
  /** Of a sum. */
  readonly value: number | null
  /** Of an exponential histogram. */
  readonly histogram: {
    readonly scale: number
    readonly count: number
    readonly sum: number
    readonly min: number
    readonly max: number
    readonly zeroCount: number
    readonly offset: number
    readonly counts: readonly number[]
  } | null
}

export function pointsOf(bytes: Uint8Array): PointRead[] {
  return [...each('metrics', bytes)].flatMap(({ resource, item }) => {
    const data = (item.sum ?? item.exponentialHistogram) as unknown as {
      readonly dataPoints: readonly Record<string, never>[]
      readonly aggregationTemporality: number
      readonly isMonotonic?: boolean
    }
    return data.dataPoints.map((point): PointRead => {
      const positive = (point.positive ?? {}) as { offset?: number; bucketCounts?: readonly string[] }
      return {
        resource,
        name: item.name ?? '',
        unit: item.unit ?? '',
        temporality: data.aggregationTemporality,
        monotonic: item.sum === undefined ? null : data.isMonotonic === true,
        attributes: attributesOf(point.attributes),
        start: BigInt(point.startTimeUnixNano ?? 0),
        end: BigInt(point.timeUnixNano ?? 0),
        value: item.sum === undefined ? null : Number(point.asInt ?? point.asDouble ?? 0),
        histogram:
          item.sum !== undefined
            ? null
            : {
                scale: point.scale ?? 0,
                count: Number(point.count ?? 0),
                sum: point.sum ?? 0,
                min: point.min ?? 0,
                max: point.max ?? 0,
                zeroCount: Number(point.zeroCount ?? 0),
                offset: positive.offset ?? 0,
                counts: (positive.bucketCounts ?? []).map(Number),
              },
      }
    })
  })
}
