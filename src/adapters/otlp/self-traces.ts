import type { TraceAPI } from '@opentelemetry/api'
import type { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import type { ReadableSpan, SpanExporter, TracerProvider } from '@opentelemetry/sdk-trace'
import type { ClientTlsOptions } from '../../lib/tls.ts'
import type { Segment } from '../../pipeline/segment.ts'
import type { Stage } from '../../pipeline/sink.ts'
import { loadTracing, SCOPE_NAME, segmentContext } from '../../telemetry/delivery-span.ts'
import { credentialsOf, type OtlpClientOptions } from './client.ts'

/**
 * Sends the traces of Sidecast's own batches, by OpenTelemetry's SDK and its OTLP exporter. They are few (some spans a
 * second) and not kept: what cannot be sent within the exporter's own retries is lost, and counted.
 *
 * The libraries are loaded at the start. One in a process: the provider is registered with the API.
 */
export interface SelfTraces extends Stage {
  /** A segment that was sealed; tells of each once, as far as one process knows. */
  segment(segment: Segment): void
  readonly counters: Readonly<SelfTraceCounters>
}

export interface SelfTraceCounters {
  ended: number
  exported: number
  failed: number
}

export interface SelfTracesOptions extends Omit<OtlpClientOptions, 'gzip'> {
  readonly gzip: boolean
  readonly host: string
  readonly version: string
}

type Compression = NonNullable<NonNullable<ConstructorParameters<typeof OTLPTraceExporter>[0]>['compression']>

/** Spans that wait, at most; above it new ones are dropped. 2 KB each. */
const QUEUE_MAX = 2048
const BATCH_MAX = 512
const DELAY_MS = 2000
/** Of the last flush at the stop. */
const STOP_MS = 2000

export function createSelfTraces(options: SelfTracesOptions): SelfTraces {
  return new Traces(options)
}

class Traces implements SelfTraces {
  readonly name = 'otlp-self-traces'
  readonly counters: SelfTraceCounters = { ended: 0, exported: 0, failed: 0 }
  readonly #options: SelfTracesOptions
  #provider: TracerProvider | null = null
  /** Where the provider is registered. */
  #registered: TraceAPI | null = null
  /** Ids of the span that is started next; null: by chance. */
  #next: { readonly traceId: string; readonly spanId: string } | null = null
  /** Of the last segment that was told. */
  #told = ''

  constructor(options: SelfTracesOptions) {
    this.#options = options
  }

  async start(): Promise<void> {
    if (this.#provider !== null) return
    const [{ trace }, { BatchSpanProcessor, RandomIdGenerator, TracerProvider }, { resourceFromAttributes }] =
      await Promise.all([
        import('@opentelemetry/api'),
        import('@opentelemetry/sdk-trace'),
        import('@opentelemetry/resources'),
      ])
    await loadTracing()
    const random = new RandomIdGenerator()
    const batches = new BatchSpanProcessor({
      exporter: await this.#exporter(),
      maxQueueSize: QUEUE_MAX,
      maxExportBatchSize: BATCH_MAX,
      scheduledDelayMillis: DELAY_MS,
      exportTimeoutMillis: this.#options.timeoutMs,
    })
    this.#provider = new TracerProvider({
      resource: resourceFromAttributes({
        'service.name': 'sidecast',
        'service.version': this.#options.version,
        'service.instance.id': this.#options.host,
      }),
      idGenerator: {
        generateTraceId: () => this.#next?.traceId ?? random.generateTraceId(),
        generateSpanId: () => this.#next?.spanId ?? random.generateSpanId(),
      },
      spanProcessors: [
        {
          onStart() {},
          onEnd: () => {
            this.counters.ended++
          },
          async forceFlush() {},
          async shutdown() {},
        },
        batches,
      ],
    })
    // False where the process was started with an SDK of its own: that one then gets the spans.
    if (trace.setGlobalTracerProvider(this.#provider)) this.#registered = trace
  }

  async stop(deadline: AbortSignal): Promise<void> {
    const provider = this.#provider
    if (provider === null) return
    this.#provider = null
    this.#registered?.disable()
    const limit = AbortSignal.any([deadline, AbortSignal.timeout(STOP_MS)])
    const over = new Promise<void>((resolve) => {
      if (limit.aborted) resolve()
      limit.addEventListener('abort', () => resolve(), { once: true })
    })
    await Promise.race([provider.shutdown().catch(() => {}), over])
  }

  segment(segment: Segment): void {
    if (this.#provider === null || segment.id === this.#told) return
    this.#told = segment.id
    const { id, openedMs, sealedMs, tables } = segment
    this.#next = segmentContext(id)
    const span = this.#provider
      .getTracer(SCOPE_NAME, this.#options.version)
      .startSpan('segment', { startTime: new Date(openedMs), root: true })
    this.#next = null
    span.setAttribute('sidecast.segment', id)
    span.setAttribute(
      'sidecast.bytes',
      tables.reduce((sum, { bytes }) => sum + bytes, 0),
    )
    for (const { table, rows } of tables) span.setAttribute(`sidecast.rows.${table}`, rows)
    if (segment.recovered === true) span.setAttribute('sidecast.recovered', true)
    // As dates: the SDK takes numbers from before the process began for readings of a monotonic clock.
    span.end(new Date(Math.max(sealedMs, openedMs)))
  }

  /** OpenTelemetry's exporter; another one when the files of TLS have changed. Counts what becomes of spans. */
  async #exporter(): Promise<SpanExporter> {
    const { endpoint, headers, gzip, timeoutMs, userAgent, tls } = this.#options
    const [grpc, { OTLPTraceExporter }] = await Promise.all([
      import('@grpc/grpc-js'),
      import('@opentelemetry/exporter-trace-otlp-grpc'),
    ])
    const metadata = new grpc.Metadata()
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value)
    let open: { readonly exporter: OTLPTraceExporter; readonly files: ClientTlsOptions | null } | null = null
    const current = (): OTLPTraceExporter => {
      const files = endpoint.secure ? tls.options() : null
      if (open !== null && open.files === files) return open.exporter
      void open?.exporter.shutdown()
      const exporter = new OTLPTraceExporter({
        url: `${endpoint.secure ? 'https' : 'http'}://${endpoint.target}`,
        credentials: credentialsOf(grpc, endpoint, files),
        metadata,
        compression: (gzip ? 'gzip' : 'none') as Compression,
        timeoutMillis: timeoutMs,
        userAgent,
      })
      open = { exporter, files }
      return exporter
    }
    return {
      export: (spans: ReadableSpan[], done) => {
        try {
          current().export(spans, (result) => {
            if (result.code === 0) this.counters.exported += spans.length
            else this.counters.failed += spans.length
            done(result)
          })
        } catch (error) {
          this.counters.failed += spans.length
          done({ code: 1, error: error instanceof Error ? error : new Error(String(error)) })
        }
      },
      forceFlush: async () => open?.exporter.forceFlush(),
      shutdown: async () => open?.exporter.shutdown(),
    }
  }
}
