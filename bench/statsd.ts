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

/**
 * What a million StatsD lines cost, CPU seconds of this process, journal (fsynced) included; and whether every datagram is accounted for.
 *
 *     node bench/statsd.ts [--lines 3000000]                       lines of a real Envoy, from memory
 *     node bench/statsd.ts --udp [--rate 200000] [--count 2000000]  the same over UDP, one line each, from another process
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
process.stdout.write(`${JSON.stringify(result)}\n`)

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
  const send = async (count: string): Promise<{ sent: number; lines: number; failed: number; seconds: number }> =>
    JSON.parse((await promisify(execFile)(process.execPath, [load, port, fixture, count, values.rate])).stdout)
  const warm = await send('100000')
  // What the kernel still holds of it is read first.
  for (let seen = -1; seen !== receiver.counters.udp!.datagrams; ) {
    seen = receiver.counters.udp!.datagrams
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  const udp = receiver.counters.udp!
  const { datagrams, droppedByKernel } = { ...udp, droppedByKernel: udp.droppedByKernel! }
  const { lines } = receiver.counters.lines
  const before = process.cpuUsage()
  const sent = await send(values.count)
  await receiver.stop(AbortSignal.timeout(10_000))
  await metrics.synced()
  const cpu = cpuSeconds(before)
  const received = udp.datagrams - datagrams
  const dropped = udp.droppedByKernel! - droppedByKernel
  const taken = receiver.counters.lines.lines - lines
  return {
    bench: values.dogstatsd ? 'dogstatsd-udp' : 'statsd-udp',
    offeredPerSecond: round(sent.sent / sent.seconds, 0),
    sent: sent.sent,
    received,
    droppedByKernel: dropped,
    // Of all that was ever sent to this socket.
    unaccounted: warm.sent + sent.sent - udp.datagrams - udp.droppedByKernel!,
    lines: taken,
    cpuSecondsPerMillionLines: round((cpu / taken) * 1e6),
    receiveBufferBytes: udp.receiveBufferBytes,
  }
}
