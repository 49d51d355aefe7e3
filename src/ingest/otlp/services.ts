import { type CallInfo, type GrpcService, type Status, status } from '../grpc/index.ts'
import { encodeResponse } from './answers.ts'
import type { Exporter } from './export.ts'
import type { Signal } from './messages.ts'
import { NODE_HEADER, type Sender } from './resource.ts'

const SERVICES: Readonly<Record<Signal, string>> = {
  logs: 'opentelemetry.proto.collector.logs.v1.LogsService',
  metrics: 'opentelemetry.proto.collector.metrics.v1.MetricsService',
  traces: 'opentelemetry.proto.collector.trace.v1.TraceService',
}

/**
 * The three services of OTLP, each with its one unary method. They have no gate: a sender is told UNAVAILABLE while the
 * journal is full, rather than left waiting until it gives up.
 */
export function createOtlpServices(exporter: Exporter): readonly GrpcService[] {
  return Object.entries(SERVICES).map(([signal, name]) => ({
    name,
    methods: {
      Export: {
        kind: 'unary',
        handle: (call, bytes, start, end) => answer(exporter, signal as Signal, call, bytes, start, end),
      },
    },
  }))
}

async function answer(
  exporter: Exporter,
  signal: Signal,
  call: CallInfo,
  bytes: Uint8Array,
  start: number,
  end: number,
): Promise<Uint8Array | Status> {
  // Everything that reads `bytes` happens before the first await inside.
  const result = await exporter.export(signal, bytes, start, end, senderOf(call))
  if (result.status === 'ok') return encodeResponse(result)
  return status(result.status === 'invalid' ? 'invalidArgument' : 'unavailable', result.message)
}

function senderOf(call: CallInfo): Sender {
  return { peer: call.peer, node: String(call.headers[NODE_HEADER] ?? '').slice(0, 256) }
}
