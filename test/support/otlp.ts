import { createOrigins } from '../../src/ingest/entry/origins.ts'
import type { LineParser } from '../../src/ingest/lines/parser.ts'
import { jsonToProtobuf } from '../../src/ingest/otlp/json.ts'
import { createLogsDecoder, type LogsDecoder } from '../../src/ingest/otlp/logs.ts'
import type { Signal } from '../../src/ingest/otlp/messages.ts'
import { createMetricsDecoder, type MetricsDecoder } from '../../src/ingest/otlp/metrics.ts'
import { createResourceReader } from '../../src/ingest/otlp/resource.ts'
import { createAttributeRedaction } from '../../src/ingest/otlp/span-redaction.ts'
import { createTracesDecoder, type TracesDecoder } from '../../src/ingest/otlp/traces.ts'
import { createEnvoyNames } from '../../src/metrics/envoy-names.ts'
import { createRedaction } from '../../src/pipeline/redact.ts'
import type { Span, SpanStore } from '../../src/pipeline/spans.ts'
import { createWriting, type Writing } from './entry-writing.ts'
import { type MetricRecorder, recordMetrics } from './metric-recorder.ts'

export const SENDER = { peer: '10.0.0.9:40000', node: '' }

/** Every OTLP decoder with what it writes to kept for looking at. */
export interface OtlpDecoding {
  readonly writing: Writing
  readonly metrics: MetricRecorder
  readonly spans: Span[]
  readonly spanStore: SpanStore
  readonly decoders: { readonly logs: LogsDecoder; readonly metrics: MetricsDecoder; readonly traces: TracesDecoder }
}

export interface OtlpDecodingOptions {
  readonly attributes?: Readonly<Record<string, string>>
  readonly createParser?: () => LineParser
  readonly rowsMax?: number
}

/** A parser of nothing. */
export const noLines = (): LineParser => ({
  name: 'none',
  precisionNs: 1_000_000,
  source: 'text',
  parse: () => 'unmatched',
})

export function createOtlpDecoding(options: OtlpDecodingOptions = {}): OtlpDecoding {
  const writing = createWriting(options.rowsMax === undefined ? {} : { rowsMax: options.rowsMax })
  const metrics = recordMetrics()
  const spans: Span[] = []
  const resources = createResourceReader({ origins: createOrigins() })
  const spanStore: SpanStore = {
    builders: [],
    gather: () => true,
    add(span) {
      // What the decoder gives points into the request.
      const copy = (bytes: Uint8Array) => Uint8Array.from(bytes)
      const { traceId, spanId, parentSpanId, attributes, resource } = span
      spans.push({
        ...span,
        traceId: copy(traceId),
        spanId: copy(spanId),
        parentSpanId: copy(parentSpanId),
        attributes: [...attributes],
        resource: [...resource],
      })
      return true
    },
    async synced() {},
    counters: { spans: 0, refused: 0 },
  }
  return {
    writing,
    metrics,
    spans,
    spanStore,
    decoders: {
      logs: createLogsDecoder({
        writer: writing.writer,
        resources,
        createParser: options.createParser ?? noLines,
        attributes: options.attributes ?? {},
      }),
      metrics: createMetricsDecoder({ store: metrics, resources, names: createEnvoyNames(), prefix: 'envoy' }),
      traces: createTracesDecoder({
        store: spanStore,
        resources,
        redact: createAttributeRedaction(createRedaction()),
      }),
    },
  }
}

/** A request in OTLP's JSON form as protobuf. */
export function otlp(signal: Signal, request: unknown): Buffer {
  const made = jsonToProtobuf(signal, JSON.stringify(request))
  if (!made.ok) throw new Error(made.message)
  return made.bytes
}

/** Attributes in JSON form: texts, numbers, and anything that is an AnyValue already. */
export function attributesOf(values: Readonly<Record<string, unknown>>): unknown[] {
  return Object.entries(values).map(([key, value]) => ({ key, value: anyValueOf(value) }))
}

function anyValueOf(value: unknown): unknown {
  if (typeof value === 'string') return { stringValue: value }
  if (typeof value === 'boolean') return { boolValue: value }
  if (typeof value === 'number') return Number.isInteger(value) ? { intValue: String(value) } : { doubleValue: value }
  if (Array.isArray(value)) return { arrayValue: { values: value.map(anyValueOf) } }
  return { kvlistValue: { values: attributesOf(value as Record<string, unknown>) } }
}

/** Labels that Envoy's access logger adds by itself. */
export const ENVOY_LABELS = { log_name: 'otel', zone_name: 'z1', cluster_name: 'edge', node_name: 'edge-1' }

/** One log record as a request. */
export function logRequest(
  record: Readonly<Record<string, unknown>>,
  resource: Readonly<Record<string, unknown>> = ENVOY_LABELS,
): Buffer {
  return otlp('logs', {
    resourceLogs: [{ resource: { attributes: attributesOf(resource) }, scopeLogs: [{ logRecords: [record] }] }],
  })
}
