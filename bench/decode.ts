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
const messages = Array.from({ length: 4096 }, () => generator.message())
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

const decodeRounds: number[] = []
const encodeRounds: number[] = []
let blockBytes = 0
let rows = 0
let encodeCpu = 0

function cpu(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

function flush(): void {
  const before = cpu()
  const batch = builders.requests.seal()
  const block = batch.encode('0-bench-1')
  for (const buffer of block.buffers) blockBytes += buffer.length
  rows += block.rows
  builders.requests.reset()
  encodeCpu += cpu() - before
}

const until = performance.now() + seconds * 1000
while (performance.now() < until) {
  encodeCpu = 0
  const before = cpu()
  for (let k = 0; k < messages.length; k++) {
    const start = starts[k]!
    const end = start + messages[k]!.length
    let result = decoder.decode(chunk, start, end, stream, 1_767_225_600_000)
    while (result.full !== null) {
      flush()
      result = decoder.decode(chunk, start, end, stream, 1_767_225_600_000, result.resume)
    }
    if (result.rejected > 0) throw new Error(`rejected: ${result.reason}`)
  }
  flush()
  decodeRounds.push((cpu() - before - encodeCpu) / entries)
  encodeRounds.push(encodeCpu / entries)
}

const best = (rounds: readonly number[]): number => Math.min(...rounds.slice(2))
const median = (rounds: readonly number[]): number => rounds.slice(2).sort((a, b) => a - b)[(rounds.length - 2) >> 1]!
const round = (value: number): number => Number(value.toFixed(4))
console.log(
  JSON.stringify({
    bench: 'decode',
    entries,
    bytesPerEntry: Math.round(bytes / entries),
    rowsPerBlock: rowsMax,
    mutualTls,
    decodeMicrosPerEntry: { best: round(best(decodeRounds)), median: round(median(decodeRounds)) },
    encodeMicrosPerEntry: { best: round(best(encodeRounds)), median: round(median(encodeRounds)) },
    entriesPerSecondPerCore: Math.round(1e6 / median(decodeRounds)),
    blockBytesPerRow: Math.round(blockBytes / rows),
    rounds: decodeRounds.length,
    rssMb: Math.round(process.memoryUsage.rss() / 1e6),
  }),
)
