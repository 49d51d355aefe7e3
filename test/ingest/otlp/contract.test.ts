import { connectGrpc } from '../../support/grpc-client.ts'
import { attributesOf, otlp } from '../../support/otlp.ts'
import { type ReceiverContract, receiverContract } from '../../support/receiver-contract.ts'

const METHOD = '/opentelemetry.proto.collector.logs.v1.LogsService/Export'

const request = (records: readonly Readonly<Record<string, unknown>>[]): Uint8Array<ArrayBuffer> => {
  const logRecords = records.map((attributes) => ({
    timeUnixNano: `${Date.now()}000000`,
    attributes: attributesOf(attributes),
  }))
  return new Uint8Array(otlp('logs', { resourceLogs: [{ scopeLogs: [{ logRecords }] }] }))
}
const good = (names: readonly string[]) =>
  request(names.map((name) => ({ 'http.response.status_code': 200, 'url.path': `/${name}` })))
const bad = () => request([{ hello: 'world' }])

const shared: Pick<ReceiverContract, 'name' | 'metrics' | 'problem' | 'makes'> = {
  name: 'otlp',
  metrics: {
    taken: 'sidecast_otlp_accepted_total{signal="logs"}',
    rejected: 'sidecast_otlp_rejected_total{signal="logs",reason="not_access_log"}',
  },
  problem: /^not_access_log from 127\.0\.0\.1:\d+$/,
  makes: 'rows',
}

receiverContract('OTLP over gRPC', {
  ...shared,
  options: ({ listen }) => [`ingest.grpc.listen=${listen}`],
  listener: { name: 'grpc', option: 'ingest.grpc.listen', socket: 'tcp' },
  connect(rig) {
    const client = connectGrpc(rig.receivers.grpc.address)
    return {
      async good(names) {
        await client.unary(METHOD, good(names))
        return true
      },
      async bad() {
        await client.unary(METHOD, bad())
      },
      close: () => client.close(),
    }
  },
})

receiverContract('OTLP over HTTP', {
  ...shared,
  options: ({ listen }) => [`ingest.otlpHttp.listen=${listen}`],
  listener: { name: 'otlp_http', option: 'ingest.otlpHttp.listen', socket: 'tcp' },
  connect(rig) {
    const post = async (body: Uint8Array<ArrayBuffer>): Promise<boolean> => {
      const headers = { 'content-type': 'application/x-protobuf' }
      const url = `http://${rig.receivers.otlpHttp.address}/v1/logs`
      const answer = await fetch(url, { method: 'POST', headers, body })
      await answer.arrayBuffer()
      return answer.ok
    }
    return {
      good: (names) => post(good(names)),
      async bad() {
        await post(bad())
      },
      close() {},
    }
  },
})
