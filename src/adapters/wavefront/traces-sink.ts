import type { NativeBlockColumns } from '../../model/native-read.ts'
import { createTailSampler, type TailRules } from '../../otlp/tail-rules.ts'
import type { RowFilter } from '../../pipeline/row-filter.ts'
import type { Segment } from '../../pipeline/segment.ts'
import { readSegment } from '../../pipeline/segment-reader.ts'
import type { Outcome, SegmentSink } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import { createLineQueue, type LineQueue } from './batches.ts'
import type { WavefrontCounters } from './counters.ts'
import type { NameOptions } from './names.ts'
import { receivedSpanLines } from './received-spans.ts'
import { spanLines } from './span-lines.ts'
import type { Line, Transport } from './transport.ts'
import type { Refusal } from './validate.ts'

/**
 * Requests of segments as spans and span logs. A segment is read while it is sent; after a `retry` the same reading goes
 * on, so that what the target has is not sent again. A restart begins the segment again: the same spans, the same ids.
 */
export interface TracesSinkOptions {
  readonly names: NameOptions
  readonly where: RowFilter
  readonly rules: TailRules
  readonly logs: boolean
  /** Spans that others sent here go on as well. */
  readonly received: boolean
  readonly transport: Transport
  readonly counters: WavefrontCounters
  readonly log: Log
}

interface Reading {
  readonly segment: string
  readonly lines: AsyncGenerator<readonly Line[]>
  readonly queue: LineQueue
  readonly release: () => void
  /** Rows left out: by the filter, by the rules, or because they are no requests. */
  dropped: number
}

export function createTracesSink(options: TracesSinkOptions): SegmentSink {
  const { names, where, rules, logs, received, transport, counters, log } = options
  const spanOptions = { names, logs, onRefused: (refusal: Refusal) => counters.refuse(refusal) }
  const sampler = createTailSampler(rules)
  let reading: Reading | null = null

  /** 1 for rows that count: not the second telling of a request, and not left out by the filter. */
  function select(block: NativeBlockColumns): Uint8Array {
    const selected = where.select(block) ?? new Uint8Array(block.rows).fill(1)
    const secondary = block.has('secondary') ? block.numbers('secondary') : null
    for (let row = 0; secondary !== null && row < block.rows; row++) if (secondary[row] === 1) selected[row] = 0
    return selected
  }

  async function* linesOf(segment: Segment, dropped: (rows: number) => void): AsyncGenerator<readonly Line[]> {
    sampler.begin(segment.sealedMs)
    if (sampler.notes) for await (const block of readSegment(segment, 'requests')) sampler.note(block, select(block))
    for await (const block of readSegment(segment, 'requests')) {
      const keep = sampler.decide(block, select(block))
      let left = 0
      for (let row = 0; row < block.rows; row++) if (keep[row] === 0) left++
      dropped(left)
      yield* spanLines(block, keep, spanOptions)
    }
    sampler.commit()
    if (received) for await (const block of readSegment(segment, 'spans')) yield* receivedSpanLines(block, spanOptions)
  }

  function begin(segment: Segment): Reading {
    const dropped = (rows: number): void => {
      made.dropped += rows
    }
    const lines = linesOf(segment, dropped)
    const queue = createLineQueue({
      lines,
      counters: counters.lines,
      onRefused: (count, error) => log.error({ sink: NAME, lines: count, error }, 'spans were refused for good'),
    })
    const made: Reading = { segment: keyOf(segment), lines, queue, release: segment.hold?.() ?? (() => {}), dropped: 0 }
    return made
  }

  async function end(): Promise<void> {
    const before = reading
    reading = null
    if (before === null) return
    await before.lines.return(undefined)
    before.release()
  }

  return {
    name: NAME,
    async start() {},
    stop: end,
    async send(segment, signal): Promise<Outcome> {
      if (reading !== null && reading.segment !== keyOf(segment)) await end()
      reading ??= begin(segment)
      const { queue } = reading
      let outcome: Outcome
      try {
        outcome = await queue.drain(transport, signal)
      } catch (error) {
        // The file is gone or damaged: the next attempt begins with what the journal then has.
        await end()
        return { status: 'retry', error: error instanceof Error ? error : new Error(String(error)) }
      }
      if (outcome.status === 'retry') return outcome
      const { dropped } = reading
      await end()
      return outcome.status === 'accepted' ? { ...outcome, dropped } : outcome
    },
  }
}

const NAME = 'wavefront-traces'

/** Another one when damage made a segment shorter. */
function keyOf({ id, recovered, tables }: Segment): string {
  return `${id} ${recovered === true} ${tables.map(({ rows, bytes }) => `${rows}/${bytes}`)}`
}
