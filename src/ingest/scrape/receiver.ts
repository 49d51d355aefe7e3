import { randomBytes } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import { type Clock, systemClock } from '../../lib/clock.ts'
import { createSemaphore } from '../../lib/semaphore.ts'
import { type ClientTlsConfig, clientTls } from '../../lib/tls.ts'
import { parseDuration } from '../../lib/units.ts'
import type { MetricStore } from '../../metrics/store.ts'
import type { Stage } from '../../pipeline/sink.ts'
import type { Log } from '../../telemetry/log.ts'
import { createRejectedLog, type RejectedGroup } from '../als/rejected.ts'
import { createScrapeCounters, type ScrapeCounters } from './counters.ts'
import { createFileTargets, type FileTargets } from './file-targets.ts'
import { type BodyBudget, createHttpGet, type HttpGet } from './http-get.ts'
import { ScrapeLoop, type TargetStatus } from './loop.ts'
import { PAGE_LIMITS } from './page.ts'
import { createProtobufParser } from './protobuf.ts'
import { type Target, targetOf } from './target.ts'
import { createTextParser } from './text.ts'

/**
 * Scrapes Prometheus targets: Envoy's `/stats/prometheus`, Istio's merged page, Linkerd's, anyone's.
 *
 *   jobs ─► targets of the configuration and of files, looked at every few seconds ─► one loop each
 *   loop ─► GET ─► text, OpenMetrics or protobuf ─► Page ─► MetricStore
 */
export interface ScrapeReceiver extends Stage {
  readonly counters: Readonly<ScrapeCounters>
  targets(): TargetStatus[]
  /**
   * Makes ready for other jobs; rejects when the files of one cannot be used. What it returns makes them count: loops of
   * jobs that are the same go on, those of others end, and their series with them.
   */
  prepare(jobs: readonly ScrapeJob[]): Promise<() => Promise<void>>
  /** Memory that repeated lines of all targets hold, about. */
  readonly pageBytes: number
  /** Parts of pages that were refused lately, latest first. */
  rejected(): RejectedGroup[]
}

/** One entry of `ingest.scrape[]`, with units resolved. */
export interface ScrapeJob {
  readonly job: string
  readonly targets: readonly string[]
  /** Files in Prometheus's format for file service discovery; the last part may have `*`. */
  readonly files: readonly string[]
  readonly scheme: 'http' | 'https'
  readonly path: string
  readonly intervalMs: number
  readonly timeoutMs: number
  readonly labels: Readonly<Record<string, string>>
  readonly honorLabels: boolean
  readonly honorTimestamps: boolean
  /** Ask for protobuf first: native histograms. */
  readonly protobuf: boolean
  readonly bodyBytesMax: number
  readonly samplesMax: number
  readonly tls: ClientTlsConfig
  /** '' for none. */
  readonly token: string
  /** Read again when it changes. */
  readonly tokenFile: string
  readonly username: string
  readonly password: string
  /** Of Envoys, the instance is the node id where the admin interface tells it. */
  readonly nodeId: boolean
}

export interface ScrapeReceiverOptions {
  readonly jobs: readonly ScrapeJob[]
  readonly store: MetricStore
  readonly gate: { readonly closed: boolean }
  readonly log: Log
  readonly userAgent: string
  readonly clock?: Clock
  /** How often files are looked at. */
  readonly refreshMs?: number
  readonly targetsMax?: number
  /** Pages that are under way at one time. Many, since targets that hang must not hold up the others. */
  readonly concurrencyMax?: number
  /** Bodies that are under way, together, as they come and unzipped. */
  readonly bodyBytesMax?: number
  /** Memory for repeated lines over all targets; past it they are read anew each time, at three times the cost. */
  readonly pageBytesMax?: number
}

const REFRESH_MS = 5_000
const TARGETS_MAX = 10_000
const CONCURRENCY_MAX = 1000
const BODY_BYTES_MAX = 256 * 1024 * 1024
const PAGE_BYTES_MAX = 256 * 1024 * 1024

export function createScrapeReceiver(options: ScrapeReceiverOptions): ScrapeReceiver {
  return new Scraper(options)
}

