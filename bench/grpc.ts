import { spawn } from 'node:child_process'
import { connect } from 'node:http2'
import { fileURLToPath } from 'node:url'
import { ALS_PATH, startAlsPort } from './support/als-port.ts'

/**
 * What receiving alone costs: CPU of the receiving process per access-log entry of 529 bytes, from the socket to the
 * callback with the message in place, nothing decoded. The sender is a process of its own.
 *
 *     node bench/grpc.ts [seconds per case]
 *
 * Prints one JSON object: µs of CPU per entry for messages of 16, 32 and 64 KiB on 1 and 8 streams.
 */
const ENTRY_BYTES = 529

if (process.argv[2] === 'send') await send(JSON.parse(process.argv[3]!) as Case)
else await measure(Number(process.argv[2] ?? 4))

interface Case {
  readonly address: string
  readonly messageBytes: number
  readonly streams: number
  readonly seconds: number
}

async function measure(seconds: number): Promise<void> {
  const results: Record<string, unknown>[] = []
  for (const kib of [16, 32, 64]) {
    for (const streams of [1, 8]) results.push(await measureCase(kib * 1024, streams, seconds))
  }
  console.log(JSON.stringify({ bench: 'grpc', node: process.version, entryBytes: ENTRY_BYTES, results }, null, 1))
}

async function measureCase(messageBytes: number, streams: number, seconds: number): Promise<Record<string, unknown>> {
  let bytes = 0
  let messages = 0
  const server = await startAlsPort((_bytes, start, end) => {
    bytes += end - start
    messages++
    return null
  })
  const testCase: Case = { address: server.address, messageBytes, streams, seconds: seconds + 1 }
  const sender = spawn(process.execPath, [fileURLToPath(import.meta.url), 'send', JSON.stringify(testCase)], {
    stdio: 'inherit',
  })
  const left = new Promise((resolve) => sender.once('exit', resolve))
  while (messages < 2000) await new Promise((resolve) => setTimeout(resolve, 10))
  const before = { cpu: process.cpuUsage(), bytes, messages, ms: performance.now() }
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
  const cpu = process.cpuUsage(before.cpu)
  const wallMs = performance.now() - before.ms
  const entries = (bytes - before.bytes) / ENTRY_BYTES
  await left
  await server.stop(AbortSignal.timeout(2000))
  const perEntry = (microseconds: number): number => Math.round((microseconds / entries) * 1000) / 1000
  return {
    messageKiB: messageBytes / 1024,
    streams,
    entriesPerSecond: Math.round((entries / wallMs) * 1000),
    cpuUsPerEntry: perEntry(cpu.user + cpu.system),
    userUs: perEntry(cpu.user),
    systemUs: perEntry(cpu.system),
    coresUsed: Math.round((cpu.user + cpu.system) / wallMs / 10) / 100,
    rssMb: Math.round(process.memoryUsage().rss / 1e6),
  }
}

async function send({ address, messageBytes, streams, seconds }: Case): Promise<void> {
  const session = connect(`http://${address}`)
  const message = Buffer.alloc(5 + messageBytes)
  message.writeUInt32BE(messageBytes, 1)
  // Several messages in one write keep the sender from being what is measured.
  const burst = Buffer.concat(Array.from({ length: Math.ceil((256 * 1024) / message.length) }, () => message))
  const endMs = performance.now() + seconds * 1000
  const one = () =>
    new Promise<void>((resolve) => {
      const stream = session.request({
        ':method': 'POST',
        ':path': ALS_PATH,
        'content-type': 'application/grpc',
        te: 'trailers',
      })
      stream.on('close', resolve)
      stream.on('error', () => resolve())
      stream.resume()
      const write = (): void => {
        if (performance.now() >= endMs) stream.end()
        else if (stream.write(burst)) setImmediate(write)
        else stream.once('drain', write)
      }
      write()
    })
  await Promise.all(Array.from({ length: streams }, one))
  session.close()
}
