import { spawn } from 'node:child_process'
import { connect } from 'node:http2'
import { fileURLToPath } from 'node:url'
import { createNodeReader } from '../src/ingest/als/node.ts'
import { createGrpcServer } from '../src/ingest/grpc/index.ts'
import { createLog } from '../src/telemetry/log.ts'
import { identifier } from '../test/support/wire.ts'

/**
 * What streams cost that say little: a mesh of many proxies, each with a connection and a stream of its own, an identifier
 * as large as Envoy's, then an entry now and then.
 *
 *     node bench/idle-streams.ts [streams = 2000] [entries per second, in all = 500] [seconds = 20]
 *
 * Prints one JSON object: memory and share of a core of the receiving process (gRPC port and node reader; no store), and
 * memory before the streams came.
 */
const PATH = '/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs'
const ENTRY_BYTES = 529

const [first, second, third] = process.argv.slice(2)
if (first === 'send') await send(second!, JSON.parse(third!) as Load)
else await measure({ streams: Number(first ?? 2000), perSecond: Number(second ?? 500) }, Number(third ?? 20))

interface Load {
  readonly streams: number
  readonly perSecond: number
}

async function measure(load: Load, seconds: number): Promise<void> {
  const nodes = createNodeReader()
  let entries = 0
  const server = createGrpcServer({
    listen: '127.0.0.1:0',
    log: createLog(),
    services: [
      {
        name: PATH.split('/')[1]!,
        methods: {
          StreamAccessLogs: {
            kind: 'streaming',
            open: () => ({
              onMessage(bytes, start, end) {
                if (end - start > ENTRY_BYTES) nodes.read(bytes, start, end)
                else entries++
                return null
              },
              onEnd: () => new Uint8Array(0),
              onClose() {},
            }),
          },
        },
      },
    ],
  })
  await server.start()
  const emptyMb = Math.round(process.memoryUsage().rss / 1e6)
  const sender = spawn(
    process.execPath,
    [fileURLToPath(import.meta.url), 'send', server.address, JSON.stringify(load)],
    {
      stdio: 'inherit',
    },
  )
  while (server.counters.messages < load.streams) await delay(50)
  await delay(3000)
  const before = { cpu: process.cpuUsage(), entries, ms: performance.now() }
  let rssMax = 0
  for (let k = 0; k < seconds * 2; k++) {
    await delay(500)
    rssMax = Math.max(rssMax, process.memoryUsage().rss)
  }
  const cpu = process.cpuUsage(before.cpu)
  const wallMs = performance.now() - before.ms
  console.log(
    JSON.stringify({
      bench: 'idle-streams',
      ...load,
      streamsOpen: server.counters.streamsOpen,
      connectionsOpen: server.counters.connectionsOpen,
      entriesPerSecond: Math.round(((entries - before.entries) / wallMs) * 1000),
      coreShare: Math.round((cpu.user + cpu.system) / wallMs) / 1000,
      rssMb: Math.round(rssMax / 1e6),
      rssBeforeMb: emptyMb,
      kibPerStream: Math.round((rssMax - emptyMb * 1e6) / load.streams / 1024),
    }),
  )
  sender.kill()
  await server.stop(AbortSignal.timeout(3000))
}

async function send(address: string, { streams, perSecond }: Load): Promise<void> {
  const opened = []
  for (let k = 0; k < streams; k++) {
    const session = connect(`http://${address}`)
    const stream = session.request({
      ':method': 'POST',
      ':path': PATH,
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    stream.resume()
    const id = identifier({
      id: `sidecar~10.0.${k >> 8}.${k & 255}~web-${k}-6d5f7c9b8-x2k4j.shop~shop.svc.cluster.local`,
      cluster: 'web.shop',
      metadata: {
        NAME: `web-${k}-6d5f7c9b8-x2k4j`,
        NAMESPACE: 'shop',
        WORKLOAD_NAME: `web-${k}`,
        LABELS: { app: 'web' },
      },
      extensions: 900,
    })
    stream.write(frame(id))
    opened.push(stream)
    if (k % 20 === 0) await delay(5)
  }
  const entry = frame(Buffer.alloc(ENTRY_BYTES, 1))
  let next = 0
  let owed = 0
  for (;;) {
    await delay(20)
    for (owed += perSecond / 50; owed >= 1; owed--) opened[next++ % streams]!.write(entry)
  }
}

function frame(message: Uint8Array): Buffer {
  const framed = Buffer.alloc(5 + message.length)
  framed.writeUInt32BE(message.length, 1)
  framed.set(message, 5)
  return framed
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
