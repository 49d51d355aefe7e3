import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { createStatsdCollector } from '../src/ingest/statsd/collector.ts'
import { createStatsdReceiver } from '../src/ingest/statsd/receiver.ts'
import { createEnvoyNames } from '../src/metrics/envoy-names.ts'
import { silentLog } from '../src/telemetry/log.ts'
import { openMetricsLane } from '../test/support/metrics-lane.ts'
import { childrenOf, processFigures } from './support/process-figures.ts'

/**
 * What a million StatsD lines cost, CPU seconds of this process, journal (fsynced) included; and whether every datagram is accounted for.
 *
 *     node bench/statsd.ts [--lines 3000000]                       lines of a real Envoy, from memory
 *     node bench/statsd.ts --udp [--rate 200000] [--count 2000000] [--senders 2] [--process]
 *                                                                   the same over UDP, one line each, from other processes;
 *                                                                   read by a process of its own; rate 0: all that can be sent
 *     node bench/statsd.ts --udp --dogstatsd                       packed datagrams
 *     node bench/statsd.ts --malformed                             lines that are none
 */
const { values } = parseArgs({
  options: {
    lines: { type: 'string', default: '3000000' },
    count: { type: 'string', default: '2000000' },
    rate: { type: 'string', default: '200000' },
    udp: { type: 'boolean', default: false },
    dogstatsd: { type: 'boolean', default: false },
    malformed: { type: 'boolean', default: false },
    process: { type: 'boolean', default: false },
    senders: { type: 'string', default: '1' },
  },
})
const round = (value: number, digits = 3): number => Number(value.toFixed(digits))
const cpuSeconds = (since?: NodeJS.CpuUsage): number => {
  const { user, system } = process.cpuUsage(since)
  return (user + system) / 1e6
}
const fixture = new URL(`../test/fixtures/statsd/${values.dogstatsd ? 'dogstatsd' : 'statsd'}.txt`, import.meta.url)
  .pathname
const dir = await mkdtemp(join(tmpdir(), 'sidecast-bench-statsd-'))
const { lane, metrics, journal, start, stop } = await openMetricsLane(dir, {
  ageMs: 1000,
  rows: 262_144,
  diskBytes: 8 * 2 ** 30,
})
await start()
// Nobody reads the segments: they are let go as soon as they are sealed, as after a delivery.
const result = values.udp ? await overUdp() : await fromMemory()
await stop()
await rm(dir, { recursive: true, force: true })
// The journal's own timers go on.
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0))

async function fromMemory(): Promise<object> {
  const lines = readFileSync(fixture, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) =>
      Buffer.from(values.malformed ? `bad ${line}`.replaceAll(/[:|]/g, '_') : (JSON.parse(line) as string)),
    )
  const collector = createStatsdCollector({
    metrics,
    mapper: null,
    names: createEnvoyNames(),
    envoyPrefixes: ['envoy'],
    instanceTag: '',
  })
  collector.start()
  const total = Number(values.lines)
  const run = async (count: number): Promise<number> => {
    const { counters } = collector
    const taken = (): number => counters.lines + [...counters.rejected.values()].reduce((sum, n) => sum + n, 0)
    const from = taken()
    while (taken() - from < count) {
      for (const line of lines) collector.take(line, 0, line.length, '127.0.0.1')
      // Timers run as they would.
      await new Promise((resolve) => setImmediate(resolve))
    }
    return taken() - from
  }
  await run(300_000)
  const before = process.cpuUsage()
  const began = performance.now()
  const taken = await run(total)
  collector.stop()
  await metrics.synced()
  const cpu = cpuSeconds(before)
  return {
    bench: values.malformed ? 'statsd-malformed' : values.dogstatsd ? 'dogstatsd' : 'statsd',
    lines: taken,
    seconds: round((performance.now() - began) / 1000),
    cpuSecondsPerMillionLines: round((cpu / taken) * 1e6),
    series: metrics.counters.seriesNow,
    rows: metrics.counters.samples + metrics.counters.histograms,
    journalBytes: journal.stats().bytesWritten,
  }
}

