import { randomBytes } from 'node:crypto'
import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createStatements } from '../src/adapters/clickhouse/ddl.ts'
import { createAlsDecoder } from '../src/ingest/als/decode.ts'
import { type BatchBuilder, createBatchBuilder } from '../src/model/batch-builder.ts'
import { ROW_TABLES, type RowTable, STORED_ROW_COLUMNS } from '../src/model/schema.ts'
import { createRedaction } from '../src/pipeline/redact.ts'
import { startStore } from '../src/store/supervisor.ts'
import { silentLog } from '../src/telemetry/log.ts'
import { clientsOf } from '../test/support/store.ts'
import { createEntryGenerator } from './support/als-entries.ts'
import { ORIGIN, plainResolver } from './support/resolver.ts'

/**
 * What the store's process costs: CPU µs per row of `INSERT … SELECT FROM file(…, 'Native')` of real segments' rows and
 * of one full merge, bytes per row, memory, and what the HTTP face adds to a statement. CPU is that of the process as
 * the system counts it (10 ms).
 *
 *     node bench/store.ts [--segments 20] [--statements 500]
 */
const argument = (name: string, fallback: number): number => {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : Number(process.argv[at + 1])
}
const segments = argument('segments', 20)
const statements = argument('statements', 500)
const BLOCK_ROWS = 32_768
const BLOCKS = 6

const dir = await mkdtemp(join(tmpdir(), 'sidecast-bench-store-'))
const store = await startStore({ dir: join(dir, 'store'), log: silentLog })
const { writer, reader } = clientsOf(store)
const round = (value: number, digits = 3): number => Number(value.toFixed(digits))

try {
  const idleRssMb = await rssMb()
  const retention = { rowsMs: 2 ** 40, minutesMs: 2 ** 41, hoursMs: 2 ** 41, metricsMs: 2 ** 41 }
  await writer.command({ query: 'CREATE DATABASE bench' })
  for (const query of createStatements('bench', retention)) await writer.command({ query })
  await writer.command({ query: 'SYSTEM STOP MERGES bench.requests' })

  const columns = STORED_ROW_COLUMNS.map(({ name }) => name).join(', ')
  const structure = STORED_ROW_COLUMNS.map(({ name, type }) => `${name} ${type}`).join(', ')
  let insertCpuMs = 0
  let insertMs = 0
  let fileBytes = 0
  const makeFile = fileMaker()
  for (let segment = 0; segment < segments; segment++) {
    const file = join(dir, `segment-${segment}`)
    fileBytes += await makeFile(file, `0-bench-${segment}`)
    const [cpu, began] = [await cpuMs(), performance.now()]
    await writer.command({
      query: `INSERT INTO bench.requests (${columns}) SELECT ${columns}
        FROM file('${file}', 'Native', '${structure.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}')`,
      clickhouse_settings: {
        max_threads: 1,
        max_insert_threads: '1',
        min_insert_block_size_rows: '4000000',
        min_insert_block_size_bytes: String(2 ** 30),
        insert_deduplication_token: file,
      },
    })
    insertCpuMs += (await cpuMs()) - cpu
    insertMs += performance.now() - began
    await rm(file)
  }
  const rows = Number(await value('SELECT count() FROM bench.requests'))
  const loadedRssMb = await rssMb()
  const [cpuBefore, mergeBegan] = [await cpuMs(), performance.now()]
  await writer.command({ query: 'SYSTEM START MERGES bench.requests' })
  await writer.command({ query: 'OPTIMIZE TABLE bench.requests FINAL' })
  const merge = { cpuMs: (await cpuMs()) - cpuBefore, ms: performance.now() - mergeBegan }
  const bytesOnDisk = Number(
    await value(
      "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'bench' AND table = 'requests'",
    ),
  )
  const mergedRssMb = await rssMb()

  console.log(
    JSON.stringify({
      bench: 'store',
      rows,
      fileBytesPerRow: round(fileBytes / rows, 1),
      insert: {
        cpuMicrosPerRow: round((insertCpuMs * 1000) / rows),
        rowsPerSecond: Math.round(rows / (insertMs / 1000)),
      },
      merge: { cpuMicrosPerRow: round((merge.cpuMs * 1000) / rows), seconds: round(merge.ms / 1000) },
      diskBytesPerRow: round(bytesOnDisk / rows, 1),
      rssMb: { idle: idleRssMb, afterInserts: loadedRssMb, afterMerge: mergedRssMb },
      statements: {
        ping: await cost(() => writer.ping()),
        select1: await cost(async () => (await reader.query({ query: 'SELECT 1 + 1', format: 'JSON' })).json()),
        insertOneRow: await cost(() =>
          writer.insert({ table: 'bench.one', values: [{ a: 1 }], format: 'JSONEachRow' }),
        ),
        rows10k: await cost(async () =>
          (await reader.query({ query: 'SELECT * FROM numbers(10000)', format: 'JSONEachRow' })).text(),
        ),
      },
    }),
  )
} finally {
  await Promise.all([writer.close(), reader.close()])
  await store.stop(AbortSignal.timeout(10_000))
  await rm(dir, { recursive: true, force: true })
}

/** Wall and CPU of one statement, ms, one after the other. */
async function cost(statement: () => Promise<unknown>): Promise<{ ms: number; storeCpuMs: number }> {
  await writer.command({ query: 'CREATE TABLE IF NOT EXISTS bench.one (a UInt8) ENGINE = Null' })
  for (let warm = 0; warm < 20; warm++) await statement()
  const [cpu, began] = [await cpuMs(), performance.now()]
  for (let count = 0; count < statements; count++) await statement()
  return {
    ms: round((performance.now() - began) / statements),
    storeCpuMs: round(((await cpuMs()) - cpu) / statements),
  }
}

async function value(query: string): Promise<string> {
  return (await (await writer.query({ query, format: 'TabSeparated' })).text()).trim()
}

/** utime and stime of proc_pid_stat(5), in ticks of 10 ms. */
async function cpuMs(): Promise<number> {
  const text = await readFile(`/proc/${store.pid}/stat`, 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}

async function rssMb(): Promise<number> {
  return Math.round((Number((await readFile(`/proc/${store.pid}/statm`, 'utf8')).split(' ')[1]) * 4096) / 1e6)
}

/** Files of Native blocks as the journal holds them: entries decoded by the product's own decoder. */
function fileMaker(): (file: string, segment: string) => Promise<number> {
  const resolver = plainResolver()
  const builders = Object.fromEntries(
    ROW_TABLES.map((table) => [table, createBatchBuilder({ table, rowsMax: BLOCK_ROWS, resolver })]),
  ) as Record<RowTable, BatchBuilder>
  const decoder = createAlsDecoder({ builders, redaction: createRedaction(), onIdentifier: () => ORIGIN })
  const generator = createEntryGenerator(randomBytes(4).readUInt32LE())
  return async (path, segment) => {
    const file = await open(path, 'w')
    let bytes = 0
    for (let block = 0; block < BLOCKS; ) {
      const message = Buffer.concat([generator.message(), Buffer.alloc(64)])
      let result = decoder.decode(message, 0, message.length - 64, { origin: ORIGIN }, Date.now())
      while (result.full !== null) {
        if (result.full === 'requests') {
          for (const part of builders.requests.seal().encode(segment).buffers) {
            bytes += part.length
            await file.write(part)
          }
          block++
        } else builders[result.full].seal()
        builders[result.full].reset()
        result = decoder.decode(message, 0, message.length - 64, { origin: ORIGIN }, Date.now(), result.resume)
      }
    }
    await file.close()
    return bytes
  }
}
