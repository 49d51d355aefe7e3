import { hash as digest } from 'node:crypto'
import type { Clock } from '../../lib/clock.ts'
import type { Semaphore } from '../../lib/semaphore.ts'
import type { Exemplar, MetricStore, Series, SeriesIdentity } from '../../metrics/store.ts'
import type { Log } from '../../telemetry/log.ts'
import type { RejectedLog } from '../als/rejected.ts'
import { acceptHeader, formatOf } from './accept.ts'
import { commitPage } from './commit.ts'
import type { ScrapeCounters, ScrapeFailure } from './counters.ts'
import type { HttpGet } from './http-get.ts'
import { isEnvoyPage, learnNodeId } from './node-id.ts'
import { type Item, Page, type PageLimits } from './page.ts'
import type { ProtobufParser } from './protobuf.ts'
import { attachTo, firstDueMs, type Target } from './target.ts'
import type { TextParser } from './text.ts'

/** What the loops of one job share. */
export interface LoopOptions {
  readonly store: MetricStore
  readonly http: HttpGet
  readonly clock: Clock
  readonly gate: { readonly closed: boolean }
  readonly counters: ScrapeCounters
  readonly rejectedLog: RejectedLog
  readonly text: TextParser
  readonly protobuf: ProtobufParser
  /** Pages that are under way at one time, over all jobs. */
  readonly places: Semaphore
  /** Asked after each page: whether the memory of this one should be given back. */
  readonly isOverBudget: () => boolean
  readonly limits: PageLimits
  readonly hashSeed: number
  readonly bodyBytesMax: number
  readonly honorLabels: boolean
  readonly honorTimestamps: boolean
  readonly wantsProtobuf: boolean
  readonly learnsNodeId: boolean
  /** `Authorization`, read each time: a token file may have changed. */
  readonly secretHeaders: () => Promise<Readonly<Record<string, string>>>
  readonly userAgent: string
  readonly log: Log
}

export interface TargetStatus {
  readonly job: string
  readonly url: string
  readonly instance: string
  readonly isUp: boolean
  /** Of the last scrape: null when it was good, or before the first. */
  readonly failure: ScrapeFailure | null
  readonly message: string
  /** Wall clock, ms; 0 before the first. */
  readonly lastMs: number
  readonly durationSeconds: number
  readonly samples: number
  readonly rejected: number
}

interface OwnSeries {
  readonly up: Series
  readonly duration: Series
  readonly samples: Series
}

/** How long a node id that could not be learnt is not asked for again. */
const NODE_ID_RETRY_MS = 60_000
/** Of one page. */
const EXEMPLARS_MAX = 50_000

/**
 * Scrapes one target at its place in the interval until it is stopped. Every scrape leaves `up`, `scrape_duration_seconds` and
 * `scrape_samples_scraped`; what the page no longer has gets a staleness marker, and so has everything when there is no page.
 */
