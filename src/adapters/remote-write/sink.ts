import { snappyCompress } from '../../lib/snappy.ts'
import type { Segment } from '../../pipeline/segment.ts'
import { readSegment } from '../../pipeline/segment-reader.ts'
import type { Outcome, SegmentSink } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import { encodeV1, encodeV2 } from './encode.ts'
import { openSeriesLog, type SeriesLog } from './known-series.ts'
import {
  collectExemplars,
  learn,
  type RowsOptions,
  seriesOfExemplars,
  seriesOfHistograms,
  seriesOfSamples,
} from './rows.ts'
import type { Post, PostAnswer, WriteVersion } from './send.ts'
import type { OutLabel, OutMetadata, OutSeries } from './series.ts'

/**
 * Sends the stats of segments by remote write, in order, one request at a time, so that the samples of a series arrive in
 * the order of their times.
 *
 *   series ─► series.log │ samples, histograms ─► requests of ≤ samplesMax ─► 2xx ─► the next one
 *                                                                          ├► 5xx, 429, set-up ─► retry, from this request on
 *                                                                          └► other 4xx ─► the segment is a dead letter
 *
 * A segment that is sent again by the same process goes on at the request that failed. After a restart it is sent whole:
 * values that the receiver has are the same values, and what it calls out of order then is passed over, and counted.
 */
export interface RemoteWriteSinkOptions {
  readonly post: Post & { close(): void }
  /** `auto`: 2.0, and 1.0 where the receiver does not know it. */
  readonly version: WriteVersion | 'auto'
  readonly jobs: ReadonlySet<string>
  readonly externalLabels: readonly OutLabel[]
  /** Whether they are sent. */
  readonly exemplars: boolean
  readonly samplesMax: number
  /** Path of `series.log`. */
  readonly seriesPath: string
  readonly clock: { now(): number }
  readonly log: Log
}

export interface RemoteWriteCounters {
  requests_total: number
  bytes_total: number
  samples_delivered_total: number
  histograms_delivered_total: number
  exemplars_delivered_total: number
  /** More than are sent of one segment. */
  exemplars_dropped_total: number
  /** Refused by the receiver for good; their segments are dead letters. */
  samples_rejected_total: number
  /** The receiver has newer ones of the series: those of a segment that was sent before. */
  samples_out_of_order_total: number
  series_known: number
  series_log_damaged_total: number
  /** 0 as long as it is not known. */
  version: number
}

export interface RemoteWriteSink extends SegmentSink {
  readonly counters: Readonly<RemoteWriteCounters>
}

export function createRemoteWriteSink(options: RemoteWriteSinkOptions): RemoteWriteSink {
  return new Sink(options)
}

const NAME = 'remote-write'
const MS_PER_DAY = 86_400_000
/** Prometheus itself tells metadata once a minute. */
const METADATA_EVERY_MS = 60_000
/** What somebody has to mend at the receiver or in the configuration: no sample is to blame. */
const SET_UP: ReadonlySet<number> = new Set([401, 403, 404, 405, 407, 408, 415, 421, 425])
const OUT_OF_ORDER = /out of order|out-of-order|duplicate sample|older than|already exists/i

type Sent = { readonly status: 'sent' | 'refused' } | Extract<Outcome, { status: 'retry' }>

class Sink implements RemoteWriteSink {
  readonly name = NAME
  readonly counters: RemoteWriteCounters = {
    requests_total: 0,
    bytes_total: 0,
    samples_delivered_total: 0,
    histograms_delivered_total: 0,
    exemplars_delivered_total: 0,
    exemplars_dropped_total: 0,
    samples_rejected_total: 0,
    samples_out_of_order_total: 0,
    series_known: 0,
    series_log_damaged_total: 0,
    version: 0,
  }
  readonly #options: RemoteWriteSinkOptions
  #version: WriteVersion | null
  #known: SeriesLog | undefined
  /** How far the segment at hand is: requests that need not be sent again. */
  #progress = { segment: '', done: 0, refused: null as Error | null }
  #metadataMs = Number.NEGATIVE_INFINITY
  #outOfOrderLogged = false
  /** Of the segment that was sent last. */
  #day = Number.NEGATIVE_INFINITY

