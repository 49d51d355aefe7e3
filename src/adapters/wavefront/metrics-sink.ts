import type { Clock } from '../../lib/clock.ts'
import type { Interval, IntervalSink } from '../../pipeline/interval-delivery.ts'
import type { Outcome } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import type { AggregateCounters, WavefrontAggregate } from './aggregate.ts'
import { createLineQueue, type LineQueue } from './batches.ts'
import type { WavefrontCounters } from './counters.ts'
import type { Granularity } from './lines.ts'
import { metricLines } from './metric-lines.ts'
import type { Transport } from './transport.ts'

/**
 * Sends what an interval adds up to. A retry goes on with the first line that was not taken. A process that is killed
 * between the answer of the target and its own cursor sends the interval again: counters and distributions of it count
 * twice then, points overwrite themselves.
 */
export interface MetricsSinkOptions {
  readonly transport: Transport
  readonly counters: WavefrontCounters
  readonly prefix: string
  readonly source: string
  readonly points: boolean
  readonly distributions: readonly Granularity[]
  readonly clock: Clock
  readonly log: Log
  /** Services that had spans in the interval. */
  readonly onServices: (services: Iterable<string>) => void
}

export interface MetricsSink extends IntervalSink<WavefrontAggregate> {
  /** Of all intervals that were sent. */
  readonly rows: Readonly<AggregateCounters>
}

export function createMetricsSink(options: MetricsSinkOptions): MetricsSink {
  const { transport, counters, prefix, source, points, distributions, clock, log, onServices } = options
  const rows: AggregateCounters = { read: 0, filtered: 0, secondary: 0, skipped: 0, overflow: 0 }
  let pending: { readonly aggregate: WavefrontAggregate; readonly queue: LineQueue } | null = null

  function queueOf(aggregate: WavefrontAggregate, interval: Interval): LineQueue {
    if (pending?.aggregate === aggregate) return pending.queue
    const nowMs = clock.now()
    const lines = metricLines(aggregate, {
      prefix,
      source,
      points,
      distributions,
      // One part of an interval must not overwrite the points of another one: the end is for what was sent after it.
      timestampMs: interval.part === 0 && nowMs >= interval.toMs ? interval.toMs : aggregate.sealedMs,
      nowMs,
      onRefused: (refusal) => counters.refuse(refusal),
    })
    const queue = createLineQueue({
      lines,
      counters: counters.lines,
      onRefused: (count, error) => log.error({ sink: 'wavefront', lines: count, error }, 'lines were refused for good'),
    })
    pending = { aggregate, queue }
    return queue
  }

  return {
    name: 'wavefront',
    rows,
    async start() {},
    async stop() {},
    async flush(aggregate, interval, signal): Promise<Outcome> {
      const outcome = await queueOf(aggregate, interval).drain(transport, signal)
      if (outcome.status === 'retry') return outcome
      pending = null
      if (outcome.status === 'rejected') return outcome
      for (const key of Object.keys(rows) as (keyof AggregateCounters)[]) rows[key] += aggregate.counters[key]
      onServices(new Set(aggregate.red?.series.list.map(({ service }) => service)))
      return { status: 'accepted', dropped: aggregate.counters.filtered }
    },
  }
}
