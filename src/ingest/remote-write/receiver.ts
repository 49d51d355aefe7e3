import type { Readable } from 'node:stream'
import { SidecastError } from '../../errors.ts'
import { MalformedProtobuf } from '../../lib/protobuf-reader.ts'
import { snappyUncompress } from '../../lib/snappy.ts'
import type { Exemplar, Label, MetricStore, Series } from '../../metrics/store.ts'
import { decodeWriteRequest, decodeWriteRequestV2 } from './decode.ts'
import { Families, PARTS, typeOfSamples } from './families.ts'
import type { Metadata, WriteVisitor, WrittenHistogram, WrittenSample, WrittenSeries } from './series.ts'

/**
 * Takes what a Prometheus (or whatever speaks its remote write, 1.0 or 2.0) sends, as stats:
 *
 *   body ─► Snappy ─► protobuf ─► series by series to the MetricStore ─► fsync ─► 204
 *
 * Answered when everything is on disk. Samples that cannot be taken are counted by reason and told with 400, as the
 * specification has it: the others of the request are stored all the same. A request that is sent again because its answer
 * was lost changes nothing: the same value at the same time is one value.
 */
export interface RemoteWriteReceiver {
  take(request: RemoteWriteUpload): Promise<RemoteWriteAnswer>
  readonly counters: Readonly<RemoteWriteCounters>
  /** Of the last request that was not taken whole: why. Null before the first. */
  readonly lastProblem: string | null
}

export interface RemoteWriteUpload {
  readonly body: Readable
  readonly contentType: string
  readonly contentEncoding: string
  /** As announced; NaN when not. */
  readonly contentLength: number
}

export interface RemoteWriteAnswer {
  readonly status: 204 | 400 | 413 | 415 | 503
  readonly headers: Readonly<Record<string, string>>
  /** Why, as a sentence; empty of 204. */
  readonly message: string
}

export interface RemoteWriteCounters {
  requests: number
  /** Answers by status. */
  readonly answers: Map<number, number>
  /** Stored: numbers, histograms, markers of staleness. */
  samples: number
  histograms: number
  staleMarkers: number
  /** Not stored, by reason: `series`, `histogram`, `out_of_bounds`, `series_limit`, `invalid`, `journal_full`. */
  readonly rejected: Map<string, number>
  exemplars: number
  /** Not stored: they came before, are too long, out of bounds or not readable. Their series are taken all the same. */
  exemplarsDropped: number
  bytes: number
  /** Wall clock, ms, of the last sample; 0 before the first. */
  lastMs: number
}

export interface RemoteWriteOptions {
  readonly store: MetricStore
  readonly gate: { readonly closed: boolean }
  /** Wall clock, ms. */
  readonly clock?: () => number
  readonly limits?: Partial<RemoteWriteLimits>
}

export interface RemoteWriteLimits {
  /** As it comes, and unpacked. Prometheus sends a few hundred KB. */
  readonly bodyBytesMax: number
  readonly unpackedBytesMax: number
  /** Of all requests under way; past it senders come back later. */
  readonly heldBytesMax: number
}

export const REMOTE_WRITE_LIMITS: RemoteWriteLimits = {
  bodyBytesMax: 16 << 20,
  unpackedBytesMax: 64 << 20,
  heldBytesMax: 128 << 20,
}

type Version = '1.0' | '2.0'
const RETRY_AFTER_S = 5

export function createRemoteWriteReceiver(options: RemoteWriteOptions): RemoteWriteReceiver {
  return new Receiver(options)
}

/** What one request brought. */
interface Taken {
  samples: number
  histograms: number
  staleMarkers: number
  exemplars: number
  rejected: number
  /** Of the first one. */
  reason: string
  journalFull: boolean
}

class Receiver implements RemoteWriteReceiver {
  readonly counters: RemoteWriteCounters = {
    requests: 0,
    answers: new Map(),
    samples: 0,
    histograms: 0,
    staleMarkers: 0,
    rejected: new Map(),
    exemplars: 0,
    exemplarsDropped: 0,
    bytes: 0,
    lastMs: 0,
  }
  lastProblem: string | null = null
  readonly #clock: () => number
  readonly #store: MetricStore
  readonly #gate: { readonly closed: boolean }
  readonly #limits: RemoteWriteLimits
  readonly #families = new Families()
  #held = 0

  constructor({ store, gate, limits, clock = Date.now }: RemoteWriteOptions) {
    this.#clock = clock
    this.#store = store
    this.#gate = gate
    this.#limits = { ...REMOTE_WRITE_LIMITS, ...limits }
  }

  async take(request: RemoteWriteUpload): Promise<RemoteWriteAnswer> {
    this.counters.requests++
    const answer = await this.#answer(request)
    this.counters.answers.set(answer.status, (this.counters.answers.get(answer.status) ?? 0) + 1)
    if (answer.message !== '') this.lastProblem = answer.message
    return answer
  }

