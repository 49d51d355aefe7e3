import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../../lib/clock.ts'
import type { Batch, Identity, Origin } from '../../model/batch.ts'
import type { RollupParts } from '../../pipeline/rollup-block.ts'
import type { LiveSink } from '../../pipeline/sink.ts'
import { ClassicBuckets, ISTIO_BUCKETS, PHASE_BUCKETS } from './classic.ts'
import { DistinctValues } from './distinct.ts'
import { writeProtobuf } from './exposition-protobuf.ts'
import { writeText } from './exposition-text.ts'
import type { Exemplar, Registry } from './families.ts'
import { identityKey, identityLabels, serviceLabels } from './labels.ts'
import { CODE_BITS, NATIVE_SERIES_MAX, NativeCells, nativeCodeOf } from './native.ts'
import { negotiate } from './negotiate.ts'
import { OwnSeries } from './own-series.ts'
import { Proxies } from './proxies.ts'
import { type MeshSeries, sampleSeries } from './sample.ts'
import { GRPC, HISTOGRAMS, overflowWho, restOf, SeriesTable, TCP } from './series.ts'
import { HeavyKeys } from './sketch.ts'

/**
 * Istio's standard metrics of the requests that pass, computed in place from batches, and the page to scrape them from.
 *
 * Label sets are bounded in number and memory. One that does not fit is counted in the overflow series of its reporter
 * and protocol, so that sums over all series stay exact; the identities that overflow most are named in `stats`.
 */
export interface PrometheusAdapter extends LiveSink {
  /** One exposition, in the form the `Accept` header prefers. The body is made while it is read. */
  scrape(accept: string | undefined): Scrape
  /** Phases, outcomes, attempts and flags come with the rollup of each segment. */
  takeRollup(parts: RollupParts): void
  /** The label sets as they are now, `native`: with native buckets. May be read in pieces. */
  series(native?: boolean): Iterable<MeshSeries>
  /** Since the start; `series`, `bytes` and `nativeBuckets` are of now. */
  stats(): PrometheusStats
}

export interface Scrape {
  readonly contentType: string
  readonly body: AsyncGenerator<Uint8Array, void, undefined>
}

export interface PrometheusStats {
  /** Requests and connections taken. */
  readonly rows: number
  /** Of those, counted in overflow series. */
  readonly overflowRows: number
  /** Rows that Istio has no metric for: UDP sessions. */
  readonly skippedRows: number
  /** Label sets now, and dropped because nothing came for them. */
  readonly series: number
  readonly expiredSeries: number
  readonly bytes: number
  readonly nativeBuckets: number
  readonly exemplars: number
  /** Pairs of workloads that have phases, outcomes, attempts and flags; requests among them that had no room. */
  readonly pairs: number
  readonly expiredPairs: number
  readonly pairBytes: number
  readonly overflowPairRows: number
  /** About how many values labels had, of identities that had no room: what makes them so many. */
  readonly overflowLabels: readonly { readonly label: string; readonly values: number }[]
  /** Identities with most rows in overflow series; `rows` is too high by at most `error`, nearly always. */
  readonly offenders: readonly { readonly identity: string; readonly rows: number; readonly error: number }[]
}

export interface PrometheusAdapterOptions {
  readonly clock: Clock
  /** Label sets. Each is one counter and three histograms of 20 buckets: 70 samples in text. */
  readonly seriesMax?: number
  /** Memory for label sets, texts and classic buckets. */
  readonly bytesMax?: number
  /** A label set that nothing came for is dropped after this long. */
  readonly expiryMs?: number
  /** Memory for pairs of workloads, their phases and counters. */
  readonly pairBytesMax?: number
  /** Upper bounds in ms and in bytes, without +Inf; and in seconds, of phases. */
  readonly classicBuckets?: readonly number[]
  readonly phaseBuckets?: readonly number[]
  /** Buckets of all native histograms together, 24 bytes each, and of one. */
  readonly nativeBucketsMax?: number
  readonly nativeBucketsPerSeriesMax?: number
  /** Exemplars kept, one for each bucket of a duration at most; a bucket gets a new one after `exemplarIntervalMs`. */
  readonly exemplarsMax?: number
  readonly exemplarIntervalMs?: number
}

