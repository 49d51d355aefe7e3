import { createAlsDecoder } from '../src/ingest/als/decode.ts'
import { type BatchBuilder, createBatchBuilder } from '../src/model/batch-builder.ts'
import { ROW_TABLES, type RowTable } from '../src/model/schema.ts'
import { createRedaction } from '../src/pipeline/redact.ts'
import { createEntryGenerator } from './support/als-entries.ts'
import { ORIGIN, plainResolver } from './support/resolver.ts'

/**
 * What decoding costs: CPU µs per access log entry, from the bytes of messages to columns (redaction and identity
 * included), and from columns to a Native block. No I/O, one thread.
 *
 *     node bench/decode.ts [--rows 32768] [--seconds 8] [--mtls]
 */
const argument = (name: string, fallback: number): number => {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : Number(process.argv[at + 1])
}
const rowsMax = argument('rows', 32_768)
const seconds = argument('seconds', 8)
const mutualTls = process.argv.includes('--mtls')

const generator = createEntryGenerator(1, { mutualTls })
/** 4 MB of messages: what was just received lies in the caches, not in memory. */
const messages = Array.from({ length: 256 }, () => generator.message())
const entries = messages.length * 32
const bytes = messages.reduce((sum, message) => sum + message.length, 0)

const resolver = plainResolver()
const builders = Object.fromEntries(
  ROW_TABLES.map((table) => [
    table,
    createBatchBuilder({ table, rowsMax: table === 'requests' ? rowsMax : 8192, resolver }),
  ]),
) as Record<RowTable, BatchBuilder>
const decoder = createAlsDecoder({ builders, redaction: createRedaction(), onIdentifier: () => ORIGIN })
const stream = { origin: ORIGIN }

/** Where messages lie in received chunks of 64 KiB, not each at the end of a buffer of its own. */
const chunk = Buffer.concat([...messages, Buffer.alloc(64)])
const starts: number[] = []
messages.reduce((at, message) => {
  starts.push(at)
  return at + message.length
}, 0)

/** CPU µs per entry of every batch: many short samples, so that a busy machine shows in the spread. */
const decodeSamples: number[] = []
const encodeSamples: number[] = []
let blockBytes = 0
let rows = 0
/** CPU µs when the current batch began. */
let began = cpu()

function cpu(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

function flush(): void {
  const decoded = cpu()
  const block = builders.requests.seal().encode('0-bench-1')
  for (const buffer of block.buffers) blockBytes += buffer.length
  builders.requests.reset()
  const encoded = cpu()
  rows += block.rows
  decodeSamples.push((decoded - began) / block.rows)
  encodeSamples.push((encoded - decoded) / block.rows)
  began = encoded
}

const WARM_UP_MS = 3000
const start = performance.now()
let warm = false
while (performance.now() - start < WARM_UP_MS + seconds * 1000 || decodeSamples.length < 5) {
  if (!warm && performance.now() - start > WARM_UP_MS) {
    warm = true
    decodeSamples.length = 0
    encodeSamples.length = 0
  }
  for (let k = 0; k < messages.length; k++) {
    const from = starts[k]!
    const end = from + messages[k]!.length
    let result = decoder.decode(chunk, from, end, stream, 1_767_225_600_000)
    while (result.full !== null) {
      flush()
      result = decoder.decode(chunk, from, end, stream, 1_767_225_600_000, result.resume)
    }
    if (result.rejected > 0) throw new Error(`rejected: ${result.reason}`)
  }
}

function summary(samples: readonly number[]): { best: number; p10: number; median: number } {
  const sorted = samples.toSorted((a, b) => a - b)
  const at = (share: number): number => Number(sorted[Math.floor(share * (sorted.length - 1))]!.toFixed(4))
  return { best: at(0), p10: at(0.1), median: at(0.5) }
}
const decode = summary(decodeSamples)
console.log(
  JSON.stringify({
    bench: 'decode',
    entries,
    bytesPerEntry: Math.round(bytes / entries),
    rowsPerBlock: rowsMax,
    mutualTls,
    decodeMicrosPerEntry: decode,
    encodeMicrosPerEntry: summary(encodeSamples),
    entriesPerSecondPerCore: Math.round(1e6 / decode.median),
    blockBytesPerRow: Math.round(blockBytes / rows),
    batches: decodeSamples.length,
    rssMb: Math.round(process.memoryUsage.rss() / 1e6),
  }),
)