interface RunningJob {
  readonly job: ScrapeJob
  readonly http: HttpGet
  readonly files: FileTargets
  readonly loops: Map<string, ScrapeLoop>
  /** The targets of the configuration have been looked at. */
  isApplied: boolean
  readonly secretHeaders: () => Promise<Readonly<Record<string, string>>>
}

class Scraper implements ScrapeReceiver {
  readonly name = 'scrape'
  readonly counters = createScrapeCounters()
  readonly #options: ScrapeReceiverOptions
  readonly #clock: Clock
  readonly #rejectedLog = createRejectedLog()
  readonly #stopping = new AbortController()
  readonly #bodies: BodyBudget
  readonly #places: ReturnType<typeof createSemaphore>
  readonly #text = createTextParser()
  readonly #protobuf = createProtobufParser()
  readonly #hashSeed = randomBytes(4).readInt32LE()
  #jobs: RunningJob[] = []
  #refreshing: Promise<void> = Promise.resolve()
  /** One at a time: refreshing, and other jobs. */
  #turn: Promise<void> = Promise.resolve()
  #bytesMs = Number.NEGATIVE_INFINITY
  #isOverBudget = false
  readonly #complained = new Set<string>()

  constructor(options: ScrapeReceiverOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#bodies = { bytes: 0, bytesMax: options.bodyBytesMax ?? BODY_BYTES_MAX }
    this.#places = createSemaphore(options.concurrencyMax ?? CONCURRENCY_MAX)
  }

  async start(): Promise<void> {
    for (const job of this.#options.jobs) this.#jobs.push(this.#open(job))
    await this.#refreshAll()
    this.#refreshing = this.#keepFresh()
  }

  /** Loops end where they are; their series go on after a restart, so nothing is marked stale. */
  async stop(_deadline: AbortSignal): Promise<void> {
    this.#stopping.abort()
    await this.#refreshing
    await this.#turn
    const loops = this.#loops()
    await Promise.all(loops.map((loop) => loop.stop(false)))
    for (const { http } of this.#jobs) http.close()
    this.#jobs = []
  }

  targets(): TargetStatus[] {
    return this.#loops().map((loop) => loop.status)
  }

  get pageBytes(): number {
    return this.#loops().reduce((sum, loop) => sum + loop.bytes, 0)
  }

  rejected(): RejectedGroup[] {
    return this.#rejectedLog.list()
  }

  #loops(): ScrapeLoop[] {
    return this.#jobs.flatMap(({ loops }) => [...loops.values()])
  }

  async prepare(jobs: readonly ScrapeJob[]): Promise<() => Promise<void>> {
    const left = [...this.#jobs]
    const opened = jobs.map((job) => {
      const same = left.findIndex((running) => isDeepStrictEqual(running.job, job))
      return same < 0 ? this.#open(job) : left.splice(same, 1)[0]!
    })
    return () => this.#inTurn(() => this.#replace(opened))
  }

  async #replace(jobs: RunningJob[]): Promise<void> {
    if (this.#stopping.signal.aborted) return
    const gone = this.#jobs.filter((running) => !jobs.includes(running))
    this.#jobs = jobs
    for (const { loops, http } of gone) {
      await Promise.all([...loops.values()].map((loop) => loop.stop(true)))
      http.close()
    }
    for (const running of jobs) await this.#refresh(running)
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(work)
    this.#turn = done.catch(() => {})
    return done
  }

  #open(job: ScrapeJob): RunningJob {
    const { log } = this.#options
    const tls = clientTls(job.tls, `ingest.scrape: ${job.job}: tls`)
    // Throws what is wrong with the files.
    tls.options()
    return {
      job,
      http: createHttpGet(this.#bodies, tls),
      files: createFileTargets({
        files: job.files,
        onInvalid: (file, reason) =>
          log.warn({ job: job.job, file, reason }, 'a file of scrape targets cannot be used; its last targets stay'),
      }),
      loops: new Map(),
      isApplied: false,
      secretHeaders: secretHeadersOf(job),
    }
  }

  async #keepFresh(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      await this.#clock.sleep(this.#options.refreshMs ?? REFRESH_MS, signal)
      if (!signal.aborted) await this.#refreshAll()
    }
  }

