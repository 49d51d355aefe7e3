import { createGenerations } from '../../lib/generations.ts'
import type { EnvoyNames } from '../../metrics/envoy-names.ts'
import type { MetricStore } from '../../metrics/store.ts'
import type { NodeReader } from '../als/node.ts'
import { createRejectedLog, type RejectedGroup } from '../als/rejected.ts'
import type { CallInfo, Gate, GrpcService, StreamHandler } from '../grpc/index.ts'
import type { CounterMode } from './counter-mode.ts'
import { createMessageReader } from './decode.ts'
import { type MetricsStream, openMetricsStream, type StreamShared } from './stream.ts'

/**
 * `envoy.service.metrics.v3.MetricsService` on the gRPC port. Envoy opens one stream, says who it is in the first message, and
 * sends all its stats at every flush; it reads no answer. Both label modes, all three histogram modes, increases and totals.
 */
export interface MetricsServiceReceiver {
  readonly services: readonly GrpcService[]
  readonly counters: Readonly<MetricsServiceCounters>
  /** What was refused lately, latest first. */
  rejected(): RejectedGroup[]
  /** Open streams, oldest first. */
  streams(): MetricsStream[]
}

export interface MetricsServiceOptions {
  readonly metrics: MetricStore
  readonly nodes: NodeReader
  /** Of Envoy's own tags, and of Istio's for nodes of Istio. */
  readonly names: { readonly envoy: EnvoyNames; readonly istio: EnvoyNames }
  readonly gate: Gate
  /** `auto` finds out for each node. */
  readonly counterValues?: 'auto' | 'delta' | 'absolute'
  /** Wall clock, ms. */
  readonly clock?: () => number
}

export interface MetricsServiceCounters {
  messages: number
  bytes: number
  families: number
  /** Values handed to the metric store. */
  metrics: number
  /** Summaries left out because the same stat came as a histogram as well. */
  summariesBeside: number
  /** Metrics and families refused, by reason. */
  readonly rejected: Map<string, number>
  /** Values that are no finite number. */
  notFinite: number
  /** Metrics beyond the series that one stream may keep at hand; they are stored, slower. */
  uncached: number
  lastMs: number
}

export const METRICS_SERVICE_JOB = 'envoy-metrics-service'
const SERVICES = ['envoy.service.metrics.v3.MetricsService', 'envoy.service.metrics.v2.MetricsService']
const METHOD = 'StreamMetrics'
/** Nodes whose way of counting is remembered. */
const NODES_MAX = 50_000

export function createMetricsServiceReceiver(options: MetricsServiceOptions): MetricsServiceReceiver {
  const { gate, counterValues = 'auto' } = options
  const counters: MetricsServiceCounters = {
    messages: 0,
    bytes: 0,
    families: 0,
    metrics: 0,
    summariesBeside: 0,
    rejected: new Map(),
    notFinite: 0,
    uncached: 0,
    lastMs: 0,
  }
  const known = createGenerations<string, CounterMode>(NODES_MAX)
  const rejectedLog = createRejectedLog()
  const streams = new Set<MetricsStreamHandler>()
  const shared: StreamShared = {
    ...options,
    clock: options.clock ?? Date.now,
    counters,
    rejectedLog,
    reader: createMessageReader(),
    modes: {
      get: (nodeId) => (counterValues === 'auto' ? (known.get(nodeId) ?? 'unknown') : counterValues),
      set: (nodeId, mode) => known.set(nodeId, mode),
    },
    onClose: (stream) => streams.delete(stream),
  }
  const open = (call: CallInfo): StreamHandler => {
    const stream = openMetricsStream(shared, call)
    streams.add(stream)
    return stream
  }
  return {
    services: SERVICES.map((name) => ({ name, gate, methods: { [METHOD]: { kind: 'streaming', open } } })),
    counters,
    rejected: () => rejectedLog.list(),
    streams: () => [...streams].map((stream) => stream.describe()),
  }
}

/** A stream that can say what it is. */
export interface MetricsStreamHandler extends StreamHandler {
  describe(): MetricsStream
}
