import { metricRequests } from '../../otlp/metric-requests.ts'
import type { ExportRequest } from '../../otlp/row-requests.ts'
import type { Interval, IntervalSink } from '../../pipeline/interval-delivery.ts'
import type { RollupAggregate } from '../../pipeline/rollup-aggregate.ts'
import type { Outcome } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import type { OtlpClient } from './client.ts'
import { createExporter, type ExportCounters, type Exporter } from './export.ts'

/**
 * The metrics of each interval. What the target has of an interval is not sent to it again after a `retry`; after a
 * restart of the process the interval begins again.
 */
export interface MetricsSink extends IntervalSink<RollupAggregate> {
  readonly counters: Readonly<ExportCounters & { intervals: number; overflowRows: number }>
}

export interface MetricsSinkOptions {
  readonly name: string
  readonly client: OtlpClient
  readonly phases: boolean
  readonly bucketsMax: number
  readonly requestBytesMax: number
  readonly version: string
  readonly log: Log
}

export function createMetricsSink(options: MetricsSinkOptions): MetricsSink {
  return new Metrics(options)
}

class Metrics implements MetricsSink {
  readonly name: string
  readonly #options: MetricsSinkOptions
  readonly #exporter: Exporter
  #intervals = 0
  #overflowRows = 0
  #sending: { readonly aggregate: RollupAggregate; readonly requests: AsyncGenerator<ExportRequest> } | null = null
  #spokenOf = ''

  constructor(options: MetricsSinkOptions) {
    this.name = options.name
    this.#options = options
    this.#exporter = createExporter({
      client: options.client,
      signal: 'metrics',
      onTrouble: (message, error) => {
        const key = `${message}: ${error?.message ?? ''}`
        if (key === this.#spokenOf) return
        this.#spokenOf = key
        options.log.warn({ sink: this.name, error }, message)
      },
    })
  }

  get counters() {
    return { ...this.#exporter.counters, intervals: this.#intervals, overflowRows: this.#overflowRows }
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {}

  async flush(aggregate: RollupAggregate, interval: Interval, signal: AbortSignal): Promise<Outcome> {
    if (this.#sending?.aggregate !== aggregate) {
      this.#exporter.forget()
      this.#sending = { aggregate, requests: this.#requests(aggregate, interval) }
    }
    const outcome = await this.#exporter.run(this.#sending.requests, signal)
    if (outcome.status === 'retry') return outcome
    this.#sending = null
    if (outcome.status === 'rejected') return outcome
    this.#intervals++
    this.#overflowRows += aggregate.overflowRequests
    return { status: 'accepted', dropped: outcome.unimplemented ? interval.rows : interval.rows - aggregate.requests }
  }

  async *#requests(aggregate: RollupAggregate, { fromMs, toMs }: Interval): AsyncGenerator<ExportRequest> {
    const { phases, bucketsMax, requestBytesMax: bytesMax, version } = this.#options
    yield* metricRequests({ aggregate, fromMs, toMs, phases, bucketsMax, bytesMax, version })
  }
}