  async #answer(request: RemoteWriteUpload): Promise<RemoteWriteAnswer> {
    const version = versionOf(request.contentType)
    if (version === null) {
      return refusal(415, `${request.contentType.slice(0, 200) || 'no content type'} is not read here`)
    }
    if (request.contentEncoding.trim().toLowerCase() !== 'snappy') {
      return refusal(415, 'the content encoding is not snappy')
    }
    if (this.#gate.closed) return later('the journal has no room')
    const body = await this.#read(request)
    if (body === 'too_large') return refusal(413, `the body is larger than ${this.#limits.bodyBytesMax} bytes`)
    if (body === 'busy') return later('too many requests are under way')
    if (body === 'cut_off') return refusal(400, 'the body was cut off')
    try {
      return await this.#store204(body, version)
    } finally {
      this.#held -= body.length
    }
  }

  async #store204(body: Buffer, version: Version): Promise<RemoteWriteAnswer> {
    this.counters.bytes += body.length
    const bytes = snappyUncompress(body, this.#limits.unpackedBytesMax)
    if (bytes === 'malformed') return refusal(400, 'the body is no block of Snappy')
    if (bytes === 'too_large') return refusal(413, `unpacked it is larger than ${this.#limits.unpackedBytesMax} bytes`)
    const taken: Taken = {
      samples: 0,
      histograms: 0,
      staleMarkers: 0,
      exemplars: 0,
      rejected: 0,
      reason: '',
      journalFull: false,
    }
    let malformed: string | null = null
    try {
      const visitor = this.#visitor(taken)
      if (version === '1.0') decodeWriteRequest(bytes, visitor)
      else decodeWriteRequestV2(bytes, visitor)
    } catch (error) {
      if (!(error instanceof MalformedProtobuf)) throw error
      malformed = error.message
    }
    try {
      await this.#store.synced()
    } catch (error) {
      if (error instanceof SidecastError && error.code === 'SC4104') return later('the journal has no room')
      throw error
    }
    this.counters.samples += taken.samples
    this.counters.histograms += taken.histograms
    this.counters.staleMarkers += taken.staleMarkers
    this.counters.exemplars += taken.exemplars
    if (taken.samples + taken.histograms > 0) this.counters.lastMs = this.#clock()
    if (taken.journalFull) return later('the journal has no room')
    const written = version === '2.0' ? writtenHeaders(taken) : {}
    if (malformed !== null) return refusal(400, `the body is no write request: ${malformed}`, written)
    if (taken.rejected === 0) return { status: 204, headers: written, message: '' }
    return refusal(400, `${taken.rejected} samples were not taken, the first because ${taken.reason}`, written)
  }

