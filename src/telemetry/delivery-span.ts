import type { Context, Span } from '@opentelemetry/api'
import { VERSION } from '../version.ts'

/**
 * Sidecast's own work as traces, by OpenTelemetry's API. Nothing happens, and the API is not even loaded, until something
 * has registered a tracer provider (`adapters.otlp.selfTraces`, or an SDK that the process was started with).
 *
 *   trace of a segment (its id hashed)
 *     segment                 from its first row to its seal
 *       ├─ deliver clickhouse  one span for each attempt
 *       └─ deliver otlp-traces
 */
export interface DeliveryAttempt {
  /** A `retry` is an error of the attempt, and so is a rejection. */
  end(outcome: { readonly status: string; readonly error?: Error }): void
}

export interface AttemptOf {
  readonly sink: string
  /** Segments of the attempt: of an interval several; the trace is that of the first. */
  readonly segments: readonly { readonly id: string }[]
  readonly rows: number
  /** From 1: how often this was tried. */
  readonly attempt: number
}

export const SCOPE_NAME = 'sidecast'
/** Segments named on one span. */
const LINKS_MAX = 32
const SAMPLED = 1
const UNTRACED: DeliveryAttempt = { end() {} }
/** Where the API keeps what is registered: there from then on. */
const REGISTERED = Symbol.for('opentelemetry.js.api.1')

type Api = typeof import('@opentelemetry/api')
/** 8 MB of memory, so not before somebody listens. */
let api: Api | null = null

export async function loadTracing(): Promise<void> {
  api ??= await import('@opentelemetry/api')
}

export function startAttempt({ sink, segments, rows, attempt }: AttemptOf): DeliveryAttempt {
  if (api === null) {
    if (REGISTERED in globalThis) void loadTracing()
    return UNTRACED
  }
  const { SpanKind, SpanStatusCode, trace } = api
  const first = segments[0]?.id ?? ''
  const span = trace.getTracer(SCOPE_NAME, VERSION).startSpan(
    `deliver ${sink}`,
    {
      kind: SpanKind.PRODUCER,
      attributes: {
        'sidecast.sink': sink,
        'sidecast.segment': first,
        'sidecast.segments': segments.length,
        'sidecast.rows': rows,
        'sidecast.attempt': attempt,
      },
      links: segments.slice(1, LINKS_MAX).map(({ id }) => ({ context: segmentContext(id) })),
    },
    contextOf(api, first),
  )
  return { end: (outcome) => end(span, SpanStatusCode.ERROR, outcome) }
}

function end(span: Span, failed: number, { status, error }: { readonly status: string; readonly error?: Error }): void {
  span.setAttribute('sidecast.outcome', status)
  if (error !== undefined) {
    span.setAttribute('error.type', error.name)
    span.setStatus({ code: failed, message: error.message })
  }
  span.end()
}

/** Trace and span of a segment: whoever knows its id knows them. */
export function segmentContext(id: string): { traceId: string; spanId: string; traceFlags: number } {
  return { traceId: hex(`${id} trace`, 4), spanId: hex(`${id} span`, 2), traceFlags: SAMPLED }
}

function contextOf({ ROOT_CONTEXT, trace }: Api, id: string): Context {
  return id === '' ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, { ...segmentContext(id), isRemote: true })
}

/** Words of FNV-1a, each seeded with the one before; the last one is odd, so that no id is zero. */
function hex(text: string, words: number): string {
  let out = ''
  let hash = 0x811c9dc5
  for (let word = 0; word < words; word++) {
    for (let k = 0; k < text.length; k++) hash = Math.imul(hash ^ text.charCodeAt(k), 0x01000193)
    hash ^= hash >>> 15
    out += ((word === words - 1 ? hash | 1 : hash) >>> 0).toString(16).padStart(8, '0')
  }
  return out
}