export class ScrapeLoop {
  readonly target: Target
  readonly #options: LoopOptions
  readonly #stop = new AbortController()
  #done: Promise<void> = Promise.resolve()
  #page: Page
  #instance: string
  /** When the node id may be asked for again; 0: now. */
  #nodeIdDueMs = 0
  /** Numbers of the items of the last good page, without those that have times of their own. */
  #present: number[] = []
  #own: OwnSeries | null = null
  #status: Omit<TargetStatus, 'job' | 'url' | 'instance'> = {
    isUp: false,
    failure: null,
    message: '',
    lastMs: 0,
    durationSeconds: 0,
    samples: 0,
    rejected: 0,
  }

  constructor(target: Target, options: LoopOptions) {
    this.target = target
    this.#options = options
    this.#instance = target.instance ?? target.address
    this.#page = new Page(options.limits, options.hashSeed)
  }

  /** Memory that repeated lines hold, about, bytes. */
  get bytes(): number {
    return this.#page.bytes
  }

  get status(): TargetStatus {
    return { job: this.target.job, url: this.target.url.href, instance: this.#instance, ...this.#status }
  }

  start(): void {
    this.#done = this.#run()
  }

  /** Ends the loop. `isGone`: the target is no more, and so its series end. */
  async stop(isGone: boolean): Promise<void> {
    this.#stop.abort()
    await this.#done
    if (!isGone) return
    const nowMs = this.#options.clock.now()
    this.#endPage(nowMs)
    if (this.#own === null) return
    for (const series of Object.values(this.#own)) this.#options.store.stale(series, nowMs)
    this.#options.counters.staleMarkers += 3
    this.#own = null
  }

  async #run(): Promise<void> {
    const { clock, counters, places, log } = this.#options
    const { signal } = this.#stop
    const { intervalMs } = this.target
    const hash = Number.parseInt(digest('sha256', this.target.key).slice(0, 8), 16)
    let dueMs = firstDueMs(this.target, clock.now(), hash)
    while (!signal.aborted) {
      await clock.sleep(Math.max(0, dueMs - clock.now()), signal)
      if (signal.aborted) return
      const leave = await places.enter(signal).catch(() => null)
      if (leave === null) return
      try {
        await this.scrape()
      } catch (error) {
        // A bug that one page brings to light must not end the process, nor the scraping of this target.
        counters.failed.set('internal', (counters.failed.get('internal') ?? 0) + 1)
        if (counters.failed.get('internal') === 1) log.error({ target: this.target.url.href, error }, 'a scrape failed')
        this.#page = new Page(this.#options.limits, this.#options.hashSeed)
        this.#present = []
      } finally {
        leave()
      }
      dueMs += intervalMs
      // Also after the clock was set: never a burst of what was missed, never a long wait.
      const behind = Math.floor((clock.now() - dueMs) / intervalMs)
      if (behind >= 1) {
        counters.skipped.late += behind
        dueMs += behind * intervalMs
      } else if (dueMs - clock.now() > intervalMs) dueMs = firstDueMs(this.target, clock.now(), hash)
    }
  }

  /** One scrape, now. */
  async scrape(): Promise<void> {
    const { clock, counters, gate } = this.#options
    if (gate.closed) {
      // Neither up nor down: nobody looked. What is under way is stored as soon as there is room.
      counters.skipped.gate++
      return
    }
    const beganMs = clock.now()
    const began = performance.now()
    counters.scrapes++
    const failure = await this.#scrapePage(beganMs)
    if (failure?.reason === 'stopped') return
    const durationSeconds = (performance.now() - began) / 1000
    const { samples, rejected } = this.#page.result
    const isUp = failure === null
    if (failure !== null) {
      counters.failed.set(failure.reason, (counters.failed.get(failure.reason) ?? 0) + 1)
      this.#endPage(beganMs)
      // Whoever answers next may be another process.
      this.#nodeIdDueMs = 0
      // What was remembered of a page that was none would otherwise stay for ever.
      if (this.#page.result.failure !== null) this.#page = new Page(this.#options.limits, this.#options.hashSeed)
    }
    this.#status = {
      isUp,
      failure: failure?.reason ?? null,
      message: failure?.message ?? '',
      lastMs: beganMs,
      durationSeconds,
      samples: isUp ? samples : 0,
      rejected,
    }
    const { store } = this.#options
    this.#own ??= this.#ownSeries()
    store.setGauge(this.#own.up, beganMs, isUp ? 1 : 0)
    store.setGauge(this.#own.duration, beganMs, durationSeconds)
    store.setGauge(this.#own.samples, beganMs, isUp ? samples : 0)
  }

  async #scrapePage(beganMs: number): Promise<{ reason: ScrapeFailure; message: string } | null> {
    const { http, counters, bodyBytesMax, wantsProtobuf, honorTimestamps, store, honorLabels } = this.#options
    const { url, timeoutMs } = this.target
    const request = {
      headers: {
        accept: acceptHeader(wantsProtobuf),
        'accept-encoding': 'gzip',
        'user-agent': this.#options.userAgent,
        'x-prometheus-scrape-timeout-seconds': String(timeoutMs / 1000),
      },
      secretHeaders: await this.#options.secretHeaders(),
      timeoutMs,
      signal: this.#stop.signal,
    }
    const answer = await http.get({ ...request, url, bodyBytesMax })
    if (!answer.ok) return answer
    counters.bytes += answer.wireBytes
    const format = formatOf(answer.contentType)
    if (format === null) {
      return { reason: 'content_type', message: `content-type ${answer.contentType.slice(0, 100)} is no exposition` }
    }
    await this.#learnInstance(beganMs, request)
    if (this.#stop.signal.aborted) return { reason: 'stopped', message: '' }

    const page = this.#page
    const { body } = answer
    const exemplars = new Map<Item, Exemplar[]>()
    let room = EXEMPLARS_MAX
    page.onExemplar = (item, { labels, value, time }) => {
      // One without a time would be new at each scrape.
      if (Number.isNaN(time) || room-- <= 0) return
      const list = exemplars.get(item) ?? []
      exemplars.set(item, list)
      list.push({ labels, value, timeMs: Math.round(time * 1000) })
    }
    const result =
      format === 'protobuf'
        ? this.#options.protobuf.parse(page, body, 0, body.length, { timestamps: honorTimestamps })
        : this.#options.text.parse(page, body, 0, body.length, {
            openMetrics: format === 'openmetrics',
            timestamps: honorTimestamps,
          })
    this.#countRejected(page, body, beganMs)
    counters.exemplars += result.exemplars
    if (result.failure !== null) return { reason: result.failure, message: messageOf(result.failure, page) }
    counters.samples += result.samples
    counters.lastMs = beganMs
    commitPage(page, { store, attach: attachTo(this.target, this.#instance, honorLabels), timeMs: beganMs })
    for (const [{ series }, list] of exemplars) {
      if (series !== null) counters.exemplarsStored += store.exemplars(series, list)
    }
    this.#endVanished(beganMs)
    if (page.isMostlyOld) this.#compact()
    else if (this.#options.isOverBudget()) {
      counters.forgotten++
      this.#compact()
    }
    return null
  }

  async #learnInstance(nowMs: number, request: Parameters<typeof learnNodeId>[2]): Promise<void> {
    const { target } = this
    if (!this.#options.learnsNodeId || target.instance !== null || !isEnvoyPage(target.url)) return
    if (nowMs < this.#nodeIdDueMs) return
    const id = await learnNodeId(this.#options.http, target.url, request)
    // Once known it is asked for again when the target was away.
    this.#nodeIdDueMs = id === null ? nowMs + NODE_ID_RETRY_MS : Number.POSITIVE_INFINITY
    if (id === null || id === this.#instance) return
    this.#endPage(nowMs)
    if (this.#own !== null) for (const series of Object.values(this.#own)) this.#options.store.stale(series, nowMs)
    this.#own = null
    this.#instance = id
    this.#page = new Page(this.#options.limits, this.#options.hashSeed)
  }

  #ownSeries(): OwnSeries {
    const { store } = this.#options
    const { job, labels } = this.target
    const gauge = (name: string, help: string, unit = ''): Series => {
      const identity: SeriesIdentity = { job, instance: this.#instance, name, labels, type: 'gauge', unit, help }
      return store.series(identity)
    }
    return {
      up: gauge('up', '1 if the last scrape brought a page, 0 if not'),
      duration: gauge('scrape_duration_seconds', 'Time of the last scrape', 's'),
      samples: gauge('scrape_samples_scraped', 'Samples of the last scrape'),
    }
  }

  /** Series of the page before that this one has not. */
  #endVanished(timeMs: number): void {
    const page = this.#page
    for (const number of this.#present) {
      if (page.seenIn[number] !== page.scrape) this.#end(number, timeMs)
    }
    this.#notePresent()
  }

  /** There is no page: all its series end. */
  #endPage(timeMs: number): void {
    for (const number of this.#present) this.#end(number, timeMs)
    this.#present = []
  }

  #end(number: number, timeMs: number): void {
    const { series } = this.#page.items[number]!
    if (series === null) return
    this.#options.store.stale(series, timeMs)
    this.#options.counters.staleMarkers++
  }

  #notePresent(): void {
    const page = this.#page
    const present = this.#present
    present.length = 0
    for (let k = 0; k < page.seenCount; k++) {
      const number = page.seen[k]!
      // What has times of its own ends by them, as in Prometheus.
      if (Number.isNaN(page.times[number]!)) present.push(number)
    }
  }

  #compact(): void {
    this.#page = this.#page.compacted()
    this.#notePresent()
  }

  #countRejected(page: Page, body: Buffer, timeMs: number): void {
    const { counters, rejectedLog } = this.#options
    for (const [reason, count] of page.rejections) {
      counters.rejected.set(reason, (counters.rejected.get(reason) ?? 0) + count)
    }
    const { firstReason, firstOffset, rejected } = page.result
    if (firstReason === null) return
    rejectedLog.add({
      timeMs,
      reason: firstReason,
      peer: this.target.address,
      nodeId: this.#instance,
      logName: this.target.job,
      count: rejected,
      bytes: body,
      start: 0,
      end: body.length,
      offset: firstOffset,
    })
  }
}

function messageOf(failure: ScrapeFailure, page: Page): string {
  if (failure === 'sample_limit') return `more than ${page.limits.samplesMax} samples`
  if (failure === 'no_eof') return 'the page does not end with # EOF'
  const { firstReason, firstOffset } = page.result
  return `nothing in it can be read: ${firstReason} at byte ${firstOffset}`
}