/** Text of one label set is a few hundred characters: 20 000 sets take some 30 MB. */
const SERIES_MAX = 20_000
const BYTES_MAX = 21 * 1024 * 1024
const PAIR_BYTES_MAX = 11 * 1024 * 1024
const EXPIRY_MS = 15 * 60_000
const NATIVE_BUCKETS_MAX = 400_000
const NATIVE_BUCKETS_PER_SERIES_MAX = 1_000
const NATIVE_LOG_MAX = 1 << 17
const EXEMPLARS_MAX = 10_000
const EXEMPLAR_INTERVAL_MS = 15_000
const OFFENDERS = 16
/** Identities whose labels are known by their number. */
const WHO_CACHE_MAX = 20_000
/** Series are not dropped while a page is being written, but for one that nobody reads on. */
const SCRAPE_MS_MAX = 120_000
const SWEEP_MS = 10_000
/** Identities and streams of a batch have 16 bits. */
const CODES_MAX = 65_536
/** `who` of an identity that the budget has no room for, and of one that depends on the stream. */
const NO_ROOM = -1
const BY_STREAM = -2

export function createPrometheusAdapter(options: PrometheusAdapterOptions): PrometheusAdapter {
  return new IstioMetrics(options)
}

class IstioMetrics implements PrometheusAdapter {
  readonly name = 'prometheus'
  readonly #clock: Clock
  readonly #durations: ClassicBuckets
  readonly #sizes: ClassicBuckets
  readonly #table: SeriesTable
  readonly #cells: NativeCells
  readonly #exemplars = new Map<number, Exemplar>()
  readonly #exemplarsMax: number
  readonly #exemplarSeconds: number
  readonly #expirySeconds: number
  readonly #offenders = new HeavyKeys()
  readonly #distinct = new DistinctValues(Object.keys(GUARDED))
  readonly #own: OwnSeries
  readonly #proxies = new Proxies()
  readonly #phaseBounds: readonly number[]
  /** `who` by identity, as long as the table keeps its numbers. Bounded by clearing. */
  readonly #whoCache = new Map<number, number>()
  readonly #whoCacheMax: number
  #whoGeneration = 0
  #sweptMs = 0
  /** When each scrape that is being written began. */
  readonly #scrapes = new Set<{ readonly beganMs: number }>()
  #rows = 0
  #overflowRows = 0
  #skippedRows = 0
  #expiredSeries = 0
  // Of the batch at hand, by its identity numbers.
  readonly #whoOf = new Int32Array(CODES_MAX)
  readonly #serverSide = new Uint8Array(CODES_MAX)
  readonly #overflowed = new Uint32Array(CODES_MAX)
  readonly #whoByStream = new Map<number, number>()

