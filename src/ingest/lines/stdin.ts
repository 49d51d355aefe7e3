import type { Readable } from 'node:stream'
import type { Clock } from '../../lib/clock.ts'
import type { LaneGate } from '../../pipeline/lane.ts'
import type { Stage } from '../../pipeline/sink.ts'
import type { EntryWriter } from '../entry/entry.ts'
import type { Origins, Sender } from '../entry/origins.ts'
import { createGateWait } from './gate.ts'
import type { LineParser } from './parser.ts'
import { createLineReader } from './read-line.ts'
import { createRejectedLines, type RejectedLines } from './rejected-lines.ts'
import { LineSource } from './source.ts'
import { lineSplitter } from './split.ts'
import { createUnwrapper } from './unwrap/index.ts'

/**
 * Lines from standard input, such as `kubectl logs -f … | sidecast run …`. There is nobody to answer and no place to go back
 * to: a killed process loses what waits in memory, 50 ms of lines at most. While the journal takes nothing the pipe is not
 * read, and its writer waits.
 */
export interface StdinReceiver extends Stage {
  readonly counters: Readonly<StdinCounters>
  readonly rejected: RejectedLines
}

export interface StdinCounters {
  lines: number
  bytes: number
  rows: number
  readonly rejected: Map<string, number>
  /** The other end has closed. */
  ended: boolean
  /** Wall clock, ms, of the last row; 0 before the first. */
  lastMs: number
}

export interface StdinOptions {
  readonly input: Readable
  /** Not shared with others. */
  readonly writer: EntryWriter
  readonly origins: Origins
  readonly gate: LaneGate
  readonly parser: LineParser
  readonly sender: Omit<Sender, 'source' | 'precisionNs'>
  readonly onRejected?: (nodeId: string, lines: number) => void
  readonly clock: Clock
  readonly lineBytesMax?: number
}

const LINE_BYTES_MAX = 1 << 20

export function createStdinReceiver(options: StdinOptions): StdinReceiver {
  const { input, writer, origins, parser, sender, clock, lineBytesMax = LINE_BYTES_MAX } = options
  const counters: StdinCounters = { lines: 0, bytes: 0, rows: 0, rejected: new Map(), ended: false, lastMs: 0 }
  const rejected = createRejectedLines()
  const gateOpen = createGateWait(options.gate)
  const stopping = new AbortController()
  const source = new LineSource({
    reader: createLineReader({
      parser,
      unwrapper: createUnwrapper({ charsMax: lineBytesMax }),
      writer,
      origins,
      sender,
    }),
    writer,
    splitter: lineSplitter,
    entryBytesMax: lineBytesMax,
    onReject: (reason, line, _end, text) => {
      counters.rejected.set(reason, (counters.rejected.get(reason) ?? 0) + 1)
      if (reason !== 'not_an_entry') options.onRejected?.(sender.nodeId ?? '', 1)
      rejected.add({ reason, source: 'stdin', position: line, text, timeMs: clock.now() })
    },
    onChunk: (lines, bytes, rows) => {
      counters.lines += lines
      counters.bytes += bytes
      counters.rows += rows
      if (rows > 0) counters.lastMs = clock.now()
    },
  })
  const settle = async (): Promise<void> => {
    while (!source.settled && !stopping.signal.aborted) {
      await gateOpen(stopping.signal)
      if (!stopping.signal.aborted) source.settle()
    }
  }
  const run = async (): Promise<void> => {
    for await (const chunk of input) {
      if (stopping.signal.aborted) return
      source.push(chunk as Buffer)
      await settle()
    }
    source.end()
    await settle()
    counters.ended = true
  }
  let running: Promise<void> | null = null
  return {
    name: 'stdin',
    counters,
    rejected,
    async start() {
      // A pipe that breaks has ended.
      running = run().catch(() => {
        counters.ended = true
      })
    },
    async stop() {
      stopping.abort()
      input.destroy()
      await running
    },
  }
}
