import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { commitPage } from '../src/ingest/scrape/commit.ts'
import { Page } from '../src/ingest/scrape/page.ts'
import { createProtobufParser } from '../src/ingest/scrape/protobuf.ts'
import { createScrapeReceiver, type ScrapeJob } from '../src/ingest/scrape/receiver.ts'
import { createTextParser } from '../src/ingest/scrape/text.ts'
import { silentLog } from '../src/telemetry/log.ts'
import { createChangingPage } from '../test/support/changing-page.ts'
import { openMetricsLane } from '../test/support/metrics-lane.ts'

/**
 * What a million scraped samples cost, CPU seconds of this process, journal (fsynced) included: pages of a real Envoy whose
 * numbers move from scrape to scrape.
 *
 *     node bench/scrape.ts [--samples 3000000] [--targets 10]      from memory: parser, store, journal
 *     node bench/scrape.ts --protobuf                              the same pages in protobuf
 *     node bench/scrape.ts --http [--seconds 15]                   the whole receiver, pages served by another process
 */
const { values } = parseArgs({
  options: {
    samples: { type: 'string', default: '3000000' },
    targets: { type: 'string', default: '10' },
    seconds: { type: 'string', default: '15' },
    protobuf: { type: 'boolean', default: false },
    http: { type: 'boolean', default: false },
    gzip: { type: 'boolean', default: false },
  },
})
const round = (value: number, digits = 3): number => Number(value.toFixed(digits))
const cpuSeconds = (since?: NodeJS.CpuUsage): number => {
  const { user, system } = process.cpuUsage(since)
  return (user + system) / 1e6
}
const targets = Number(values.targets)
const dir = await mkdtemp(join(tmpdir(), 'sidecast-bench-scrape-'))
const { lane, metrics, journal, start, stop } = await openMetricsLane(dir, {
  ageMs: 1000,
  rows: 262_144,
  diskBytes: 8 * 2 ** 30,
})
await start()
const result = values.http ? await overHttp() : await fromMemory()
await stop()
await rm(dir, { recursive: true, force: true })
// The journal's own timers go on.
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0))

async function fromMemory(): Promise<object> {
  const file = values.protobuf ? 'stats-prometheus-part.pb' : 'stats-prometheus.txt'
  const recorded = readFileSync(new URL(`../test/fixtures/stats/${file}`, import.meta.url))
  // Protobuf pages keep their numbers: what moves is a matter of the store, measured with text.
  const versions = values.protobuf ? [recorded] : Array.from({ length: 8 }, (_, k) => createChangingPage(recorded, k))
  const text = createTextParser()
  const protobuf = createProtobufParser()
  const pages = Array.from({ length: targets }, () => new Page())
  let parseMs = 0
  let scrapes = 0
  const run = async (count: number): Promise<number> => {
    let taken = 0
    while (taken < count) {
      const timeMs = Date.now()
      const bytes = versions[scrapes++ % versions.length]!
      for (const [k, page] of pages.entries()) {
        const began = performance.now()
        const { samples, failure } = values.protobuf
          ? protobuf.parse(page, bytes, 0, bytes.length, { timestamps: true })
          : text.parse(page, bytes, 0, bytes.length, { openMetrics: false, timestamps: true })
        parseMs += performance.now() - began
        if (failure !== null) throw new Error(failure)
        const instance = `edge-${k}`
        commitPage(page, { store: metrics, timeMs, attach: (labels) => ({ job: 'envoy-scrape', instance, labels }) })
        taken += samples
        await new Promise((resolve) => setImmediate(resolve))
      }
      // A page of the same millisecond would be a duplicate.
      while (Date.now() === timeMs) await wait(1)
    }
    return taken
  }
  await run(500_000)
  parseMs = 0
  const rows = (): number => metrics.counters.samples + metrics.counters.histograms
  const rowsBefore = rows()
  const bytesBefore = journal.stats().bytesWritten
  const before = process.cpuUsage()
  const taken = await run(Number(values.samples))
  await metrics.synced()
  const cpu = cpuSeconds(before)
  return {
    bench: values.protobuf ? 'scrape-protobuf' : 'scrape-text',
    samples: taken,
    cpuSecondsPerMillionSamples: round((cpu / taken) * 1e6),
    ofThatParsing: round((parseMs / 1000 / taken) * 1e6),
    series: metrics.counters.seriesNow,
    rows: rows() - rowsBefore,
    journalBytesPerSample: round((journal.stats().bytesWritten - bytesBefore) / taken, 1),
    dropped: metrics.counters.duplicates + metrics.counters.overflow + metrics.counters.droppedFull,
    rssMb: round(process.memoryUsage().rss / 1e6, 0),
  }
}

async function overHttp(): Promise<object> {
  const server = spawn(
    process.execPath,
    [new URL('support/scrape-target.ts', import.meta.url).pathname, String(values.gzip)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  const port = await new Promise<string>((resolve) =>
    server.stdout.once('data', (text) => resolve(String(text).trim())),
  )
  const job: ScrapeJob = {
    job: 'envoy-scrape',
    targets: [`127.0.0.1:${port}`],
    files: [],
    scheme: 'http',
    path: '/stats/prometheus',
    intervalMs: 500,
    timeoutMs: 500,
    labels: {},
    honorLabels: false,
    honorTimestamps: true,
    protobuf: false,
    bodyBytesMax: 64 << 20,
    samplesMax: 1_000_000,
    tls: { ca: '', cert: '', key: '', serverName: '', insecure: false },
    token: '',
    tokenFile: '',
    username: '',
    password: '',
    nodeId: false,
  }
  // Each job is a target of its own: the same address under other labels.
  const jobs = Array.from({ length: targets }, (_, k) => ({ ...job, labels: { target: String(k) } }))
  const receiver = createScrapeReceiver({ jobs, store: metrics, gate: lane.gate, log: silentLog, userAgent: 'bench' })
  await receiver.start()
  await wait(3000)
  const samplesBefore = receiver.counters.samples
  const before = process.cpuUsage()
  await wait(Number(values.seconds) * 1000)
  await metrics.synced()
  const cpu = cpuSeconds(before)
  const taken = receiver.counters.samples - samplesBefore
  await receiver.stop(AbortSignal.timeout(5000))
  server.kill()
  return {
    bench: values.gzip ? 'scrape-http-gzip' : 'scrape-http',
    targets,
    scrapes: receiver.counters.scrapes,
    failed: Object.fromEntries(receiver.counters.failed),
    samples: taken,
    cpuSecondsPerMillionSamples: round((cpu / taken) * 1e6),
  }
}