  constructor(options: PrometheusAdapterOptions) {
    const bounds = options.classicBuckets ?? ISTIO_BUCKETS
    this.#clock = options.clock
    this.#durations = new ClassicBuckets(bounds, 1e6)
    this.#sizes = new ClassicBuckets(bounds, 1)
    // The overflow series have numbers too.
    const seriesMax = Math.min(options.seriesMax ?? SERIES_MAX, NATIVE_SERIES_MAX - 64)
    this.#table = new SeriesTable({
      seriesMax,
      bytesMax: options.bytesMax ?? BYTES_MAX,
      buckets: bounds.length + 1,
    })
    this.#cells = new NativeCells({
      cellsMax: options.nativeBucketsMax ?? NATIVE_BUCKETS_MAX,
      cellsPerSeriesMax: options.nativeBucketsPerSeriesMax ?? NATIVE_BUCKETS_PER_SERIES_MAX,
      logMax: NATIVE_LOG_MAX,
    })
    this.#exemplarsMax = options.exemplarsMax ?? EXEMPLARS_MAX
    this.#exemplarSeconds = (options.exemplarIntervalMs ?? EXEMPLAR_INTERVAL_MS) / 1000
    this.#expirySeconds = (options.expiryMs ?? EXPIRY_MS) / 1000
    this.#whoCacheMax = Math.min(2 * seriesMax, WHO_CACHE_MAX)
    this.#phaseBounds = new ClassicBuckets(options.phaseBuckets ?? PHASE_BUCKETS, 1e9).bounds
    this.#own = new OwnSeries({
      bytesMax: options.pairBytesMax ?? PAIR_BYTES_MAX,
      expirySeconds: this.#expirySeconds,
    })
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {}

  take(batch: Batch): void {
    if (batch.table !== 'requests' || batch.rows === 0) return
    const nowMs = this.#clock.now()
    this.#sweep(nowMs)
    this.#resolveIdentities(batch)
    for (const origin of batch.streams) this.#proxies.see(origin, Math.floor(nowMs / 1000))
    const overflowBefore = this.#overflowRows
    this.#takeRows(batch, nowMs)
    this.#rows += batch.rows
    if (this.#overflowRows > overflowBefore) this.#nameOffenders(batch)
  }

  scrape(accept: string | undefined): Scrape {
    const { exposition, contentType } = negotiate(accept)
    return { contentType, body: this.#write(exposition) }
  }

  takeRollup(parts: RollupParts): void {
    this.#own.take(parts, this.#clock.now())
  }

  series(native = false): Iterable<MeshSeries> {
    this.#sweep(this.#clock.now())
    if (native) this.#cells.count()
    return sampleSeries(this.#registry(), native)
  }

  stats(): PrometheusStats {
    return {
      rows: this.#rows,
      overflowRows: this.#overflowRows,
      skippedRows: this.#skippedRows,
      series: this.#table.size,
      expiredSeries: this.#expiredSeries,
      bytes: this.#table.bytes,
      nativeBuckets: this.#cells.length,
      exemplars: this.#exemplars.size,
      pairs: this.#own.size,
      expiredPairs: this.#own.expired,
      pairBytes: this.#own.bytes,
      overflowPairRows: this.#own.overflowRows,
      overflowLabels: this.#distinct.estimates(),
      offenders: this.#offenders
        .top(OFFENDERS)
        .map(({ key, weight, error }) => ({ identity: key, rows: weight, error })),
    }
  }

  async *#write(exposition: 'text' | 'openmetrics' | 'protobuf'): AsyncGenerator<Uint8Array, void, undefined> {
    this.#sweep(this.#clock.now())
    const scrape = { beganMs: this.#clock.now() }
    this.#scrapes.add(scrape)
    const { generation } = this.#table
    const registry = this.#registry()
    try {
      const parts =
        exposition === 'protobuf' ? writeProtobuf(registry) : writeText(registry, exposition === 'openmetrics')
      for (;;) {
        // A part is written in one go, with all observations in the native buckets, so each series agrees with itself.
        this.#cells.count()
        const part = parts.next()
        if (part.done === true) return
        if (part.value !== null) yield typeof part.value === 'string' ? Buffer.from(part.value) : part.value
        await setImmediate()
        if (this.#table.generation !== generation) throw new Error('the scrape took too long, and its series are gone')
      }
    } finally {
      this.#scrapes.delete(scrape)
    }
  }

  #registry(): Registry {
    return {
      table: this.#table,
      cells: this.#cells,
      exemplars: this.#exemplars,
      bounds: this.#durations.bounds,
      own: this.#own,
      proxies: this.#proxies,
      phaseBounds: this.#phaseBounds,
    }
  }

  #resolveIdentities(batch: Batch): void {
    if (this.#whoGeneration !== this.#table.generation || this.#whoCache.size > this.#whoCacheMax) {
      this.#whoCache.clear()
      this.#whoGeneration = this.#table.generation
    }
    this.#whoByStream.clear()
    batch.identities.forEach((identity, k) => {
      const { reporter } = identity
      this.#serverSide[k] = reporter === 'destination' || reporter === 'waypoint' ? 1 : 0
      if (reporter === 'gateway') {
        this.#whoOf[k] = BY_STREAM
        return
      }
      let who = this.#whoCache.get(identity.id)
      if (who === undefined) {
        who = this.#whoOfIdentity(identity, undefined)
        this.#whoCache.set(identity.id, who)
      }
      this.#whoOf[k] = who
    })
  }

  #whoOfIdentity(identity: Identity, origin: Origin | undefined): number {
    return this.#table.whoOf(identityKey(identity, origin), () => identityLabels(identity, origin))
  }

  /** Istio's gateways are themselves the source, so what they report differs by stream. */
  #whoOfGateway(batch: Batch, row: number): number {
    const identity = batch.identity[row]!
    const stream = batch.stream[row]!
    const key = identity * CODES_MAX + stream
    let who = this.#whoByStream.get(key)
    if (who === undefined) {
      who = this.#whoOfIdentity(batch.identities[identity]!, batch.streams[stream])
      this.#whoByStream.set(key, who)
    }
    return who
  }

  #takeRows(batch: Batch, nowMs: number): void {
    const { identity, kind, code, grpcStatus, flags, mutualTls, duration, downstreamReceived, downstreamSent } = batch
    const { secondary } = batch
    const table = this.#table
    const cells = this.#cells
    const log = cells.log
    const durations = this.#durations
    const sizes = this.#sizes
    const whoOf = this.#whoOf
    const serverSide = this.#serverSide
    const perSeries = table.bucketsPerSeries
    const perHistogram = table.bucketsPerHistogram
    const nowSeconds = Math.floor(nowMs / 1000)
    const exemplarsBefore = nowSeconds - this.#exemplarSeconds
    let { counts, sums, lastSeen, exemplarTimes } = table
    const messages = batch.grpcMessages()

    for (let i = 0; i < batch.rows; i++) {
      if (secondary !== null && secondary[i] !== 0) continue
      const kindOf = kind[i]!
      if (kindOf === 2) {
        this.#skippedRows++
        continue
      }
      const status = grpcStatus[i]!
      const tcp = kindOf === 1
      // A call whose messages were counted is gRPC, though its status be in trailers that are not logged.
      const told = messages !== null && messages.requests[i]! >= 0
      const protocol = tcp ? TCP : status >= 0 || told ? GRPC : 0
      let who = whoOf[identity[i]!]!
      if (who === BY_STREAM) who = this.#whoOfGateway(batch, i)
      let series = -1
      if (who !== NO_ROOM) {
        const policy = serverSide[identity[i]!] === 0 ? 0 : 1 + mutualTls[i]!
        const rest = restOf(protocol, policy, tcp ? -1 : status)
        const codeOf = tcp ? -1 : code[i]!
        series = table.find(who, flags[i]!, codeOf, rest)
        if (series < 0) {
          series = this.#create(who, flags[i]!, codeOf, rest, nowMs)
          ;({ counts, sums, lastSeen, exemplarTimes } = table)
        }
      }
      if (series < 0) {
        series = this.#overflow(batch.identities[identity[i]!]!.reporter, protocol, nowMs)
        this.#overflowed[identity[i]!]!++
        ;({ counts, sums, lastSeen, exemplarTimes } = table)
      }

      counts[series]!++
      lastSeen[series] = nowSeconds
      const sum = series * HISTOGRAMS
      const received = downstreamReceived[i]!
      const sent = downstreamSent[i]!
      sums[sum + 1]! += received
      sums[sum + 2]! += sent
      if (tcp) continue
      if (told) {
        table.messages[2 * series]! += messages.requests[i]!
        table.messages[2 * series + 1]! += messages.responses[i]!
      }
      const ns = duration[i]!
      sums[sum]! += ns
      const first = series * perSeries
      const bucket = durations.indexOf(ns)
      table.increment(first + bucket)
      table.increment(first + perHistogram + sizes.indexOf(received))
      table.increment(first + 2 * perHistogram + sizes.indexOf(sent))
      if (exemplarTimes[series * perHistogram + bucket]! <= exemplarsBefore) {
        exemplarTimes[series * perHistogram + bucket] = nowSeconds
        this.#keepExemplar(batch, i, series * perHistogram + bucket)
      }
      if (ns > 0) {
        log[cells.logged++] = (series << CODE_BITS) | nativeCodeOf(ns)
        if (cells.logged === cells.logMax) cells.count()
      }
    }
  }

  #create(who: number, flags: number, code: number, rest: number, nowMs: number): number {
    const series = this.#table.create(who, flags, code, rest, nowMs)
    if (series >= 0) this.#cells.reserve(series + 1)
    return series
  }

  #overflow(reporter: Identity['reporter'], protocol: number, nowMs: number): number {
    this.#overflowRows++
    const who = overflowWho(reporter)
    const series = this.#table.find(who, 0, 0, protocol)
    return series >= 0 ? series : this.#create(who, 0, 0, protocol, nowMs)
  }

  #keepExemplar(batch: Batch, row: number, key: number): void {
    if (this.#exemplars.size >= this.#exemplarsMax && !this.#exemplars.has(key)) return
    const traceId = batch.traceId(row)
    if (traceId === '') return
    const time = batch.endSeconds[row]! + Math.floor(batch.endNanos[row]! / 1e6) / 1000
    this.#exemplars.set(key, { traceId, value: batch.duration[row]! / 1e6, time })
  }

  #nameOffenders(batch: Batch): void {
    batch.identities.forEach((identity, k) => {
      const rows = this.#overflowed[k]!
      if (rows === 0) return
      this.#overflowed[k] = 0
      this.#offenders.add(describe(identity), rows)
      GUARDS.forEach((textOf, k) => {
        this.#distinct.see(k, textOf(identity))
      })
    })
  }

  #sweep(nowMs: number): void {
    if (nowMs - this.#sweptMs < SWEEP_MS && nowMs >= this.#sweptMs) return
    for (const scrape of this.#scrapes) if (nowMs - scrape.beganMs < SCRAPE_MS_MAX) return
    this.#sweptMs = nowMs
    this.#own.dropIdle(nowMs)
    this.#proxies.dropIdle(Math.floor(nowMs / 1000) - this.#expirySeconds)
    const gone = this.#table.dropIdle(Math.floor(nowMs / 1000) - this.#expirySeconds)
    if (gone.size === 0) return
    this.#expiredSeries += gone.size
    this.#cells.remove(gone)
    const perHistogram = this.#table.bucketsPerHistogram
    for (const key of this.#exemplars.keys()) {
      if (gone.has(Math.floor(key / perHistogram))) this.#exemplars.delete(key)
    }
  }
}

/** Labels whose values are counted once there is no room. */
const GUARDED: Readonly<Record<string, (identity: Identity) => string>> = {
  source_workload: ({ source }) => source.workload,
  source_workload_namespace: ({ source }) => source.namespace,
  source_principal: ({ source }) => source.principal,
  source_version: ({ source }) => source.version,
  destination_workload: ({ destination }) => destination.workload,
  destination_workload_namespace: ({ destination }) => destination.namespace,
  destination_principal: ({ destination }) => destination.principal,
  destination_version: ({ destination }) => destination.version,
  destination_service: (identity) => serviceLabels(identity).host,
}
const GUARDS = Object.values(GUARDED)

function describe(identity: Identity): string {
  const { source, destination } = identity
  const from = `${source.workload || 'unknown'}.${source.namespace || 'unknown'}`
  return `${identity.reporter}: ${from} → ${identity.destinationHost || destination.service || 'unknown'}`
}