  #visitor(taken: Taken): WriteVisitor {
    return {
      metadata: (family, metadata) => this.#families.remember(family, metadata),
      invalid: (reason, samples, histograms) => {
        const count = samples + histograms
        this.#reject(taken, 'series', reason, count)
      },
      invalidExemplar: () => {
        this.counters.exemplarsDropped++
      },
      series: (series) => this.#series(series, taken),
    }
  }

  #series({ labels, metadata, samples, histograms, exemplars }: WrittenSeries, taken: Taken): void {
    const { name, job, instance, rest } = split(labels)
    const known: Metadata | undefined = metadata ?? this.#families.of(name)
    const of = { name, job, instance, labels: rest, help: known?.help ?? '', unit: known?.unit ?? '' }
    if (samples.length > 0) {
      const series = this.#store.series({ ...of, type: typeOfSamples(name, metadata ?? known) })
      for (const sample of samples) this.#sample(series, sample, taken)
    }
    if (histograms.length > 0) {
      const series = this.#store.series({ ...of, type: 'histogram' })
      for (const histogram of histograms) this.#histogram(series, histogram, taken)
    }
    if (exemplars.length === 0) return
    // Prometheus sends them by themselves, after the samples of their series.
    const isNative =
      histograms.length > 0 || (samples.length === 0 && (metadata ?? known)?.type === 'histogram' && !PARTS.test(name))
    const type = isNative ? 'histogram' : typeOfSamples(name, metadata ?? known)
    this.#exemplars(this.#store.series({ ...of, type }), exemplars, taken)
  }

  /** What is wrong with one costs its series nothing, and is counted alone. */
  #exemplars(series: Series, exemplars: readonly Exemplar[], taken: Taken): void {
    const stored = this.#store.exemplars(series, exemplars)
    taken.exemplars += stored
    this.counters.exemplarsDropped += exemplars.length - stored
  }

  #sample(series: Series, { value, timeMs, startMs, stale }: WrittenSample, taken: Taken): void {
    const refused = this.#write(series, () => {
      if (stale) this.#store.stale(series, timeMs)
      else if (series.type === 'counter' && value >= 0 && value < Number.POSITIVE_INFINITY) {
        if (startMs > 0) this.#store.setCounter(series, timeMs, value, startMs)
        else this.#store.setCounter(series, timeMs, value)
      } else this.#store.setGauge(series, timeMs, value)
    })
    if (refused !== null) this.#reject(taken, refused, REASONS[refused]!)
    else if (stale) taken.staleMarkers++
    else taken.samples++
  }

  #histogram(series: Series, { distribution, reason, timeMs, stale }: WrittenHistogram, taken: Taken): void {
    if (distribution === null && !stale) {
      this.#reject(taken, 'histogram', reason ?? 'a histogram cannot be read')
      return
    }
    const refused = this.#write(series, () => {
      if (distribution === null) this.#store.stale(series, timeMs)
      else this.#store.distribution(series, timeMs, distribution)
    })
    if (refused !== null) this.#reject(taken, refused, REASONS[refused]!)
    else if (stale) taken.staleMarkers++
    else taken.histograms++
  }

  /** Null: taken, now or before. The store counts what it refuses, and says no more. */
  #write(series: Series, write: () => void): keyof typeof REASONS | null {
    const { counters } = this.#store
    const { invalid, outOfBounds, overflow, droppedFull } = counters
    write()
    if (series.overflow || counters.overflow > overflow) return 'series_limit'
    if (counters.invalid > invalid) return 'invalid'
    if (counters.outOfBounds > outOfBounds) return 'out_of_bounds'
    return counters.droppedFull > droppedFull ? 'journal_full' : null
  }

  #reject(taken: Taken, kind: string, reason: string, count = 1): void {
    if (count === 0) return
    this.counters.rejected.set(kind, (this.counters.rejected.get(kind) ?? 0) + count)
    if (kind === 'journal_full') taken.journalFull = true
    if (taken.rejected === 0) taken.reason = reason
    taken.rejected += count
  }

  /** Counts as held until it is stored. */
  async #read({ body, contentLength }: RemoteWriteUpload): Promise<Buffer | 'too_large' | 'busy' | 'cut_off'> {
    const { bodyBytesMax, heldBytesMax } = this.#limits
    if (contentLength > bodyBytesMax) return 'too_large'
    if (this.#held + (contentLength || 0) > heldBytesMax) return 'busy'
    const chunks: Buffer[] = []
    let length = 0
    const giveUp = (why: 'too_large' | 'busy' | 'cut_off'): typeof why => {
      this.#held -= length
      return why
    }
    try {
      for await (const chunk of body as AsyncIterable<Buffer>) {
        length += chunk.length
        this.#held += chunk.length
        if (length > bodyBytesMax) return giveUp('too_large')
        if (this.#held > heldBytesMax) return giveUp('busy')
        chunks.push(chunk)
      }
    } catch {
      return giveUp('cut_off')
    }
    return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length)
  }
}

const REASONS = {
  series_limit: 'the bound on series is reached',
  invalid: 'a value does not fit its series',
  out_of_bounds: 'a time is older than stats are kept, or more than a day ahead',
  journal_full: 'the journal has no room',
} as const

/** Null: neither version. Without `proto` it is 1.0, which had no such parameter. */
export function versionOf(contentType: string): Version | null {
  const [type = '', ...parameters] = contentType.split(';').map((part) => part.trim().toLowerCase())
  if (type !== 'application/x-protobuf') return null
  const proto = parameters.find((parameter) => parameter.startsWith('proto='))?.slice('proto='.length)
  if (proto === undefined || proto === 'prometheus.writerequest') return '1.0'
  return proto === 'io.prometheus.write.v2.request' ? '2.0' : null
}

function split(labels: readonly Label[]): { name: string; job: string; instance: string; rest: Label[] } {
  let name = ''
  let job = ''
  let instance = ''
  const rest: Label[] = []
  for (const label of labels) {
    if (label[0] === '__name__') name = label[1]
    else if (label[0] === 'job') job = label[1]
    else if (label[0] === 'instance') instance = label[1]
    else rest.push(label)
  }
  return { name, job, instance, rest }
}

const writtenHeaders = ({ samples, staleMarkers, histograms, exemplars }: Taken): Record<string, string> => ({
  'x-prometheus-remote-write-samples-written': String(samples + staleMarkers),
  'x-prometheus-remote-write-histograms-written': String(histograms),
  'x-prometheus-remote-write-exemplars-written': String(exemplars),
})

const refusal = (
  status: 400 | 413 | 415,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): RemoteWriteAnswer => ({ status, headers, message })

const later = (message: string): RemoteWriteAnswer => ({
  status: 503,
  headers: { 'retry-after': String(RETRY_AFTER_S) },
  message,
})
