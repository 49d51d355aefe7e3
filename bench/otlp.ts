import { spawn } from 'node:child_process'
import { Readable } from 'node:stream'
import { createAlsDecoder } from '../src/ingest/als/decode.ts'
import { createOrigins } from '../src/ingest/entry/origins.ts'
import { createEntryWriter } from '../src/ingest/entry/writer.ts'
import type { LineParser } from '../src/ingest/lines/parser.ts'
import { createLogsDecoder } from '../src/ingest/otlp/logs.ts'
import { createResourceReader } from '../src/ingest/otlp/resource.ts'
import { type BatchBuilder, createBatchBuilder } from '../src/model/batch-builder.ts'
import { ROW_TABLES, type RowTable } from '../src/model/schema.ts'
import { createRedaction } from '../src/pipeline/redact.ts'
import { startSidecast } from '../test/support/sidecast.ts'
import { createOtlpRecords } from './support/otlp-records.ts'
import { childrenOf, processFigures } from './support/process-figures.ts'
import { plainResolver } from './support/resolver.ts'

/**
 * What an OTLP access log record costs before the journal: CPU µs from the bytes of a request to columns and a Native
 * block, and how much of it is reading the record (the rest is the entry writer and the decoder behind it).
 *
 *     node bench/otlp.ts [--seconds 8] [--records 64]
 *     node bench/otlp.ts --product [--count 2000000]      the whole product, by gRPC: main process, and store until idle
 */
const argument = (name: string, fallback: number): number => {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : Number(process.argv[at + 1])
}
const seconds = argument('seconds', 8)
const records = argument('records', 64)
const WARM_UP_MS = 2000
/** 4 MB: what was just received lies in the caches, not in memory. */
const REQUESTS = Math.ceil(6000 / records)

if (process.argv.includes('--product')) await product()
else decoding()

function decoding(): void {
  const generator = createOtlpRecords(1)
  const requests = Array.from({ length: REQUESTS }, () => generator.request(records))
  const bytes = requests.reduce((sum, request) => sum + request.length, 0)
  const builders = Object.fromEntries(
    ROW_TABLES.map((table) => [table, createBatchBuilder({ table, rowsMax: 32_768, resolver: plainResolver() })]),
  ) as Record<RowTable, BatchBuilder>
  const writer = createEntryWriter({
    decoder: createAlsDecoder({
      builders,
      redaction: createRedaction(),
      onIdentifier() {
        throw new Error('entries have no identifier')
      },
    }),
    flush(table) {
      builders[table].seal().encode('0-bench-1')
      builders[table].reset()
      return true
    },
  })
  const resources = createResourceReader({ origins: createOrigins() })
  /** Records are told by their attributes: no body is parsed. */
  const createParser = (): LineParser => ({ name: 'none', precisionNs: 1e6, source: 'text', parse: () => 'unmatched' })
  const sender = { peer: '10.0.0.9:40000', node: '' }
  const whole = createLogsDecoder({ writer, resources, createParser })
  /** The same, with a writer that only empties the entry. */
  const { entry } = writer
  const reading = createLogsDecoder({
    writer: {
      ...writer,
      entry,
      pending: 0,
      added: 0,
      taken: 0,
      add() {
        entry.reset()
        return true
      },
      commit: () => writer.commit(),
    },
    resources,
    createParser,
  })

  function measure(decoder: typeof whole): { median: number; best: number } {
    const samples: number[] = []
    const start = performance.now()
    let warm = false
    while (performance.now() - start < WARM_UP_MS + seconds * 1000) {
      if (!warm && performance.now() - start > WARM_UP_MS) {
        warm = true
        samples.length = 0
      }
      const before = process.cpuUsage()
      for (const request of requests) {
        const { rejected } = decoder.decode(request, 0, request.length, sender)
        if (rejected > 0) throw new Error('rejected')
        writer.commit()
      }
      const { user, system } = process.cpuUsage(before)
      samples.push((user + system) / (REQUESTS * records))
    }
    samples.sort((a, b) => a - b)
    const at = (share: number): number => Number(samples[Math.floor(share * (samples.length - 1))]!.toFixed(3))
    return { median: at(0.5), best: at(0) }
  }

  const read = measure(reading)
  const all = measure(whole)
  console.log(
    JSON.stringify({
      bench: 'otlp',
      recordsPerRequest: records,
      bytesPerRecord: Math.round(bytes / (REQUESTS * records)),
      readMicrosPerRecord: read,
      toBlockMicrosPerRecord: all,
      rssMb: Math.round(process.memoryUsage.rss() / 1e6),
    }),
  )
}

async function product(): Promise<void> {
  const count = argument('count', 2_000_000)
  const sidecast = await startSidecast({ set: ['journal.keepAfterAck=10s'] })
  try {
    const [store] = childrenOf(sidecast.pid)
    await load(sidecast.grpc, Math.ceil(count / 5))
    await settled(store!)
    const before = { main: processFigures(sidecast.pid), store: processFigures(store!) }
    const loaded = await load(sidecast.grpc, count)
    await settled(store!)
    const after = { main: processFigures(sidecast.pid), store: processFigures(store!) }
    const per = (cpu: number): number => Number(((cpu / loaded.sent) * 1e6).toFixed(3))
    const main = after.main.cpuSeconds - before.main.cpuSeconds
    const stored = after.store.cpuSeconds - before.store.cpuSeconds
    console.log(
      JSON.stringify({
        bench: 'otlp-product',
        ...loaded,
        recordsPerRequest: records,
        perSecond: Math.round(loaded.sent / loaded.seconds),
        cpuSecondsPerMillion: { main: per(main), store: per(stored), all: per(main + stored) },
        rssMostMb: { main: Math.round(after.main.rssMostMb), store: Math.round(after.store.rssMostMb) },
      }),
    )
  } finally {
    await sidecast.close()
  }
}

async function load(to: string, count: number): Promise<{ sent: number; seconds: number; bytesPerRecord: number }> {
  const script = new URL('support/otlp-load.ts', import.meta.url).pathname
  const args = [script, '--to', to, '--count', String(count), '--records', String(records)]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const text = await new Response(Readable.toWeb(child.stdout) as ReadableStream).text()
  return JSON.parse(text) as { sent: number; seconds: number; bytesPerRecord: number }
}

/** The store has done nothing worth the name for five seconds: no merge runs. At most three minutes. */
async function settled(store: number): Promise<void> {
  let quiet = 0
  let last = processFigures(store).cpuSeconds
  for (let k = 0; k < 180 && quiet < 5; k++) {
    await new Promise((resolve) => setTimeout(resolve, 1000))
    const now = processFigures(store).cpuSeconds
    quiet = now - last < 0.08 ? quiet + 1 : 0
    last = now
  }
}
