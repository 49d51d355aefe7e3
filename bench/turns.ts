import { type ChildProcess, spawn } from 'node:child_process'
import { type ClientHttp2Stream, connect } from 'node:http2'
import { connect as connectTcp } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { createGrpcServer, GRPC_LIMITS } from '../src/ingest/grpc/index.ts'
import { silentLog } from '../src/telemetry/log.ts'

/**
 * Whether others are read, and timers run, while one sender floods the gRPC port over many connections:
 *
 *     node bench/turns.ts [connections = 200] [seconds = 5]
 *
 * The port alone, with a handler that works about as long for its bytes as the decoder does. With turns as they are, and
 * without. Prints for each, in ms: from sending to reading of a quiet sender's message, how far timers of 10 ms lie apart,
 * and what a MB of the flood costs. JSON.
 */
const PATH = '/bench.Turns/Stream'
const MESSAGE_BYTES = 16_000
const QUIET = 'q'.charCodeAt(0)
/** Passes over the bytes: 4 ms of CPU for a MB on the machine that this was written on, 2 µs for an entry. */
const PASSES = 3
const [first, second, third] = process.argv.slice(2)

if (first === 'flood') flood(second!, Number(third))
else if (first === 'quiet') quiet(second!)
else {
  const connections = Number(first ?? 200)
  const seconds = Number(second ?? 5)
  const turns = await measure(GRPC_LIMITS.turnBytes, connections, seconds)
  const without = await measure(Number.POSITIVE_INFINITY, connections, seconds)
  console.log(JSON.stringify({ bench: 'turns', connections, turns, without }))
  process.exit(0)
}

async function measure(turnBytes: number, connections: number, seconds: number): Promise<object> {
  const delays: number[] = []
  let bytesRead = 0
  // Kept, so that the work is not left out.
  const work = { hash: 0 }
  const server = createGrpcServer({
    listen: '127.0.0.1:0',
    log: silentLog,
    limits: { turnBytes, ...(turnBytes === GRPC_LIMITS.turnBytes ? {} : { turnBytesAlone: turnBytes }) },
    services: [
      {
        name: PATH.split('/')[1]!,
        methods: {
          Stream: {
            kind: 'streaming',
            open: () => ({
              onMessage(bytes, start, end) {
                if (bytes[start] === QUIET) {
                  delays.push(wallMs() - Number(Buffer.from(bytes.subarray(start + 1, end)).toString()))
                  return null
                }
                bytesRead += end - start
                let hash = 0
                for (let pass = 0; pass < PASSES; pass++) {
                  for (let k = start; k < end; k++) hash = (hash * 31 + bytes[k]!) | 0
                }
                work.hash ^= hash
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
  const senders = [start('quiet', server.address)]
  while (delays.length === 0) await sleep(50)
  senders.push(start('flood', server.address, String(connections)))
  while (server.counters.streamsOpen <= connections) await sleep(50)
  await sleep(1000)
  delays.length = 0
  bytesRead = 0
  const cpu = process.cpuUsage()
  const apart: number[] = []
  let lastMs = performance.now()
  const timer = setInterval(() => {
    const now = performance.now()
    apart.push(now - lastMs)
    lastMs = now
  }, 10)
  await sleep(seconds * 1000)
  clearInterval(timer)
  const { user, system } = process.cpuUsage(cpu)
  for (const sender of senders) sender.kill()
  await server.stop(AbortSignal.abort())
  return {
    quietMs: figures(delays),
    timerMs: figures(apart),
    floodMb: Math.round(bytesRead / 1e6),
    cpuMsPerMb: Math.round((user + system) / (bytesRead / 1e6) / 10) / 100,
    turnsWaited: server.counters.turnsWaited,
  }
}

function figures(values: readonly number[]) {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (q: number) => Math.round(sorted[Math.max(1, Math.ceil(q * sorted.length)) - 1] ?? Number.NaN)
  return { n: sorted.length, p50: at(0.5), p99: at(0.99), most: at(1) }
}

/** The same in all processes of a machine. */
function wallMs(): number {
  return performance.timeOrigin + performance.now()
}

function start(...args: string[]): ChildProcess {
  return spawn(process.execPath, [import.meta.filename, ...args], { stdio: ['ignore', 'ignore', 'inherit'] })
}

function flood(address: string, connections: number): void {
  const message = framed(Buffer.alloc(MESSAGE_BYTES, 'n'))
  for (let k = 0; k < connections; k++) {
    const stream = openStream(address, '127.0.0.2')
    const write = () => {
      while (stream.write(message));
    }
    stream.on('drain', write)
    write()
  }
}

function quiet(address: string): void {
  const stream = openStream(address, '127.0.0.3')
  setInterval(() => stream.write(framed(Buffer.from(`q${wallMs()}`))), 20)
}

function openStream(address: string, localAddress: string): ClientHttp2Stream {
  const session = connect(`http://${address}`, {
    createConnection: ({ hostname, port }) =>
      connectTcp({ host: hostname, port: Number(port), localAddress, noDelay: true }),
  })
  // The server goes away first.
  session.on('error', () => process.exit(0))
  const headers = { ':method': 'POST', ':path': PATH, te: 'trailers', 'content-type': 'application/grpc' }
  const stream = session.request(headers)
  stream.on('error', () => process.exit(0))
  return stream.resume()
}

function framed(message: Buffer): Buffer {
  const bytes = Buffer.alloc(5 + message.length)
  bytes.writeUInt32BE(message.length, 1)
  bytes.set(message, 5)
  return bytes
}
