import type { NativeBlockColumns } from '../../model/native-read.ts'
import { createRowRequests, type ExportRequest, type RowSignal } from '../../otlp/row-requests.ts'
import { BY_SHARE, createTailSampler, DROP, type TailRules, type TailSampler } from '../../otlp/tail-rules.ts'
import { isRowTable } from '../../pipeline/journal-format.ts'
import type { RowFilter } from '../../pipeline/row-filter.ts'
import type { Segment } from '../../pipeline/segment.ts'
import { readSegment } from '../../pipeline/segment-reader.ts'
import type { Outcome, SegmentSink } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import type { OtlpClient } from './client.ts'
import { createExporter, type ExportCounters, type Exporter, type ExportOutcome } from './export.ts'

/**
 * Requests of segments as spans or log records. A segment is read as it is sent, a block at a time; after a `retry` the
 * same reading goes on, so that what the target has is not sent again. A restart of the process, or a segment that was
 * mended meanwhile, begins the segment again: the same spans under the same ids.
 */
export interface RowsSink extends SegmentSink {
  readonly counters: Readonly<RowsCounters & ExportCounters>
}

export interface RowsCounters {
  /** Rows read = rows left out by the filter + by the rules + sent. */
  rows: number
  rowsFiltered: number
  rowsSampledOut: number
}

export interface RowsSinkOptions {
  readonly signal: RowSignal
  /** `otlp-traces`: name of its cursor. */
  readonly name: string
  readonly client: OtlpClient
  readonly filter: RowFilter
  readonly rules: TailRules
  /** Of a request, before compression. */
  readonly requestBytesMax: number
  readonly version: string
  readonly log: Log
}

export function createRowsSink(options: RowsSinkOptions): RowsSink {
  return new Rows(options)
}

/** A segment on its way. */
interface Reading {
  readonly key: string
  readonly requests: AsyncGenerator<ExportRequest>
  readonly release: () => void
  dropped: number
}

class Rows implements RowsSink {
  readonly name: string
  readonly #options: RowsSinkOptions
  readonly #sampler: TailSampler
  readonly #exporter: Exporter
  readonly #rows: RowsCounters = { rows: 0, rowsFiltered: 0, rowsSampledOut: 0 }
  #reading: Reading | null = null
  /** Segments that the log has spoken about: once for each is enough. */
  #spokenOf = ''

  constructor(options: RowsSinkOptions) {
    this.name = options.name
    this.#options = options
    this.#sampler = createTailSampler(options.rules)
    this.#exporter = createExporter({
      client: options.client,
      signal: options.signal,
      onTrouble: (message, error) => this.#speak(message, error),
    })
  }

  get counters(): Readonly<RowsCounters & ExportCounters> {
    return { ...this.#rows, ...this.#exporter.counters }
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    await this.#end()
  }

  async send(segment: Segment, signal: AbortSignal): Promise<Outcome> {
    const reading = await this.#readingOf(segment)
    let outcome: ExportOutcome
    try {
      outcome = await this.#exporter.run(reading.requests, signal)
    } catch (error) {
      // The file is gone or damaged: the next attempt begins with what the journal then has.
      await this.#end()
      return { status: 'retry', error: error instanceof Error ? error : new Error(String(error)) }
    }
    if (outcome.status === 'retry') return outcome
    this.#sampler.commit()
    await this.#end()
    if (outcome.status === 'rejected') return outcome
    // What the target has no place for at all is left out, not set aside: it would fill the disk.
    return { status: 'accepted', dropped: outcome.unimplemented ? rowsOf(segment) : reading.dropped }
  }

  async #readingOf(segment: Segment): Promise<Reading> {
    const key = `${segment.id} ${segment.recovered === true} ${segment.tables.map(({ rows, bytes }) => `${rows}/${bytes}`)}`
    if (this.#reading?.key === key) return this.#reading
    await this.#end()
    const release = segment.hold?.() ?? (() => {})
    const reading: Reading = {
      key,
      release,
      dropped: othersOf(segment),
      requests: this.#requests(segment, (rows) => {
        reading.dropped += rows
      }),
    }
    this.#reading = reading
    return reading
  }

  async #end(): Promise<void> {
    const reading = this.#reading
    if (reading === null) return
    this.#reading = null
    this.#exporter.forget()
    await reading.requests.return(undefined)
    reading.release()
  }

  async *#requests(segment: Segment, dropped: (rows: number) => void): AsyncGenerator<ExportRequest> {
    const { signal, requestBytesMax, version } = this.#options
    const sampler = this.#sampler
    sampler.begin(segment.sealedMs)
    if (sampler.notes)
      for await (const block of readSegment(segment, 'requests')) sampler.note(block, this.#select(block))
    const requests = createRowRequests({
      signal,
      bytesMax: requestBytesMax,
      version,
      state: (keep) => (keep === BY_SHARE ? sampler.shareState : 'ot=th:0'),
    })
    for await (const block of readSegment(segment, 'requests')) {
      const keep = this.#keep(block, dropped)
      yield* requests.add(block, keep)
    }
    const rest = requests.finish()
    if (rest !== null) yield rest
  }

  #keep(block: NativeBlockColumns, dropped: (rows: number) => void): Uint8Array {
    const selected = this.#select(block)
    const decisions = this.#sampler.decide(block, selected)
    let filtered = 0
    let left = 0
    for (let row = 0; row < block.rows; row++) {
      if (decisions[row] !== DROP) continue
      left++
      if (selected !== null && selected[row] === 0) filtered++
    }
    this.#rows.rows += block.rows
    this.#rows.rowsFiltered += filtered
    this.#rows.rowsSampledOut += left - filtered
    dropped(left)
    return decisions
  }

  /** Rows that the filter lets pass, and that are not the second telling of a request that its proxy told in a better way. */
  #select(block: NativeBlockColumns): Uint8Array | null {
    const selected = this.#options.filter.select(block)
    if (!block.has('secondary')) return selected
    const secondary = block.numbers('secondary')
    return Uint8Array.from({ length: block.rows }, (_, row) =>
      secondary[row] !== 0 ? 0 : selected === null ? 1 : selected[row]!,
    )
  }

  #speak(message: string, error: Error | null): void {
    const key = `${message}: ${error?.message ?? ''}`
    if (key === this.#spokenOf) return
    this.#spokenOf = key
    this.#options.log.warn({ sink: this.name, error }, message)
  }
}

const rowsOf = ({ tables }: Segment): number =>
  tables.reduce((sum, { table, rows }) => sum + (isRowTable(table) ? rows : 0), 0)

/** Rows that are no requests: attempts of them, and what is still going on, are not sent. */
const othersOf = (segment: Segment): number =>
  rowsOf(segment) - segment.tables.reduce((sum, { table, rows }) => sum + (table === 'requests' ? rows : 0), 0)
