import { connectGrpc } from '../../support/grpc-client.ts'
import { metricsMessage } from '../../support/metrics-message.ts'
import { receiverContract } from '../../support/receiver-contract.ts'
import { bytes, identifier } from '../../support/wire.ts'

const METHOD = '/envoy.service.metrics.v3.MetricsService/StreamMetrics'

receiverContract('stats over gRPC', {
  name: 'metrics_service',
  options: ({ listen }) => [`ingest.grpc.listen=${listen}`],
  listener: { name: 'grpc', option: 'ingest.grpc.listen', socket: 'tcp' },
  metrics: {
    taken: 'sidecast_metrics_service_metrics_total',
    rejected: 'sidecast_metrics_service_rejected_total{reason="malformed"}',
  },
  problem: /^malformed from 127\.0\.0\.1:\d+$/,
  makes: { series: 'envoy_' },
  connect(rig) {
    const client = connectGrpc(rig.receivers.grpc.address)
    const { call } = client.stream(METHOD)
    call.write(metricsMessage([], identifier({ id: 'edge-1' })))
    return {
      async good(names) {
        const families = names.map((name) => ({ name, type: 'gauge', value: 1, timestampMs: Date.now() }) as const)
        await new Promise((resolve) => call.write(metricsMessage(families), resolve))
        return false
      },
      async bad() {
        // A family that is said to be longer than the message.
        call.write(bytes(2, Uint8Array.of(0x0a, 0x7f)))
      },
      close: () => client.close(),
    }
  },
})