  constructor(options: RemoteWriteSinkOptions) {
    this.#options = options
    this.#version = options.version === 'auto' ? null : options.version
    this.counters.version = Number(this.#version ?? 0)
  }

  async start(): Promise<void> {
    const { seriesPath, clock } = this.#options
    const today = Math.floor(clock.now() / MS_PER_DAY)
    this.#known ??= await openSeriesLog(seriesPath, today)
    this.#day = today
    this.counters.series_log_damaged_total = this.#known.damaged
    this.counters.series_known = this.#known.size
  }

  async stop(): Promise<void> {
    this.#options.post.close()
    this.#known = undefined
  }

  async send(segment: Segment, signal: AbortSignal): Promise<Outcome> {
    const known = this.#known
    if (known === undefined) return { status: 'retry', error: new Error('the sink has not started') }
    if (this.#progress.segment !== segment.id) this.#progress = { segment: segment.id, done: 0, refused: null }
    const progress = this.#progress
    const { jobs, externalLabels } = this.#options
    const rows: RowsOptions = { known, jobs, externalLabels, exemplars: new Map() }
    for await (const block of readSegment(segment, 'series', { signal })) learn(block, rows)
    this.counters.series_known = known.size
    let number = 0
    for await (const series of this.#requests(segment, rows, signal)) {
      if (number++ < progress.done) continue
      const sent = await this.#send(series, signal)
      if (sent.status === 'retry') return sent
      progress.done = number
      if (sent.status === 'refused') progress.refused ??= new Error(this.#lastRefusal)
    }
    // Before the cursor moves: whoever reads on from it needs the labels.
    const day = Math.floor(segment.sealedMs / MS_PER_DAY)
    if (day > this.#day) await known.turn(day)
    else await known.save()
    this.#day = Math.max(day, this.#day)
    return progress.refused === null ? { status: 'accepted' } : { status: 'rejected', error: progress.refused }
  }

  async *#requests(segment: Segment, rows: RowsOptions, signal: AbortSignal): AsyncGenerator<OutSeries[]> {
    const { samplesMax } = this.#options
    let dropped = 0
    if (this.#options.exemplars) {
      for await (const block of readSegment(segment, 'exemplars', { signal })) dropped += collectExemplars(block, rows)
    }
    // Once, though the segment be sent again from where it failed.
    if (this.#progress.done === 0) this.counters.exemplars_dropped_total += dropped
    for await (const block of readSegment(segment, 'samples', { signal })) {
      yield* chunks(seriesOfSamples(block, rows), samplesMax)
    }
    for await (const block of readSegment(segment, 'histograms', { signal })) {
      yield* chunks(seriesOfHistograms(block, rows), samplesMax)
    }
    yield* chunks(seriesOfExemplars(rows), samplesMax)
  }

  #lastRefusal = ''

  async #send(series: readonly OutSeries[], signal: AbortSignal): Promise<Sent> {
    const total = countOf(series)
    const answer = await this.#post(series, signal)
    if (!answer.answered) return { status: 'retry', error: answer.error }
    const { status, text } = answer
    if (status >= 200 && status < 300) {
      this.counters.samples_delivered_total += total.samples
      this.counters.histograms_delivered_total += total.histograms
      this.counters.exemplars_delivered_total += total.exemplars
      return { status: 'sent' }
    }
    const error = new Error(`the receiver answered ${status}: ${text || 'nothing more'}`)
    if (status === 413 && series.length > 1) return this.#sendHalves(series, signal)
    if (status === 429 || status >= 500 || status < 400 || SET_UP.has(status)) {
      return { status: 'retry', error, ...(answer.afterMs === undefined ? {} : { afterMs: answer.afterMs }) }
    }
    const refused = total.samples + total.histograms - (answer.written ?? 0)
    if (OUT_OF_ORDER.test(text)) {
      this.#outOfOrder(refused, text)
      return { status: 'sent' }
    }
    this.counters.samples_rejected_total += refused
    this.#lastRefusal = error.message
    return { status: 'refused' }
  }

  async #sendHalves(series: readonly OutSeries[], signal: AbortSignal): Promise<Sent> {
    const middle = series.length >> 1
    const first = await this.#send(series.slice(0, middle), signal)
    if (first.status === 'retry') return first
    const second = await this.#send(series.slice(middle), signal)
    return second.status === 'sent' ? first : second
  }

  #outOfOrder(count: number, text: string): void {
    this.counters.samples_out_of_order_total += count
    if (this.#outOfOrderLogged) return
    this.#outOfOrderLogged = true
    this.#options.log.warn({ sink: NAME, text }, 'the receiver has newer samples than some that were sent; counted')
  }

  async #post(series: readonly OutSeries[], signal: AbortSignal): Promise<PostAnswer> {
    if (this.#version !== null) return this.#postAs(this.#version, series, signal)
    const answer = await this.#postAs('2.0', series, signal)
    if (!answer.answered) return answer
    const { status } = answer
    if (status >= 200 && status < 300 && answer.written !== null) this.#decide('2.0')
    // A receiver of 1.0 finds nothing in a request of 2.0: it refuses the type, the body, or is content with nothing.
    else if (status < 300 || status === 415 || (status === 400 && answer.written === null)) {
      const again = await this.#postAs('1.0', series, signal)
      if (again.answered && again.status >= 200 && again.status < 300) this.#decide('1.0')
      return again
    }
    return answer
  }

  #decide(version: WriteVersion): void {
    this.#version = version
    this.counters.version = Number(version)
    this.#options.log.info({ sink: NAME, version }, 'the receiver was asked which version of remote write it knows')
  }

  async #postAs(version: WriteVersion, series: readonly OutSeries[], signal: AbortSignal): Promise<PostAnswer> {
    const raw = version === '2.0' ? encodeV2(series) : encodeV1(series, this.#metadata(series))
    const body = snappyCompress(raw)
    this.counters.requests_total++
    this.counters.bytes_total += body.length
    const answer = await this.#options.post(body, version, signal)
    const fixed = this.#options.version === '2.0'
    if (fixed && answer.answered && answer.status >= 200 && answer.status < 300 && answer.written === null) {
      return { answered: false, error: new Error('the receiver does not say what it has written: it knows 1.0 alone') }
    }
    return answer
  }

  /** Of the families of a request, once a minute. */
  #metadata(series: readonly OutSeries[]): OutMetadata[] {
    const nowMs = this.#options.clock.now()
    if (Math.abs(nowMs - this.#metadataMs) < METADATA_EVERY_MS) return []
    this.#metadataMs = nowMs
    return [...new Map(series.map(({ metadata }) => [metadata.family, metadata])).values()]
  }
}

function countOf(series: readonly OutSeries[]): { samples: number; histograms: number; exemplars: number } {
  let samples = 0
  let exemplars = 0
  let histograms = 0
  for (const one of series) {
    samples += one.samples.length
    histograms += one.histograms.length
    exemplars += one.exemplars.length
  }
  return { samples, histograms, exemplars }
}

/** All of one series in one request, whatever its size. */
function* chunks(series: readonly OutSeries[], samplesMax: number): Generator<OutSeries[]> {
  let chunk: OutSeries[] = []
  let count = 0
  for (const one of series) {
    const own = one.samples.length + one.histograms.length + one.exemplars.length
    if (count > 0 && count + own > samplesMax) {
      yield chunk
      chunk = []
      count = 0
    }
    chunk.push(one)
    count += own
  }
  if (chunk.length > 0) yield chunk
}
