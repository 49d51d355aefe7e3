import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createAlsDecoder } from '../../src/ingest/als/decode.ts'
import { createIdentityResolver } from '../../src/ingest/als/identity.ts'
import { UNKNOWN_ORIGIN } from '../../src/ingest/als/node.ts'
import { createOrigins } from '../../src/ingest/entry/origins.ts'
import { createEntryWriter } from '../../src/ingest/entry/writer.ts'
import { createLineRecords } from '../../src/ingest/kafka/line-records.ts'
import { createKafkaReceiver, type KafkaReceiver } from '../../src/ingest/kafka/receiver.ts'
import type { LineParser } from '../../src/ingest/lines/parser.ts'
import type { KafkaDriverName, KafkaDriverOptions } from '../../src/kafka/driver.ts'
import { createKafkaDriver } from '../../src/kafka/drivers.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { createBatchBuilder } from '../../src/model/batch-builder.ts'
import { ROW_TABLES, type RowTable } from '../../src/model/schema.ts'
import { type Journal, openJournal } from '../../src/pipeline/journal.ts'
import { createLane } from '../../src/pipeline/lane.ts'
import { createRedaction } from '../../src/pipeline/redact.ts'
import { createRollup } from '../../src/pipeline/rollup.ts'
import { silentLog } from '../../src/telemetry/log.ts'

/**
 * A receiver with a real lane and journal and nothing behind them: segments stay, so that whoever looks afterwards sees
 * every row that was ever stored. As a program it prints `ready`, and `stored` when it first has stored something; it runs
 * until it is killed, or ends at SIGTERM.
 */
export interface KafkaWorkerOptions extends Pick<KafkaDriverOptions, 'brokers' | 'group' | 'topics'> {
  readonly dir: string
  readonly driver: KafkaDriverName
  readonly sessionMs?: number
  readonly takeoverMs?: number
  /** Rows of a builder: few, so that records are cut in the middle. */
  readonly rowsMax?: number
  readonly fetchBytesMax?: number
}

export interface KafkaWorker {
  readonly receiver: KafkaReceiver
  readonly journal: Journal
  stop(): Promise<void>
}

/** `{"id":"…"}`: a request with that id. */
const ID_LINES: LineParser = {
  name: 'ids',
  precisionNs: 1e6,
  source: 'json',
  parse(line, entry) {
    const id = /^\{"id":"([^"]+)"\}$/.exec(line)?.[1]
    if (id === undefined) return 'unmatched'
    entry.startSeconds = 1_767_225_600
    entry.durationNs = 1e6
    entry.code = 200
    entry.method = 'GET'
    entry.protocol = 'HTTP/1.1'
    entry.path = '/'
    entry.requestId = id
    return null
  },
}

export async function startKafkaWorker(options: KafkaWorkerOptions): Promise<KafkaWorker> {
  const { dir, rowsMax = 300 } = options
  mkdirSync(dir, { recursive: true })
  const limits = { segmentBytesMax: 64 << 20, segmentRowsMax: 200_000, segmentAgeMsMax: 300, diskBytesMax: 4 * 2 ** 30 }
  const journal = await openJournal({ dir: join(dir, 'journal'), worker: 0, limits, keepAfterAckMs: 1e9 })
  journal.reader('nobody')
  await journal.start()
  const resolver = createIdentityResolver()
  const builders = Object.fromEntries(
    ROW_TABLES.map((table) => [table, createBatchBuilder({ table, rowsMax, resolver })]),
  ) as Parameters<typeof createLane>[0]['builders']
  const ledger = { journaled: () => {}, dropped: () => {} }
  const lane = createLane({
    builders,
    journal,
    rollup: createRollup({ keysPerMinuteMax: 1000 }),
    ledger,
    live: [],
    log: silentLog,
  })
  await lane.start()
  const decoder = createAlsDecoder({ builders, redaction: createRedaction(), onIdentifier: () => UNKNOWN_ORIGIN })
  const writer = createEntryWriter({ decoder, flush: (table: RowTable) => lane.flush(table) })
  const driver = createKafkaDriver(options.driver, {
    clientId: 'sidecast-test',
    brokers: options.brokers,
    group: options.group,
    topics: options.topics,
    from: 'earliest',
    sessionMs: options.sessionMs ?? 3000,
    fetchBytesMax: options.fetchBytesMax ?? 64 << 10,
    fetchWaitMs: 100,
    log: silentLog,
  })
  const receiver = createKafkaReceiver({
    group: options.group,
    topics: options.topics,
    driver,
    decoder: (callbacks) =>
      createLineRecords({
        parser: ID_LINES,
        writer,
        origins: createOrigins(),
        node: '',
        onDecoded: () => {},
        ...callbacks,
      }),
    lane,
    journal,
    owner: ownerOf(dir),
    takeoverMs: options.takeoverMs ?? 120_000,
    clock: systemClock,
    log: silentLog,
  })
  await receiver.start()
  return {
    receiver,
    journal,
    async stop() {
      const signal = AbortSignal.timeout(20_000)
      await receiver.stop(signal)
      await lane.stop(signal)
      await journal.stop(signal)
    },
  }
}

function ownerOf(dir: string): string {
  const path = join(dir, 'owner')
  try {
    return readFileSync(path, 'utf8')
  } catch {
    const owner = `w-${Math.random().toString(36).slice(2, 10)}`
    writeFileSync(path, owner)
    return owner
  }
}

if (process.argv[1] === import.meta.filename) {
  const worker = await startKafkaWorker(JSON.parse(process.argv[2]!) as KafkaWorkerOptions)
  process.stdout.write('ready\n')
  process.once('SIGTERM', () => void worker.stop().then(() => process.exit(0)))
  while (worker.receiver.counters.commits === 0) await systemClock.sleep(20)
  process.stdout.write('stored\n')
}
