import type { Readable } from 'node:stream'
import type { ProblemCode } from './problem.ts'
import type { AdapterLedger, Coverage, NodeLedger, StatusReport } from './schemas.ts'
import type { SloBook } from './slo/book.ts'
import type { TierBurn } from './slo/burn.ts'
import type { Slo } from './slo/slo.ts'

/** What the query API needs of the rest of the process, beside the store. The application joins them. */
export interface LedgerSource {
  /** Unix ms up to which all that arrived is in the store; null when nothing has arrived yet. */
  through(): number | null
  /**
   * What Envoy's counters say of an interval (Unix ms, half open). Called once per point of a series: must be cheap.
   * Null where no counters arrive.
   */
  coverage(fromMs: number, toMs: number): Omit<Coverage, 'stored' | 'known'> | null
  /** Resolution in ns of the coarsest source that ever brought rows; null when none has. */
  precisionNs(): number | null
  nodes(): readonly NodeLedger[]
  adapters(): readonly AdapterLedger[]
  /** Unix ms since when the counts count; null when nothing has arrived yet. */
  since(): number | null
}

/** Takes another configuration while the process runs. */
export interface ReloadPort {
  run(trigger: 'http'): Promise<{
    readonly taken: boolean
    readonly changes: readonly { readonly text: string }[]
    /** Why it was refused. */
    readonly reasons: readonly string[]
  }>
}

export interface StatusSource {
  /** Gathered anew for each question. Must not take longer than a second, whatever state things are in. */
  report(signal: AbortSignal): Promise<StatusReport>
  /** Why the process should be restarted; empty when it is alive. */
  unhealthy(): readonly string[]
  /** Why it should get no work now; empty when it is ready. */
  unready(signal: AbortSignal): Promise<readonly string[]>
}

/** The objectives as they are now; their files may be read again. */
export interface SloSource {
  slos(): readonly Slo[]
  /** Objectives over HTTP: both throw a `Problem`, and then nothing has changed. Absent where none are taken. */
  readonly documents?: Pick<SloBook, 'put' | 'remove'>
}

/** Alerts of objectives, and what became of telling others of them. */
export interface AlertsSource {
  alerts(): Iterable<AlertOfSource>
  rules(): readonly RuleOfSource[]
  alertmanagers(): readonly {
    readonly url: string
    readonly counters: { readonly sent: number; readonly rejected: number; readonly failed: number }
    readonly lastError: string | null
    /** Unix ms; 0: never. */
    readonly lastSentMs: number
  }[]
  /** The last look at the objectives; `reason` says why nothing is known, `atMs` is the end of the windows. Null before. */
  readonly last: {
    readonly startedMs: number
    readonly tookMs: number
    readonly atMs: number | null
    readonly reason: string | null
  } | null
  /** How long a condition has to hold before it fires. */
  readonly forMs: number
  generatorUrl(slo: string): string
}
export interface AlertOfSource {
  readonly id: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly state: 'pending' | 'firing' | 'resolved'
  /** Unix ms: since when the condition held, since when it fires, when it ended. */
  readonly activeMs: number
  readonly firedMs: number | null
  readonly resolvedMs: number | null
  /** Name of the objective. */
  readonly slo: string
}
export interface RuleOfSource {
  readonly slo: Slo
  readonly severity: 'page' | 'ticket'
  /** Null before the first look. */
  readonly finding: {
    readonly tiers: readonly TierBurn[]
    readonly holds: boolean | null
    readonly reason: string | null
  } | null
  /** End of the windows, Unix ms. */
  readonly atMs: number | null
  readonly alert: AlertOfSource | undefined
}

/** A page of text that somebody else makes, for example of metrics. `accept` is the header as it came, or empty. */
export type TextHandler = (accept: string) => Promise<TextPage> | TextPage
export interface TextPage {
  readonly type: string
  /** A body that is made while it is sent never stands in memory as a whole. */
  readonly body: string | Uint8Array | AsyncIterable<Uint8Array>
}

/** The page and its files, by path; null when there is no such file. */
export type WebHandler = (path: string) => Promise<WebPage | null>
export interface WebPage extends TextPage {
  /** The body, compressed, for clients that accept it. */
  readonly gzip: Uint8Array
  /** Strong validator, in quotes. */
  readonly etag: string
  /** Headers of the page's own, which go before those of every answer. */
  readonly headers: Readonly<Record<string, string>>
}

/** Log lines sent here: who reads them knows nothing of HTTP. */
export interface LogsPort {
  take(request: LogsUpload): Promise<LogsTaken>
  /** How far the content of a key is stored. */
  position(key: string): LogsPosition
}
export interface LogsUpload {
  readonly body: Readable
  readonly contentType: string
  readonly contentEncoding: string
  readonly preset?: string | undefined
  readonly format?: string | undefined
  readonly service?: string | undefined
  readonly node?: string | undefined
  readonly key?: string | undefined
  /** Offset of the body in the content that it is a part of. */
  readonly from?: number | undefined
  readonly peer: string
  readonly signal: AbortSignal
}
export interface LogsPosition extends LogsCounts {
  readonly position: number
  readonly checked: number
  readonly crc: number
  readonly marks: readonly number[]
}
export interface LogsCounts {
  readonly accepted: number
  readonly rejected: number
}
/** On disk by now; or, with `refused`, why not or not all of it. */
export interface LogsTaken extends LogsCounts {
  readonly errors: readonly { readonly line: number; readonly reason: string }[]
  readonly refused?: ProblemCode
  readonly detail?: string
  readonly parameter?: string
  readonly help?: string
  readonly retryAfterSeconds?: number
}

/** Stats that a Prometheus sends here. */
export interface RemoteWritePort {
  take(request: {
    readonly body: Readable
    readonly contentType: string
    readonly contentEncoding: string
    /** As announced; NaN when not. */
    readonly contentLength: number
  }): Promise<{
    readonly status: number
    readonly headers: Readonly<Record<string, string>>
    readonly message: string
  }>
}

/** Limits of the API. Every one is reached in a test. */
export interface QueryLimits {
  /** Questions that run or wait at one time; above it 429. */
  readonly queriesMax: number
  /** Statements in the store at one time; the rest wait. */
  readonly statementsMax: number
  readonly timeoutMs: number
  /** Memory of one statement in the store. */
  readonly memoryBytesMax: number
  /** Label sets in one answer. */
  readonly seriesMax: number
  /** Points of all series of one answer together. */
  readonly pointsMax: number
  /** Rows that `method=auto` reads rather than rollups. */
  readonly autoRowsMax: number
  /** Size of one page of requests; a page that reaches it ends early, with a cursor. */
  readonly pageBytesMax: number
  readonly bodyBytesMax: number
  readonly connectionsMax: number
}

export const DEFAULT_LIMITS: QueryLimits = {
  queriesMax: 16,
  statementsMax: 4,
  timeoutMs: 30_000,
  memoryBytesMax: 1024 ** 3,
  seriesMax: 1000,
  pointsMax: 20_000,
  autoRowsMax: 1_000_000,
  pageBytesMax: 32 * 1024 ** 2,
  bodyBytesMax: 64 * 1024,
  connectionsMax: 1000,
}

/** How long the store keeps what, in ms; null: for ever. */
export interface Retention {
  readonly rowsMs: number | null
  readonly minutesMs: number | null
  readonly hoursMs: number | null
}
