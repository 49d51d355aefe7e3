import { readFileSync } from 'node:fs'
import { createAlsDecoder } from '../../src/ingest/als/decode.ts'
import { createIdentityResolver } from '../../src/ingest/als/identity.ts'
import { createOrigins } from '../../src/ingest/entry/origins.ts'
import { createEntryWriter } from '../../src/ingest/entry/writer.ts'
import type { LineParser } from '../../src/ingest/lines/parser.ts'
import { createBatchBuilder } from '../../src/model/batch-builder.ts'
import type { SecondaryRows } from '../../src/model/secondary-rows.ts'
import { type Journal, type JournalOptions, openJournal } from '../../src/pipeline/journal.ts'
import { createLane, type Lane, type SideSource } from '../../src/pipeline/lane.ts'
import { createRedaction } from '../../src/pipeline/redact.ts'
import { createRollup } from '../../src/pipeline/rollup.ts'
import { silentLog } from '../../src/telemetry/log.ts'
import { readBlocks } from './native-rows.ts'

/** A lane with a journal and no store: what is stored is what the journal has. Rows are small in number, builders too. */
export interface LinesRig {
  readonly journal: Journal
  readonly lane: Lane
  readonly writer: ReturnType<typeof createEntryWriter>
  readonly origins: ReturnType<typeof createOrigins>
  /** Another writer on the same lane. */
  newWriter(): ReturnType<typeof createEntryWriter>
  /** Paths of all rows in the journal, of every process before as well. Seals. */
  stored(): Promise<string[]>
  stop(): Promise<void>
}

const LIMITS = { segmentBytesMax: 64 << 20, segmentRowsMax: 1_000_000, segmentAgeMsMax: 200, diskBytesMax: 2 ** 32 }

export async function openLinesRig(
  dir: string,
  options: {
    rowsMax?: number
    flushMs?: number
    clock?: () => number
    journal?: Partial<JournalOptions>
    /** Marks requests that are told a second time; none by default. */
    secondary?: SecondaryRows
    /** What goes to the journal beside rows. */
    sides?: (lane: () => Lane) => readonly SideSource[]
  } = {},
): Promise<LinesRig> {
  const journal = await openJournal({ dir, worker: 0, limits: LIMITS, ...options.journal })
  const resolver = createIdentityResolver()
  const builder = (table: 'requests' | 'attempts' | 'progress' | 'connections') =>
    createBatchBuilder({
      table,
      rowsMax: options.rowsMax ?? 1000,
      resolver,
      ...(options.secondary === undefined || table !== 'requests' ? {} : { secondary: options.secondary }),
    })
  const lane: Lane = createLane({
    builders: {
      requests: builder('requests'),
      attempts: builder('attempts'),
      progress: builder('progress'),
      connections: builder('connections'),
    },
    journal,
    rollup: createRollup(),
    ledger: { journaled() {}, dropped() {} },
    live: [],
    log: silentLog,
    ...(options.sides === undefined ? {} : { sides: options.sides(() => lane) }),
    ...(options.flushMs === undefined ? {} : { flushMs: options.flushMs }),
    ...(options.clock === undefined ? {} : { clock: options.clock }),
  })
  const decoder = createAlsDecoder({
    builders: lane.builders,
    redaction: createRedaction(),
    onIdentifier: () => {
      throw new Error('entries have no identifier')
    },
  })
  const newWriter = () => createEntryWriter({ decoder, flush: (table) => lane.flush(table) })
  await journal.start()
  await lane.start()
  return {
    journal,
    lane,
    writer: newWriter(),
    newWriter,
    origins: createOrigins(),
    async stored() {
      await lane.synced()
      journal.seal()
      await journal.settled()
      return storedPaths(journal)
    },
    async stop() {
      await lane.stop(new AbortController().signal)
      await journal.stop(new AbortController().signal)
    },
  }
}

/** Column `path` of every row in sealed segments, whatever the table. */
export function storedPaths(journal: Journal): string[] {
  const paths: string[] = []
  for (const segment of journal.segments()) {
    for (const { table, file } of segment.tables) {
      if (table === 'latency_1m') continue
      for (const { rows } of readBlocks([readFileSync(file)])) for (const row of rows) paths.push(String(row.path))
    }
  }
  return paths
}

/**
 * Lines `{"p":"/path"}`, with `"t":"tcp"` for connections and `"a":1` for attempts, so that rows of one file go to several
 * tables.
 */
export const testParser: LineParser = {
  name: 'test',
  precisionNs: 1_000_000,
  source: 'json',
  parse(line, entry) {
    const match = /^\{"p":"([^"]*)"(?:,"k":"(\w+)")?.*\}$/.exec(line)
    if (match === null) return line.startsWith('{') ? 'bad_json' : 'unmatched'
    entry.path = match[1]!
    entry.method = 'GET'
    entry.code = 200
    entry.startSeconds = 1_700_000_000
    entry.durationNs = 5e6
    if (match[2] === 'attempt') entry.type = ATTEMPT
    return null
  },
}

/** `UpstreamEnd`. */
const ATTEMPT = 10
