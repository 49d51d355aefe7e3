import { encodeMessage } from '../../../src/demo/als-encode.ts'
import { connectGrpc } from '../../support/grpc-client.ts'
import { receiverContract } from '../../support/receiver-contract.ts'
import { bytes } from '../../support/wire.ts'

const METHOD = '/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs'
const IDENTIFIER = { logName: 'log', node: { id: 'edge-1', cluster: 'edge', metadata: {} } }
const ENTRY = {
  rxEnd: 1,
  upTxBegin: 2,
  upTxEnd: 3,
  upRxBegin: 8,
  upRxEnd: 9,
  downTxBegin: 9,
  downTxEnd: 10,
  duration: 10,
  cluster: 'shop',
  upstreamPort: 80,
  route: 'all',
  method: 'GET',
  authority: 'shop',
  requestId: '',
  requestBytes: 1,
  responseBytes: 2,
  code: 200,
  details: 'via_upstream',
  flag: null,
  attempts: 1,
} as const

receiverContract('access logs over gRPC', {
  name: 'als',
  options: ({ listen }) => [`ingest.grpc.listen=${listen}`],
  listener: { name: 'grpc', option: 'ingest.grpc.listen', socket: 'tcp' },
  metrics: {
    taken: 'sidecast_als_entries_total{table="requests"}',
    rejected: 'sidecast_als_rejected_total{reason="malformed"}',
  },
  problem: /^malformed from 127\.0\.0\.1:\d+$/,
  makes: 'rows',
  connect(rig) {
    const client = connectGrpc(rig.receivers.grpc.address)
    const { call } = client.stream(METHOD)
    call.write(encodeMessage([], IDENTIFIER))
    return {
      async good(names) {
        const entries = names.map((name) => ({ ...ENTRY, startMs: Date.now() - 50, path: `/${name}` }))
        await new Promise((resolve) => call.write(encodeMessage(entries), resolve))
        return false
      },
      async bad() {
        // An entry that is said to be longer than the message.
        call.write(bytes(2, bytes(1, Uint8Array.of(0x0a, 0x7f))))
      },
      close: () => client.close(),
    }
  },
})
