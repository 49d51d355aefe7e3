import { type ChildProcess, spawn } from 'node:child_process'
import { connect } from 'node:http2'
import { fileURLToPath } from 'node:url'
import { createNodeReader } from '../src/ingest/als/node.ts'
import { startSidecast } from '../test/support/sidecast.ts'
import { identifier } from '../test/support/wire.ts'
import { createEntryGenerator } from './support/als-entries.ts'
import { ALS_PATH, startAlsPort } from './support/als-port.ts'
import { processFigures } from './support/process-figures.ts'

/**
 * What streams cost that say little: a mesh of many proxies, each with a connection and a stream of its own, an identifier
 * as large as Envoy's, then an entry now and then.
 *
 *     node bench/idle-streams.ts [streams = 2000] [entries per second, in all = 500] [seconds = 20] [product]
 *
 * Prints one JSON object: memory and share of a core of the receiving process, and memory before the streams came. That
 * process has the gRPC port and the node reader alone, or is, with `product`, the main process of the whole product.
 */
/** Identifiers are larger, entries smaller. */
const ENTRY_BYTES_MAX = 800

const [first, second, third] = process.argv.slice(2)
if (first === 'send') await send(second!, JSON.parse(third!) as Load)
else {
  const load = { streams: Number(first ?? 2000), perSecond: Number(second ?? 500) }
  const measure = process.argv[5] === 'product' ? measureProduct : measurePort
  await measure(load, Number(third ?? 20))
}

interface Load {
  readonly streams: number
  readonly perSecond: number
}

async function measureProduct(load: Load, seconds: number): Promise<void> {
  // All of them come from one address, as no mesh's do.
  const sidecast = await startSidecast({ set: ['limits.sender.connections=0'] })
  await delay(10_000)
  const empty = processFigures(sidecast.pid)
  const sender = startSender(sidecast.grpc, load)
  const streamsOpen = async () => {
    const page = await (await fetch(`http://${sidecast.http}/metrics`)).text()
    return Number(/^sidecast_grpc_streams_open(?:\{[^}]*\})? (\d+)$/m.exec(page)?.[1] ?? 0)
  }
  while ((await streamsOpen()) < load.streams) await delay(500)
  await delay(5000)
  const before = { ...processFigures(sidecast.pid), ms: performance.now() }
  await delay(seconds * 1000)
  const after = processFigures(sidecast.pid)
  const wallSeconds = (performance.now() - before.ms) / 1000
  console.log(
    JSON.stringify({
      bench: 'idle-streams',
      of: 'product',
      ...load,
      streamsOpen: await streamsOpen(),
      coreShare: Math.round(((after.cpuSeconds - before.cpuSeconds) / wallSeconds) * 1000) / 1000,
      rssMb: Math.round(after.rssMostMb),
      rssBeforeMb: Math.round(empty.rssMb),
      kibPerStream: Math.round(((after.rssMostMb - empty.rssMb) * 1000) / load.streams),
    }),
  )
  sender.kill()
  await sidecast.close()
}

function startSender(address: string, load: Load): ChildProcess {
  const arguments_ = [fileURLToPath(import.meta.url), 'send', address, JSON.stringify(load)]
  return spawn(process.execPath, arguments_, { stdio: 'inherit' })
}

async function measurePort(load: Load, seconds: number): Promise<void> {
  const nodes = createNodeReader()
  let entries = 0
  const server = await startAlsPort((bytes, start, end) => {
    if (end - start > ENTRY_BYTES_MAX) nodes.read(bytes, start, end)
    else entries++
    return null
  })
  const emptyMb = Math.round(process.memoryUsage().rss / 1e6)
  const sender = startSender(server.address, load)
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
      ':path': ALS_PATH,
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
  const entries = createEntryGenerator(1)
  let next = 0
  let owed = 0
  for (;;) {
    await delay(20)
    for (owed += perSecond / 50; owed >= 1; owed--) opened[next++ % streams]!.write(frame(entries.message(1)))
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
