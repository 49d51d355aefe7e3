import { parseArgs } from 'node:util'
import { connectGrpc } from '../../test/support/grpc-client.ts'
import { createOtlpRecords } from './otlp-records.ts'

/**
 * Sends OTLP access log records over gRPC, as a process of its own: `--to ADDRESS --count N --records 64 --parallel 64`.
 * Requests are made beforehand and sent again and again. Prints one line of JSON.
 */
const { values } = parseArgs({
  options: {
    to: { type: 'string' },
    count: { type: 'string', default: '1000000' },
    records: { type: 'string', default: '64' },
    parallel: { type: 'string', default: '64' },
  },
})
const records = Number(values.records)
const generator = createOtlpRecords(2)
const requests = Array.from({ length: Math.ceil(20_000 / records) }, () => generator.request(records))
const bytes = requests.reduce((sum, request) => sum + request.length, 0) / (requests.length * records)
const client = connectGrpc(values.to!)
const total = Math.ceil(Number(values.count) / records)
let next = 0
const began = performance.now()
const send = async (): Promise<void> => {
  while (next < total) {
    const request = requests[next++ % requests.length]!
    const answer = await client.unary('/opentelemetry.proto.collector.logs.v1.LogsService/Export', request)
    if (answer.length > 0) throw new Error('a request was not accepted as a whole')
  }
}
await Promise.all(Array.from({ length: Number(values.parallel) }, send))
const seconds = (performance.now() - began) / 1000
client.close()
console.log(JSON.stringify({ sent: total * records, seconds, bytesPerRecord: Math.round(bytes) }))