  #refreshAll(): Promise<void> {
    return this.#inTurn(async () => {
      for (const running of this.#jobs) await this.#refresh(running)
    })
  }

  async #refresh(running: RunningJob): Promise<void> {
    const isChanged = await running.files.refresh()
    if (!isChanged && running.isApplied) return
    running.isApplied = true
    await this.#apply(running)
  }

  /** Starts loops of targets that are new and ends those of targets that are gone. */
  async #apply(running: RunningJob): Promise<void> {
    const wanted = this.#wanted(running)
    const gone = [...running.loops].filter(([key]) => !wanted.has(key))
    for (const [key] of gone) running.loops.delete(key)
    await Promise.all(gone.map(([, loop]) => loop.stop(true)))
    const room = (this.#options.targetsMax ?? TARGETS_MAX) - this.#loops().length
    let started = 0
    for (const [key, target] of wanted) {
      if (running.loops.has(key)) continue
      if (started >= room) {
        this.#complain(running.job.job, `more than ${this.#options.targetsMax ?? TARGETS_MAX} targets`)
        break
      }
      started++
      const loop = this.#loop(running, target)
      running.loops.set(key, loop)
      loop.start()
    }
  }

  #wanted({ job, files }: RunningJob): Map<string, Target> {
    const wanted = new Map<string, Target>()
    for (const { targets, labels } of [{ targets: job.targets, labels: {} }, ...files.groups]) {
      for (const text of targets) {
        const target = targetOf(text, labels, job, parseDuration)
        if (typeof target === 'string') this.#complain(job.job, target)
        else wanted.set(target.key, target)
      }
    }
    return wanted
  }

  #loop({ job, http, secretHeaders }: RunningJob, target: Target): ScrapeLoop {
    const { store, gate, userAgent, log } = this.#options
    return new ScrapeLoop(target, {
      store,
      gate,
      userAgent,
      log,
      http,
      secretHeaders,
      clock: this.#clock,
      counters: this.counters,
      rejectedLog: this.#rejectedLog,
      text: this.#text,
      protobuf: this.#protobuf,
      places: this.#places,
      isOverBudget: () => this.#checkBudget(),
      limits: { ...PAGE_LIMITS, samplesMax: job.samplesMax },
      hashSeed: this.#hashSeed,
      bodyBytesMax: job.bodyBytesMax,
      honorLabels: job.honorLabels,
      honorTimestamps: job.honorTimestamps,
      wantsProtobuf: job.protobuf,
      learnsNodeId: job.nodeId,
    })
  }

  /** Adds up once a second: thousands of targets must not cost their square. */
  #checkBudget(): boolean {
    const nowMs = this.#clock.now()
    if (Math.abs(nowMs - this.#bytesMs) >= 1000) {
      this.#bytesMs = nowMs
      this.#isOverBudget = this.pageBytes > (this.#options.pageBytesMax ?? PAGE_BYTES_MAX)
    }
    return this.#isOverBudget
  }

  #complain(job: string, reason: string): void {
    this.counters.invalidTargets++
    if (this.#complained.size >= 1000 || this.#complained.has(reason)) return
    this.#complained.add(reason)
    this.#options.log.warn({ job, reason }, 'a scrape target cannot be used')
  }
}

/** A token of a Kubernetes service account is another one every hour. */
function secretHeadersOf(job: ScrapeJob): RunningJob['secretHeaders'] {
  const { token, tokenFile, username, password } = job
  if (username !== '') {
    const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
    return async () => ({ authorization })
  }
  if (token !== '') return async () => ({ authorization: `Bearer ${token}` })
  if (tokenFile === '') return async () => ({})
  let changedMs = Number.NaN
  let headers: Readonly<Record<string, string>> = {}
  return async () => {
    try {
      const { mtimeMs } = await stat(tokenFile)
      if (mtimeMs !== changedMs) {
        headers = { authorization: `Bearer ${(await readFile(tokenFile, 'utf8')).trim()}` }
        changedMs = mtimeMs
      }
    } catch {
      // Without it the target says 401 or 403, which is what `up` then tells; the last one may still be good.
    }
    return headers
  }
}
