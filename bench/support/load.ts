import { readFileSync } from 'node:fs'
import { connect } from 'node:http2'
import { connect as connectTcp, type Socket } from 'node:net'
import { parseArgs } from 'node:util'
import { createEntryGenerator } from './als-entries.ts'

/**
 * The load generator of the benches: a process of its own that speaks gRPC to an access log service, as Envoy does.
 *
 *   node bench/support/load.ts --to 127.0.0.1:9001 --count 1000000 [--rate 20000] [--streams 4] [--entries 32] [--seed 1]
 *
 * Every entry is made anew: request ids and paths are unique. Prints one JSON line when everything was sent and the
 * streams were ended by the server's answer. `--rate` is entries per second over all streams; without it as fast as
 * flow control lets it. `--seconds` bounds the time instead of the count. `--node` is the number of the first stream's node.
 *
 * With `--report` it prints how much was handed to the socket after every message, and takes the end of the server, at
 * any moment, as its own end. SIGTERM ends the streams politely. `--ca FILE` is TLS, `--cert` and `--key` are shown to a
 * server that asks for them, `--token FILE` is sent with each stream. `--from ADDRESS` is the address of the sender.
 */
const { values } = parseArgs({
  options: {
    to: { type: 'string' },
    count: { type: 'string', default: '100000' },
    seconds: { type: 'string' },
    rate: { type: 'string' },
    streams: { type: 'string', default: '4' },
    entries: { type: 'string', default: '32' },
    seed: { type: 'string', default: '1' },
    node: { type: 'string', default: '0' },
    report: { type: 'boolean', default: false },
    ca: { type: 'string' },
    cert: { type: 'string' },
    key: { type: 'string' },
    token: { type: 'string' },
    from: { type: 'string' },
  },
})
if (values.to === undefined) throw new Error('--to HOST:PORT is missing')
const streamsCount = Number(values.streams)
const entries = Number(values.entries)
const rate = values.rate === undefined ? Number.POSITIVE_INFINITY : Number(values.rate)
const deadline =
  values.seconds === undefined ? Number.POSITIVE_INFINITY : performance.now() + Number(values.seconds) * 1000
const countMax = values.seconds === undefined ? Number(values.count) : Number.POSITIVE_INFINITY
const read = (path: string | undefined): Buffer | undefined => (path === undefined ? undefined : readFileSync(path))
const tls =
  values.ca === undefined
    ? null
    : { ca: read(values.ca), cert: read(values.cert), key: read(values.key), servername: 'localhost' }
const authorization: { authorization?: string } =
  values.token === undefined ? {} : { authorization: `Bearer ${read(values.token)!.toString().trim()}` }
let stopped = false
process.once('SIGTERM', () => {
  stopped = true
})
const PATH = '/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs'

let sent = 0
let bytes = 0
const began = performance.now()

/** Whether the next message is due; paced by the clock, so a late timer catches up. */
const due = (): boolean =>
  !stopped && sent < countMax && performance.now() < deadline && sent <= ((performance.now() - began) / 1000) * rate
const over = (): boolean => stopped || sent >= countMax || performance.now() >= deadline

function dial({ hostname, port }: URL, localAddress: string): Socket {
  return connectTcp({ host: hostname, port: Number(port), localAddress, noDelay: true })
}

async function runStream(index: number): Promise<void> {
  // Entries lie as far apart as they are sent, so that they end now and not in another minute.
  const spacingNs = (streamsCount / Math.min(rate, 400_000)) * 1e9
  const generator = createEntryGenerator(Number(values.seed) * 1000 + index, {
    node: Number(values.node) + index,
    startMs: Date.now() - 100,
    spacingNs,
    entriesPerMessage: entries,
    // 400 edges and 200 hosts in all: a proxy has the edges of its own workload, not everybody's.
    edges: Math.ceil(400 / streamsCount),
    hosts: Math.ceil(200 / streamsCount),
  })
  const session = connect(`${tls === null ? 'http' : 'https'}://${values.to}`, {
    ...tls,
    ...(values.from === undefined ? {} : { createConnection: (to: URL) => dial(to, values.from!) }),
  })
  const failed = new Promise<never>((_, reject) => session.on('error', reject))
  const stream = session.request({
    ':method': 'POST',
    ':path': PATH,
    te: 'trailers',
    'content-type': 'application/grpc',
    ...authorization,
  })
  const ended = new Promise<void>((done, reject) => {
    stream.on('error', reject)
    const look = (headers: { readonly 'grpc-status'?: unknown }): void => {
      const { 'grpc-status': status = '0' } = headers
      if (status !== '0') reject(new Error(`grpc-status ${status}`))
    }
    // A refusal is all in the headers.
    stream.on('response', look)
    stream.on('trailers', look)
    stream.on('close', done)
  })
  const refused = ended.then(() => new Promise<never>(() => {}))
  stream.resume()
  const work = async () => {
    while (!over()) {
      if (!due()) {
        await new Promise((done) => setTimeout(done, 2))
        continue
      }
      const message = generator.message(Math.min(entries, countMax - sent))
      const frame = Buffer.allocUnsafe(5 + message.length)
      frame[0] = 0
      frame.writeUInt32BE(message.length, 1)
      frame.set(message, 5)
      sent += Math.min(entries, countMax - sent)
      bytes += message.length
      if (values.report) process.stdout.write(`{"sent":${sent}}\n`)
      if (!stream.write(frame)) await new Promise((done) => stream.once('drain', done))
    }
    stream.end()
    await ended
    session.close()
  }
  await Promise.race([work(), failed, refused])
}

const all = Promise.all(Array.from({ length: streamsCount }, (_, index) => runStream(index)))
if (values.report) {
  await all.catch(() => {})
  process.exit(0)
}
await all
const seconds = (performance.now() - began) / 1000
const cpu = process.cpuUsage()
console.log(
  JSON.stringify({
    sent,
    seconds,
    perSecond: sent / seconds,
    bytesPerEntry: bytes / sent,
    cpuSeconds: (cpu.user + cpu.system) / 1e6,
  }),
)
process.exit(0)