async function overUdp(): Promise<object> {
  const receiver = createStatsdReceiver({
    udp: { host: '127.0.0.1', port: 0 },
    udpProcess: values.process,
    tcp: null,
    unix: '',
    unixStream: '',
    receiveBufferBytes: 8 << 20,
    connectionsMax: 1,
    idleMs: 1000,
    metrics,
    gate: lane.gate,
    envoyPrefixes: ['envoy'],
    instanceTag: '',
    log: silentLog,
  })
  await receiver.start()
  const port = receiver.addresses.statsdUdp!.split(':').at(-1)!
  const load = new URL('support/udp-load.ts', import.meta.url).pathname
  const flags = ffiFlags()
  const senders = Number(values.senders)
  const sendOne = async (count: number): Promise<Sent> => {
    const args = [...flags, load, port, fixture, String(count), String(Number(values.rate) / senders)]
    return JSON.parse((await promisify(execFile)(process.execPath, args)).stdout) as Sent
  }
  const send = async (count: number): Promise<Sent> => {
    const all = await Promise.all(Array.from({ length: senders }, () => sendOne(Math.ceil(count / senders))))
    const sum = (of: keyof Sent): number => all.reduce((total, one) => total + one[of], 0)
    return { sent: sum('sent'), lines: sum('lines'), failed: sum('failed'), seconds: sum('seconds') / senders }
  }
  const [reader] = values.process ? childrenOf(process.pid) : []
  const readerCpu = (): number => (reader === undefined ? 0 : processFigures(reader).cpuSeconds)
  const warm = await send(100_000)
  // What the kernel still holds of it is read first.
  for (let seen = -1; seen !== receiver.counters.udp!.datagrams; ) {
    seen = receiver.counters.udp!.datagrams
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  const udp = receiver.counters.udp!
  const { datagrams, droppedByKernel } = { ...udp, droppedByKernel: udp.droppedByKernel! }
  const { lines } = receiver.counters.lines
  const before = process.cpuUsage()
  const readerBefore = readerCpu()
  const sent = await send(Number(values.count))
  // What the kernel and the process that reads still hold.
  for (let seen = -1; seen !== receiver.counters.udp!.datagrams; ) {
    seen = receiver.counters.udp!.datagrams
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  const readerSpent = readerCpu() - readerBefore
  await receiver.stop(AbortSignal.timeout(10_000))
  await metrics.synced()
  const cpu = cpuSeconds(before) + readerSpent
  const received = udp.datagrams - datagrams
  const dropped = udp.droppedByKernel! - droppedByKernel
  const taken = receiver.counters.lines.lines - lines
  return {
    bench: values.dogstatsd ? 'dogstatsd-udp' : 'statsd-udp',
    senders,
    offeredPerSecond: round(sent.sent / sent.seconds, 0),
    sent: sent.sent,
    refusedAtSender: sent.failed,
    received,
    droppedByKernel: dropped,
    // Of all that was ever sent to this socket.
    unaccounted: warm.sent + sent.sent - udp.datagrams - udp.droppedByKernel!,
    lines: taken,
    cpuSecondsPerMillionLines: round((cpu / taken) * 1e6),
    ...(values.process && { ofThatReader: round((readerSpent / taken) * 1e6) }),
    receiveBufferBytes: udp.receiveBufferBytes,
  }
}

interface Sent {
  readonly sent: number
  readonly lines: number
  readonly failed: number
  readonly seconds: number
}

/** Senders send many with each system call where this Node can. */
function ffiFlags(): readonly string[] {
  const flag = '--experimental-ffi'
  return process.allowedNodeEnvironmentFlags.has(flag) ? [flag, '--no-warnings'] : []
}
